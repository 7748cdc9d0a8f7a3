use std::time::Duration;

use anabranch_model::{EventId, LimitError, NameError, PartitionId, Position, StreamId, Version};
use thiserror::Error;

use crate::expect::Expect;

/// Why an append was not acknowledged. Every variant says whether it may have happened.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    /// Did not happen: a stream is not in the expected state.
    #[error(
        "conflict on stream {stream}: expected {}, but {}; read the stream and decide again",
        expected_text(*.expected), actual_text(*.actual)
    )]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: Expect,
        /// Its last version; `None`: it is empty.
        actual: Option<Version>,
    },
    /// Did not happen: a condition does not hold, and who appends may not read the stream of one of its
    /// conditions. How that stream is, and which of the conditions it was, is not told.
    #[error(
        "conflict on stream {stream}: expected {}, and a condition of the append does not hold; how the stream is, is told to who may read it",
        expected_text(*.expected)
    )]
    Untold {
        /// The first stream of the conditions that may not be read.
        stream: StreamId,
        /// What was expected of it.
        expected: Expect,
    },
    /// Did not happen: an event matches the query of a `NoMatch` condition.
    #[error(
        "conflict: the event at {position} matches the query of the append's condition; read on from your cut and decide again"
    )]
    Matched {
        /// The first event found that matches.
        position: Position,
    },
    /// Did not happen and never will: the append itself is wrong.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// Did not happen; it may later.
    #[error("unavailable, nothing was written: {reason}")]
    Unavailable {
        /// What is the matter and what to do.
        reason: String,
        /// When to try again, if known.
        retry_after: Option<Duration>,
    },
    /// May have happened. Repeating it with the same event ids is safe and tells.
    #[error(
        "unknown outcome, it may have been written: {reason}; repeat it with the same event ids to find out"
    )]
    Unknown {
        /// What is the matter.
        reason: String,
    },
}

anabranch_model::debug_is_words!(AppendError);

impl AppendError {
    /// A stable code for programs and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } | Self::Untold { .. } => "conflict",
            Self::Matched { .. } => "condition-matched",
            Self::Rejected(rejection) => rejection.code(),
            Self::Unavailable { .. } => "unavailable",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Whether one of its conditions does not hold.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::Untold { .. } | Self::Matched { .. }
        )
    }

    /// Whether nothing was written, for sure.
    pub fn did_not_happen(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

fn expected_text(expected: Expect) -> String {
    match expected {
        Expect::Any => "any state".to_owned(),
        Expect::Empty => "an empty stream".to_owned(),
        Expect::Exists => "an existing stream".to_owned(),
        Expect::At(version) => format!("version {version}"),
    }
}

fn actual_text(actual: Option<Version>) -> String {
    actual.map_or("it is empty".to_owned(), |version| {
        format!("it is at version {version}")
    })
}

/// What is wrong with an append that can never be written.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// Too large or malformed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The id belongs to another event: of another stream or type, or with other data.
    /// Metadata may differ; the one that was written first stays.
    #[error(
        "event id {id} is taken by a different event at {position}; an id names one event for ever"
    )]
    IdTaken {
        /// The id.
        id: EventId,
        /// Where the event that has it stands.
        position: Position,
    },
    /// The same, where who appends may not read that event: where it stands is not told.
    #[error("event id {id} is taken by a different event; an id names one event for ever")]
    IdUntold {
        /// The id.
        id: EventId,
    },
    /// Some of the batch's ids were written before, others not.
    #[error(
        "event id {id} was written before, at {position}, but not with the rest of this batch; append what is new with ids of its own"
    )]
    PartlyWritten {
        /// The first id that was.
        id: EventId,
        /// Where.
        position: Position,
    },
    /// A condition looks at events that do not exist yet.
    #[error(
        "a condition's cut {after} lies beyond the head {head}; use a cut that was read from this log"
    )]
    CutBeyondHead {
        /// The cut.
        after: anabranch_model::Cut,
        /// The head.
        head: anabranch_model::Cut,
    },
    /// The events are said to depend on what is not in the log.
    #[error(
        "it is said to depend on {causes}, and the log goes to {head} only; name causes that were read from this log, or tokens of it"
    )]
    FutureCause {
        /// The causes beyond the head.
        causes: anabranch_model::Cut,
        /// The head.
        head: anabranch_model::Cut,
    },
    /// Streams of several partitions: one append writes one of them.
    #[error(
        "{first} stands in partition {} and {second} in partition {}: one append writes one partition; append apart, or lay the log out so that their categories are one group and give both the same key",
        first_in.0, second_in.0
    )]
    Apart {
        /// A stream that the append names.
        first: StreamId,
        /// Where it stands.
        first_in: PartitionId,
        /// Another one.
        second: StreamId,
        /// Where that stands.
        second_in: PartitionId,
    },
    /// The engine cannot do this; see its capabilities.
    #[error("this log cannot {0}")]
    Unsupported(&'static str),
    /// The log is open for reading only.
    #[error("the log is open for reading only")]
    ReadOnly,
    /// A category belongs to a service, and who appends is not that service, or not any more.
    #[error("{why}")]
    NotOwner {
        /// The category.
        category: String,
        /// The service that it belongs to; empty: the log itself.
        owner: String,
        /// In words, and what to do.
        why: String,
    },
    /// What else is wrong, in the log's own words: what a server refuses for reasons of its own.
    #[error("{0}")]
    Other(String),
}

