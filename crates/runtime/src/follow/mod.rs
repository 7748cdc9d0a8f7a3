//! The one way to follow the log: read to the head, go on when it grows, check for gaps, try
//! again, stop before a poison event or set its stream aside, and keep the place.
//!
//! Views, consumers, processes and sagas are what takes events in ([`Intake`]); the loop is the
//! same for all.

mod history;
mod read;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anabranch_domain::Timestamp;
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, Event, EventBatch, EventRef, Position, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use history::LastEvent;
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
    /// The last event of each partition, by its number: by these it is seen whether the log is still
    /// the one that was read. Empty in what was kept before there were any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last: BTreeMap<u32, LastEvent>,
}

impl Progress {
    /// The event, which is not in the cut, was taken in.
    pub fn took(&mut self, event: &EventRef<'_>) {
        let Position { partition, offset } = event.position;
        self.events += 1;
        self.last_at = event.recorded_at;
        self.cut.set(partition, offset + 1);
        self.last.insert(partition.0, LastEvent::of(event));
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::{Append, Layout, Log, PartitionedLog, ReadError, ReadMode};
    use anabranch_model::{EventId, Filter, NewEvent, PartitionId, StreamId};

    use super::*;

    async fn compare(
        log: &Arc<dyn Log>,
        progress: &Progress,
        filter: &Filter,
    ) -> Result<(), ReadError> {
        history::compare(log, (&progress.cut, &progress.last), filter).await
    }

    /// A log of 4 partitions with an event in each of so many streams, whose ids go from `first_id` on.
    async fn log(streams: u64, first_id: u64) -> Arc<dyn Log> {
        let layout = Layout::new(Vec::new(), 4).expect("that is a layout");
        let log = Arc::new(PartitionedLog::in_memory(&Env::os(), layout));
        for n in 0..streams {
            let stream = StreamId::of("order", &n.to_string()).expect("that is a stream");
            let id = EventId::from_u128((first_id + n).into());
            let event_type = "Placed".parse().expect("that is a type");
            let event = NewEvent::new(id, stream, event_type, "{}");
            log.append(Append::event(event)).await.expect("it is taken");
        }
        log
    }

    /// The progress of who has taken in all of a log.
    async fn all_of(log: &Arc<dyn Log>) -> Progress {
        let mut progress = Progress::default();
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        while let Some(event) = events.next().await {
            progress.took(&event.expect("it is read").as_ref());
        }
        progress
    }

    fn changed_from(compared: Result<(), ReadError>) -> Option<u64> {
        match compared {
            Err(ReadError::HistoryChanged { from, .. }) => Some(from),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_log_is_compared_with_what_was_read_of_it() {
        let filter = Filter::all();
        let before = log(20, 1).await;
        let progress = all_of(&before).await;
        let kept = serde_json::to_string(&progress).expect("it has a JSON form");
        let progress: Progress = serde_json::from_str(&kept).expect("and is read again");
        assert_eq!(progress.last.len(), 4);
        assert!(compare(&before, &progress, &filter).await.is_ok());
        // An older copy: some partition is shorter.
        let shorter = log(10, 1).await;
        assert!(changed_from(compare(&shorter, &progress, &filter).await).is_some());
        // As long, or longer, with other events.
        let other = log(30, 100).await;
        let from = changed_from(compare(&other, &progress, &filter).await);
        assert_eq!(from, progress.last.values().next().map(|last| last.offset));
        // What is hidden by the filter is looked at all the same.
        let categories = Filter::category("basket");
        assert!(changed_from(compare(&other, &progress, &categories).await).is_some());
        assert!(compare(&before, &progress, &categories).await.is_ok());
    }

    #[tokio::test]
    async fn a_place_that_was_kept_before_has_its_length_compared() {
        let log = log(8, 1).await;
        let kept = serde_json::to_value(Progress::default()).expect("it has a JSON form");
        assert_eq!(kept.get("last"), None);
        let mut progress: Progress = serde_json::from_value(kept).expect("and is read again");
        progress.cut.set(PartitionId(1), 100);
        let end = log.head().await.expect("it is there").get(PartitionId(1));
        let changed = compare(&log, &progress, &Filter::all()).await;
        assert_eq!(changed_from(changed), Some(end));
    }
}
