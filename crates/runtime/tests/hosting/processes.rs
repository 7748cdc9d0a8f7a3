//! Processes, sagas and effects: what is sent, once, whatever happens in between.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::saga::{Definition, Promise, Request, SagaCommand, Start};
use anabranch_domain::{
    CommandId, Correlate, Decide, Event, EventRef, Input, Json, Outcome, Process, Reaction, Saga,
    StreamId,
};
use anabranch_log::Log;
use anabranch_runtime::snapshot::MemorySnapshots;
use anabranch_runtime::{EntityOptions, ProcessOptions, Service, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::support::{Bench, Counter, CounterCommand, CounterEvent, Mischief, settle};

pub fn builder(bench: &Bench) -> ServiceBuilder {
    Service::builder("test", bench.log(), bench.time.clone()).entity_with::<Counter>(
        EntityOptions {
            shards: 1,
            ..EntityOptions::default()
        },
    )
}

pub fn one_shard() -> ProcessOptions {
    ProcessOptions {
        shards: 1,
        keep_every: 4,
        ..ProcessOptions::default()
    }
}

pub async fn add(service: &Service, key: &str, n: i64) {
    let counter = service.entity::<Counter>(key);
    counter.send(CounterCommand::Add { n }).await.unwrap();
}

pub async fn sum(service: &Service, key: &str) -> i64 {
    let inspected = service.entity::<Counter>(key).inspect(None).await.unwrap();
    inspected.state.parse::<Counter>().unwrap().sum
}

/// Lets everything go on; while something waits for time, lets a little pass.
pub async fn run(bench: &Bench, seconds: u64) {
    for _ in 0..seconds * 10 {
        settle().await;
        bench.clock.advance(Duration::from_millis(100));
    }
    settle().await;
}

/// Copies what is added to `from-…` to `to-…`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Copier {
    pub copied: u64,
    refused: u64,
}

impl Process for Copier {
    const NAME: &'static str = "copier";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match about.stream.strip_prefix("counter/from-") {
            Some(key) => Correlate::Start(key.to_owned()),
            None => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<CounterEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n: 99 }, _) => panic!("ninety-nine"),
            Input::Event(CounterEvent::Added { n }, _) => {
                let command = CounterCommand::Add { n: *n };
                Reaction::none().send::<Counter>(format!("to-{}", cx.key()), &command)
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<CounterEvent>) {
        match input {
            Input::Event(..) => self.copied += 1,
            Input::Reply(_) => self.refused += 1,
            Input::Timer(_) => {}
        }
    }
}

#[tokio::test]
async fn a_process_answers_each_event_with_one_command() {
    let bench = Bench::new();
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    for n in 1..10 {
        add(&service, "from-a", n).await;
    }
    run(&bench, 1).await;
    assert_eq!(sum(&service, "to-a").await, 45);
    let shown = service
        .process("copier")
        .unwrap()
        .show(StreamId::new("copier/a").unwrap())
        .await;
    assert_eq!(shown.description.unwrap().length, 9);
}

