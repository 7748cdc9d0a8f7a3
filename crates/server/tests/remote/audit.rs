//! What a server writes down of who did what.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{
    AUDIT_STREAM, Act, AuditChain, AuditRecord, CATEGORY, Key, KeyAdded, KeyFact, Scopes,
};
use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, MemoryLog, Order,
    Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_log_remote::{Options, Registration, RemoteLog};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use anabranch_runtime::Time;
use anabranch_server::client::{Client, Method};
use anabranch_server::{Doors, Reports, Server, key_append};
use bytes::Bytes;
use futures_executor::block_on;
use tokio::runtime::Builder;

use crate::support::Served;

fn id() -> EventId {
    EventId::from_u128(Env::os().rng.next_u128())
}

/// The audit so far, which has to be whole.
fn audit(log: &dyn Log) -> Vec<AuditRecord> {
    let stream = StreamId::system(AUDIT_STREAM).unwrap();
    let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Forward);
    let mut chain = AuditChain::default();
    let mut records = Vec::new();
    while let Some(event) = block_on(read.next()) {
        let event = event.unwrap();
        records.push(
            chain
                .follow_event(event.event_type(), event.data())
                .unwrap(),
        );
    }
    records
}

/// Waits until the audit has a record of this.
fn until(log: &dyn Log, is_it: impl Fn(&AuditRecord) -> bool) -> AuditRecord {
    let time = Time::of(&Env::os());
    let began = time.monotonic();
    loop {
        if let Some(found) = audit(log).into_iter().find(|record| is_it(record)) {
            return found;
        }
        let waited = time.monotonic() - began;
        assert!(waited < Duration::from_secs(20), "{:?}", audit(log));
    }
}

fn start(log: &Arc<dyn Log>, auth: bool) -> Served {
    let doors = Doors {
        auth,
        insecure: false,
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let time = Time::of(&Env::os());
    Served::start_with(log.clone(), address, 7, time, move |server| {
        server.doors(doors)
    })
}

fn ask(server: &Served, method: Method, path: &str, key: Option<&Key>) -> u16 {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&server.url(), Time::of(&Env::os())).unwrap();
    let client = client.with_key(key.cloned());
    let sent = client.send(method, path, &[], Bytes::from_static(b"{}"));
    runtime.block_on(sent).unwrap().status.as_u16()
}

/// A key that may do this, said on the log as a program beside it would.
pub fn key(log: &dyn Log, name: &str, scopes: &[&str]) -> Key {
    let key = Key::generate(&*Env::os().rng);
    let added = KeyAdded {
        name: name.to_owned(),
        hash: key.hash().to_string(),
        scopes: Scopes::parse(scopes.iter().copied()).unwrap(),
        expires_at: None,
    };
    let append = key_append(id(), key.id(), &KeyFact::Added(added)).unwrap();
    block_on(log.append(append)).unwrap();
    key
}

#[test]
fn who_makes_keys_who_operates_and_who_is_refused_is_written_down() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let admin = key(&*log, "ada", &["*:*", "*:$*"]);
    let reader = key(&*log, "bob", &["read:order"]);
    let server = start(&log, true);
    until(&*log, |record| record.did == "start");
    // A key is made by the server.
    let mut options = Options::default();
    options.key = Some(admin.clone());
    let afar = RemoteLog::open(&server.url(), options).unwrap();
    let made = key(&afar, "new", &["read:*"]);
    let stream = format!("{CATEGORY}/{}", made.id());
    let record = until(&*log, |record| record.about == stream);
    assert_eq!(
        (&*record.did, &*record.result),
        ("append $KeyAdded", "allowed")
    );
    assert!(record.who.contains("ada"), "{record:?}");
    // An operator does something.
    let path = "/operate/dead-letters/retry";
    ask(&server, Method::Post, path, Some(&admin));
    until(&*log, |record| {
        record.about == path && record.who.contains("ada")
    });
    // Others are refused: with a key that may not, and many times without one.
    assert_eq!(ask(&server, Method::Get, "/metrics", Some(&reader)), 403);
    let record = until(&*log, |record| record.about == "/metrics");
    assert_eq!(record.result, "refused");
    assert!(record.who.contains("bob"), "{record:?}");
    let mut options = Options::default();
    options.key = Some(reader);
    let far = RemoteLog::open(&server.url(), options).unwrap();
    let filter = Filter::category("payment");
    let mut read = far.read(&Cut::start(), filter, ReadMode::ToHead);
    assert!(block_on(read.next()).unwrap().is_err());
    let record = until(&*log, |record| record.did == "read");
    assert_eq!((&*record.about, &*record.result), ("payment", "refused"));
    drop((read, far));
    for _ in 0..20 {
        assert_eq!(ask(&server, Method::Get, "/version", None), 401);
    }
    let counted = || {
        let all = audit(&*log).into_iter();
        let refused: Vec<_> = all.filter(|record| record.who == "nobody").collect();
        (
            refused.len(),
            refused.iter().map(|record| record.times).sum::<u64>(),
        )
    };
    until(&*log, |_| counted().1 == 20);
    assert!(counted().0 < 20, "{:?}", counted());
    // The next server goes on behind it.
    let before = audit(&*log).len();
    drop((afar, server));
    let _next = start(&log, true);
    until(&*log, |record| {
        record.number > before as u64 && record.did == "start"
    });
}

