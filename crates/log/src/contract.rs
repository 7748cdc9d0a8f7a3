use std::fmt;
use std::ops::Range;

use anabranch_model::{
    Cut, EventId, Filter, LimitError, Limits, NewEvent, Position, Query, StreamId, Version,
};

use crate::error::{AppendError, ReadError};
use crate::expect::Expect;
use crate::layout::Layout;
use crate::stream::{BoxFuture, EventStream, all_of};

/// A durable log of events.
///
/// All methods may be called from any thread and any async runtime. Dropping a future of
/// [`Log::append`] before it answers leaves the append either done or not done, never in
/// part; repeating it with the same ids tells which.
///
/// Dropping the log closes it. Streams do not keep it open: a follower then ends with
/// [`ReadError::Closed`].
pub trait Log: Send + Sync + 'static {
    /// What this engine can do. Constant for the life of the value.
    fn capabilities(&self) -> Capabilities;

    /// Appends one atomic batch; answers when it is durable.
    ///
    /// Its shape and size are checked first, then whether its ids were written before, then
    /// its conditions.
    ///
    /// Repeating an append with the same event ids returns the original places, also after
    /// a restart and also when the streams have moved on since; its conditions are not
    /// checked again. An event is the same when stream, type and data are; an id that was
    /// written with others is [`Rejection::IdTaken`](crate::Rejection::IdTaken), and a batch
    /// of which only a part was written is
    /// [`Rejection::PartlyWritten`](crate::Rejection::PartlyWritten). Where both are so, the
    /// taken id is told: it is the mistake that appending the rest apart would not mend.
    ///
    /// On several partitions all events of an append stand in one of them, as far as
    /// [`Capabilities::batches`] does not say more. They depend
    /// on what their [causes](anabranch_model::Meta::causes) name, on the events that the
    /// conditions found in other partitions, and on everything that those
    /// depend on; what is stored is as much of it as the partition does not say already, at the
    /// first event. A cause that is not in the log is
    /// [`Rejection::FutureCause`](crate::Rejection::FutureCause).
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// Hands over many appends at once, each of which is taken or refused as by [`Log::append`];
    /// answers when it knows what became of all of them, in their order. An engine that writes
    /// several appends together does that cheaper than with one call for each.
    fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        all_of(appends.into_iter().map(|append| self.append(append)))
    }

    /// Reads the events of one stream that there are at the time of the call, in the order
    /// of their versions or backward. A stream or a version that does not exist gives none.
    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream;

    /// Reads events of all streams that pass `filter`.
    ///
    /// Forward modes give the events that `from` does not include, in order of position in
    /// each partition. [`ReadMode::Backward`] gives those that it does include, newest first.
    /// Batches of a forward read hold whole appends, as far as those are atomic, so that what
    /// is taken in batch by batch never shows a part of one; an engine may say how far each
    /// [reaches](anabranch_model::EventBatch::reach), and then each begins where the one before
    /// it ends.
    /// Of several partitions an event is given behind everything that it depends on, also where
    /// the filter leaves that out: then a batch without events says how far it reaches.
    /// A cut beyond the head is [`ReadError::CutBeyondHead`]: following it would silently
    /// pass over events that are yet to come.
    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream;

    /// Follows how far the log goes, from a cut on: the batches say their
    /// [reach](anabranch_model::EventBatch::reach), if the engine does, and need not have events.
    fn watch(&self, from: &Cut) -> EventStream {
        self.read(from, Filter::all(), ReadMode::Follow)
    }

    /// Whether each call goes a long way, and every forward batch says its
    /// [reach](anabranch_model::EventBatch::reach), also where nothing passes the filter: then whoever
    /// would read to the head again and again follows instead.
    fn is_far(&self) -> bool {
        false
    }

    /// Where the event with this id stands; `None` if it was not written. Asks every
    /// partition.
    ///
    /// Where an append of the event is under way, the answer waits for its outcome: `None`
    /// means that no append that began before this call will bring it.
    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>>;

    /// Every durable event there is now, as a cut. It includes what its events depend on.
    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>>;

    /// Which partition each stream stands in.
    fn layout(&self) -> Layout {
        Layout::one()
    }

    /// Whether an append could be taken now, as far as that is known without making one: an error
    /// while the log refuses all of them, because its files are gone or the disk is full. For
    /// whoever supervises a program.
    fn takes_appends(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

/// One atomic batch of events, and what must hold for it to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Append {
    /// What must hold. Checked atomically with the write; may name streams that the batch
    /// does not write.
    pub conditions: Vec<Condition>,
    /// The events, of one or several streams, at least one. Their order is kept.
    pub events: Vec<NewEvent>,
}

