use anabranch_model::{CommandId, Cut};
use serde::{Deserialize, Serialize};

use super::{Source, Timer};
use crate::Event;
use crate::command::{CommandEnvelope, ReplyEnvelope};
use crate::effect::CallEnvelope;
use crate::json::Json;
use crate::origin::Origin;
use crate::time::Timestamp;

/// What can happen to an instance of a process: the events of its journal. Inbox and outbox in
/// one: what is received stands together with what is sent because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(crate = "anabranch_domain")]
pub enum ProcessEvent {
    /// An input was taken in, and this is what follows from it.
    Received {
        /// The input.
        input: Received,
        /// What to do, in order, each with its id.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<Planned>,
        /// What was sent earlier and has been answered since.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settled: Vec<CommandId>,
        /// When.
        at: Timestamp,
    },
    /// Much of what was sent has been answered, while no input came with which that could have
    /// been written down.
    Settled {
        /// What has been answered.
        settled: Vec<CommandId>,
    },
    /// It has ended, and everything that it has sent is answered: nothing comes after this.
    Ended {
        /// What was sent earlier and has been answered since.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settled: Vec<CommandId>,
    },
    /// An event came before the one that starts the instance, and waits for it.
    Held {
        /// The event.
        event: ConsumedEvent,
    },
}

/// An input, as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Received {
    /// An event.
    Event(ConsumedEvent),
    /// A timer was due.
    Timer(Timer),
    /// An answer.
    Reply(ReplyEnvelope),
}

/// An event that was consumed, with all that is needed to take it in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumedEvent {
    /// Where it comes from.
    pub source: Source,
    /// The type name.
    #[serde(rename = "type")]
    pub name: String,
    /// The schema version.
    pub schema_version: u32,
    /// The data.
    pub data: Json,
    /// The event and everything it depends on. What the process sends because of it becomes
    /// visible after all of this.
    pub closure: Cut,
    /// The story that it belongs to.
    #[serde(default, skip_serializing_if = "Origin::is_unknown")]
    pub origin: Origin,
}

/// One thing to do, with the id under which it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Planned {
    /// Send a command to an entity, or to a saga.
    Command(CommandEnvelope),
    /// Call the world outside.
    Call(CallEnvelope),
    /// Set, or move, a timer.
    Timer(Timer),
    /// Take back a timer.
    Cancel {
        /// The timer's name.
        timer: String,
    },
    /// End the instance.
    Complete,
}

impl Planned {
    /// The id under which the answer comes back.
    pub(super) fn id(&self) -> Option<CommandId> {
        match self {
            Self::Command(command) => Some(command.id),
            Self::Call(call) => Some(call.key),
            _ => None,
        }
    }
}
