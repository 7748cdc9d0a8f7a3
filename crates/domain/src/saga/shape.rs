//! The checked form of a definition: what can be said of a saga before it runs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::{StreamId, content_hash};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::definition::{Definition, Overlap, Promise, StepBuilder, StepKind};
use crate::retry::Retry;

/// The graph of a saga's steps, checked.
#[derive(Debug)]
pub struct Shape {
    pub(super) hash: DefinitionHash,
    pub(super) steps: Vec<StepShape>,
    /// The steps so that each comes after those that it waits for.
    pub(super) order: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct StepShape {
    pub name: Arc<str>,
    pub kind: StepKind,
    pub after: Vec<usize>,
    /// Every step that waits for it, also by way of others.
    pub descendants: Vec<usize>,
    pub changes: Vec<String>,
    pub overlap: Overlap,
    pub timeout: Option<Duration>,
    pub retry: Retry,
    pub alert_after: u32,
    pub at_once_max: u32,
    pub at_most_once: bool,
    pub has_fallback: bool,
}

/// Identifies one definition of a saga. Running instances stay on the definition with the hash
/// that their journal names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DefinitionHash(u128);

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<DefinitionHash> for String {
    fn from(hash: DefinitionHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for DefinitionHash {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// Why a saga's definition cannot be run. Every fault that was found is named.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("saga {saga} cannot be registered:{}", list(.faults))]
pub struct DefinitionError {
    /// The saga's name.
    pub saga: String,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

anabranch_model::debug_is_words!(DefinitionError);

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(|fault| format!("\n  - {fault}"))
        .collect()
}

/// One thing that is wrong with a saga's definition, and what to do about it.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The saga's name cannot be the category of a journal.
    #[error("its name cannot be the category of a stream: {0}")]
    Name(String),
    /// Nothing to do.
    #[error("it has no steps")]
    NoSteps,
    /// Two steps have one name.
    #[error("two steps are named {0}; give each its own name")]
    NameTwice(String),
    /// A name that could not be told apart in a journal.
    #[error("the step name {0:?} is empty or holds a '/'; choose another")]
    StepName(String),
    /// A step waits for one that does not exist.
    #[error("step {step} waits for {missing}, which does not exist")]
    UnknownStep {
        /// The step.
        step: String,
        /// What it waits for.
        missing: String,
    },
    /// Steps wait for each other.
    #[error("steps wait for each other: {0}; remove one of the `after`")]
    Cycle(String),
    /// More than one point of no return.
    #[error("steps {0} and {1} are both pivots; a saga has at most one point of no return")]
    TwoPivots(String, String),
    /// The point of no return is several.
    #[error("the pivot {0} has branches; a point of no return is one request")]
    PivotWithBranches(String),
    /// A step that can be undone after the point of no return.
    #[error(
        "step {step} can be undone, but the pivot {pivot} does not wait for it; add {step} to the pivot's `after`, or make it retriable"
    )]
    CompensatableAfterPivot {
        /// The step.
        step: String,
        /// The pivot.
        pivot: String,
    },
    /// A step that may run before the point of no return and cannot be undone.
    #[error(
        "step {step} cannot be undone and does not wait for the pivot {pivot}; let it wait for the pivot, or make it compensatable"
    )]
    RetriableNotAfterPivot {
        /// The step.
        step: String,
        /// The pivot.
        pivot: String,
    },
    /// Both kinds, and nothing that parts them.
    #[error(
        "step {compensatable} can be undone and step {retriable} cannot, but there is no pivot between them; name the point of no return"
    )]
    NoPivot {
        /// A step that can be undone.
        compensatable: String,
        /// One that cannot.
        retriable: String,
    },
    /// A step that asks for nothing.
    #[error("step {0} asks for nothing; add `.request(…)`")]
    NoRequest(String),
    /// A step that should be undone, but nobody says how.
    #[error("step {0} is compensatable but has no compensation; add `.undo(Promise::ALL, …)`")]
    NoUndo(String),
    /// A compensation that never runs.
    #[error(
        "step {0} is never undone, but has a compensation; remove `.undo(…)`, or make it compensatable"
    )]
    UselessUndo(String),
    /// A fallback that cannot be undone, of a step that can.
    #[error(
        "step {0} can be undone, but nobody says how its fallback is; add `.undo_fallback(Promise::ALL, …)`"
    )]
    NoFallbackUndo(String),
    /// A compensation of a fallback that there is not, or that is never undone.
    #[error(
        "the fallback of step {0} is never undone, but has a compensation; remove `.undo_fallback(…)`, or add `.fallback(…)` to a step that can be undone"
    )]
    UselessFallbackUndo(String),
    /// A compensation that does not promise what it must.
    #[error(
        "the compensation of step {step} does not promise {promise:?}; make it so, then say so"
    )]
    PromiseMissing {
        /// The step.
        step: String,
        /// What it must promise.
        promise: Promise,
    },
    /// A time-out where no abort is possible.
    #[error(
        "step {0} has a time-out, but from the pivot on a saga cannot be aborted; remove `.timeout(…)`"
    )]
    TimeoutAfterPivot(String),
    /// A step that would wait for ever for an answer to a request that was lost.
    #[error(
        "step {0} is sent at most once, and waits for ever if the request is lost; add `.timeout(…)`"
    )]
    OnceWithoutTimeout(String),
    /// A retriable step that must not be repeated.
    #[error("step {0} is retriable and at most once; only one of the two can be")]
    RetriableOnce(String),
    /// A step whose branches could never start.
    #[error("step {0} may have no branch under way; `.at_once(…)` is at least 1")]
    NoneAtOnce(String),
    /// A step that does not say what it changes.
    #[error("step {0} does not say what it changes; add `.changes(\"category\")`")]
    NoChanges(String),
    /// Two steps that change the same at the same time.
    #[error(
        "steps {first} and {second} may change {category} at the same time; order them with `after`, or declare both `.commutes()` or both `.disjoint()`"
    )]
    Overlap {
        /// One step.
        first: String,
        /// The other.
        second: String,
        /// What both change.
        category: String,
    },
    /// Branches that change the same at the same time.
    #[error(
        "the branches of step {0} change the same category at the same time; declare `.commutes()` or `.disjoint()`"
    )]
    BranchesOverlap(String),
}

