//! The saga state machine: pure functions from a state and an input to journal events, and
//! from a journal event to what is sent.
//!
//! The rules R1 to R14 are those of the protocol; each stands where it is kept. [`forward`] and
//! [`back`] hold the two ways a saga goes, [`repair`] what people and restarts do, [`outputs`]
//! what is sent.

mod back;
mod forward;
mod outputs;
mod repair;
mod values;

use super::journal::SagaEvent;
use super::plan::Plan;
use super::state::{Phase, SagaState};
use crate::rejection::Rejection;
use crate::rules::{Rule, Rules};
use crate::time::Timestamp;

pub use outputs::{CIRCUIT_OPEN, ID_TAKEN, outputs};
pub(super) use outputs::{outstanding, put_off};

pub use values::{Decision, Dispatch, OperatorCommand, SagaInput, SagaTimer, Settlement};

use outputs::{STARTED, end_reply, id_taken, outputs_under};

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
        self.check_taken(&input)?;
        match input {
            SagaInput::Start {
                id,
                input,
                parent,
                origin,
            } if self.state.begins_anew(id, parent.as_ref()) => {
                self.begin(id, input, parent, origin);
                Ok(())
            }
            SagaInput::Start { parent, .. } if ended => {
                self.dispatch.extend(end_reply(self.state, parent.as_ref()));
                Ok(())
            }
            SagaInput::Abort { by, command, .. }
                if ended && command.is_none_or(|c| !self.state.asked.contains_key(&c.id)) =>
            {
                self.answer_abort(by.as_ref())
            }
            SagaInput::Wake(_) | SagaInput::Recovered if ended => Ok(()),
            SagaInput::Start {
                id,
                input,
                parent,
                origin,
            } => {
                self.start(id, input, parent, origin);
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
            SagaInput::Abort {
                why,
                by,
                command: Some(command),
            } => self.once(command, |run| run.abort_asked(why, by)),
            SagaInput::Abort { why, by, .. } => self.abort_asked(why, by),
            SagaInput::Resume { command, step, by } => {
                self.once(command, |run| run.resume(step, by))
            }
            SagaInput::Settle {
                command,
                step,
                settlement,
                by,
            } => self.once(command, |run| run.settle(step, settlement, by)),
            SagaInput::Recovered => {
                self.recovered();
                Ok(())
            }
        }
    }

    /// An id names one command for ever, and a key one input: what comes with another is refused.
    /// An event asks nobody, and is passed over.
    fn check_taken(&self, input: &SagaInput) -> Result<(), Rejection> {
        let Some(started) = &self.state.started else {
            return Ok(());
        };
        match input {
            SagaInput::Start {
                id, parent, origin, ..
            } if origin.event.is_some() || self.state.begins_anew(*id, parent.as_ref()) => Ok(()),
            SagaInput::Start { id, .. } if self.state.asked.contains_key(id) => Err(id_taken(*id)),
            SagaInput::Start { input, .. } if started.input.has_value_of(input) => Ok(()),
            SagaInput::Start { id, .. } if *id == started.id => Err(id_taken(*id)),
            SagaInput::Start { .. } => Err(Rejection::new(
                STARTED,
                format!(
                    "{} has begun with another input; a key stands for one instance",
                    self.state.stream
                ),
            )),
            SagaInput::Resume { command, .. }
            | SagaInput::Settle { command, .. }
            | SagaInput::Abort {
                command: Some(command),
                ..
            } if command.id == started.id => Err(id_taken(command.id)),
            _ => Ok(()),
        }
    }

    fn emit(&mut self, mut event: SagaEvent) {
        self.state.evolve(&event);
        let sent = outputs_under(self.state, &event, self.rules);
        if let (
            SagaEvent::StepStarted { command, .. }
            | SagaEvent::StepRetried { command, .. }
            | SagaEvent::CompStarted { command, .. }
            | SagaEvent::CompRetried { command, .. },
            Some(Dispatch::Request { id, .. }),
        ) = (&mut event, sent.first())
        {
            *command = Some(*id);
        }
        self.dispatch.extend(sent);
        self.events.push(event);
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
}
