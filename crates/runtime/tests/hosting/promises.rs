//! What commands, sagas and processes promise, in the moments in which it is hard to keep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::saga::{Definition, Operator, Promise, Request, SagaCommand, Settlement};
use anabranch_domain::{
    CallPolicy, CommandId, Decide, Effect, Entity, Event, Rejection, Saga, StreamId,
};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Expect, Log, Order,
    ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, Filter};
use anabranch_runtime::{CallError, EntityOptions, Fleet, SendError, SendOptions, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::faults::{gate, show};
use crate::processes::{
    Move, Starter, Transfer, add, add_to, builder, moving, numbers, phase, run, sum,
};
use crate::support::{Bench, Counter, CounterCommand, settle};

/// A log whose appends can be held back, before the same log.
struct Held {
    inner: Arc<dyn Log>,
    gate: Semaphore,
}
const OPEN: usize = 1 << 20;
impl Held {
    fn new(inner: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gate: Semaphore::new(OPEN),
        })
    }
    fn hold(&self) {
        self.gate.forget_permits(OPEN);
    }
    fn release(&self) {
        self.gate.add_permits(OPEN);
    }
}
impl Log for Held {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let _permit = self.gate.acquire().await.unwrap();
            self.inner.append(append).await
        })
    }
    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.inner.read_stream(stream, range, order)
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

#[tokio::test]
async fn a_request_that_waits_for_a_busy_receiver_has_no_effect_after_its_saga_has_ended() {
    let (bench, fleet) = (Bench::new(), Fleet::new());
    let slow = Held::new(bench.log());
    let counters = Service::builder("counters", slow.clone(), bench.time.clone())
        .beside(&fleet)
        .entity_with::<Counter>(EntityOptions {
            shards: 1,
            mailbox_max: 2,
            ..EntityOptions::default()
        });
    let counters = fleet.join(counters.start().await.unwrap());
    let sagas = Service::builder("sagas", bench.log(), bench.time.clone())
        .beside(&fleet)
        .saga::<Transfer>();
    let sagas = fleet.join(sagas.start().await.unwrap());
    add(&counters, "there", 7).await;
    // The receiver is busy: its disk is slow, its mailbox fills.
    slow.hold();
    let mut fillers = Vec::new();
    for n in 0..8 {
        let filler = counters.entity::<Counter>(format!("filler-{n}"));
        fillers.push(tokio::spawn(async move {
            filler.send(CounterCommand::Add { n: 1 }).await
        }));
        settle().await;
    }
    // `take` of this saga adds 5 to `here`; it is too busy, and the courier waits a little.
    sagas
        .start_saga::<Transfer>("1", &moving("here", "there", -5))
        .await
        .unwrap();
    settle().await;
    assert_eq!(phase(&sagas, "1").await, "running");
    // The receiver is well again, and just then the saga is aborted.
    slow.release();
    settle().await;
    let saga = StreamId::of("transfer", "1").unwrap();
    let why = "the customer has changed her mind".to_owned();
    let abort = SagaCommand::AbortSaga { why };
    sagas.command_saga(saga, &abort, None).await.unwrap();
    settle().await;
    assert_eq!(phase(&sagas, "1").await, "compensated");
    run(&bench, 30).await;
    assert_eq!(
        (sum(&counters, "here").await, phase(&sagas, "1").await),
        (0, "compensated".to_owned()),
        "the saga has ended compensated, and then its request took effect: {:?}",
        bench.types("counter/here").await
    );
}

/// A saga whose first command is taken by a receiver that is too slow to answer.
async fn asking_a_slow_receiver(bench: &Bench) -> (Arc<Held>, Fleet, [Arc<Service>; 2]) {
    let slow = Held::new(bench.log());
    let fleet = Fleet::new();
    let counters = Service::builder("counters", slow.clone(), bench.time.clone()).beside(&fleet);
    let counters = fleet.join(counters.entity::<Counter>().start().await.unwrap());
    let sagas = Service::builder("sagas", bench.log(), bench.time.clone()).beside(&fleet);
    let sagas = fleet.join(sagas.saga::<Transfer>().start().await.unwrap());
    add(&counters, "here", 7).await;
    slow.hold();
    sagas
        .start_saga::<Transfer>("1", &moving("here", "there", 5))
        .await
        .unwrap();
    (slow, fleet, [counters, sagas])
}

