//! Builds of different versions on one log, and what a service keeps to itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::{
    CommandId, Decide, Downcasts, Entity, Event, EventRef, FieldChange, HandleError, Publishes,
    Query, Rejection, Upcasts, View,
};
use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, Order,
    PartitionedLog, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
use anabranch_runtime::port::Subject;
use anabranch_runtime::view::{Consistency, CopyState, ViewSpec};
use anabranch_runtime::{EntityHandle, Fleet, SendError, SendOptions, Service, StartError, Time};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::memory;

/// A gauge, in three builds. The first one has `level`.
macro_rules! gauge {
    ($name:ident, $command:ident { $($commands:tt)* }, $event:ident { $($events:tt)* },
     $field:ident, $attribute:meta, $upcasts:expr) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        enum $command { $($commands)* }

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
        #[$attribute]
        enum $event { $($events)* }

        #[derive(Debug, Default, Serialize, Deserialize)]
        struct $name(i64);

        impl Entity for $name {
            const CATEGORY: &'static str = "gauge";
            type Command = $command;
            type Event = $event;
            type Rejection = Rejection;

            fn decide(&self, command: &$command, _: &Decide) -> Result<Vec<$event>, Rejection> {
                let $command::Set { $field } = command;
                Ok(vec![$event::WasSet { $field: $field + self.0 }])
            }

            fn evolve(&mut self, event: &$event) {
                let $event::WasSet { $field } = event;
                self.0 = *$field;
            }

            fn command_upcasts() -> Upcasts {
                $upcasts
            }
        }
    };
}

gauge!(First, FirstCommand { Set { level: i64 } }, FirstEvent { WasSet { level: i64 } },
    level, event(crate = "anabranch_domain"), Upcasts::none());
