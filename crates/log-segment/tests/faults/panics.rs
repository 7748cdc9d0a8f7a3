//! F4: no legal event makes an append panic.

use anabranch_env::Env;
use anabranch_log::{Append, Log, ReadMode};
use anabranch_log_segment::{Options, SegmentLog, verify};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use crate::support::TempDir;

fn event(i: u64) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new("order/1").unwrap(),
        EventType::new("Placed").unwrap(),
        format!("{{\"n\":{i}}}"),
    )
}

#[test]
fn an_event_with_a_thousand_of_the_longest_causes_is_appended() {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, Options::default()).unwrap();
    block_on(log.append(Append::event(event(0)))).unwrap();
    let mut wide = event(1);
    let mut causes = Cut::start();
    for p in 0..1000_u32 {
        causes.set(PartitionId(u32::MAX - p), u64::MAX - u64::from(p));
    }
    wide.meta_mut().causes = causes;
    block_on(log.append(Append::event(wide.clone()))).unwrap();
    block_on(log.append(Append::event(event(2)))).unwrap();
    log.close().unwrap();
    drop(log);
    let report = verify(Env::os(), &dir.0, &mut |_| {}).unwrap();
    assert_eq!(report.damages, []);
    let log = SegmentLog::open(Env::os(), &dir.0, Options::default()).unwrap();
    let mut stream = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut read = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        read.push(event.unwrap());
    }
    assert_eq!(read.len(), 3);
    assert_eq!(
        read[1].meta().decode().unwrap().causes,
        wide.meta_mut().causes
    );
}
