//! What a program's own subscriber sees of the journeys of commands, events and calls.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use anabranch_domain::saga::{Definition, Request};
use anabranch_domain::{Effect, EventRef, HandleError, NoEvent, Saga, View};
use anabranch_runtime::view::ViewSpec;
use anabranch_runtime::{CallError, SendOptions, TELEMETRY_TARGET};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::processes::{Transfer, add, builder, moving, run};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent};

/// A subscriber that keeps what it is told of.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Each span at its id, less one.
    spans: Vec<One>,
    /// Those that are entered now: all tasks of a test are on one thread.
    inside: Vec<u64>,
}

#[derive(Clone, Default)]
struct One {
    name: &'static str,
    parent: Option<u64>,
    follows: Vec<u64>,
    fields: Fields,
}

#[derive(Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TELEMETRY_TARGET
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().unwrap();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.is_contextual() {
            true => state.inside.last().copied(),
            false => attributes.parent().map(Id::into_u64),
        };
        state.spans.push(One {
            name: attributes.metadata().name(),
            parent,
            follows: Vec::new(),
            fields,
        });
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut state = self.0.lock().unwrap();
        values.record(&mut state.spans[span.into_u64() as usize - 1].fields);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        let mut state = self.0.lock().unwrap();
        let one = &mut state.spans[span.into_u64() as usize - 1];
        one.follows.push(follows.into_u64());
    }

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().inside.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let left = self.0.lock().unwrap().inside.pop();
        assert_eq!(left, Some(span.into_u64()), "spans end in another order");
    }
}

impl Seen {
    /// The spans of this name, with their ids.
    fn of(&self, name: &str) -> Vec<(u64, One)> {
        let state = self.0.lock().unwrap();
        let all = (1..).zip(state.spans.iter().cloned());
        all.filter(|(_, one)| one.name == name).collect()
    }

    /// The one span of this name.
    #[track_caller]
    fn only(&self, name: &str) -> (u64, One) {
        let mut all = self.of(name);
        assert_eq!(all.len(), 1, "spans called {name}");
        all.remove(0)
    }

    fn forget(&self) {
        self.0.lock().unwrap().spans.clear();
    }
}

impl One {
    fn field(&self, name: &str) -> &str {
        self.fields.0.get(name).map_or("", String::as_str)
    }
}

/// Adds up.
#[derive(Default, Serialize, Deserialize)]
struct Sums(i64);

impl View for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    type Store = Self;

    fn handle(all: &mut Self, event: &CounterEvent, _: &EventRef<'_>) -> Result<(), HandleError> {
        if let CounterEvent::Added { n } = event {
            all.0 += n;
        }
        Ok(())
    }
}

/// Rings at somebody's door.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ring;

impl Effect for Ring {
    const NAME: &'static str = "ring";
    type Outcome = ();
}

struct Visiting;

impl Saga for Visiting {
    const NAME: &'static str = "visiting";
    type Event = NoEvent;
    type Input = ();

    fn define() -> Definition<()> {
        Definition::new(1).retriable("arrive", |step| {
            step.changes("door").request(|(), _| Request::call(&Ring))
        })
    }
}

