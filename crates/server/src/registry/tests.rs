use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Principal, Scopes};
use anabranch_env::{Env, SplitMix64};
use anabranch_log::{
    Append, AppendError, Layout, Log, MemoryLog, PartitionedLog, ReadMode, Rejection,
};
use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
use anabranch_runtime::{ManualTime, Time};
use futures_executor::block_on;

use super::registrar::Granted;
use super::{About, Denied, Registry, State, token};

const LEASE: Duration = Duration::from_secs(10);

fn registry(log: &Arc<dyn Log>, time: &ManualTime) -> Registry {
    Registry::new(
        log.clone(),
        Arc::default(),
        Time::manual(time, Env::os().rng),
    )
}

fn owner_of_orders() -> About {
    About {
        owns: ["order".to_owned()].into(),
        ..About::default()
    }
}

fn placed(number: u128) -> Append {
    let stream = StreamId::new("order/1").unwrap();
    let id = EventId::from_u128(number);
    Append::event(NewEvent::new(id, stream, "T".parse().unwrap(), "{}"))
}

#[test]
fn an_owner_that_another_server_has_replaced_is_refused_by_the_log_itself() {
    a_replaced_owner_is_refused(Arc::new(MemoryLog::new(Env::os())));
}

#[test]
fn an_owner_that_was_replaced_is_refused_by_a_log_whose_fence_stands_in_another_partition() {
    let layout = Layout::new(Vec::new(), 4).unwrap();
    let order = placed(1).events[0].stream.clone();
    assert_ne!(
        layout.partition_of(&order).0,
        0,
        "fences stand in partition 0"
    );
    a_replaced_owner_is_refused(Arc::new(PartitionedLog::in_memory(&Env::os(), layout)));
}

fn a_replaced_owner_is_refused(log: Arc<dyn Log>) {
    let time = ManualTime::new();
    let (here, there) = (registry(&log, &time), registry(&log, &time));
    let about = owner_of_orders();
    let first = block_on(here.register("orders", &about, "", LEASE, &Caller::Anybody)).unwrap();
    let token = token("orders", first.number, &first.secret);
    let shown = here.show(&[token]);
    block_on(here.append(&shown, placed(1), &|_| true)).unwrap();
    block_on(there.ready()).unwrap();
    time.advance(LEASE);
    block_on(there.register("orders-2", &about, "", LEASE, &Caller::Anybody)).unwrap();
    // This server knows nothing of the other one yet.
    let refused = block_on(here.append(&shown, placed(2), &|_| true)).unwrap_err();
    assert!(
        matches!(refused, AppendError::Rejected(Rejection::NotOwner { .. })),
        "{refused}"
    );
    assert_eq!(block_on(log.find(EventId::from_u128(2))), Ok(None));
}

#[test]
fn of_two_servers_that_register_two_owners_at_once_one_learns_of_the_other() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let time = ManualTime::new();
    let (here, there) = (registry(&log, &time), registry(&log, &time));
    block_on(here.ready()).unwrap();
    block_on(there.ready()).unwrap();
    let about = owner_of_orders();
    block_on(here.register("orders", &about, "", LEASE, &Caller::Anybody)).unwrap();
    let refused = block_on(there.register("orders-2", &about, "", LEASE, &Caller::Anybody));
    assert!(matches!(refused, Err(Denied::Held(_))));
}

/// Whoever holds this key, which may append to one category.
fn holder(key: &str, category: &str) -> Caller {
    let scope = format!("append:{category}");
    Caller::Known(Arc::new(Principal {
        name: key.to_owned(),
        key: key.to_owned(),
        scopes: Scopes::parse([&*scope]).unwrap(),
        until: None,
    }))
}

#[test]
fn of_two_that_take_one_name_at_once_who_may_not_have_what_the_other_brought_does_not_get_it() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let time = ManualTime::new();
    let (here, there) = (registry(&log, &time), registry(&log, &time));
    // For all that this server knows nobody has the name.
    block_on(here.ready()).unwrap();
    let owner = holder("its-own", "order");
    let about = owner_of_orders();
    let first = block_on(there.register("orders", &about, "", LEASE, &owner)).unwrap();
    let token = token("orders", first.number, &first.secret);
    block_on(there.release(&token, false)).unwrap();
    let thief = holder("another", "bill");
    let nothing = About::default();
    let taken = block_on(here.register("orders", &nothing, "", LEASE, &thief));
    let Err(Denied::Private(why)) = taken.map(|_| ()) else {
        panic!("it has the name");
    };
    assert!(why.contains("append:order"), "{why}");
    let key = block_on(here.list()).unwrap().remove(0).key;
    assert_eq!(key.as_deref(), Some("its-own"));
}