#[tokio::test]
async fn each_event_is_copied_once_and_in_order_whatever_is_killed() {
    const EVENTS: i64 = 400;
    for seed in 0..4 {
        let bench = Bench::new();
        bench.log.misbehave_one_in(20, seed);
        let mut rng = anabranch_env::SplitMix64::new(seed);
        let snapshots = Arc::new(MemorySnapshots::new());
        let mut sent = 0;
        while sent < EVENTS {
            let service = builder(&bench)
                .snapshots(snapshots.clone())
                .process_with::<Copier>(one_shard())
                .start()
                .await
                .unwrap();
            let until = sent + 20 + rng.below(60) as i64;
            while sent < until.min(EVENTS) {
                let counter = service.entity::<Counter>(format!("from-{}", sent % 3));
                let options = anabranch_runtime::SendOptions {
                    id: Some(CommandId::from_u128(5000 + sent as u128)),
                    ..anabranch_runtime::SendOptions::default()
                };
                let command = CounterCommand::Add { n: 1000 + sent };
                let (outcome, ()) =
                    futures_util::future::join(counter.send_with(command, options), async {
                        for _ in 0..30 {
                            tokio::task::yield_now().await;
                            bench.clock.advance(Duration::from_millis(50));
                        }
                    })
                    .await;
                match outcome {
                    Ok(_) => sent += 1,
                    Err(error) if error.is_passing() => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            // Killed somewhere in the middle of its work.
            for _ in 0..rng.below(40) {
                tokio::task::yield_now().await;
            }
            drop(service);
        }
        bench.log.behave();
        let service = builder(&bench)
            .snapshots(snapshots.clone())
            .process_with::<Copier>(one_shard())
            .start()
            .await
            .unwrap();
        run(&bench, 60).await;
        assert!(service.dead_letters().is_empty(), "seed {seed}");
        for key in 0..3 {
            let expected: Vec<i64> = (0..EVENTS)
                .filter(|n| n % 3 == key)
                .map(|n| 1000 + n)
                .collect();
            let copied = numbers(&bench, &format!("counter/to-{key}")).await;
            assert_eq!(copied, expected, "seed {seed}: each just once and in order");
        }
    }
}

pub async fn numbers(bench: &Bench, stream: &str) -> Vec<i64> {
    let stream = StreamId::new(stream).unwrap();
    let all = anabranch_log::VersionRange::ALL;
    let mut read = bench
        .log
        .read_stream(&stream, all, anabranch_log::Order::Forward);
    let mut numbers = Vec::new();
    while let Some(event) = read.next().await {
        let event = event.unwrap();
        if let Ok(CounterEvent::Added { n }) =
            CounterEvent::decode(event.event_type(), event.schema_version, event.data())
        {
            numbers.push(n);
        }
    }
    numbers
}

#[tokio::test]
async fn two_runtimes_with_one_process_send_each_command_once() {
    let bench = Bench::new();
    let services = [
        builder(&bench).process::<Copier>().start().await.unwrap(),
        builder(&bench).process::<Copier>().start().await.unwrap(),
    ];
    for n in 1..30 {
        add(&services[n % 2], "from-a", n as i64 * 100).await;
        tokio::task::yield_now().await;
    }
    run(&bench, 20).await;
    let copied = numbers(&bench, "counter/to-a").await;
    let mut sorted = copied.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..30).map(|n| n * 100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_instance_whose_code_fails_is_parked_alone_and_misses_nothing() {
    let bench = Bench::new();
    let service = builder(&bench)
        .process_with::<Copier>(one_shard())
        .start()
        .await
        .unwrap();
    add(&service, "from-a", 1).await;
    add(&service, "from-a", 99).await;
    add(&service, "from-a", 2).await;
    add(&service, "from-b", 3).await;
    run(&bench, 60).await;
    assert_eq!(sum(&service, "to-a").await, 1);
    assert_eq!(sum(&service, "to-b").await, 3);
    let process = service.process("copier").unwrap();
    let parked: Vec<_> = process
        .list()
        .await
        .into_iter()
        .filter(|i| i.parked.is_some())
        .collect();
    assert_eq!(parked.len(), 1);
    assert!(parked[0].parked.as_ref().unwrap().contains("ninety-nine"));
    // What it could not take in stays in front of what was consumed.
    assert!(!process.consumed().covers(&service.head()));
    assert!(process.retry(parked[0].stream.clone()).await);
    run(&bench, 60).await;
    assert_eq!(sum(&service, "to-a").await, 1);
}

#[tokio::test]
async fn a_command_that_nobody_can_take_is_a_dead_letter_until_an_operator_decides() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Lost {
        refused: u64,
    }
    impl Process for Lost {
        const NAME: &'static str = "lost";
        const CATEGORIES: &'static [&'static str] = &["counter"];
        type Event = CounterEvent;
        fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
            match about.stream {
                "counter/source" => Correlate::Start("x".to_owned()),
                _ => Correlate::Ignore,
            }
        }
        fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
            match input {
                Input::Event(..) => Reaction::none().send_to(
                    "counter",
                    "13",
                    &CounterCommand::AddAll {
                        numbers: vec![1; 10_001],
                    },
                ),
                _ => Reaction::none(),
            }
        }
        fn evolve(&mut self, input: &Input<CounterEvent>) {
            self.refused += u64::from(matches!(input, Input::Reply(_)));
        }
    }
    let bench = Bench::new();
    let service = builder(&bench).process::<Lost>().start().await.unwrap();
    add(&service, "source", 1).await;
    add(&service, "source", 1).await;
    run(&bench, 1).await;
    let letters = service.dead_letters();
    assert_eq!(letters.len(), 2);
    assert!(
        letters[0].reason.contains("10001 events"),
        "{}",
        letters[0].reason
    );
    // Edited, one can be taken; the other one is given up.
    let edited = Json::new(r#"{"numbers":[5,6]}"#).unwrap();
    assert!(service.retry_letter(letters[0].id, Some(edited)));
    assert!(service.discard_letter(letters[1].id, "not wanted").await);
    run(&bench, 1).await;
    assert_eq!(sum(&service, "13").await, 11);
    assert!(service.dead_letters().is_empty());
    let process = service.process("lost").unwrap();
    let shown = process
        .show(StreamId::new("lost/x").unwrap())
        .await
        .description
        .unwrap();
    assert_eq!(shown.state.parse::<Lost>().unwrap().refused, 1);
}

/// Adds one to its counter a minute after it was told to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Later;

