//! Callers that show a token which somebody else has signed.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Key, KeyAdded, KeyFact, Scopes};
use anabranch_env::{Env, OpenMode};
use anabranch_log::{Append, Log, MemoryLog, ReadMode};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use anabranch_runtime::{ManualTime, Time};
use anabranch_server::client::Client;
use anabranch_server::{Doors, Issuer, key_append};
use anabranch_wire::LiveMessage;
use futures_executor::block_on;
use futures_util::{SinkExt as _, StreamExt as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{Served, TempDir};

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let bits: Vec<_> = bits.collect();
    let digit = |six: &[u8]| {
        let number = (0..6).fold(0, |sum, at| sum << 1 | six.get(at).copied().unwrap_or(0));
        DIGITS[usize::from(number)] as char
    };
    bits.chunks(6).map(digit).collect()
}

/// A server that believes tokens, with its log and its time; and who signs them.
struct Believing {
    log: Arc<dyn Log>,
    time: ManualTime,
    server: Served,
    /// A key of the log, which may read orders.
    key: Key,
    signer: Ed25519KeyPair,
    dir: TempDir,
}

fn file(dir: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.0.join(name);
    let disk = Env::os().disk;
    if disk.exists(&path).unwrap() {
        disk.remove(&path).unwrap();
    }
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
    path
}

fn say(log: &dyn Log, id: u128, key: &Key, fact: &KeyFact) {
    let append = key_append(EventId::from_u128(id), key.id(), fact).unwrap();
    block_on(log.append(append)).unwrap();
}

impl Believing {
    fn start() -> Self {
        let random = ring::rand::SystemRandom::new();
        let signer = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let signer = Ed25519KeyPair::from_pkcs8(signer.as_ref()).unwrap();
        let dir = TempDir::new();
        let x = base64url(signer.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
        let keys = file(&dir, "keys.json", &keys.to_string());
        let issuer = Issuer::read(&Env::os(), &keys, "who", "anabranch", "scope").unwrap();
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let key = Key::generate(&*Env::os().rng);
        let added = KeyAdded {
            name: "eve".to_owned(),
            hash: key.hash().to_string(),
            scopes: Scopes::parse(["read:order"]).unwrap(),
            expires_at: None,
        };
        say(&*log, 1 << 64, &key, &KeyFact::Added(added));
        let time = ManualTime::new();
        let server = Served::start_with(
            log.clone(),
            "127.0.0.1:0".parse().unwrap(),
            7,
            Time::manual(&time, Env::os().rng),
            move |server| {
                let doors = Doors {
                    auth: true,
                    insecure: false,
                };
                let server = server.doors(doors).issuer(Arc::new(issuer));
                server.requests_a_second(50)
            },
        );
        Self {
            log,
            time,
            server,
            key,
            signer,
            dir,
        }
    }

    fn now(&self) -> u64 {
        let time = Time::manual(&self.time, Env::os().rng);
        time.now().micros() / 1_000_000
    }

    /// A token that is good for a minute, as a program finds it.
    fn token(&self, scope: &str) -> Key {
        self.token_of("ada", scope)
    }

    fn token_of(&self, name: &str, scope: &str) -> Key {
        let claims = json!({
            "iss": "who", "aud": "anabranch", "sub": name, "exp": self.now() + 60, "scope": scope,
        });
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        let said = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(&claims));
        let signature = base64url(self.signer.sign(said.as_bytes()).as_ref());
        let path = file(&self.dir, "token", &format!("{said}.{signature}\n"));
        Key::read(&Env::os(), &path).unwrap()
    }

    fn status(&self, path: &str, token: Option<Key>) -> u16 {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&self.server.url(), Time::of(&Env::os())).unwrap();
        let reply = runtime.block_on(client.with_key(token).get(path));
        reply.unwrap().status.as_u16()
    }

    fn append(&self, number: u128) {
        let stream = StreamId::of("order", "1").unwrap();
        let kind = EventType::new("Placed").unwrap();
        let event = NewEvent::new(EventId::from_u128(number), stream, kind, b"{}".to_vec());
        block_on(self.log.append(Append::events([event]))).unwrap();
    }
}

#[test]
fn who_shows_a_token_may_do_what_its_scopes_say_and_nothing_else() {
    let believing = Believing::start();
    let token = believing.token("openid read:order");
    assert_eq!(believing.status("/version", None), 401);
    assert_eq!(believing.status("/version", Some(token.clone())), 200);
    assert_eq!(believing.status("/metrics", Some(token)), 403);
    let watcher = believing.token("operate:metrics");
    assert_eq!(believing.status("/metrics", Some(watcher)), 200);
}

