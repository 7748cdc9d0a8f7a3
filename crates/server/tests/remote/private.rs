//! What services keep to themselves is read by them and by operators, at each door, and by nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_access::Key;
use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog, Order, ReadError, ReadMode, VersionRange};
use anabranch_log_remote::{Lease, Options, Registration, RegistryError, RemoteLog};
use anabranch_log_segment::SegmentLog;
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, PartitionId, StreamId};
use anabranch_runtime::Time;
use anabranch_server::Doors;
use anabranch_server::client::{Client, Method, Reply};
use bytes::Bytes;
use futures_executor::block_on;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::audit;
use crate::support::{Served, TempDir};

/// A log and its server. Service `gauges` keeps `gauge` to itself and publishes `news`.
pub struct Backbone {
    pub log: Arc<dyn Log>,
    server: Served,
    asks: bool,
}

impl Backbone {
    /// One that asks nobody who they are.
    pub fn open() -> Self {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        Self::over(log, false)
    }

    pub fn asking() -> Self {
        Self::over(Arc::new(MemoryLog::new(Env::os())), true)
    }

    fn over(log: Arc<dyn Log>, asks: bool) -> Self {
        let doors = Doors {
            auth: asks,
            insecure: false,
        };
        let (time, address) = (Time::of(&Env::os()), "127.0.0.1:0".parse().unwrap());
        let server = Served::start_with(log.clone(), address, 7, time, move |s| s.doors(doors));
        Self { log, server, asks }
    }

    fn restart(self) -> Self {
        let Self { log, server, asks } = self;
        drop(server);
        Self::over(log, asks)
    }

    /// As a program of its own would open it.
    pub fn program(&self, key: Option<Key>) -> RemoteLog {
        let mut options = Options::default();
        options.key = key;
        RemoteLog::open(&self.server.url(), options).unwrap()
    }

    /// A key that may do this, as soon as the server knows it.
    pub fn key(&self, scopes: &[&str]) -> Key {
        let key = audit::key(&*self.log, "a test", scopes);
        while self.get("/version", &[], Some(&key)).status != 200 {}
        key
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)], key: Option<&Key>) -> Reply {
        self.send(Method::Get, path, headers, "", key)
    }

    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        key: Option<&Key>,
    ) -> Reply {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&self.server.url(), Time::of(&Env::os())).unwrap();
        let client = client.with_key(key.cloned());
        let sent = client.send(method, path, headers, Bytes::from(body.to_owned()));
        runtime.block_on(sent).unwrap()
    }

    /// Registers by JSON alone; the token of the lease.
    pub fn token(&self, name: &str) -> String {
        let body = json!({"service": {"name": name}});
        let path = "/anabranch.registry.v1.RegistryService/RegisterService";
        let reply = self.send(Method::Post, path, &[], &body.to_string(), None);
        assert_eq!(reply.status, 200, "{}", reply.json());
        reply.json()["lease"]["token"].as_str().unwrap().to_owned()
    }
}

pub fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

pub fn gauges() -> Registration {
    Registration {
        name: "gauges".to_owned(),
        owns: names(&["gauge", "news"]),
        private: BTreeMap::from([("gauge".to_owned(), BTreeSet::new())]),
        ..Registration::default()
    }
}

pub fn other(name: &str, reads: &[&str]) -> Registration {
    Registration {
        name: name.to_owned(),
        reads: names(reads),
        ..Registration::default()
    }
}

pub fn register(log: &RemoteLog, registration: Registration) -> Result<Lease, RegistryError> {
    block_on(log.registry().register(registration))
}

pub fn event(number: u128, stream: &str, event_type: &str) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(number),
        StreamId::new(stream).unwrap(),
        EventType::new(event_type).unwrap(),
        "{}",
    )
}

/// What a gauge shows, what is published of it, and two more that are private: one append.
pub fn measured(first: u128) -> Append {
    Append::events([
        event(first, "gauge/1", "Shown"),
        event(first + 1, "news/1", "Said"),
        event(first + 2, "gauge/1", "Shown"),
        event(first + 3, "gauge/2", "Broken"),
    ])
}

