//! Services that register at the log, and who may append to what they own.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, Log, MemoryLog, Order, ReadMode, Rejection, VersionRange,
};
use anabranch_log_remote::{
    Lease, LeaseState, Options, Presence, Registration, RegistryError, RemoteLog, Sought,
};
use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
use anabranch_runtime::{ManualTime, Time};
use anabranch_server::client::{Client, Method};
use futures_executor::block_on;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::support::{Network, Served};

/// A log behind a server whose time passes when the test says so.
struct Backbone {
    log: Arc<dyn Log>,
    time: ManualTime,
    server: Served,
}

impl Backbone {
    fn start() -> Self {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let time = ManualTime::new();
        let server = serve(&log, &time, "127.0.0.1:0");
        Self { log, time, server }
    }

    /// The same log behind a new server at the same address.
    fn restart(self) -> Self {
        let address = self.server.address.to_string();
        let (log, time) = (self.log, self.time);
        drop(self.server);
        let server = serve(&log, &time, &address);
        Self { log, time, server }
    }

    /// As a program of its own would open it.
    fn open(&self) -> RemoteLog {
        RemoteLog::open(&self.server.url(), Options::default()).unwrap()
    }

    /// Sends JSON to a call of the registry or, as `Append`, of the log; status and answer.
    fn call(&self, method: &str, body: &Value) -> (u16, Value) {
        let service = match method {
            "Append" => "anabranch.log.v1.LogService",
            _ => "anabranch.registry.v1.RegistryService",
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&self.server.url(), Time::of(&Env::os())).unwrap();
        let path = format!("/{service}/{method}");
        let sent = client.send(Method::Post, &path, &[], body.to_string().into());
        let reply = runtime.block_on(sent).unwrap();
        (reply.status.as_u16(), reply.json())
    }
}

fn serve(log: &Arc<dyn Log>, time: &ManualTime, address: &str) -> Served {
    let rng = Env::os().rng;
    let time = Time::manual(time, rng);
    Served::start_by(log.clone(), address.parse().unwrap(), 7, time)
}

fn service(name: &str, owns: &[&str]) -> Registration {
    Registration {
        name: name.to_owned(),
        address: "http://127.0.0.1:4077".to_owned(),
        owns: owns.iter().map(|&category| category.to_owned()).collect(),
        ..Registration::default()
    }
}

fn register(log: &RemoteLog, name: &str, owns: &[&str]) -> Result<Lease, RegistryError> {
    block_on(log.registry().register(service(name, owns)))
}

