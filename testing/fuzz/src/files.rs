//! The files of a log and of a backup: segments, indexes, the mark and the rest, each with bytes
//! that nobody wrote.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anabranch_env::sim::{self, SimDisk};
use anabranch_log::{Append, Log, Order, ReadMode};
use anabranch_log_segment::{
    Background, Options, SegmentLog, WriteMethod, backup, info, restore, verify,
};
use anabranch_model::{Cut, Event, EventId, EventType, Filter, NewEvent, StreamId};
use futures_executor::block_on;

const LOG: &str = "log";
const BACKUP: &str = "backup";

struct Fixture {
    disk: SimDisk,
    events: Vec<Event>,
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        background: Background::Manual,
        write_method: WriteMethod::Buffered,
        reserve_bytes: 0,
        ..Options::default()
    }
}

/// A log of a few segments, and a backup of it.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (env, disk, _) = sim::env(1);
        let log = SegmentLog::open(env.clone(), LOG, options()).unwrap();
        log.prepare();
        for n in 0..120u64 {
            let stream = StreamId::new(format!("order/{}", n % 23)).unwrap();
            let kind = EventType::new("Placed").unwrap();
            let data = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1_200));
            let event = NewEvent::new(EventId::v7(1_000 + n, 1), stream, kind, data);
            block_on(log.append(Append::event(event.with_tag(format!("n:{n}"))))).unwrap();
            log.prepare();
        }
        let events = read_all(&log);
        log.close().unwrap();
        backup(env, LOG, BACKUP, &mut |_| {}).unwrap();
        Fixture { disk, events }
    })
}

fn read_all(log: &SegmentLog) -> Vec<Event> {
    let mut read = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut events = Vec::new();
    while let Some(Ok(event)) = block_on(read.next()) {
        events.push(event.detach());
    }
    events
}

/// A copy of the fixture with `data` in one file below `dir`: the first byte says in which,
/// the next four where; where they say beyond the end, the file ends there.
fn damaged(dir: &str, data: &[u8]) -> Option<SimDisk> {
    let (&[file, a, b, c, d], bytes) = data.split_first_chunk()?;
    let disk = fixture().disk.fork();
    let files: Vec<(PathBuf, u64)> = (disk.files().into_iter())
        .filter(|(path, _)| path.starts_with(dir))
        .collect();
    let (path, len) = &files[usize::from(file) % files.len()];
    let offset = u64::from(u32::from_le_bytes([a, b, c, d])) % (len + 1);
    let mut content = disk.content(path).unwrap().to_vec();
    let offset = offset as usize;
    if bytes.is_empty() {
        content.truncate(offset);
    } else {
        let end = (offset + bytes.len()).min(content.len());
        content[offset..end].copy_from_slice(&bytes[..end - offset]);
    }
    disk.plant(Path::new(path), &content).unwrap();
    Some(disk)
}

fn only_what_was_written(events: &[Event]) {
    let written = &fixture().events;
    for event in events {
        let at = usize::try_from(event.position.offset).unwrap();
        assert_eq!(Some(event), written.get(at), "an event that nobody wrote");
    }
}

/// A log in which a file has other bytes: it says so, or gives events that were written.
pub fn log_files(data: &[u8]) {
    let Some(disk) = damaged(LOG, data) else {
        return;
    };
    drop(info(disk.env(2), LOG));
    drop(verify(disk.env(2), LOG, &mut |_| {}));
    if let Ok(log) = SegmentLog::open(disk.env(2), LOG, options()) {
        only_what_was_written(&read_all(&log));
        let stream = StreamId::new("order/7").unwrap();
        let mut read = log.read_stream(&stream, anabranch_log::VersionRange::ALL, Order::Backward);
        while let Some(Ok(event)) = block_on(read.next()) {
            only_what_was_written(&[event.detach()]);
        }
        drop(block_on(log.find(EventId::v7(1_007, 1))));
        drop(log.close());
    }
}

/// A backup in which a file has other bytes: it is refused, or gives back what was backed up.
pub fn backup_files(data: &[u8]) {
    let Some(disk) = damaged(BACKUP, data) else {
        return;
    };
    if restore(disk.env(2), BACKUP, "again", &mut |_| {}).is_ok() {
        let log = SegmentLog::open(disk.env(2), "again", options()).unwrap();
        assert_eq!(read_all(&log), fixture().events);
    }
}
