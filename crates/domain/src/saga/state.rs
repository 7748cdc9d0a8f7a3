use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::definition::{Request, SoFar, StepKind};
use super::journal::{Parent, SagaEvent, StepDeclared, Undo};
use super::shape::DefinitionHash;
use crate::json::Json;
use crate::origin::Origin;
use crate::rejection::Rejection;
use crate::step_id::StepId;
use crate::time::Timestamp;
use crate::{CommandId, StreamId};

/// The state of an instance of a saga: made from nothing but the events of its journal. Serde,
/// for snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SagaState {
    pub(super) stream: StreamId,
    pub(super) phase: Phase,
    pub(super) started: Option<Started>,
    pub(super) steps: Vec<StepState>,
    /// Who asked for the abort, and why.
    pub(super) abort: Option<(String, Option<Parent>)>,
    /// How many branches a person has to look at.
    parked: u32,
    /// How many events the journal has.
    length: u64,
    /// What people have asked for, and what they were told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) asked: BTreeMap<CommandId, Answered>,
}

/// What became of a command of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// A hash of what the command says.
    pub content: u64,
    pub refused: Option<Rejection>,
}

/// What an instance was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Started {
    pub id: CommandId,
    pub definition: DefinitionHash,
    pub input: Json,
    pub parent: Option<Parent>,
    #[serde(default)]
    pub origin: Origin,
}

/// How far an instance of a saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not begun.
    New,
    /// Going forward.
    Running,
    /// Going back.
    Aborting,
    /// Ended: every step took effect once.
    Completed,
    /// Ended: everything that may have taken effect is undone.
    Compensated,
}

impl Phase {
    /// Whether it has ended. What has ended stays as it is.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

/// Where one branch of a step stands, for an operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepStatus<'a> {
    /// The step.
    pub step: StepId,
    /// Where it stands, in a word.
    pub state: &'static str,
    /// What was asked and waits for its answer: the request, or on the way back the
    /// compensation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// How often that was sent; 0 if it was not.
    pub attempts: u32,
    /// Why the step has asked for its fallback, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<&'a str>,
    /// Why the last attempt that has failed did so, in the words of who was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<&'a str>,
    /// When it is looked after next, if a timer is set for that: it is sent again, or its time
    /// is up.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub again_at: Option<Timestamp>,
    /// Why a person should look, if that is so.
    pub parked: Option<&'a str>,
    /// Whether it is tried further by itself although a person should look.
    pub going_on: bool,
}

/// People read it.
fn as_text<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}

impl StepStatus<'_> {
    /// Whether it stays as it is until a person acts.
    pub fn needs_person(&self) -> bool {
        self.parked.is_some() && !self.going_on
    }
}

/// One step: its branches, and how many of them stand where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StepState {
    pub name: String,
    pub kind: StepKind,
    pub branches: Vec<Branch>,
    /// Branches that have not been started.
    pub new: u32,
    /// Branches that took effect.
    pub done: u32,
    /// Branches whose compensation has not been started but has to be: started, done, unknown.
    pub to_undo: u32,
    /// Branches whose compensation is under way.
    pub undoing: u32,
    /// Branches that a person has to look at.
    pub parked: u32,
    /// The first branch that was never started, nor parked before it started.
    pub next_new: u32,
    /// The first branch that has not been looked at for compensation.
    pub next_undo: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    pub at: At,
    /// Why a person has to look, and whether it is tried further all the same.
    pub parked: Option<Box<(String, bool)>>,
    /// Whether a late answer to the request, and to the compensation, was recorded.
    pub late: [bool; 2],
    /// Why the fallback was asked for, if it was: all that is said here is of the fallback then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Box<str>>,
}

/// Where a branch stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum At {
    New,
    Started(Box<InFlight<Request>>),
    Done { result: Json },
    Refused(Box<Rejection>),
    Unknown,
    Undoing(Box<InFlight<Undo>>),
    Undone,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct InFlight<R> {
    pub request: R,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// When to look after it.
    pub wake: Option<Timestamp>,
    /// When its time is up.
    pub deadline: Option<Timestamp>,
    /// Whether a compensation was sent before, which another one has replaced.
    pub second: bool,
    /// How often a person has asked for it anew after it was refused. Counted for sagas alone:
    /// one that was compensated begins again only when it is asked by another id.
    #[serde(default)]
    pub anew: u32,
    /// What the last failed attempt that was recorded came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedAttempt>,
}

/// An attempt that came to nothing, or nobody knows to what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FailedAttempt {
    /// Which attempt was the last that had been sent.
    pub attempt: u32,
    pub why: String,
}