fn event(number: u128, stream: &str) -> NewEvent {
    let stream = StreamId::new(stream).unwrap();
    let data = format!(r#"{{"number":{number}}}"#);
    NewEvent::new(
        EventId::from_u128(number),
        stream,
        "T".parse().unwrap(),
        data,
    )
}

fn append(log: &RemoteLog, number: u128, stream: &str) -> Result<Appended, AppendError> {
    block_on(log.append(Append::event(event(number, stream))))
}

/// Who the owner is, in an append's refusal, and why it is refused.
fn not_owner(result: Result<Appended, AppendError>) -> (String, String) {
    match result {
        Err(AppendError::Rejected(Rejection::NotOwner { owner, why, .. })) => (owner, why),
        other => panic!("it is not refused for want of ownership: {other:?}"),
    }
}

fn presence(log: &RemoteLog, name: &str) -> Presence {
    let found = block_on(log.registry().find(Sought::Service(name.to_owned())));
    found.unwrap().expect("it has registered").presence
}

#[test]
fn an_owner_appends_by_its_lease_and_everybody_else_is_refused_by_name() {
    let backbone = Backbone::start();
    let (orders, stranger) = (backbone.open(), backbone.open());
    append(&orders, 1, "order/1").unwrap();
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    append(&orders, 2, "order/1").unwrap();
    let refused = append(&stranger, 3, "order/1");
    assert_eq!(refused.as_ref().unwrap_err().code(), "not-owner");
    let (owner, why) = not_owner(refused);
    assert_eq!(owner, "orders");
    assert!(
        why.contains("category order belongs to service orders"),
        "{why}"
    );
}

#[test]
fn what_is_kept_about_a_category_is_its_owners_too() {
    let backbone = Backbone::start();
    let (orders, stranger) = (backbone.open(), backbone.open());
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    for (number, stream) in ["$schema/order", "$settled/order", "$flow/order"]
        .into_iter()
        .enumerate()
    {
        let append = |log: &RemoteLog| {
            let mut event = event(number as u128 + 1, "order/1");
            event.stream = StreamId::system(stream).unwrap();
            block_on(log.append(Append::event(event)))
        };
        assert_eq!(not_owner(append(&stranger)).0, "orders");
        append(&orders).unwrap();
    }
}

#[test]
fn what_a_service_reads_is_said_by_itself_whoever_owns_a_category_of_its_name() {
    let backbone = Backbone::start();
    let (pricing, shop, stranger) = (backbone.open(), backbone.open(), backbone.open());
    let _shop = register(&shop, "shop", &["pricing"]).unwrap();
    let said = |log: &RemoteLog, number: u128, service: &str| {
        let mut event = event(number, "a/b");
        event.stream = StreamId::system(format!("$readers/{service}")).unwrap();
        block_on(log.append(Append::event(event)))
    };
    // Nobody has that name yet.
    said(&stranger, 1, "pricing").unwrap();
    let lease = register(&pricing, "pricing", &["price"]).unwrap();
    said(&pricing, 2, "pricing").unwrap();
    for other in [&stranger, &shop] {
        let (owner, why) = not_owner(said(other, 3, "pricing"));
        assert_eq!(owner, "pricing");
        assert!(why.contains("said by that service alone"), "{why}");
    }
    said(&shop, 4, "shop").unwrap();
    block_on(lease.release()).unwrap();
    said(&stranger, 5, "pricing").unwrap();
}

#[test]
fn a_service_that_is_forgotten_reads_nothing_any_more_registered_or_not() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let _lease = register(&log, "shop", &["order"]).unwrap();
    for (number, service) in ["ghost", "shop"].into_iter().enumerate() {
        let mut said = event(number as u128 + 1, "a/b");
        said.stream = StreamId::system(format!("$readers/{service}")).unwrap();
        let reads = json!({"what": "view", "name": "all", "categories": ["order"],
            "events": {"kinds": []}});
        let types = json!({"service": service, "entities": [], "readers": [reads], "journals": []});
        said.data = types.to_string().into();
        block_on(log.append(Append::event(said))).unwrap();
    }
    let forget = |service: &str| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&backbone.server.url(), Time::of(&Env::os())).unwrap();
        let path = format!("/operate/registry/{service}/forget");
        let sent = client.send(Method::Post, &path, &[], Default::default());
        let reply = runtime.block_on(sent).unwrap();
        (reply.status.as_u16(), reply.json())
    };
    let reads = || {
        // Whose lease is lost reads nothing any more.
        let all = block_on(anabranch_runtime::registry::readers(&backbone.open())).unwrap();
        let reading = all.into_iter().filter(|one| !one.readers.is_empty());
        reading.map(|one| one.service).collect::<Vec<_>>()
    };
    let (status, answer) = forget("ghost");
    assert_eq!(
        (status, &answer["name"]),
        (200, &json!("ghost")),
        "{answer}"
    );
    assert_eq!(reads(), ["shop"]);
    assert_eq!(forget("shop").0, 409, "it is there");
    assert_eq!(reads(), ["shop"]);
    backbone.time.advance(Duration::from_secs(11));
    assert_eq!(forget("shop").0, 200);
    assert!(reads().is_empty());
    assert_eq!(forget("nobody").0, 404);
}

#[test]
fn a_category_without_an_owner_takes_appends_of_whoever_may_write() {
    let backbone = Backbone::start();
    let (orders, stranger) = (backbone.open(), backbone.open());
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    append(&stranger, 1, "note/1").unwrap();
    append(&orders, 2, "note/1").unwrap();
}

