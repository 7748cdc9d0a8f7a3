//! Forward: steps are started when what they wait for is done, and tried again.

use std::collections::BTreeSet;

use super::Run;
use super::outputs::{CIRCUIT_OPEN, Sending, command_id};
use crate::CommandId;
use crate::command::Outcome;
use crate::json::Json;
use crate::origin::Origin;
use crate::rejection::Rejection;
use crate::rules::{Rule, Rules};
use crate::saga::definition::{Overlap, Request, StepContext, StepKind};
use crate::saga::journal::{Parent, SagaEvent, StepDeclared};
use crate::saga::machine::SagaTimer;
use crate::saga::plan::Plan;
use crate::saga::shape::StepShape;
use crate::saga::state::{At, Phase};
use crate::step_id::StepId;
use crate::time::Timestamp;
use crate::view::HandleError;

impl Run<'_> {
    pub(super) fn start(
        &mut self,
        id: CommandId,
        input: Json,
        parent: Option<Parent>,
        origin: Origin,
    ) {
        if self.state.phase == Phase::New {
            self.begin(id, input, parent, origin);
        }
    }

    /// Begins, for the first time or once more.
    pub(super) fn begin(
        &mut self,
        id: CommandId,
        input: Json,
        parent: Option<Parent>,
        origin: Origin,
    ) {
        let Some(plan) = self.plan else {
            return;
        };
        let steps = plan.shape.steps.iter().zip(&plan.branches);
        let steps = steps.map(|(step, &branches)| StepDeclared {
            name: step.name.as_ref().to_owned(),
            kind: step.kind,
            branches,
        });
        self.emit(SagaEvent::SagaStarted {
            id,
            definition: plan.shape.hash,
            steps: steps.collect(),
            input,
            parent,
            origin,
            at: self.now,
        });
        self.go_on();
    }

    pub(super) fn start_ready(&mut self, plan: &Plan) {
        let mut complete = vec![false; plan.shape.steps.len()];
        for &index in &plan.shape.order {
            let shape = &plan.shape.steps[index];
            let ready = shape.after.iter().all(|&before| complete[before]);
            if ready {
                self.start_branches(plan, index);
                if self.state.phase != Phase::Running {
                    return;
                }
            }
            let step = &self.state.steps[index];
            complete[index] = ready && step.done as usize == step.branches.len();
        }
        if complete.iter().all(|&complete| complete) {
            self.emit(SagaEvent::SagaCompleted);
        }
    }

    pub(super) fn start_branches(&mut self, plan: &Plan, index: usize) {
        let shape = &plan.shape.steps[index];
        let mut taken = None;
        loop {
            let step = &self.state.steps[index];
            let next = step.next_new;
            let under_way = step.to_undo - step.done;
            if next as usize >= step.branches.len() || under_way >= shape.at_once_max {
                return;
            }
            let id = StepId::new(shape.name.clone(), next);
            match self.make_request(plan, index, &id) {
                Ok(request) => {
                    if shape.overlap == Overlap::Disjoint
                        && !taken
                            .get_or_insert_with(|| self.receivers_beside(plan, index))
                            .insert(receiver(&request))
                    {
                        let why = format!(
                            "step {id} changes {} at the same time as another step, though both are declared disjoint",
                            receiver(&request)
                        );
                        self.cannot_start(&id, why);
                    } else {
                        let (wake, deadline) = self.first_wake(shape, &id);
                        self.emit(SagaEvent::StepStarted {
                            step: id,
                            request,
                            wake,
                            deadline,
                            command: None,
                        });
                    }
                }
                Err(error) => self.cannot_start(&id, error.to_string()),
            }
            if self.state.phase != Phase::Running {
                return;
            }
        }
    }

    pub(super) fn make_request(
        &self,
        plan: &Plan,
        index: usize,
        step: &StepId,
    ) -> Result<Request, HandleError> {
        plan.request(
            index,
            &StepContext {
                key: self.state.stream.key(),
                branch: step.branch,
                results: &|name, branch| self.state.result(name, branch),
                abort_reason: None,
            },
        )
    }

    /// A request that cannot even be made: before the pivot the saga goes back, after it a
    /// person has to look.
    pub(super) fn cannot_start(&mut self, step: &StepId, why: String) {
        if self.can_abort() {
            self.abort(format!("step {step} cannot be asked for: {why}"), None);
        } else {
            self.emit(SagaEvent::Parked {
                step: step.clone(),
                why,
                going_on: false,
            });
        }
    }

    /// Who is being asked now by branches that run beside those of step `index`.
    pub(super) fn receivers_beside(&self, plan: &Plan, index: usize) -> BTreeSet<String> {
        let shape = &plan.shape;
        let changes = &shape.steps[index].changes;
        let beside = |other: &usize| {
            let both = &shape.steps[*other].changes;
            !shape.ordered(index, *other) && changes.iter().any(|c| both.contains(c))
        };
        let steps = (0..shape.steps.len()).filter(beside);
        steps
            .flat_map(|other| &self.state.steps[other].branches)
            .filter_map(|branch| match &branch.at {
                At::Started(waiting) => Some(receiver(&waiting.request)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn first_wake(
        &self,
        shape: &StepShape,
        step: &StepId,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let deadline = shape.timeout.map(|timeout| self.now + timeout);
        (self.next_wake(shape, step, false, 1, deadline), deadline)
    }

    /// When to look after attempt `attempt` of a step.
    pub(super) fn next_wake(
        &self,
        shape: &StepShape,
        step: &StepId,
        undo: bool,
        attempt: u32,
        deadline: Option<Timestamp>,
    ) -> Option<Timestamp> {
        if shape.at_most_once && !undo {
            return deadline;
        }
        let seed = command_id(self.state, step, undo, &Sending::NONE, Rules::ALL).as_u128();
        let again = self.now + shape.retry.delay_after(attempt, seed);
        Some(deadline.map_or(again, |deadline| deadline.min(again)))
    }

    pub(super) fn reply(&mut self, step: &StepId, undo: bool, id: CommandId, outcome: Outcome) {
        let Some((index, branch)) = self.state.locate(step) else {
            return;
        };
        let at = &self.state.steps[index].branches[branch];
        match (&at.at, undo) {
            // A saga that was asked anew has said no to what it was asked before.
            (At::Started(waiting), false)
                if waiting.anew > 0
                    && matches!(outcome, Outcome::Refused(_))
                    && id != command_id(self.state, step, false, &waiting.into(), self.rules) => {}
            (At::Started(_), false) => self.step_reply(index, step, outcome),
            // Nobody knew what became of the pivot, and now somebody does.
            (At::Unknown, false) if self.state.phase == Phase::Running => {
                self.step_reply(index, step, outcome);
            }
            (At::Undoing(waiting), true)
                if id == command_id(self.state, step, true, &waiting.into(), self.rules) =>
            {
                self.undo_reply(index, branch, step, outcome);
            }
            // R8: the time-out, or the abort, stands first in the journal.
            (At::Unknown | At::Undoing(_) | At::Undone, false) => {
                if !self.rules.keep(Rule::FirstInJournalWins) {
                    self.step_reply(index, step, outcome);
                } else if !at.late[0] && is_final(&outcome) {
                    self.late_reply(index, branch, step, outcome);
                }
            }
            // Said before.
            _ => {}
        }
    }

    pub(super) fn step_reply(&mut self, index: usize, step: &StepId, outcome: Outcome) {
        let kind = self.state.steps[index].kind;
        match outcome {
            Outcome::Done(result) => self.emit(SagaEvent::StepOk {
                step: step.clone(),
                result,
                by: None,
            }),
            Outcome::Unavailable(why) => return self.fails(step, false, &why),
            Outcome::Refused(why) if why.try_again && !self.may_go_back(index, step, &why) => {
                return self.fails(step, false, &why.to_string());
            }
            Outcome::Refused(why) if kind == StepKind::Retriable => {
                return self.park(
                    step,
                    format!("refused, though it comes after the point of no return: {why}"),
                );
            }
            Outcome::Refused(why) => {
                let reason = format!("step {step} was refused: {why}");
                self.emit(SagaEvent::StepRefused {
                    step: step.clone(),
                    why,
                    by: None,
                });
                self.abort(reason, None);
            }
            Outcome::Unknown(why) if kind == StepKind::Retriable => {
                return self.fails(step, false, &why);
            }
            Outcome::Unknown(why) => return self.unknown(kind, step, why),
        }
        self.go_on();
    }

    /// Whether the saga goes back because a circuit is open: the step can be undone, and its
    /// request never left, so that there is nothing to undo.
    fn may_go_back(&self, index: usize, step: &StepId, why: &Rejection) -> bool {
        let shape = &self.state.steps[index];
        let branch = &shape.branches[step.branch as usize];
        why.code == CIRCUIT_OPEN
            && shape.kind == StepKind::Compensatable
            && matches!(&branch.at, At::Started(waiting)
                if waiting.attempt == 1 && waiting.failed.is_none())
    }

    /// An attempt came to nothing, or nobody knows to what; the next one is made when the step's
    /// timer says so. The words are kept for whoever looks.
    pub(super) fn fails(&mut self, step: &StepId, undo: bool, why: &str) {
        let Some((index, branch)) = self.state.locate(step) else {
            return;
        };
        let why: String = why.chars().take(WORDS_MAX).collect();
        let is_news = match (&self.state.steps[index].branches[branch].at, undo) {
            (At::Started(waiting), false) => waiting.is_news(&why),
            (At::Undoing(waiting), true) => waiting.is_news(&why),
            _ => false,
        };
        if is_news {
            let step = step.clone();
            self.emit(SagaEvent::AttemptFailed { step, undo, why });
        }
    }

    /// What `step` has last failed with, as the end of a sentence.
    fn last_words(&self, step: &StepId) -> String {
        let branch = self.state.locate(step);
        let branch = branch.map(|(index, branch)| &self.state.steps[index].branches[branch]);
        let words = match branch.map(|branch| &branch.at) {
            Some(At::Started(waiting)) => waiting.last_error(),
            Some(At::Undoing(waiting)) => waiting.last_error(),
            _ => None,
        };
        words.map_or_else(String::new, |words| format!(": {words}"))
    }

    /// Nobody will find out what became of a step: before the pivot the saga goes back; the
    /// pivot itself can neither be repeated nor undone.
    pub(super) fn unknown(&mut self, kind: StepKind, step: &StepId, why: String) {
        let (index, branch) = match self.state.locate(step) {
            Some(at) => at,
            None => return,
        };
        if self.state.steps[index].branches[branch].at != At::Unknown {
            self.emit(SagaEvent::StepUnknown {
                step: step.clone(),
                why: why.clone(),
            });
        }
        if kind == StepKind::Compensatable {
            self.abort(
                format!("nobody knows what became of step {step}: {why}"),
                None,
            );
        } else {
            self.park(
                step,
                format!("nobody knows what became of it: {why}. Find out, then settle the step"),
            );
        }
    }

    pub(super) fn park(&mut self, step: &StepId, why: String) {
        self.emit(SagaEvent::Parked {
            step: step.clone(),
            why,
            going_on: false,
        });
    }

    pub(super) fn wake(&mut self, timer: &SagaTimer) {
        let (Some((index, branch)), Some(plan)) = (self.state.locate(&timer.step), self.plan)
        else {
            return;
        };
        let shape = &plan.shape.steps[index];
        let state = &self.state.steps[index].branches[branch];
        let stopped = state.parked.as_ref().is_some_and(|parked| !parked.1);
        let alerted = state.parked.is_some();
        match &state.at {
            At::Started(waiting) if !timer.undo && waiting.attempt == timer.attempt && !stopped => {
                let (attempt, deadline) = (waiting.attempt, waiting.deadline);
                self.step_wake(shape, &timer.step, attempt, deadline, alerted);
            }
            At::Undoing(waiting) if timer.undo && waiting.attempt == timer.attempt && !stopped => {
                let attempt = waiting.attempt;
                self.undo_wake(shape, &timer.step, attempt, alerted);
            }
            _ => {}
        }
    }

    pub(super) fn step_wake(
        &mut self,
        shape: &StepShape,
        step: &StepId,
        attempt: u32,
        deadline: Option<Timestamp>,
        alerted: bool,
    ) {
        let may_abort = shape.kind == StepKind::Compensatable;
        let late = deadline.is_some_and(|deadline| self.now >= deadline);
        if may_abort && (late || !shape.retry.goes_on_after(attempt)) {
            let words = self.last_words(step);
            self.emit(SagaEvent::StepTimedOut { step: step.clone() });
            self.abort(format!("step {step} did not answer in time{words}"), None);
            return;
        }
        if shape.at_most_once && self.rules.keep(Rule::AtMostOnce) {
            if late {
                let words = self.last_words(step);
                self.unknown(
                    shape.kind,
                    step,
                    format!("it did not answer in time{words}"),
                );
            }
            return;
        }
        let attempt = attempt + 1;
        let wake = self.next_wake(shape, step, false, attempt, deadline);
        self.emit(SagaEvent::StepRetried {
            step: step.clone(),
            attempt,
            wake,
            command: None,
        });
        self.alert(shape, step, attempt, alerted);
    }

    pub(super) fn alert(&mut self, shape: &StepShape, step: &StepId, attempt: u32, alerted: bool) {
        if attempt > shape.alert_after && !alerted {
            self.emit(SagaEvent::Parked {
                step: step.clone(),
                why: format!(
                    "no answer after {} attempts{}",
                    attempt - 1,
                    self.last_words(step)
                ),
                going_on: true,
            });
        }
    }
}

/// The most characters that are kept of why an attempt has failed.
const WORDS_MAX: usize = 1000;

fn receiver(request: &Request) -> String {
    match request {
        Request::Command(command) => command.to.to_string(),
        Request::Call(call) => format!("{} {}", call.effect, call.request),
        Request::Saga(start) => start.saga.to_string(),
    }
}

fn is_final(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done(_) | Outcome::Unknown(_) => true,
        Outcome::Refused(why) => !why.try_again,
        Outcome::Unavailable(_) => false,
    }
}