/// The streams of the events that a read gives, and whether its place is behind all that there is.
fn read(log: &RemoteLog, filter: Filter) -> Result<(Vec<String>, bool), ReadError> {
    let head = block_on(log.head()).unwrap();
    let mut read = log.read(&Cut::start(), filter, ReadMode::ToHead);
    let (mut streams, mut place) = (Vec::new(), 0);
    while let Some(batch) = block_on(read.next_batch()) {
        let batch = batch?;
        place = batch.reach().map_or(place, |reach| reach.offsets.end);
        for event in &batch {
            let stream = event.unwrap().stream;
            if !stream.starts_with('$') {
                streams.push(stream.to_owned());
            }
        }
    }
    Ok((streams, place == head.get(PartitionId(0))))
}

const ALL: [&str; 4] = ["gauge/1", "news/1", "gauge/1", "gauge/2"];

fn all_of(log: &RemoteLog) -> Vec<String> {
    read(log, Filter::all()).unwrap().0
}

/// What a read of this is refused with.
fn refusal(log: &RemoteLog, filter: Filter) -> String {
    read(log, filter).unwrap_err().to_string()
}

const WORDS: &str = "reads gauge, which is private to service gauges; read what it publishes: news";

#[test]
fn a_service_reads_what_it_keeps_and_another_one_only_what_it_publishes() {
    let backbone = Backbone::open();
    let (owner, reader) = (backbone.program(None), backbone.program(None));
    let _gauges = register(&owner, gauges()).unwrap();
    let _reader = register(&reader, other("reader", &["news"])).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    assert_eq!(all_of(&owner), ALL);
    // Of an append it gets a part, and its place moves over the rest.
    assert_eq!(
        read(&reader, Filter::all()).unwrap(),
        (names(&["news/1"]), true)
    );
    let words = refusal(&reader, Filter::category("gauge"));
    assert!(words.contains("service reader "), "{words}");
    assert!(words.contains(WORDS), "{words}");
    let gauge = StreamId::new("gauge/1").unwrap();
    let words = refusal(&reader, Filter::stream(gauge.clone()));
    assert!(words.contains(WORDS), "{words}");
    let mut stream = reader.read_stream(&gauge, VersionRange::ALL, Order::Forward);
    let error = block_on(stream.next()).unwrap().unwrap_err();
    assert!(error.to_string().contains(WORDS), "{error}");
    for (log, is_seen) in [(&owner, true), (&reader, false)] {
        let found = block_on(log.find(EventId::from_u128(1))).unwrap();
        assert_eq!(found.is_some(), is_seen);
        assert!(block_on(log.find(EventId::from_u128(2))).unwrap().is_some());
    }
    // What is shown by no lease is an operator's where nobody is asked.
    assert_eq!(all_of(&backbone.program(None)), ALL);
}

#[test]
fn a_reader_that_follows_is_given_what_is_published_behind_what_is_private() {
    let backbone = Backbone::open();
    let (owner, reader) = (backbone.program(None), backbone.program(None));
    let _gauges = register(&owner, gauges()).unwrap();
    let _reader = register(&reader, other("reader", &["news"])).unwrap();
    let mut follows = reader.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    let mut next = || loop {
        let event = block_on(follows.next()).unwrap().unwrap();
        if !event.stream().starts_with('$') {
            return event.id;
        }
    };
    block_on(owner.append(measured(1))).unwrap();
    assert_eq!(next(), EventId::from_u128(2));
    for number in 10..40 {
        block_on(owner.append(Append::event(event(number, "gauge/1", "Shown")))).unwrap();
    }
    block_on(owner.append(measured(40))).unwrap();
    assert_eq!(next(), EventId::from_u128(41));
}