#[test]
fn one_event_for_anothers_category_refuses_the_whole_append() {
    let backbone = Backbone::start();
    let (orders, stranger) = (backbone.open(), backbone.open());
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    let both = Append::events([event(1, "note/1"), event(2, "order/1")]);
    not_owner(block_on(stranger.append(both)));
    assert_eq!(block_on(stranger.find(EventId::from_u128(1))), Ok(None));
}

#[test]
fn a_forged_append_by_json_alone_is_refused_by_name() {
    let backbone = Backbone::start();
    let wanted = json!({"service": {"name": "orders", "owns": ["order"]}});
    let (status, registered) = backbone.call("RegisterService", &wanted);
    assert_eq!(status, 200, "{registered}");
    let forged = |id: u32, lease: &Value| {
        let id = format!("00000000-0000-0000-0000-{id:012}");
        let event = json!({"id": id, "stream": "order/1", "type": "OrderPlaced", "text": "{}"});
        backbone.call("Append", &json!({"events": [event], "lease": lease}))
    };
    let (status, answer) = forged(1, &json!(""));
    assert_eq!(
        (status, &answer["code"]),
        (403, &json!("permission_denied")),
        "{answer}"
    );
    assert_eq!(
        answer["details"][0]["debug"]["code"], "not-owner",
        "{answer}"
    );
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("service orders"),
        "{answer}"
    );
    let token = &registered["lease"]["token"];
    let (status, answer) = forged(2, token);
    assert_eq!(status, 200, "{answer}");
    let wrong = token.as_str().unwrap().replace(':', ":0");
    let (status, answer) = forged(3, &json!(wrong));
    assert_eq!(status, 403, "{answer}");
}

#[test]
fn of_two_services_that_claim_one_category_the_second_is_told_who_has_it_and_for_how_long() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let _lease = register(&log, "orders", &["order", "cart"]).unwrap();
    let refused = register(&backbone.open(), "shipping", &["parcel", "order"]);
    let Err(RegistryError::Held(why)) = refused.map(|_| ()) else {
        panic!("both have it");
    };
    for part in [
        "category order",
        "service orders",
        "http://127.0.0.1:4077",
        "10 s",
    ] {
        assert!(why.contains(part), "{why}");
    }
    // Nothing of it was registered.
    let found = block_on(log.registry().find(Sought::Category("parcel".to_owned())));
    assert_eq!(found, Ok(None));
}

#[test]
fn a_view_is_found_at_the_service_that_has_it_and_claimed_by_no_other() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let mut orders = service("orders", &[]);
    orders.views = vec!["customers".to_owned()];
    let _lease = block_on(log.registry().register(orders.clone())).unwrap();
    let found = block_on(log.registry().find(Sought::View("customers".to_owned())));
    assert_eq!(found.unwrap().unwrap().service, orders);
    orders.name = "other".to_owned();
    let refused = block_on(log.registry().register(orders)).map(|_| ());
    assert!(matches!(&refused, Err(RegistryError::Held(why)) if why.contains("view customers")));
}

#[test]
fn a_paused_owner_whose_category_another_has_claimed_is_refused_everything() {
    let backbone = Backbone::start();
    let (paused, other) = (backbone.open(), backbone.open());
    let lease = register(&paused, "orders", &["order"]).unwrap();
    append(&paused, 1, "order/1").unwrap();
    backbone.time.advance(Duration::from_secs(11));
    let _lease = register(&other, "orders-2", &["order"]).unwrap();
    append(&other, 2, "order/1").unwrap();
    let (owner, why) = not_owner(append(&paused, 3, "order/1"));
    assert_eq!(owner, "orders-2");
    assert!(why.contains("lease 0 of service orders is lost"), "{why}");
    // It does not know that it acts for nobody any more, so it writes nothing else either.
    not_owner(append(&paused, 4, "note/1"));
    assert_eq!(
        presence(&other, "orders"),
        Presence::Taken("orders-2".to_owned())
    );
    drop(lease);
}