anabranch_model::debug_is_words!(Rejection);

impl Rejection {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Limit(
                LimitError::BatchEvents { .. }
                | LimitError::BatchBytes { .. }
                | LimitError::DataBytes { .. }
                | LimitError::HeadersBytes { .. },
            ) => "too-large",
            Self::IdTaken { .. } | Self::IdUntold { .. } => "id-taken",
            Self::PartlyWritten { .. } => "partly-written",
            Self::CutBeyondHead { .. } => "beyond-head",
            Self::FutureCause { .. } => "future-cause",
            Self::Apart { .. } => "several-partitions",
            Self::Unsupported(_) => "unsupported",
            Self::ReadOnly => "read-only",
            Self::NotOwner { .. } => "not-owner",
            Self::Limit(_) | Self::Name(_) | Self::Other(_) => "bad-event",
        }
    }
}

/// Why events could not be read. Events given before stay valid.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Stored bytes are damaged.
    #[error(
        "{file}: damaged at byte {offset}: {what}; events {first}..={last} cannot be read; all others can. Run `anabranch log verify`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
        /// The first event that cannot be read.
        first: Position,
        /// The last event that cannot be read.
        last: Position,
    },
    /// The disk or the network refused.
    #[error("{what}: {reason}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// Whoever has the log did not answer, for as long as it was asked.
    #[error("asking the server: {0}")]
    Unavailable(String),
    /// The cut to read from names events that do not exist yet.
    #[error("the cut {from} lies beyond the head {head}; use a cut that was read from this log")]
    CutBeyondHead {
        /// The cut.
        from: anabranch_model::Cut,
        /// The head.
        head: anabranch_model::Cut,
    },
    /// The engine cannot do this; see its capabilities.
    #[error("this log cannot {0}")]
    Unsupported(&'static str),
    /// The read asks for what the log does not have.
    #[error("{0}")]
    Invalid(String),
    /// What was read before is gone, or is something else now.
    #[error(
        "partition {} of the log is not what it was: events from {from} on, which were read before, are gone or are others; most likely an older copy of the log was put back. Put the newer one back; if that is lost, have whatever reads it begin anew",
        .partition.0
    )]
    HistoryChanged {
        /// The partition.
        partition: PartitionId,
        /// An offset from which on it is seen to be so; earlier events may be others too.
        from: u64,
    },
    /// The log was closed.
    #[error("the log was closed")]
    Closed,
}

anabranch_model::debug_is_words!(ReadError);

/// Why a log could not be opened. Nothing was changed.
#[derive(Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is open in another process ({holder}); stop it, or open read-only")]
    Locked {
        /// The directory.
        path: String,
        /// What the other process wrote of itself.
        holder: String,
    },
    /// Written by a later version.
    #[error(
        "{file} has format version {found}; this program reads up to {known}: use a newer program"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Written by an earlier version.
    #[error(
        "{file} has format version {found}; this program reads and writes version {known}: carry the log over with `anabranch log upgrade DIR NEW`, which leaves this one as it is"
    )]
    OlderFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version known here.
        known: u32,
    },
    /// Its events were moved to another log, which goes on in its place.
    #[error(
        "{path} was moved to {to}, which takes its appends: use that address; what is here can still be read"
    )]
    Moved {
        /// The directory.
        path: String,
        /// The address of the other log.
        to: String,
    },
    /// There is no log.
    #[error("{path} holds no log; append to it to make one, or check the address")]
    NotFound {
        /// The directory.
        path: String,
    },
    /// Stored bytes are damaged so that writing on would hide it.
    #[error(
        "{file}: {what}. Nothing was changed; run `anabranch log verify`, then `anabranch log repair`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The disk refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody answers where the log is said to be.
    #[error(
        "nothing answers at {address}: {reason}; start what serves the log, or check the address"
    )]
    Unreachable {
        /// Where. Without a password.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The address or an option cannot be used.
    #[error("{0}")]
    Invalid(String),
}

anabranch_model::debug_is_words!(OpenError);
