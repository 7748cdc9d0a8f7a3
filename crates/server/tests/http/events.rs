//! Live reads by plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Log,
    MemoryLog, Order, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventBatch, EventId, Filter, NewEvent, StreamId, to_cloud_event};
use anabranch_runtime::{EntityOptions, Fleet, ManualTime, Time};
use anabranch_server::client::Client;
use anabranch_server::{Server, TOKEN_HEADER};
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};

use crate::reader::Reader;
use crate::support::{Bank, Timeless, good, problem, seal};

async fn read(bank: &Bank, path: &str, headers: &[(&str, &str)]) -> Reader {
    Reader::open(&bank.client.address(), path, headers).await
}

#[tokio::test]
async fn events_are_cloud_events_and_come_as_they_are_appended() {
    let bank = Bank::with(1).await;
    let mut reader = read(&bank, "/events", &[]).await;
    assert_eq!(reader.status, 200);
    assert_eq!(reader.headers["content-type"], "text/event-stream");
    for amount in 2..5 {
        let sent = reader.event().await.unwrap();
        let mut stored = bank
            .log
            .read(&Cut::at(amount - 2), Filter::all(), ReadMode::ToHead);
        let stored = stored.next().await.unwrap().unwrap();
        assert_eq!(sent.data, to_cloud_event(&stored.as_ref()).ok());
        // The reader waits for what is appended now.
        good(&bank.deposit("a", amount).await);
    }
}

#[tokio::test]
async fn a_reader_that_comes_again_misses_nothing_and_gets_nothing_twice() {
    let bank = Bank::with(6).await;
    let path = "/events?category=account&until=head";
    let mut ids = Vec::new();
    let mut reader = read(&bank, path, &[]).await;
    while let Some(sent) = reader.event().await {
        ids.extend((sent.name == "message").then_some(sent.id));
    }
    assert_eq!(ids.len(), 6);
    for (read_before, id) in ids.iter().enumerate() {
        let id = id.as_deref().unwrap();
        let rest: Vec<_> = (read_before + 1..6).map(|at| format!("0:{at}")).collect();
        // A browser asks as it did at first, and says the id beside it.
        let path = format!("{path}&from=0:0");
        let mut again = read(&bank, &path, &[("last-event-id", id)]).await;
        assert_eq!(again.positions().await, rest);
        let path = format!("/events?until=head&from={id}");
        assert_eq!(read(&bank, &path, &[]).await.positions().await, rest);
    }
}

#[tokio::test]
async fn a_reader_to_the_head_is_told_that_it_is_there_and_not_to_come_again() {
    let bank = Bank::with(2).await;
    let mut reader = read(&bank, "/events?until=head&from=0:1", &[]).await;
    assert_eq!(reader.event().await.unwrap().json()["position"], "0:1");
    let head = reader.event().await.unwrap();
    assert_eq!((&*head.name, head.data.as_deref()), ("head", Some("0:2")));
    assert_eq!(reader.any().await, None);
    // Also if nothing that it wants is there.
    let mut none = read(&bank, "/events?until=head&type=Nothing", &[]).await;
    assert_eq!(none.event().await.unwrap().data.as_deref(), Some("0:2"));
    let again = [("last-event-id", head.id())];
    assert_eq!(read(&bank, "/events?until=head", &again).await.status, 204);
}

#[tokio::test]
async fn the_id_of_an_event_is_a_token_with_which_a_view_shows_it() {
    let bank = Bank::with(0).await;
    let mut reader = read(&bank, "/events", &[]).await;
    good(&bank.deposit("a", 5).await);
    let sent = reader.event().await.unwrap();
    let seen = [(TOKEN_HEADER, sent.id())];
    let path = "/views/balances/of?account=account/a";
    assert_eq!(good(&bank.get_with(path, &seen).await)["value"], 5);
}

#[tokio::test]
async fn only_events_that_are_wanted_come() {
    let bank = Bank::with(1).await;
    good(&bank.deposit("b", 2).await);
    let story = good(&bank.post("/commands/account/a?type=Close", "").await);
    let tagged = NewEvent::new(
        EventId::from_u128(1),
        "till/1".parse().unwrap(),
        "Opened".parse().unwrap(),
        "{}",
    );
    let tagged = tagged.with_tag("day:monday").with_header("shop", "x");
    bank.log.append(Append::event(tagged)).await.unwrap();
    let story = story["command"].as_str().unwrap();
    let cases: [(&str, &[&str]); 9] = [
        ("category=till", &["Opened"]),
        (
            "category=till&category=account&type=Opened&type=Closed",
            &["Closed", "Opened"],
        ),
        ("stream=account/b", &["Deposited"]),
        ("tag=day:monday", &["Opened"]),
        ("tag=day:monday&tag=day:tuesday", &[]),
        ("header=shop=x", &["Opened"]),
        (
            &format!("correlation={story}&category=account"),
            &["Closed"],
        ),
        ("correlation=nobody", &[]),
        ("type=Deposited&from=0:1", &["Deposited"]),
    ];
    for (wanted, types) in cases {
        let mut reader = read(&bank, &format!("/events?until=head&{wanted}"), &[]).await;
        let mut came = Vec::new();
        while let Some(event) = reader.event().await {
            if event.name == "message" {
                came.push(event.json()["type"].as_str().unwrap().to_owned());
            }
        }
        // What the archiver does about the closed account is not asked for here.
        assert_eq!(came, types, "{wanted}");
    }
}