#[test]
fn a_lease_that_ends_leaves_its_categories_owned_until_somebody_claims_them() {
    let backbone = Backbone::start();
    let (orders, stranger) = (backbone.open(), backbone.open());
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    assert_eq!(
        presence(&stranger, "orders"),
        Presence::Here(Duration::from_secs(10))
    );
    backbone.time.advance(Duration::from_secs(10));
    assert_eq!(presence(&stranger, "orders"), Presence::Expired);
    assert_eq!(not_owner(append(&stranger, 1, "order/1")).0, "orders");
    // Nobody has followed, so it may go on.
    append(&orders, 2, "order/1").unwrap();
}

#[test]
fn a_lease_that_has_ended_lives_again_if_nobody_has_followed() {
    let backbone = Backbone::start();
    let wanted = json!({"service": {"name": "orders", "owns": ["order"]}, "leaseMs": "2000"});
    let (_, registered) = backbone.call("RegisterService", &wanted);
    let log = backbone.open();
    backbone.time.advance(Duration::from_secs(60));
    assert_eq!(presence(&log, "orders"), Presence::Expired);
    let renew = json!({"lease": registered["lease"]["token"]});
    let (status, answer) = backbone.call("Renew", &renew);
    assert_eq!(
        (status, &answer["expiresInMs"]),
        (200, &json!("2000")),
        "{answer}"
    );
    assert_eq!(
        presence(&log, "orders"),
        Presence::Here(Duration::from_secs(2))
    );
}

#[test]
fn a_service_takes_over_from_itself_with_its_secret_and_its_old_process_learns_of_it() {
    let backbone = Backbone::start();
    let (old, new) = (backbone.open(), backbone.open());
    let mut wanted = service("orders", &["order"]);
    wanted.lease_time = Some(Duration::from_millis(500));
    let lease = block_on(old.registry().register(wanted.clone())).unwrap();
    let refused = block_on(new.registry().register(wanted.clone())).map(|_| ());
    assert!(
        matches!(refused, Err(RegistryError::Held(_))),
        "{refused:?}"
    );
    wanted.secret = Some(lease.secret().to_owned());
    let next = block_on(new.registry().register(wanted)).unwrap();
    assert!(next.number() > lease.number());
    append(&new, 1, "order/1").unwrap();
    not_owner(append(&old, 2, "order/1"));
    let why = block_on(lease.lost());
    assert!(
        why.contains("lease 1 of the same service has followed"),
        "{why}"
    );
    assert_eq!(lease.state(), LeaseState::Lost(why));
    assert_eq!(next.state(), LeaseState::Held);
}

#[test]
fn a_restarted_server_knows_the_owners_and_gives_each_time_to_renew() {
    let backbone = Backbone::start();
    let orders = backbone.open();
    let _lease = register(&orders, "orders", &["order"]).unwrap();
    backbone.time.advance(Duration::from_secs(9));
    let backbone = backbone.restart();
    let stranger = backbone.open();
    assert_eq!(not_owner(append(&stranger, 1, "order/1")).0, "orders");
    append(&orders, 2, "order/1").unwrap();
    // It may have renewed a moment before the restart: nobody follows before its whole time.
    backbone.time.advance(Duration::from_secs(9));
    let refused = register(&stranger, "orders-2", &["order"]).map(|_| ());
    assert!(
        matches!(refused, Err(RegistryError::Held(_))),
        "{refused:?}"
    );
    backbone.time.advance(Duration::from_secs(1));
    let _lease = register(&stranger, "orders-2", &["order"]).unwrap();
    not_owner(append(&orders, 3, "order/1"));
}

#[test]
fn the_time_to_renew_runs_from_the_servers_start_and_not_from_the_first_question() {
    let backbone = Backbone::start();
    let _lease = register(&backbone.open(), "orders", &["order"]).unwrap();
    let backbone = backbone.restart();
    let stranger = backbone.open();
    backbone.time.advance(Duration::from_secs(10));
    let _lease = register(&stranger, "orders-2", &["order"]).unwrap();
}

