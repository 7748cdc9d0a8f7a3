//! Payments: takes the money for orders and gives it back for returns. The money itself is at
//! a payment provider outside, which is slow, fails and times out.

use std::time::Duration;

use anabranch::domain::saga::{Definition, Promise, Request};
use anabranch::domain::{
    Breaker, CallPolicy, CommandId, Correlate, Decide, Effect, Entity, Event, EventRef, Input,
    NoEvent, Outcome, Process, Reaction, Rejection, Repeat, Retry, Saga,
};
use anabranch::runtime::{ProcessOptions, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::provider::ProviderClient;

pub use crate::provider::Receipt;

/// What is asked of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentCommand {
    /// The customer owes this much. Only the checkout of the same number says so.
    RequestPayment {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// May this much be charged? Changes nothing.
    CheckPayment {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// The provider has the money.
    ApprovePayment {
        /// What the provider calls it.
        reference: String,
    },
    /// There will be no money.
    DeclinePayment {
        /// Why, for people.
        reason: String,
    },
}

/// What happens to a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum PaymentEvent {
    /// The customer owes this much.
    PaymentRequested {
        /// In thousandths of a pound.
        mills: u64,
        /// The key of the charging that may take the money; no other one may. Nobody knows it
        /// beforehand, so nobody can have begun it with another amount.
        charging: String,
    },
    /// The provider has the money.
    PaymentApproved {
        /// In thousandths of a pound.
        mills: u64,
        /// What the provider calls it.
        reference: String,
    },
    /// There will be no money.
    PaymentDeclined {
        /// Why, for people.
        reason: String,
    },
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Payment {
    /// Nobody has asked for it.
    #[default]
    New,
    /// The provider has not answered yet.
    Requested {
        /// In thousandths of a pound.
        mills: u64,
        /// The key of the charging that may take the money.
        charging: String,
    },
    /// The provider has the money.
    Approved,
    /// There will be no money.
    Declined,
}

impl Entity for Payment {
    const CATEGORY: &'static str = "payment";
    const STATE_VERSION: u32 = 2;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &PaymentCommand,
        cx: &Decide,
    ) -> Result<Vec<PaymentEvent>, Rejection> {
        let is_checkout = sent_by(cx, "checkout", cx.key());
        let is_charging = |charging: &str| sent_by(cx, Charging::NAME, charging);
        match (command, self) {
            (PaymentCommand::RequestPayment { mills }, Self::New) if is_checkout => {
                Ok(vec![PaymentEvent::PaymentRequested {
                    mills: *mills,
                    charging: charging_of(cx.key(), cx.new_id()),
                }])
            }
            (
                PaymentCommand::CheckPayment { mills },
                Self::Requested {
                    mills: owed,
                    charging,
                },
            ) if is_charging(charging) => {
                if mills == owed {
                    return Ok(Vec::new());
                }
                let message = format!("{owed} thousandths of a pound are owed, not {mills}");
                Err(Rejection::new("another-amount", message))
            }
            (PaymentCommand::ApprovePayment { reference }, Self::Requested { mills, charging })
                if is_charging(charging) =>
            {
                Ok(vec![PaymentEvent::PaymentApproved {
                    mills: *mills,
                    reference: reference.clone(),
                }])
            }
            (PaymentCommand::DeclinePayment { reason }, Self::Requested { charging, .. })
                if is_checkout || is_charging(charging) =>
            {
                Ok(vec![PaymentEvent::PaymentDeclined {
                    reason: reason.clone(),
                }])
            }
            // The charging has said so before the checkout does.
            (PaymentCommand::DeclinePayment { .. }, Self::Declined) if is_checkout => {
                Ok(Vec::new())
            }
            (_, state) => {
                let stands = match state {
                    Self::New => "nobody has asked for this payment",
                    Self::Requested { .. } => "the payment is in hand",
                    Self::Approved => "the payment is made",
                    Self::Declined => "the payment is declined",
                };
                let message =
                    format!("{stands}; only its checkout and the charging that it names go on");
                Err(Rejection::new("not-now", message))
            }
        }
    }

    fn evolve(&mut self, event: &PaymentEvent) {
        *self = match event {
            PaymentEvent::PaymentRequested { mills, charging } => Self::Requested {
                mills: *mills,
                charging: charging.clone(),
            },
            PaymentEvent::PaymentApproved { .. } => Self::Approved,
            PaymentEvent::PaymentDeclined { .. } => Self::Declined,
        };
    }
}

/// Whether the command comes from this saga or process.
fn sent_by(cx: &Decide, name: &str, key: &str) -> bool {
    cx.sender()
        .is_some_and(|sender| sender.category() == name && sender.key() == key)
}

/// The key of the charging of a payment.
fn charging_of(payment: &str, id: CommandId) -> String {
    format!("{payment}-{:08x}", id.as_u128() >> 96)
}

/// The payment that a charging of this key is about.
fn payment_of(charging: &str) -> &str {
    charging
        .rsplit_once('-')
        .map_or(charging, |(payment, _)| payment)
}

/// What is asked of the money that is owed for a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepaymentCommand {
    /// The provider has given money back. Only the process that has asked it says so.
    RecordRefund {
        /// In thousandths of a pound.
        mills: u64,
        /// What the provider calls it.
        reference: String,
    },
}

