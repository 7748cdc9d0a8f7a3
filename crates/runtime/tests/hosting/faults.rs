//! What processes, sagas and effects do when something fails that is not the log: code that
//! panics, parties that are away, answers that are lost, decisions that are too large.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anabranch_domain::saga::{Definition, Promise};
use anabranch_domain::{
    Correlate, Decide, Entity, EventRef, Input, Process, Reaction, Rejection, Saga, StreamId,
};
use anabranch_log::BoxFuture;
use anabranch_runtime::port::{Problem, Reply, Request};
use anabranch_runtime::{Fleet, InstanceStatus, Port, SendError, Service, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::processes::{
    Copier, Move, Starter, Transfer, add, add_to, builder, moving, numbers, one_shard, phase, run,
    sum,
};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent};

pub async fn show(service: &Service, process: &str, key: &str) -> InstanceStatus {
    let stream = StreamId::of(process, key).unwrap();
    service.process(process).unwrap().show(stream).await
}

async fn parked(service: &Service, process: &str, key: &str) -> String {
    show(service, process, key).await.parked.unwrap_or_default()
}

// Services that are away.

/// The way to the other services, which can be closed.
pub struct Gate {
    port: Arc<dyn Port>,
    pub is_closed: AtomicBool,
}

impl Gate {
    fn check(&self) -> Result<(), SendError> {
        match self.is_closed.load(Ordering::Relaxed) {
            true => Err(SendError::Unavailable {
                reason: "the line is cut".to_owned(),
                retry_after: None,
            }),
            false => Ok(()),
        }
    }
}

impl Port for Gate {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        Box::pin(async move {
            self.check()?;
            self.port.call(request).await
        })
    }
}

pub fn gate(fleet: &Fleet) -> Arc<Gate> {
    Arc::new(Gate {
        port: fleet.port(),
        is_closed: AtomicBool::new(false),
    })
}

fn named(name: &str, bench: &Bench, router: &Arc<Gate>) -> ServiceBuilder {
    Service::builder(name, bench.log(), bench.time.clone()).port(router.clone())
}

#[tokio::test]
async fn commands_to_a_service_that_is_away_arrive_in_order_when_it_is_back() {
    let (bench, fleet) = (Bench::new(), Fleet::new());
    let router = gate(&fleet);
    let processes = named("processes", &bench, &router).process::<Copier>();
    fleet.join(processes.start().await.unwrap());
    let counters = || named("counters", &bench, &router).entity::<Counter>();
    let service = fleet.join(counters().start().await.unwrap());
    for n in 1..4 {
        add(&service, "from-a", n).await;
    }
    run(&bench, 1).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [1, 2, 3]);
    // What copies them hears of these, and nobody takes the copies.
    router.is_closed.store(true, Ordering::Relaxed);
    for n in 4..9 {
        add(&service, "from-a", n).await;
    }
    run(&bench, 10).await;
    fleet.kill("counters");
    router.is_closed.store(false, Ordering::Relaxed);
    run(&bench, 10).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [1, 2, 3]);
    fleet.join(counters().start().await.unwrap());
    run(&bench, 120).await;
    let copied = numbers(&bench, "counter/to-a").await;
    assert_eq!(copied, (1..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_to_a_service_that_is_away_arrives_when_it_is_back() {
    let (bench, fleet) = (Bench::new(), Fleet::new());
    let (router, back) = (gate(&fleet), gate(&fleet));
    let starters = named("starters", &bench, &router).process::<Starter>();
    let starters = fleet.join(starters.start().await.unwrap());
    // Of the saga's service only the way back is cut.
    let sagas = named("sagas", &bench, &back).entity::<Counter>();
    let sagas = fleet.join(sagas.saga::<Transfer>().start().await.unwrap());
    add(&sagas, "here", 10).await;
    back.is_closed.store(true, Ordering::Relaxed);
    add(&sagas, "go", 4).await;
    run(&bench, 20).await;
    assert_eq!(phase(&sagas, "4").await, "completed");
    let done = async || {
        let shown = show(&starters, "starter", "x").await.description.unwrap();
        shown.state.parse::<Starter>().unwrap().done
    };
    assert_eq!(done().await, 0);
    back.is_closed.store(false, Ordering::Relaxed);
    run(&bench, 60).await;
    assert_eq!(done().await, 1);
}

// Code that fails.

/// What the code of these tests may do.
static MENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn is_mended(what: &str) -> bool {
    MENDED.lock().unwrap().iter().any(|mended| mended == what)
}

fn mend(what: &str) {
    MENDED.lock().unwrap().push(what.to_owned());
}

/// Copies `from-…` to `to-…`, and fails at some numbers until it is mended.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Fragile;

impl Process for Fragile {
    const NAME: &'static str = "fragile";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(event: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        let Some(key) = about.stream.strip_prefix("counter/from-") else {
            return Correlate::Ignore;
        };
        let consumes = *event != CounterEvent::Added { n: 71 } || is_mended(key);
        assert!(consumes, "deaf to 71");
        Correlate::Start(key.to_owned())
    }

    fn decide(&self, input: &Input<CounterEvent>, cx: &Decide) -> Reaction {
        let Input::Event(CounterEvent::Added { n }, _) = input else {
            return Reaction::none();
        };
        assert!(*n != 72 || is_mended(cx.key()), "cannot decide about 72");
        Reaction::none().send::<Counter>(format!("to-{}", cx.key()), &CounterCommand::Add { n: *n })
    }

    fn evolve(&mut self, input: &Input<CounterEvent>) {
        let is_73 = matches!(input, Input::Event(CounterEvent::Added { n: 73 }, _));
        assert!(!is_73 || is_mended("73"), "cannot take in 73");
    }
}

