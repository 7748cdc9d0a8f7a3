//! What goes into the machine, and what comes out.

use serde::{Deserialize, Serialize};

use crate::CommandId;
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::origin::Origin;
use crate::rejection::Rejection;
use crate::saga::journal::{Operator, Parent, SagaEvent, Undo};
use crate::step_id::StepId;
use crate::time::Timestamp;

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
        /// What began it.
        origin: Origin,
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
        /// Which command of a person it is, if it is one.
        command: Option<OperatorCommand>,
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
/// [`SagaState::length`](super::super::SagaState::length); what to send after that; and the answer to who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The events to append. When there are none, nothing has changed.
    pub events: Vec<SagaEvent>,
    /// What to send once they are durable.
    pub dispatch: Vec<Dispatch>,
    /// Whether what was asked is done; replies and timers are always taken.
    pub answer: Result<(), Rejection>,
}