#[test]
fn who_releases_its_lease_is_followed_at_once_and_who_gives_up_leaves_no_owner() {
    let backbone = Backbone::start();
    let (log, stranger) = (backbone.open(), backbone.open());
    let lease = register(&log, "orders", &["order"]).unwrap();
    block_on(lease.release()).unwrap();
    assert_eq!(presence(&log, "orders"), Presence::Released);
    assert_eq!(not_owner(append(&stranger, 1, "order/1")).0, "orders");
    let lease = register(&log, "orders-2", &["order"]).unwrap();
    append(&log, 2, "order/1").unwrap();
    block_on(lease.give_up()).unwrap();
    append(&stranger, 3, "order/1").unwrap();
    append(&log, 4, "order/1").unwrap();
}

#[test]
fn a_category_that_a_service_does_not_name_any_more_has_no_owner() {
    let backbone = Backbone::start();
    let (log, stranger) = (backbone.open(), backbone.open());
    let lease = register(&log, "orders", &["order", "cart"]).unwrap();
    let mut wanted = service("orders", &["order"]);
    wanted.secret = Some(lease.secret().to_owned());
    let _next = block_on(log.registry().register(wanted)).unwrap();
    append(&stranger, 1, "cart/1").unwrap();
    not_owner(append(&stranger, 2, "order/1"));
}

#[test]
fn an_append_that_was_written_before_its_lease_was_lost_is_found_when_it_is_repeated() {
    let backbone = Backbone::start();
    let (paused, other) = (backbone.open(), backbone.open());
    let _lease = register(&paused, "orders", &["order"]).unwrap();
    let first = append(&paused, 1, "order/1").unwrap();
    backbone.time.advance(Duration::from_secs(11));
    let _other = register(&other, "orders-2", &["order"]).unwrap();
    // As after a lost answer: it must not be told that it did not happen.
    let again = append(&paused, 1, "order/1").unwrap();
    assert!(again.repeated);
    assert_eq!(again.places, first.places);
}

#[test]
fn nobody_but_the_registry_writes_which_services_there_are() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let _lease = register(&log, "orders", &["order"]).unwrap();
    for stream in ["$owner/order", "$service/orders"] {
        let mut forged = event(1, "a/b");
        forged.stream = StreamId::system(stream).unwrap();
        let (_, why) = not_owner(block_on(log.append(Append::event(forged))));
        assert!(why.contains("only the registry"), "{why}");
    }
}

#[test]
fn a_secret_stands_nowhere_on_the_log_and_in_no_answer() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let lease = register(&log, "orders", &["order"]).unwrap();
    let secret = lease.secret().to_owned();
    let mut said = format!("{:?}", block_on(log.registry().list()).unwrap());
    let mut read = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(event) = block_on(read.next()) {
        said += &format!("{:?}", event.unwrap());
    }
    let token = format!("orders:9:{secret}");
    said += &backbone
        .call("Renew", &json!({"lease": token}))
        .1
        .to_string();
    said += &backbone
        .call("Renew", &json!({"lease": secret}))
        .1
        .to_string();
    let mut wanted = service("orders", &["order"]);
    wanted.secret = Some(secret.clone());
    said += &format!("{wanted:?}");
    assert!(!said.contains(&secret));
    assert!(said.contains("orders"));
}

