use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, AppendError, Log, MemoryLog, Rejection};
use anabranch_model::{EventId, NewEvent, StreamId};
use anabranch_runtime::{ManualTime, Time};
use futures_executor::block_on;

use super::{About, Denied, Registry, token};

const LEASE: Duration = Duration::from_secs(10);

fn registry(log: &Arc<dyn Log>, time: &ManualTime) -> Registry {
    Registry::new(log.clone(), Time::manual(time, Env::os().rng))
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
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let time = ManualTime::new();
    let (here, there) = (registry(&log, &time), registry(&log, &time));
    let about = owner_of_orders();
    let first = block_on(here.register("orders", &about, "", LEASE)).unwrap();
    let token = token("orders", first.number, &first.secret);
    let shown = here.show(&[token]);
    block_on(here.append(&shown, placed(1))).unwrap();
    block_on(there.ready()).unwrap();
    time.advance(LEASE);
    block_on(there.register("orders-2", &about, "", LEASE)).unwrap();
    // This server knows nothing of the other one yet.
    let refused = block_on(here.append(&shown, placed(2))).unwrap_err();
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
    block_on(here.register("orders", &about, "", LEASE)).unwrap();
    let refused = block_on(there.register("orders-2", &about, "", LEASE));
    assert!(matches!(refused, Err(Denied::Held(_))));
}

#[test]
fn services_beyond_those_that_are_kept_are_refused() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let here = registry(&log, &ManualTime::new());
    let about = About::default();
    for number in 0..1_024 {
        let name = format!("s{number}");
        block_on(here.register(&name, &about, "", LEASE)).unwrap();
    }
    let refused = block_on(here.register("one-more", &about, "", LEASE));
    assert!(matches!(refused, Err(Denied::Malformed(_))));
    assert_eq!(block_on(here.list()).unwrap().len(), 1_024);
}
