//! F6, F7, F8, F12, F16: what a reader sees beside a writer, and without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anabranch_env::Env;
use anabranch_env::sim::{self, Calls, Fault, FaultKind, Survival};
use anabranch_log::{Append, Log, Order, ReadMode, VersionRange};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use crate::hook::{Op, hooked};
use crate::support::TempDir;

fn event(i: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new(format!("order/{}", i % 10)).unwrap(),
        EventType::new("Placed").unwrap(),
        format!("{{\"n\":{i}}}"),
    )
}

fn append(log: &SegmentLog, i: u64) {
    block_on(log.append(Append::event(event(i)))).unwrap();
}

fn buffered() -> Options {
    Options {
        write_method: WriteMethod::Buffered,
        ..Options::default()
    }
}

fn simulated() -> Options {
    Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        reserve_bytes: 0,
        background: Background::Manual,
        ..buffered()
    }
}

/// What a read gives: the data, and the error that ends it.
fn read(log: &SegmentLog, from: u64) -> (Vec<String>, Option<String>) {
    let mut stream = log.read(&Cut::at(from), Filter::all(), ReadMode::ToHead);
    let mut seen = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        match event {
            Ok(event) => seen.push(String::from_utf8_lossy(event.data()).into_owned()),
            Err(error) => return (seen, Some(error.to_string())),
        }
    }
    (seen, None)
}

fn head(log: &SegmentLog) -> u64 {
    block_on(log.head()).unwrap().get(PartitionId(0))
}

#[test]
fn a_reader_that_is_opened_between_two_commits_calls_nothing_damaged() {
    let dir = TempDir::new();
    let log = Arc::new(SegmentLog::open(Env::os(), &dir.0, buffered()).unwrap());
    for i in 0..10 {
        append(&log, i);
    }
    // After each of the reader's reads of a segment in turn, the writer commits twice.
    let mut next = 10;
    for at in 0..12 {
        let (env, hooks) = hooked(&Env::os());
        let reads = AtomicU64::new(0);
        let writer = log.clone();
        let first = next;
        hooks.set(move |op, name| {
            if op == Op::AfterRead
                && name.ends_with(".seg")
                && reads.fetch_add(1, Ordering::SeqCst) == at
            {
                append(&writer, first);
                append(&writer, first + 1);
            }
            Ok(())
        });
        let reader = SegmentLog::open_read_only(env, &dir.0, buffered()).unwrap();
        hooks.clear();
        next = head(&log);
        assert!(reader.notes().is_empty(), "{:?}", reader.notes());
        let (seen, error) = read(&reader, 0);
        assert_eq!((seen.len() as u64, error), (next, None));
    }
    assert!(next > 16, "the writer was at work beside {next} openings");
}

#[test]
fn a_reader_that_polls_does_not_keep_a_writer_out() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, buffered()).unwrap();
    append(&log, 0);
    log.close().unwrap();
    drop(log);
    let over = AtomicBool::new(false);
    let reader = SegmentLog::open_read_only(Env::os(), &dir.0, buffered()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                head(&reader);
                anabranch_log_segment::info(Env::os(), &dir.0).unwrap();
            }
        });
        let refused = (0..20)
            .filter_map(|_| SegmentLog::open(Env::os(), &dir.0, buffered()).err())
            .collect::<Vec<_>>();
        over.store(true, Ordering::Relaxed);
        assert!(
            refused.is_empty(),
            "{} of 20: {}",
            refused.len(),
            refused[0]
        );
    });
}

#[test]
fn an_append_that_failed_is_not_shown_to_a_reader_without_a_writer() {
    let (env, disk, _) = sim::env(5);
    let log = SegmentLog::open(env.clone(), "log", simulated()).unwrap();
    for i in 0..3 {
        append(&log, i);
    }
    disk.inject(Fault::nth(1, Calls::SYNC, FaultKind::LostPages));
    assert!(block_on(log.append(Append::event(event(3)))).is_err());
    log.close().unwrap();
    drop(log);
    let reader = SegmentLog::open_read_only(env.clone(), "log", simulated()).unwrap();
    assert_eq!(head(&reader), 3);
    let (shown, error) = read(&reader, 0);
    assert_eq!((shown.len(), error), (3, None));
    drop(reader);
    // The page cache forgets, as it may.
    disk.evict();
    let log = SegmentLog::open(env, "log", simulated()).unwrap();
    append(&log, 99);
    assert_eq!(read(&log, 0).0[..3], shown);
}

