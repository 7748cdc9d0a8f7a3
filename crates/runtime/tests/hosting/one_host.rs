//! What the one host keeps for entities, processes and sagas alike: what goes in one append, how
//! much is read and held at once, and what is left by a runtime that has gone.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_domain::{
    CallPolicy, CommandEnvelope, CommandId, Correlate, Decide, Effect, EventRef, Input, Json,
    Process, Reaction, Role, StreamId, Timestamp,
};
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Log, Order,
    ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventBatch, Filter};
use anabranch_runtime::snapshot::MemorySnapshots;
use anabranch_runtime::{CallError, EntityOptions, ProcessOptions, Service};
use serde::{Deserialize, Serialize};

use crate::processes::{add, builder, run, sum};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent, settle};

fn one_shard() -> EntityOptions {
    EntityOptions {
        shards: 1,
        ..EntityOptions::default()
    }
}

/// Sends to all of them at once, and waits for the answers.
async fn add_to_all(service: &Service, keys: &[&str]) {
    let added = keys.iter().map(|key| add(service, key, 1));
    futures_util::future::join_all(added).await;
}

#[tokio::test]
async fn what_several_entities_record_at_once_is_one_append() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let keys = ["a", "b", "c", "d"];
    add_to_all(&service, &keys).await;
    let before = bench.log.appends().len();
    add_to_all(&service, &keys).await;
    assert_eq!(bench.log.appends()[before..], [4]);
    for key in keys {
        let counter = service.entity::<Counter>(key);
        assert_eq!(counter.inspect(None).await.unwrap().version, Some(1));
    }
}

#[tokio::test]
async fn who_reads_one_of_many_streams_does_not_read_all_that_was_recorded_at_once() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let keys: Vec<String> = (0..800).map(|n| format!("counter-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    add_to_all(&service, &keys).await;
    let before = bench.log.appends().len();
    add_to_all(&service, &keys).await;
    let appends = bench.log.appends()[before..].to_vec();
    assert_eq!(appends.iter().sum::<usize>(), 800);
    // An event of these has over a hundred bytes with what belongs to it, and 32 KiB go together.
    assert!(appends.iter().all(|&events| events < 330), "{appends:?}");
}

#[tokio::test]
async fn an_entity_that_somebody_else_has_written_holds_up_none_that_shares_its_append() {
    let bench = Bench::new();
    let (service, other) = (
        bench.service(one_shard()).await,
        bench.service(one_shard()).await,
    );
    let keys = ["a", "b", "c"];
    add_to_all(&service, &keys).await;
    add(&other, "b", 10).await;
    add_to_all(&service, &keys).await;
    assert_eq!(bench.types("counter/a").await.len(), 2);
    assert_eq!(bench.types("counter/b").await.len(), 3);
    assert_eq!(bench.types("counter/c").await.len(), 2);
    assert_eq!(sum(&service, "b").await, 12);
}

#[derive(Debug, Serialize, Deserialize)]
struct Notify {
    n: i64,
}
impl Effect for Notify {
    const NAME: &'static str = "notify";
    type Outcome = ();
    fn policy() -> CallPolicy {
        CallPolicy {
            attempt_timeout: Duration::from_secs(3600),
            ..CallPolicy::default()
        }
    }
}
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notifier;
impl Process for Notifier {
    const NAME: &'static str = "notifier";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }
    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => Reaction::none().call(&Notify { n: *n }),
            _ => Reaction::none(),
        }
    }
    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[derive(Default)]
struct Line {
    cut: AtomicBool,
    began: Mutex<Vec<usize>>,
    made: Mutex<Vec<CommandId>>,
}

