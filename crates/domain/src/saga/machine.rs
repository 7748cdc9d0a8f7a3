//! The saga state machine: pure functions from a state and an input to journal events, and
//! from a journal event to what is sent.
//!
//! The rules R1 to R14 are those of the specification; each stands where it is kept.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::definition::{Overlap, Request, StepContext, StepKind};
use super::journal::{Operator, Parent, SagaEvent, StepDeclared, Undo};
use super::plan::Plan;
use super::rules::{Rule, Rules};
use super::shape::StepShape;
use super::state::{At, InFlight, Phase, SagaState};
use super::step_id::StepId;
use crate::CommandId;
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::rejection::Rejection;
use crate::time::Timestamp;
use crate::view::HandleError;

/// What reaches an instance of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SagaInput {
    /// It shall begin. Repeating it changes nothing.
    Start {
        /// Id of the start.
        id: CommandId,
        /// What it starts from.
        input: Json,
        /// Who waits for its end.
        parent: Option<Parent>,
    },
    /// What became of a request or a compensation.
    Reply {
        /// The step.
        step: StepId,
        /// Whether it answers the compensation.
        undo: bool,
        /// The id of what it answers.
        id: CommandId,
        /// The answer.
        outcome: Outcome,
    },
    /// A timer is due.
    Wake(SagaTimer),
    /// It shall go back.
    Abort {
        /// Why.
        why: String,
        /// Who waits for the outcome.
        by: Option<Parent>,
    },
    /// A person has looked at a step that was parked: go on.
    Resume {
        /// The step.
        step: StepId,
        /// Who.
        by: Operator,
    },
    /// A person has found out what became of a step, or has undone it by hand.
    Settle {
        /// The step.
        step: StepId,
        /// What is so.
        as_: Settlement,
        /// Who.
        by: Operator,
    },
    /// The node that ran it has gone, and another one takes over.
    Recovered,
}

/// What a person says has become of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// It took effect; this came back.
    Done(Json),
    /// It had no effect.
    Refused(Rejection),
    /// Its effect is undone.
    Undone,
}

/// A moment at which to look after a step. Follows from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaTimer {
    /// The step.
    pub step: StepId,
    /// Whether it is for the compensation.
    pub undo: bool,
    /// For which attempt it was set; for a later one it means nothing.
    pub attempt: u32,
    /// When it is due. It fires late rather than never.
    pub at: Timestamp,
}

/// What a saga sends because of a journal event, once that event is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatch {
    /// A request or a compensation.
    Request {
        /// Its id, and its idempotency key.
        id: CommandId,
        /// What is asked.
        request: Undo,
        /// The part it plays.
        role: Role,
    },
    /// A timer to set.
    Timer(SagaTimer),
    /// The end, to one who waits for it.
    Reply {
        /// Who waits.
        to: Parent,
        /// What became of the saga.
        outcome: Outcome,
    },
    /// The end, to all receivers: what they remember of this saga they may forget.
    Ended,
}

/// What is to be done about an input: the events to append, atomically and at
/// [`SagaState::length`]; what to send after that; and the answer to who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The events to append. When there are none, nothing has changed.
    pub events: Vec<SagaEvent>,
    /// What to send once they are durable.
    pub dispatch: Vec<Dispatch>,
    /// Whether what was asked is done; replies and timers are always taken.
    pub answer: Result<(), Rejection>,
}

/// Decides about `input`, moving `state` along with the events that it returns.
pub(super) fn decide(
    plan: Option<&Plan>,
    state: &mut SagaState,
    input: SagaInput,
    now: Timestamp,
    rules: Rules,
) -> Decision {
    let mut run = Run {
        plan,
        state,
        now,
        rules,
        events: Vec::new(),
        dispatch: Vec::new(),
    };
    let answer = run.take(input);
    Decision {
        events: run.events,
        dispatch: run.dispatch,
        answer,
    }
}