/// What happens to the money that is owed for a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum RepaymentEvent {
    /// The provider has given money back.
    PaymentRefunded {
        /// In thousandths of a pound.
        mills: u64,
        /// What the provider calls it.
        reference: String,
    },
}

/// Whether the money for a return was given back. It has the number of the return; an order may
/// have the same one, so this is no [`Payment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Repayment {
    repaid: bool,
}

impl Entity for Repayment {
    const CATEGORY: &'static str = "refund";
    type Command = RepaymentCommand;
    type Event = RepaymentEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &RepaymentCommand,
        cx: &Decide,
    ) -> Result<Vec<RepaymentEvent>, Rejection> {
        let RepaymentCommand::RecordRefund { mills, reference } = command;
        if self.repaid || !sent_by(cx, Refunding::NAME, cx.key()) {
            let message = "what was given back is recorded once, by who had it given back";
            return Err(Rejection::new("not-now", message));
        }
        Ok(vec![RepaymentEvent::PaymentRefunded {
            mills: *mills,
            reference: reference.clone(),
        }])
    }

    fn evolve(&mut self, _: &RepaymentEvent) {
        self.repaid = true;
    }
}

/// Take money from a customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Charge {
    /// The payment's number.
    pub payment: String,
    /// In thousandths of a pound.
    pub mills: u64,
}

/// Give money back to a customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refund {
    /// The payment's number.
    pub payment: String,
    /// In thousandths of a pound.
    pub mills: u64,
}

/// The provider remembers keys, so whatever is unclear is asked again under the same one.
const POLICY: CallPolicy = CallPolicy {
    attempt_timeout: Duration::from_secs(1),
    retry: Retry {
        first: Duration::from_millis(50),
        max: Duration::from_secs(2),
        attempts_max: None,
        jitter_percent: 50,
    },
    repeat: Repeat::WithKey,
    in_flight_max: 64,
    breaker: Breaker {
        failures_max: 5,
        open_for: Duration::from_secs(1),
        when_open: anabranch::domain::WhenOpen::Wait,
    },
};

impl Effect for Charge {
    const NAME: &'static str = "charge";
    type Outcome = Receipt;

    fn policy() -> CallPolicy {
        POLICY
    }
}

impl Effect for Refund {
    const NAME: &'static str = "refund";
    type Outcome = Receipt;

    fn policy() -> CallPolicy {
        POLICY
    }
}

/// Takes the money for one order: asks whether it is owed, has it charged, and records what came
/// of it. The payment names the key of the one that may.
pub struct Charging;

/// What is to be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToCharge {
    /// In thousandths of a pound.
    pub mills: u64,
}

impl Saga for Charging {
    const NAME: &'static str = "charging";
    type Event = NoEvent;
    type Input = ToCharge;