async fn notifying(bench: &Bench, line: &Arc<Line>, which: usize) -> Service {
    let line = line.clone();
    builder(bench)
        .process::<Notifier>()
        .effect::<Notify, _, _>(move |_, key| {
            let line = line.clone();
            async move {
                line.began.lock().unwrap().push(which);
                if line.cut.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                line.made.lock().unwrap().push(key);
                Ok::<_, CallError>(())
            }
        })
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_recorded_call_is_made_by_the_runtime_that_is_left() {
    let bench = Bench::new();
    let line = Arc::new(Line::default());
    line.cut.store(true, Ordering::Relaxed);
    // As when a program is replaced: the new one is started before the old one is ended.
    let services = [
        notifying(&bench, &line, 0).await,
        notifying(&bench, &line, 1).await,
    ];
    settle().await;
    add(&services[0], "a", 5).await;
    run(&bench, 2).await;
    let began = line.began.lock().unwrap().clone();
    assert_eq!(began.len(), 1, "one of the two has won and calls");
    assert_eq!(bench.types("notifier/a").await, ["Received"]);
    services[began[0]].kill();
    line.cut.store(false, Ordering::Relaxed);
    run(&bench, 4000).await;
    let left = &services[1 - began[0]];
    // It is alive and well: it answers, and it hears.
    add(left, "b", 1).await;
    run(&bench, 10).await;
    assert_eq!(
        line.made.lock().unwrap().len(),
        2,
        "an hour after the other runtime died, the call that stands in the journal was not made; \
         dead letters: {:?}, {:?}",
        left.dead_letters(),
        left.diagnostics()
    );
}

/// A log whose reads of one stream take a while, and which counts those under way.
struct SlowReads {
    inner: Arc<dyn Log>,
    slow: AtomicBool,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}
struct Reading {
    inner: EventStream,
    wait: Option<BoxFuture<'static, ()>>,
    now: Arc<AtomicUsize>,
}
impl Drop for Reading {
    fn drop(&mut self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}
impl BatchSource for Reading {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        pin!(self.inner.next_batch()).poll(cx)
    }
}
impl Log for SlowReads {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.inner.append(append)
    }
    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let inner = self.inner.read_stream(stream, range, order);
        if !self.slow.load(Ordering::Relaxed) {
            return inner;
        }
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        EventStream::new(Reading {
            inner,
            wait: Some(Box::pin(async {
                for _ in 0..200 {
                    tokio::task::yield_now().await;
                }
            })),
            now: self.now.clone(),
        })
    }
    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.inner.read(from, filter, mode)
    }
    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.inner.find(id)
    }
    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.inner.head()
    }
}

/// Waits for a far away day.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Patient;
impl Process for Patient {
    const NAME: &'static str = "patient";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.version.to_string())
    }
    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(..) => {
                Reaction::none().schedule("far", Timestamp::from_micros(u64::MAX / 2))
            }
            _ => Reaction::none(),
        }
    }
    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn who_takes_over_reads_no_more_journals_at_once_than_may_be_in_memory() {
    const INSTANCES: i64 = 5000;
    const LIVE_MAX: usize = 100;
    let bench = Bench::new();
    let log = Arc::new(SlowReads {
        inner: bench.log(),
        slow: AtomicBool::new(false),
        now: Arc::default(),
        most: Arc::default(),
    });
    let start = || {
        Service::builder("test", log.clone() as Arc<dyn Log>, bench.time.clone())
            .entity::<Counter>()
            .process_with::<Patient>(ProcessOptions {
                shards: 1,
                live_max: LIVE_MAX,
                ..ProcessOptions::default()
            })
            .start()
    };
    let service = start().await.unwrap();
    let numbers = vec![1; INSTANCES as usize];
    let many = service.entity::<Counter>("a");
    many.send(CounterCommand::AddAll { numbers }).await.unwrap();
    run(&bench, 20).await;
    drop(service);
    log.slow.store(true, Ordering::Relaxed);
    let _service = start().await.unwrap();
    run(&bench, 20).await;
    let most = log.most.load(Ordering::Relaxed);
    assert!(
        most <= 10 * LIVE_MAX,
        "{most} journals were read at once; at most {LIVE_MAX} instances are to be in memory"
    );
}