impl Process for Later {
    const NAME: &'static str = "later";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(event: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match event {
            CounterEvent::Opened => Correlate::Start(about.stream.replace('/', "-")),
            CounterEvent::Added { .. } => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<CounterEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(..) => {
                Reaction::none().schedule("minute", cx.now() + Duration::from_secs(60))
            }
            Input::Timer(_) => Reaction::none()
                .send::<Counter>("late", &CounterCommand::Add { n: 1 })
                .complete(),
            Input::Reply(_) => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn a_timer_that_is_due_while_nobody_runs_fires_once_after_the_restart() {
    let bench = Bench::new();
    let start = || builder(&bench).process::<Later>().start();
    let service = start().await.unwrap();
    service
        .entity::<Counter>("a")
        .send(CounterCommand::Open)
        .await
        .unwrap();
    run(&bench, 30).await;
    assert_eq!(sum(&service, "late").await, 0);
    drop(service);
    bench.clock.advance(Duration::from_secs(3600));
    for _ in 0..3 {
        let service = start().await.unwrap();
        run(&bench, 2).await;
        assert_eq!(sum(&service, "late").await, 1);
        drop(service);
    }
}

#[tokio::test]
async fn a_timer_fires_when_the_wall_clock_says_so_also_when_it_was_set() {
    let bench = Bench::new();
    let service = builder(&bench).process::<Later>().start().await.unwrap();
    service
        .entity::<Counter>("a")
        .send(CounterCommand::Open)
        .await
        .unwrap();
    run(&bench, 1).await;
    bench
        .clock
        .set_wall(bench.time.now() + Duration::from_secs(3600));
    run(&bench, 31).await;
    assert_eq!(sum(&service, "late").await, 1);
    // Set back, it does not fire again.
    bench
        .clock
        .set_wall(anabranch_domain::Timestamp::from_seconds(0));
    run(&bench, 31).await;
    assert_eq!(sum(&service, "late").await, 1);
}

/// Moves from one counter to another: takes, then gives, then diagnostics it.
pub struct Transfer;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Move {
    pub from: String,
    pub to: String,
    pub n: i64,
}

pub fn add_to(key: &str, n: i64) -> Result<Request, anabranch_domain::HandleError> {
    Request::to::<Counter>(key, &CounterCommand::Add { n })
}

impl Saga for Transfer {
    const NAME: &'static str = "transfer";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    type Input = Move;

    fn start(event: &CounterEvent, about: &EventRef<'_>) -> Option<Start<Move>> {
        // Whatever is added to `auto` goes on to `there`.
        match event {
            CounterEvent::Added { n } if about.stream == "counter/auto" && *n > 0 => Some(Start {
                key: format!("auto-{}", about.version),
                input: Move {
                    from: "auto".to_owned(),
                    to: "there".to_owned(),
                    n: *n,
                },
            }),
            _ => None,
        }
    }

    fn define() -> Definition<Move> {
        Definition::new(1)
            .compensatable("take", |step| {
                step.changes("counter")
                    .request(|input: &Move, _| add_to(&input.from, -input.n))
                    .undo(Promise::ALL, |input: &Move, _| add_to(&input.from, input.n))
                    .timeout(Duration::from_secs(600))
            })
            .pivot("give", |step| {
                step.after(["take"])
                    .changes("counter")
                    .request(|input: &Move, _| add_to(&input.to, input.n))
            })
            .retriable("note", |step| {
                step.after(["give"])
                    .changes("counter")
                    .request(|_, _| add_to("noted", 1))
            })
    }
}

pub fn moving(from: &str, to: &str, n: i64) -> Move {
    Move {
        from: from.to_owned(),
        to: to.to_owned(),
        n,
    }
}

pub async fn phase(service: &Service, key: &str) -> String {
    let stream = StreamId::of("transfer", key).unwrap();
    let shown = service.process("transfer").unwrap().show(stream).await;
    shown.description.unwrap().phase
}

#[tokio::test]
async fn a_saga_completes_with_each_effect_once() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    for _ in 0..2 {
        service
            .start_saga::<Transfer>("1", &moving("here", "there", 4))
            .await
            .unwrap();
    }
    run(&bench, 1).await;
    assert_eq!(phase(&service, "1").await, "completed");
    assert_eq!(sum(&service, "here").await, 6);
    assert_eq!(sum(&service, "there").await, 4);
    assert_eq!(sum(&service, "noted").await, 1);
    assert!(service.process("transfer").unwrap().list().await.is_empty());
}

