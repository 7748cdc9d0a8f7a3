//! A service with a little of everything, and a server before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::saga::{Definition, Promise, Request};
use anabranch_domain::{
    CommandId, Correlate, Decide, Entity, Event, EventRef, HandleError, Input, NoEvent, Process,
    Query, Reaction, Rejection, Retry, Saga, View,
};
use anabranch_env::Env;
use anabranch_log::MemoryLog;
use anabranch_model::{TokenKey, TokenSeal};
use anabranch_runtime::view::{ViewOptions, ViewSpec};
use anabranch_runtime::{EntityOptions, Fleet, Service, Time};
use anabranch_server::Server;
use anabranch_server::client::{Client, Reply, path};
use axum::Router;
use axum::http::Method;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

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

/// A server before a fleet of one service, `bank`, on a log in memory.
pub struct Bank {
    pub env: Env,
    pub log: Arc<MemoryLog>,
    pub fleet: Arc<Fleet>,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Bank {
    pub async fn open() -> Self {
        Self::open_with(EntityOptions::default(), Router::new()).await
    }

    pub async fn open_with(options: EntityOptions, others: Router) -> Self {
        let env = Env::os();
        let time = Time::of(&env);
        let log = Arc::new(MemoryLog::new(env.clone()));
        let fleet = Arc::new(Fleet::new());
        let listener = Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::new(fleet.clone(), log.clone(), time.clone())
            .seal(seal(7))
            .merge(others);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            server.serve(listener, until).await.unwrap();
        });
        let bank = Self {
            client: Client::new(&url, time).unwrap(),
            env,
            log,
            fleet,
            stop: Some(stop),
            served,
        };
        bank.start_service(options).await;
        bank
    }

    pub async fn start_service(&self, options: EntityOptions) {
        let once = Retry {
            attempts_max: Some(1),
            ..Retry::DEFAULT
        };
        let view = ViewSpec::<Balances>::new()
            .query::<Of>()
            .query::<Above>()
            .options(ViewOptions {
                retry: once,
                ..ViewOptions::default()
            });
        let service = Service::builder("bank", self.log.clone(), Time::of(&self.env))
            .entity_with::<Account>(EntityOptions {
                restart: once,
                ..options
            })
            .view(view)
            .process::<Archiver>()
            .saga::<Transfer>()
            .router(self.fleet.router())
            .start()
            .await
            .unwrap();
        self.fleet.join(service);
    }

    /// Ends the server in order.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.served.await.unwrap();
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.client.get(path).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.client.post(path, body.to_owned()).await.unwrap()
    }

    /// Sends with headers.
    pub async fn send(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let body = Bytes::from(body.to_owned());
        self.client
            .send(Method::POST, path, headers, body)
            .await
            .unwrap()
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let sent = self.client.send(Method::GET, path, headers, Bytes::new());
        sent.await.unwrap()
    }

    pub async fn deposit(&self, key: &str, amount: u64) -> Reply {
        let path = path(&["commands", "account", key], &[("type", "Deposit")]);
        self.post(&path, &format!("{{\"amount\":{amount}}}")).await
    }

    /// Asks again and again until the answer is as it should be; fails after many times.
    pub async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut answer = Value::Null;
        for _ in 0..20_000 {
            answer = self.get(path).await.json();
            if is_so(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
        panic!("{path} did not come to it: {answer}");
    }
}

/// What seals the tokens of these tests.
pub fn seal(secret: u8) -> TokenSeal {
    let secret = [secret; 32];
    TokenSeal::new(1, 0, TokenKey { id: 1, secret })
}

/// Fails unless the answer is the problem of this status and code; gives it.
#[track_caller]
pub fn problem(reply: &Reply, status: u16, code: &str) -> Value {
    let json = reply.json();
    assert_eq!(reply.status.as_u16(), status, "{json}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(json["code"], code, "{json}");
    assert_eq!(json["status"], status);
    assert!(json["detail"].as_str().is_some_and(|text| !text.is_empty()));
    json
}

/// Fails unless the answer is good; gives it.
#[track_caller]
pub fn good(reply: &Reply) -> Value {
    let json = reply.json();
    assert_eq!(reply.status.as_u16(), 200, "{json}");
    json
}

/// A command's id, from a number.
pub fn id(number: u128) -> String {
    CommandId::from_u128(number).to_string()
}