anabranch_model::debug_is_words!(Fault);

impl Shape {
    /// Checks the definition of the saga `name`.
    pub(super) fn check<I>(
        name: &str,
        definition: &Definition<I>,
    ) -> Result<Self, DefinitionError> {
        let mut faults = Vec::new();
        if let Err(error) = StreamId::of(name, "x") {
            faults.push(Fault::Name(error.to_string()));
        } else if name.contains('/') {
            faults.push(Fault::Name(format!("{name:?} holds a '/'")));
        }
        let steps = &definition.steps;
        if steps.is_empty() {
            faults.push(Fault::NoSteps);
        }
        check_names(steps, &mut faults);
        let after = resolve_after(steps, &mut faults);
        let order = match topological_order(&after) {
            Ok(order) => order,
            Err(cycle) => {
                let names: Vec<&str> = cycle.iter().map(|&i| steps[i].name.as_str()).collect();
                faults.push(Fault::Cycle(names.join(" → ")));
                for step in steps {
                    check_step(step, &mut faults);
                }
                // Without an order nothing more can be said about who waits for whom.
                return Err(DefinitionError {
                    saga: name.to_owned(),
                    faults,
                });
            }
        };
        let descendants = descendants(&after, &order);
        check_kinds(steps, &descendants, &mut faults);
        for step in steps {
            check_step(step, &mut faults);
        }
        check_overlaps(steps, &descendants, &mut faults);
        if !faults.is_empty() {
            return Err(DefinitionError {
                saga: name.to_owned(),
                faults,
            });
        }
        Ok(Self {
            hash: hash(name, definition),
            steps: steps
                .iter()
                .zip(after)
                .zip(descendants)
                .map(|((step, after), descendants)| StepShape {
                    name: step.name.as_str().into(),
                    kind: step.kind,
                    after,
                    descendants: descendants.into_iter().collect(),
                    changes: step.changes.clone(),
                    overlap: step.overlap,
                    timeout: step.timeout,
                    retry: step.retry,
                    alert_after: step.alert_after,
                    at_once_max: step.at_once_max,
                    at_most_once: step.at_most_once,
                    has_fallback: step.fallback.is_some(),
                })
                .collect(),
            order,
        })
    }