#[tokio::test]
async fn a_saga_that_is_refused_ends_compensated() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    service
        .start_saga::<Transfer>("1", &moving("here", "there", 40))
        .await
        .unwrap();
    // The pivot refuses: below zero.
    service
        .start_saga::<Transfer>("2", &moving("here", "there", -5))
        .await
        .unwrap();
    run(&bench, 1).await;
    assert_eq!(phase(&service, "1").await, "compensated");
    assert_eq!(phase(&service, "2").await, "compensated");
    assert_eq!(sum(&service, "here").await, 10);
    assert_eq!(sum(&service, "there").await, 0);
}

#[tokio::test]
async fn a_saga_is_aborted_by_an_operator_until_its_pivot() {
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    service
        .start_saga::<Transfer>("1", &moving("here", "there", 4))
        .await
        .unwrap();
    run(&bench, 1).await;
    let stream = StreamId::of("transfer", "1").unwrap();
    let abort = SagaCommand::AbortSaga {
        why: "changed my mind".to_owned(),
    };
    let refused = service
        .command_saga(stream, &abort, None)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "rejected");
    assert_eq!(phase(&service, "1").await, "completed");
}

#[tokio::test]
async fn sagas_end_right_whatever_is_killed_and_however_the_log_misbehaves() {
    for seed in 0..6 {
        let bench = Bench::new();
        bench.log.misbehave_one_in(10, seed);
        let mut rng = anabranch_env::SplitMix64::new(seed);
        let snapshots = Arc::new(MemorySnapshots::new());
        let open = || {
            builder(&bench)
                .snapshots(snapshots.clone())
                .saga_with::<Transfer>(one_shard())
                .start()
        };
        bench.log.behave();
        let service = open().await.unwrap();
        for _ in 0..20 {
            add(&service, "auto", 7).await;
        }
        bench.log.misbehave_one_in(10, seed);
        drop(service);
        for _ in 0..15 {
            let service = open().await.unwrap();
            for _ in 0..rng.below(200) {
                tokio::task::yield_now().await;
                bench.clock.advance(Duration::from_millis(rng.below(50)));
            }
            drop(service);
        }
        bench.log.behave();
        let service = open().await.unwrap();
        run(&bench, 120).await;
        let open = service.process("transfer").unwrap().list().await;
        assert!(open.is_empty(), "seed {seed}: {open:?}");
        assert_eq!(sum(&service, "auto").await, 0, "seed {seed}");
        assert_eq!(sum(&service, "there").await, 140, "seed {seed}");
        assert_eq!(sum(&service, "noted").await, 20, "seed {seed}");
    }
}

#[tokio::test]
async fn two_runtimes_with_one_saga_end_it_once() {
    let bench = Bench::new();
    let services = [
        builder(&bench).saga::<Transfer>().start().await.unwrap(),
        builder(&bench).saga::<Transfer>().start().await.unwrap(),
    ];
    for n in 0..10 {
        add(&services[n % 2], "auto", 3).await;
        tokio::task::yield_now().await;
    }
    run(&bench, 60).await;
    assert_eq!(sum(&services[0], "there").await, 30);
    assert_eq!(sum(&services[0], "noted").await, 10);
    for version in 0..30 {
        let types = bench.types(&format!("transfer/auto-{version}")).await;
        let ended = types.iter().filter(|name| *name == "SagaCompleted").count();
        assert!(types.is_empty() || ended == 1, "{types:?}");
    }
}

/// Starts a transfer for each number that is added to `go`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Starter {
    pub done: u64,
    pub refused: u64,
}

impl Process for Starter {
    const NAME: &'static str = "starter";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match about.stream {
            "counter/go" => Correlate::Start("x".to_owned()),
            _ => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => {
                Reaction::none().start_saga::<Transfer>(n.to_string(), &moving("here", "there", *n))
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<CounterEvent>) {
        if let Input::Reply(reply) = input {
            match reply.outcome {
                Outcome::Done(_) => self.done += 1,
                _ => self.refused += 1,
            }
        }
    }
}

#[tokio::test]
async fn a_process_waits_for_the_saga_that_it_has_started() {
    let bench = Bench::new();
    let service = builder(&bench)
        .saga::<Transfer>()
        .process::<Starter>()
        .start()
        .await
        .unwrap();
    add(&service, "here", 10).await;
    add(&service, "go", 4).await;
    add(&service, "go", 40).await;
    run(&bench, 2).await;
    let process = service.process("starter").unwrap();
    let shown = process
        .show(StreamId::new("starter/x").unwrap())
        .await
        .description
        .unwrap();
    let state: Starter = shown.state.parse().unwrap();
    assert_eq!((state.done, state.refused), (1, 1));
}

#[tokio::test]
async fn an_append_that_fails_sends_nothing() {
    let bench = Bench::new();
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    add(&service, "from-a", 5).await;
    bench.log.plan([Mischief::Unavailable; 3]);
    run(&bench, 10).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [5]);
    assert_eq!(bench.types("copier/a").await, ["Received", "Settled"]);
}
