//! Opening again after the process ended at a bad moment.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use anabranch_env::sim;
use anabranch_log::{Append, Log};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod, verify};
use anabranch_model::{EventId, EventType, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

fn event(n: u64, bytes: usize) -> Append {
    Append::event(NewEvent::new(
        EventId::v7(n, 1),
        StreamId::new("order/1").unwrap(),
        EventType::new("Placed").unwrap(),
        format!("\"{}\"", "x".repeat(bytes - 2)),
    ))
}

/// Two appends are sequenced together, the second one into the next segment; then the
/// process is killed. The first opening writes both again, as neither is marked durable.
#[test]
fn a_log_killed_at_a_roll_opens_again_and_again() {
    let options = Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        background: Background::Manual,
        write_method: WriteMethod::Buffered,
        reserve_bytes: 0,
        ..Options::default()
    };
    let (env, disk, _) = sim::env(3);
    let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
    log.prepare();
    block_on(log.append(event(0, 100))).unwrap();
    log.prepare();
    let mut first = pin!(log.append(event(1, 40_000)));
    let mut second = pin!(log.append(event(2, 40_000)));
    let mut done = (false, false);
    block_on(poll_fn(|cx| {
        done.0 = done.0 || first.as_mut().poll(cx).is_ready();
        done.1 = done.1 || second.as_mut().poll(cx).is_ready();
        if done == (true, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    disk.kill();
    for opening in 0..3 {
        let env = disk.env(opening);
        let log = SegmentLog::open(env.clone(), "log", options.clone()).unwrap();
        let head = block_on(log.head()).unwrap().get(PartitionId(0));
        assert_eq!(head, 3, "opening {opening}");
        disk.kill();
        let report = verify(disk.env(9), "log", &mut |_| {}).unwrap();
        assert!(report.is_clean(), "opening {opening}: {report:?}");
    }
}