#[test]
fn what_a_reader_saw_after_a_kill_survives_a_power_cut() {
    let (env, disk, _) = sim::env(5);
    let log = SegmentLog::open(env.clone(), "log", simulated()).unwrap();
    for i in 0..3 {
        append(&log, i);
    }
    // At the sync: the write is done.
    disk.strike_at(2);
    drop(block_on(log.append(Append::event(event(3)))));
    drop(log);
    disk.kill();
    let reader = SegmentLog::open_read_only(env.clone(), "log", simulated()).unwrap();
    let (shown, error) = read(&reader, 0);
    // All that was acknowledged, and nothing else.
    assert_eq!((shown.len(), error), (3, None));
    drop(reader);
    disk.crash(Survival::Nothing);
    let log = SegmentLog::open(env, "log", simulated()).unwrap();
    assert_eq!(read(&log, 0).0, shown);
}

/// Flips a bit of the event at `position` in the first segment.
fn rot(disk: &sim::SimDisk, position: u64) {
    let file = std::path::Path::new("log/0000000001.seg");
    let bytes = disk.content(file).unwrap().clone();
    let is_frame = |&at: &usize| {
        bytes[at + 4..at + 6] == 0xa7bf_u16.to_le_bytes()
            && bytes[at + 16..at + 24] == position.to_le_bytes()
    };
    let at = (8192..bytes.len() - 40).step_by(8).find(is_frame).unwrap();
    disk.flip_bit(file, at as u64 + 41, 1).unwrap();
}

#[test]
fn a_reader_beside_a_writer_is_told_of_damage_and_goes_on_behind_it() {
    let (env, disk, _) = sim::env(5);
    let log = SegmentLog::open(env.clone(), "log", simulated()).unwrap();
    for i in 0..3 {
        append(&log, i);
    }
    let reader = SegmentLog::open_read_only(env, "log", simulated()).unwrap();
    assert_eq!(head(&reader), 3);
    let mut follower = reader.read(&Cut::at(3), Filter::all(), ReadMode::Follow);
    for i in 3..300 {
        append(&log, i);
    }
    // Event 4 rots, behind what the reader has seen.
    rot(&disk, 4);
    assert_eq!(head(&reader), 300);
    let (seen, error) = read(&reader, 0);
    assert_eq!(seen.len(), 4);
    assert!(error.unwrap().contains("events 0:4..=0:4 cannot be read"));
    assert_eq!(read(&reader, 5), (read(&log, 5).0, None));
    let notes = reader.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(block_on(follower.next()).unwrap().is_ok());
    assert!(block_on(follower.next()).unwrap().is_err());
}

#[test]
fn a_reader_is_told_when_the_last_event_rots_before_it_was_read() {
    let (env, disk, _) = sim::env(5);
    let log = SegmentLog::open(env.clone(), "log", simulated()).unwrap();
    append(&log, 0);
    let reader = SegmentLog::open_read_only(env, "log", simulated()).unwrap();
    append(&log, 1);
    rot(&disk, 1);
    assert_eq!(head(&reader), 2);
    let (seen, error) = read(&reader, 0);
    assert_eq!(seen.len(), 1);
    assert!(error.unwrap().contains("events 0:1..=0:1 cannot be read"));
    append(&log, 2);
    assert_eq!(head(&reader), 3);
    assert_eq!(read(&reader, 2).0.len(), 1);
}

#[test]
fn the_last_event_of_a_long_stream_is_read_without_the_others() {
    let (env, disk, _) = sim::env(5);
    let options = Options {
        segment_bytes: 8 << 20,
        first_segment_bytes: Some(8 << 20),
        ..simulated()
    };
    let log = SegmentLog::open(env, "log", options).unwrap();
    log.prepare();
    let stream = StreamId::new("long/1").unwrap();
    let of_stream = |i: u64| {
        let id = EventId::from_u128(u128::from(i) + 1);
        NewEvent::new(id, stream.clone(), EventType::new("T").unwrap(), "1")
    };
    for batch in 0..20 {
        let events = (batch * 1_000..(batch + 1) * 1_000).map(of_stream);
        block_on(log.append(Append::events(events.collect::<Vec<_>>()))).unwrap();
    }
    // What stands before is not looked at: it could not be read.
    for position in 0..19 {
        rot(&disk, position * 1_000);
    }
    let versions = |range, order| {
        let mut read = log.read_stream(&stream, range, order);
        let mut versions = Vec::new();
        while let Some(event) = block_on(read.next())
            && let Ok(event) = event
        {
            versions.push(event.version);
            if versions.len() == 500 {
                break;
            }
        }
        versions
    };
    let last = versions(VersionRange::from(19_990), Order::Forward);
    assert_eq!(last, (19_990..20_000).collect::<Vec<_>>());
    let back = versions(VersionRange::ALL, Order::Backward);
    assert_eq!(back, (19_500..20_000).rev().collect::<Vec<_>>());
    let bounded = versions(VersionRange(19_500..19_600), Order::Backward);
    assert_eq!(bounded, (19_500..19_600).rev().collect::<Vec<_>>());
}
