use std::fmt;

use anabranch_domain::{CommandEnvelope, CommandId, Json, ReplyEnvelope, StreamId};

/// Something on its way between two services, or between a service and a third party. What a
/// service sends to itself is a function call and cannot get lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A command to an entity, or to a saga.
    Command(CommandEnvelope),
    /// The answer to this command, on its way back.
    Answer(CommandEnvelope),
    /// An answer to a process or a saga, sent apart: a saga that it has started has ended.
    Reply(ReplyEnvelope),
    /// A call to a third party.
    Call {
        /// The effect's name.
        effect: &'static str,
        /// The key, the same for every attempt.
        key: CommandId,
        /// What is asked for.
        request: Json,
    },
    /// What the third party said to this call, on its way back.
    CallAnswer {
        /// The effect's name.
        effect: &'static str,
        /// The call's key.
        key: CommandId,
    },
}

impl Message {
    /// The type name of the command or effect that it asks for or answers.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(command) | Self::Answer(command) => &command.name,
            Self::Reply(reply) => &reply.name,
            Self::Call { effect, .. } | Self::CallAnswer { effect, .. } => effect,
        }
    }

    /// Whether it is a command or a call of this name.
    pub fn asks(&self, name: &str) -> bool {
        matches!(self, Self::Command(_) | Self::Call { .. }) && self.name() == name
    }

    /// Whether it is an answer to a command or a call of this name.
    pub fn answers(&self, name: &str) -> bool {
        !matches!(self, Self::Command(_) | Self::Call { .. }) && self.name() == name
    }

    /// The process or saga that it is about, as far as the message says so.
    pub fn about(&self) -> Option<&StreamId> {
        match self {
            Self::Command(command) | Self::Answer(command) => command.reply_to.as_ref(),
            Self::Reply(reply) => Some(&reply.to),
            Self::Call { .. } | Self::CallAnswer { .. } => None,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(c) => write!(f, "{} to {} {}", c.name, c.to, c.data),
            Self::Answer(c) => write!(f, "the answer to {} of {}", c.name, c.to),
            Self::Reply(r) => write!(f, "{} of {} to {}: {:?}", r.name, r.from, r.to, r.outcome),
            Self::Call {
                effect, request, ..
            } => write!(f, "the call {effect} {request}"),
            Self::CallAnswer { effect, .. } => write!(f, "the answer to the call {effect}"),
        }
    }
}
