//! What people do about a saga, and what a node does that takes it over.

use super::outputs::id_taken;
use super::{OperatorCommand, Run, Settlement};
use crate::rejection::Rejection;
use crate::rules::Rule;
use crate::saga::definition::StepKind;
use crate::saga::journal::{Operator, SagaEvent};
use crate::saga::state::{At, Phase};
use crate::step_id::StepId;

impl Run<'_> {
    /// Does what a person asks for, the first time; afterwards it gives the first answer.
    pub(super) fn once(
        &mut self,
        command: OperatorCommand,
        act: impl FnOnce(&mut Self) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let OperatorCommand { id, content } = command;
        if let Some(first) = self.state.asked.get(&id) {
            return match &first.refused {
                _ if first.content != content => Err(id_taken(id)),
                Some(why) => Err(why.clone()),
                None => Ok(()),
            };
        }
        if self.state.phase.is_terminal() && self.rules.keep(Rule::TerminalIsFinal) {
            return Err(Rejection::new(
                "saga-ended",
                "the saga has ended, and what has ended stays as it is",
            ));
        }
        let at = self.events.len();
        let answer = act(self);
        if self.state.phase == Phase::New {
            // There is no journal to write it down in.
            return answer;
        }
        let asked = SagaEvent::OperatorAsked {
            id,
            content,
            refused: answer.clone().err(),
        };
        self.state.evolve(&asked);
        self.events.insert(at, asked);
        answer
    }

    pub(super) fn resume(&mut self, step: StepId, by: Operator) -> Result<(), Rejection> {
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
                    command: None,
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
                    command: None,
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
                            command: None,
                            fallback: None,
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

    pub(super) fn settle(
        &mut self,
        step: StepId,
        settlement: Settlement,
        by: Operator,
    ) -> Result<(), Rejection> {
        let (index, branch) = self.find(&step)?;
        let at = &self.state.steps[index].branches[branch].at;
        let forward = self.state.phase == Phase::Running;
        let open = matches!(at, At::Started(_) | At::Unknown);
        let by = Some(by);
        match settlement {
            Settlement::Done(result) if forward && open => {
                self.emit(SagaEvent::StepOk { step, result, by });
            }
            Settlement::Refused(why)
                if forward && open && self.state.steps[index].kind != StepKind::Retriable =>
            {
                self.refused(index, &step, why, by);
                return Ok(());
            }
            Settlement::Undone
                if matches!(at, At::Undoing(_))
                    || self.state.phase == Phase::Aborting
                        && (open || matches!(at, At::Done { .. })) =>
            {
                self.undone(index, &step, by);
                return Ok(());
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

    pub(super) fn find(&self, step: &StepId) -> Result<(usize, usize), Rejection> {
        self.state
            .locate(step)
            .ok_or_else(|| Rejection::new("no-such-step", format!("the saga has no step {step}")))
    }

    /// R2: what may be sent only once, and may have been, is not sent again. Everything else is
    /// sent again with the ids it had; see [`outstanding`].
    pub(super) fn recovered(&mut self) {
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
