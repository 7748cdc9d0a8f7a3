//! A log of format 1, written by a program of that time (`tests/format-1`), is refused in words
//! that name the command, and carried over with ids, positions, versions and times.

#![expect(
    clippy::disallowed_methods,
    reason = "the test copies files that are data of its own"
)]

mod support;

use std::fs;
use std::path::Path;

use anabranch_env::Env;
use anabranch_log::{Append, Log, OpenError, ReadMode};
use anabranch_log_segment::{SegmentLog, upgrade, verify};
use anabranch_model::{Cut, Event, EventId, EventType, Filter, NewEvent, StreamId};
use futures_executor::block_on;

use support::{TempDir, small};

/// The log of format 1, without the zeros at the ends of its files.
fn old() -> TempDir {
    let dir = TempDir::new();
    fs::create_dir_all(&dir.0).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format-1");
    for name in ["mark", "0000000001.seg", "0000000002.seg"] {
        fs::copy(kept.join(name), dir.0.join(name)).unwrap();
    }
    dir
}

fn read(log: &SegmentLog) -> Vec<Event> {
    let mut stream = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut events = Vec::new();
    while let Some(event) = block_on(stream.next()) {
        events.push(event.unwrap());
    }
    events
}

#[test]
fn a_log_of_format_1_is_refused_in_words_that_name_the_command() {
    let dir = old();
    let writer = SegmentLog::open(Env::os(), &dir.0, small()).err().unwrap();
    let reader = SegmentLog::open_read_only(Env::os(), &dir.0, small());
    for error in [writer, reader.err().unwrap()] {
        assert!(
            matches!(error, OpenError::OlderFormat { found: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("anabranch log upgrade"));
    }
}

#[test]
fn a_log_of_format_1_is_carried_over_with_ids_positions_versions_and_times() {
    let (dir, new) = (old(), TempDir::new());
    let report = upgrade(&Env::os(), &dir.0, &new.0).unwrap();
    assert_eq!((report.events, report.segments), (63, 2));
    let log = SegmentLog::open(Env::os(), &new.0, small()).unwrap();
    let events = read(&log);
    let told = include_str!("format-1/events.jsonl").lines();
    assert_eq!(told.clone().count(), events.len());
    for (line, event) in told.zip(&events) {
        // As the program of that time printed them.
        let micros = event.recorded_at % 1_000_000;
        for part in [
            format!("\"id\":\"{}\"", event.id),
            format!("\"type\":\"{}\"", event.event_type()),
            format!("\"subject\":\"{}\"", event.stream()),
            format!("\"sequence\":\"{}\"", event.version),
            format!("\"position\":\"{}\"", event.position),
            format!(".{micros:06}Z"),
            std::str::from_utf8(event.data()).unwrap().to_owned(),
        ] {
            assert!(line.contains(&part), "{part} in {line}");
        }
    }
    assert_eq!(events[0].meta().tags().collect::<Vec<_>>(), ["customer:7"]);
    assert_eq!(events[0].meta().header("shop"), Some("west"));
    // It goes on where it ended, and knows what it has.
    let first = &events[0];
    let found = block_on(log.find(first.id)).unwrap().unwrap();
    assert_eq!(found.position, first.position);
    let next = NewEvent::new(
        EventId::v7(1, 1),
        StreamId::new("order/3").unwrap(),
        EventType::new("Placed").unwrap(),
        "{}",
    );
    let placed = block_on(log.append(Append::event(next))).unwrap().places[0];
    assert_eq!((placed.position.offset, placed.version), (63, 13));
    log.close().unwrap();
    drop(log);
    let report = verify(Env::os(), &new.0, &mut |_| {}).unwrap();
    assert_eq!(report.damages, []);
}

#[test]
fn an_upgrade_of_a_damaged_log_or_into_a_directory_in_use_is_refused() {
    let (dir, new) = (old(), TempDir::new());
    let path = dir.0.join("0000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 500;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = upgrade(&Env::os(), &dir.0, &new.0).unwrap_err().to_string();
    assert!(error.contains("no good frame of event"), "{error}");
    let (dir, new) = (old(), old());
    let error = upgrade(&Env::os(), &dir.0, &new.0).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}
