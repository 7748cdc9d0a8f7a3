//! Who is let in, and who is not.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{CATEGORY, Key, KeyAdded, KeyFact, Scopes};
use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Log, MemoryLog, OpenError, Order, ReadMode, VersionRange,
};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use anabranch_runtime::Time;
use anabranch_server::client::{Client, Method, Reply};
use anabranch_server::{Doors, first_key, key_append};
use bytes::Bytes;
use connectrpc::client::{ClientConfig, Http2Connection};
use connectrpc::{ErrorCode, Protocol};
use futures_executor::block_on;
use futures_util::StreamExt as _;
use tokio::runtime::Builder;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

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

    fn send(&self, path: &str, headers: &[(&str, &str)], body: &str, key: &Key) -> Reply {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&self.server.url(), Time::of(&Env::os())).unwrap();
        let client = client.with_key(Some(key.clone()));
        let sent = client.send(Method::Post, path, headers, Bytes::from(body.to_owned()));
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
    let error = block_on(log.append(Append::events([event(7, "order/1")]))).unwrap_err();
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

fn event(number: u128, stream: &str) -> NewEvent {
    NewEvent::new(
        EventId::v7(1, number),
        StreamId::new(stream).unwrap(),
        EventType::new("T").unwrap(),
        &b"{}"[..],
    )
}

/// The streams of the events that a read of everything gives, and whether its place is at the head.
fn read_all(log: &RemoteLog) -> (Vec<String>, bool) {
    block_on(async {
        let (mut streams, mut place) = (Vec::new(), Cut::start());
        let mut read = log.read(&Cut::start(), Filter::default(), ReadMode::ToHead);
        while let Some(batch) = read.next_batch().await {
            let batch = batch.unwrap();
            if let Some(reach) = batch.reach() {
                place.set(reach.partition, reach.offsets.end);
            }
            for event in &batch {
                streams.push(event.unwrap().stream.to_owned());
            }
        }
        let head = log.head().await.unwrap();
        (streams, place == head)
    })
}

#[test]
fn a_reader_gets_the_events_that_it_may_read_and_its_place_moves_over_the_others() {
    let guarded = Guarded::start();
    let key = guarded.key(&["read:order", "read:stock", "deny:read:stock"]);
    for (number, streams) in [
        (10, ["payment/1", "order/1"]),
        (20, ["stock/1", "payment/2"]),
        (30, ["order/2", "payment/3"]),
    ] {
        let events = (number..)
            .zip(streams)
            .map(|(id, stream)| event(id, stream));
        block_on(
            guarded
                .log
                .append(Append::events(events.collect::<Vec<_>>())),
        )
        .unwrap();
    }
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key.clone())).unwrap();
    let (streams, is_at_head) = read_all(&log);
    assert_eq!(streams, ["order/1", "order/2"]);
    assert!(is_at_head);
    // What is named and may not be read is refused, and not passed over.
    let payment = StreamId::new("payment/1").unwrap();
    let mut read = log.read_stream(&payment, VersionRange::ALL, Order::Forward);
    let error = block_on(read.next()).unwrap().unwrap_err().to_string();
    assert!(error.contains("read:payment"), "{error}");
    let refused = guarded.ask(Method::Get, "/events?category=payment", Some(&key));
    assert_eq!(refused.status.as_u16(), 403);
    assert_eq!(refused.json()["code"], "forbidden");
    // The same by plain HTTP.
    let events = guarded.ask(Method::Get, "/events?until=head", Some(&key));
    let events = String::from_utf8_lossy(&events.body).into_owned();
    assert!(
        events.contains("order/1") && events.contains("order/2"),
        "{events}"
    );
    assert!(
        !events.contains("payment") && !events.contains("stock"),
        "{events}"
    );
    assert!(events.contains("event: head"), "{events}");
}

#[test]
fn one_event_that_may_not_be_appended_refuses_its_batch_at_every_door() {
    let guarded = Guarded::start();
    let key = guarded.key(&["append:order", "command:order"]);
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key.clone())).unwrap();
    let both = Append::events([event(1, "order/1"), event(2, "payment/1")]);
    let error = block_on(log.append(both)).unwrap_err();
    assert!(matches!(error, AppendError::Rejected(_)), "{error}");
    assert!(error.to_string().contains("append:payment"), "{error}");
    let json = r#"{"events":[
        {"id":"00000000-0000-0000-0000-000000000001","stream":"order/1","type":"T","text":"{}"},
        {"id":"00000000-0000-0000-0000-000000000002","stream":"payment/1","type":"T","text":"{}"}]}"#;
    let reply = guarded.send("/anabranch.log.v1.LogService/Append", &[], json, &key);
    assert_eq!(reply.status.as_u16(), 403);
    assert_eq!(reply.json()["code"], "permission_denied");
    let cloud = r#"[
        {"specversion":"1.0","id":"1","source":"t","type":"T","subject":"order/1","data":{}},
        {"specversion":"1.0","id":"2","source":"t","type":"T","subject":"payment/1","data":{}}]"#;
    let kind = [("content-type", "application/cloudevents-batch+json")];
    let reply = guarded.send("/events", &kind, cloud, &key);
    assert_eq!(reply.status.as_u16(), 403);
    assert_eq!(reply.json()["code"], "forbidden");
    let registered = r#"{"service":{"name":"x","owns":["order","payment"]}}"#;
    let path = "/anabranch.registry.v1.RegistryService/RegisterService";
    assert_eq!(
        guarded.send(path, &[], registered, &key).status.as_u16(),
        403
    );
    let written = block_on(
        guarded
            .log
            .read_stream(
                &StreamId::new("order/1").unwrap(),
                VersionRange::ALL,
                Order::Forward,
            )
            .next(),
    );
    assert!(written.is_none(), "nothing of a refused batch is written");
    block_on(log.append(Append::events([event(1, "order/1")]))).unwrap();
}

