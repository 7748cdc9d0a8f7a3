//! What is remembered and heard: bounded, and the same with and without what is kept to
//! save time.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Correlate, Decide, Event, EventRef, Input, Process, Reaction};
use anabranch_runtime::Service;
use anabranch_runtime::snapshot::MemorySnapshots;
use serde::{Deserialize, Serialize};

use crate::processes::{Copier, Transfer, add, builder, moving, run, sum};
use crate::promises::{Level, LevelCommand};
use crate::support::{Bench, Counter, CounterCommand, settle};

#[tokio::test]
async fn what_is_remembered_for_ended_sagas_does_not_grow_for_ever() {
    async fn bytes(service: &Service) -> usize {
        // Something else loads the entity, as any command does.
        add(service, "there", 1).await;
        settle().await;
        service.any_entity("counter").unwrap().memory().1
    }
    async fn sagas(bench: &Bench, service: &Service, range: std::ops::Range<u32>) {
        for n in range {
            let input = moving("here", "there", 0);
            service
                .start_saga::<Transfer>(&n.to_string(), &input)
                .await
                .unwrap();
        }
        run(bench, 5).await;
    }
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    sagas(&bench, &service, 0..100).await;
    let before = bytes(&service).await;
    drop(service);
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    run(&bench, 5).await;
    let (hundred, none) = (bytes(&service).await, before);
    sagas(&bench, &service, 100..1000).await;
    drop(service);
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    run(&bench, 5).await;
    let thousand = bytes(&service).await;
    assert!(
        thousand < 2 * none.max(hundred),
        "memory of one entity: {none} bytes before a restart, {hundred} after a restart behind 100 ended sagas, {thousand} behind 1000"
    );
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum Both {
    Added { n: i64 },
    LevelSet { n: i64 },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Wide<const V: u8>;
impl<const V: u8> Process for Wide<V> {
    const NAME: &'static str = "wide";
    const CATEGORIES: &'static [&'static str] = if V == 1 {
        &["counter"]
    } else {
        &["counter", "level"]
    };
    type Event = Both;
    fn correlate(_: &Both, about: &EventRef<'_>) -> Correlate {
        match about.stream {
            "counter/out" => Correlate::Ignore,
            stream => Correlate::Start(stream.replace('/', "-")),
        }
    }
    fn decide(&self, input: &Input<Both>, _: &Decide) -> Reaction {
        match input {
            Input::Event(Both::LevelSet { n }, _) => {
                Reaction::none().send::<Counter>("out", &CounterCommand::Add { n: *n })
            }
            _ => Reaction::none(),
        }
    }
    fn evolve(&mut self, _: &Input<Both>) {}
}

#[tokio::test]
async fn what_a_process_hears_does_not_depend_on_whether_a_snapshot_is_there() {
    let mut heard = Vec::new();
    for keep in [true, false] {
        let bench = Bench::new();
        let store = Arc::new(MemorySnapshots::new());
        let with = |store: &Arc<MemorySnapshots>| {
            builder(&bench).snapshots(store.clone()).entity::<Level>()
        };
        let service = with(&store).process::<Wide<1>>().start().await.unwrap();
        service
            .entity::<Level>("a")
            .send(LevelCommand::Set { n: 3 })
            .await
            .unwrap();
        add(&service, "in", 1).await;
        run(&bench, 2).await;
        assert!(service.shutdown(Duration::from_secs(5)).await);
        drop(service);
        // Snapshots are "rebuildable: one that is lost costs time and nothing else".
        let store = match keep {
            true => store,
            false => Arc::new(MemorySnapshots::new()),
        };
        let service = with(&store).process::<Wide<2>>().start().await.unwrap();
        run(&bench, 10).await;
        heard.push(sum(&service, "out").await);
    }
    assert_eq!(heard[0], heard[1], "with the kept place, and without it");
}

#[tokio::test]
async fn what_was_delivered_is_no_dead_letter_after_a_restart_without_its_receiver() {
    let bench = Bench::new();
    let service = builder(&bench).process::<Copier>().start().await.unwrap();
    for n in 0..30 {
        add(&service, &format!("from-{n}"), 1).await;
    }
    run(&bench, 5).await;
    assert_eq!(sum(&service, "to-7").await, 1);
    drop(service);
    let alone = Service::builder("test", bench.log(), bench.time.clone()).process::<Copier>();
    let alone = alone.start().await.unwrap();
    run(&bench, 5).await;
    assert_eq!(alone.dead_letters(), []);
}
