//! A runtime takes over what another has begun: from journals, snapshots and the place.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Correlate, Decide, EventRef, Input, Process, Reaction};
use anabranch_log::Log as _;
use anabranch_runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch_runtime::{Fleet, ProcessOptions, Service};
use serde::{Deserialize, Serialize};

use crate::faults::{Changing, OtherCopier, phase_of, show};
use crate::processes::{Copier, add, builder, moving, numbers, one_shard, run, sum};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent};

#[tokio::test]
async fn a_long_journal_is_taken_over_from_its_snapshot() {
    const EVENTS: i64 = 3000;
    let bench = Bench::new();
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshots::new());
    let start = || {
        let options = ProcessOptions {
            snapshot_every: 100,
            ..one_shard()
        };
        builder(&bench)
            .snapshots(snapshots.clone())
            .process_with::<Copier>(options)
            .start()
    };
    let service = start().await.unwrap();
    let counter = service.entity::<Counter>("from-a");
    for _ in 0..EVENTS / 100 {
        let numbers = vec![1; 100];
        counter
            .send(CounterCommand::AddAll { numbers })
            .await
            .unwrap();
        run(&bench, 1).await;
    }
    drop(service);
    bench.log.take_reads("copier");
    let service = start().await.unwrap();
    add(&service, "from-a", 2).await;
    run(&bench, 5).await;
    let from = bench.log.take_reads("copier");
    let length = bench.types("copier/a").await.len() as u64;
    assert!(length >= EVENTS as u64);
    assert!(!from.is_empty());
    assert!(from.iter().all(|from| from + 400 > length), "{from:?}");
    let copied = show(&service, "copier", "a").await.description.unwrap();
    let copied = copied.state.parse::<Copier>().unwrap().copied;
    assert_eq!(copied, EVENTS as u64 + 1);
    assert_eq!(sum(&service, "to-a").await, EVENTS + 2);
}

#[tokio::test]
async fn a_snapshot_of_another_program_is_dropped() {
    let bench = Bench::new();
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshots::new());
    let options = || ProcessOptions {
        snapshot_every: 1,
        ..one_shard()
    };
    let service = builder(&bench).snapshots(snapshots.clone());
    let service = service.process_with::<Copier>(options());
    let service = service.start().await.unwrap();
    add(&service, "from-a", 1).await;
    run(&bench, 1).await;
    drop(service);
    bench.log.take_reads("copier");
    let service = builder(&bench).snapshots(snapshots.clone());
    let service = service.process_with::<OtherCopier>(options());
    let service = service.start().await.unwrap();
    add(&service, "from-a", 2).await;
    run(&bench, 1).await;
    let from = bench.log.take_reads("copier");
    assert!(from.contains(&0), "{from:?}");
    assert_eq!(numbers(&bench, "counter/to-a").await, [1, 200]);
}

/// Copies one number and ends.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Brief;

impl Process for Brief {
    const NAME: &'static str = "brief";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match about.stream {
            "counter/from" => Correlate::Start(about.version.to_string()),
            _ => Correlate::Ignore,
        }
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => Reaction::none()
                .send::<Counter>("to", &CounterCommand::Add { n: *n })
                .complete(),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn instances_that_have_ended_are_not_read_by_who_takes_over() {
    let bench = Bench::new();
    // Nothing is kept beside the log: everything is looked through again.
    let start = || builder(&bench).process_with::<Brief>(one_shard()).start();
    let service = start().await.unwrap();
    for n in 100..150 {
        add(&service, "from", n).await;
    }
    run(&bench, 5).await;
    assert_eq!(numbers(&bench, "counter/to").await.len(), 50);
    assert!(service.process("brief").unwrap().list().await.is_empty());
    drop(service);
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshots::new());
    let take_over = async |snapshots: &Arc<dyn SnapshotStore>| {
        let service = builder(&bench).snapshots(snapshots.clone());
        let service = service.process_with::<Brief>(one_shard());
        let service = service.start().await.unwrap();
        bench.log.take_reads("brief");
        run(&bench, 2).await;
        service
    };
    // Without a place everything is consumed again; with one nothing is.
    let service = take_over(&snapshots).await;
    let consumed_again = bench.log.take_reads("brief").len();
    assert!(consumed_again <= 50, "{consumed_again}");
    assert!(service.shutdown(Duration::from_secs(5)).await);
    drop(take_over(&snapshots).await);
    assert_eq!(bench.log.take_reads("brief"), [0; 0]);
    assert_eq!(numbers(&bench, "counter/to").await.len(), 50);
}