gauge!(
    Second,
    SecondCommand { #[serde(rename = "Set@2")] Set { height: i64 } },
    SecondEvent { #[event(version = 2)] WasSet { height: i64 } },
    height, event(upcasts = raised, downcasts = lowered),
    Upcasts::none().change("Set", 1, renamed)
);
gauge!(
    Silent,
    SilentCommand { Set { height: i64 } },
    SilentEvent { #[event(version = 2)] WasSet { height: i64 } },
    height, event(upcasts = raised), Upcasts::none()
);

fn renamed(data: serde_json::Value) -> Result<serde_json::Value, String> {
    Ok(json!({ "height": data["level"] }))
}

fn raised() -> Upcasts {
    Upcasts::none().change("WasSet", 1, renamed)
}

fn lowered() -> Downcasts {
    Downcasts::none().change("WasSet", 2, [FieldChange::rename("height", "level")])
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Levels(BTreeMap<String, i64>);

impl View for Levels {
    const NAME: &'static str = "levels";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["gauge"];
    type Event = FirstEvent;
    type Store = Self;

    fn handle(
        view: &mut Self,
        event: &FirstEvent,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let FirstEvent::WasSet { level } = event;
        view.0.insert(about.key().to_owned(), *level);
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct LevelOf(String);

impl Query for LevelOf {
    type View = Levels;
    type Answer = Option<i64>;
    const NAME: &'static str = "level";

    fn answer(&self, view: &Levels) -> Result<Option<i64>, HandleError> {
        Ok(view.0.get(&self.0).copied())
    }
}

fn log() -> (Arc<dyn Log>, Time) {
    let env = Env::os();
    let time = Time::of(&env);
    (memory(env), time)
}

fn readers(log: &Arc<dyn Log>, time: &Time) -> anabranch_runtime::ServiceBuilder {
    Service::builder("readers", log.clone(), time.clone())
        .alerts(|_| {})
        .view(ViewSpec::<Levels>::new().query::<LevelOf>())
}

async fn level(service: &Service, seen: Cut) -> Result<Option<i64>, String> {
    let consistency = Consistency {
        seen,
        ..Consistency::default()
    };
    let asked = service.query(LevelOf("a".to_owned()), consistency).await;
    asked
        .map(|answer| answer.value)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_reader_that_runs_meets_newer_events_by_the_downcasts_that_stand_in_the_log() {
    let (log, time) = log();
    let old = readers(&log, &time).start().await.unwrap();
    let first = Service::builder("gauges", log.clone(), time.clone()).entity::<First>();
    let first = first.start().await.unwrap();
    let gauge = first.entity::<First>("a");
    gauge.send(FirstCommand::Set { level: 1 }).await.unwrap();
    first.shutdown(std::time::Duration::from_secs(5)).await;

    let second = Service::builder("gauges", log.clone(), time.clone()).entity::<Second>();
    let second = second.start().await.unwrap();
    let gauge = second.entity::<Second>("a");
    let sent = gauge.send(SecondCommand::Set { height: 2 }).await.unwrap();
    assert_eq!(level(&old, sent.token.clone()).await, Ok(Some(3)));
    second.shutdown(std::time::Duration::from_secs(5)).await;

    // The build before goes on where the newer one was.
    let first = Service::builder("gauges", log.clone(), time.clone()).entity::<First>();
    let first = first.start().await.unwrap();
    let gauge = first.entity::<First>("a");
    let sent = gauge.send(FirstCommand::Set { level: 4 }).await.unwrap();
    assert_eq!(level(&old, sent.token.clone()).await, Ok(Some(7)));
}

#[tokio::test]
async fn a_reader_for_which_there_is_no_downcast_stops_and_says_why() {
    let (log, time) = log();
    let old = readers(&log, &time).start().await.unwrap();
    let silent = Service::builder("gauges", log.clone(), time.clone()).entity::<Silent>();
    let silent = silent.start().await.unwrap();
    let gauge = silent.entity::<Silent>("a");
    let sent = gauge.send(SilentCommand::Set { height: 2 }).await.unwrap();
    let error = level(&old, sent.token.clone()).await.unwrap_err();
    assert!(
        error.contains("it was written by a newer program"),
        "{error}"
    );
    let (_, view) = old.views().next().unwrap();
    let status = view.status().await;
    let state = &status
        .serving
        .as_ref()
        .or(status.building.as_ref())
        .unwrap()
        .state;
    assert!(matches!(state, CopyState::Stopped { .. }), "{state:?}");
}

#[tokio::test]
async fn commands_of_an_older_form_are_led_on_to_the_present_one() {
    let (log, time) = log();
    let fleet = Fleet::new();
    let second = Service::builder("gauges", log, time.clone()).entity::<Second>();
    fleet.join(second.start().await.unwrap());
    let old = EntityHandle::<First>::through(fleet.port(), time.clone(), "a");
    let done = old.send(FirstCommand::Set { level: 5 }).await.unwrap();
    assert_eq!(done.version, Some(0));
    let new = EntityHandle::<Second>::through(fleet.port(), time, "a");
    let done = new.send(SecondCommand::Set { height: 2 }).await.unwrap();
    let recorded = done.recorded_events().unwrap();
    assert_eq!(recorded[0].data.as_str(), r#"{"height":7}"#);
}

/// A log that does not show what services have said, as to somebody whose key has no scope for that.
struct Reserved(Arc<dyn Log>);

impl Log for Reserved {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.0.append(append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.0.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        if filter
            .categories
            .iter()
            .any(|category| category == "$schema")
        {
            // No log has such a place.
            return self.0.read(&Cut::at(u64::MAX), filter, mode);
        }
        self.0.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.0.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.0.head()
    }
}

#[tokio::test]
async fn who_may_not_see_what_services_say_stops_before_a_newer_event_and_says_why() {
    let (log, time) = log();
    let reserved: Arc<dyn Log> = Arc::new(Reserved(log.clone()));
    let old = readers(&reserved, &time).start().await.unwrap();
    let second = Service::builder("gauges", log, time).entity::<Second>();
    let second = second.start().await.unwrap();
    let gauge = second.entity::<Second>("a");
    let sent = gauge.send(SecondCommand::Set { height: 2 }).await.unwrap();
    let error = level(&old, sent.token.clone()).await.unwrap_err();
    assert!(
        error.contains("it was written by a newer program"),
        "{error}"
    );
    let noted = old.diagnostics();
    let is_noted = |text: &str| noted.iter().any(|note| note.text.contains(text));
    assert!(is_noted("cannot look how newer events are read"));
}

#[tokio::test]
async fn what_nobody_understands_of_what_services_say_is_passed_over_with_a_note() {
    let (log, time) = log();
    let stream = StreamId::system("$schema/gauge").unwrap();
    let strange = NewEvent::new(
        EventId::from_u128(1),
        stream,
        "$TypesRegistered".parse().unwrap(),
        r#"{"form":"of a later time"}"#,
    );
    log.append(Append::event(strange)).await.unwrap();
    let old = readers(&log, &time).start().await.unwrap();
    let second = Service::builder("gauges", log.clone(), time).entity::<Second>();
    let second = second.start().await.unwrap();
    let gauge = second.entity::<Second>("a");
    let sent = gauge.send(SecondCommand::Set { height: 2 }).await.unwrap();
    assert_eq!(level(&old, sent.token.clone()).await, Ok(Some(2)));
    let noted = old.diagnostics();
    let is_noted = |text: &str| noted.iter().any(|note| note.text.contains(text));
    assert!(is_noted("was it written by a newer program?"));
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum GaugeNews {
    Overflowed { level: i64 },
}

impl Publishes for First {
    const PUBLISHED: &'static str = "gauge-news";
    type Published = GaugeNews;

    fn publish(&self, _: &FirstEvent) -> Option<GaugeNews> {
        (self.0 > 10).then_some(GaugeNews::Overflowed { level: self.0 })
    }
}

/// Reads what is published, in its own words.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Floods(u64);

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(upcasts = own_words)]
enum Flood {
    Came { centimetres: i64 },
}

fn own_words() -> Upcasts {
    Upcasts::none()
        .change("Overflowed", 1, |data| {
            let level = data["level"].as_i64().ok_or("`level` is no number")?;
            Ok(json!({ "centimetres": level * 100 }))
        })
        .rename(("Overflowed", 2), ("Came", 1))
}

impl View for Floods {
    const NAME: &'static str = "floods";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["gauge-news"];
    type Event = Flood;
    type Store = Self;

    fn handle(view: &mut Self, event: &Flood, _: &EventRef<'_>) -> Result<(), HandleError> {
        let Flood::Came { centimetres } = event;
        view.0 += u64::try_from(*centimetres)?;
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Total;

impl Query for Total {
    type View = Floods;
    type Answer = u64;
    const NAME: &'static str = "total";

    fn answer(&self, view: &Floods) -> Result<u64, HandleError> {
        Ok(view.0)
    }
}

#[tokio::test]
async fn what_publishes_does_not_start_on_a_log_where_what_it_publishes_stands_apart() {
    let env = Env::os();
    let starts = |groups: &[&str]| {
        let groups = groups.iter().map(|group| group.parse().unwrap());
        let layout = Layout::new(groups.collect(), 2).unwrap();
        let log = Arc::new(PartitionedLog::in_memory(&env, layout));
        Service::builder("gauges", log, Time::of(&env)).publishing_entity::<First>()
    };
    let apart = starts(&["gauges=gauge:2"]).start().await.err().unwrap();
    let words = apart.to_string();
    assert!(matches!(apart, StartError::Apart { .. }), "{words}");
    assert!(
        words.contains("--group NAME=gauge,gauge-news:COUNT"),
        "{words}"
    );
    for together in [&["gauges=gauge,gauge-news:2"][..], &[]] {
        let gauges = starts(together).start().await.unwrap();
        let gauge = gauges.entity::<First>("a");
        gauge.send(FirstCommand::Set { level: 3 }).await.unwrap();
        gauge.send(FirstCommand::Set { level: 9 }).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_published_stands_in_the_same_append_and_one_token_covers_both() {
    let (log, time) = log();
    let gauges = Service::builder("gauges", log.clone(), time.clone()).publishing_entity::<First>();
    let gauges = gauges.start().await.unwrap();
    let others = Service::builder("others", log.clone(), time.clone());
    let others = others.view(ViewSpec::<Floods>::new().query::<Total>());
    let others = others.start().await.unwrap();
    let gauge = gauges.entity::<First>("a");
    gauge.send(FirstCommand::Set { level: 3 }).await.unwrap();
    let sent = gauge.send(FirstCommand::Set { level: 9 }).await.unwrap();
    let consistency = Consistency {
        seen: sent.token.clone(),
        ..Consistency::default()
    };
    assert_eq!(others.query(Total, consistency).await.unwrap().value, 1200);

    let mut read = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut all = Vec::new();
    while let Some(event) = read.next().await {
        let event = event.unwrap();
        all.push((
            event.stream().to_string(),
            event.event_type().to_owned(),
            event.meta().decode().unwrap().causation_id,
            event.id,
        ));
    }
    let own = all
        .iter()
        .rfind(|(stream, ..)| stream == "gauge/a")
        .unwrap();
    let told: Vec<_> = all
        .iter()
        .filter(|(stream, ..)| stream == "gauge-news/a")
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].2, Some(own.3.to_string()));
}

#[tokio::test]
async fn a_command_whose_published_event_has_an_id_that_is_taken_is_refused_at_once() {
    let set = || {
        let options = SendOptions {
            id: Some(CommandId::from_u128(7)),
            ..SendOptions::default()
        };
        (FirstCommand::Set { level: 11 }, options)
    };
    // What it publishes has this id.
    let (other, time) = log();
    let gauges = Service::builder("gauges", other.clone(), time.clone());
    let gauges = gauges.publishing_entity::<First>().start().await.unwrap();
    let (command, options) = set();
    let gauge = gauges.entity::<First>("a");
    gauge.send_with(command, options).await.unwrap();
    let mut read = other.read(
        &Cut::start(),
        Filter::category("gauge-news"),
        ReadMode::ToHead,
    );
    let id = read.next().await.unwrap().unwrap().id;

    let (log, _) = log();
    let stream = StreamId::new("note/1").unwrap();
    let taken = NewEvent::new(id, stream, "Noted".parse().unwrap(), "{}");
    log.append(Append::event(taken)).await.unwrap();
    let gauges = Service::builder("gauges", log.clone(), time);
    let gauges = gauges.publishing_entity::<First>().start().await.unwrap();
    let gauge = gauges.entity::<First>("a");
    let (command, options) = set();
    let refused = gauge.send_with(command, options).await.unwrap_err();
    let SendError::Invalid(why) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains(&format!("event id {id} is taken")), "{why}");
    // The others go on.
    let sent = gauge.send(FirstCommand::Set { level: 12 }).await.unwrap();
    assert_eq!(sent.version, Some(0));
}

/// An entity where another one publishes, which publishes where it keeps its own.
#[derive(Debug, Default, Serialize, Deserialize)]
struct InTheWay;

impl Entity for InTheWay {
    const CATEGORY: &'static str = "gauge-news";
    type Command = GaugeNews;
    type Event = GaugeNews;
    type Rejection = Rejection;

    fn decide(&self, command: &GaugeNews, _: &Decide) -> Result<Vec<GaugeNews>, Rejection> {
        Ok(vec![command.clone()])
    }

    fn evolve(&mut self, _: &GaugeNews) {}
}

impl Publishes for InTheWay {
    const PUBLISHED: &'static str = Self::CATEGORY;
    type Published = GaugeNews;

    fn publish(&self, event: &GaugeNews) -> Option<GaugeNews> {
        Some(event.clone())
    }
}

#[tokio::test]
async fn what_is_published_stands_in_no_category_of_entities() {
    let (log, time) = log();
    let builder = || Service::builder("gauges", log.clone(), time.clone());
    for builder in [
        builder().publishing_entity::<First>().entity::<InTheWay>(),
        builder().publishing_entity::<InTheWay>(),
    ] {
        let error = builder.start().await.err().expect("two write there");
        assert_eq!(
            error.to_string(),
            "category \"gauge-news\" is registered twice; each name means one thing"
        );
    }
}

#[tokio::test]
async fn what_is_published_belongs_to_who_publishes_it() {
    let (log, time) = log();
    let fleet = Fleet::new();
    let news = Subject::Category("gauge-news");
    assert_eq!(fleet.home_of(news), None);
    let gauges = Service::builder("gauges", log, time).publishing_entity::<First>();
    fleet.join(gauges.start().await.unwrap());
    assert_eq!(fleet.home_of(news).as_deref(), Some("gauges"));
    fleet.kill("gauges");
    assert_eq!(fleet.home_of(news).as_deref(), Some("gauges"));
}

#[tokio::test]
async fn a_service_that_reads_what_another_keeps_to_itself_does_not_start_beside_it() {
    let (log, time) = log();
    let says = |error: StartError| {
        assert_eq!(
            error.to_string(),
            "view levels of service readers reads gauge, which is private to service gauges; read \
             what it publishes: gauge-news"
        );
    };
    for owner_first in [true, false] {
        let fleet = Fleet::new();
        let gauges = Service::builder("gauges", log.clone(), time.clone())
            .beside(&fleet)
            .publishing_entity::<First>();
        let readers = readers(&log, &time).beside(&fleet);
        let (first, then) = match owner_first {
            true => (gauges, readers),
            false => (readers, gauges),
        };
        fleet.join(first.start().await.unwrap());
        says(then.start().await.err().expect("it is private"));
    }
}