#[tokio::test]
async fn a_step_whose_command_is_on_its_way_writes_no_attempt_down() {
    let bench = Bench::new();
    let (slow, _fleet, [_counters, sagas]) = asking_a_slow_receiver(&bench).await;
    // After ten seconds the command would expire, and be sent again.
    run(&bench, 5).await;
    let journal = bench.types("transfer/1").await;
    assert_eq!(journal, ["SagaStarted", "StepStarted"]);
    slow.release();
    run(&bench, 1).await;
    assert_eq!(phase(&sagas, "1").await, "completed");
}

#[tokio::test]
async fn a_step_whose_command_is_on_its_way_ends_when_its_time_is_up() {
    let bench = Bench::new();
    let (slow, _fleet, _services) = asking_a_slow_receiver(&bench).await;
    run(&bench, 60).await;
    bench.clock.advance(Duration::from_secs(540));
    settle().await;
    slow.release();
    run(&bench, 1).await;
    let journal = bench.types("transfer/1").await;
    assert!(journal.contains(&"StepTimedOut".to_owned()), "{journal:?}");
}

struct Boxing;
impl Saga for Boxing {
    const NAME: &'static str = "boxing";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1)
            .compensatable("put", |step| {
                step.changes("counter")
                    .request(|_, _| add_to("box", 5))
                    // Takes more than there is, until somebody puts more into it.
                    .undo(Promise::ALL, |_, _| add_to("box", -10))
            })
            .pivot("pay", |step| {
                step.after(["put"])
                    .changes("counter")
                    .request(|input: &Move, _| add_to(&input.from, -input.n))
            })
            .retriable("note", |step| {
                step.after(["pay"])
                    .changes("counter")
                    .request(|input: &Move, _| add_to(&input.to, -1))
            })
    }
}

async fn phase_in(service: &Service, process: &str) -> (String, bool) {
    let shown = show(service, process, "1").await.description.unwrap();
    (shown.phase, shown.needs_person)
}

async fn resume(service: &Service, process: &str, step: &str) {
    let by = Operator {
        who: "me".to_owned(),
        why: "mended".to_owned(),
    };
    let step = step.parse().unwrap();
    let saga = StreamId::of(process, "1").unwrap();
    let command = SagaCommand::ResumeStep { step, by };
    service.command_saga(saga, &command, None).await.unwrap();
}

#[tokio::test]
async fn a_refused_compensation_succeeds_once_its_cause_is_mended_and_it_is_resumed() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Boxing>().start().await.unwrap();
    // `empty` has nothing: the pivot is refused, the saga goes back, the undo is refused.
    let input = moving("empty", "noted", 1);
    service.start_saga::<Boxing>("1", &input).await.unwrap();
    run(&bench, 5).await;
    assert_eq!(
        phase_in(&service, "boxing").await,
        ("aborting".to_owned(), true)
    );
    // Mend the cause: now the same command would be accepted.
    add(&service, "box", 5).await;
    resume(&service, "boxing", "put").await;
    run(&bench, 5).await;
    assert_eq!(
        phase_in(&service, "boxing").await.0,
        "compensated",
        "resumed after the cause was mended, the compensation is still answered with the old refusal; journal: {:?}",
        bench.types("boxing/1").await
    );
}

#[tokio::test]
async fn a_refused_retriable_step_succeeds_once_its_cause_is_mended_and_it_is_resumed() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Boxing>().start().await.unwrap();
    add(&service, "full", 1).await;
    let input = moving("full", "noted", 1);
    service.start_saga::<Boxing>("1", &input).await.unwrap();
    run(&bench, 5).await;
    assert_eq!(
        phase_in(&service, "boxing").await,
        ("running".to_owned(), true)
    );
    add(&service, "noted", 1).await;
    resume(&service, "boxing", "note").await;
    run(&bench, 5).await;
    assert_eq!(
        phase_in(&service, "boxing").await.0,
        "completed",
        "journal: {:?}",
        bench.types("boxing/1").await
    );
}

