//! F5: a payload that holds what would pass for a frame if no secret were in its checksum.

use anabranch_env::sim;
use anabranch_log::{Append, Log, ReadError, ReadMode};
use anabranch_log_segment::{Background, Options, SegmentLog, WriteMethod, plan_repair};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, StreamId, record};
use futures_executor::block_on;

const HEADER: usize = 48;
const MAGIC: [u8; 2] = 0xa7bf_u16.to_le_bytes();

fn options() -> Options {
    Options {
        write_method: WriteMethod::Buffered,
        segment_bytes: 256 << 10,
        first_segment_bytes: Some(256 << 10),
        reserve_bytes: 0,
        background: Background::Manual,
        ..Options::default()
    }
}

fn event(i: u64, data: impl Into<bytes::Bytes>) -> NewEvent {
    NewEvent::new(
        EventId::v7(1_000 + i, u128::from(i)),
        StreamId::new("customer/mallory").unwrap(),
        EventType::new("NoteTaken").unwrap(),
        data,
    )
}

/// What anybody can compute who does not know the log's key.
fn frame(segment: u32, first: u64, durable: u64) -> Vec<u8> {
    let forged = NewEvent::new(
        EventId::v7(77, 77),
        StreamId::new("account/bank").unwrap(),
        EventType::new("MoneyDeposited").unwrap(),
        "{\"to\":\"mallory\",\"eur\":1000000}",
    );
    let mut out = vec![0; HEADER];
    record::encode(&mut out, &[forged], &[0]);
    let body = (out.len() - HEADER) as u32;
    out[4..6].copy_from_slice(&MAGIC);
    out[6..8].copy_from_slice(&1_u16.to_le_bytes());
    out[8..12].copy_from_slice(&body.to_le_bytes());
    out[12..16].copy_from_slice(&segment.to_le_bytes());
    out[16..24].copy_from_slice(&first.to_le_bytes());
    out[24..32].copy_from_slice(&durable.to_le_bytes());
    out[32..40].copy_from_slice(&1_u64.to_le_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[0..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The frame at each of the eight alignments, so that one of them fits; as text that is no
/// JSON, for which the content type is another.
fn hostile(i: u64, segment: u32, first: u64, durable: u64) -> NewEvent {
    let mut data = vec![b' '; 4096];
    let one = frame(segment, first, durable);
    for shift in 0..8 {
        let pad = (shift + 8 - data.len() % 8) % 8;
        data.extend(std::iter::repeat_n(b' ', pad));
        data.extend_from_slice(&one);
        data.extend_from_slice(&[b' '; 8]);
    }
    let mut event = event(i, data);
    event.meta_mut().content_type = Some("application/octet-stream".to_owned());
    event
}

fn read_all(log: &SegmentLog) -> Vec<String> {
    let mut seen = Vec::new();
    let mut from = 0;
    'again: loop {
        let mut stream = log.read(&Cut::at(from), Filter::all(), ReadMode::ToHead);
        while let Some(event) = block_on(stream.next()) {
            match event {
                Ok(event) => {
                    seen.push(event.stream().to_owned());
                }
                Err(ReadError::Damaged { last, .. }) => {
                    from = last.offset + 1;
                    continue 'again;
                }
                Err(other) => panic!("{other}"),
            }
        }
        return seen;
    }
}

const FILE: &str = "log/0000000001.seg";

#[test]
fn a_torn_tail_with_a_frame_in_its_payload_is_cut_as_any_other() {
    for durable in [10, 1_000_000_000_000] {
        let (env, disk, _) = sim::env(3);
        let log = SegmentLog::open(env.clone(), "log", options()).unwrap();
        for i in 0..10 {
            block_on(log.append(Append::event(event(i, "{}")))).unwrap();
        }
        // The power is cut in the middle of an append. Of its sectors all reach the disk but
        // the first.
        let before = disk.content(FILE.as_ref()).unwrap().clone();
        disk.strike_at(2);
        let torn = hostile(10, 1, 11.max(durable), durable);
        drop(block_on(log.append(Append::event(torn))));
        drop(log);
        let after = disk.content(FILE.as_ref()).unwrap().clone();
        let begin = before.iter().zip(after.iter()).position(|(a, b)| a != b);
        disk.kill();
        disk.clear_faults();
        let sector = begin.unwrap() / 512 * 512;
        disk.overwrite(FILE.as_ref(), sector as u64, &before[sector..sector + 512])
            .unwrap();
        let log = SegmentLog::open(env.clone(), "log", options()).unwrap();
        assert_eq!(read_all(&log).len(), 10);
    }
}

#[test]
fn rot_in_a_payload_never_gives_events_that_nobody_wrote() {
    let (env, disk, _) = sim::env(3);
    let log = SegmentLog::open(env.clone(), "log", options()).unwrap();
    for i in 0..10 {
        block_on(log.append(Append::event(event(i, "{}")))).unwrap();
    }
    block_on(log.append(Append::event(hostile(10, 1, 11, 10)))).unwrap();
    for i in 11..13 {
        block_on(log.append(Append::event(event(i, "{}")))).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let bytes = disk.content(FILE.as_ref()).unwrap().clone();
    let at = (8192..bytes.len() - HEADER)
        .step_by(8)
        .find(|&at| {
            bytes[at + 4..at + 6] == MAGIC && bytes[at + 16..at + 24] == 10_u64.to_le_bytes()
        })
        .unwrap();
    disk.flip_bit(FILE.as_ref(), at as u64 + 33, 1).unwrap();
    let reader = SegmentLog::open_read_only(env.clone(), "log", options()).unwrap();
    let seen = read_all(&reader);
    drop(reader);
    plan_repair(env.clone(), "log")
        .unwrap()
        .apply(env.clone())
        .unwrap();
    let log = SegmentLog::open(env.clone(), "log", options()).unwrap();
    let mended = read_all(&log);
    assert_eq!((seen.len(), mended.len()), (12, 13), "{mended:?}");
    assert!(!seen.iter().chain(&mended).any(|s| s == "account/bank"));
}
