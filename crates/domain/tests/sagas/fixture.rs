//! Entities that count what was done to them, and sagas over them.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_domain::saga::{Definition, Phase, Promise, Request, Rule, Rules, StepContext};
use anabranch_domain::testkit::{Provider, Service, World};
use anabranch_domain::{
    Decide, Effect, Entity, Event, HandleError, NoEvent, Rejection, Retry, Saga, StreamId,
};
use serde::{Deserialize, Serialize};

/// What a scenario found: nothing to object to, or what is wrong.
pub type Verdict = Result<(), String>;

/// Ends the scenario with what is wrong, unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

/// The scenario holds with every rule.
#[track_caller]
pub fn holds(scenario: impl Fn(Rules) -> Verdict) {
    if let Err(wrong) = scenario(Rules::ALL) {
        panic!("{wrong}");
    }
}

/// The scenario finds something wrong without this rule.
#[track_caller]
pub fn needs(rule: Rule, scenario: impl Fn(Rules) -> Verdict) {
    if scenario(Rules::without(rule)).is_ok() {
        panic!("nothing is wrong without {rule:?}: the scenario does not test it");
    }
}

/// A receiver of steps. It does and undoes whatever it is asked, as often as it is asked: that
/// each takes effect once is up to the platform.
#[derive(Default, Serialize, Deserialize)]
pub struct Part {
    pub mood: Mood,
    /// For each saga, how often it was done minus how often it was undone.
    pub net: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mood {
    #[default]
    Willing,
    /// Refuses what is to be done.
    Refusing,
    /// Refuses what is to be undone.
    RefusingUndo,
    /// Refuses everything for now.
    Busy,
}

#[derive(Serialize, Deserialize)]
pub enum PartCommand {
    Do { saga: String },
    Undo { saga: String },
    SetMood(Mood),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum PartEvent {
    Done { saga: String },
    Undone { saga: String },
    MoodSet(Mood),
}

impl Entity for Part {
    const CATEGORY: &'static str = "part";
    type Command = PartCommand;
    type Event = PartEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PartCommand, _: &Decide) -> Result<Vec<PartEvent>, Rejection> {
        let event = match command {
            PartCommand::SetMood(mood) => PartEvent::MoodSet(*mood),
            _ if self.mood == Mood::Busy => {
                return Err(Rejection::new("busy", "not just now").for_now());
            }
            PartCommand::Do { .. } if self.mood == Mood::Refusing => {
                return Err(Rejection::new("sold-out", "there is none left"));
            }
            PartCommand::Undo { .. } if self.mood == Mood::RefusingUndo => {
                return Err(Rejection::new("gone", "it cannot be taken back"));
            }
            PartCommand::Do { saga } => PartEvent::Done { saga: saga.clone() },
            PartCommand::Undo { saga } => PartEvent::Undone { saga: saga.clone() },
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &PartEvent) {
        match event {
            PartEvent::MoodSet(mood) => self.mood = *mood,
            PartEvent::Done { saga } => *self.net.entry(saga.clone()).or_default() += 1,
            PartEvent::Undone { saga } => *self.net.entry(saga.clone()).or_default() -= 1,
        }
    }
}

pub fn do_it(part: &str, cx: &StepContext<'_>) -> Result<Request, HandleError> {
    let saga = cx.key().to_owned();
    Request::to::<Part>(part, &PartCommand::Do { saga })
}

pub fn undo_it(part: &str, cx: &StepContext<'_>) -> Result<Request, HandleError> {
    let saga = cx.key().to_owned();
    Request::to::<Part>(part, &PartCommand::Undo { saga })
}

pub const RETRY: Retry = Retry {
    first: Duration::from_millis(100),
    max: Duration::from_secs(5),
    attempts_max: None,
    jitter_percent: 20,
};

pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Four steps, one after the other: `a`, `b`, the pivot `pay`, and `ship`.
pub struct Trip;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nothing {}

impl Saga for Trip {
    const NAME: &'static str = "trip";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("a", |a| {
                a.changes("part")
                    .request(|_, cx| do_it("a", cx))
                    .undo(Promise::ALL, |_, cx| undo_it("a", cx))
                    .timeout(TIMEOUT)
                    .retry(RETRY)
            })
            .compensatable("b", |b| {
                b.after(["a"])
                    .changes("part")
                    .request(|_, cx| do_it("b", cx))
                    .undo(Promise::ALL, |_, cx| undo_it("b", cx))
                    .timeout(TIMEOUT)
                    .retry(RETRY)
            })
            .pivot("pay", |pay| {
                pay.after(["b"])
                    .changes("part")
                    .request(|_, cx| do_it("pay", cx))
                    .retry(RETRY)
            })
            .retriable("ship", |ship| {
                ship.after(["pay"])
                    .changes("part")
                    .request(|_, cx| do_it("ship", cx))
                    .retry(RETRY)
            })
    }
}

pub const TRIP: [&str; 4] = ["a", "b", "pay", "ship"];

/// As many parts at the same time as the input says, then the pivot.
pub struct Fan;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branches {
    pub count: usize,
}

impl Saga for Fan {
    const NAME: &'static str = "fan";
    type Event = NoEvent;
    type Input = Branches;