#[tokio::test]
async fn what_is_held_for_an_instance_that_never_starts_is_bounded() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Never;
    impl Process for Never {
        const NAME: &'static str = "never";
        const CATEGORIES: &'static [&'static str] = &["counter"];
        type Event = CounterEvent;
        fn correlate(_: &CounterEvent, _: &EventRef<'_>) -> Correlate {
            Correlate::Continue("x".to_owned())
        }
        fn decide(&self, _: &Input<CounterEvent>, _: &Decide) -> Reaction {
            Reaction::none()
        }
        fn evolve(&mut self, _: &Input<CounterEvent>) {}
    }
    let bench = Bench::new();
    let service = builder(&bench).process::<Never>().start().await.unwrap();
    for _ in 0..10 {
        let many = service.entity::<Counter>("a");
        let numbers = vec![1; 2000];
        many.send(CounterCommand::AddAll { numbers }).await.unwrap();
    }
    run(&bench, 10).await;
    let held = bench.types("never/x").await.len();
    assert!(held < 5000, "one instance holds {held} events");
    let status = service.process("never").unwrap().list().await.remove(0);
    let parked = status.parked.unwrap();
    assert!(parked.contains("none of them has started it"), "{parked}");
    let diagnostics = service.diagnostics();
    assert!(diagnostics.iter().any(|d| d.text.contains("is parked")));
}

#[tokio::test]
async fn a_late_request_of_a_forgotten_saga_does_not_hold_up_its_entity() {
    let bench = Bench::new();
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .entity_with::<Counter>(EntityOptions {
            shards: 1,
            snapshot_every: 1,
            ..EntityOptions::default()
        })
        .start()
        .await
        .unwrap();
    let (counter, saga) = (
        StreamId::of("counter", "a").unwrap(),
        StreamId::of("trip", "1").unwrap(),
    );
    let request = CommandEnvelope {
        id: CommandId::from_u128(7),
        to: counter.clone(),
        name: "Add".to_owned(),
        data: Json::new(r#"{"n":-5}"#).unwrap(),
        role: Role::Step("pay".parse().unwrap()),
        reply_to: Some(saga.clone()),
        correlation_id: None,
        traceparent: None,
        causes: Cut::start(),
    };
    let entities = service.any_entity("counter").unwrap().clone();
    assert!(
        entities
            .dispatch(Box::new(request.clone().into()))
            .await
            .is_err()
    );
    assert_eq!(bench.types("counter/a").await, ["$Refused"]);
    // The saga has ended. Other things happen, and another runtime takes the entity over: here the
    // service is started again.
    entities.forget(counter.clone(), saga);
    settle().await;
    let store = Arc::new(MemorySnapshots::new());
    drop(service);
    let start = || {
        Service::builder("test", bench.log(), bench.time.clone())
            .snapshots(store.clone())
            .entity_with::<Counter>(EntityOptions {
                shards: 1,
                snapshot_every: 1,
                ..EntityOptions::default()
            })
            .start()
    };
    let service = start().await.unwrap();
    add(&service, "a", 1).await;
    let entities = service.any_entity("counter").unwrap().clone();
    entities.forget(counter.clone(), StreamId::of("trip", "1").unwrap());
    add(&service, "a", 1).await;
    settle().await;
    let before = bench.log.appends().len();
    let late = tokio::spawn({
        let (entities, request) = (entities.clone(), request.clone());
        async move { entities.dispatch(Box::new(request.into())).await }
    });
    let other = tokio::spawn({
        let counter = service.entity::<Counter>("a");
        async move { counter.send(CounterCommand::Add { n: 1 }).await }
    });
    settle().await;
    settle().await;
    let appends = bench.log.appends().len() - before;
    assert!(
        other.is_finished() && late.is_finished() && appends < 10,
        "two commands have led to {appends} appends and no end of it; answered: {} {}",
        late.is_finished(),
        other.is_finished()
    );
}
