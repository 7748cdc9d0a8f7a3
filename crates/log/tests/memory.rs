//! What the log in memory promises beyond the contract.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_env::{Clock, Env};
use anabranch_log::{Append, Log, MemoryLog, ReadMode};
use anabranch_model::{Cut, EventId, Filter, NewEvent};
use futures_executor::block_on;

fn event(n: u128) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(n),
        "order/1".parse().expect("a stream id"),
        "OrderPlaced".parse().expect("an event type"),
        "{}",
    )
}

fn ids(log: &MemoryLog) -> Vec<u128> {
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut ids = Vec::new();
    while let Some(event) = block_on(events.next()) {
        ids.push(event.expect("the log reads").id.as_u128());
    }
    ids
}

/// A clock that can be told to panic.
#[derive(Default)]
struct Faulty(AtomicBool);

impl Clock for Faulty {
    fn wall_micros(&self) -> u64 {
        assert!(!self.0.load(Ordering::Relaxed), "the clock fell down");
        7
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn a_panic_inside_an_append_takes_nothing_down() {
    let clock = Arc::new(Faulty::default());
    let mut env = Env::os();
    env.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let log = MemoryLog::new(env);
    block_on(log.append(Append::event(event(1)))).expect("the clock works");

    clock.0.store(true, Ordering::Relaxed);
    let append = || block_on(log.append(Append::event(event(2))));
    assert!(catch_unwind(AssertUnwindSafe(append)).is_err());
    assert_eq!(ids(&log), [1], "the append that panicked did not happen");

    clock.0.store(false, Ordering::Relaxed);
    block_on(log.append(Append::event(event(2)))).expect("the log goes on");
    assert_eq!(ids(&log), [1, 2]);
}

#[test]
fn the_recorded_time_is_the_clocks() {
    let mut env = Env::os();
    env.clock = Arc::new(Faulty::default());
    let log = MemoryLog::new(env);
    block_on(log.append(Append::event(event(1)))).expect("the clock works");
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let event = block_on(events.next()).expect("one event");
    assert_eq!(event.expect("the log reads").recorded_at, 7);
}

#[test]
fn clones_are_handles_to_one_log() {
    let log = MemoryLog::new(Env::os());
    block_on(log.clone().append(Append::event(event(1)))).expect("nothing stands against it");
    assert_eq!(ids(&log), [1]);
}

#[test]
fn events_read_twice_share_their_memory() {
    let log = MemoryLog::new(Env::os());
    block_on(log.append(Append::event(event(1)))).expect("nothing stands against it");
    let read = || {
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let event = block_on(events.next()).expect("one event");
        event.expect("the log reads")
    };
    let [a, b] = [read(), read()];
    assert_eq!(a.data().as_ptr(), b.data().as_ptr());
}