#[tokio::test]
async fn whoever_accepts_a_batch_gets_the_events_by_the_page() {
    let bank = Bank::with(5).await;
    let accept = ("accept", "application/cloudevents-batch+json");
    let (mut from, mut came) = ("0:0".to_owned(), Vec::new());
    for expected in [2, 2, 1, 0] {
        let path = format!("/events?category=account&limit=2&from={from}");
        let page = bank.get_with(&path, &[accept]).await;
        assert_eq!(page.header("content-type"), Some(accept.1));
        let events = good(&page);
        let events = events.as_array().unwrap();
        assert_eq!(events.len(), expected);
        came.extend(events.iter().map(|event| event["data"]["amount"].clone()));
        from = page.header(TOKEN_HEADER).unwrap().to_owned();
    }
    assert_eq!(came, [1, 2, 3, 4, 5]);
    // What is not wanted is behind it too.
    let path = "/events?category=nobody&correlation=c";
    let page = bank.get_with(path, &[accept]).await;
    assert_eq!(page.body, "[]");
    let path = format!("/events?from={}", page.header(TOKEN_HEADER).unwrap());
    assert_eq!(bank.get_with(&path, &[accept]).await.body, "[]");
    let none = bank.get_with("/events?limit=0", &[accept]).await;
    problem(&none, 400, "bad-parameters");
}

#[tokio::test]
async fn a_reader_from_the_head_sees_what_is_appended_from_now_on() {
    let bank = Bank::with(3).await;
    let mut reader = read(&bank, "/events?from=head", &[]).await;
    good(&bank.deposit("a", 9).await);
    assert_eq!(reader.event().await.unwrap().json()["position"], "0:3");
}

#[tokio::test]
async fn a_place_that_is_none_of_this_log_is_refused() {
    let bank = Bank::with(1).await;
    for nowhere in ["7:0", "0:1,7:0", "0:1,0:2"] {
        let path = format!("/events?from={nowhere}");
        problem(&bank.get(&path).await, 400, "bad-place");
    }
    let told = problem(&bank.get("/events?from=soon").await, 400, "bad-place");
    assert!(told["detail"].as_str().unwrap().starts_with("from: "));
    let mut session = anabranch_model::Session::new();
    session.read(&Cut::at(1), &Cut::start());
    let foreign = seal(8).seal(&session);
    let foreign = [("last-event-id", &*foreign)];
    let told = problem(&bank.get_with("/events", &foreign).await, 400, "bad-place");
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .starts_with("Last-Event-ID: "),
        "{told}"
    );
    let beyond = bank.get("/events?from=0:2").await;
    problem(&beyond, 400, "place-beyond-head");
    for wrong in ["until=tomorrow", "type=", "stream=x", "header=x", "limit=3"] {
        let reply = bank.get(&format!("/events?{wrong}")).await;
        problem(&reply, 400, "bad-parameters");
    }
    let other = [("anabranch-log", "0000000000000002")];
    problem(&bank.get_with("/events", &other).await, 421, "other-log");
}

