//! A random model: any DAG of steps, any faults, and in the end nothing is half done.
//!
//! The checker below knows the protocol from its description only; it shares no code with the
//! state machine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_domain::saga::{
    Definition, Promise, Rule, Rules, SagaCommand, SagaEvent, StepBuilder, StepId,
};
use anabranch_domain::testkit::{Faults, Service, World};
use anabranch_domain::{NoEvent, Saga, StreamId};

use crate::ensure;
use crate::fixture::*;

/// A random DAG, with the pivot at `pivot`: steps before it can be undone, steps after it are
/// retriable. Without a pivot all can be undone.
#[derive(Debug, Clone, Default)]
struct Dag {
    steps: Vec<Step>,
    pivot: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Step {
    after: BTreeSet<usize>,
    branches: usize,
    timeout: Option<Duration>,
}

thread_local! {
    static DAG: RefCell<Dag> = RefCell::default();
}

struct Random;

impl Saga for Random {
    const NAME: &'static str = "random";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        let dag = DAG.with_borrow(Clone::clone);
        let mut definition = Definition::<Nothing>::new(1);
        for (i, step) in dag.steps.iter().enumerate() {
            let declare = |builder| declare(builder, i, step);
            let name = name(i);
            definition = match dag.pivot {
                Some(pivot) if i == pivot => definition.pivot(&name, declare),
                Some(pivot) if i > pivot => definition.retriable(&name, declare),
                _ => definition.compensatable(&name, |b| {
                    declare(b).undo(Promise::ALL, move |_, cx| {
                        undo_it(&part(i, cx.branch()), cx)
                    })
                }),
            };
        }
        definition
    }
}

fn declare(builder: StepBuilder<Nothing>, i: usize, step: &Step) -> StepBuilder<Nothing> {
    let branches = step.branches;
    let mut builder = builder
        .after(step.after.iter().map(|&before| name(before)))
        .changes("part")
        .disjoint()
        .retry(RETRY)
        .request(move |_, cx| do_it(&part(i, cx.branch()), cx));
    if branches != 1 {
        builder = builder.for_each(move |_| branches);
    }
    match step.timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    }
}

fn name(step: usize) -> String {
    format!("s{step}")
}

fn part(step: usize, branch: usize) -> String {
    format!("s{step}-{branch}")
}

/// The generator of a test's own choices; apart from the world's, so that the same seed gives
/// the same saga under other faults.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn random_dag(choices: &mut Choices) -> Dag {
    let count = 3 + choices.below(3) as usize;
    let pivot = (!choices.one_in(5)).then(|| choices.below(count as u64) as usize);
    let mut steps = vec![Step::default(); count];
    for i in 0..count {
        for before in 0..i {
            if choices.one_in(2) {
                steps[i].after.insert(before);
            }
        }
        let undoable = pivot.is_none_or(|pivot| i < pivot);
        steps[i].branches = match choices.below(4) {
            0 if pivot != Some(i) => choices.below(4) as usize,
            _ => 1,
        };
        if undoable && choices.one_in(2) {
            steps[i].timeout = Some(Duration::from_secs(1 + choices.below(20)));
        }
    }
    if let Some(pivot) = pivot {
        // Every step before the pivot is waited for by it, and every step after it waits for it.
        steps[pivot].after.extend(0..pivot);
        for step in &mut steps[pivot + 1..] {
            step.after.insert(pivot);
        }
    }
    Dag { steps, pivot }
}

