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

use serde::{Deserialize, Serialize};

use super::journal::{Operator, Parent, SagaEvent, Undo};
use super::plan::Plan;
use super::rules::{Rule, Rules};
use super::state::{Phase, SagaState};
use super::step_id::StepId;
use crate::CommandId;
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::rejection::Rejection;
use crate::time::Timestamp;

pub use outputs::outputs;
pub(super) use outputs::outstanding;

use outputs::{end_reply, outputs_under};

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
    /// A person has looked at a step that was parked: go on. Asking again changes nothing.
    Resume {
        /// Which command it is.
        command: OperatorCommand,
        /// The step.
        step: StepId,
        /// Who.
        by: Operator,
    },
    /// A person has found out what became of a step, or has undone it by hand. Asking again
    /// changes nothing.
    Settle {
        /// Which command it is.
        command: OperatorCommand,
        /// The step.
        step: StepId,
        /// What is so.
        settlement: Settlement,
        /// Who.
        by: Operator,
    },
    /// The node that ran it has gone, and another one takes over.
    Recovered,
}

/// Names a command of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorCommand {
    /// Its id.
    pub id: CommandId,
    /// A hash of what it says.
    pub content: u64,
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

    fn emit(&mut self, event: SagaEvent) {
        self.state.evolve(&event);
        self.dispatch
            .extend(outputs_under(self.state, &event, self.rules));
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