    fn define() -> Definition<ToCharge> {
        Definition::<ToCharge>::new(2)
            .compensatable("check", |check| {
                check
                    .changes("payment")
                    .request(|owed, cx| {
                        let mills = owed.mills;
                        let check = PaymentCommand::CheckPayment { mills };
                        Request::to::<Payment>(payment_of(cx.key()), &check)
                    })
                    .undo(Promise::ALL, |_, cx| {
                        let reason = cx.abort_reason().unwrap_or("the payment was given up");
                        let reason = reason.to_owned();
                        Request::to::<Payment>(
                            payment_of(cx.key()),
                            &PaymentCommand::DeclinePayment { reason },
                        )
                    })
            })
            .pivot("charge", |charge| {
                charge
                    .after(["check"])
                    .changes("provider")
                    .call(|owed: &ToCharge, cx| {
                        Ok(Charge {
                            payment: payment_of(cx.key()).to_owned(),
                            mills: owed.mills,
                        })
                    })
            })
            .retriable("approve", |approve| {
                approve
                    .after(["charge"])
                    .changes("payment")
                    .request(|_, cx| {
                        let receipt: Option<Receipt> = cx.result("charge", 0)?;
                        let reference = receipt.ok_or("the provider gave no receipt")?.reference;
                        Request::to::<Payment>(
                            payment_of(cx.key()),
                            &PaymentCommand::ApprovePayment { reference },
                        )
                    })
            })
    }
}

/// Gives the money for a return back.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Refunding {
    mills: u64,
}

/// What [`Refunding`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Owed {
    /// Goods came back.
    ReturnAccepted {
        /// What is owed, in thousandths of a pound.
        total_mills: u64,
    },
}

impl Process for Refunding {
    const NAME: &'static str = "refunding";
    const CATEGORIES: &'static [&'static str] = &["return"];
    const CALLS: &'static [&'static str] = &[Refund::NAME];
    type Event = Owed;

    fn correlate(_: &Owed, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Owed>, cx: &Decide) -> Reaction {
        let payment = cx.key();
        match input {
            Input::Event(Owed::ReturnAccepted { total_mills }, _) => {
                Reaction::none().call(&Refund {
                    payment: payment.to_owned(),
                    mills: *total_mills,
                })
            }
            Input::Reply(reply) if reply.name == Refund::NAME => {
                let receipt = match &reply.outcome {
                    Outcome::Done(receipt) => receipt.parse::<Receipt>(),
                    // The provider never says no to giving money back.
                    _ => return Reaction::none(),
                };
                match receipt {
                    Ok(Receipt { reference }) => Reaction::none()
                        .send::<Repayment>(
                            payment,
                            &RepaymentCommand::RecordRefund {
                                mills: self.mills,
                                reference,
                            },
                        )
                        .complete(),
                    // A receipt that cannot be read: the journal has it, for a person.
                    Err(_) => Reaction::none(),
                }
            }
            Input::Reply(_) | Input::Timer(_) => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<Owed>) {
        if let Input::Event(Owed::ReturnAccepted { total_mills }, _) = input {
            self.mills = *total_mills;
        }
    }
}

/// The service without a provider: whoever starts it says how [`Charge`] and [`Refund`] are
/// carried out.
pub fn without_provider(builder: ServiceBuilder) -> ServiceBuilder {
    builder
        .entity::<Payment>()
        .entity::<Repayment>()
        .saga::<Charging>()
        .process_with::<Refunding>(ProcessOptions::default().from_start())
}

/// The service, which calls this provider.
pub fn service(builder: ServiceBuilder, provider: &ProviderClient) -> ServiceBuilder {
    let (charges, refunds) = (provider.clone(), provider.clone());
    without_provider(builder)
        .effect_in::<Charge, _, _>(move |charge, context| {
            let provider = charges.clone();
            async move { provider.post("/charges", &charge, &context).await }
        })
        .effect_in::<Refund, _, _>(move |refund, context| {
            let provider = refunds.clone();
            async move { provider.post("/refunds", &refund, &context).await }
        })
}
