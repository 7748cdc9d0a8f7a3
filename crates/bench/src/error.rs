use std::path::PathBuf;

use anabranch_log::{AppendError, OpenError, ReadError};
use thiserror::Error;

/// Why a measurement could not be made.
#[derive(Error)]
pub enum BenchError {
    /// The disk is too full to measure on.
    #[error(
        "{dir} has {free_mib} MiB free, and this measurement needs about {needed_mib} MiB; \
         choose another directory, or measure for fewer seconds"
    )]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// What it has.
        free_mib: u64,
        /// What it would need.
        needed_mib: u64,
    },
    /// The options do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// The disk refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log did not take an append.
    #[error("an append of the measurement failed: {0}")]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error("a read of the measurement failed: {0}")]
    Read(#[from] ReadError),
    /// The bare write loop failed.
    #[error("the bare write loop failed: {0}")]
    Bare(String),
    /// The log did something that a log must not do, so its figures mean nothing.
    #[error("the measurement is void: {0}")]
    Void(String),
    /// A process that was started for the measurement failed.
    #[error("a child process of the measurement failed: {0}")]
    Child(String),
    /// Another system could not be measured.
    #[error("{peer}: {reason}")]
    Peer {
        /// Which.
        peer: &'static str,
        /// What is the matter and what to do.
        reason: String,
    },
}

anabranch_model::debug_is_words!(BenchError);

impl BenchError {
    /// Wraps what the system said with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