#[test]
fn nobody_makes_keys_but_who_may_and_nobody_forges_the_audit() {
    let make = |key: &Key| {
        let fact = KeyFact::Added(KeyAdded {
            name: "a forged one".to_owned(),
            hash: key.hash().to_string(),
            scopes: Scopes::everything(),
            expires_at: None,
        });
        key_append(EventId::v7(1, Env::os().rng.next_u128()), key.id(), &fact).unwrap()
    };
    let forged = Key::generate(&*Env::os().rng);
    let guarded = Guarded::start();
    for scopes in [&["*:*", "operate:$*"][..], &["append:$*", "append:$access"]] {
        let key = guarded.key(scopes);
        guarded.until("/version", &key, 200);
        let log = guarded.open(Some(key)).unwrap();
        let error = block_on(log.append(make(&forged))).unwrap_err();
        assert!(error.to_string().contains("admin:$access"), "{error}");
    }
    let key = guarded.key(&["admin:$access"]);
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key)).unwrap();
    block_on(log.append(make(&forged))).unwrap();
    guarded.until("/version", &forged, 200);
    let audit = NewEvent::new(
        EventId::v7(1, 77),
        StreamId::system("$audit/log").unwrap(),
        EventType::new("T").unwrap(),
        &b"{}"[..],
    );
    let log = guarded.open(Some(forged)).unwrap();
    let error = block_on(log.append(Append::events([audit]))).unwrap_err();
    assert!(error.to_string().contains("append:$audit"), "{error}");
    // Where nobody is asked who they are, a key made now would be good later.
    let open = Served::start(Arc::new(MemoryLog::new(Env::os())));
    let log = RemoteLog::open(&open.url(), Options::default()).unwrap();
    let another = Key::generate(&*Env::os().rng);
    let error = block_on(log.append(make(&another))).unwrap_err();
    assert!(error.to_string().contains("admin:$access"), "{error}");
}

#[test]
fn a_reader_whose_key_is_revoked_gets_nothing_more() {
    let guarded = Guarded::start();
    let key = guarded.key(&["read:order"]);
    guarded.until("/version", &key, 200);
    let log = guarded.open(Some(key.clone())).unwrap();
    let mut read = log.read(&Cut::start(), Filter::category("order"), ReadMode::Follow);
    block_on(guarded.log.append(Append::events([event(1, "order/1")]))).unwrap();
    assert_eq!(block_on(read.next()).unwrap().unwrap().stream(), "order/1");
    guarded.say(&key, &KeyFact::Revoked);
    guarded.until("/version", &key, 401);
    block_on(guarded.log.append(Append::events([event(2, "order/2")]))).unwrap();
    let error = block_on(read.next()).unwrap().unwrap_err().to_string();
    assert!(error.contains("unauthenticated"), "{error}");
}

#[test]
fn a_socket_whose_key_is_revoked_is_told_so_and_closes() {
    let guarded = Guarded::start();
    let key = guarded.key(&["read:order"]);
    guarded.until("/version", &key, 200);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let address = guarded.server.url();
    let address = address.trim_start_matches("http://");
    let open = async |key: Option<&Key>| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}/events").into_client_request()?;
        if let Some(key) = key {
            let bearer = key.bearer().parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(client_async(request, stream).await?.0)
    };
    assert!(runtime.block_on(open(None)).is_err());
    let mut socket = runtime.block_on(open(Some(&key))).unwrap();
    let mut next = || runtime.block_on(socket.next()).unwrap().unwrap();
    // Where it begins.
    next();
    // What the key may not read does not come.
    block_on(guarded.log.append(Append::events([event(1, "pay/1")]))).unwrap();
    block_on(guarded.log.append(Append::events([event(2, "order/1")]))).unwrap();
    assert!(next().to_text().unwrap().contains("order/1"));
    guarded.say(&key, &KeyFact::Revoked);
    guarded.until("/version", &key, 401);
    block_on(guarded.log.append(Append::events([event(3, "order/2")]))).unwrap();
    assert!(next().to_text().unwrap().contains("unauthenticated"));
    assert!(next().is_close());
}

#[test]
fn one_event_that_may_not_be_read_is_as_if_it_were_not_there() {
    let guarded = Guarded::start();
    let key = guarded.key(&["read:order"]);
    guarded.until("/version", &key, 200);
    let appended = Append::events([event(1, "pay/1")]);
    let place = block_on(guarded.log.append(appended)).unwrap().places[0].position;
    let hidden = guarded.ask(Method::Get, &format!("/events/{place}"), Some(&key));
    let absent = guarded.ask(Method::Get, "/events/0:4711", Some(&key));
    assert_eq!((hidden.status.as_u16(), absent.status.as_u16()), (404, 404));
    let id = event(1, "pay/1").id;
    let hidden = guarded.ask(
        Method::Get,
        &format!("/events/{id}?mode=binary"),
        Some(&key),
    );
    assert_eq!(hidden.status.as_u16(), 404);
}
