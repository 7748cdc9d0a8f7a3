//! Clients that read by RPC and take nothing of what comes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Log,
    MemoryLog, Order, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{Cut, EventBatch, EventId, Filter, NewEvent, StreamId};
use anabranch_runtime::Time;
use bytes::Bytes;
use futures_executor::block_on;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::support::Served;

const READERS: usize = 64;
const EVENTS: usize = 1024;
/// So many in each append. A larger one goes in one message, which is taken whole.
const APPEND: usize = 4;
const EVENT_BYTES: usize = 16 << 10;

/// What the server may have taken from the log for a reader that takes nothing, and for the connection of all:
/// what the system's sockets hold is in it.
const READER_BYTES: usize = 768 << 10;
const CONNECTION_BYTES: usize = 16 << 20;

/// A log that knows how many follow it, and how many bytes of data they have got.
struct Counting {
    log: MemoryLog,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    followers: AtomicUsize,
    bytes: AtomicUsize,
}

struct Counted {
    events: EventStream,
    counts: Arc<Counts>,
}

impl BatchSource for Counted {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let next = pin!(self.events.next_batch()).poll(cx);
        if let Poll::Ready(Some(Ok(batch))) = &next {
            let bytes = batch.iter().map(|event| event.unwrap().data.len());
            self.counts.bytes.fetch_add(bytes.sum(), Ordering::Relaxed);
        }
        next
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Log for Counting {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.log.append(append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let events = self.log.read(from, filter, mode);
        if mode != ReadMode::Follow {
            return events;
        }
        let counts = self.counts.clone();
        counts.followers.fetch_add(1, Ordering::Relaxed);
        EventStream::new(Counted { events, counts })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

/// A call of `Read` that follows.
fn follow(server: &Served) -> Request<Full<Bytes>> {
    let message = br#"{"mode":"READ_MODE_FOLLOW"}"#;
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    let url = format!("{}/anabranch.log.v1.LogService/Read", server.url());
    let request = Request::post(url).header("content-type", "application/connect+json");
    request.body(Full::new(framed.into())).unwrap()
}

fn events(first: usize) -> Append {
    let data: Bytes = format!("\"{}\"", "x".repeat(EVENT_BYTES)).into();
    let event = |number: usize| {
        let stream = StreamId::new("order/1").unwrap();
        let id = EventId::from_u128(number as u128);
        NewEvent::new(id, stream, "OrderPlaced".parse().unwrap(), data.clone())
    };
    Append::events((first..first + APPEND).map(event).collect::<Vec<_>>())
}

/// Asks the server something again and again until this has been so for a while: by then it has done all
/// else that it could.
fn until_settled(other: &RemoteLog, mut value: impl FnMut() -> usize) -> usize {
    let mut last = value();
    let mut same = 0;
    while same < 200 {
        block_on(other.head()).unwrap();
        let now = value();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

#[test]
fn readers_that_take_nothing_cost_a_bounded_buffer_each_and_hold_up_nobody() {
    let counts = Arc::new(Counts::default());
    let log = Arc::new(Counting {
        log: MemoryLog::new(Env::os()),
        counts: counts.clone(),
    });
    let (time, address) = (Time::of(&Env::os()), "127.0.0.1:0".parse().unwrap());
    let server = Served::start_with(log, address, 7, time, |server| {
        server.readers_max(READERS + 1)
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let stuck = runtime.block_on(async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut client = http2::Builder::new(TokioExecutor::new());
        // As if it had room for all there is.
        client.initial_stream_window_size(1 << 30);
        client.initial_connection_window_size(1 << 30);
        let (mut calls, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
        let mut connection = Box::pin(connection);
        let mut begun = Vec::new();
        for _ in 0..READERS {
            let call = calls.send_request(follow(&server));
            tokio::select! {
                answer = call => begun.push(answer.unwrap()),
                _ = &mut connection => panic!("the connection has ended"),
            }
            assert_eq!(begun.last().unwrap().status(), 200);
        }
        // From now on nobody looks at the socket.
        (calls, connection, begun)
    });
    assert_eq!(counts.followers.load(Ordering::Relaxed), READERS);
    let other = RemoteLog::open(&server.url(), Options::default()).unwrap();
    for first in (0..EVENTS).step_by(APPEND) {
        block_on(other.append(events(first))).unwrap();
    }
    let mut read = other.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    for _ in 0..EVENTS {
        block_on(read.next()).unwrap().unwrap();
    }
    let taken = until_settled(&other, || counts.bytes.load(Ordering::Relaxed));
    println!("{} KiB for each of {READERS}", taken / READERS / 1024);
    assert!(
        taken <= READERS * READER_BYTES + CONNECTION_BYTES,
        "{taken} bytes for {READERS} readers"
    );
    let mut follows = other.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    block_on(follows.next()).unwrap().unwrap();
    // Their connection ends, and with it all that was held for them.
    drop((stuck, runtime));
    for asked in 0.. {
        if counts.followers.load(Ordering::Relaxed) <= 1 {
            break;
        }
        assert!(asked < 10_000, "they are still there");
        block_on(other.head()).unwrap();
    }
}