/// Runs one random saga; gives whether it has completed.
fn run(seed: u64, rules: Rules) -> Result<bool, String> {
    let mut choices = Choices(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let dag = random_dag(&mut choices);
    DAG.set(dag.clone());
    let mut world = World::new(seed)
        .under(rules)
        .with(parts())
        .with(Service::new("sagas").saga::<Random>());
    if choices.one_in(2) {
        // Some step that may refuse does.
        let step = choices.below(dag.pivot.map_or(dag.steps.len(), |p| p + 1) as u64) as usize;
        set_mood(&mut world, &part(step, 0), Mood::Refusing);
    }
    if choices.one_in(3) {
        world.add_replica("sagas");
    }
    world.set_faults(Faults {
        drop_percent: choices.below(30) as u8,
        duplicate_percent: choices.below(40) as u8,
        delay_max: Duration::from_millis(1 + choices.below(3000)),
        crash_percent: choices.below(8) as u8,
        down_max: Duration::from_secs(2),
    });
    let saga = StreamId::new("random/1").map_err(|error| error.to_string())?;
    while world.journal(&saga).is_empty() {
        world.start_saga::<Random>("1", &Nothing {});
        world.pass(Duration::from_secs(3));
    }
    if choices.one_in(3) {
        world.pass(Duration::from_millis(choices.below(4000)));
        let why = "somebody wants it".to_owned();
        world.tell_saga(&saga, &SagaCommand::AbortSaga { why });
    }
    world.pass(Duration::from_secs(60));
    world.set_faults(Faults::NONE);
    world.run_to_end();
    check_journal(&dag, &world.journal(&saga))?;
    check_effects(&dag, &world, &saga)
}

/// Every step took effect once, or none did. Gives whether they did.
fn check_effects(dag: &Dag, world: &World, saga: &StreamId) -> Result<bool, String> {
    let parts: Vec<String> = dag
        .steps
        .iter()
        .enumerate()
        .flat_map(|(i, step)| (0..step.branches).map(move |branch| part(i, branch)))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let names = world.event_names(saga.as_str());
    let complete = names.iter().any(|name| name == "SagaCompleted");
    if complete {
        completed(world, saga, &parts)?;
    } else {
        compensated(world, saga, &parts)?;
    }
    Ok(complete)
}

/// Where a branch stands, as the journal tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Started,
    Done,
    Refused,
    Unknown,
    Undoing,
    Undone,
}

/// The journal is one that the protocol allows.
fn check_journal(dag: &Dag, journal: &[SagaEvent]) -> Verdict {
    let mut stands: BTreeMap<(usize, usize), Stands> = BTreeMap::new();
    let (mut aborting, mut ended) = (false, false);
    for (at, event) in journal.iter().enumerate() {
        let wrong = |what: &str| Err(format!("event {at}, {event:?}: {what}"));
        if ended && !matches!(event, SagaEvent::LateReply { .. }) {
            return wrong("the saga has ended");
        }
        match event {
            SagaEvent::SagaStarted { .. } if at > 0 => return wrong("it has begun"),
            SagaEvent::StepStarted { step, .. } => {
                let (i, branch) = locate(step);
                let ready = dag.steps[i].after.iter().all(|&before| {
                    (0..dag.steps[before].branches)
                        .all(|b| stands.get(&(before, b)) == Some(&Stands::Done))
                });
                if !ready || aborting {
                    return wrong("it may not start yet, or not any more");
                }
                if stands.insert((i, branch), Stands::Started).is_some() {
                    return wrong("it has been started before");
                }
            }
            SagaEvent::StepOk { step, .. } => {
                if stands.insert(locate(step), Stands::Done) != Some(Stands::Started) {
                    return wrong("it is not under way");
                }
            }
            SagaEvent::StepRefused { step, .. } => {
                if stands.insert(locate(step), Stands::Refused) != Some(Stands::Started) {
                    return wrong("it is not under way");
                }
            }
            SagaEvent::StepTimedOut { step } | SagaEvent::StepUnknown { step, .. } => {
                if stands.insert(locate(step), Stands::Unknown) != Some(Stands::Started) {
                    return wrong("it is not under way");
                }
            }
            SagaEvent::AbortRequested { .. } => {
                let past = (0..dag.steps.len()).any(|i| {
                    dag.pivot.is_some_and(|pivot| i >= pivot)
                        && (0..dag.steps[i].branches)
                            .any(|b| stands.get(&(i, b)).is_some_and(|s| *s != Stands::Refused))
                });
                if past || aborting {
                    return wrong("it may not go back, or does already");
                }
                aborting = true;
            }
            SagaEvent::CompStarted { step, .. } => {
                let (i, branch) = locate(step);
                let open = |j: usize| {
                    dag.steps[j].after.contains(&i)
                        && (0..dag.steps[j].branches).any(|b| {
                            let stands = stands.get(&(j, b));
                            stands.is_some_and(|s| !matches!(s, Stands::Refused | Stands::Undone))
                        })
                };
                if !aborting || (0..dag.steps.len()).any(open) {
                    return wrong("what depends on it is not undone");
                }
                let before = stands.insert((i, branch), Stands::Undoing);
                if !matches!(
                    before,
                    Some(Stands::Started | Stands::Done | Stands::Unknown)
                ) {
                    return wrong("there is nothing to undo");
                }
            }
            SagaEvent::CompOk { step, .. } => {
                if stands.insert(locate(step), Stands::Undone) != Some(Stands::Undoing) {
                    return wrong("it is not being undone");
                }
            }
            SagaEvent::SagaCompleted | SagaEvent::SagaCompensated => ended = true,
            _ => {}
        }
    }
    ensure!(ended, "the saga did not end: {stands:?}");
    Ok(())
}

