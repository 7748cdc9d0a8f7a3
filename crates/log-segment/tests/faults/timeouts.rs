//! F1, F2, F14: appends whose time is up.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, AppendError, Log, ReadMode};
use anabranch_log_segment::{Options, SegmentLog, WriteMethod};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use futures_executor::block_on;

use crate::hook::{Hooks, Op, hooked};
use crate::support::TempDir;
use crate::until;

fn event(i: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new(format!("order/{i}")).unwrap(),
        EventType::new("Placed").unwrap(),
        "{}",
    )
}

fn options() -> Options {
    Options {
        write_method: WriteMethod::Buffered,
        append_timeout: Duration::from_millis(200),
        ..Options::default()
    }
}

/// A file keeps here the name it was opened by.
fn is_segment(name: &str) -> bool {
    name.ends_with(".seg") || name.starts_with("segment-") || name.starts_with("spare-")
}

const HANGS: u8 = 1;
const HUNG: u8 = 2;
const FAILS: u8 = 3;

/// Lets the syncs of these files hang, until the gate lets them fail or pass.
fn hang(hooks: &Hooks, which: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<AtomicU8> {
    let gate = Arc::new(AtomicU8::new(HANGS));
    let seen = gate.clone();
    hooks.set(move |op, name| {
        if op != Op::Sync || !which(name) {
            return Ok(());
        }
        // In one step: a second thread must not close a gate that was opened meanwhile.
        let _before = seen.compare_exchange(HANGS, HUNG, Ordering::SeqCst, Ordering::SeqCst);
        until(|| seen.load(Ordering::SeqCst) != HUNG);
        match seen.load(Ordering::SeqCst) {
            FAILS => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    });
    gate
}

#[test]
fn a_repeat_of_a_timed_out_append_is_not_acknowledged_before_its_sync() {
    let dir = TempDir::new();
    let (env, hooks) = hooked(&Env::os());
    let log = Arc::new(SegmentLog::open(env, &dir.0, options()).unwrap());
    // On a busy machine the limit is short even for a disk that does not hang.
    until(|| block_on(log.append(Append::event(event(0)))).is_ok());
    let gate = hang(&hooks, is_segment);
    let append = |log: Arc<SegmentLog>| {
        let (tell, told) = mpsc::channel();
        let body = move || tell.send(block_on(log.append(Append::event(event(1)))));
        (std::thread::spawn(body), told)
    };
    let (first, _) = append(log.clone());
    until(|| gate.load(Ordering::SeqCst) == HUNG);
    let (second, told) = append(log.clone());
    let answer = told
        .recv_timeout(Duration::from_secs(30))
        .expect("the repeat is answered when its time is up");
    assert!(
        matches!(answer, Err(AppendError::Unknown { .. })),
        "{answer:?}"
    );
    // Somebody who asks after the first one's time is up learns no more.
    let (third, told) = append(log.clone());
    let answer = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(
        matches!(answer, Err(AppendError::Unknown { .. })),
        "{answer:?}"
    );
    gate.store(FAILS, Ordering::SeqCst);
    for thread in [first, second, third] {
        drop(thread.join().unwrap());
    }
    hooks.clear();
    let mut stream = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut ids = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        ids.push(event.unwrap().id);
    }
    assert_eq!(ids, [event(0).id]);
}

#[test]
fn appends_are_answered_after_their_time_limit_although_the_whole_disk_hangs() {
    let dir = TempDir::new();
    let (env, hooks) = hooked(&Env::os());
    let log = Arc::new(SegmentLog::open(env, &dir.0, options()).unwrap());
    // On a busy machine the limit is short even for a disk that does not hang.
    until(|| block_on(log.append(Append::event(event(0)))).is_ok());
    let gate = hang(&hooks, |_| true);
    let (tell, told) = mpsc::channel();
    let mut threads = Vec::new();
    for i in 1..6 {
        let (log, tell) = (log.clone(), tell.clone());
        threads.push(std::thread::spawn(move || {
            tell.send(block_on(log.append(Append::event(event(i)))))
        }));
    }
    // One of them may be the one that waits for the disk itself.
    for _ in 0..4 {
        let answer = told
            .recv_timeout(Duration::from_secs(30))
            .expect("an append was answered in time");
        assert!(
            matches!(answer, Err(AppendError::Unknown { .. })),
            "{answer:?}"
        );
    }
    gate.store(0, Ordering::SeqCst);
    for thread in threads {
        drop(thread.join().unwrap());
    }
}

#[test]
fn an_append_that_waits_for_room_is_answered_when_its_time_is_up() {
    let dir = TempDir::new();
    let (env, hooks) = hooked(&Env::os());
    let options = Options {
        queue_bytes_max: 1,
        ..options()
    };
    let log = Arc::new(SegmentLog::open(env, &dir.0, options).unwrap());
    // On a busy machine the limit is short even for a disk that does not hang.
    until(|| block_on(log.append(Append::event(event(0)))).is_ok());
    // The upkeep of the log writes ahead in segments too, and holds no room.
    let is_upkeep = || std::thread::current().name() == Some("anabranch-upkeep");
    let gate = hang(&hooks, move |name| is_segment(name) && !is_upkeep());
    let leader = {
        let log = log.clone();
        std::thread::spawn(move || drop(block_on(log.append(Append::event(event(1))))))
    };
    until(|| gate.load(Ordering::SeqCst) == HUNG);
    let (tell, told) = mpsc::channel();
    let waits = {
        let log = log.clone();
        std::thread::spawn(move || tell.send(block_on(log.append(Append::event(event(2))))))
    };
    let answer = told.recv_timeout(Duration::from_secs(30));
    // Before anything is asserted: a log whose disk hangs never closes.
    gate.store(0, Ordering::SeqCst);
    let answer = answer.expect("it is answered");
    assert!(
        matches!(answer, Err(AppendError::Unavailable { .. })),
        "nothing was written: {answer:?}"
    );
    leader.join().unwrap();
    drop(waits.join().unwrap());
}