async fn fragile(bench: &Bench) -> Service {
    let service = builder(bench).process_with::<Fragile>(one_shard());
    service.start().await.unwrap()
}

#[tokio::test]
async fn a_panic_in_correlate_stops_the_process_before_the_event_and_names_it() {
    let bench = Bench::new();
    let service = fragile(&bench).await;
    for n in [1, 71, 2] {
        add(&service, "from-ear", n).await;
    }
    run(&bench, 5).await;
    let process = service.process("fragile").unwrap();
    let reason = process.stopped().unwrap();
    assert!(reason.contains("deaf to 71"), "{reason}");
    assert!(reason.contains("of counter/from-ear"), "{reason}");
    assert_eq!(numbers(&bench, "counter/to-ear").await, [1]);
    mend("ear");
    assert!(process.consume_again());
    run(&bench, 5).await;
    assert_eq!(numbers(&bench, "counter/to-ear").await, [1, 71, 2]);
}

#[tokio::test]
async fn an_event_that_cannot_be_consumed_can_be_skipped() {
    let bench = Bench::new();
    let service = fragile(&bench).await;
    for n in [1, 71, 2] {
        add(&service, "from-skip", n).await;
    }
    run(&bench, 5).await;
    let fragile = service.process("fragile").unwrap();
    assert!(fragile.skip().await.unwrap());
    run(&bench, 5).await;
    assert_eq!(numbers(&bench, "counter/to-skip").await, [1, 2]);
}

#[tokio::test]
async fn a_panic_in_evolve_parks_the_instance_alone() {
    let bench = Bench::new();
    let service = fragile(&bench).await;
    add(&service, "from-sick", 73).await;
    add(&service, "from-well", 1).await;
    run(&bench, 60).await;
    let reason = parked(&service, "fragile", "sick").await;
    assert!(reason.contains("cannot take in 73"), "{reason}");
    assert_eq!(numbers(&bench, "counter/to-well").await, [1]);
    assert!(numbers(&bench, "counter/to-sick").await.is_empty());
}