#[test]
fn what_is_private_stays_so_while_its_owner_is_away_and_when_it_has_none() {
    let backbone = Backbone::open();
    let owner = backbone.program(None);
    let lease = register(&owner, gauges()).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    let secret = lease.secret().to_owned();
    block_on(lease.release()).unwrap();
    drop(owner);
    let backbone = backbone.restart();
    let reader = backbone.program(None);
    let _reader = register(&reader, other("reader", &[])).unwrap();
    assert_eq!(all_of(&reader), ["news/1"]);
    let owner = backbone.program(None);
    let again = Registration {
        secret: Some(secret),
        ..gauges()
    };
    let lease = register(&owner, again).unwrap();
    assert_eq!(all_of(&owner), ALL);
    block_on(lease.give_up()).unwrap();
    assert_eq!(all_of(&reader), ["news/1"]);
    let backbone = backbone.restart();
    let reader = backbone.program(None);
    let _reader = register(&reader, other("another", &[])).unwrap();
    assert_eq!(all_of(&reader), ["news/1"]);
    // Whoever owns it next says whether it is private.
    let heir = Registration {
        name: "heir".to_owned(),
        owns: names(&["gauge"]),
        ..Registration::default()
    };
    let heir = register(&owner_of(&backbone), heir);
    heir.unwrap();
    assert_eq!(all_of(&reader), ALL);
}

fn owner_of(backbone: &Backbone) -> RemoteLog {
    backbone.program(None)
}

#[test]
fn where_callers_are_asked_who_they_are_operators_read_what_is_private() {
    let backbone = Backbone::asking();
    let owner = backbone.key(&["read:*", "append:*", "operate:$*"]);
    let owner = backbone.program(Some(owner));
    let _gauges = register(&owner, gauges()).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    assert_eq!(all_of(&owner), ALL);
    let stranger = backbone.key(&["read:*"]);
    let program = backbone.program(Some(stranger.clone()));
    assert_eq!(
        read(&program, Filter::all()).unwrap(),
        (names(&["news/1"]), true)
    );
    let words = refusal(&program, Filter::category("gauge"));
    assert!(words.contains(WORDS), "{words}");
    let operator = backbone.key(&["read:*", "operate:gauge"]);
    assert_eq!(all_of(&backbone.program(Some(operator.clone()))), ALL);
    // A scope to read is needed beside.
    let blind = backbone.key(&["read:news", "operate:*"]);
    assert_eq!(all_of(&backbone.program(Some(blind.clone()))), ["news/1"]);
    for (key, status) in [(&blind, 403), (&operator, 200)] {
        let history = backbone.get("/operate/history/gauge/1", &[], Some(key));
        assert_eq!(history.status, status);
    }
    // Who acts as a service reads as one, whatever its key may.
    let service = backbone.program(Some(operator.clone()));
    let _service = register(&service, other("reader", &[])).unwrap();
    assert_eq!(all_of(&service), ["news/1"]);
    let refused = backbone.get("/events?category=gauge", &[], Some(&stranger));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["code"], "private", "{}", refused.json());
}

#[test]
fn the_name_of_a_service_is_taken_by_nobody_who_may_not_append_to_what_comes_with_it() {
    let mut backbone = Backbone::asking();
    let own = backbone.key(&["append:gauge", "append:news"]);
    let other = backbone.key(&["read:*", "append:other", "append:news"]);
    let rotated = backbone.key(&["append:gauge", "append:news"]);
    let nothing = || Registration {
        name: "gauges".to_owned(),
        ..Registration::default()
    };
    let ends = |backbone: &Backbone, key: &Key, registration, gives_up| {
        let program = backbone.program(Some(key.clone()));
        let lease = register(&program, registration).unwrap();
        let ended = match gives_up {
            true => block_on(lease.give_up()),
            false => block_on(lease.release()),
        };
        ended.unwrap();
    };
    ends(&backbone, &own, gauges(), false);
    let refused = |backbone: &Backbone| {
        let taken = register(&backbone.program(Some(other.clone())), nothing());
        let Err(RegistryError::Refused(why)) = taken.map(|_| ()) else {
            panic!("it took the name");
        };
        assert!(why.contains("the scope append:gauge"), "{why}");
    };
    refused(&backbone);
    backbone = backbone.restart();
    refused(&backbone);
    // Another key that may do the same is the same service; what that gives up it still keeps.
    ends(&backbone, &rotated, gauges(), true);
    refused(&backbone);
    ends(&backbone, &rotated, nothing(), false);
    refused(&backbone);
    ends(&backbone, &own, gauges(), false);
}