struct Run<'a> {
    /// None as long as the instance has not begun, and when it ended before it began.
    plan: Option<&'a Plan>,
    state: &'a mut SagaState,
    now: Timestamp,
    rules: Rules,
    events: Vec<SagaEvent>,
    dispatch: Vec<Dispatch>,
}

impl<'a> Run<'a> {
    fn take(&mut self, input: SagaInput) -> Result<(), Rejection> {
        // R14: what has ended only repeats how it ended, and notes what came too late.
        let ended = self.state.phase.is_terminal() && self.rules.keep(Rule::TerminalIsFinal);
        match input {
            SagaInput::Start { parent, .. } if ended => {
                self.dispatch.extend(end_reply(self.state, parent.as_ref()));
                Ok(())
            }
            SagaInput::Abort { by, .. } if ended => self.answer_abort(by.as_ref()),
            SagaInput::Wake(_) | SagaInput::Recovered if ended => Ok(()),
            SagaInput::Resume { .. } | SagaInput::Settle { .. } if ended => Err(Rejection::new(
                "saga-ended",
                "the saga has ended, and what has ended stays as it is",
            )),
            SagaInput::Start { id, input, parent } => {
                self.start(id, input, parent);
                Ok(())
            }
            SagaInput::Reply {
                step,
                undo,
                id,
                outcome,
            } => {
                self.reply(&step, undo, id, outcome);
                Ok(())
            }
            SagaInput::Wake(timer) => {
                self.wake(&timer);
                Ok(())
            }
            SagaInput::Abort { why, by } => self.abort_asked(why, by),
            SagaInput::Resume { step, by } => self.resume(step, by),
            SagaInput::Settle { step, as_, by } => self.settle(step, as_, by),
            SagaInput::Recovered => {
                self.recovered();
                Ok(())
            }
        }
    }

    fn emit(&mut self, event: SagaEvent) {
        self.state.evolve(&event);
        self.dispatch
            .extend(outputs_under(self.state, &event, self.rules));
        self.events.push(event);
    }

    // Forward.