/// Takes from a counter, and has nothing else to do.
struct Taking;
impl Saga for Taking {
    const NAME: &'static str = "taking";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1)
            .compensatable("note", |step| {
                step.changes("counter")
                    .request(|_, _| add_to("noted", 1))
                    .undo(Promise::ALL, |_, _| add_to("noted", -1))
            })
            .pivot("take", |step| {
                step.after(["note"])
                    .changes("counter")
                    .request(|input: &Move, _| add_to(&input.from, -input.n))
            })
    }
}
/// Lets another saga take, and cannot go back any more.
struct Selling;
impl Saga for Selling {
    const NAME: &'static str = "selling";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1)
            .pivot("pay", |step| {
                step.changes("counter").request(|_, _| add_to("paid", 1))
            })
            .retriable("take", |step| {
                step.after(["pay"])
                    .changes("taking")
                    .request(|input: &Move, cx| Request::saga::<Taking>(cx.key(), input))
            })
    }
}

#[tokio::test]
async fn a_child_that_was_compensated_begins_again_once_its_step_is_resumed() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Taking>().saga::<Selling>();
    let service = service.start().await.unwrap();
    let input = moving("empty", "", 1);
    service.start_saga::<Selling>("1", &input).await.unwrap();
    for _ in 0..2 {
        // Resumed while nothing is mended, it is refused once more.
        run(&bench, 5).await;
        let phases = phase_in(&service, "selling").await;
        assert_eq!(phases, ("running".to_owned(), true));
        assert_eq!(phase_in(&service, "taking").await.0, "compensated");
        resume(&service, "selling", "take").await;
    }
    run(&bench, 5).await;
    add(&service, "empty", 1).await;
    resume(&service, "selling", "take").await;
    run(&bench, 5).await;
    assert_eq!(phase_in(&service, "taking").await.0, "completed");
    assert_eq!(phase_in(&service, "selling").await.0, "completed");
    assert_eq!(numbers(&bench, "counter/empty").await, [1, -1]);
    assert_eq!(
        numbers(&bench, "counter/noted").await,
        [1, -1, 1, -1, 1, -1, 1]
    );
    assert_eq!(numbers(&bench, "counter/paid").await, [1]);
    // Another runtime reads the same from the journals.
    service.kill();
    let service = builder(&bench).saga::<Taking>().saga::<Selling>();
    let service = service.start().await.unwrap();
    run(&bench, 5).await;
    assert_eq!(phase_in(&service, "taking").await.0, "completed");
    assert_eq!(numbers(&bench, "counter/empty").await, [1, -1]);
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

struct Child;
impl Saga for Child {
    const NAME: &'static str = "child";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1)
            .pivot("pay", |step| {
                step.changes("line")
                    .request(|_, _| Request::call(&Notify { n: 1 }))
            })
            .retriable("book", |step| {
                step.after(["pay"])
                    .changes("counter")
                    .request(|_, _| add_to("seat", 1))
            })
    }
}
/// Takes back what a [`Child`] has done.
struct Cancel;
impl Saga for Cancel {
    const NAME: &'static str = "cancel";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1).retriable("unbook", |step| {
            step.changes("counter")
                .request(|_, _| add_to("unbooked", 1))
        })
    }
}
struct Parent;
impl Saga for Parent {
    const NAME: &'static str = "parent";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1)
            .compensatable("book", |step| {
                step.changes("child")
                    .request(|input: &Move, cx| Request::saga::<Child>(cx.key(), input))
                    .undo(Promise::ALL, |input: &Move, cx| {
                        Request::saga::<Cancel>(cx.key(), input)
                    })
            })
            .pivot("end", |step| {
                step.after(["book"])
                    .changes("counter")
                    .request(|_, _| add_to("ended", 1))
            })
    }
}