#[tokio::test]
async fn an_instance_that_is_retried_misses_nothing_however_events_come_in_between() {
    for between in 0..24 {
        let bench = Bench::new();
        let key = format!("retry{between}");
        let service = fragile(&bench).await;
        for n in [1, 72, 2] {
            add(&service, &format!("from-{key}"), n).await;
        }
        run(&bench, 60).await;
        assert!(parked(&service, "fragile", &key).await.contains("about 72"));
        mend(&key);
        let process = service.process("fragile").unwrap();
        let retried = process.retry(StreamId::of("fragile", &key).unwrap());
        let from = format!("from-{key}");
        let adding = async {
            for _ in 0..between {
                tokio::task::yield_now().await;
            }
            for n in 3..6 {
                add(&service, &from, n).await;
            }
        };
        futures_util::future::join(retried, adding).await;
        run(&bench, 60).await;
        let copied = numbers(&bench, &format!("counter/to-{key}")).await;
        assert_eq!(copied, [1, 72, 2, 3, 4, 5], "after {between} turns");
    }
}

/// A transfer whose code panics.
struct Panicking;

impl Saga for Panicking {
    const NAME: &'static str = "panicking";
    const CATEGORIES: &'static [&'static str] = &[];
    type Event = CounterEvent;
    type Input = Move;

    fn start(_: &CounterEvent, _: &EventRef<'_>) -> Option<anabranch_domain::saga::Start<Move>> {
        None
    }

    fn define() -> Definition<Move> {
        Definition::new(1).compensatable("take", |step| {
            step.changes("counter")
                .request(|input: &Move, _| {
                    assert_ne!(input.n, 66, "cannot ask for 66");
                    add_to(&input.from, -input.n)
                })
                .undo(Promise::ALL, |input: &Move, _| add_to(&input.from, input.n))
        })
    }
}

#[tokio::test]
async fn a_panic_in_the_request_of_a_saga_parks_that_saga_alone() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Panicking>().start().await.unwrap();
    add(&service, "here", 100).await;
    let sick = moving("here", "there", 66);
    let started = service.start_saga::<Panicking>("sick", &sick);
    let (started, ()) = futures_util::future::join(started, run(&bench, 60)).await;
    assert_eq!(started.unwrap_err().code(), "parked");
    let well = moving("here", "there", 5);
    let started = service.start_saga::<Panicking>("well", &well).await;
    started.unwrap();
    run(&bench, 5).await;
    assert_eq!(sum(&service, "here").await, 95);
    let reason = parked(&service, "panicking", "sick").await;
    assert!(reason.contains("cannot ask for 66"), "{reason}");
}

// Code that has changed.

/// A saga of this name and version, with one step or with two.
pub struct Changing<const STEPS: u8>;

impl<const STEPS: u8> Saga for Changing<STEPS> {
    const NAME: &'static str = "changing";
    const CATEGORIES: &'static [&'static str] = &[];
    type Event = CounterEvent;
    type Input = Move;

    fn start(_: &CounterEvent, _: &EventRef<'_>) -> Option<anabranch_domain::saga::Start<Move>> {
        None
    }

    fn define() -> Definition<Move> {
        let one = Definition::new(1).retriable("first", |step| {
            step.changes("counter")
                .request(|input: &Move, _| add_to(&input.to, input.n))
        });
        match STEPS {
            1 => one,
            _ => one.retriable("second", |step| {
                step.after(["first"])
                    .changes("counter")
                    .request(|input: &Move, _| add_to(&input.to, input.n))
            }),
        }
    }
}

async fn changing<const STEPS: u8>(bench: &Bench, here: bool) -> Service {
    let service = match here {
        true => builder(bench),
        // Nobody takes the request.
        false => {
            let fleet = Fleet::new();
            Service::builder("test", bench.log(), bench.time.clone()).port(fleet.port())
        }
    };
    let service = service.saga::<Changing<STEPS>>();
    service.start().await.unwrap()
}