#[test]
fn a_token_that_ends_ends_what_is_under_way_as_a_revoked_key_does() {
    let believing = Believing::start();
    let token = believing.token("read:order");
    let mut options = Options::default();
    options.key = Some(token.clone());
    let log = RemoteLog::open(&believing.server.url(), options).unwrap();
    let mut read = log.read(&Cut::start(), Filter::category("order"), ReadMode::Follow);
    believing.append(1);
    assert_eq!(block_on(read.next()).unwrap().unwrap().stream(), "order/1");
    believing.time.advance(Duration::from_secs(120));
    believing.append(2);
    let error = block_on(read.next()).unwrap().unwrap_err().to_string();
    assert!(error.contains("unauthenticated"), "{error}");
    assert_eq!(believing.status("/version", Some(token)), 401);
    let next = believing.token("read:order");
    assert_eq!(believing.status("/version", Some(next)), 200);
}

#[test]
fn a_token_that_nobody_believed_in_has_signed_opens_no_door() {
    let believing = Believing::start();
    let other = Believing::start();
    for path in ["/version", "/events", "/operate/services"] {
        assert_eq!(
            believing.status(path, Some(other.token("*:*"))),
            401,
            "{path}"
        );
    }
}

#[test]
fn an_address_that_guesses_keys_is_told_when_to_come_again() {
    let believing = Believing::start();
    let asked: Vec<_> = (0..60)
        .map(|_| believing.status("/version", None))
        .collect();
    assert!(asked[..50].iter().all(|status| *status == 401), "{asked:?}");
    assert!(asked[50..].iter().all(|status| *status == 429), "{asked:?}");
    believing.time.advance(Duration::from_secs(1));
    let token = believing.token("read:order");
    assert_eq!(believing.status("/version", Some(token)), 200);
}

#[test]
fn a_caller_with_a_key_is_answered_while_another_one_at_its_address_guesses() {
    let believing = Believing::start();
    let key = Some(believing.key.clone());
    for _ in 0..30 {
        assert_eq!(believing.status("/version", None), 401);
        assert_eq!(believing.status("/version", key.clone()), 200);
    }
    while believing.status("/version", None) == 401 {}
    // Signatures are not looked at meanwhile.
    let token = believing.token("read:order");
    assert_eq!(believing.status("/version", Some(token)), 429);
    assert_eq!(believing.status("/version", key), 200);
}

#[test]
fn a_reader_whose_key_is_revoked_gets_nothing_more_of_what_was_read_already() {
    let believing = Believing::start();
    for number in 1..=3 {
        believing.append(number);
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut socket = runtime.block_on(async {
        let address = believing.server.address;
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/events?category=order&credits=1");
        let mut request = url.into_client_request().unwrap();
        let shown = believing.key.bearer().parse().unwrap();
        request.headers_mut().insert("authorization", shown);
        client_async(request, stream).await.unwrap().0
    });
    let mut next = |more: Option<&str>| {
        runtime.block_on(async {
            if let Some(more) = more {
                socket.send(Message::text(more)).await.unwrap();
            }
            loop {
                let message = socket.next().await.unwrap().unwrap();
                let message = message.to_text().unwrap();
                let message: LiveMessage = serde_json::from_str(message).unwrap();
                if message.event.is_some() || message.problem.is_some() {
                    return message;
                }
            }
        })
    };
    assert!(next(None).event.is_some());
    say(&*believing.log, 2 << 64, &believing.key, &KeyFact::Revoked);
    while believing.status("/version", Some(believing.key.clone())) != 401 {}
    let problem = next(Some("{\"credits\":1}")).problem.unwrap();
    assert_eq!(problem.code, "unauthenticated");
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again_and_keeps_nobody_else_out() {
    let believing = Believing::start();
    let token = believing.token("read:order");
    let asked: Vec<_> = (0..60)
        .map(|_| believing.status("/version", Some(token.clone())))
        .collect();
    assert_eq!(asked.iter().filter(|status| **status == 200).count(), 50);
    assert!(asked[50..].iter().all(|status| *status == 429), "{asked:?}");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&believing.server.url(), Time::of(&Env::os())).unwrap();
    let client = client.with_key(Some(token.clone()));
    for path in ["/version", "/anabranch.log.v1.LogService/Head"] {
        let reply = runtime.block_on(client.post(path, "{}")).unwrap();
        assert_eq!(reply.status, 429, "{path}");
        assert!(reply.header("retry-after").is_some(), "{path}");
    }
    // Somebody else, and the same one a second later, are answered.
    let other = believing.token_of("bob", "read:order");
    assert_eq!(believing.status("/version", Some(other)), 200);
    believing.time.advance(Duration::from_secs(1));
    assert_eq!(believing.status("/version", Some(token)), 200);
}
