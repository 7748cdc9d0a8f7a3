//! What a network does to connections beside breaking them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog, ReadMode};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
use futures_executor::block_on;

use crate::support::{Fate, Network, Served};

fn event(number: u128) -> NewEvent {
    let stream = StreamId::new("order/1").unwrap();
    let id = EventId::from_u128(number);
    NewEvent::new(id, stream, "OrderPlaced".parse().unwrap(), "{}")
}

/// Writes and follows thirty events through connections with these fates, in turn.
fn works_through(fates: &[Fate]) {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let server = Served::start(log.clone());
    let network = Network::start_with(server.address, fates.to_vec());
    let remote = RemoteLog::open(&network.url(), Options::default()).unwrap();
    let mut follower = remote.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    for number in 1..=30 {
        block_on(remote.append(Append::event(event(number)))).unwrap();
    }
    for number in 1..=30 {
        let seen = block_on(follower.next()).unwrap().unwrap();
        assert_eq!(seen.id, EventId::from_u128(number), "{fates:?}");
    }
    assert_eq!(block_on(log.head()), Ok(Cut::at(30)), "{fates:?}");
}

#[test]
fn writers_and_followers_go_on_when_a_connection_falls_silent_or_only_their_side_of_it_is_there() {
    // Each takes as long as it takes to give up who says nothing.
    let ways = [Fate::FallsSilent(4_000), Fate::HalfOpen(4_000)];
    let running: Vec<_> = ways
        .into_iter()
        .map(|way| thread::spawn(move || works_through(&[way, Fate::Breaks(u64::MAX)])))
        .collect();
    for one in running {
        one.join().unwrap();
    }
}

#[test]
fn what_comes_byte_by_byte_is_understood() {
    works_through(&[Fate::Trickles]);
}

#[test]
fn what_the_network_brings_twice_is_written_once() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
    let server = Served::start(log.clone());
    let network = Network::start_with(server.address, vec![Fate::Twice]);
    let body = r#"{"events":[{"id":"00000000-0000-0000-0000-000000000001","stream":"order/1","type":"T","text":"{}"}]}"#;
    let request = format!(
        "POST /anabranch.log.v1.LogService/Append HTTP/1.1\r\nHost: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    let mut client = TcpStream::connect(network.address).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let read = client.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(client);
    network.repeated.lock().unwrap().recv().unwrap();
    assert_eq!(block_on(log.head()), Ok(Cut::at(1)));
}
