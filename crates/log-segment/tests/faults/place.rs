//! `log-directory-deleted-while-writing`: the files of an open log are taken away.

use std::path::Path;

use anabranch_env::Env;
use anabranch_log::{Append, AppendError, Log};
use anabranch_log_segment::{Options, SegmentLog};
use anabranch_model::{EventId, EventType, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use crate::support::TempDir;

fn append(log: &SegmentLog, i: u128) -> Result<u64, AppendError> {
    let event = NewEvent::new(
        EventId::from_u128(i + 1),
        StreamId::new("a/1").unwrap(),
        EventType::new("T").unwrap(),
        "1",
    );
    block_on(log.append(Append::event(event))).map(|done| done.places[0].position.offset)
}

fn open(dir: &Path) -> SegmentLog {
    SegmentLog::open(Env::os(), dir, Options::default()).unwrap()
}

/// A log takes three events, then something happens to its files: from there on no append is
/// acknowledged, and what is the matter is said.
fn nothing_is_acknowledged_after(happens: impl Fn(&Path)) -> SegmentLog {
    let dir = TempDir::new();
    let log = open(&dir.0.join("log"));
    for i in 0..3 {
        append(&log, i).unwrap();
    }
    assert!(log.takes_appends().is_ok());
    happens(&dir.0);
    assert!(log.takes_appends().is_err());
    for i in 3..6 {
        let error = append(&log, i).unwrap_err().to_string();
        assert!(error.contains("removed, moved or replaced"), "{error}");
    }
    assert!(log.close().is_err());
    log
}

#[test]
fn nothing_is_acknowledged_after_the_directory_was_removed() {
    nothing_is_acknowledged_after(|dir| std::fs::remove_dir_all(dir.join("log")).unwrap());
}

#[test]
fn nothing_is_acknowledged_after_the_segment_was_removed() {
    let dir = TempDir::new();
    let log = open(&dir.0);
    append(&log, 0).unwrap();
    std::fs::remove_file(dir.0.join("0000000001.seg")).unwrap();
    for i in 1..3 {
        let error = append(&log, i).unwrap_err().to_string();
        assert!(error.contains("0000000001.seg was removed"), "{error}");
        assert!(log.takes_appends().is_err());
    }
}

#[test]
fn nothing_is_acknowledged_after_the_directory_was_moved() {
    nothing_is_acknowledged_after(|dir| {
        std::fs::rename(dir.join("log"), dir.join("elsewhere")).unwrap();
    });
}

#[test]
fn nothing_is_written_to_another_log_that_was_put_in_the_place() {
    let listed = |dir: &Path| Env::os().disk.list(dir).unwrap();
    nothing_is_acknowledged_after(|dir| {
        std::fs::rename(dir.join("log"), dir.join("elsewhere")).unwrap();
        let other = open(&dir.join("other"));
        append(&other, 77).unwrap();
        other.close().unwrap();
        drop(other);
        let before = listed(&dir.join("other"));
        std::fs::rename(dir.join("other"), dir.join("log")).unwrap();
        assert_eq!(listed(&dir.join("log")), before);
    });
}

#[test]
fn a_log_that_rolls_makes_no_segment_in_another_logs_directory() {
    let dir = TempDir::new();
    let log = open(&dir.0.join("log"));
    append(&log, 0).unwrap();
    std::fs::rename(dir.0.join("log"), dir.0.join("elsewhere")).unwrap();
    let other = open(&dir.0.join("log"));
    append(&other, 77).unwrap();
    other.close().unwrap();
    drop(other);
    let before = Env::os().disk.list(&dir.0.join("log")).unwrap();
    log.prepare();
    assert!(append(&log, 1).is_err());
    log.prepare();
    assert!(log.close().is_err());
    assert_eq!(Env::os().disk.list(&dir.0.join("log")).unwrap(), before);
}

#[test]
fn a_reader_is_told_when_another_log_was_put_in_the_place() {
    let dir = TempDir::new();
    let log = open(&dir.0.join("log"));
    append(&log, 0).unwrap();
    log.close().unwrap();
    let reader =
        SegmentLog::open_read_only(Env::os(), dir.0.join("log"), Options::default()).unwrap();
    assert_eq!(block_on(reader.head()).unwrap().get(PartitionId(0)), 1);
    std::fs::rename(dir.0.join("log"), dir.0.join("elsewhere")).unwrap();
    let other = open(&dir.0.join("log"));
    append(&other, 77).unwrap();
    let error = block_on(reader.head()).unwrap_err().to_string();
    assert!(
        error.contains("another log was put in its place"),
        "{error}"
    );
}

#[test]
fn a_second_writer_is_refused_although_the_lock_file_was_removed() {
    let dir = TempDir::new();
    let log = open(&dir.0);
    append(&log, 0).unwrap();
    std::fs::remove_file(dir.0.join("lock")).unwrap();
    let refused = SegmentLog::open(Env::os(), &dir.0, Options::default());
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("its lock file was removed"), "{error}");
    assert_eq!(append(&log, 1).unwrap(), 1);
}
