//! What all shards of one kind share.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Retry, StreamId};
use anabranch_log::{Log, Scope};
use anabranch_model::{EventType, NameError};

use super::desk::Writer;
use super::item::Outbox;
use super::kind::{About, Kind};
use crate::causes::Causes;
use crate::diagnostics::Diagnostics;
use crate::ended::EndedSagas;
use crate::feed::Feed;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

/// How entities of one category are hosted, or the instances of a process or saga.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// How many tasks share the entities.
    pub shards: usize,
    /// How many commands may wait at one shard before it says that it is overloaded.
    pub mailbox_max: usize,
    /// How many commands may wait at one entity, for example while it is loaded.
    pub waiting_max: usize,
    /// A snapshot is taken after this many events; 0: never.
    pub snapshot_every: u64,
    /// How much memory the states may take, about, in bytes. Idle entities leave beyond it.
    pub memory_max: usize,
    /// How many entities each shard keeps in memory, about, whatever their size.
    pub live_max: usize,
    /// When an entity whose code panicked is started again. After the greatest number of
    /// attempts it is parked.
    pub restart: Retry,
    /// How often an append whose outcome is unknown is repeated before the sender is told.
    pub unknown_attempts_max: u32,
    /// How often a command is decided again when others write to its entity.
    pub contended_attempts_max: u32,
    /// How long a command may take, if the sender says nothing.
    pub timeout: Duration,
    /// What a command depends on, if the sender says nothing.
    pub causes: Causes,
}

impl Default for HostOptions {
    /// As many shards as the machine runs threads at once, with 4,096 commands each; snapshots
    /// each 1,000 events, 256 MiB of states.
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(2, usize::from),
            mailbox_max: 4096,
            waiting_max: 1024,
            snapshot_every: 1000,
            memory_max: 256 << 20,
            live_max: usize::MAX,
            restart: Retry {
                attempts_max: Some(5),
                ..Retry::DEFAULT
            },
            unknown_attempts_max: 8,
            contended_attempts_max: 8,
            timeout: Duration::from_secs(30),
            causes: Causes::Session,
        }
    }
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
    pub about: About,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub diagnostics: Arc<Diagnostics>,
    pub options: HostOptions,
    pub writer: Writer,
    /// Whether batches of several streams can be one append.
    pub combines: bool,
    /// Takes what machines send; `None`: they send nothing.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// Where the events come from that are brought to machines.
    pub feed: Arc<Feed>,
    pub ended: EndedSagas,
}

impl Shared {
    pub fn new(
        kind: Arc<dyn Kind>,
        parts: HostParts,
        options: HostOptions,
        outbox: Option<Arc<dyn Outbox>>,
    ) -> Result<Self, NameError> {
        let about = kind.about();
        let types = about.events.iter().map(|kind| EventType::new(kind.name));
        let capabilities = parts.log.capabilities();
        let is_whole = |scope| capabilities.partitions == 1 && scope >= Scope::Partition;
        Ok(Self {
            writer: Writer {
                source: parts.source,
                types: types.collect::<Result<_, _>>()?,
                limits: capabilities.limits,
                many_partitions: capabilities.partitions > 1,
                time: parts.time.clone(),
            },
            about,
            kind,
            log: parts.log,
            time: parts.time,
            snapshots: parts.snapshots,
            diagnostics: parts.diagnostics,
            combines: is_whole(capabilities.batches) && is_whole(capabilities.conditions),
            options,
            outbox,
            feed: Arc::default(),
            ended: EndedSagas::default(),
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
