//! The engine on the real disk: what the conformance suite does not ask.

mod support;

use std::future::poll_fn;
use std::path::Path;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anabranch_env::{Env, sim};
use anabranch_log::{Append, Expect, Log, Order, ReadMode, VersionRange};
use anabranch_log_segment::{Background, Options, SegmentLog};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId};
use futures_executor::block_on;
use support::{TempDir, small};

fn event(i: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new(format!("order/{}", i % 10)).unwrap(),
        EventType::new("Placed").unwrap(),
        format!("{{\"n\":{i}}}"),
    )
    .with_tag(format!("third:{}", i % 3))
}

fn numbers(log: &SegmentLog, filter: Filter) -> Vec<u64> {
    let mut stream = log.read(&Cut::start(), filter, ReadMode::ToHead);
    let mut seen = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        let event = event.unwrap();
        assert_eq!(
            event.data(),
            format!("{{\"n\":{}}}", event.position.offset).as_bytes()
        );
        seen.push(event.position.offset);
    }
    seen
}

#[test]
fn events_outlive_many_segments_and_reopenings() {
    let dir = TempDir::new();
    for round in 0..5 {
        let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
        for i in round * 1000..(round + 1) * 1000 {
            let appended = block_on(log.append(Append::event(event(i)))).unwrap();
            assert_eq!(appended.places[0].position.offset, i);
            assert_eq!(appended.places[0].version, i / 10);
        }
        assert_eq!(
            numbers(&log, Filter::all()),
            (0..(round + 1) * 1000).collect::<Vec<_>>()
        );
        log.close().unwrap();
    }
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    let third = Filter {
        tags: vec!["third:1".to_owned()],
        ..Filter::default()
    };
    assert_eq!(
        numbers(&log, third),
        (1..5000).step_by(3).collect::<Vec<_>>()
    );
    let repeat = block_on(log.append(Append::event(event(17)))).unwrap();
    assert!(repeat.repeated);
    assert_eq!(repeat.places[0].position.offset, 17);
    let conflict = Append::event(event(5000)).expect(event(5000).stream, Expect::At(7));
    assert!(block_on(log.append(conflict)).is_err());
    let mut stream = log.read_stream(&event(3).stream, VersionRange(490..500), Order::Backward);
    let mut versions = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        versions.push(event.unwrap().version);
    }
    assert_eq!(versions, (490..500).rev().collect::<Vec<_>>());
    assert_eq!(log.notes(), Vec::<String>::new());
}

/// How many commits 640 appends take that one task makes at once.
fn commits_of_one_task() -> u64 {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, Options::default()).unwrap();
    // The log learns that whoever appends is alone.
    for i in 0..100 {
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    let before = log.stats().commits;
    let mut appends: Vec<_> = (100..740)
        .map(|i| Some(Box::pin(log.append(Append::event(event(i))))))
        .collect();
    block_on(poll_fn(|cx| {
        for slot in &mut appends {
            if let Some(append) = slot
                && let Poll::Ready(appended) = append.as_mut().poll(cx)
            {
                appended.unwrap();
                *slot = None;
            }
        }
        if appends.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    log.stats().commits - before
}

#[test]
fn appends_that_one_task_makes_at_once_are_written_together() {
    // On a busy machine the thread that commits may come before the task has made its next append.
    let mut tries = (0..10).map(|_| commits_of_one_task());
    assert!(
        tries.any(|commits| commits < 120),
        "640 appends of one task are not written together"
    );
}

#[test]
fn a_second_opener_is_told_who_has_the_log() {
    let dir = TempDir::new();
    let _first = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    let refused = SegmentLog::open(Env::os(), &dir.0, small()).err().unwrap();
    assert!(
        refused
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{refused}"
    );
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_durable() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    for i in 0..300 {
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    let reader = SegmentLog::open_read_only(Env::os(), &dir.0, small()).unwrap();
    let seen = numbers(&reader, Filter::all());
    assert!(seen.len() >= 299, "{}", seen.len());
    let mut follow = reader.read(&Cut::at(299), Filter::all(), ReadMode::Follow);
    for i in 300..1300 {
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    for i in 299..1300 {
        let event = block_on(follow.next()).unwrap().unwrap();
        assert_eq!(event.position.offset, i);
    }
}

#[test]
fn a_follower_may_run_before_the_append_that_woke_it_is_answered() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    let mut follow = log.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    let mut cx = Context::from_waker(Waker::noop());
    let mut waited = 0;
    for i in 0..10 {
        let mut append = log.append(Append::event(event(i)));
        // On a runtime of one thread nobody else runs until this one waits. It need not where the
        // log's own thread was at it just then, and woke the follower.
        let answered = append.as_mut().poll(&mut cx);
        let seen = block_on(follow.next()).unwrap().unwrap();
        assert_eq!(seen.position.offset, i);
        match answered {
            Poll::Pending => {
                waited += 1;
                block_on(append).unwrap();
            }
            Poll::Ready(placed) => drop(placed.unwrap()),
        }
    }
    assert!(waited >= 5, "{waited} of 10 appends let the follower run");
}

#[test]
fn what_the_disk_says_again_and_again_is_noted_once_with_its_count() {
    let (env, disk, clock) = sim::env(17);
    let options = Options {
        background: Background::Manual,
        reserve_bytes: 0,
        ..small()
    };
    let log = SegmentLog::open(env, Path::new("/log"), options).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    for _ in 0..3 {
        while log.step() {}
        clock.advance(Duration::from_secs(2));
    }
    assert_eq!(log.notes().len(), 1, "{:?}", log.notes());
    let note = &log.notes()[0];
    assert!(note.contains("disk full"), "{note}");
    assert!(note.ends_with("(3 times)"), "{note}");
}

#[test]
fn a_follower_that_wants_nothing_of_what_there_is_learns_how_far_it_goes() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    for i in 0..1000 {
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    let mut follower = log.read(&Cut::start(), Filter::category("nothing"), ReadMode::Follow);
    let mut reached = 0;
    while reached < 1000 {
        let batch = block_on(follower.next_batch()).unwrap().unwrap();
        assert_eq!(batch.iter().count(), 0);
        let reach = batch.reach().unwrap();
        assert_eq!(reach.offsets.start, reached);
        reached = reach.offsets.end;
    }
    assert_eq!(reached, 1000);
}
