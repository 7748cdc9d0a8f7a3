//! A service with a little of everything that can be operated.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::saga::{Definition, Promise, Request};
use anabranch_domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, NoEvent, Process, Query,
    Reaction, Rejection, Retry, Saga, View,
};
use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_runtime::view::{ViewOptions, ViewSpec};
use anabranch_runtime::{EntityOptions, Port, Service, Time};
use serde::{Deserialize, Serialize};

/// Holds money; says no below zero; its code panics at 13.
#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    pub balance: u64,
}

#[derive(Serialize, Deserialize)]
pub enum AccountCommand {
    Deposit { amount: u64 },
    Withdraw { amount: u64 },
    DepositAll { amounts: Vec<u64> },
    Close,
}

#[derive(Clone, Serialize, Deserialize, Event)]
pub enum AccountEvent {
    Deposited { amount: u64 },
    Withdrawn { amount: u64 },
    Closed,
}

impl Entity for Account {
    const CATEGORY: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &AccountCommand, _: &Decide) -> Result<Vec<AccountEvent>, Rejection> {
        let deposited = |&amount: &u64| AccountEvent::Deposited { amount };
        match command {
            AccountCommand::Withdraw { amount } if *amount > self.balance => Err(Rejection::new(
                "out-of-funds",
                format!("only {} left", self.balance),
            )),
            AccountCommand::Withdraw { amount } => {
                Ok(vec![AccountEvent::Withdrawn { amount: *amount }])
            }
            AccountCommand::Deposit { amount } => Ok(vec![deposited(amount)]),
            AccountCommand::DepositAll { amounts } => Ok(amounts.iter().map(deposited).collect()),
            AccountCommand::Close => Ok(vec![AccountEvent::Closed]),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { amount } => {
                assert_ne!(*amount, 13, "thirteen");
                self.balance += amount;
            }
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
            AccountEvent::Closed => {}
        }
    }
}

/// What each account has; cannot take in 666.
#[derive(Default, Serialize, Deserialize)]
pub struct Balances(BTreeMap<String, u64>);

impl View for Balances {
    const NAME: &'static str = "balances";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["account"];
    type Event = AccountEvent;
    type Store = Self;

    fn handle(all: &mut Self, event: &AccountEvent, about: &EventRef) -> Result<(), HandleError> {
        let balance = all.0.entry(about.stream.to_owned()).or_default();
        match event {
            AccountEvent::Deposited { amount: 666 } => return Err("the beast".into()),
            AccountEvent::Deposited { amount } => *balance += amount,
            AccountEvent::Withdrawn { amount } => *balance -= amount,
            AccountEvent::Closed => {}
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Of {
    account: String,
}

impl Query for Of {
    type View = Balances;
    type Answer = Option<u64>;
    const NAME: &'static str = "of";

    fn answer(&self, all: &Balances) -> Result<Option<u64>, HandleError> {
        Ok(all.0.get(&self.account).copied())
    }
}

#[derive(Serialize, Deserialize)]
struct Above {
    least: u64,
}

impl Query for Above {
    type View = Balances;
    type Answer = usize;
    const NAME: &'static str = "above";

    fn answer(&self, all: &Balances) -> Result<usize, HandleError> {
        Ok(all
            .0
            .values()
            .filter(|&&balance| balance >= self.least)
            .count())
    }
}

/// A query whose fields have names that the server has too.
#[derive(Serialize, Deserialize)]
struct Find {
    q: String,
    policy: Option<String>,
    limit: Option<usize>,
}

impl Query for Find {
    type View = Balances;
    type Answer = String;
    const NAME: &'static str = "find";

    fn answer(&self, _: &Balances) -> Result<String, HandleError> {
        let policy = self.policy.as_deref().unwrap_or("none");
        Ok(format!("{} {policy} {:?}", self.q, self.limit))
    }
}

/// When an account is closed: tells the account's `archive`, which takes only numbers.
#[derive(Default, Serialize, Deserialize)]
struct Archiver;

impl Process for Archiver {
    const NAME: &'static str = "archiver";
    const CATEGORIES: &'static [&'static str] = &["account"];
    type Event = AccountEvent;

    fn correlate(event: &AccountEvent, about: &EventRef<'_>) -> Correlate {
        match event {
            AccountEvent::Closed => Correlate::Start(about.key().to_owned()),
            _ => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<AccountEvent>, _: &Decide) -> Reaction {
        let command = AccountCommand::DepositAll {
            amounts: vec![1; 10_001],
        };
        match input {
            Input::Event(..) => Reaction::none().send::<Account>("archive", &command),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<AccountEvent>) {}
}

/// Takes money at `nowhere`, which nobody has, so that it goes on for long.
struct Transfer;

impl Saga for Transfer {
    const NAME: &'static str = "transfer";
    type Event = NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        let at_nowhere = |command: AccountCommand| Request::to_category("nowhere", "x", &command);
        Definition::new(1)
            .compensatable("take", |step| {
                step.changes("nowhere")
                    .alert_after(1)
                    .request(move |&amount, _| at_nowhere(AccountCommand::Withdraw { amount }))
                    .undo(Promise::ALL, move |&amount, _| {
                        at_nowhere(AccountCommand::Deposit { amount })
                    })
            })
            .pivot("close", |step| {
                step.after(["take"])
                    .changes("nowhere")
                    .request(move |_, _| at_nowhere(AccountCommand::Close))
            })
    }
}

/// Takes a fee from `account/till`, which must not refuse it but does while it has too little.
struct Upkeep;

impl Saga for Upkeep {
    const NAME: &'static str = "upkeep";
    type Event = NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        Definition::new(1).retriable("fee", |step| {
            step.changes("account").request(|&amount, _| {
                Request::to::<Account>("till", &AccountCommand::Withdraw { amount })
            })
        })
    }
}

/// Takes money from `account/till`, or else writes it down at `account/debts`.
struct Lending;

impl Saga for Lending {
    const NAME: &'static str = "lending";
    type Event = NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        Definition::new(1).pivot("take", |step| {
            step.changes("account")
                .request(|&amount, _| {
                    Request::to::<Account>("till", &AccountCommand::Withdraw { amount })
                })
                .fallback(|&amount, _| {
                    Request::to::<Account>("debts", &AccountCommand::Deposit { amount })
                })
        })
    }
}

/// The service, called `bank`.
pub async fn service(
    log: Arc<dyn Log>,
    env: &Env,
    port: Arc<dyn Port>,
    options: EntityOptions,
) -> Service {
    let once = Retry {
        attempts_max: Some(1),
        ..Retry::DEFAULT
    };
    let view = ViewSpec::<Balances>::new()
        .query::<Of>()
        .query::<Above>()
        .query::<Find>()
        .options(ViewOptions {
            retry: once,
            ..ViewOptions::default()
        });
    Service::builder("bank", log, Time::of(env))
        .entity_with::<Account>(EntityOptions {
            restart: once,
            ..options
        })
        .view(view)
        .process::<Archiver>()
        .saga::<Transfer>()
        .saga::<Upkeep>()
        .saga::<Lending>()
        .port(port)
        .start()
        .await
        .unwrap()
}