impl<R: Clone> InFlight<R> {
    /// The first attempt.
    fn first(request: &R, wake: Option<Timestamp>) -> Self {
        Self {
            request: request.clone(),
            attempt: 1,
            wake,
            deadline: None,
            second: false,
            failed: None,
            anew: 0,
        }
    }
}

impl SagaState {
    /// The state of an instance whose journal is empty.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            phase: Phase::New,
            started: None,
            steps: Vec::new(),
            abort: None,
            parked: 0,
            length: 0,
            asked: BTreeMap::new(),
        }
    }

    /// The state after these events, which are the whole journal.
    pub fn of_journal(stream: StreamId, journal: &[SagaEvent]) -> Self {
        let mut state = Self::new(stream);
        for event in journal {
            state.evolve(event);
        }
        state
    }

    /// The journal's stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many events the journal has: the version that the next append has to expect.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What began it, once it has begun.
    pub fn origin(&self) -> Option<&Origin> {
        self.started.as_ref().map(|started| &started.origin)
    }

    /// Whether a person has to look at some step.
    pub fn is_parked(&self) -> bool {
        self.parked > 0
    }

    /// Whether it can still go back: it has not, and the point of no return was not started.
    pub fn can_go_back(&self) -> bool {
        let is_before = |step: &StepState| {
            step.kind == StepKind::Compensatable || step.new as usize == step.branches.len()
        };
        self.phase == Phase::Running && self.steps.iter().all(is_before)
    }

    /// Why it goes, or went, back.
    pub fn abort_reason(&self) -> Option<&str> {
        self.abort.as_ref().map(|(why, _)| why.as_str())
    }

    /// Each branch of each step, for an operator.
    pub fn describe(&self) -> impl Iterator<Item = StepStatus<'_>> + '_ {
        self.steps.iter().flat_map(|step| {
            step.branches
                .iter()
                .enumerate()
                .map(|(i, branch)| branch.status(StepId::new(step.name.as_str(), i as u32)))
        })
    }

    pub(super) fn locate(&self, step: &StepId) -> Option<(usize, usize)> {
        let index = self.steps.iter().position(|s| *s.name == *step.name)?;
        let branch = step.branch as usize;
        (branch < self.steps[index].branches.len()).then_some((index, branch))
    }

    fn begin(&mut self, event: &SagaEvent) {
        let SagaEvent::SagaStarted {
            id,
            definition,
            steps,
            input,
            parent,
            origin,
            at: _,
        } = event
        else {
            return;
        };
        self.phase = Phase::Running;
        (self.abort, self.parked) = (None, 0);
        self.steps = steps.iter().map(StepState::new).collect();
        self.started = Some(Started {
            id: *id,
            definition: *definition,
            input: input.clone(),
            parent: parent.clone(),
            origin: origin.clone(),
        });
    }

    /// The state after `event`. Events that name steps which do not exist change nothing.
    pub fn evolve(&mut self, event: &SagaEvent) {
        self.length += 1;
        match event {
            SagaEvent::SagaStarted { .. } => self.begin(event),
            SagaEvent::StepStarted {
                step,
                request,
                wake,
                deadline,
                fallback,
                ..
            } => {
                let mut in_flight = InFlight::first(request, *wake);
                in_flight.deadline = *deadline;
                self.move_to(step, At::Started(Box::new(in_flight)));
                if let Some(why) = fallback {
                    self.fall_back(step, why);
                }
            }
            SagaEvent::StepOk { step, result, .. } => {
                let result = result.clone();
                self.move_to(step, At::Done { result });
            }
            SagaEvent::StepRefused { step, why, .. } => {
                self.move_to(step, At::Refused(Box::new(why.clone())));
            }
            SagaEvent::StepTimedOut { step } | SagaEvent::StepUnknown { step, .. } => {
                self.move_to(step, At::Unknown);
            }
            SagaEvent::AbortRequested { why, by } => {
                self.phase = Phase::Aborting;
                self.abort = Some((why.clone(), by.clone()));
            }
            SagaEvent::CompStarted {
                step,
                request,
                wake,
                ..
            } => {
                let mut in_flight = InFlight::first(request, *wake);
                in_flight.second = self.is_undoing(step);
                self.move_to(step, At::Undoing(Box::new(in_flight)));
            }
            SagaEvent::StepRetried {
                step,
                attempt,
                wake,
                ..
            }
            | SagaEvent::CompRetried {
                step,
                attempt,
                wake,
                ..
            } => {
                if let Some(branch) = self.branch_mut(step) {
                    branch.at.again(*attempt, *wake);
                }
            }
            SagaEvent::AttemptFailed { step, undo, why } => {
                if let Some(branch) = self.branch_mut(step) {
                    branch.at.fails(*undo, why);
                }
            }
            SagaEvent::CompOk { step, .. } => self.move_to(step, At::Undone),
            SagaEvent::LateReply { step, undo, .. } => {
                if let Some(branch) = self.branch_mut(step) {
                    branch.late[usize::from(*undo)] = true;
                }
            }
            SagaEvent::Parked {
                step,
                why,
                going_on,
            } => self.park(step, Some((why.clone(), *going_on))),
            SagaEvent::Resumed { step, .. } => {
                self.ask_anew(step);
                self.park(step, None);
            }
            SagaEvent::OperatorAsked {
                id,
                content,
                refused,
            } => {
                let (content, refused) = (*content, refused.clone());
                self.asked.insert(*id, Answered { content, refused });
            }
            SagaEvent::SagaCompleted => self.phase = Phase::Completed,
            SagaEvent::SagaCompensated => self.phase = Phase::Compensated,
        }
    }

    /// From here on all that happens to a branch happens to its fallback.
    fn fall_back(&mut self, step: &StepId, why: &str) {
        if let Some((index, branch)) = self.locate(step) {
            let step = &mut self.steps[index];
            step.branches[branch].fallback = Some(why.into());
            step.branches[branch].late = [false; 2];
            // What it asked for first may have been undone; this has not.
            step.next_undo = step.next_undo.min(branch as u32);
        }
    }

    /// Why a branch has asked for its fallback, if it has.
    pub(super) fn fell_back(&self, step: &StepId) -> Option<&str> {
        let (index, branch) = self.locate(step)?;
        self.steps[index].branches[branch].fallback.as_deref()
    }

    /// A person lets a step go on that was refused.
    fn ask_anew(&mut self, step: &StepId) {
        let branch = self.branch_mut(step);
        let stopped = branch.filter(|branch| matches!(branch.parked.as_deref(), Some((_, false))));
        match stopped.map(|branch| &mut branch.at) {
            Some(At::Started(waiting)) if matches!(waiting.request, Request::Saga(_)) => {
                waiting.anew += 1;
            }
            Some(At::Undoing(waiting))
                if matches!(waiting.request, Undo::Ask(Request::Saga(_))) =>
            {
                waiting.anew += 1;
            }
            _ => {}
        }
    }

    /// Whether a start by this id lets it begin again: it has gone back, and who began it asks
    /// for it anew.
    pub(super) fn begins_anew(&self, id: CommandId, parent: Option<&Parent>) -> bool {
        let is_by = |started: &Started| match (&started.parent, parent) {
            (Some(first), Some(now)) => first.stream == now.stream && first.role == now.role,
            _ => false,
        };
        let started = self.started.as_ref();
        self.phase == Phase::Compensated
            && started.is_some_and(|started| started.id != id && is_by(started))
    }

    fn is_undoing(&self, step: &StepId) -> bool {
        let at = self.locate(step);
        at.is_some_and(|(index, i)| matches!(self.steps[index].branches[i].at, At::Undoing(_)))
    }

    fn branch_mut(&mut self, step: &StepId) -> Option<&mut Branch> {
        let (index, branch) = self.locate(step)?;
        Some(&mut self.steps[index].branches[branch])
    }

    /// Moves a branch and recounts. What was parked is no longer.
    fn move_to(&mut self, step: &StepId, to: At) {
        self.park(step, None);
        if let Some((index, branch)) = self.locate(step) {
            self.steps[index].move_to(branch, to);
        }
    }

    fn park(&mut self, step: &StepId, why: Option<(String, bool)>) {
        if let Some((index, branch)) = self.locate(step) {
            let before = self.steps[index].parked;
            let aborting = self.phase == Phase::Aborting;
            self.steps[index].park(branch, why, aborting);
            self.parked = self.parked + self.steps[index].parked - before;
        }
    }
}

