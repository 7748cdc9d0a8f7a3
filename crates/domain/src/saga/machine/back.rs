//! Back: whatever may have taken effect is undone, in reverse order.

use super::Run;
use super::outputs::{COMPENSATED, COMPLETED, abort_reply, completed};
use crate::command::Outcome;
use crate::rejection::Rejection;
use crate::rules::Rule;
use crate::saga::definition::{Request, StepContext, StepKind};
use crate::saga::journal::{Operator, Parent, SagaEvent, Undo};
use crate::saga::plan::Plan;
use crate::saga::shape::StepShape;
use crate::saga::state::{At, Phase};
use crate::step_id::StepId;
use crate::view::HandleError;

impl Run<'_> {
    pub(super) fn abort_asked(&mut self, why: String, by: Option<Parent>) -> Result<(), Rejection> {
        if self.state.phase == Phase::New {
            // R6, for a saga as a step: its start, should it come late, finds it ended.
            self.emit(SagaEvent::AbortRequested { why, by });
            self.emit(SagaEvent::SagaCompensated);
            return Ok(());
        }
        if self.can_abort() || !self.rules.keep(Rule::NoAbortAfterPivot) {
            self.abort(why, by);
            return Ok(());
        }
        self.answer_abort(by.as_ref())
    }

    /// What to say to one who wants a saga aborted that is past it, or on its way back.
    pub(super) fn answer_abort(&mut self, by: Option<&Parent>) -> Result<(), Rejection> {
        if self.state.phase.is_terminal() {
            self.dispatch.extend(abort_reply(self.state, by));
        }
        match self.state.phase {
            Phase::Aborting | Phase::Compensated => Ok(()),
            Phase::Completed => Err(completed()),
            Phase::New | Phase::Running => {
                let why = Rejection::new(
                    "past-pivot",
                    "the saga is past its point of no return and only goes forward",
                );
                // R12: a parent asks again until the saga has completed, and then undoes it.
                Err(if by.is_some() { why.for_now() } else { why })
            }
        }
    }

    /// R9: until the point of no return has been started.
    pub(super) fn can_abort(&self) -> bool {
        let ended = self.state.phase == Phase::Completed;
        if ended && !self.rules.keep(Rule::TerminalIsFinal) {
            return true;
        }
        self.state.can_go_back()
    }

    pub(super) fn abort(&mut self, why: String, by: Option<Parent>) {
        if self.state.phase != Phase::Aborting {
            self.emit(SagaEvent::AbortRequested { why, by });
        }
        self.go_on();
    }

    pub(super) fn undo_ready(&mut self, plan: &Plan) {
        for &index in plan.shape.order.iter().rev() {
            let steps = &self.state.steps;
            // R4: only when every step that depends on it has been undone.
            let in_order = plan.shape.steps[index]
                .descendants
                .iter()
                .all(|&after| steps[after].to_undo == 0 && steps[after].undoing == 0);
            if in_order || !self.rules.keep(Rule::UndoInOrder) {
                self.undo_branches(plan, index);
            }
        }
        let steps = &self.state.steps;
        if steps.iter().all(|s| s.to_undo == 0 && s.undoing == 0) {
            self.emit(SagaEvent::SagaCompensated);
        }
    }

    /// R3: undoes every branch that was started and not refused, whether or not it answered.
    pub(super) fn undo_branches(&mut self, plan: &Plan, index: usize) {
        let shape = &plan.shape.steps[index];
        if shape.kind != StepKind::Compensatable && self.rules.keep(Rule::NoAbortAfterPivot) {
            return;
        }
        loop {
            let step = &self.state.steps[index];
            let waiting = step.undoing.saturating_sub(step.parked);
            if step.to_undo == 0 || waiting >= shape.at_once_max {
                return;
            }
            let from = step.next_undo as usize;
            let needed = |at: &At| matches!(at, At::Done { .. } | At::Started(_) | At::Unknown);
            let next = step.branches[from..].iter().position(|b| needed(&b.at));
            let Some(next) = next else {
                return;
            };
            let id = StepId::new(shape.name.clone(), (from + next) as u32);
            if !self.rules.keep(Rule::UndoUnknown)
                && !matches!(step.branches[from + next].at, At::Done { .. })
            {
                self.emit(SagaEvent::CompOk { step: id, by: None });
                continue;
            }
            self.undo(plan, index, from + next, &id, false);
        }
    }

    /// Sends the compensation of a branch, or parks it when it cannot even be asked for.
    pub(super) fn undo(
        &mut self,
        plan: &Plan,
        index: usize,
        branch: usize,
        step: &StepId,
        completed: bool,
    ) {
        let shape = &plan.shape.steps[index];
        let request = match &self.state.steps[index].branches[branch].at {
            // R12: a saga that may still run is aborted; one that has completed is not.
            At::Started(waiting) if !completed => match &waiting.request {
                Request::Saga(child) => Ok(Undo::AbortSaga(child.saga.clone())),
                _ => self.make_undo(plan, index, step),
            },
            At::Unknown if !completed => match self.request_again(plan, index, step) {
                Ok(Request::Saga(child)) => Ok(Undo::AbortSaga(child.saga)),
                _ => self.make_undo(plan, index, step),
            },
            _ => self.make_undo(plan, index, step),
        };
        match request {
            Ok(request) => {
                let wake = self.next_wake(shape, step, true, 1, None);
                self.emit(SagaEvent::CompStarted {
                    step: step.clone(),
                    request,
                    wake,
                    command: None,
                });
            }
            Err(error) => self.park(
                step,
                format!("its compensation cannot be asked for: {error}"),
            ),
        }
    }

    pub(super) fn make_undo(
        &self,
        plan: &Plan,
        index: usize,
        step: &StepId,
    ) -> Result<Undo, HandleError> {
        plan.undo(
            index,
            self.state.fell_back(step).is_some(),
            &StepContext {
                key: self.state.stream.key(),
                branch: step.branch,
                so_far: &*self.state,
                abort_reason: self.state.abort_reason(),
            },
        )
        .map(Undo::Ask)
    }

    pub(super) fn undo_reply(
        &mut self,
        index: usize,
        branch: usize,
        step: &StepId,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Done(_) => return self.undone(index, step, None),
            // R5: whatever else it is, it is asked again.
            Outcome::Unavailable(why) | Outcome::Unknown(why) => {
                return self.fails(step, true, &why);
            }
            Outcome::Refused(why) if why.try_again => {
                return self.fails(step, true, &why.to_string());
            }
            Outcome::Refused(why) => {
                // A child that has completed is undone by another saga; one that says no for
                // any other reason may still be going on.
                let child = self.is_aborting_child(index, branch) && why.code == COMPLETED;
                match self.plan {
                    // R12.
                    Some(_) if child && !self.rules.keep(Rule::UndoCompletedChild) => {
                        self.emit(SagaEvent::CompOk {
                            step: step.clone(),
                            by: None,
                        });
                    }
                    Some(plan) if child => return self.undo(plan, index, branch, step, true),
                    _ if !self.rules.keep(Rule::ParkRefusedUndo) => {
                        self.emit(SagaEvent::CompOk {
                            step: step.clone(),
                            by: None,
                        });
                    }
                    _ => {
                        return self.park(step, format!("its compensation was refused: {why}"));
                    }
                }
            }
        }
        self.go_on();
    }

    /// A step has no effect any more. In a saga that goes forward its fallback is asked for now.
    pub(super) fn undone(&mut self, index: usize, step: &StepId, by: Option<Operator>) {
        self.emit(SagaEvent::CompOk {
            step: step.clone(),
            by,
        });
        if self.state.phase == Phase::Running {
            let why = "nobody knew what became of it, and it was undone";
            if let Err(why) = self.fall_back(index, step, why.to_owned()) {
                return self.abort(format!("step {step}: {why}"), None);
            }
        }
        self.go_on();
    }

    fn is_aborting_child(&self, index: usize, branch: usize) -> bool {
        let at = &self.state.steps[index].branches[branch].at;
        matches!(at, At::Undoing(w) if matches!(w.request, Undo::AbortSaga(_)))
    }

    /// A request is answered while it is being undone. If it was a saga that was to be aborted,
    /// its end says how to go on: what has completed is undone by its compensation.
    pub(super) fn late_reply(
        &mut self,
        index: usize,
        branch: usize,
        step: &StepId,
        outcome: Outcome,
    ) {
        let ended = match &outcome {
            Outcome::Done(_) => Some(true),
            Outcome::Refused(why) if why.code == COMPENSATED => Some(false),
            _ => None,
        };
        self.emit(SagaEvent::LateReply {
            step: step.clone(),
            undo: false,
            outcome,
        });
        if !self.is_aborting_child(index, branch) || !self.rules.keep(Rule::UndoCompletedChild) {
            return;
        }
        match (ended, self.plan) {
            (Some(true), Some(plan)) => self.undo(plan, index, branch, step, true),
            (Some(false), _) => self.undone(index, step, None),
            _ => {}
        }
    }

    pub(super) fn undo_wake(
        &mut self,
        shape: &StepShape,
        step: &StepId,
        attempt: u32,
        alerted: bool,
    ) {
        if attempt >= 5 && !self.rules.keep(Rule::UndoUntilAcknowledged) {
            self.emit(SagaEvent::CompOk {
                step: step.clone(),
                by: None,
            });
            return self.go_on();
        }
        let attempt = attempt + 1;
        let wake = self.next_wake(shape, step, true, attempt, None);
        self.emit(SagaEvent::CompRetried {
            step: step.clone(),
            attempt,
            wake,
            command: None,
        });
        self.alert(shape, step, attempt, alerted);
    }
}