    fn define() -> Definition<Branches> {
        Definition::<Branches>::new(1)
            .compensatable("reserve", |reserve| {
                reserve
                    .for_each(|input: &Branches| input.count)
                    .disjoint()
                    .changes("part")
                    .request(|_, cx| do_it(&format!("r{}", cx.branch()), cx))
                    .undo(Promise::ALL, |_, cx| {
                        undo_it(&format!("r{}", cx.branch()), cx)
                    })
                    .timeout(TIMEOUT)
                    .retry(RETRY)
            })
            .pivot("pay", |pay| {
                pay.after(["reserve"])
                    .changes("part")
                    .request(|_, cx| do_it("pay", cx))
                    .retry(RETRY)
            })
    }
}

/// A third party that has no memory of keys.
#[derive(Serialize, Deserialize)]
pub struct Charge {
    pub by: i64,
}

impl Effect for Charge {
    const NAME: &'static str = "charge";
    type Outcome = ();
}

/// A step that may be sent only once, then the pivot.
pub struct Once;

impl Saga for Once {
    const NAME: &'static str = "once";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("charge", |charge| {
                charge
                    .changes("money")
                    .at_most_once()
                    .timeout(TIMEOUT)
                    .request(|_, _| Request::call(&Charge { by: 1 }))
                    .undo(Promise::ALL, |_, cx| undo_it("charge", cx))
            })
            .pivot("pay", |pay| {
                pay.after(["charge"])
                    .changes("part")
                    .request(|_, cx| do_it("pay", cx))
            })
    }
}

/// A world with the sagas in one service, and the parts in another.
pub fn world(rules: Rules) -> World {
    World::new(1).under(rules).with(parts()).with(sagas())
}

pub fn parts() -> Service {
    Service::new("parts").entity::<Part>()
}

pub fn sagas() -> Service {
    let third_party = Provider::<Charge>::new(|_| Ok(())).without_keys();
    sagas_with(&third_party)
}

pub fn sagas_with(third_party: &Provider<Charge>) -> Service {
    Service::new("sagas")
        .saga::<Trip>()
        .saga::<Fan>()
        .saga::<Once>()
        .saga::<crate::scenarios::fallback::Booking>()
        .effect(third_party)
}

pub fn trip(world: &mut World) -> StreamId {
    world.start_saga::<Trip>("1", &Nothing {})
}

pub fn set_mood(world: &mut World, part: &str, mood: Mood) {
    world.send::<Part>(part, &PartCommand::SetMood(mood));
    world.run();
}

/// How often this was done, and undone, for the saga.
pub fn done_and_undone(world: &World, part: &str, saga: &StreamId) -> (usize, usize) {
    let events: Vec<PartEvent> = world.events(&format!("part/{part}"));
    let count = |wanted: &dyn Fn(&PartEvent) -> bool| events.iter().filter(|e| wanted(e)).count();
    let key = saga.key();
    (
        count(&|event| matches!(event, PartEvent::Done { saga } if saga == key)),
        count(&|event| matches!(event, PartEvent::Undone { saga } if saga == key)),
    )
}

/// Whether something was undone before it was done.
fn undone_first(world: &World, part: &str, saga: &StreamId) -> bool {
    let mut net = 0;
    let events: Vec<PartEvent> = world.events(&format!("part/{part}"));
    events.iter().any(|event| {
        match event {
            PartEvent::Done { saga: of } if of == saga.key() => net += 1,
            PartEvent::Undone { saga: of } if of == saga.key() => net -= 1,
            _ => {}
        }
        net < 0
    })
}

/// Everything was done once.
pub fn completed(world: &World, saga: &StreamId, parts: &[&str]) -> Verdict {
    let state = world.saga(saga);
    ensure!(
        state.phase() == Phase::Completed,
        "{saga} is {:?}, not completed; {:?}",
        state.phase(),
        state.describe().collect::<Vec<_>>()
    );
    for part in parts {
        let (done, undone) = done_and_undone(world, part, saga);
        ensure!(
            (done, undone) == (1, 0),
            "{saga} is completed, but {part} was done {done} times and undone {undone} times"
        );
    }
    Ok(())
}

/// Everything that was done is undone.
pub fn compensated(world: &World, saga: &StreamId, parts: &[&str]) -> Verdict {
    let state = world.saga(saga);
    ensure!(
        state.phase() == Phase::Compensated,
        "{saga} is {:?}, not compensated; {:?}",
        state.phase(),
        state.describe().collect::<Vec<_>>()
    );
    for part in parts {
        let (done, undone) = done_and_undone(world, part, saga);
        ensure!(
            done == undone && done <= 1,
            "{saga} is compensated, but {part} was done {done} times and undone {undone} times"
        );
        ensure!(
            !undone_first(world, part, saga),
            "{part} was undone for {saga} before it was done"
        );
    }
    Ok(())
}

/// The parts on which this happened for the saga, in order.
pub fn order_of(world: &World, parts: &[&str], undone: bool) -> Vec<String> {
    let mut places = Vec::new();
    for part in parts {
        let stream = StreamId::new(format!("part/{part}")).unwrap();
        for event in world.stored(&stream) {
            let wanted = if undone { "Undone" } else { "Done" };
            if event.event_type() == wanted {
                places.push((event.position, (*part).to_owned()));
            }
        }
    }
    places.sort();
    places.into_iter().map(|(_, part)| part).collect()
}
