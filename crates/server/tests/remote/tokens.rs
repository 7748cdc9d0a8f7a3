//! Callers that show a token which somebody else has signed.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Key;
use anabranch_env::{Env, OpenMode};
use anabranch_log::{Append, Log, MemoryLog, ReadMode};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use anabranch_runtime::{ManualTime, Time};
use anabranch_server::client::Client;
use anabranch_server::{Doors, Issuer};
use futures_executor::block_on;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::runtime::Builder;

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
    let asked: Vec<_> = (0..210)
        .map(|_| believing.status("/version", None))
        .collect();
    assert!(
        asked[..200].iter().all(|status| *status == 401),
        "{asked:?}"
    );
    assert!(
        asked[200..].iter().all(|status| *status == 429),
        "{asked:?}"
    );
    believing.time.advance(Duration::from_secs(1));
    let token = believing.token("read:order");
    assert_eq!(believing.status("/version", Some(token)), 200);
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
