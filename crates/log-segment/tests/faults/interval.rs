//! F9, F10: what `interval` promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_env::Env;
use anabranch_env::sim::{self, Calls, Fault, FaultKind, Survival};
use anabranch_log::{Append, Log};
use anabranch_log_segment::{Background, Durability, Options, SegmentLog, WriteMethod};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use futures_executor::block_on;

use crate::hook::{Op, hooked};
use crate::support::TempDir;
use crate::until;

fn event(i: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new(format!("order/{}", i % 10)).unwrap(),
        EventType::new("Placed").unwrap(),
        format!("{{\"n\":{i}}}"),
    )
}

#[test]
fn what_was_acknowledged_before_the_interval_survives_a_failed_write_and_a_power_cut() {
    let (env, disk, clock) = sim::env(5);
    let options = Options {
        durability: Durability::Interval(Duration::from_millis(100)),
        write_method: WriteMethod::Buffered,
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        reserve_bytes: 0,
        background: Background::Manual,
        ..Options::default()
    };
    let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
    log.prepare();
    for i in 0..5 {
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    // One write fails, once, before the interval is over.
    disk.inject(Fault::nth(1, Calls::WRITE, FaultKind::Io));
    assert!(block_on(log.append(Append::event(event(5)))).is_err());
    disk.clear_faults();
    block_on(log.append(Append::event(event(6)))).unwrap();
    // Ten seconds pass: a hundred intervals.
    for _ in 0..100 {
        clock.advance(Duration::from_millis(100));
        log.prepare();
    }
    drop(log);
    disk.crash(Survival::Nothing);
    let opened = SegmentLog::open(env.clone(), "log", options);
    let read = opened.as_ref().map(|log| {
        let mut stream = log.read(
            &anabranch_model::Cut::start(),
            anabranch_model::Filter::all(),
            anabranch_log::ReadMode::ToHead,
        );
        block_on(stream.next())
            .unwrap()
            .map(|e| e.position)
            .map_err(|e| e.to_string())
    });
    assert!(
        matches!(read, Ok(Ok(_))),
        "events acknowledged 10 s before the power cut, interval 100 ms, are gone"
    );
}

#[test]
fn syncs_and_marks_go_on_while_a_segment_is_written_ahead() {
    let dir = TempDir::new();
    let (env, hooks) = hooked(&Env::os());
    let slow = Arc::new(AtomicBool::new(false));
    let last_sync = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    {
        let (slow, last_sync) = (slow.clone(), last_sync.clone());
        hooks.set(move |op, name| {
            // 20 MB/s, as a busy or spinning disk gives.
            if op == Op::Write && name.starts_with("spare-") {
                slow.store(true, Ordering::SeqCst);
                let now = Instant::now();
                until(|| now.elapsed() > Duration::from_millis(60));
            }
            if op == Op::Sync
                && (name.ends_with(".seg") || name.starts_with("segment-") || name == "mark")
            {
                last_sync.store(begun.elapsed().as_millis() as u64, Ordering::SeqCst);
            }
            Ok(())
        });
    }
    let options = Options {
        durability: Durability::Interval(Duration::from_millis(100)),
        segment_bytes: 64 << 20,
        first_segment_bytes: Some(64 << 20),
        ..Options::default()
    };
    let log = SegmentLog::open(env, &dir.0, options).unwrap();
    let mut worst = 0;
    let mut i = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        block_on(log.append(Append::event(event(i)))).unwrap();
        i += 1;
        let now = Instant::now();
        until(|| now.elapsed() > Duration::from_millis(5));
        if slow.load(Ordering::SeqCst) {
            let now = begun.elapsed().as_millis() as u64;
            worst = worst.max(now - last_sync.load(Ordering::SeqCst));
        }
    }
    hooks.clear();
    assert!(worst < 1_500, "{worst} ms without a sync");
}
