//! F13: how many files a log keeps open.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anabranch_env::sim;
use anabranch_log::{Append, Expect, Log};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod};
use anabranch_model::{EventId, EventType, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use crate::hook::{Op, hooked};

#[test]
fn a_log_of_many_segments_keeps_few_files_open() {
    let (env, _, _) = sim::env(3);
    let (env, hooks) = hooked(&env);
    let open = Arc::new(AtomicI64::new(0));
    let most = Arc::new(AtomicI64::new(0));
    {
        let (open, most) = (open.clone(), most.clone());
        hooks.set(move |op, _| {
            match op {
                Op::Opened => {
                    let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                }
                Op::Closed => {
                    open.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
            Ok(())
        });
    }
    let options = Options {
        write_method: WriteMethod::Buffered,
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        reserve_bytes: 0,
        background: Background::Manual,
        ..Options::default()
    };
    let stream = |i: u64| StreamId::new(format!("s/{i}")).unwrap();
    let event = |i: u64| {
        NewEvent::new(
            EventId::from_u128(u128::from(i) + 1),
            stream(i),
            EventType::new("T").unwrap(),
            format!("\"{}\"", "x".repeat(50_000)),
        )
    };
    let count = 400;
    let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
    for i in 0..count {
        log.prepare();
        block_on(log.append(Append::event(event(i)))).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
    // Each index and each segment is asked.
    for i in 0..count {
        let placed = block_on(log.find(EventId::from_u128(u128::from(i) + 1))).unwrap();
        assert_eq!(placed.unwrap().position.offset, i);
        let again = Append::event(event(count)).expect(stream(i), Expect::Empty);
        assert!(block_on(log.append(again)).is_err());
    }
    let reader = SegmentLog::open_read_only(env, "log", options).unwrap();
    let head = block_on(reader.head()).unwrap();
    assert_eq!(head.get(PartitionId(0)), count);
    let most = most.load(Ordering::SeqCst);
    assert!(most < 300, "{most} files were open at a time");
}