#[test]
fn what_is_malformed_is_refused_in_words_and_registers_nothing() {
    let backbone = Backbone::start();
    let long = "x".repeat(201);
    let many = |count: usize| {
        let names = (0..count).map(|number| json!(format!("c{number}")));
        json!(names.collect::<Vec<_>>())
    };
    let secret = json!("x".repeat(32));
    for (wanted, secret, word) in [
        (json!({}), &secret, "name of a service"),
        (json!({"name": "a/b"}), &secret, "name of a service"),
        (json!({"name": "a\nb"}), &secret, "name of a service"),
        (json!({"name": long}), &secret, "name of a service"),
        (
            json!({"name": "a", "owns": ["$schema"]}),
            &secret,
            "reserved",
        ),
        (json!({"name": "a", "owns": [""]}), &secret, "in owns"),
        (json!({"name": "a", "owns": ["a/b"]}), &secret, "in owns"),
        (json!({"name": "a", "owns": ["a\u{0}"]}), &secret, "in owns"),
        (json!({"name": "a", "owns": [long]}), &secret, "in owns"),
        (
            json!({"name": "a", "owns": many(65)}),
            &secret,
            "at most 64",
        ),
        (
            json!({"name": "a", "views": many(257)}),
            &secret,
            "at most 256",
        ),
        (
            json!({"name": "a", "reads": many(257)}),
            &secret,
            "at most 256",
        ),
        (json!({"name": "a", "views": [""]}), &secret, "in views"),
        (
            json!({"name": "a", "version": long}),
            &secret,
            "the version",
        ),
        (
            json!({"name": "a", "address": "http://example.org:80"}),
            &secret,
            "this machine",
        ),
        (
            json!({"name": "a", "address": "http://a@127.0.0.1:80"}),
            &secret,
            "this machine",
        ),
        (
            json!({"name": "a", "address": "file:///etc/passwd"}),
            &secret,
            "this machine",
        ),
        (json!({"name": "a"}), &json!("short"), "32 to 128"),
        (json!({"name": "a"}), &json!("a:b".repeat(20)), "32 to 128"),
    ] {
        let body = json!({"service": wanted, "secret": secret});
        let (status, answer) = backbone.call("RegisterService", &body);
        assert_eq!(status, 400, "{body}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{body}: {answer}");
    }
    for lease_ms in [1_u64, 499, 300_001, u64::MAX] {
        let body = json!({"service": {"name": "a"}, "leaseMs": lease_ms.to_string()});
        assert_eq!(backbone.call("RegisterService", &body).0, 400);
    }
    for (count, refused) in [(10_000, 400), (100_000, 413)] {
        let body = json!({"service": {"name": "a", "owns": many(count)}});
        assert_eq!(
            backbone.call("RegisterService", &body).0,
            refused,
            "{count} names"
        );
    }
    for (token, status) in [("", 400), ("x", 400), ("a:b:c", 400), ("a:1:c", 404)] {
        let body = json!({"lease": token});
        assert_eq!(backbone.call("Renew", &body).0, status, "{token}");
        assert_eq!(backbone.call("Release", &body).0, status, "{token}");
    }
    assert_eq!(backbone.call("Find", &json!({})).0, 400);
    assert_eq!(backbone.call("List", &json!({})), (200, json!({})));
}

#[test]
fn a_wrong_secret_neither_renews_nor_releases() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let _lease = register(&log, "orders", &["order"]).unwrap();
    let forged = json!({"lease": format!("orders:0:{}", "0".repeat(64))});
    for method in ["Renew", "Release"] {
        let (status, answer) = backbone.call(method, &forged);
        assert_eq!(status, 403, "{answer}");
    }
    assert!(matches!(presence(&log, "orders"), Presence::Here(_)));
}

#[test]
fn what_a_server_says_of_services_is_on_the_log_as_events() {
    let backbone = Backbone::start();
    let log = backbone.open();
    let _lease = register(&log, "orders", &["order"]).unwrap();
    let stream = StreamId::system("$owner/order").unwrap();
    let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Forward);
    let owned = block_on(read.next()).unwrap().unwrap();
    assert_eq!(owned.event_type(), "$Owned");
    assert_eq!(owned.data(), br#"{"service":"orders","lease":0}"#);
}

#[test]
fn a_registration_whose_answers_are_lost_is_repeated_as_the_same() {
    let backbone = Backbone::start();
    // The first connection lets the greeting through; then some break before the answer.
    let allowed = &[3_000, 300, 500, 700, 900, 1_100, 1_300, 1 << 20];
    let network = Network::start(backbone.server.address, allowed);
    let log = RemoteLog::open(&network.url(), Options::default()).unwrap();
    for number in 0..20 {
        let name = format!("service-{number}");
        let owns = format!("c{number}");
        let lease = register(&log, &name, &[&owns]).unwrap();
        append(&log, number + 1, &format!("{owns}/1")).unwrap();
        block_on(lease.release()).unwrap();
    }
}

#[test]
fn a_lease_that_is_dropped_is_released() {
    let backbone = Backbone::start();
    let log = backbone.open();
    drop(register(&log, "orders", &["order"]).unwrap());
    while presence(&log, "orders") != Presence::Released {}
    // What its program appends does not carry it any more.
    append(&log, 1, "note/1").unwrap();
}
