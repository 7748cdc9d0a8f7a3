//! What a person is told without asking: what is not there at the start, and what stops later.

use std::sync::{Arc, Mutex};

use anabranch_domain::saga::{Definition, Request};
use anabranch_domain::{
    Correlate, Decide, Effect, EventRef, HandleError, Input, NoEvent, Poison, Process, Query,
    Reaction, Retry, Saga, View,
};
use anabranch_runtime::view::{ViewOptions, ViewSpec};
use anabranch_runtime::{EntityOptions, Service, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::processes::{add, run};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent};

/// What was told, line by line.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn builder(&self, bench: &Bench) -> ServiceBuilder {
        let told = self.0.clone();
        let once = Retry {
            attempts_max: Some(1),
            ..Retry::DEFAULT
        };
        Service::builder("test", bench.log(), bench.time.clone())
            .entity_with::<Counter>(EntityOptions {
                restart: once,
                ..EntityOptions::default()
            })
            .alerts(move |alert| {
                let line = format!("{}: {}", alert.service, alert.text);
                told.lock().unwrap().push(line);
            })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stamp;

impl Effect for Stamp {
    const NAME: &'static str = "stamp";
    type Outcome = ();
}

/// Says what it calls, or keeps it to itself.
struct Posting<const SAYS: bool>;

impl<const SAYS: bool> Saga for Posting<SAYS> {
    const NAME: &'static str = "posting";
    type Event = NoEvent;
    type Input = ();

    fn define() -> Definition<()> {
        Definition::new(1).retriable("seal", |step| {
            let step = step.changes("letter");
            match SAYS {
                true => step.call(|(), _| Ok(Stamp)),
                false => step.request(|(), _| Request::call(&Stamp)),
            }
        })
    }
}

/// Adds up; reads one category that is there and one whose name is mistyped.
#[derive(Default, Serialize, Deserialize)]
struct Sums(i64);

impl View for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["counter", "countre"];
    const POISON: Poison = Poison::Stop;
    type Event = CounterEvent;
    type Store = Self;

    fn handle(all: &mut Self, event: &CounterEvent, _: &EventRef<'_>) -> Result<(), HandleError> {
        match event {
            CounterEvent::Added { n: 7 } => return Err("seven".into()),
            CounterEvent::Added { n } => all.0 += n,
            CounterEvent::Opened => {}
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Sum;

impl Query for Sum {
    type View = Sums;
    type Answer = i64;
    const NAME: &'static str = "sum";

    fn answer(&self, all: &Sums) -> Result<i64, HandleError> {
        Ok(all.0)
    }
}

fn sums() -> ViewSpec<Sums> {
    ViewSpec::new().query::<Sum>().options(ViewOptions {
        retry: Retry::NEVER,
        ..ViewOptions::default()
    })
}

#[tokio::test]
async fn a_saga_whose_effect_is_not_registered_does_not_start_and_names_the_line_to_add() {
    let (bench, told) = (Bench::new(), Told::default());
    let started = told.builder(&bench).saga::<Posting<true>>().start().await;
    let error = started.err().unwrap();
    let words = "saga posting, step seal: the effect \"stamp\" is not registered; \
                 add .effect::<Stamp, _, _>(|effect, key| …) where the service is built";
    assert_eq!(error.to_string(), words);
    // What `main` prints are the words.
    assert_eq!(format!("{error:?}"), words);
}

#[tokio::test]
async fn an_effect_that_nobody_declared_and_nobody_registered_is_told_once_with_saga_and_step() {
    let (bench, told) = (Bench::new(), Told::default());
    let service = told.builder(&bench).saga::<Posting<false>>().start().await;
    let service = service.unwrap();
    for key in ["1", "2"] {
        service
            .start_saga::<Posting<false>>(key, &())
            .await
            .unwrap();
    }
    run(&bench, 60).await;
    let lines = told.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let start = "test: saga posting, step seal: no effect \"stamp\" is registered here";
    assert!(lines[0].starts_with(start), "{lines:?}");
}

#[tokio::test]
async fn a_category_that_is_read_and_that_nobody_writes_is_told_at_the_start() {
    let (bench, told) = (Bench::new(), Told::default());
    let service = told.builder(&bench).view(sums()).start().await.unwrap();
    run(&bench, 1).await;
    let lines = told.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let start = "test: view sums reads the category \"countre\"";
    assert!(lines[0].starts_with(start), "{lines:?}");
    assert_eq!(service.diagnostics().len(), 1);
}

#[tokio::test]
async fn an_entity_that_is_parked_and_a_view_that_stops_are_told_once() {
    let (bench, told) = (Bench::new(), Told::default());
    let service = told.builder(&bench).view(sums()).start().await.unwrap();
    add(&service, "a", 7).await;
    let parked = service.entity::<Counter>("b");
    drop(parked.send(CounterCommand::Add { n: 13 }).await);
    run(&bench, 10).await;
    let lines = told.lines();
    let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("view sums has stopped before"), 1, "{lines:?}");
    assert_eq!(said("counter/b is parked: "), 1, "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_query_that_is_registered_twice_is_refused() {
    let (bench, told) = (Bench::new(), Told::default());
    let twice = sums().query::<Sum>();
    let error = told
        .builder(&bench)
        .view(twice)
        .start()
        .await
        .err()
        .unwrap();
    let words = "query \"sum\" of view sums is registered twice; each name means one query";
    assert_eq!(error.to_string(), words);
}

/// Stamps what was added; waits for what opens a counter.
#[derive(Default, Serialize, Deserialize)]
struct Stamping;

impl Process for Stamping {
    const NAME: &'static str = "stamping";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    const CALLS: &'static [&'static str] = &[Stamp::NAME];
    type Event = CounterEvent;

    fn correlate(event: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        match event {
            CounterEvent::Opened => Correlate::Start(about.key().to_owned()),
            CounterEvent::Added { .. } => Correlate::Continue(about.key().to_owned()),
        }
    }

    fn decide(&self, _: &Input<CounterEvent>, _: &Decide) -> Reaction {
        Reaction::none()
    }

    fn evolve(&mut self, _: &Input<CounterEvent>) {}
}

#[tokio::test]
async fn a_process_that_calls_an_effect_which_is_not_registered_does_not_start() {
    let (bench, told) = (Bench::new(), Told::default());
    let started = told.builder(&bench).process::<Stamping>().start().await;
    let why = started.err().unwrap().to_string();
    let words = "process stamping: the effect \"stamp\" is not registered; \
                 add .effect(|effect, key| …) where the service is built";
    assert_eq!(why, words);
}

#[tokio::test]
async fn what_is_held_for_an_instance_that_nothing_has_started_is_shown() {
    let (bench, told) = (Bench::new(), Told::default());
    let stamp = |_: Stamp, _| async { Ok(()) };
    let service = told.builder(&bench).effect::<Stamp, _, _>(stamp);
    let service = service.process::<Stamping>().start().await.unwrap();
    add(&service, "a", 1).await;
    add(&service, "a", 2).await;
    run(&bench, 2).await;
    let stream = "stamping/a".parse().unwrap();
    let shown = service.process("stamping").unwrap().show(stream).await;
    let described = shown.description.unwrap();
    assert_eq!(described.phase, "waiting to be started");
    let held: Vec<_> = described
        .held
        .iter()
        .map(|held| &*held.event_type)
        .collect();
    assert!(held.contains(&"Added") && held.len() == 2, "{held:?}");
    assert_eq!(described.held[0].stream.as_str(), "counter/a");
}
