use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::definition::{Request, StepKind};
use super::shape::DefinitionHash;
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::origin::Origin;
use crate::rejection::Rejection;
use crate::step_id::StepId;
use crate::time::Timestamp;
use crate::{CommandId, Event, StreamId};

/// What can happen to an instance of a saga: the events of its journal.
///
/// Everything that the saga does follows from these events alone: what is sent is recorded in
/// the event that makes it be sent, and so is the moment at which it wakes again. So a timer
/// survives every restart, and sending again after one sends the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(crate = "anabranch_domain")]
pub enum SagaEvent {
    /// It began.
    SagaStarted {
        /// Id of the start. The ids of everything it sends follow from it.
        id: CommandId,
        /// The definition that it runs on, to its end.
        definition: DefinitionHash,
        /// The steps: name, kind, number of branches.
        #[serde(deserialize_with = "read_steps")]
        steps: Vec<StepDeclared>,
        /// What it starts from.
        input: Json,
        /// Who waits for its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// The event that began it, and the story that it belongs to.
        #[serde(default, skip_serializing_if = "Origin::is_unknown")]
        origin: Origin,
        /// When.
        at: Timestamp,
    },
    /// A step's request is about to be sent. Recorded before it leaves.
    StepStarted {
        /// The step.
        step: StepId,
        /// What is asked.
        request: Request,
        /// When to look after it, if it has not answered by then.
        wake: Option<Timestamp>,
        /// When its time is up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// The id of what is sent: the events that it leads to name it as their cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<CommandId>,
        /// Set when it is the step's fallback: why what the step asks for came to nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// The same request is about to be sent again, with the same id.
    StepRetried {
        /// The step.
        step: StepId,
        /// Which attempt it is, from 2.
        attempt: u32,
        /// When to look after it again.
        wake: Option<Timestamp>,
        /// The id of what is sent: the events that it leads to name it as their cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<CommandId>,
    },
    /// An attempt came to nothing, or nobody knows to what; it is made again. Recorded when that
    /// is said in other words than before, and once for an attempt at most.
    AttemptFailed {
        /// The step.
        step: StepId,
        /// Whether it was the compensation.
        undo: bool,
        /// The words of who was asked, or of who could not reach it.
        why: String,
    },
    /// A step took effect.
    StepOk {
        /// The step.
        step: StepId,
        /// What came back.
        #[serde(default, skip_serializing_if = "Json::is_null")]
        result: Json,
        /// Set when a person said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Operator>,
    },
    /// A step was refused, and had no effect.
    StepRefused {
        /// The step.
        step: StepId,
        /// Why.
        why: Rejection,
        /// Set when a person said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Operator>,
    },
    /// A step's time is up. It may have taken effect.
    StepTimedOut {
        /// The step.
        step: StepId,
    },
    /// Nobody will find out whether a step took effect.
    StepUnknown {
        /// The step.
        step: StepId,
        /// Why not.
        why: String,
    },
    /// From here on the saga goes back.
    AbortRequested {
        /// Why.
        why: String,
        /// Who waits for the outcome.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Parent>,
    },
    /// A step's compensation is about to be sent. Recorded before it leaves.
    CompStarted {
        /// The step.
        step: StepId,
        /// What is asked.
        request: Undo,
        /// When to look after it, if it has not answered by then.
        wake: Option<Timestamp>,
        /// The id of what is sent: the events that it leads to name it as their cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<CommandId>,
    },
    /// The same compensation is about to be sent again, with the same id.
    CompRetried {
        /// The step.
        step: StepId,
        /// Which attempt it is, from 2.
        attempt: u32,
        /// When to look after it again.
        wake: Option<Timestamp>,
        /// The id of what is sent: the events that it leads to name it as their cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<CommandId>,
    },
    /// A step is undone, or never took effect.
    CompOk {
        /// The step.
        step: StepId,
        /// Set when a person said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Operator>,
    },
    /// An answer that came too late to count.
    LateReply {
        /// The step.
        step: StepId,
        /// Whether it answers the compensation.
        undo: bool,
        /// The answer.
        outcome: Outcome,
    },
    /// A person has to look. The rest of the saga goes on.
    Parked {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
        /// Whether it is tried further all the same.
        going_on: bool,
    },
    /// A person looked.
    Resumed {
        /// The step.
        step: StepId,
        /// Who.
        by: Operator,
    },
    /// A person has asked for something. Recorded before what follows from it, so that the same
    /// command, should it come again, gets the same answer.
    OperatorAsked {
        /// Id of the command.
        id: CommandId,
        /// A hash of what it says.
        content: u64,
        /// Why it was refused, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Rejection>,
    },
    /// Every step took effect once.
    SagaCompleted,
    /// Everything that may have taken effect is undone.
    SagaCompensated,
}

/// Of a journal's events those that others than the saga's service may read too: that it goes back and why, and
/// how it has ended.
pub const SAGA_ENDS: [&str; 3] = ["AbortRequested", "SagaCompleted", "SagaCompensated"];

/// The most branches of all steps together: each takes memory from the start.
pub const BRANCHES_MAX: usize = 1 << 20;

/// Refuses more branches than any saga can have begun with, before memory is taken for them.
fn read_steps<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<StepDeclared>, D::Error> {
    let steps = Vec::<StepDeclared>::deserialize(reader)?;
    let branches: u64 = steps.iter().map(|step| u64::from(step.branches)).sum();
    if branches > BRANCHES_MAX as u64 {
        let text = format!("its steps have {branches} branches; at most {BRANCHES_MAX} can be");
        return Err(D::Error::custom(text));
    }
    Ok(steps)
}

/// One step, as the journal names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDeclared {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: StepKind,
    /// How many branches it has; 1 for a step without branches.
    pub branches: u32,
}

/// How a step is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undo {
    /// By its compensation.
    Ask(Request),
    /// The step is a saga that may still run: it is aborted.
    AbortSaga(StreamId),
}

impl Undo {
    /// What is asked of whom, for an operator.
    pub fn describe(&self) -> String {
        match self {
            Self::Ask(request) => request.describe(),
            Self::AbortSaga(saga) => format!("abort saga {saga}"),
        }
    }
}

/// The saga, or process, that has asked a saga for something and waits for the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its stream.
    pub stream: StreamId,
    /// Id of the command that asked.
    pub command: CommandId,
    /// The part that the command plays in the parent.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
}

/// A person who decided something that the saga could not, and why: the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
}