#[tokio::test]
async fn a_definition_that_was_changed_under_its_version_parks_the_sagas_that_run_on_it() {
    let bench = Bench::new();
    let service = changing::<1>(&bench, false).await;
    let input = moving("here", "there", 5);
    service
        .start_saga::<Changing<1>>("old", &input)
        .await
        .unwrap();
    run(&bench, 1).await;
    drop(service);
    let service = changing::<2>(&bench, true).await;
    run(&bench, 120).await;
    let reason = parked(&service, "changing", "old").await;
    assert!(
        reason.contains("runs on definition") && reason.contains("add that definition"),
        "{reason}"
    );
    assert!(numbers(&bench, "counter/there").await.is_empty());
    // New ones run on the new definition; with the old program the old one goes on.
    service
        .start_saga::<Changing<2>>("new", &input)
        .await
        .unwrap();
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/there").await, [5, 5]);
    drop(service);
    let service = changing::<1>(&bench, true).await;
    run(&bench, 120).await;
    assert_eq!(numbers(&bench, "counter/there").await, [5, 5, 5]);
    let shown = show(&service, "changing", "old").await.description.unwrap();
    assert_eq!(shown.phase, "completed");
}

/// The copier, decided otherwise: a hundred times as much.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OtherCopier {
    copied: u64,
    refused: u64,
}

impl Process for OtherCopier {
    const NAME: &'static str = "copier";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(event: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        Copier::correlate(event, about)
    }

    fn decide(&self, input: &Input<CounterEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => {
                let command = CounterCommand::Add { n: *n * 100 };
                Reaction::none().send::<Counter>(format!("to-{}", cx.key()), &command)
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {
        self.copied += 1;
    }
}

#[tokio::test]
async fn what_a_process_has_decided_stays_decided_when_its_code_changes() {
    let bench = Bench::new();
    let fleet = Fleet::new();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "from-a", 5).await;
    drop(service);
    // Decides, and nobody takes the command.
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .port(fleet.port())
        .process::<Copier>();
    let service = service.start().await.unwrap();
    run(&bench, 2).await;
    drop(service);
    let service = builder(&bench).process::<OtherCopier>();
    let service = service.start().await.unwrap();
    add(&service, "from-a", 6).await;
    run(&bench, 5).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [5, 600]);
}

// Decisions that are too large.

/// As many steps at once as it is told to.
struct Wide;

impl Saga for Wide {
    const NAME: &'static str = "wide";
    const CATEGORIES: &'static [&'static str] = &[];
    type Event = CounterEvent;
    type Input = Move;

    fn start(_: &CounterEvent, _: &EventRef<'_>) -> Option<anabranch_domain::saga::Start<Move>> {
        None
    }

    fn define() -> Definition<Move> {
        Definition::new(1).retriable("give", |step| {
            step.changes("counter")
                .commutes()
                .for_each(|input: &Move| input.n as usize)
                .at_once(u32::MAX)
                .request(|input: &Move, _| add_to(&input.to, 1))
        })
    }
}

#[tokio::test]
async fn a_start_that_makes_too_many_events_is_refused_and_the_saga_can_be_started() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Wide>().start().await.unwrap();
    let start = async |n| {
        let input = moving("here", "there", n);
        service.start_saga::<Wide>("x", &input).await
    };
    let refused = start(10_001).await.unwrap_err();
    assert_eq!(refused.code(), "invalid");
    assert!(refused.to_string().contains("10002 events"), "{refused}");
    start(3).await.unwrap();
    run(&bench, 5).await;
    assert_eq!(phase_of(&service, "wide", "x").await, "completed");
    assert_eq!(sum(&service, "there").await, 3);
}

pub async fn phase_of(service: &Service, process: &str, key: &str) -> String {
    show(service, process, key).await.description.unwrap().phase
}

/// Copies each number, but 9 as often as fits into no event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Flooding;

