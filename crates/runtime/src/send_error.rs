use std::time::Duration;

use anabranch_domain::{CommandError, CommandId, Rejection};
use anabranch_log::Expect;
use anabranch_model::{StreamId, Version};
use thiserror::Error;

/// Why a command was not acknowledged. Every variant says whether it may have happened;
/// [`SendError::did_not_happen`] tells them apart for programs.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// Did not happen: the entity says no.
    #[error("{0}")]
    Rejected(Rejection),
    /// Did not happen: the entity is at another version than the sender expected.
    #[error("{stream} is at {}, not as the command expects ({expected:?}); read it and decide again", version_text(*.actual))]
    VersionMismatch {
        /// The entity's stream.
        stream: StreamId,
        /// What was expected.
        expected: Expect,
        /// The version of its last event; `None`: it has none.
        actual: Option<Version>,
    },
    /// Did not happen: too many commands wait already.
    #[error("too busy: {waiting} commands wait already; try again in {retry_after:?}")]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// Did not happen: its time was up before it was decided.
    #[error("the command's time was up before it was decided; nothing was changed")]
    Expired,
    /// Did not happen: the entity does not take commands before an operator has looked at it.
    #[error("{stream} is parked: {reason}. Its events are safe; mend the cause and un-park it")]
    Parked {
        /// The entity's stream.
        stream: StreamId,
        /// Why.
        reason: String,
    },
    /// Did not happen: the entity's own code panicked at this command.
    #[error(
        "the code of {stream} panicked at this command: {reason}; nothing was changed and the entity restarts from its events"
    )]
    Panicked {
        /// The entity's stream.
        stream: StreamId,
        /// What the panic said.
        reason: String,
    },
    /// Did not happen and never will: the command, or what it makes, cannot be written.
    #[error("{0}")]
    Invalid(String),
    /// Did not happen: there is no such command.
    #[error(transparent)]
    Malformed(#[from] CommandError),
    /// Did not happen: the id belongs to another command.
    #[error(
        "command id {id} was used for another command, to {stream}; an id names one command for ever"
    )]
    IdTaken {
        /// The id.
        id: CommandId,
        /// The stream that the other command went to.
        stream: String,
    },
    /// Did not happen: nobody here has entities of this category.
    #[error("nobody here takes commands of category {category:?}; known: {known}")]
    NotHosted {
        /// The category.
        category: String,
        /// The categories that are, separated by commas.
        known: String,
    },
    /// Did not happen: others keep writing to the entity.
    #[error(
        "others keep writing to {stream}: gave up after {attempts} attempts; nothing was changed. Is a second runtime hosting it?"
    )]
    Contended {
        /// The entity's stream.
        stream: StreamId,
        /// How often it was tried.
        attempts: u32,
    },
    /// Did not happen; it may later.
    #[error("unavailable, nothing was changed: {reason}")]
    Unavailable {
        /// What is the matter.
        reason: String,
        /// When to try again, if known.
        retry_after: Option<Duration>,
    },
    /// May have happened: sending it again with the same id is safe and tells.
    #[error(
        "unknown outcome, it may have happened: {reason}; send it again with the same id to find out"
    )]
    Unknown {
        /// What is the matter.
        reason: String,
    },
}

anabranch_model::debug_is_words!(SendError);

impl SendError {
    /// Whether nothing was changed, for sure.
    pub const fn did_not_happen(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// Whether sending the same command again, with the same id, makes sense.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Overloaded { .. }
            | Self::Expired
            | Self::Contended { .. }
            | Self::Unavailable { .. }
            | Self::Unknown { .. } => true,
            Self::Rejected(rejection) => rejection.try_again,
            _ => false,
        }
    }

    /// A stable code for programs and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::VersionMismatch { .. } => "version-mismatch",
            Self::Overloaded { .. } => "overloaded",
            Self::Expired => "expired",
            Self::Parked { .. } => "parked",
            Self::Panicked { .. } => "panicked",
            Self::Invalid(_) => "invalid",
            Self::Malformed(_) => "malformed",
            Self::IdTaken { .. } => "id-taken",
            Self::NotHosted { .. } => "not-hosted",
            Self::Contended { .. } => "contended",
            Self::Unavailable { .. } => "unavailable",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The runtime ended before it answered.
    pub(crate) fn unanswered() -> Self {
        Self::Unknown {
            reason: "the runtime ended before it answered".to_owned(),
        }
    }

    pub(crate) fn stopping() -> Self {
        Self::Unavailable {
            reason: "the runtime is shutting down".to_owned(),
            retry_after: None,
        }
    }
}

fn version_text(version: Option<Version>) -> String {
    version.map_or("no version, having no events".to_owned(), |version| {
        format!("version {version}")
    })
}