#[test]
fn a_server_that_asks_nobody_writes_nothing_down() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let server = start(&log, false);
    let afar = RemoteLog::open(&server.url(), Options::default()).unwrap();
    let event = NewEvent::new(
        id(),
        StreamId::of("order", "1").unwrap(),
        EventType::new("Placed").unwrap(),
        b"{}".to_vec(),
    );
    block_on(afar.append(Append::events([event]))).unwrap();
    drop((afar, server));
    assert!(audit(&*log).is_empty());
}

#[test]
fn what_is_done_while_the_server_stops_is_written_down() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let admin = key(&*log, "ada", &["*:*", "*:$*"]);
    let server = start(&log, true);
    let address = server.address;
    let path = "/anabranch.registry.v1.RegistryService/RegisterService";
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        admin.bearer()
    )
    .unwrap();
    let mut goes_on = *b"HTTP/1.1 100 Continue\r\n\r\n";
    stream.read_exact(&mut goes_on).unwrap();
    let ending = std::thread::spawn(move || drop(server));
    // When nobody is let in any more the server stops, and waits for the rest of this.
    while TcpStream::connect(address).is_ok() {}
    stream.write_all(b"{}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    ending.join().unwrap();
    let records = audit(&*log);
    let is_it = |record: &AuditRecord| record.about == path && record.who.contains("ada");
    assert!(records.iter().any(is_it), "{answer}: {records:?}");
}

/// A log that never answers who registers.
struct Stuck(MemoryLog);

impl Log for Stuck {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let mut streams = append.events.iter().map(|event| event.stream.category());
        match streams.any(|category| category == "$service") {
            true => Box::pin(std::future::pending()),
            false => self.0.append(append),
        }
    }

    fn read_stream(&self, id: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.0.read_stream(id, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.0.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.0.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.0.head()
    }
}

#[test]
fn an_act_whose_sender_leaves_before_the_answer_is_written_down() {
    let log: Arc<dyn Log> = Arc::new(Stuck(MemoryLog::new(Env::os())));
    let admin = key(&*log, "ada", &["*:*", "*:$*"]);
    let server = start(&log, true);
    until(&*log, |record| record.did == "start");
    let mut stream = TcpStream::connect(server.address).unwrap();
    let path = "/anabranch.registry.v1.RegistryService/RegisterService";
    let body = r#"{"service":{"name":"slow"}}"#;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        server.address,
        admin.bearer(),
        body.len(),
    );
    stream.write_all(request.as_bytes()).unwrap();
    drop(stream);
    let left = until(&*log, |record| record.result == "left");
    assert_eq!(left.about, path);
    assert!(left.who.contains("ada"), "{left:?}");
}

/// Where a service reports what is done at it.
struct At(RemoteLog);

impl Reports for At {
    fn report(&self, acts: Vec<(Act, u64)>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let told = self.0.registry().report(acts).await;
            told.map_err(|error| error.to_string())
        })
    }
}

#[test]
fn what_is_done_at_a_service_in_a_process_of_its_own_reaches_the_audit_of_the_log() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let admin = key(&*log, "ada", &["*:*", "*:$*"]);
    let own = key(&*log, "service shop", &["append:shop"]);
    let backbone = start(&log, true);
    let mut options = Options::default();
    options.key = Some(own);
    let remote = RemoteLog::open(&backbone.url(), options).unwrap();
    let registration = Registration {
        name: "shop".to_owned(),
        ..Registration::default()
    };
    let _lease = block_on(remote.registry().register(registration)).unwrap();
    let doors = Doors {
        auth: true,
        insecure: false,
    };
    let (time, anywhere) = (Time::of(&Env::os()), "127.0.0.1:0".parse().unwrap());
    let set = move |server: Server| {
        let server = server.without_log().doors(doors);
        server.reports(Arc::new(At(remote)))
    };
    let service = Served::start_with(log.clone(), anywhere, 7, time.clone(), set);
    assert_eq!(ask(&service, Method::Get, "/operate/services", None), 401);
    let refused = until(&*log, |record| record.who == "nobody at service shop");
    assert_eq!((&*refused.about, &*refused.result), ("/operate", "refused"));
    let path = "/operate/dead-letters/retry";
    let retry = || ask(&service, Method::Post, path, Some(&admin));
    let status = retry();
    let is_it = |record: &AuditRecord| {
        let is_hers = record.who.contains("ada") && record.who.ends_with(" at service shop");
        is_hers && record.about == path
    };
    assert_eq!(until(&*log, is_it).result, status.to_string());
    // While the log's server is away the service answers, and tells later.
    let address = backbone.address;
    drop(backbone);
    assert_eq!(retry(), status);
    assert_eq!(
        audit(&*log).iter().filter(|record| is_it(record)).count(),
        1
    );
    let set = move |server: Server| server.doors(doors);
    let _backbone = Served::start_with(log.clone(), address, 7, time, set);
    let first = until(&*log, is_it).number;
    until(&*log, |record| is_it(record) && record.number > first);
}
