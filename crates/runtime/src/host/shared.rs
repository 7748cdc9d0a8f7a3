//! What all shards of one kind share.

use std::sync::Arc;

use anabranch_domain::{Retry, StreamId};
use anabranch_log::{AtomicBatches, Log};
use anabranch_model::{EventType, NameError};

use super::desk::Writer;
use super::kind::Kind;
use super::out::Outbox;
use crate::diagnostics::Diagnostics;
use crate::feed::Feed;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

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
    pub options: HostOptions,
    pub writer: Writer,
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
            writer: Writer {
                source: parts.source,
                types: types.collect::<Result<_, _>>()?,
                limits: capabilities.limits,
                many_partitions: capabilities.partitions > 1,
                time: parts.time.clone(),
            },
            fingerprint: kind.fingerprint(),
            kind,
            log: parts.log,
            time: parts.time,
            snapshots: parts.snapshots,
            diagnostics: parts.diagnostics,
            combines: one_batch && capabilities.multi_stream_conditions,
            options,
            outbox,
            feed: Arc::default(),
        })
    }

    pub fn note(&self, text: impl Into<String>) {
        self.diagnostics.add(self.time.now(), text);
    }

    /// As [`Shared::note`], of what a person should know at once.
    pub fn alert(&self, text: impl Into<String>) {
        self.diagnostics.alert(self.time.now(), text);
    }

    /// An invariant of the host does not hold, which only a fault of this program can cause.
    pub fn broken_invariant(&self, stream: &StreamId, what: &str) {
        debug_assert!(false, "{stream}: {what}");
        let text = format!("a fault of this program at {stream}: {what}; please report it");
        self.note(text);
    }
}