#[tokio::test]
async fn a_subscriber_sees_a_command_decided_appended_and_taken_in_by_a_view() {
    let seen = Seen::default();
    let _here = tracing::subscriber::set_default(seen.clone());
    let bench = Bench::new();
    let view = ViewSpec::<Sums>::new();
    let service = builder(&bench).view(view).start().await.unwrap();
    let options = SendOptions {
        correlation_id: Some("story-7".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..SendOptions::default()
    };
    let counter = service.entity::<Counter>("1");
    let sent = counter.send_with(CounterCommand::Add { n: 5 }, options);
    sent.await.unwrap();
    run(&bench, 1).await;

    let (id, command) = seen.only("command");
    assert_eq!(command.field("messaging.system"), "anabranch");
    assert_eq!(command.field("messaging.operation.name"), "send");
    assert_eq!(command.field("messaging.destination.name"), "counter");
    assert_eq!(
        command.field("messaging.message.conversation_id"),
        "story-7"
    );
    assert_eq!(command.field("messaging.message.id").len(), 36);
    assert_eq!(command.field("anabranch.stream"), "counter/1");
    assert!(command.field("anabranch.traceparent").ends_with("-01"));
    assert_eq!(command.field("error.type"), "");
    let (_, decided) = seen.only("decide");
    assert_eq!(decided.parent, Some(id));
    assert_eq!(decided.field("messaging.operation.type"), "process");
    let appends = seen.of("append");
    let appended: Vec<_> = appends
        .iter()
        .filter(|(_, a)| a.parent == Some(id))
        .collect();
    assert_eq!(appended.len(), 1);
    assert_eq!(appended[0].1.field("messaging.batch.message_count"), "1");
    assert!(appended[0].1.field("anabranch.position").starts_with("0:"));
    let views = seen.of("view");
    let of_story = |one: &One| one.field("messaging.message.conversation_id") == "story-7";
    let (_, view) = views.iter().find(|(_, one)| of_story(one)).unwrap();
    assert_eq!(view.field("messaging.consumer.group.name"), "sums");
    assert_eq!(view.field("messaging.batch.message_count"), "1");
}

#[tokio::test]
async fn a_subscriber_sees_the_step_of_a_saga_and_each_call_of_it() {
    let seen = Seen::default();
    let _here = tracing::subscriber::set_default(seen.clone());
    let bench = Bench::new();
    let tries = Arc::new(Mutex::new(0));
    let service = builder(&bench)
        .saga::<Visiting>()
        .effect::<Ring, _, _>(move |_, _| {
            let tries = tries.clone();
            async move {
                *tries.lock().unwrap() += 1;
                match *tries.lock().unwrap() {
                    1 => Err(CallError::Failed("nobody opens".to_owned())),
                    _ => Ok(()),
                }
            }
        })
        .start()
        .await
        .unwrap();
    service.start_saga::<Visiting>("1", &()).await.unwrap();
    run(&bench, 5).await;

    let (id, step) = seen.only("step");
    assert_eq!(step.field("anabranch.stream"), "visiting/1");
    assert_eq!(step.field("anabranch.saga.step"), "arrive");
    assert_eq!(step.field("messaging.destination.name"), "ring");
    let calls = seen.of("call");
    assert_eq!(calls.len(), 2);
    for (_, call) in &calls {
        assert_eq!(call.parent, Some(id));
        assert_eq!(call.field("otel.kind"), "client");
        let key = step.field("messaging.message.id");
        assert_eq!(call.field("messaging.message.id"), key);
    }
    // A code, not the provider's words: these may name a person.
    assert_eq!(calls[0].1.field("error.type"), "failed");
    assert_eq!(calls[1].1.field("error.type"), "");
}

#[tokio::test]
async fn a_command_that_a_saga_sends_is_below_its_step() {
    let seen = Seen::default();
    let _here = tracing::subscriber::set_default(seen.clone());
    let bench = Bench::new();
    let service = builder(&bench).saga::<Transfer>().start().await.unwrap();
    add(&service, "here", 10).await;
    seen.forget();
    let input = moving("here", "there", 4);
    service.start_saga::<Transfer>("1", &input).await.unwrap();
    run(&bench, 1).await;
    let steps = seen.of("step");
    let names: Vec<_> = steps
        .iter()
        .map(|(_, s)| s.field("anabranch.saga.step"))
        .collect();
    assert_eq!(names, ["take", "give", "note"]);
    let parents: Vec<_> = seen.of("command").iter().map(|(_, c)| c.parent).collect();
    let ids: Vec<_> = steps.iter().map(|&(id, _)| Some(id)).collect();
    assert_eq!(parents, ids);
}

#[tokio::test]
async fn an_append_of_several_commands_follows_from_each_of_them() {
    let seen = Seen::default();
    let _here = tracing::subscriber::set_default(seen.clone());
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    // Both are in memory: what they decide leaves together.
    for key in ["1", "2"] {
        add(&service, key, 1).await;
    }
    seen.forget();
    tokio::join!(add(&service, "1", 1), add(&service, "2", 1));
    let (_, append) = seen.only("append");
    let commands: Vec<u64> = seen.of("command").iter().map(|&(id, _)| id).collect();
    let mut follows = append.follows.clone();
    follows.sort_unstable();
    assert_eq!(append.parent, None);
    assert_eq!(follows, commands);
    assert_eq!(append.field("messaging.batch.message_count"), "2");
}

#[tokio::test]
async fn a_command_that_fails_has_the_code_of_its_error() {
    let seen = Seen::default();
    let _here = tracing::subscriber::set_default(seen.clone());
    let bench = Bench::new();
    let service = builder(&bench).start().await.unwrap();
    let options = SendOptions {
        expect: Some(anabranch_log::Expect::At(7)),
        ..SendOptions::default()
    };
    let counter = service.entity::<Counter>("1");
    let sent = counter.send_with(CounterCommand::Add { n: 5 }, options);
    assert!(sent.await.is_err());
    let (_, command) = seen.only("command");
    assert_eq!(command.field("error.type"), "version-mismatch");
}
