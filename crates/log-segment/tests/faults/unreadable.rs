//! F17: an event that is there and cannot be read.

use anabranch_env::sim::{self, Calls, Fault, FaultKind};
use anabranch_log::{Append, AppendError, Log};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use futures_executor::block_on;

#[test]
fn an_event_that_is_there_and_cannot_be_read_is_not_answered_as_not_written() {
    // With its index in memory, and in a file.
    for size in [10, 50_000] {
        let (env, disk, _) = sim::env(5);
        let options = Options {
            write_method: WriteMethod::Buffered,
            segment_bytes: 64 << 10,
            first_segment_bytes: Some(64 << 10),
            reserve_bytes: 0,
            background: Background::Manual,
            ..Options::default()
        };
        let log = SegmentLog::open(env, "log", options).unwrap();
        let append = |i: u64| {
            let event = NewEvent::new(
                EventId::v7(1_000 + i, u128::from(i)),
                StreamId::new("order/1").unwrap(),
                EventType::new("Placed").unwrap(),
                vec![b'7'; size],
            );
            block_on(log.append(Append::event(event)))
        };
        for i in 0..5 {
            log.prepare();
            append(i).unwrap();
        }
        log.prepare();
        disk.inject(Fault::every(Calls::READ, FaultKind::Io));
        let repeat = append(1);
        assert!(
            matches!(repeat, Err(AppendError::Unknown { .. })),
            "{size}: {repeat:?}"
        );
        disk.clear_faults();
        assert!(append(1).unwrap().repeated);
    }
}
