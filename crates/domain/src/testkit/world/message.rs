use std::fmt;

use anabranch_model::{Cut, StreamId};

use crate::command::{CommandEnvelope, ReplyEnvelope, Role};
use crate::effect::CallEnvelope;

/// A message on its way between services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A command to an entity, or to a saga.
    Command(CommandEnvelope),
    /// An answer to a process or a saga.
    Reply(ReplyEnvelope),
    /// A call to a third party.
    Call {
        /// The call.
        envelope: CallEnvelope,
        /// The part that it plays in a saga.
        role: Role,
        /// What the caller had seen.
        causes: Cut,
    },
    /// A saga has ended; what is remembered for it may be forgotten.
    Forget {
        /// The entity that remembers.
        entity: StreamId,
        /// The saga.
        saga: StreamId,
    },
}

impl Message {
    /// The type name of the command or effect that it asks for or answers.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(command) => &command.name,
            Self::Reply(reply) => &reply.name,
            Self::Call { envelope, .. } => &envelope.call.effect,
            Self::Forget { .. } => "forget",
        }
    }

    /// Whether it is a command or a call of this name.
    pub fn asks(&self, name: &str) -> bool {
        matches!(self, Self::Command(_) | Self::Call { .. }) && self.name() == name
    }

    /// Whether it is an answer to a command or a call of this name.
    pub fn answers(&self, name: &str) -> bool {
        matches!(self, Self::Reply(_)) && self.name() == name
    }

    /// The process or saga that it is about.
    pub fn about(&self) -> Option<&StreamId> {
        match self {
            Self::Command(command) => command.reply_to.as_ref(),
            Self::Reply(reply) => Some(&reply.to),
            Self::Call { envelope, .. } => Some(&envelope.reply_to),
            Self::Forget { saga, .. } => Some(saga),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(c) => write!(f, "{} → {} {}", c.name, c.to, c.data),
            Self::Reply(r) => write!(f, "{} of {} → {}: {:?}", r.name, r.from, r.to, r.outcome),
            Self::Call { envelope, .. } => {
                write!(f, "call {} {}", envelope.call.effect, envelope.call.request)
            }
            Self::Forget { entity, saga } => write!(f, "{saga} ended → {entity}"),
        }
    }
}