#[test]
fn by_plain_http_what_is_private_is_seen_at_no_door() {
    let backbone = Backbone::open();
    let owner = backbone.program(None);
    let _gauges = register(&owner, gauges()).unwrap();
    let places = block_on(owner.append(measured(1))).unwrap().places;
    let token = backbone.token("reader");
    let lease = [("anabranch-lease", token.as_str())];
    let text = |reply: Reply| String::from_utf8_lossy(&reply.body).into_owned();
    let sent = text(backbone.get("/events?until=head", &lease, None));
    assert!(
        sent.contains("news/1") && !sent.contains("gauge/"),
        "{sent}"
    );
    // The last id is the place behind everything.
    assert!(sent.contains("event: head"), "{sent}");
    let head = block_on(owner.head()).unwrap();
    assert!(sent.contains(&format!("{head}")), "{sent}");
    let page = [("accept", "application/cloudevents-batch+json"), lease[0]];
    let page = text(backbone.get("/events", &page, None));
    assert!(
        page.contains("news/1") && !page.contains("gauge/"),
        "{page}"
    );
    for (place, is_seen) in places.iter().zip([false, true, false, false]) {
        let path = format!("/events/{}", place.position);
        let status = backbone.get(&path, &lease, None).status.as_u16();
        assert_eq!(status, if is_seen { 200 } else { 404 });
        assert_eq!(backbone.get(&path, &[], None).status, 200);
    }
    let by_id = format!("/events/{}", EventId::from_u128(1));
    assert_eq!(backbone.get(&by_id, &lease, None).status, 404);
    let named = backbone.get("/events?stream=gauge/1", &lease, None);
    assert_eq!(named.status, 403);
    assert_eq!(named.json()["code"], "private");
    assert!(
        named.json()["detail"].as_str().unwrap().contains(WORDS),
        "{}",
        named.json()
    );
    // A lease that is none opens nothing, also what nobody keeps.
    for wrong in ["reader:0:nonsense", "nobody:0:x", "x"] {
        let reply = backbone.get("/events?until=head", &[("anabranch-lease", wrong)], None);
        assert!([400, 403].contains(&reply.status.as_u16()), "{wrong}");
    }
}

