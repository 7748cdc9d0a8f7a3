//! The keyed host: many state machines, each with a key and a stream, on a few tasks.
//!
//! A *shard* is one task that owns the machines of many keys. It decides over state in memory
//! and does not wait for the log: while one batch of a machine's events becomes durable, the
//! next is decided and gathered. What follows from a batch is answered and sent when it is
//! durable.
//!
//! Three rules keep this right:
//!
//! * A machine has one append in flight, and its condition is the version that the decisions
//!   began at. So a second writer is found out before anything is built on its absence: with
//!   two appends in flight, the second could hold although the first did not.
//! * What was decided over events that are not durable yet, a rejection too, is answered only
//!   when they are. When they cannot be written, memory is dropped, read from the log again,
//!   and everything that is unanswered is decided again.
//! * The ids of a command's events follow from the command's id, so the log itself remembers
//!   every command that ever recorded something, for ever. A command that records nothing is
//!   checked against that memory before it is answered. A refusal of a plain command changes
//!   nothing and is kept in memory only, for a while: repeated after a restart, the command is
//!   decided again. A refusal that a saga has to rely on is recorded.
//!
//! Entities, processes and sagas are *kinds* of such machines. A kind is a [`Kind`] and a
//! [`Machine`]: all that the host knows of a user's types. So this code is compiled once, and
//! not in the crate of each service.

mod append;
mod commands;
mod decide;
mod item;
mod life;
mod load;
mod mailbox;
mod outcome;
mod recall;
mod rejections;
mod send;
mod shard;
mod slot;
mod status;
mod timers;

use std::any::Any;
use std::sync::Arc;

use anabranch_domain::{
    CallEnvelope, CommandEnvelope, EventKind, ReplyEnvelope, Retry, Role, StreamId, Timestamp,
};
use anabranch_log::{AtomicBatches, Log};
use anabranch_model::{EventRef, EventType, Limits, NameError};

use crate::diagnostics::Diagnostics;
use crate::feed::Feed;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

pub use decide::{Desk, Draft, Made, Undecided};
pub use item::{Ask, Item};
pub use load::{LoadError, load_from_events, load_newest};
pub use mailbox::Host;
pub use recall::content_of;
pub use shard::{Message, Touched};
pub use slot::Verdict;
pub use status::{Accepted, Description, InstanceStatus, Recorded, Status};

/// Something that reaches a machine. Its kind knows the type.
pub type Input = Box<dyn Any + Send>;

/// A kind of machines: how they begin, and how the host treats them.
pub trait Kind: Send + Sync + 'static {
    /// The name, and the category of the streams.
    fn name(&self) -> &'static str;

    /// The kinds of events that its streams hold.
    fn event_kinds(&self) -> Vec<EventKind>;

    /// Names the shape of what [`Machine::freeze`] writes.
    fn fingerprint(&self) -> u128;

    /// The machine with an empty stream.
    fn empty(&self, stream: &StreamId) -> Box<dyn Machine>;

    /// The machine of a snapshot of the same shape; `None` if it cannot be read.
    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Box<dyn Machine>>;

    /// How far the host goes by itself.
    fn drive(&self) -> Drive;

    /// What a machine is told when a runtime takes it over.
    fn recovered(&self) -> Option<Input> {
        None
    }
}

/// One machine: its state, and how far its stream goes.
pub trait Machine: Send + 'static {
    /// How many events the state includes.
    fn length(&self) -> u64;

    /// What is to be done about an input. The machine moves along.
    fn decide(&mut self, item: &Item, desk: &Desk<'_>) -> Result<Made, Undecided>;

    /// Takes in an event of its stream; an error says why this program cannot understand it.
    fn replay(&mut self, event: &EventRef<'_>) -> Result<(), String>;

    /// Writes the machine, for a snapshot; false if it cannot be written.
    fn freeze(&self, out: &mut dyn std::io::Write) -> bool;

    /// The machine, for an operator; an error says why its state is no JSON.
    fn describe(&self) -> Result<Description, String>;

    /// Whether the host has to go on with it by itself.
    fn standing(&self) -> Standing;

    /// What was sent and is not answered, and every timer.
    fn outstanding(&self) -> Result<Vec<Out>, String> {
        Ok(Vec::new())
    }

    /// How many inputs it keeps for later, because it has not begun.
    fn held(&self) -> usize {
        0
    }

    /// Forgets what it remembers for a saga that has ended.
    fn forget(&mut self, saga: &StreamId) {
        let _ = saga;
    }

    /// The sagas for which it remembers something.
    fn remembers(&self) -> Vec<StreamId> {
        Vec::new()
    }
}

/// How far the host goes by itself with the machines of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// Nothing happens between two inputs, and whoever sends one is told when it cannot be
    /// done.
    Asked,
    /// It goes on until there is an answer: what it sends is sent until then. Inputs are kept
    /// until they are durable.
    Insists,
    /// It goes on, and decides itself when to send again. Inputs are kept until they are
    /// durable.
    Reports,
}

