//! Payments: takes the money for orders and gives it back for returns. The money itself is at
//! a payment provider outside, which is slow, fails and times out.

use std::time::Duration;

use anabranch::domain::saga::{Definition, Promise, Request};
use anabranch::domain::{
    Breaker, CallPolicy, Correlate, Decide, Effect, Entity, Event, EventRef, Input, NoEvent,
    Outcome, Process, Reaction, Rejection, Repeat, Retry, Saga,
};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};

use crate::provider::ProviderClient;

/// What is asked of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentCommand {
    /// The customer owes this much.
    RequestPayment {
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
    /// The provider has given money back.
    RecordRefund {
        /// In thousandths of a pound.
        mills: u64,
        /// What the provider calls it.
        reference: String,
    },
}

/// What happens to a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum PaymentEvent {
    /// The customer owes this much.
    PaymentRequested {
        /// In thousandths of a pound.
        mills: u64,
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
    /// The provider has given money back.
    PaymentRefunded {
        /// In thousandths of a pound.
        mills: u64,
        /// What the provider calls it.
        reference: String,
    },
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Payment {
    /// Nobody has asked for it.
    #[default]
    New,
    /// The provider has not answered yet.
    Requested {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// The provider has the money.
    Approved,
    /// There will be no money.
    Declined,
    /// The customer has the money back.
    Refunded,
}

impl Entity for Payment {
    const CATEGORY: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PaymentCommand, _: &Decide) -> Result<Vec<PaymentEvent>, Rejection> {
        let event = match (command, *self) {
            (PaymentCommand::RequestPayment { mills }, Self::New) => {
                PaymentEvent::PaymentRequested { mills: *mills }
            }
            (PaymentCommand::ApprovePayment { reference }, Self::Requested { mills }) => {
                PaymentEvent::PaymentApproved {
                    mills,
                    reference: reference.clone(),
                }
            }
            (PaymentCommand::DeclinePayment { reason }, Self::Requested { .. }) => {
                PaymentEvent::PaymentDeclined {
                    reason: reason.clone(),
                }
            }
            (PaymentCommand::RecordRefund { mills, reference }, Self::New) => {
                PaymentEvent::PaymentRefunded {
                    mills: *mills,
                    reference: reference.clone(),
                }
            }
            (_, state) => {
                let message = format!("the payment is {state:?}, so this cannot be done");
                return Err(Rejection::new("not-now", message));
            }
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &PaymentEvent) {
        *self = match event {
            PaymentEvent::PaymentRequested { mills } => Self::Requested { mills: *mills },
            PaymentEvent::PaymentApproved { .. } => Self::Approved,
            PaymentEvent::PaymentDeclined { .. } => Self::Declined,
            PaymentEvent::PaymentRefunded { .. } => Self::Refunded,
        };
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

/// What the provider has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// What the provider calls it.
    pub reference: String,
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

/// Takes the money for one order: asks for it, has it charged, and records what came of it.
pub struct Charging;

/// What is to be charged; the payment's number is the key.
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
        Definition::<ToCharge>::new(1)
            .compensatable("request", |request| {
                request
                    .changes("payment")
                    .request(|order, cx| {
                        let mills = order.mills;
                        Request::to::<Payment>(cx.key(), &PaymentCommand::RequestPayment { mills })
                    })
                    .undo(Promise::ALL, |_, cx| {
                        let reason = cx.abort_reason().unwrap_or("the payment was given up");
                        let reason = reason.to_owned();
                        Request::to::<Payment>(cx.key(), &PaymentCommand::DeclinePayment { reason })
                    })
            })
            .pivot("charge", |charge| {
                charge
                    .after(["request"])
                    .changes("provider")
                    .request(|order, cx| {
                        Request::call(&Charge {
                            payment: cx.key().to_owned(),
                            mills: order.mills,
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
                            cx.key(),
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
                        .send::<Payment>(
                            payment,
                            &PaymentCommand::RecordRefund {
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

/// The service, which calls this provider.
pub fn service(builder: ServiceBuilder, provider: &ProviderClient) -> ServiceBuilder {
    let (charges, refunds) = (provider.clone(), provider.clone());
    builder
        .entity::<Payment>()
        .saga::<Charging>()
        .process::<Refunding>()
        .effect::<Charge, _, _>(move |charge, key| {
            let provider = charges.clone();
            async move { provider.post("/charges", &charge, key).await }
        })
        .effect::<Refund, _, _>(move |refund, key| {
            let provider = refunds.clone();
            async move { provider.post("/refunds", &refund, key).await }
        })
}