    /// Identifies the definition.
    pub fn hash(&self) -> DefinitionHash {
        self.hash
    }

    /// Whether one of the two waits for the other.
    pub(super) fn ordered(&self, a: usize, b: usize) -> bool {
        self.steps[a].descendants.contains(&b) || self.steps[b].descendants.contains(&a)
    }
}

fn check_names<I>(steps: &[StepBuilder<I>], faults: &mut Vec<Fault>) {
    let mut seen = BTreeSet::new();
    for step in steps {
        if step.name.is_empty() || step.name.contains('/') {
            faults.push(Fault::StepName(step.name.clone()));
        }
        if !seen.insert(&step.name) {
            faults.push(Fault::NameTwice(step.name.clone()));
        }
    }
}

fn resolve_after<I>(steps: &[StepBuilder<I>], faults: &mut Vec<Fault>) -> Vec<Vec<usize>> {
    let mut resolved = Vec::with_capacity(steps.len());
    for step in steps {
        let mut after = BTreeSet::new();
        for name in &step.after {
            match steps.iter().position(|other| other.name == *name) {
                Some(index) => {
                    after.insert(index);
                }
                None => faults.push(Fault::UnknownStep {
                    step: step.name.clone(),
                    missing: name.clone(),
                }),
            }
        }
        resolved.push(after.into_iter().collect());
    }
    resolved
}

/// The steps so that each comes after those that it waits for, or the steps of a cycle.
fn topological_order(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order = Vec::with_capacity(after.len());
    let mut placed = vec![false; after.len()];
    while order.len() < after.len() {
        let ready = (0..after.len()).find(|&i| !placed[i] && after[i].iter().all(|&p| placed[p]));
        match ready {
            Some(i) => {
                placed[i] = true;
                order.push(i);
            }
            None => return Err(cycle(after, &placed)),
        }
    }
    Ok(order)
}

/// A cycle among the steps that could not be placed: each of them waits for another of them.
fn cycle(after: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut at = placed.iter().position(|p| !p).unwrap_or(0);
    while !path.contains(&at) {
        path.push(at);
        at = after[at]
            .iter()
            .copied()
            .find(|&p| !placed[p])
            .unwrap_or(at);
    }
    path.drain(..path.iter().position(|&p| p == at).unwrap_or(0));
    path.push(at);
    path
}

/// For each step, every step that waits for it, also by way of others.
fn descendants(after: &[Vec<usize>], order: &[usize]) -> Vec<BTreeSet<usize>> {
    let mut descendants = vec![BTreeSet::new(); after.len()];
    for &step in order.iter().rev() {
        let below = descendants[step].clone();
        for &before in &after[step] {
            descendants[before].insert(step);
            descendants[before].extend(&below);
        }
    }
    descendants
}

fn check_kinds<I>(
    steps: &[StepBuilder<I>],
    descendants: &[BTreeSet<usize>],
    faults: &mut Vec<Fault>,
) {
    let of_kind = |kind| {
        steps
            .iter()
            .enumerate()
            .filter(move |(_, s)| s.kind == kind)
    };
    let mut pivots = of_kind(StepKind::Pivot);
    let Some((pivot_index, pivot_step)) = pivots.next() else {
        let first = |kind| of_kind(kind).next().map(|(_, s)| s.name.clone());
        if let (Some(compensatable), Some(retriable)) =
            (first(StepKind::Compensatable), first(StepKind::Retriable))
        {
            faults.push(Fault::NoPivot {
                compensatable,
                retriable,
            });
        }
        return;
    };
    for (_, second) in pivots {
        faults.push(Fault::TwoPivots(
            pivot_step.name.clone(),
            second.name.clone(),
        ));
    }
    if pivot_step.for_each.is_some() {
        faults.push(Fault::PivotWithBranches(pivot_step.name.clone()));
    }
    for (i, step) in steps.iter().enumerate() {
        let before_pivot = descendants[i].contains(&pivot_index);
        let (step, pivot) = (step.name.clone(), pivot_step.name.clone());
        match steps[i].kind {
            StepKind::Compensatable if !before_pivot => {
                faults.push(Fault::CompensatableAfterPivot { step, pivot });
            }
            StepKind::Retriable if !descendants[pivot_index].contains(&i) => {
                faults.push(Fault::RetriableNotAfterPivot { step, pivot });
            }
            _ => {}
        }
    }
}