impl SoFar for SagaState {
    fn result(&self, step: &str, branch: u32) -> Option<&Json> {
        let step = self.steps.iter().find(|s| s.name == step)?;
        match &step.branches.get(branch as usize)?.at {
            At::Done { result } => Some(result),
            _ => None,
        }
    }

    fn has_fallen_back(&self, step: &str, branch: u32) -> bool {
        self.fell_back(&StepId::new(step, branch)).is_some()
    }
}

impl StepState {
    fn new(declared: &StepDeclared) -> Self {
        let branch = Branch {
            at: At::New,
            parked: None,
            late: [false; 2],
            fallback: None,
        };
        Self {
            name: declared.name.clone(),
            kind: declared.kind,
            branches: vec![branch; declared.branches as usize],
            new: declared.branches,
            done: 0,
            to_undo: 0,
            undoing: 0,
            parked: 0,
            next_new: 0,
            next_undo: 0,
        }
    }

    fn move_to(&mut self, branch: usize, to: At) {
        self.count(branch, -1);
        let after = branch as u32 + 1;
        match to {
            At::Started(_) => self.next_new = self.next_new.max(after),
            At::Undoing(_) => self.next_undo = self.next_undo.max(after),
            _ => {}
        }
        self.branches[branch].at = to;
        self.count(branch, 1);
    }

