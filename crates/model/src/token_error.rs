//! Why a token cannot be used.

use thiserror::Error;

use crate::place::PartitionId;

/// Why a token cannot be used. Go on without it, as a client that has done nothing, or wait.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not the text of a token.
    #[error("this is no token: {0}")]
    Malformed(&'static str),
    /// Made by a later version of the platform.
    #[error("the token has version {0}; this program reads version 1: use a newer program")]
    NewerVersion(u8),
    /// Changed on its way, or made by somebody else.
    #[error("the token is not one of ours, or was changed; go on without it")]
    Forged,
    /// Sealed with a key that is not in use any more.
    #[error("the token was sealed with key {0}, which is not in use any more; go on without it")]
    UnknownKey(u8),
    /// Made for another log.
    #[error("the token belongs to another log; go on without it")]
    OtherDomain,
    /// Made when the log had partitions that this node does not know yet.
    #[error(
        "the token knows partition map {found}, this node knows up to {known}; try again when it has caught up"
    )]
    NewerEpoch {
        /// The map that the token knows.
        found: u32,
        /// The newest map known here.
        known: u32,
    },
    /// Made when the log had another layout, and nothing here says how its cuts are read now.
    #[error(
        "the token is of an earlier layout of the log ({found}, now {known}), whose positions mean nothing here; go on without it"
    )]
    OlderEpoch {
        /// The layout that the token knows.
        found: u32,
        /// The layout of the log.
        known: u32,
    },
    /// It has seen what the log does not have.
    #[error(
        "the token has seen {count} events of partition {}, but there are {head}: events were lost, or it belongs to another log",
        .partition.0
    )]
    BeyondHead {
        /// The partition.
        partition: PartitionId,
        /// How many events the token has seen.
        count: u64,
        /// How many there are.
        head: u64,
    },
}

crate::debug_is_words!(TokenError);