#[tokio::test]
async fn a_reader_without_room_is_told_when_to_come_again() {
    let options = EntityOptions::default();
    let bank = Bank::open_with(options, |server| server.readers_max(1)).await;
    let first = read(&bank, "/events", &[]).await;
    let reply = bank.get("/events").await;
    problem(&reply, 503, "too-many-readers");
    assert_eq!(reply.header("retry-after"), Some("5"));
    let figures = bank.get("/metrics").await;
    let figures = String::from_utf8(figures.body.to_vec()).unwrap();
    let busy = "anabranch_requests_in_progress{kind=\"reader\"} 1";
    assert!(figures.lines().any(|line| line == busy), "{figures}");
    // Commands are none of the readers' business.
    good(&bank.deposit("a", 5).await);
    // Who goes away makes room.
    drop(first);
    for _ in 0..20_000 {
        if read(&bank, "/events?until=head", &[]).await.status == 200 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the reader has gone and its room is still taken");
}

#[tokio::test]
async fn a_reader_knows_where_it_began_before_there_is_an_event() {
    let bank = Bank::with(1).await;
    let mut reader = read(&bank, "/events?from=head", &[]).await;
    let place = reader.any().await.unwrap().id.unwrap();
    drop(reader);
    bank.deposit("a", 5).await;
    let mut again = read(&bank, "/events?from=head", &[("last-event-id", &place)]).await;
    assert_eq!(again.event().await.unwrap().json()["position"], "0:1");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_readers_in_order() {
    let bank = Bank::with(1).await;
    let server = Timeless::open(&bank).await;
    let mut reader = Reader::open(&server.client.address(), "/events", &[]).await;
    reader.event().await.unwrap();
    server.stop().await;
    let last = reader.any().await.unwrap();
    assert_eq!(last.retry.as_deref(), Some("1000"));
    assert_eq!(reader.any().await, None);
}

#[tokio::test]
async fn a_silent_reader_hears_that_the_server_is_there_and_where_it_is_by_now() {
    let env = Env::os();
    let manual = ManualTime::new();
    let time = Time::manual(&manual, env.rng.clone());
    let log = Arc::new(MemoryLog::new(env));
    let url = serve(log.clone(), time).await;
    let mut reader = Reader::open(&url, "/events?correlation=c", &[]).await;
    assert_eq!(reader.any().await.unwrap().retry.as_deref(), Some("1000"));
    let beat = async |reader: &mut Reader| {
        let beat = reader.any();
        tokio::pin!(beat);
        loop {
            manual.advance(Duration::from_secs(15));
            match select(&mut beat, Box::pin(tokio::task::yield_now())).await {
                Either::Left((sent, _)) => break sent.unwrap(),
                Either::Right(_) => {}
            }
        }
    };
    let first = beat(&mut reader).await;
    assert_eq!(
        (first.comment.as_deref(), first.id),
        (Some("nothing new"), None)
    );
    // Events that it does not want are passed over, and it need not look at them again.
    log.append(Append::event(opened(1))).await.unwrap();
    let id = loop {
        if let Some(id) = beat(&mut reader).await.id {
            break id;
        }
    };
    let mut wanted = opened(2);
    wanted.meta_mut().correlation_id = Some("c".to_owned());
    log.append(Append::event(wanted)).await.unwrap();
    let mut again = Reader::open(&url, "/events", &[("last-event-id", &*id)]).await;
    assert_eq!(again.event().await.unwrap().json()["position"], "0:1");
}

/// A log in memory that counts the events which are taken of its reads, and cannot be read on when
/// so many are.
struct Counted {
    log: MemoryLog,
    taken: Arc<AtomicUsize>,
    fails_at: usize,
}

struct Counting(EventStream, Arc<AtomicUsize>, usize);

impl BatchSource for Counting {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let event = self.0.poll_next_unpin(cx);
        if event.is_ready() && self.1.fetch_add(1, Ordering::Relaxed) == self.2 {
            return Poll::Ready(Some(Err(ReadError::Closed)));
        }
        event.map(|event| event.map(|event| event.map(|event| vec![event].into())))
    }
}

impl Log for Counted {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.log.append(append)
    }

    fn read_stream(&self, id: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(id, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let is_the_registry = filter.categories.iter().any(|name| name.starts_with('$'));
        let events = self.log.read(from, filter, mode);
        if is_the_registry {
            return events;
        }
        EventStream::new(Counting(events, self.taken.clone(), self.fails_at))
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_read_ahead_for_by_little() {
    const EVENTS: u128 = 128;
    let env = Env::os();
    let taken = Arc::new(AtomicUsize::new(0));
    let log = Counted {
        log: MemoryLog::new(env.clone()),
        taken: taken.clone(),
        fails_at: usize::MAX,
    };
    for number in 0..EVENTS {
        let mut large = opened(number);
        large.data = format!("\"{}\"", "x".repeat(512 << 10)).into();
        log.append(Append::event(large)).await.unwrap();
    }
    let url = serve(Arc::new(log), Time::of(&env)).await;
    let mut reader = Reader::open(&url, "/events?until=head", &[]).await;
    reader.event().await.unwrap();
    let client = Client::new(&url, Time::of(&env)).unwrap();
    for _ in 0..200 {
        assert_eq!(client.get("/livez").await.unwrap().status, 200);
    }
    let ahead = taken.load(Ordering::Relaxed);
    assert!(ahead < 64, "{ahead} events of 512 KiB were read for nobody");
    // When it reads on, it misses nothing.
    assert_eq!(reader.positions().await.len() as u128, EVENTS - 1);
}

#[tokio::test]
async fn a_reader_of_a_log_that_cannot_be_read_on_is_told_so() {
    let env = Env::os();
    let log = Counted {
        log: MemoryLog::new(env.clone()),
        taken: Arc::default(),
        fails_at: 2,
    };
    for number in 0..3 {
        log.append(Append::event(opened(number))).await.unwrap();
    }
    let url = serve(Arc::new(log), Time::of(&env)).await;
    let mut reader = Reader::open(&url, "/events", &[]).await;
    for position in ["0:0", "0:1"] {
        assert_eq!(reader.event().await.unwrap().json()["position"], position);
    }
    let told = reader.event().await.unwrap();
    assert_eq!((&*told.name, told.id.as_deref()), ("problem", None));
    assert_eq!(told.json()["code"], "unavailable");
    assert_eq!(reader.any().await, None);
}

fn opened(number: u128) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(number + 1),
        "till/1".parse().unwrap(),
        "Opened".parse().unwrap(),
        "{}",
    )
}

/// Where a server of this log alone is.
async fn serve(log: Arc<dyn Log>, time: Time) -> String {
    let listener = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(Arc::new(Fleet::new()), log, time).seal(seal(7));
    tokio::spawn(server.serve(listener, std::future::pending()));
    url
}
