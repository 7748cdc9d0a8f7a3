use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anabranch_env::{Env, sim};
use anabranch_log::{Append, AppendError, Expect, Log, MemoryLog, OpenError, ReadError, ReadMode};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_log_segment::SegmentLog;
use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
use futures_executor::block_on;

use crate::support::Served;

fn event(number: u128) -> NewEvent {
    let stream = StreamId::new("order/1").unwrap();
    NewEvent::new(
        EventId::from_u128(number),
        stream,
        "OrderPlaced".parse().unwrap(),
        format!(r#"{{"number":{number}}}"#),
    )
}

fn memory() -> Arc<dyn Log> {
    Arc::new(MemoryLog::new(Env::os()))
}

/// A log that is asked for no longer than a blink.
fn impatient() -> Options {
    let mut options = Options::default();
    options.patience = Duration::from_millis(200);
    options
}

#[test]
fn writers_and_followers_notice_no_restart_of_the_server() {
    let log = memory();
    let server = Served::start(log.clone());
    let address = server.address;
    let remote = Arc::new(RemoteLog::open(&server.url(), Options::default()).unwrap());
    let mut follower = remote.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    let (say, heard) = mpsc::channel();
    let following = thread::spawn(move || {
        let mut seen = Vec::new();
        while seen.len() < 600 {
            let event = block_on(follower.next()).unwrap().unwrap();
            seen.push(event.id.as_u128());
            say.send(seen.len()).unwrap();
        }
        seen
    });
    let writers: Vec<_> = (0..4_u128)
        .map(|writer| {
            let remote = remote.clone();
            thread::spawn(move || {
                for number in 0..150 {
                    let event = event(1 + writer * 1000 + number);
                    block_on(remote.append(Append::event(event))).unwrap();
                }
            })
        })
        .collect();
    let mut server = Some(server);
    for part in [100, 250, 400] {
        while heard.recv().unwrap() < part {}
        drop(server.take());
        server = Some(Served::start_at(log.clone(), address, 7));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let seen = following.join().unwrap();
    let mut ids = seen.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 600, "each event came once");
}

#[test]
fn another_log_at_the_same_address_gets_nothing_and_gives_nothing() {
    let server = Served::start(memory());
    let address = server.address;
    let remote = RemoteLog::open(&server.url(), Options::default()).unwrap();
    block_on(remote.append(Append::event(event(1)))).unwrap();
    drop(server);
    let other = memory();
    let _server = Served::start_at(other.clone(), address, 8);
    let refused = block_on(remote.append(Append::event(event(2)))).unwrap_err();
    assert!(refused.did_not_happen() || matches!(refused, AppendError::Unknown { .. }));
    assert!(refused.to_string().contains("another log"), "{refused}");
    let mut read = remote.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let refused = block_on(read.next()).unwrap().unwrap_err();
    assert!(refused.to_string().contains("another log"), "{refused}");
    assert_eq!(block_on(other.head()), Ok(Cut::start()));
}

#[test]
fn what_was_never_sent_did_not_happen_when_nobody_answers() {
    let server = Served::start(memory());
    let url = server.url();
    let remote = RemoteLog::open(&url, impatient()).unwrap();
    drop(server);
    let error = block_on(remote.append(Append::event(event(1)))).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
    let error = block_on(remote.head()).unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)), "{error}");
}

#[test]
fn a_log_whose_disk_is_full_takes_nothing_shows_everything_and_goes_on_when_there_is_room() {
    let (mut env, disk, _) = sim::env(1);
    env.clock = Env::os().clock;
    let small = anabranch_log_segment::Options {
        segment_bytes: 64 << 10,
        first_segment_bytes: Some(64 << 10),
        ..Default::default()
    };
    let log = SegmentLog::open(env, Path::new("log"), small).unwrap();
    let server = Served::start(Arc::new(log));
    let remote = RemoteLog::open(&server.url(), impatient()).unwrap();
    let large = |number: u128| {
        let mut event = event(number);
        event.data = format!("\"{}\"", "x".repeat(8_000)).into();
        Append::event(event)
    };
    disk.set_capacity(Some(0));
    let mut taken = 0;
    let refused = loop {
        match block_on(remote.append(large(taken + 1))) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "the disk takes more than there is room for");
    };
    assert!(refused.to_string().contains("full"), "{refused}");
    let shown = || {
        let mut read = remote.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut shown = 0;
        while let Some(event) = block_on(read.next()) {
            shown += 1;
            assert_eq!(event.unwrap().id, EventId::from_u128(shown));
        }
        shown
    };
    assert_eq!(shown(), taken);
    disk.set_capacity(None);
    // It looks for itself whether there is room again.
    while block_on(remote.append(large(taken + 1))).is_err() {}
    assert_eq!(shown(), taken + 1);
}

#[test]
fn a_follower_is_told_when_its_log_is_dropped() {
    let server = Served::start(memory());
    let remote = RemoteLog::open(&server.url(), Options::default()).unwrap();
    let mut follower = remote.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    drop(remote);
    assert_eq!(block_on(follower.next()), Some(Err(ReadError::Closed)));
}

#[test]
fn a_server_that_stops_ends_its_followers_at_once() {
    let server = Served::start(memory());
    let remote = RemoteLog::open(&server.url(), impatient()).unwrap();
    let mut follower = remote.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    block_on(remote.append(Append::event(event(1)))).unwrap();
    block_on(follower.next()).unwrap().unwrap();
    // Ends within the patience of the test, though a follower is there.
    drop(server);
    assert!(matches!(
        block_on(follower.next()),
        Some(Err(ReadError::Unavailable(_)))
    ));
}

#[test]
fn an_address_where_nobody_is_says_so_and_what_to_do() {
    // Bound and given back: nobody is there.
    let free: SocketAddr = Served::start(memory()).address;
    let error = RemoteLog::open(&format!("http://{free}"), Options::default())
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[test]
fn what_is_no_address_of_a_server_is_refused_before_anything_is_sent() {
    for wrong in [
        "http://ada:secret@127.0.0.1:7400",
        "http://127.0.0.1:7400/log",
        "https://ada:secret@127.0.0.1:7400",
        "ftp://127.0.0.1:7400",
        "127.0.0.1:7400",
        "http://",
    ] {
        let error = RemoteLog::open(wrong, Options::default()).err().unwrap();
        assert!(matches!(error, OpenError::Invalid(_)), "{wrong}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_condition_holds_from_afar_and_names_what_is_there() {
    let server = Served::start(memory());
    let remote = RemoteLog::open(&server.url(), Options::default()).unwrap();
    let stream = StreamId::new("order/1").unwrap();
    let first = Append::event(event(1)).expect(stream.clone(), Expect::Empty);
    block_on(remote.append(first)).unwrap();
    let second = Append::event(event(2)).expect(stream.clone(), Expect::Empty);
    let wanted = AppendError::Conflict {
        stream,
        expected: Expect::Empty,
        actual: Some(0),
    };
    assert_eq!(block_on(remote.append(second)), Err(wanted));
}
