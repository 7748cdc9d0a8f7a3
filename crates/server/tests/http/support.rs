//! A server before a service.

use std::sync::Arc;

use anabranch_domain::CommandId;
use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_model::{TokenKey, TokenSeal};
use anabranch_runtime::{EntityOptions, Fleet, ManualTime, Time};
use anabranch_server::Server;
use anabranch_server::client::{Client, Method, Reply, path};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::bank;
use crate::failing::Failing;

/// A server before a fleet of one service, `bank`, on a log in memory.
pub struct Bank {
    pub env: Env,
    pub log: Arc<Failing>,
    pub fleet: Arc<Fleet>,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Bank {
    pub async fn open() -> Self {
        Self::open_with(EntityOptions::default(), |server| server).await
    }

    /// A bank with so many deposits.
    pub async fn with(deposits: u64) -> Self {
        let bank = Self::open().await;
        for amount in 1..=deposits {
            good(&bank.deposit("a", amount).await);
        }
        bank
    }

    /// A bank whose server is set up further.
    pub async fn open_with(options: EntityOptions, set: impl FnOnce(Server) -> Server) -> Self {
        let bank = Self::closed_with(set).await;
        bank.start_service(options).await;
        bank
    }

    /// The server alone.
    pub async fn closed() -> Self {
        Self::closed_with(|server| server).await
    }

    async fn closed_with(set: impl FnOnce(Server) -> Server) -> Self {
        let env = Env::os();
        let time = Time::of(&env);
        let log = Arc::new(Failing::new([]));
        let fleet = Arc::new(Fleet::new());
        let listener = Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::new(fleet.clone(), log.clone(), time.clone()).seal(seal(7));
        let server = set(server);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            server.serve(listener, until).await.unwrap();
        });
        Self {
            client: Client::new(&url, time).unwrap(),
            env,
            log,
            fleet,
            stop: Some(stop),
            served,
        }
    }

    pub async fn start_service(&self, options: EntityOptions) {
        let log: Arc<dyn Log> = self.log.clone();
        let service = bank::service(log, &self.env, self.fleet.port(), options).await;
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
            .send(Method::Post, path, headers, body)
            .await
            .unwrap()
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let sent = self.client.send(Method::Get, path, headers, Bytes::new());
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

/// One more server before a bank, for which no time passes.
pub struct Timeless {
    pub client: Client,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl Timeless {
    pub async fn open(bank: &Bank) -> Self {
        let listener = Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let time = Time::manual(&ManualTime::new(), bank.env.rng.clone());
        let server = Server::new(bank.fleet.clone(), bank.log.clone(), time).seal(seal(7));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let until = async { drop(stopped.await) };
            server.serve(listener, until).await.unwrap();
        });
        Self {
            client: Client::new(&url, Time::of(&bank.env)).unwrap(),
            stop,
            served,
        }
    }

    /// Asks it to stop. Fails unless it does so without waiting for anybody.
    pub async fn stop(self) {
        drop(self.stop);
        for _ in 0..1_000_000 {
            if self.served.is_finished() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the server waits for somebody and does not stop");
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