/// Whether the host has to go on with a machine by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Only when something is sent to it. It stays in memory while there is room.
    Resident,
    /// It has not ended.
    Open {
        /// Whether it waits for an answer or a timer: a runtime that takes over has something
        /// to do about it.
        waiting: bool,
    },
    /// There is nothing more to do: it takes no memory.
    Ended,
}

/// One thing to do once the events that say so are durable.
pub enum Out {
    /// Send a command.
    Command(CommandEnvelope),
    /// Call the world outside.
    Call(CallEnvelope, Role),
    /// Wake the machine.
    Timer(Timestamp, Input),
    /// Answer who waits for the machine.
    Reply(ReplyEnvelope),
    /// The machine has ended: receivers may forget what they remember for it.
    Ended,
}

/// Takes what machines send.
pub trait Outbox: Send + Sync {
    /// Sends what is no timer. `again` says that an earlier runtime may have sent it.
    fn send(&self, from: &StreamId, out: Out, again: bool);

    /// Tells a receiver that it may forget what it remembers for a machine that has ended.
    fn forget(&self, receiver: &StreamId, from: &StreamId);
}

/// How the machines of one kind are hosted.
#[derive(Debug, Clone)]
pub struct HostOptions {
    pub shards: usize,
    /// How many inputs may wait at one shard, and how many commands that are not answered.
    pub mailbox_max: usize,
    /// How many commands may wait at one machine.
    pub waiting_max: usize,
    /// A snapshot of a machine is kept each so many events; 0: never.
    pub snapshot_every: u64,
    /// How much memory the machines of all shards may take, about; `None`: they are not
    /// measured.
    pub memory_max: Option<usize>,
    /// How many machines each shard keeps in memory, about.
    pub live_max: usize,
    /// When a machine whose code failed is tried again; then it is parked.
    pub restart: Retry,
    pub unknown_attempts_max: u32,
    pub contended_attempts_max: u32,
    pub rejections_max: usize,
    /// Beyond this the next decision waits for the next append.
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    /// The most inputs that a machine may hold for later, because it has not begun; then it is
    /// parked.
    pub held_max: usize,
}

/// As many shards as the machine lets programs run at once.
pub fn shards_default() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// What a host is made of.
#[derive(Clone)]
pub struct HostParts {
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub source: String,
    pub diagnostics: Arc<Diagnostics>,
}

/// What all shards of one kind share.
pub struct Shared {
    pub kind: Arc<dyn Kind>,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub diagnostics: Arc<Diagnostics>,
    /// The service that writes.
    pub source: String,
    pub options: HostOptions,
    /// The types of events, ready to be stored.
    pub types: Vec<EventType>,
    pub limits: Limits,
    /// Whether events say what they depend on beyond their partition.
    pub many_partitions: bool,
    /// Whether batches of several streams can be one append.
    pub combines: bool,
    /// Of snapshots: the shape of the machines.
    pub fingerprint: u128,
    /// Takes what machines send; `None`: they send nothing.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// Where the events come from that are brought to machines.
    pub feed: Arc<Feed>,
}

impl Shared {
    pub fn new(
        kind: Arc<dyn Kind>,
        parts: HostParts,
        options: HostOptions,
        outbox: Option<Arc<dyn Outbox>>,
    ) -> Result<Self, NameError> {
        let types = kind.event_kinds().into_iter();
        let types = types.map(|kind| EventType::new(kind.name));
        let capabilities = parts.log.capabilities();
        let one_batch = capabilities.partitions == 1
            && capabilities.atomic_batches != AtomicBatches::Stream
            || capabilities.atomic_batches == AtomicBatches::Log;
        Ok(Self {
            types: types.collect::<Result<_, _>>()?,
            fingerprint: kind.fingerprint(),
            kind,
            log: parts.log,
            time: parts.time,
            snapshots: parts.snapshots,
            diagnostics: parts.diagnostics,
            source: parts.source,
            limits: capabilities.limits,
            many_partitions: capabilities.partitions > 1,
            combines: one_batch && capabilities.multi_stream_conditions,
            options,
            outbox,
            feed: Arc::default(),
        })
    }

    pub fn note(&self, text: impl Into<String>) {
        self.diagnostics.add(self.time.now(), text);
    }

    /// An invariant of the host does not hold, which only a fault of this program can cause.
    pub fn broken_invariant(&self, stream: &StreamId, what: &str) {
        debug_assert!(false, "{stream}: {what}");
        let text = format!("a fault of this program at {stream}: {what}; please report it");
        self.note(text);
    }
}
