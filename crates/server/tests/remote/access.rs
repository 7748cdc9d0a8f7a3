//! Who is let in, and who is not.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{CATEGORY, Key, KeyAdded, KeyFact, Scopes};
use anabranch_env::Env;
use anabranch_log::{Append, AppendError, Log, MemoryLog, OpenError};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::Time;
use anabranch_server::client::{Client, Method, Reply};
use anabranch_server::{Doors, first_key};
use bytes::Bytes;
use connectrpc::client::{ClientConfig, Http2Connection};
use connectrpc::{ErrorCode, Protocol};
use futures_executor::block_on;
use tokio::runtime::Builder;

use crate::support::{Served, TempDir};

/// A server that asks who calls, and its log.
struct Guarded {
    log: Arc<dyn Log>,
    server: Served,
}

impl Guarded {
    fn start() -> Self {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let time = Time::of(&Env::os());
        let address = "127.0.0.1:0".parse().unwrap();
        let doors = Doors {
            auth: true,
            insecure: false,
        };
        let set = move |server: anabranch_server::Server| server.doors(doors);
        let server = Served::start_with(log.clone(), address, 7, time, set);
        Self { log, server }
    }

    /// Says something about a key on the log, as another server would.
    fn say(&self, key: &Key, fact: &KeyFact) {
        let (event_type, data) = fact.event().unwrap();
        let rng = Env::os().rng;
        let event = NewEvent::new(
            EventId::v7(1, rng.next_u128()),
            StreamId::system(format!("{CATEGORY}/{}", key.id())).unwrap(),
            EventType::new(event_type).unwrap(),
            data,
        );
        block_on(self.log.append(Append::events([event]))).unwrap();
    }

    /// A key that may do this.
    fn key(&self, scopes: &[&str]) -> Key {
        let key = Key::generate(&*Env::os().rng);
        let added = KeyAdded {
            name: "a test".to_owned(),
            hash: key.hash().to_string(),
            scopes: Scopes::parse(scopes.iter().copied()).unwrap(),
            expires_at: None,
        };
        self.say(&key, &KeyFact::Added(added));
        key
    }

    fn ask(&self, method: Method, path: &str, key: Option<&Key>) -> Reply {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&self.server.url(), Time::of(&Env::os())).unwrap();
        let client = client.with_key(key.cloned());
        let sent = client.send(method, path, &[], Bytes::from_static(b"{}"));
        runtime.block_on(sent).unwrap()
    }

    /// Asks again and again, for as long as a revocation may take, until the answer has this status.
    fn until(&self, path: &str, key: &Key, status: u16) {
        let time = Time::of(&Env::os());
        let began = time.monotonic();
        while self.ask(Method::Get, path, Some(key)).status != status {
            let waited = time.monotonic() - began;
            assert!(waited < Duration::from_secs(1), "not {status} in time");
        }
    }

    fn open(&self, key: Option<Key>) -> Result<RemoteLog, OpenError> {
        let mut options = Options::default();
        options.key = key;
        RemoteLog::open(&self.server.url(), options)
    }
}

const EVERYTHING: [&str; 3] = ["*:*", "*:$*", "read:$audit"];

#[test]
fn no_door_opens_without_a_key_but_that_of_the_liveness() {
    let guarded = Guarded::start();
    for (method, path) in [
        (Method::Post, "/commands/order/1?type=Place"),
        (Method::Get, "/views/orders/all"),
        (Method::Get, "/events"),
        (Method::Post, "/events"),
        (Method::Get, "/operate/services"),
        (Method::Get, "/operate/registry"),
        (Method::Post, "/peer/commands"),
        (Method::Get, "/openapi.json"),
        (Method::Get, "/asyncapi.json"),
        (Method::Get, "/metrics"),
        (Method::Get, "/readyz"),
        (Method::Get, "/version"),
        (Method::Get, "/nothing-here"),
    ] {
        let reply = guarded.ask(method, path, None);
        assert_eq!(reply.status.as_u16(), 401, "{path}");
        assert_eq!(reply.json()["code"], "unauthenticated", "{path}");
        assert_eq!(reply.json()["happened"], "no", "{path}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{path}");
        assert_eq!(reply.header("anabranch-log"), None, "{path}");
    }
    for service in [
        "anabranch.log.v1.LogService/Head",
        "anabranch.registry.v1.RegistryService/List",
        "grpc.health.v1.Health/Check",
    ] {
        let reply = guarded.ask(Method::Post, &format!("/{service}"), None);
        assert_eq!(reply.status.as_u16(), 401, "{service}");
        assert_eq!(reply.json()["code"], "unauthenticated", "{service}");
    }
    let alive = guarded.ask(Method::Get, "/livez", None);
    assert_eq!((alive.status.as_u16(), &*alive.body), (200, &b"ok\n"[..]));
}