#[tokio::test]
async fn a_child_past_its_pivot_is_undone_only_when_it_has_completed() {
    let bench = Bench::new();
    let is_cut = Arc::new(AtomicBool::new(true));
    let called = is_cut.clone();
    let service = builder(&bench)
        .saga::<Child>()
        .saga::<Cancel>()
        .saga::<Parent>()
        .effect::<Notify, _, _>(move |_, _| {
            let is_cut = called.clone();
            async move {
                while is_cut.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                Ok::<_, CallError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let input = moving("a", "b", 1);
    service.start_saga::<Parent>("1", &input).await.unwrap();
    run(&bench, 1).await;
    let saga = StreamId::of("parent", "1").unwrap();
    let why = "it takes too long".to_owned();
    let abort = SagaCommand::AbortSaga { why };
    service.command_saga(saga, &abort, None).await.unwrap();
    run(&bench, 5).await;
    let phase_of = async |process: &str| match show(&service, process, "1").await.description {
        Some(described) => described.phase,
        None => "?".to_owned(),
    };
    let seen = (
        phase_of("child").await,
        phase_of("cancel").await,
        phase_of("parent").await,
    );
    is_cut.store(false, Ordering::Relaxed);
    run(&bench, 60).await;
    let (seat, unbooked) = (sum(&service, "seat").await, sum(&service, "unbooked").await);
    assert_eq!(
        seen,
        (
            "running".to_owned(),
            "new".to_owned(),
            "aborting".to_owned()
        ),
        "child, the saga that undoes it, parent, while the child was past its pivot; afterwards \
         the child is {} and the parent {}: booked {seat}, unbooked {unbooked}; journals: {:?} {:?}",
        phase_of("child").await,
        phase_of("parent").await,
        bench.types("parent/1").await,
        bench.types("child/1").await,
    );
    assert_eq!((seat, unbooked), (1, 1));
    assert_eq!(phase_of("parent").await, "compensated");
}

/// Pays, or pays back.
#[derive(Debug, Serialize, Deserialize)]
struct Pay {
    n: i64,
}
impl Effect for Pay {
    const NAME: &'static str = "pay";
    type Outcome = ();
}
struct Paying;
impl Saga for Paying {
    const NAME: &'static str = "paying";
    type Event = anabranch_domain::NoEvent;
    type Input = Move;
    fn define() -> Definition<Move> {
        Definition::new(1).compensatable("pay", |step| {
            step.changes("account")
                .request(|_, _| Request::call(&Pay { n: 1 }))
                .undo(Promise::ALL, |_, _| Request::call(&Pay { n: -1 }))
        })
    }
}

#[tokio::test]
async fn a_call_that_waits_to_be_tried_again_is_not_made_after_it_was_undone() {
    let bench = Bench::new();
    let is_away = Arc::new(AtomicBool::new(true));
    let made = Arc::new(Mutex::new(Vec::new()));
    let (away, paid) = (is_away.clone(), made.clone());
    let service = builder(&bench)
        .saga::<Paying>()
        .effect::<Pay, _, _>(move |pay, _| {
            let is_away = pay.n > 0 && away.load(Ordering::Relaxed);
            if !is_away {
                paid.lock().unwrap().push(pay.n);
            }
            async move {
                match is_away {
                    true => Err(CallError::Failed("the provider is away".to_owned())),
                    false => Ok(()),
                }
            }
        })
        .start()
        .await
        .unwrap();
    let input = moving("a", "b", 1);
    service.start_saga::<Paying>("1", &input).await.unwrap();
    run(&bench, 1).await;
    let saga = StreamId::of("paying", "1").unwrap();
    let why = "it takes too long".to_owned();
    let abort = SagaCommand::AbortSaga { why };
    service.command_saga(saga, &abort, None).await.unwrap();
    settle().await;
    is_away.store(false, Ordering::Relaxed);
    run(&bench, 60).await;
    let shown = show(&service, "paying", "1").await.description.unwrap();
    assert_eq!(shown.phase, "compensated");
    assert_eq!(
        *made.lock().unwrap(),
        [-1],
        "nothing is paid after it was paid back"
    );
}

/// A level that is raised to at least a number.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Level {
    n: i64,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LevelCommand {
    Set { n: i64 },
    AtLeast { n: i64 },
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum LevelEvent {
    LevelSet { n: i64 },
}
impl Entity for Level {
    const CATEGORY: &'static str = "level";
    type Command = LevelCommand;
    type Event = LevelEvent;
    type Rejection = Rejection;
    fn decide(&self, command: &LevelCommand, _: &Decide) -> Result<Vec<LevelEvent>, Rejection> {
        Ok(match command {
            LevelCommand::Set { n } => vec![LevelEvent::LevelSet { n: *n }],
            LevelCommand::AtLeast { n } if self.n >= *n => Vec::new(),
            LevelCommand::AtLeast { n } => vec![LevelEvent::LevelSet { n: *n }],
        })
    }
    fn evolve(&mut self, event: &LevelEvent) {
        let LevelEvent::LevelSet { n } = event;
        self.n = *n;
    }
}

#[tokio::test]
async fn an_accepted_command_without_events_is_done_once() {
    let bench = Bench::new();
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .entity::<Level>()
        .start()
        .await
        .unwrap();
    let level = service.entity::<Level>("a");
    let once = || SendOptions {
        id: Some(CommandId::from_u128(7)),
        ..SendOptions::default()
    };
    level.send(LevelCommand::Set { n: 10 }).await.unwrap();
    let first = level
        .send_with(LevelCommand::AtLeast { n: 5 }, once())
        .await
        .unwrap();
    assert!(first.events.is_empty() && !first.repeated);
    level.send(LevelCommand::Set { n: 1 }).await.unwrap();
    // The client did not see the answer and sends the same command again, within milliseconds.
    let again = level
        .send_with(LevelCommand::AtLeast { n: 5 }, once())
        .await
        .unwrap();
    assert!(
        again.events.is_empty() && again.repeated,
        "repeating an acknowledged command changed state: {again:?}"
    );
}

#[tokio::test]
async fn a_refused_command_that_is_repeated_after_a_restart_gives_the_first_outcome() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    let once = || SendOptions {
        id: Some(CommandId::from_u128(7)),
        ..SendOptions::default()
    };
    let counter = service.entity::<Counter>("a");
    let take = || CounterCommand::Add { n: -5 };
    let first = counter.send_with(take(), once()).await;
    add(&service, "a", 10).await;
    drop(service);
    let service = builder(&bench).start().await.unwrap();
    let again = service
        .entity::<Counter>("a")
        .send_with(take(), once())
        .await;
    assert_eq!(
        first, again,
        "told for sure that it did not happen, then it happened"
    );
}

#[tokio::test]
async fn a_command_that_met_another_version_does_not_happen_later() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    let once = || SendOptions {
        id: Some(CommandId::from_u128(7)),
        expect: Some(Expect::At(1)),
        ..SendOptions::default()
    };
    let counter = service.entity::<Counter>("a");
    let put = || CounterCommand::Add { n: 5 };
    add(&service, "a", 1).await;
    let first = counter.send_with(put(), once()).await;
    assert!(matches!(first, Err(SendError::VersionMismatch { .. })));
    add(&service, "a", 1).await;
    // The network delivers the request a second time.
    let again = counter.send_with(put(), once()).await;
    assert!(
        again.is_err(),
        "definitely did not happen, then it happened: {again:?}"
    );
}

/// Two runtimes host one entity for a while; one of them has not heard of the other's events.
#[tokio::test]
async fn a_runtime_that_lags_behind_settles_nothing() {
    let bench = Bench::new();
    let behind = builder(&bench).start().await.unwrap();
    add(&behind, "a", 1).await;
    let ahead = builder(&bench).start().await.unwrap();
    add(&ahead, "a", 10).await;
    let once = |expect| SendOptions {
        id: Some(CommandId::from_u128(7)),
        expect,
        ..SendOptions::default()
    };
    // By what it knows, it would refuse: there is one, and five are asked for.
    let take = || CounterCommand::Add { n: -5 };
    let counter = behind.entity::<Counter>("a");
    let taken = counter.send_with(take(), once(None)).await;
    assert!(taken.is_ok(), "{taken:?}");
    add(&ahead, "a", 1).await;
    let again = ahead.entity::<Counter>("a");
    let again = again.send_with(take(), once(None)).await.unwrap();
    assert!(again.repeated);
    assert_eq!(sum(&ahead, "a").await, 7);
    // Versions 0 to 3 are taken: this one knows of three.
    let put = CounterCommand::Add { n: 1 };
    let id = Some(CommandId::from_u128(8));
    let options = SendOptions {
        id,
        ..once(Some(Expect::At(3)))
    };
    let put = counter.send_with(put, options).await;
    assert!(put.is_ok(), "{put:?}");
}

/// One id, two commands; also behind a restart, and when the first has changed nothing.
#[tokio::test]
async fn an_id_that_comes_with_another_command_is_refused() {
    let bench = Bench::new();
    for (id, first) in [5, -5, 0].into_iter().enumerate() {
        let id = CommandId::from_u128(100 + id as u128);
        let once = || SendOptions {
            id: Some(id),
            ..SendOptions::default()
        };
        let command = match first {
            0 => CounterCommand::Nothing,
            n => CounterCommand::Add { n },
        };
        let key = format!("other-{first}");
        let service = builder(&bench).start().await.unwrap();
        let counter = service.entity::<Counter>(&key);
        let outcome = counter.send_with(command.clone(), once()).await;
        let other = || CounterCommand::Add { n: 6 };
        let taken = Err(SendError::IdTaken {
            id,
            stream: format!("counter/{key}"),
        });
        assert_eq!(counter.send_with(other(), once()).await, taken, "{first}");
        drop(service);
        let service = builder(&bench).start().await.unwrap();
        let counter = service.entity::<Counter>(&key);
        assert_eq!(counter.send_with(other(), once()).await, taken, "{first}");
        let again = counter.send_with(command, once()).await;
        assert_eq!(again.is_ok(), outcome.is_ok(), "{first}: {again:?}");
        assert_eq!(sum(&service, &key).await, first.max(0));
    }
}

#[tokio::test]
async fn a_command_that_records_nothing_and_cannot_be_repeated_writes_nothing() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "a", 1).await;
    let before = bench.log().head().await.unwrap();
    let counter = service.entity::<Counter>("a");
    counter.send(CounterCommand::Nothing).await.unwrap();
    assert!(counter.send(CounterCommand::Add { n: -5 }).await.is_err());
    assert_eq!(bench.log().head().await.unwrap(), before);
}