#[tokio::test]
async fn instances_that_wait_for_nothing_are_not_read_by_who_takes_over() {
    let bench = Bench::new();
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshots::new());
    let start = async || {
        let service = builder(&bench).snapshots(snapshots.clone());
        let service = service.process_with::<Copier>(one_shard());
        service.start().await.unwrap()
    };
    let service = start().await;
    for n in 0..30 {
        add(&service, &format!("from-{n}"), 100 + n).await;
    }
    run(&bench, 2).await;
    assert!(service.shutdown(Duration::from_secs(5)).await);
    bench.log.take_reads("copier");
    let service = start().await;
    run(&bench, 2).await;
    assert_eq!(bench.log.take_reads("copier"), [0; 0]);
    // They have not ended, and an operator sees them.
    assert_eq!(service.process("copier").unwrap().list().await.len(), 30);
    add(&service, "from-3", 7).await;
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/to-3").await, [103, 7]);
}

#[tokio::test]
async fn a_saga_that_another_runtime_began_is_not_forgotten_in_the_place() {
    let bench = Bench::new();
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshots::new());
    // Of two runtimes only the first keeps a place; only the second hears of the saga.
    let fleet = Fleet::new();
    let away = |bench: &Bench| {
        Service::builder("test", bench.log(), bench.time.clone()).port(fleet.port())
    };
    let first = away(&bench).snapshots(snapshots.clone());
    let first = first.saga_with::<Changing<1>>(one_shard());
    let first = first.start().await.unwrap();
    let second = away(&bench).saga_with::<Changing<1>>(one_shard());
    let second = second.start().await.unwrap();
    let input = moving("here", "there", 5);
    second.start_saga::<Changing<1>>("x", &input).await.unwrap();
    run(&bench, 2).await;
    drop(second);
    assert!(first.shutdown(Duration::from_secs(5)).await);
    let service = builder(&bench).snapshots(snapshots);
    let service = service.saga_with::<Changing<1>>(one_shard());
    let service = service.start().await.unwrap();
    run(&bench, 120).await;
    assert_eq!(numbers(&bench, "counter/there").await, [5]);
    assert_eq!(phase_of(&service, "changing", "x").await, "completed");
}

#[tokio::test]
async fn a_process_consumes_nothing_behind_a_gap_in_the_log() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    for n in 1..6 {
        add(&service, "from-a", n).await;
    }
    drop(service);
    bench.log.lose(Some(2..3));
    let service = builder(&bench).process::<Copier>();
    let service = service.start().await.unwrap();
    run(&bench, 5).await;
    assert!(numbers(&bench, "counter/to-a").await.is_empty());
    let diagnostics = service.diagnostics();
    let told = diagnostics
        .iter()
        .any(|note| note.text.contains("leaves out positions 0 to 2"));
    assert!(told, "{diagnostics:?}");
    bench.log.lose(None);
    run(&bench, 5).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_process_that_begins_now_never_hears_what_was_before_also_when_its_place_is_lost() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    for n in [1, 2] {
        add(&service, "from-a", n).await;
    }
    service.kill();
    for n in [3, 4] {
        // Each start has snapshots of its own: what was kept is lost.
        let now = ProcessOptions::default().from_now();
        let service = builder(&bench).process_with::<Copier>(now);
        let service = service.start().await.unwrap();
        run(&bench, 2).await;
        add(&service, "from-a", n).await;
        run(&bench, 2).await;
        service.kill();
    }
    assert_eq!(numbers(&bench, "counter/to-a").await, [3, 4]);
}

#[tokio::test]
async fn a_process_begins_behind_the_cut_that_it_is_told() {
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "from-a", 1).await;
    let cut = bench.log.head().await.unwrap();
    add(&service, "from-a", 2).await;
    service.kill();
    let behind = ProcessOptions::default().from(cut);
    let service = builder(&bench).process_with::<Copier>(behind);
    let _service = service.start().await.unwrap();
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [2]);
}

#[tokio::test]
async fn a_process_that_is_new_on_a_log_with_a_history_does_not_start_before_it_says_where_it_begins()
 {
    let bench = Bench::new();
    bench.log.claim_to_survive();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "from-a", 1).await;
    service.kill();
    let refused = builder(&bench).process::<Copier>().start().await;
    let why = refused.err().unwrap().to_string();
    assert!(
        why.starts_with("process copier is new on this log"),
        "{why}"
    );
    let line = ".process_with::<Copier>(ProcessOptions::default().from_now())";
    assert!(why.contains(line), "{why}");
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [0; 0]);
    let all = ProcessOptions::default().from_start();
    let service = builder(&bench).process_with::<Copier>(all).start().await;
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [1]);
    drop(service);
    // It is new no longer.
    builder(&bench).process::<Copier>().start().await.unwrap();
}

#[tokio::test]
async fn a_process_that_was_there_before_the_first_event_starts_again_without_saying_where() {
    let bench = Bench::new();
    bench.log.claim_to_survive();
    builder(&bench)
        .process::<Copier>()
        .start()
        .await
        .unwrap()
        .kill();
    let service = builder(&bench).start().await.unwrap();
    add(&service, "from-a", 1).await;
    service.kill();
    let _service = builder(&bench).process::<Copier>().start().await.unwrap();
    run(&bench, 2).await;
    assert_eq!(numbers(&bench, "counter/to-a").await, [1]);
}