#[test]
fn who_shows_a_key_is_let_in_and_who_shows_another_is_not() {
    let guarded = Guarded::start();
    let key = guarded.key(&EVERYTHING);
    guarded.until("/version", &key, 200);
    let forged = Key::generate(&*Env::os().rng);
    let reply = guarded.ask(Method::Get, "/version", Some(&forged));
    assert_eq!(reply.status.as_u16(), 401);
    assert!(!String::from_utf8_lossy(&reply.body).contains(forged.id()));
}

#[test]
fn a_log_is_opened_by_its_server_with_a_key_and_its_refusal_says_what_to_do() {
    let guarded = Guarded::start();
    let error = guarded.open(None).err().unwrap();
    // Not as one that may be there in a moment.
    assert!(matches!(error, OpenError::Invalid(_)), "{error}");
    assert!(
        error.to_string().contains("ANABRANCH_TOKEN_FILE"),
        "{error}"
    );
    let key = guarded.key(&EVERYTHING);
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key)).unwrap();
    assert_eq!(
        block_on(log.head()).unwrap(),
        block_on(guarded.log.head()).unwrap()
    );
}

#[test]
fn a_key_that_is_revoked_is_refused_within_a_second_and_not_as_if_the_server_were_away() {
    let guarded = Guarded::start();
    let key = guarded.key(&EVERYTHING);
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key.clone())).unwrap();
    guarded.say(&key, &KeyFact::Revoked);
    guarded.until("/version", &key, 401);
    let error = block_on(log.head()).unwrap_err();
    assert!(error.to_string().contains("unauthenticated"), "{error}");
    let event = NewEvent::new(
        EventId::v7(1, 7),
        StreamId::new("order/1").unwrap(),
        EventType::new("T").unwrap(),
        &b"{}"[..],
    );
    let error = block_on(log.append(Append::events([event]))).unwrap_err();
    assert!(matches!(error, AppendError::Rejected(_)), "{error}");
    assert!(error.did_not_happen(), "{error}");
}

#[test]
fn a_call_is_refused_in_the_words_of_its_own_protocol() {
    let guarded = Guarded::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for protocol in [Protocol::Connect, Protocol::Grpc, Protocol::GrpcWeb] {
        let error = runtime.block_on(async {
            let uri: hyper::Uri = guarded.server.url().parse().unwrap();
            let http = Http2Connection::lazy_plaintext(uri.clone()).shared(16);
            let config = ClientConfig::new(uri).with_protocol(protocol);
            let client = anabranch_rpc::protocol::LogServiceClient::new(http, config);
            let head = client
                .head(anabranch_rpc::protocol::HeadRequest::default())
                .await;
            let mut read = match client
                .read(anabranch_rpc::protocol::ReadRequest::default())
                .await
            {
                Ok(read) => read,
                Err(error) => return [head.err(), Some(error)],
            };
            [head.err(), read.message().await.err()]
        });
        for error in error {
            let error = error.expect("it is refused");
            assert_eq!(
                error.code,
                ErrorCode::Unauthenticated,
                "{protocol:?}: {error}"
            );
            let words = error.message.as_deref().unwrap_or_default();
            assert!(
                words.contains("no key that is good was shown"),
                "{protocol:?}: {words}"
            );
        }
    }
}

#[test]
fn the_first_key_is_made_once_in_a_file_and_the_log_does_not_hold_it() {
    let dir = TempDir::new();
    let guarded = Guarded::start();
    let env = Env::os();
    let file = block_on(first_key(&env, &guarded.log, &dir.0)).unwrap();
    let file = file.expect("the log spoke of no key");
    let key = Key::read(&env, &file).unwrap();
    guarded.until("/version", &key, 200);
    let again = block_on(first_key(&env, &guarded.log, &dir.0)).unwrap();
    assert_eq!(again, None);
    assert_eq!(Key::read(&env, &file).unwrap(), key);
    let events = guarded.ask(
        Method::Get,
        "/events?category=$access&until=head",
        Some(&key),
    );
    let events = String::from_utf8_lossy(&events.body).into_owned();
    assert!(events.contains(key.id()), "{events}");
    let secret = key.reveal().rsplit('_').next().unwrap();
    assert!(!events.contains(secret), "{events}");
}