#[test]
fn services_beyond_those_that_are_kept_are_refused() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let here = registry(&log, &ManualTime::new());
    let about = About::default();
    for number in 0..1_024 {
        let name = format!("s{number}");
        block_on(here.register(&name, &about, "", LEASE, &Caller::Anybody)).unwrap();
    }
    let refused = block_on(here.register("one-more", &about, "", LEASE, &Caller::Anybody));
    assert!(matches!(refused, Err(Denied::Malformed(_))));
    assert_eq!(block_on(here.list()).unwrap().len(), 1_024);
}

#[test]
fn a_wall_clock_that_jumps_ends_no_lease() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let time = ManualTime::new();
    let here = registry(&log, &time);
    block_on(here.register("orders", &owner_of_orders(), "", LEASE, &Caller::Anybody)).unwrap();
    for hours in [48, 1, 24] {
        let wall = 1_767_225_600_000_000 + hours * 3_600_000_000;
        time.set_wall(anabranch_domain::Timestamp::from_micros(wall));
        let known = block_on(here.list()).unwrap();
        assert_eq!(known[0].state, State::Held(LEASE));
    }
}

/// Services, servers that know little of each other, and time, at random. What the log holds is
/// judged by the log alone: who wrote each event says so in its data.
#[test]
fn whatever_happens_each_event_was_written_by_the_owner_of_its_moment() {
    let (mut written, mut refused, mut owners) = (0, 0, 0);
    for seed in 0..150 {
        let mut dice = SplitMix64::new(seed);
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let time = ManualTime::new();
        let mut servers = [registry(&log, &time), registry(&log, &time)];
        let about = owner_of_orders();
        block_on(servers[0].register("s0", &about, &secret(0), LEASE, &Caller::Anybody)).unwrap();
        // The tokens that anybody has ever got: paused processes keep theirs.
        let mut tokens = vec![(String::new(), String::new())];
        for step in 0..60 {
            let server = &servers[dice.below(2) as usize];
            let (author, token) = tokens[dice.below(tokens.len() as u64) as usize].clone();
            match dice.below(10) {
                0 | 1 => {
                    let service = dice.below(3);
                    let name = format!("s{service}");
                    let secret = secret(service);
                    let granted = server.register(&name, &about, &secret, LEASE, &Caller::Anybody);
                    if let Ok(granted) = block_on(granted) {
                        let author = format!("{name}:{}", granted.number);
                        tokens.push((author, token_of(&name, &granted)));
                    }
                }
                2 => time.advance(Duration::from_secs(dice.below(15))),
                3 => drop(block_on(server.renew(&token))),
                4 => drop(block_on(server.release(&token, false))),
                5 => servers[dice.below(2) as usize] = registry(&log, &time),
                _ => {
                    block_on(server.ready()).unwrap();
                    let shown = server.show(&[token]);
                    let append = by(u128::from(seed) << 64 | step, &author);
                    match block_on(server.append(&shown, append, &|_| true)) {
                        Ok(_) => written += 1,
                        Err(_) => refused += 1,
                    }
                }
            }
        }
        owners += check_owners(&*log);
    }
    assert!(
        written > 100 && refused > 100 && owners > 100,
        "{written} {refused} {owners}"
    );
}

fn secret(service: u64) -> String {
    format!("{service:032}")
}

fn token_of(name: &str, granted: &Granted) -> String {
    token(name, granted.number, &granted.secret)
}

/// An event of the owned category whose data names its author.
fn by(number: u128, author: &str) -> Append {
    let mut append = placed(number + 1);
    append.events[0].data = format!("\"{author}\"").into();
    append
}

/// Reads the log from its start, and how many owners there were.
fn check_owners(log: &dyn Log) -> usize {
    let (mut owner, mut owners) = (String::new(), 0);
    let mut read = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(event) = block_on(read.next()) {
        let event = event.unwrap();
        let data: serde_json::Value = serde_json::from_slice(event.data()).unwrap();
        match event.stream() {
            "$owner/order" => {
                owner = format!("{}:{}", data["service"].as_str().unwrap(), data["lease"]);
                owners += 1;
            }
            "order/1" => assert_eq!(data, owner, "at {}", event.position),
            _ => {}
        }
    }
    owners
}
