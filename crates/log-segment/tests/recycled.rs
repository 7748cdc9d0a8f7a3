//! Frames of another segment, such as a recycled file may hold, do not count.

#![expect(
    clippy::disallowed_methods,
    reason = "this test changes files behind the log's back"
)]

mod support;

use anabranch_env::Env;
use anabranch_log::{Append, Log, OpenError};
#[cfg(feature = "sabotage")]
use anabranch_log_segment::Options;
use anabranch_log_segment::SegmentLog;
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use futures_executor::block_on;

use support::{TempDir, small};

/// The segment that the frame says it belongs to.
const SEGMENT: u64 = 99;

/// Makes a log whose last frame says, under a checksum that holds, that it belongs to
/// another segment.
fn with_foreign_frame() -> TempDir {
    let dir = TempDir::new();
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    for n in 0..5 {
        let event = NewEvent::new(
            EventId::v7(1_000, n),
            StreamId::new("order/1").unwrap(),
            EventType::new("Placed").unwrap(),
            "{}",
        );
        block_on(log.append(Append::event(event))).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let path = dir.0.join("0000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let magic = 0xa7bf_u16.to_le_bytes();
    let last = (8192..bytes.len() - 48)
        .step_by(8)
        .rfind(|&at| bytes[at + 4..at + 6] == magic)
        .unwrap();
    bytes[last + 12..last + 16].copy_from_slice(&(SEGMENT as u32).to_le_bytes());
    let len = u32::from_le_bytes(bytes[last + 8..last + 12].try_into().unwrap()) as usize;
    let body = &bytes[last + 4..last + 48 + len];
    // As the format says; the key stands in the segment's header.
    let hash_key = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let mut place = SEGMENT.to_le_bytes().to_vec();
    place.extend((last as u64).to_le_bytes());
    let secret = xxhash_rust::xxh3::xxh3_64_with_seed(&place, hash_key) as u32;
    let crc = crc32c::crc32c(body) ^ secret;
    bytes[last..last + 4].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    dir
}

#[test]
fn a_frame_of_another_segment_is_no_event_of_this_one() {
    let dir = with_foreign_frame();
    let opened = SegmentLog::open(Env::os(), &dir.0, small());
    assert!(
        matches!(&opened, Err(OpenError::Damaged { what, .. }) if what.contains("4..=4")),
        "{:?}",
        opened.err()
    );
}

/// The planted bug shows that the test above can fail.
#[cfg(feature = "sabotage")]
#[test]
fn without_the_check_a_frame_of_another_segment_is_taken() {
    let dir = with_foreign_frame();
    let options = Options {
        sabotage: Some(anabranch_log_segment::Bug::AcceptRecycledFrame),
        ..small()
    };
    let log = SegmentLog::open(Env::os(), &dir.0, options).unwrap();
    assert_eq!(block_on(log.head()).unwrap().to_string(), "0:5");
}