    fn start(&mut self, id: CommandId, input: Json, parent: Option<Parent>) {
        let (Phase::New, Some(plan)) = (self.state.phase, self.plan) else {
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
            at: self.now,
        });
        self.go_on();
    }

    /// Starts or undoes what can be started or undone now, and ends what is at its end.
    fn go_on(&mut self) {
        let Some(plan) = self.plan else {
            return;
        };
        if self.state.phase == Phase::Running {
            self.start_ready(plan);
        }
        if self.state.phase == Phase::Aborting {
            self.undo_ready(plan);
        }
    }

    fn start_ready(&mut self, plan: &Plan) {
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

    fn start_branches(&mut self, plan: &Plan, index: usize) {
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

    fn make_request(
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
            },
        )
    }

    /// A request that cannot even be made: before the pivot the saga goes back, after it a
    /// person has to look.
    fn cannot_start(&mut self, step: &StepId, why: String) {
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
    fn receivers_beside(&self, plan: &Plan, index: usize) -> HashSet<String> {
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

    fn first_wake(
        &self,
        shape: &StepShape,
        step: &StepId,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let deadline = shape.timeout.map(|timeout| self.now + timeout);
        (self.next_wake(shape, step, false, 1, deadline), deadline)
    }

    /// When to look after attempt `attempt` of a step.
    fn next_wake(
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
        let seed = command_id(self.state, step, undo, false, Rules::ALL, 0).as_u128();
        let again = self.now + shape.retry.delay_after(attempt, seed);
        Some(deadline.map_or(again, |deadline| deadline.min(again)))
    }

    fn reply(&mut self, step: &StepId, undo: bool, id: CommandId, outcome: Outcome) {
        let Some((index, branch)) = self.state.locate(step) else {
            return;
        };
        let at = &self.state.steps[index].branches[branch];
        match (&at.at, undo) {
            (At::Started(_), false) => self.step_reply(index, step, outcome),
            // Nobody knew what became of the pivot, and now somebody does.
            (At::Unknown, false) if self.state.phase == Phase::Running => {
                self.step_reply(index, step, outcome);
            }
            (At::Undoing(waiting), true) => {
                let rules = self.rules;
                let attempt = waiting.attempt;
                if id == command_id(self.state, step, true, waiting.second, rules, attempt) {
                    self.undo_reply(index, branch, step, outcome);
                }
            }
            // R8: the time-out, or the abort, stands first in the journal.
            (At::Unknown | At::Undoing(_) | At::Undone, false) => {
                if !self.rules.keep(Rule::FirstInJournalWins) {
                    self.step_reply(index, step, outcome);
                } else if !at.late[0] && is_final(&outcome) {
                    self.emit(SagaEvent::LateReply {
                        step: step.clone(),
                        undo,
                        outcome,
                    });
                }
            }
            // Said before.
            _ => {}
        }
    }

    fn step_reply(&mut self, index: usize, step: &StepId, outcome: Outcome) {
        let kind = self.state.steps[index].kind;
        match outcome {
            Outcome::Done(result) => self.emit(SagaEvent::StepOk {
                step: step.clone(),
                result,
                by: None,
            }),
            Outcome::Unavailable(_) => return,
            Outcome::Refused(why) if why.try_again => return,
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
            Outcome::Unknown(_) if kind == StepKind::Retriable => return,
            Outcome::Unknown(why) => return self.unknown(kind, step, why),
        }
        self.go_on();
    }

    /// Nobody will find out what became of a step: before the pivot the saga goes back; the
    /// pivot itself can neither be repeated nor undone.
    fn unknown(&mut self, kind: StepKind, step: &StepId, why: String) {
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

    fn park(&mut self, step: &StepId, why: String) {
        self.emit(SagaEvent::Parked {
            step: step.clone(),
            why,
            going_on: false,
        });
    }

    fn wake(&mut self, timer: &SagaTimer) {
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

    fn step_wake(
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
            self.emit(SagaEvent::StepTimedOut { step: step.clone() });
            self.abort(format!("step {step} did not answer in time"), None);
            return;
        }
        if shape.at_most_once && self.rules.keep(Rule::AtMostOnce) {
            return;
        }
        let attempt = attempt + 1;
        let wake = self.next_wake(shape, step, false, attempt, deadline);
        self.emit(SagaEvent::StepRetried {
            step: step.clone(),
            attempt,
            wake,
        });
        self.alert(shape, step, attempt, alerted);
    }

    fn alert(&mut self, shape: &StepShape, step: &StepId, attempt: u32, alerted: bool) {
        if attempt > shape.alert_after && !alerted {
            self.emit(SagaEvent::Parked {
                step: step.clone(),
                why: format!("no answer after {} attempts", attempt - 1),
                going_on: true,
            });
        }
    }

    // Back.

    fn abort_asked(&mut self, why: String, by: Option<Parent>) -> Result<(), Rejection> {
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
    fn answer_abort(&mut self, by: Option<&Parent>) -> Result<(), Rejection> {
        if self.state.phase.is_terminal() {
            self.dispatch.extend(abort_reply(self.state, by));
        }
        match self.state.phase {
            Phase::Aborting | Phase::Compensated => Ok(()),
            Phase::Completed => Err(completed()),
            Phase::New | Phase::Running => Err(Rejection::new(
                "past-pivot",
                "the saga is past its point of no return and only goes forward",
            )),
        }
    }

    /// R9: until the point of no return has been started.
    fn can_abort(&self) -> bool {
        let ended = self.state.phase == Phase::Completed;
        if ended && !self.rules.keep(Rule::TerminalIsFinal) {
            return true;
        }
        self.state.phase == Phase::Running
            && self
                .state
                .steps
                .iter()
                .filter(|step| step.kind != StepKind::Compensatable)
                .all(|step| step.new as usize == step.branches.len())
    }

    fn abort(&mut self, why: String, by: Option<Parent>) {
        if self.state.phase != Phase::Aborting {
            self.emit(SagaEvent::AbortRequested { why, by });
        }
        self.go_on();
    }

    fn undo_ready(&mut self, plan: &Plan) {
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
    fn undo_branches(&mut self, plan: &Plan, index: usize) {
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
    fn undo(&mut self, plan: &Plan, index: usize, branch: usize, step: &StepId, completed: bool) {
        let shape = &plan.shape.steps[index];
        let request = match &self.state.steps[index].branches[branch].at {
            // R12: a saga that may still run is aborted; one that has completed is not.
            At::Started(waiting) if !completed => match &waiting.request {
                Request::Saga(child) => Ok(Undo::AbortSaga(child.saga.clone())),
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
                });
            }
            Err(error) => self.park(
                step,
                format!("its compensation cannot be asked for: {error}"),
            ),
        }
    }

    fn make_undo(&self, plan: &Plan, index: usize, step: &StepId) -> Result<Undo, HandleError> {
        plan.undo(
            index,
            &StepContext {
                key: self.state.stream.key(),
                branch: step.branch,
                results: &|name, branch| self.state.result(name, branch),
            },
        )
        .map(Undo::Ask)
    }

    fn undo_reply(&mut self, index: usize, branch: usize, step: &StepId, outcome: Outcome) {
        match outcome {
            Outcome::Done(_) => self.emit(SagaEvent::CompOk {
                step: step.clone(),
                by: None,
            }),
            // R5: whatever else it is, it is asked again.
            Outcome::Unavailable(_) | Outcome::Unknown(_) => return,
            Outcome::Refused(why) if why.try_again => return,
            Outcome::Refused(why) => {
                let at = &self.state.steps[index].branches[branch].at;
                let child = matches!(at, At::Undoing(w) if matches!(w.request, Undo::AbortSaga(_)));
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

    fn undo_wake(&mut self, shape: &StepShape, step: &StepId, attempt: u32, alerted: bool) {
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
        });
        self.alert(shape, step, attempt, alerted);
    }

    // People.

    fn resume(&mut self, step: StepId, by: Operator) -> Result<(), Rejection> {
        let (index, branch) = self.find(&step)?;
        let (Some(plan), true) = (
            self.plan,
            self.state.steps[index].branches[branch].parked.is_some(),
        ) else {
            return Err(Rejection::new(
                "not-parked",
                format!("step {step} is not parked; there is nothing to resume"),
            ));
        };
        let resumed = SagaEvent::Resumed {
            step: step.clone(),
            by,
        };
        let shape = &plan.shape.steps[index];
        match &self.state.steps[index].branches[branch].at {
            At::Started(waiting) => {
                let (attempt, deadline) = (waiting.attempt + 1, waiting.deadline);
                self.emit(resumed);
                let wake = self.next_wake(shape, &step, false, attempt, deadline);
                self.emit(SagaEvent::StepRetried {
                    step,
                    attempt,
                    wake,
                });
            }
            At::Undoing(waiting) => {
                let attempt = waiting.attempt + 1;
                self.emit(resumed);
                let wake = self.next_wake(shape, &step, true, attempt, None);
                self.emit(SagaEvent::CompRetried {
                    step,
                    attempt,
                    wake,
                });
            }
            At::New => {
                self.emit(resumed);
                match self.make_request(plan, index, &step) {
                    Ok(request) => {
                        let (wake, deadline) = self.first_wake(shape, &step);
                        self.emit(SagaEvent::StepStarted {
                            step,
                            request,
                            wake,
                            deadline,
                        });
                    }
                    Err(error) => self.cannot_start(&step, error.to_string()),
                }
            }
            At::Unknown if shape.kind == StepKind::Pivot => {
                return Err(Rejection::new(
                    "settle-it",
                    format!("nobody knows what became of step {step}; find out and settle it"),
                ));
            }
            _ => {
                self.emit(resumed);
                self.undo(plan, index, branch, &step, false);
            }
        }
        Ok(())
    }

    fn settle(&mut self, step: StepId, as_: Settlement, by: Operator) -> Result<(), Rejection> {
        let (index, branch) = self.find(&step)?;
        let at = &self.state.steps[index].branches[branch].at;
        let forward = self.state.phase == Phase::Running;
        let open = matches!(at, At::Started(_) | At::Unknown);
        let by = Some(by);
        match as_ {
            Settlement::Done(result) if forward && open => {
                self.emit(SagaEvent::StepOk { step, result, by });
            }
            Settlement::Refused(why)
                if forward && open && self.state.steps[index].kind != StepKind::Retriable =>
            {
                let reason = format!("step {step} was refused: {why}");
                self.emit(SagaEvent::StepRefused { step, why, by });
                self.abort(reason, None);
            }
            Settlement::Undone
                if self.state.phase == Phase::Aborting
                    && (open || matches!(at, At::Undoing(_) | At::Done { .. })) =>
            {
                self.emit(SagaEvent::CompOk { step, by });
            }
            _ => {
                return Err(Rejection::new(
                    "cannot-settle",
                    format!(
                        "step {step} is {} while the saga is {:?}; it cannot be settled this way",
                        at.name(),
                        self.state.phase
                    ),
                ));
            }
        }
        self.go_on();
        Ok(())
    }

    fn find(&self, step: &StepId) -> Result<(usize, usize), Rejection> {
        self.state
            .locate(step)
            .ok_or_else(|| Rejection::new("no-such-step", format!("the saga has no step {step}")))
    }

    // After a crash.

    /// R2: what may be sent only once, and may have been, is not sent again. Everything else is
    /// sent again with the ids it had; see [`outstanding`].
    fn recovered(&mut self) {
        let Some(plan) = self.plan else {
            return;
        };
        if !self.rules.keep(Rule::AtMostOnce) {
            return;
        }
        let mut lost = Vec::new();
        for (index, shape) in plan.shape.steps.iter().enumerate() {
            if !shape.at_most_once {
                continue;
            }
            for (branch, state) in self.state.steps[index].branches.iter().enumerate() {
                if matches!(state.at, At::Started(_)) {
                    lost.push((shape.kind, StepId::new(shape.name.clone(), branch as u32)));
                }
            }
        }
        for (kind, step) in lost {
            // An abort because of one may have reached the next.
            let at = self.state.locate(&step);
            let still = at.is_some_and(|(index, branch)| {
                matches!(self.state.steps[index].branches[branch].at, At::Started(_))
            });
            if still {
                let why = "the node that asked for it stopped before the answer came";
                self.unknown(kind, &step, why.to_owned());
            }
        }
    }
}

/// What `event` makes be sent, when `state` is the state after it. A function of the journal
/// alone: replaying it gives the same commands with the same ids, bit by bit.
pub fn outputs(state: &SagaState, event: &SagaEvent) -> Vec<Dispatch> {
    outputs_under(state, event, Rules::ALL)
}

pub(super) fn outputs_under(state: &SagaState, event: &SagaEvent, rules: Rules) -> Vec<Dispatch> {
    match event {
        SagaEvent::StepStarted { step, .. }
        | SagaEvent::StepRetried { step, .. }
        | SagaEvent::CompStarted { step, .. }
        | SagaEvent::CompRetried { step, .. } => in_flight(state, step, rules),
        SagaEvent::SagaCompleted | SagaEvent::SagaCompensated => {
            let parent = state.started.as_ref().and_then(|s| s.parent.as_ref());
            let asked = state.abort.as_ref().and_then(|(_, by)| by.as_ref());
            let mut out: Vec<Dispatch> = end_reply(state, parent).into_iter().collect();
            out.extend(abort_reply(state, asked));
            out.push(Dispatch::Ended);
            out
        }
        _ => Vec::new(),
    }
}

/// Everything that was sent and is not answered, and every timer that is set: what a node that
/// takes over sends again. Receivers know what they have seen before by its id.
pub(super) fn outstanding(state: &SagaState, rules: Rules) -> Vec<Dispatch> {
    if state.phase.is_terminal() {
        return Vec::new();
    }
    let waiting = state.steps.iter().flat_map(|step| {
        let open = |at: &At| matches!(at, At::Started(_) | At::Undoing(_));
        let branches = step.branches.iter().enumerate();
        branches
            .filter(move |(_, branch)| open(&branch.at))
            .map(|(i, _)| StepId::new(step.name.clone(), i as u32))
    });
    waiting
        .flat_map(|step| in_flight(state, &step, rules))
        .filter(|d| rules.keep(Rule::DurableTimers) || !matches!(d, Dispatch::Timer(_)))
        .collect()
}

/// The request, or compensation, that a step waits for, and its timer.
fn in_flight(state: &SagaState, step: &StepId, rules: Rules) -> Vec<Dispatch> {
    let Some((index, branch)) = state.locate(step) else {
        return Vec::new();
    };
    let kind = state.steps[index].kind;
    match &state.steps[index].branches[branch].at {
        At::Started(waiting) => {
            let id = command_id(state, step, false, false, rules, waiting.attempt);
            let role = match kind {
                StepKind::Retriable => Role::Forward(step.clone()),
                _ => Role::Step(step.clone()),
            };
            let request = Undo::Ask(waiting.request.clone());
            with_timer(id, request, role, step, waiting)
        }
        At::Undoing(waiting) => {
            let id = command_id(state, step, true, waiting.second, rules, waiting.attempt);
            let role = Role::Undo {
                step: step.clone(),
                of: command_id(state, step, false, false, rules, 1),
            };
            with_timer(id, waiting.request.clone(), role, step, waiting)
        }
        _ => Vec::new(),
    }
}

fn with_timer<R>(
    id: CommandId,
    request: Undo,
    role: Role,
    step: &StepId,
    waiting: &InFlight<R>,
) -> Vec<Dispatch> {
    let timer = waiting.wake.map(|at| {
        Dispatch::Timer(SagaTimer {
            step: step.clone(),
            undo: matches!(role, Role::Undo { .. }),
            attempt: waiting.attempt,
            at,
        })
    });
    let request = Dispatch::Request { id, request, role };
    std::iter::once(request).chain(timer).collect()
}

/// The id of what is sent for a step: a hash of the saga and the step. R2: the same for every
/// attempt.
fn command_id(
    state: &SagaState,
    step: &StepId,
    undo: bool,
    second: bool,
    rules: Rules,
    attempt: u32,
) -> CommandId {
    let source = state.started.as_ref().map_or(0, |s| s.id.as_u128());
    let what: &[u8] = match (undo, second) {
        (false, _) => b"do",
        (true, false) => b"undo",
        (true, true) => b"undo completed",
    };
    let stream = state.stream.as_str().as_bytes();
    let (name, branch) = (step.name.as_bytes(), step.branch.to_be_bytes());
    if rules.keep(Rule::SameKey) {
        CommandId::derived(source, &[stream, name, &branch, what])
    } else {
        CommandId::derived(
            source,
            &[stream, name, &branch, what, &attempt.to_be_bytes()],
        )
    }
}

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

fn completed() -> Rejection {
    Rejection::new(
        "saga-completed",
        "the saga has completed; it is undone by another saga",
    )
}

/// What one hears who has started the saga.
fn end_reply(state: &SagaState, to: Option<&Parent>) -> Option<Dispatch> {
    let outcome = match state.phase {
        Phase::Completed => Outcome::Done(Json::null()),
        Phase::Compensated => Outcome::Refused(Rejection::new(
            "saga-compensated",
            state.abort_reason().unwrap_or("the saga was aborted"),
        )),
        _ => return None,
    };
    to.cloned().map(|to| Dispatch::Reply { to, outcome })
}

/// What one hears who has asked for the abort.
fn abort_reply(state: &SagaState, to: Option<&Parent>) -> Option<Dispatch> {
    let outcome = match state.phase {
        Phase::Completed => Outcome::Refused(completed()),
        Phase::Compensated => Outcome::Done(Json::null()),
        _ => return None,
    };
    to.cloned().map(|to| Dispatch::Reply { to, outcome })
}