impl Process for Flooding {
    const NAME: &'static str = "flooding";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match about.stream.strip_prefix("counter/from-") {
            Some(key) => Correlate::Start(key.to_owned()),
            None => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        let Input::Event(CounterEvent::Added { n }, _) = input else {
            return Reaction::none();
        };
        let times = if *n == 9 { 10_000 } else { 1 };
        (0..times).fold(Reaction::none(), |reaction, _| {
            reaction.send::<Counter>("to", &CounterCommand::Add { n: *n })
        })
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn an_event_that_makes_a_process_send_too_much_parks_it_and_what_came_before_is_sent() {
    let bench = Bench::new();
    let service = builder(&bench).process_with::<Flooding>(one_shard());
    let service = service.start().await.unwrap();
    // In one append, so that the process decides about both at once.
    let numbers_at_once = CounterCommand::AddAll {
        numbers: vec![1, 9],
    };
    let counter = service.entity::<Counter>("from-a");
    counter.send(numbers_at_once).await.unwrap();
    add(&service, "from-b", 2).await;
    run(&bench, 5).await;
    let reason = parked(&service, "flooding", "a").await;
    assert!(reason.contains("at most 1048576"), "{reason}");
    let mut sent = numbers(&bench, "counter/to").await;
    sent.sort_unstable();
    assert_eq!(sent, [1, 2]);
}

/// Takes one command, at whose sight it panics.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Touchy;

#[derive(Serialize)]
enum TouchyCommand {
    Add {},
}

impl<'de> Deserialize<'de> for TouchyCommand {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cannot even look at it")
    }
}

impl Entity for Touchy {
    const CATEGORY: &'static str = "nobody";
    type Command = TouchyCommand;
    type Event = CounterEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &TouchyCommand, _: &Decide) -> Result<Vec<CounterEvent>, Rejection> {
        let TouchyCommand::Add {} = command;
        Ok(Vec::new())
    }

    fn evolve(&mut self, _: &CounterEvent) {}
}

#[tokio::test]
async fn a_panic_at_the_sight_of_a_command_makes_it_a_dead_letter_and_the_next_one_is_tried() {
    let bench = Bench::new();
    let service = builder(&bench).process::<Shouting>().entity::<Touchy>();
    let service = service.start().await.unwrap();
    add(&service, "a", 7).await;
    add(&service, "a", 7).await;
    run(&bench, 2).await;
    // Who need not be looked at is welcome.
    let touchy = service.entity::<Touchy>("7");
    touchy.send(TouchyCommand::Add {}).await.unwrap();
    let letters = service.dead_letters();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert!(letter.reason.contains("cannot even look"), "{letter:?}");
    }
    assert_eq!(service.under_way(), 0);
}

// Dead letters.

/// Sends each number to somebody that nobody knows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shouting;

impl Process for Shouting {
    const NAME: &'static str = "shouting";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.stream.replace('/', "-"))
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => {
                Reaction::none().send_to("nobody", n.to_string(), &CounterCommand::Add { n: *n })
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn dead_letters_take_no_more_room_than_they_may_and_come_again_after_a_restart() {
    let bench = Bench::new();
    let start = async |letters_max| {
        let service = builder(&bench).process::<Shouting>();
        let service = service.dead_letters_max(letters_max).start().await.unwrap();
        run(&bench, 1).await;
        service
    };
    let service = start(3).await;
    for n in 0..8 {
        add(&service, "a", n).await;
        run(&bench, 1).await;
    }
    let to = |service: &Service| -> Vec<String> {
        let letters = service.dead_letters().into_iter();
        letters
            .map(|letter| match letter.what {
                anabranch_runtime::Letter::Command(command) => command.to.key().to_owned(),
                anabranch_runtime::Letter::Call(call, _) => call.call.effect,
            })
            .collect()
    };
    assert_eq!(to(&service), ["5", "6", "7"]);
    assert_eq!(service.dead_letters_let_go(), 5);
    drop(service);
    let service = start(100).await;
    let mut all = to(&service);
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(service.dead_letters_let_go(), 0);
}

// Taking over.
