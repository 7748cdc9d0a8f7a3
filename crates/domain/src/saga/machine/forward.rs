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
use crate::saga::journal::{Operator, Parent, SagaEvent, StepDeclared};
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
                            fallback: None,
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
        plan.request(index, &self.context(step))
    }

    /// What the step has asked for last: its request, or its fallback.
    pub(super) fn request_again(
        &self,
        plan: &Plan,
        index: usize,
        step: &StepId,
    ) -> Result<Request, HandleError> {
        match self.state.fell_back(step) {
            None => self.make_request(plan, index, step),
            Some(_) => plan.fallback(index, &self.context(step)),
        }
    }

    fn context<'b>(&'b self, step: &StepId) -> StepContext<'b> {
        StepContext {
            key: self.state.stream.key(),
            branch: step.branch,
            so_far: &*self.state,
            abort_reason: None,
        }
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
            // What was asked for before the fallback has been answered already.
            (At::Started(_), false) if at.fallback.is_some() && !self.is_of_fallback(step, id) => {}
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
            Outcome::Refused(why) => return self.refused(index, step, why, None),
            Outcome::Unknown(why) if kind == StepKind::Retriable => {
                return self.fails(step, false, &why);
            }
            Outcome::Unknown(why) => return self.unknown(kind, step, why),
        }
        self.go_on();
    }

    /// A step had no effect and will have none: its fallback is asked for, or the saga goes back,
    /// or, past the pivot, a person has to look.
    pub(super) fn refused(
        &mut self,
        index: usize,
        step: &StepId,
        why: Rejection,
        by: Option<Operator>,
    ) {
        let mut said = why.to_string();
        let refused = SagaEvent::StepRefused {
            step: step.clone(),
            why,
            by,
        };
        let is_retriable = self.state.steps[index].kind == StepKind::Retriable;
        if self.may_fall_back(index, step) {
            match self.fallback_of(index, step) {
                Ok(request) => {
                    self.emit(refused);
                    return self.ask_fallback(index, step, request, said);
                }
                Err(no) => said = format!("{said}; {no}"),
            }
        }
        if is_retriable {
            return self.park(
                step,
                format!("refused, though it comes after the point of no return: {said}"),
            );
        }
        self.emit(refused);
        self.abort(format!("step {step} was refused: {said}"), None);
    }

    /// Whether a step that comes to nothing still has a fallback to ask for.
    pub(super) fn may_fall_back(&self, index: usize, step: &StepId) -> bool {
        let has_one = |plan: &Plan| plan.shape.steps[index].has_fallback;
        self.plan.is_some_and(has_one)
            && self.state.phase == Phase::Running
            && self.state.fell_back(step).is_none()
    }

    /// Asks for the fallback of a step that has no effect, or says why that cannot be.
    pub(super) fn fall_back(
        &mut self,
        index: usize,
        step: &StepId,
        why: String,
    ) -> Result<(), String> {
        let request = self.fallback_of(index, step)?;
        self.ask_fallback(index, step, request, why);
        Ok(())
    }

    fn fallback_of(&self, index: usize, step: &StepId) -> Result<Request, String> {
        let Some(plan) = self.plan else {
            return Err("it has no plan".to_owned());
        };
        let made = plan.fallback(index, &self.context(step));
        let request = made.map_err(|error| format!("its fallback cannot be asked for: {error}"))?;
        let to = receiver(&request);
        if plan.shape.steps[index].overlap == Overlap::Disjoint
            && self.receivers_beside(plan, index).contains(&to)
        {
            return Err(format!(
                "its fallback changes {to} at the same time as another step, though both are declared disjoint"
            ));
        }
        Ok(request)
    }

    fn ask_fallback(&mut self, index: usize, step: &StepId, request: Request, why: String) {
        let Some(plan) = self.plan else {
            return;
        };
        let (wake, deadline) = self.first_wake(&plan.shape.steps[index], step);
        self.emit(SagaEvent::StepStarted {
            step: step.clone(),
            request,
            wake,
            deadline,
            command: None,
            fallback: Some(why.chars().take(WORDS_MAX).collect()),
        });
    }

    /// Whether an answer is one to the fallback of this step.
    fn is_of_fallback(&self, step: &StepId, id: CommandId) -> bool {
        let branch = self.state.locate(step);
        let branch = branch.map(|(index, branch)| &self.state.steps[index].branches[branch].at);
        matches!(branch, Some(At::Started(waiting))
            if id == command_id(self.state, step, false, &waiting.into(), self.rules))
    }

    /// Whether a step comes to nothing because a circuit is open: its request never left, so that
    /// there is nothing to undo, and the saga has another way to go.
    fn may_go_back(&self, index: usize, step: &StepId, why: &Rejection) -> bool {
        let shape = &self.state.steps[index];
        let branch = &shape.branches[step.branch as usize];
        why.code == CIRCUIT_OPEN
            && (shape.kind == StepKind::Compensatable || self.may_fall_back(index, step))
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
            let why = format!("nobody knows what became of step {step}: {why}");
            self.give_up(index, branch, step, why);
        } else {
            self.park(
                step,
                format!("nobody knows what became of it: {why}. Find out, then settle the step"),
            );
        }
    }

    /// Nobody waits any longer for a step that may have taken effect and can be undone: it is
    /// undone, and its fallback asked for after that, or the saga goes back.
    fn give_up(&mut self, index: usize, branch: usize, step: &StepId, why: String) {
        match self.plan {
            Some(plan) if self.may_fall_back(index, step) => {
                self.undo(plan, index, branch, step, false);
            }
            _ => self.abort(why, None),
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
            // One that was set for what was asked before the fallback is too early for that.
            At::Started(waiting) if waiting.wake.is_some_and(|wake| timer.at < wake) => {}
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
            if let Some((index, branch)) = self.state.locate(step) {
                let why = format!("step {step} did not answer in time{words}");
                self.give_up(index, branch, step, why);
            }
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