#[test]
fn a_service_whose_lease_is_lost_reads_nothing_more_by_it() {
    let backbone = Backbone::open();
    let owner = backbone.program(None);
    let lease = register(&owner, gauges()).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    let mut follows = owner.read(&Cut::start(), Filter::category("gauge"), ReadMode::Follow);
    assert_eq!(
        block_on(follows.next()).unwrap().unwrap().stream(),
        "gauge/1"
    );
    // Another process is the same service by now.
    let next = backbone.program(None);
    let registration = Registration {
        secret: Some(lease.secret().to_owned()),
        ..gauges()
    };
    let _next = register(&next, registration).unwrap();
    block_on(next.append(measured(11))).unwrap();
    // It is not given a part, as who is somebody else would be: it hears that it is nobody.
    let error = loop {
        match block_on(follows.next()).unwrap() {
            Ok(event) => assert!(event.id < EventId::from_u128(10)),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("has followed it"), "{error}");
    let words = refusal(&owner, Filter::all());
    assert!(words.contains("has followed it"), "{words}");
    assert_eq!(all_of(&next).len(), 8);
}

#[test]
fn a_service_that_reads_what_another_keeps_is_not_registered_as_it_does_not_start_in_a_fleet() {
    for owner_first in [true, false] {
        let backbone = Backbone::open();
        let (owner, reader) = (backbone.program(None), backbone.program(None));
        let reads = other("readers", &["gauge"]);
        let ((first, one), (then, two)) = match owner_first {
            true => ((&owner, gauges()), (&reader, reads)),
            false => ((&reader, reads), (&owner, gauges())),
        };
        let lease = register(first, one).unwrap();
        let Err(RegistryError::Refused(why)) = register(then, two.clone()).map(|_| ()) else {
            panic!("both are registered");
        };
        assert!(why.contains("service readers "), "{why}");
        assert!(why.contains(WORDS), "{why}");
        block_on(lease.release()).unwrap();
        // Who has gone reads nothing; what is kept is kept by who is away too.
        let again = register(then, two);
        assert_eq!(again.is_ok(), !owner_first);
    }
}

#[test]
fn what_becomes_private_ends_the_reads_that_name_it() {
    let backbone = Backbone::open();
    let (owner, reader) = (backbone.program(None), backbone.program(None));
    let _reader = register(&reader, other("reader", &[])).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    let mut follows = reader.read(&Cut::start(), Filter::category("gauge"), ReadMode::Follow);
    for _ in 0..3 {
        block_on(follows.next()).unwrap().unwrap();
    }
    let _gauges = register(&owner, gauges()).unwrap();
    block_on(owner.append(measured(11))).unwrap();
    let error = block_on(follows.next()).unwrap().unwrap_err().to_string();
    assert!(error.contains(WORDS), "{error}");
}

#[test]
fn of_a_private_category_others_see_the_types_that_its_owner_has_opened() {
    let backbone = Backbone::open();
    let (owner, reader) = (backbone.program(None), backbone.program(None));
    let mut registration = gauges();
    let open = BTreeSet::from(["Broken".to_owned()]);
    registration.private.insert("gauge".to_owned(), open);
    let _gauges = register(&owner, registration).unwrap();
    let _reader = register(&reader, other("reader", &["gauge"])).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    assert_eq!(all_of(&reader), ["news/1", "gauge/2"]);
    let (streams, _) = read(&reader, Filter::category("gauge")).unwrap();
    assert_eq!(streams, ["gauge/2"]);
    assert!(
        block_on(reader.find(EventId::from_u128(4)))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_service_keeps_to_itself_only_what_it_owns_and_operators_see_that_it_does() {
    let backbone = Backbone::open();
    let log = backbone.program(None);
    let mut wrong = gauges();
    wrong.owns = names(&["news"]);
    let Err(RegistryError::Refused(why)) = register(&log, wrong).map(|_| ()) else {
        panic!("it keeps what it does not own");
    };
    assert!(why.contains("private names gauge"), "{why}");
    let _gauges = register(&log, gauges()).unwrap();
    let registered: Value = backbone.get("/operate/registry", &[], None).json();
    assert_eq!(registered[0]["private"], json!(["gauge"]), "{registered}");
}

#[test]
fn who_is_refused_what_is_private_is_written_down() {
    let backbone = Backbone::asking();
    let owner = backbone.key(&["read:*", "append:*", "operate:$*"]);
    let owner = backbone.program(Some(owner));
    let _gauges = register(&owner, gauges()).unwrap();
    let stranger = backbone.key(&["read:*"]);
    refusal(&backbone.program(Some(stranger)), Filter::category("gauge"));
    let log = backbone.log.clone();
    // The server writes what it has gathered before it ends.
    drop(backbone);
    let said = audited(&*log);
    assert!(said.contains("\"gauge\""), "{said}");
}

/// All that the audit says.
pub fn audited(log: &dyn Log) -> String {
    let mut audit = log.read(&Cut::start(), Filter::category("$audit"), ReadMode::ToHead);
    let mut said = String::new();
    while let Some(event) = block_on(audit.next()) {
        said += &String::from_utf8_lossy(event.unwrap().data());
    }
    said
}

#[test]
fn where_a_filter_would_find_what_is_private_is_told_to_nobody() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, anabranch_log_segment::Options::default());
    let backbone = Backbone::over(Arc::new(log.unwrap()), false);
    let owner = backbone.program(None);
    let _gauges = register(&owner, gauges()).unwrap();
    for number in 0..8 {
        block_on(owner.append(measured(1 + number * 4))).unwrap();
    }
    let reader = backbone.program(None);
    let _lease = register(&reader, other("reader", &["news"])).unwrap();
    let told = |event_type: &str| {
        let filter = Filter {
            types: vec![EventType::new(event_type).unwrap()],
            ..Filter::all()
        };
        let of = |from: &Cut, mode| {
            let mut read = reader.read(from, filter.clone(), mode);
            let mut told = Vec::new();
            while let Some(batch) = block_on(read.next_batch()) {
                let batch = batch.unwrap();
                told.push((
                    batch.iter().count(),
                    batch.reach().map(|reach| reach.offsets),
                ));
            }
            told
        };
        let head = block_on(reader.head()).unwrap();
        let forward = of(&Cut::start(), ReadMode::ToHead);
        (forward, of(&head, ReadMode::Backward))
    };
    assert_eq!(told("Broken"), told("NeverSaid"));
    assert_ne!(told("Said"), told("NeverSaid"));
}