    fn park(&mut self, index: usize, why: Option<(String, bool)>, aborting: bool) {
        let branch = &mut self.branches[index];
        let before = u32::from(branch.parked.is_some());
        if matches!(why, Some((_, false))) {
            // What could not even be asked is not looked at again before a person has.
            match branch.at {
                At::New => self.next_new = self.next_new.max(index as u32 + 1),
                At::Done { .. } | At::Started(_) | At::Unknown if aborting => {
                    self.next_undo = self.next_undo.max(index as u32 + 1);
                }
                _ => {}
            }
        }
        branch.parked = why.map(Box::new);
        self.parked = self.parked + u32::from(branch.parked.is_some()) - before;
    }

    fn count(&mut self, branch: usize, by: i32) {
        let add = |tally: &mut u32| *tally = tally.saturating_add_signed(by);
        match &self.branches[branch].at {
            At::New => add(&mut self.new),
            At::Started(_) | At::Unknown => add(&mut self.to_undo),
            At::Done { .. } => {
                add(&mut self.done);
                add(&mut self.to_undo);
            }
            At::Undoing(_) => add(&mut self.undoing),
            At::Refused(_) | At::Undone => {}
        }
    }
}

impl Branch {
    fn status(&self, step: StepId) -> StepStatus<'_> {
        let (parked, going_on) = match self.parked.as_deref() {
            Some((why, going_on)) => (Some(why.as_str()), *going_on),
            None => (None, false),
        };
        let (asked, attempts, wake, last_error) = match &self.at {
            At::Started(waiting) => (
                Some(waiting.request.describe()),
                waiting.attempt,
                waiting.wake,
                waiting.last_error(),
            ),
            At::Undoing(waiting) => (
                Some(waiting.request.describe()),
                waiting.attempt,
                waiting.wake,
                waiting.last_error(),
            ),
            _ => (None, 0, None, None),
        };
        StepStatus {
            step,
            state: self.at.name(),
            asked,
            attempts,
            fallback: self.fallback.as_deref(),
            last_error,
            // The timer of what waits for a person does nothing.
            again_at: wake.filter(|_| parked.is_none() || going_on),
            parked,
            going_on,
        }
    }
}

impl<R> InFlight<R> {
    fn again(&mut self, attempt: u32, wake: Option<Timestamp>) {
        self.attempt = attempt;
        self.wake = wake;
    }

    fn fails(&mut self, why: &str) {
        self.failed = Some(FailedAttempt {
            attempt: self.attempt,
            why: why.to_owned(),
        });
    }

    /// Whether it is worth a line of the journal that an attempt has failed with these words.
    pub(super) fn is_news(&self, why: &str) -> bool {
        let failed = self.failed.as_ref();
        failed.is_none_or(|failed| failed.attempt != self.attempt && failed.why != why)
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.failed.as_ref().map(|failed| failed.why.as_str())
    }
}

impl At {
    /// It is asked again.
    fn again(&mut self, attempt: u32, wake: Option<Timestamp>) {
        match self {
            Self::Started(waiting) => waiting.again(attempt, wake),
            Self::Undoing(waiting) => waiting.again(attempt, wake),
            _ => {}
        }
    }

    /// The request, or its compensation, has failed.
    fn fails(&mut self, undo: bool, why: &str) {
        match (self, undo) {
            (Self::Started(waiting), false) => waiting.fails(why),
            (Self::Undoing(waiting), true) => waiting.fails(why),
            _ => {}
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Started(_) => "started",
            Self::Done { .. } => "done",
            Self::Refused(_) => "refused",
            Self::Unknown => "unknown",
            Self::Undoing(_) => "undoing",
            Self::Undone => "undone",
        }
    }
}