fn locate(step: &StepId) -> (usize, usize) {
    let index = step.name.trim_start_matches('s').parse();
    (index.unwrap_or(usize::MAX), step.branch as usize)
}

/// How many random runs there are for each test.
const RUNS: u64 = 1000;

#[test]
fn in_every_random_run_the_saga_completes_or_is_compensated() {
    let mut complete = 0;
    for seed in 0..RUNS {
        match run(seed, Rules::ALL) {
            Ok(completed) => complete += u64::from(completed),
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    // Both ends have to be met often, or the runs say little.
    assert!(
        (RUNS / 5..RUNS * 4 / 5).contains(&complete),
        "{complete} of {RUNS} runs completed"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let journal = || {
        let mut choices = Choices(77);
        DAG.set(random_dag(&mut choices));
        let mut world = World::new(5)
            .with(parts())
            .with(Service::new("sagas").saga::<Random>());
        world.set_faults(Faults {
            drop_percent: 20,
            duplicate_percent: 20,
            delay_max: Duration::from_secs(1),
            crash_percent: 5,
            down_max: Duration::from_secs(1),
        });
        let saga = world.start_saga::<Random>("1", &Nothing {});
        world.run_to_end();
        world.journal(&saga)
    };
    assert_eq!(journal(), journal());
}

/// Some random run goes wrong without this rule.
#[track_caller]
fn model_needs(rule: Rule) {
    let found = (0..RUNS).any(|seed| run(seed, Rules::without(rule)).is_err());
    assert!(found, "in {RUNS} runs nothing went wrong without {rule:?}");
}

#[test]
fn the_model_needs_the_intent_first() {
    model_needs(Rule::IntentFirst);
}

#[test]
fn the_model_needs_the_same_key() {
    model_needs(Rule::SameKey);
}

#[test]
fn the_model_needs_unknown_steps_to_be_undone() {
    model_needs(Rule::UndoUnknown);
}

#[test]
fn the_model_needs_compensations_in_reverse_order() {
    model_needs(Rule::UndoInOrder);
}

#[test]
fn the_model_needs_compensations_not_to_be_given_up() {
    model_needs(Rule::UndoUntilAcknowledged);
}

#[test]
fn the_model_needs_tombstones() {
    model_needs(Rule::Tombstone);
}

#[test]
fn the_model_needs_fencing() {
    model_needs(Rule::Fencing);
}

#[test]
fn the_model_needs_the_journal_to_decide_between_answer_and_time_out() {
    model_needs(Rule::FirstInJournalWins);
}

#[test]
fn the_model_needs_the_pivot_to_be_final() {
    model_needs(Rule::NoAbortAfterPivot);
}

#[test]
fn the_model_needs_receivers_that_remember() {
    model_needs(Rule::RememberUntilEnd);
}
