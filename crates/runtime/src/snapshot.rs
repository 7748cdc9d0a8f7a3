//! Stored states, so that not every event has to be read again. Rebuildable: a snapshot that
//! is lost, stale or damaged costs time and nothing else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anabranch_log::BoxFuture;
use anabranch_model::{EventId, StreamId, Version};
use thiserror::Error;

/// The state of a stream's owner after one of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Names the shape of the state and the program that made it. Of another shape, it is
    /// dropped.
    pub fingerprint: u128,
    /// The version of the last event that the state includes.
    pub version: Version,
    /// The id of that event: the stream must still have it at that version.
    pub last_event: EventId,
    /// The state, as JSON.
    pub state: Vec<u8>,
}

/// Why a snapshot was not stored or loaded. Nothing is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("snapshot of {stream}: {reason}; its events are read instead")]
pub struct SnapshotError {
    /// Whose snapshot.
    pub stream: StreamId,
    /// What is the matter.
    pub reason: String,
}

/// Keeps the newest snapshot of each stream. Must not block the thread that calls it.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The snapshot of this stream, if there is one.
    fn load(&self, stream: &StreamId) -> BoxFuture<'_, Result<Option<Snapshot>, SnapshotError>>;

    /// Keeps this snapshot in place of the one before.
    fn save(
        &self,
        stream: &StreamId,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<(), SnapshotError>>;
}

/// Snapshots in memory: they survive passivation, not the end of the process.
#[derive(Debug, Default)]
pub struct MemorySnapshots(Mutex<BTreeMap<StreamId, Snapshot>>);

impl MemorySnapshots {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl SnapshotStore for MemorySnapshots {
    fn load(&self, stream: &StreamId) -> BoxFuture<'_, Result<Option<Snapshot>, SnapshotError>> {
        let snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = snapshots.get(stream).cloned();
        Box::pin(async { Ok(found) })
    }

    fn save(
        &self,
        stream: &StreamId,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<(), SnapshotError>> {
        let mut snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = snapshots.insert(stream.clone(), snapshot);
        drop(snapshots);
        drop(before);
        Box::pin(async { Ok(()) })
    }
}