#[tokio::test]
async fn a_process_hears_the_end_of_its_saga_though_the_sagas_service_was_restarted() {
    let (bench, fleet) = (Bench::new(), Fleet::new());
    let back = gate(&fleet);
    let starters = Service::builder("starters", bench.log(), bench.time.clone())
        .beside(&fleet)
        .process::<Starter>();
    let starters = fleet.join(starters.start().await.unwrap());
    let sagas = || {
        Service::builder("sagas", bench.log(), bench.time.clone())
            .port(back.clone())
            .entity::<Counter>()
            .saga::<Transfer>()
    };
    let first = fleet.join(sagas().start().await.unwrap());
    add(&first, "here", 10).await;
    // Stands for the moment between the saga's last append and its answer.
    back.is_closed.store(true, Ordering::Relaxed);
    add(&first, "go", 4).await;
    run(&bench, 5).await;
    assert_eq!(phase(&first, "4").await, "completed");
    fleet.kill("sagas");
    drop(first);
    back.is_closed.store(false, Ordering::Relaxed);
    let second = fleet.join(sagas().start().await.unwrap());
    run(&bench, 4000).await;
    assert_eq!(phase(&second, "4").await, "completed");
    let shown = show(&starters, "starter", "x").await.description.unwrap();
    assert_eq!(
        shown.state.parse::<Starter>().unwrap().done,
        1,
        "an hour later the process has not heard that its saga has ended; nobody needs a person: {shown:?}"
    );
}

#[tokio::test]
async fn a_settlement_that_is_repeated_with_its_id_gives_the_first_outcome() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Boxing>().start().await.unwrap();
    let input = moving("empty", "noted", 1);
    service.start_saga::<Boxing>("1", &input).await.unwrap();
    run(&bench, 5).await;
    let settle_it = SagaCommand::SettleStep {
        step: "put".parse().unwrap(),
        settlement: Settlement::Undone,
        by: Operator {
            who: "me".to_owned(),
            why: "by hand".to_owned(),
        },
    };
    let saga = StreamId::of("boxing", "1").unwrap();
    let id = Some(CommandId::from_u128(99));
    service
        .command_saga(saga.clone(), &settle_it, id)
        .await
        .unwrap();
    let again = service.command_saga(saga, &settle_it, id).await;
    assert_eq!(
        again,
        Ok(()),
        "`Service::command_saga`: the same `id` does it once"
    );
}
