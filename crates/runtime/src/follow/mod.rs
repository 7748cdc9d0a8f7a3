//! The one way to follow the log: read to the head, go on when it grows, check for gaps, try
//! again, stop before a poison event or set its stream aside, and keep the place.
//!
//! Views, consumers, processes and sagas are what takes events in ([`Intake`]); the loop is the
//! same for all.

mod read;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anabranch_domain::Timestamp;
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, Event, EventBatch, Position, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use read::ToHead;
pub(crate) use run::{FollowParts, Following};

/// Changes the bookkeeping of an [`Intake`].
pub type Edit = Box<dyn FnOnce(&mut Progress) + Send>;

/// What takes events in, and keeps how far it is with what came of them.
///
/// No method blocks the thread that polls its future: what waits for a disk or a database runs
/// on a thread that may.
pub trait Intake: Send + Sync + 'static {
    /// How far it is. Answers at once, also while events are taken in.
    fn progress(&self) -> BoxFuture<'_, Progress>;

    /// Takes in events, with how far they reach. Events that it has taken in before change
    /// nothing. Stops before an event that cannot be taken in, and names it; what it had taken
    /// in before is kept.
    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>>;

    /// Changes the bookkeeping.
    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>>;

    /// There is nothing for it between where it stands and `cut`. That need not survive a
    /// restart.
    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ready when it is found less far than it was: a database was put back. Polled between
    /// batches too; then the events are brought again from where it stands.
    fn fell_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Makes sure that a restart goes on from about here.
    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Where a reader of the log begins that is started for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At the start of the log.
    Start,
    /// At what is written after it is started.
    Now,
    /// Behind what the cut includes.
    At(Cut),
}

impl Begin {
    /// Where that is, on a log that ends at `head`.
    pub fn cut(&self, head: &Cut) -> Cut {
        match self {
            Self::Start => Cut::start(),
            Self::Now => head.clone(),
            Self::At(cut) => cut.clone(),
        }
    }
}

/// The store of a view or a consumer did not do what it was asked. What was committed before is
/// safe, and the rest is in the log.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the store of {of}: {reason}")]
pub struct StoreError {
    /// Whose store: `view orders`.
    pub of: String,
    /// What is the matter.
    pub reason: String,
}

anabranch_model::debug_is_words!(StoreError);

impl StoreError {
    /// An error of the store of `view`. `reason` says what happened and what to do.
    pub fn new(view: impl fmt::Display, reason: impl ToString) -> Self {
        Self::of(format!("view {view}"), reason)
    }

    /// The same for what is no view: `consumer mailer`.
    pub fn of(of: impl Into<String>, reason: impl ToString) -> Self {
        Self {
            of: of.into(),
            reason: reason.to_string(),
        }
    }
}

/// How far something is that takes events in: kept with what came of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The events that it has taken in.
    pub cut: Cut,
    /// How many events it has taken in.
    pub events: u64,
    /// When the last of them was recorded: microseconds since 1970, UTC.
    pub last_at: u64,
    /// Events that an operator has told it to pass over.
    pub skipped: BTreeSet<Position>,
    /// Streams that it has set aside.
    pub parked: BTreeMap<String, ParkedStream>,
}

/// A stream that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedStream {
    /// The event that it could not take in.
    pub position: Position,
    /// The version of that event.
    pub version: Version,
    /// The version of the last event that was set aside.
    pub last: Version,
    /// Why.
    pub reason: String,
}

/// An event that cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoisonEvent {
    /// Where it stands.
    pub position: Position,
    /// Its stream.
    pub stream: String,
    /// Its version in the stream.
    pub version: Version,
    /// Its type.
    pub event_type: String,
    /// Why it cannot be taken in.
    pub reason: String,
}

impl PoisonEvent {
    /// This event; `reason` says why it cannot be taken in.
    pub fn of(event: &Event, reason: String) -> Self {
        Self {
            position: event.position,
            stream: event.stream().to_string(),
            version: event.version,
            event_type: event.event_type().to_string(),
            reason,
        }
    }
}

impl std::fmt::Display for PoisonEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at {} (event {} of {}): {}",
            self.event_type, self.position, self.version, self.stream, self.reason
        )
    }
}

/// What a follower of the log is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
#[non_exhaustive]
pub enum FollowState {
    /// It takes in what is behind it.
    CatchingUp,
    /// It has taken in everything there was.
    CaughtUp,
    /// It has stopped before an event; `retry` or `skip` lets it go on.
    Stopped {
        /// The event.
        event: PoisonEvent,
    },
    /// The store or the log fails; it tries again by itself.
    Failing {
        /// What is the matter.
        reason: String,
    },
}

/// How far a follower is, and what it is doing: for those who watch.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub cut: Cut,
    pub state: FollowState,
    /// When the last event that was taken in was recorded.
    pub last_at: Option<Timestamp>,
    /// Events of the log per second of catching up.
    pub rate: Option<f64>,
}

impl Shown {
    /// As it is before the first event.
    pub fn at(cut: Cut) -> Self {
        Self {
            cut,
            state: FollowState::CatchingUp,
            last_at: None,
            rate: None,
        }
    }

    /// How many events of the log it has not looked at, and how long ago the last that it took
    /// in was recorded.
    pub fn lag(&self, head: &Cut, now: Timestamp) -> (u64, Duration) {
        let events = head
            .iter()
            .map(|(partition, count)| count.saturating_sub(self.cut.get(partition)))
            .sum();
        let lag = match self.last_at {
            Some(at) if events > 0 => now.since(at),
            _ => Duration::ZERO,
        };
        (events, lag)
    }
}