fn check_step<I>(step: &StepBuilder<I>, faults: &mut Vec<Fault>) {
    let name = || step.name.clone();
    if step.request.is_none() {
        faults.push(Fault::NoRequest(name()));
    }
    let compensatable = step.kind == StepKind::Compensatable;
    match &step.undo {
        None if compensatable => faults.push(Fault::NoUndo(name())),
        Some(_) if !compensatable => faults.push(Fault::UselessUndo(name())),
        Some((promises, _)) => check_promises(step, promises, faults),
        None => {}
    }
    match &step.undo_fallback {
        None if compensatable && step.fallback.is_some() => {
            faults.push(Fault::NoFallbackUndo(name()));
        }
        Some(_) if !compensatable || step.fallback.is_none() => {
            faults.push(Fault::UselessFallbackUndo(name()));
        }
        Some((promises, _)) => check_promises(step, promises, faults),
        None => {}
    }
    let pivot_once = step.kind == StepKind::Pivot && step.at_most_once;
    if step.timeout.is_some() && !compensatable && !pivot_once {
        faults.push(Fault::TimeoutAfterPivot(name()));
    }
    if step.at_most_once && step.kind == StepKind::Retriable {
        faults.push(Fault::RetriableOnce(name()));
    } else if step.at_most_once && step.timeout.is_none() {
        faults.push(Fault::OnceWithoutTimeout(name()));
    }
    if step.changes.is_empty() {
        faults.push(Fault::NoChanges(name()));
    }
    if step.at_once_max == 0 {
        faults.push(Fault::NoneAtOnce(name()));
    }
    if step.for_each.is_some() && step.overlap == Overlap::Unstated {
        faults.push(Fault::BranchesOverlap(name()));
    }
}

fn check_promises<I>(step: &StepBuilder<I>, promises: &[Promise], faults: &mut Vec<Fault>) {
    for promise in Promise::ALL.into_iter().filter(|p| !promises.contains(p)) {
        faults.push(Fault::PromiseMissing {
            step: step.name.clone(),
            promise,
        });
    }
}

fn check_overlaps<I>(
    steps: &[StepBuilder<I>],
    descendants: &[BTreeSet<usize>],
    faults: &mut Vec<Fault>,
) {
    for (i, first) in steps.iter().enumerate() {
        for (j, second) in steps.iter().enumerate().skip(i + 1) {
            let ordered = descendants[i].contains(&j) || descendants[j].contains(&i);
            let agreed = first.overlap == second.overlap && first.overlap != Overlap::Unstated;
            let shared = first.changes.iter().find(|c| second.changes.contains(c));
            if let (false, false, Some(category)) = (ordered, agreed, shared) {
                faults.push(Fault::Overlap {
                    first: first.name.clone(),
                    second: second.name.clone(),
                    category: category.clone(),
                });
            }
        }
    }
}

/// The steps and how they hang together. What their functions do cannot be seen: the version
/// stands for that. Waits and time-outs are left out, so that they can be changed for
/// instances that run.
fn hash<I>(name: &str, definition: &Definition<I>) -> DefinitionHash {
    let mut parts = vec![name.to_owned(), definition.version.to_string()];
    for step in &definition.steps {
        let kind = match step.kind {
            StepKind::Compensatable => "compensatable",
            StepKind::Pivot => "pivot",
            StepKind::Retriable => "retriable",
        };
        let branches = if step.for_each.is_some() {
            "many"
        } else {
            "one"
        };
        let sending = match (step.at_most_once, step.fallback.is_some()) {
            (true, false) => "once",
            (false, false) => "repeated",
            (true, true) => "once, with a fallback",
            (false, true) => "repeated, with a fallback",
        };
        let mut after = step.after.clone();
        after.sort_unstable();
        parts.extend([kind, branches, sending].map(str::to_owned));
        parts.extend([step.name.clone(), after.len().to_string()]);
        parts.extend(after);
    }
    DefinitionHash(content_hash(parts.iter().map(String::as_bytes)))
}