impl Append {
    /// An unconditional append of these events.
    pub fn events(events: impl Into<Vec<NewEvent>>) -> Self {
        Self {
            conditions: Vec::new(),
            events: events.into(),
        }
    }

    /// An unconditional append of one event.
    pub fn event(event: NewEvent) -> Self {
        Self::events(vec![event])
    }

    /// Checks shape and size; does not check that the ids are unique.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitError> {
        let weight = |condition: &Condition| match condition {
            Condition::Stream(..) => 1,
            Condition::NoMatch { query, .. } => query
                .items
                .iter()
                .map(|item| 1 + item.types.len() + item.tags.len())
                .sum::<usize>(),
        };
        let count = self.conditions.iter().map(weight).sum();
        let max = limits.conditions_max;
        if count > max {
            return Err(LimitError::Conditions { count, max });
        }
        limits.check(&self.events)
    }

    /// The same append with a condition on one stream.
    #[must_use]
    pub fn expect(mut self, stream: StreamId, expect: Expect) -> Self {
        self.conditions.push(Condition::Stream(stream, expect));
        self
    }

    /// The same append with the condition that no event after `after` matches `query`.
    #[must_use]
    pub fn unless(mut self, query: Query, after: Cut) -> Self {
        self.conditions.push(Condition::NoMatch { query, after });
        self
    }
}

/// Something that must hold for an append to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The stream is in this state.
    Stream(StreamId, Expect),
    /// No event that `after` does not include matches `query`: a dynamic consistency
    /// boundary. `after` may lie beyond the last match, but not beyond the head.
    NoMatch {
        /// Which events would forbid the append.
        query: Query,
        /// What the caller had read when it decided; events after it count.
        after: Cut,
    },
}

/// What an append has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where the events stand, one entry for each, in order.
    pub places: Vec<Placed>,
    /// Whether an earlier append with the same ids had written them.
    pub repeated: bool,
    /// A cut that includes the events and everything that they depend on, in every partition:
    /// what a token of the append says. On one partition the same as [`Appended::cut`].
    pub closure: Cut,
}

impl Appended {
    /// What an append to the only partition of a log has done.
    pub fn new(places: Vec<Placed>, repeated: bool) -> Self {
        let mut appended = Self {
            places,
            repeated,
            closure: Cut::start(),
        };
        appended.closure = appended.cut();
        appended
    }

    /// The smallest cut that includes the events.
    pub fn cut(&self) -> Cut {
        let mut cut = Cut::start();
        for placed in &self.places {
            let place = placed.position;
            if cut.get(place.partition) <= place.offset {
                cut.set(place.partition, place.offset + 1);
            }
        }
        cut
    }
}

/// Where one event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// In the log.
    pub position: Position,
    /// In its stream.
    pub version: Version,
}

/// Versions of a stream, from the first included to the last excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(pub Range<Version>);

impl VersionRange {
    /// The whole stream.
    pub const ALL: Self = Self(0..Version::MAX);

    /// The stream from this version on.
    pub const fn from(version: Version) -> Self {
        Self(version..Version::MAX)
    }

    /// The stream before this version.
    pub const fn before(version: Version) -> Self {
        Self(0..version)
    }
}

/// Which way to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// How far, and which way, to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Forward to the head at the time of the call, then end.
    #[default]
    ToHead,
    /// Forward to the head and on, for ever, without gap or duplicate.
    Follow,
    /// Backward from the cut to the start, then end.
    Backward,
}

/// What an engine can do. A caller that needs what is missing learns it at start-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The engine's name, for people.
    pub engine: &'static str,
    /// How many partitions it has.
    pub partitions: u32,
    /// How far a batch may reach and still be atomic.
    pub batches: Scope,
    /// Which streams a condition may name, beside those that the batch writes.
    pub conditions: Scope,
    /// How far a batch with a [`Condition::NoMatch`] may look for what matches: all of it is
    /// looked at, or the append is refused. `None`: such conditions do not work.
    pub no_match: Option<Scope>,
    /// Whether all events stand in one order.
    pub total_order: bool,
    /// Whether [`ReadMode::Backward`] works.
    pub backward_reads: bool,
    /// Whether acknowledged events survive the end of the process.
    pub survives_restart: bool,
    /// Whether acknowledged events survive a power cut.
    pub survives_power_cut: bool,
    /// How large the parts of an append may be.
    pub limits: Limits,
}

/// How far an append may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Within one stream.
    Stream,
    /// Within one partition.
    Partition,
    /// Over the whole log.
    Log,
}

impl Scope {
    /// Whether this is the whole of a log that has so many partitions.
    pub fn is_whole(self, partitions: u32) -> bool {
        self == Self::Log || self == Self::Partition && partitions == 1
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Partition => "partition",
            Self::Log => "log",
        })
    }
}
