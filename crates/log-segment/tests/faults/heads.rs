//! F3: a look-up beside a seal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anabranch_env::Env;
use anabranch_log::{Append, Expect, Log, Order, VersionRange};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use futures_executor::block_on;

use crate::hook::{Hooks, Op, hooked};
use crate::support::TempDir;
use crate::until;

const HOT: u64 = 200;
const FILLER: u64 = 150_000;

fn named(stream: String, ms: u64, n: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(ms, u128::from(n)),
        StreamId::new(stream).unwrap(),
        EventType::new("T").unwrap(),
        "1",
    )
}

fn options(segment: u64) -> Options {
    Options {
        write_method: WriteMethod::Buffered,
        segment_bytes: segment,
        first_segment_bytes: Some(segment),
        background: Background::Manual,
        ..Options::default()
    }
}

fn hot(i: u64) -> StreamId {
    StreamId::new(format!("hot/{i}")).unwrap()
}

/// Leaves a sealed part that knows the hot streams: version 0 of each.
fn begin_with_a_sealed_part(dir: &Path, next: &mut impl FnMut() -> u64) {
    let log = SegmentLog::open(Env::os(), dir, options(64 << 10)).unwrap();
    log.prepare();
    let first = (0..HOT)
        .map(|i| named(format!("hot/{i}"), 1_000, next()))
        .collect::<Vec<_>>();
    block_on(log.append(Append::events(first))).unwrap();
    for _ in 0..4 {
        let fill = (0..800)
            .map(|i| named(format!("fill/{i}"), 1_000, next()))
            .collect::<Vec<_>>();
        block_on(log.append(Append::events(fill))).unwrap();
    }
    while log.step() {}
    log.close().unwrap();
}

/// Goes on to the next, large segment, and gives it versions 1 and 2 of each hot stream, and
/// many others.
fn fill_the_part_that_is_sealed_next(log: &SegmentLog, next: &mut impl FnMut() -> u64) {
    for _ in 0..4 {
        let fill = (0..800)
            .map(|i| named(format!("fill/{i}"), 2_000, next()))
            .collect::<Vec<_>>();
        block_on(log.append(Append::events(fill))).unwrap();
    }
    while log.step() {}
    for _ in 0..2 {
        let more = (0..HOT)
            .map(|i| named(format!("hot/{i}"), 2_000, next()))
            .collect::<Vec<_>>();
        block_on(log.append(Append::events(more))).unwrap();
    }
    for base in (0..FILLER).step_by(1000) {
        let many = (base..base + 1000)
            .map(|i| named(format!("f/{i}"), 2_000, next()))
            .collect::<Vec<_>>();
        block_on(log.append(Append::events(many))).unwrap();
    }
}

/// Lets the look-up wait in the old index until the seal has read its new one. Gives how far
/// they are.
fn hold_up_the_look_up(hooks: &Hooks) -> Arc<AtomicU8> {
    let stage = Arc::new(AtomicU8::new(0));
    let seen = stage.clone();
    hooks.set(move |op, name| {
        let old = name.starts_with("0000000001-");
        if op == Op::Read && old && seen.load(Ordering::SeqCst) == 0 {
            seen.store(1, Ordering::SeqCst);
            let begun = Instant::now();
            while seen.load(Ordering::SeqCst) == 1 && begun.elapsed() < Duration::from_secs(60) {
                std::thread::yield_now();
            }
            // The seal goes on to the cache of heads.
            let begun = Instant::now();
            until(|| begun.elapsed() > Duration::from_millis(80));
        }
        let sealing = op == Op::AfterRead && !old && name.ends_with(".idx");
        if sealing && seen.load(Ordering::SeqCst) == 1 {
            seen.store(2, Ordering::SeqCst);
        }
        Ok(())
    });
    stage
}

fn streams_with_wrong_versions(log: &SegmentLog) -> Vec<(u64, Vec<u64>)> {
    let mut wrong = Vec::new();
    for i in 0..HOT {
        let mut stream = log.read_stream(&hot(i), VersionRange::ALL, Order::Forward);
        let mut versions = Vec::new();
        while let Some(event) = block_on(stream.next()) {
            versions.push(event.unwrap().version);
        }
        if versions != (0..versions.len() as u64).collect::<Vec<_>>() {
            wrong.push((i, versions));
        }
    }
    wrong
}

#[test]
fn versions_stay_dense_while_a_part_is_sealed_beside_a_look_up() {
    let dir = TempDir::new();
    let mut n = 0;
    let mut next = || {
        n += 1;
        n
    };
    begin_with_a_sealed_part(&dir.0, &mut next);
    let segment = 8 << 20;
    let (env, hooks) = hooked(&Env::os());
    let log = Arc::new(SegmentLog::open(env.clone(), &dir.0, options(segment)).unwrap());
    log.prepare();
    fill_the_part_that_is_sealed_next(&log, &mut next);
    // The process dies and starts again: the cache of heads is empty now.
    while log.step() {}
    drop(log);
    let log = Arc::new(SegmentLog::open(env.clone(), &dir.0, options(segment)).unwrap());
    log.prepare();
    // The sealing thread has read the header of the new index file: next it fills the cache
    // of heads. The appending thread is still reading the old index, from a slow disk.
    let stage = hold_up_the_look_up(&hooks);
    // An append on condition that other streams exist, of a client whose clock is a little
    // slow: its id is older than the newest sealed one, so the sealed parts must be asked.
    let mut batch = Append::event(named("other/1".to_owned(), 500, 10_000_000));
    for i in 0..HOT {
        batch = batch.expect(hot(i), Expect::Exists);
    }
    let appender = {
        let log = log.clone();
        std::thread::spawn(move || block_on(log.append(batch)))
    };
    while stage.load(Ordering::SeqCst) == 0 {
        assert!(!appender.is_finished(), "no look-up was needed");
        std::thread::yield_now();
    }
    // Force a roll, so that the large part can be sealed.
    let mut rolls = 0;
    loop {
        let base = 1_000_000 + rolls * 1000;
        let many = (base..base + 1000)
            .map(|i| named(format!("g/{i}"), 3_000, next()))
            .collect::<Vec<_>>();
        block_on(log.append(Append::events(many))).unwrap();
        rolls += 1;
        let begun = Instant::now();
        if log.step() && begun.elapsed() > Duration::from_millis(20) {
            break;
        }
        assert!(rolls < 1000);
    }
    appender.join().unwrap().unwrap();
    hooks.clear();
    // And a condition that does not hold.
    let mut passed = 0;
    for i in 0..HOT / 2 {
        let stale = Append::event(named(format!("hot/{i}"), 4_000, 20_000_000 + i))
            .expect(hot(i), Expect::At(0));
        if block_on(log.append(stale)).is_ok() {
            passed += 1;
        }
    }
    // Each hot stream has the versions 0, 1, 2. One more event for each, whatever its version.
    for i in 0..HOT {
        block_on(log.append(Append::event(named(
            format!("hot/{i}"),
            4_000,
            30_000_000 + i,
        ))))
        .unwrap();
    }
    let wrong = streams_with_wrong_versions(&log);
    assert!(
        wrong.is_empty() && passed == 0,
        "{} streams with wrong versions, {passed} conditions passed",
        wrong.len()
    );
}
