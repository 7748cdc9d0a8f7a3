//! From the log to memory: snapshot and tail.

use std::sync::Arc;

use anabranch_domain::{Event as _, StreamId};
use anabranch_log::{Order, ReadError, VersionRange};
use anabranch_model::EventId;

use super::message::Shared;
use super::{InstanceStatus, Kind};
use crate::panics::contain;
use crate::snapshot::Snapshot;

/// An instance as its journal has it.
pub struct Loaded<K: Kind> {
    pub machine: K::Machine,
    pub length: u64,
    pub last_event: Option<EventId>,
    pub snapshot_at: u64,
}

/// Why an instance could not be loaded.
pub enum LoadError {
    /// The log could not be read; it may later.
    Read(ReadError),
    /// This program cannot understand an event, or fails at it.
    Unreadable(String),
}

/// The instance as its journal has it now: from its newest snapshot, if that fits, and the
/// events behind it.
pub async fn load<K: Kind>(
    shared: &Arc<Shared<K>>,
    stream: &StreamId,
) -> Result<Loaded<K>, LoadError> {
    match shared.snapshots.load(stream).await {
        Ok(Some(snapshot)) if snapshot.fingerprint == shared.fingerprint => {
            if let Some(loaded) = resume(shared, stream, snapshot).await? {
                return Ok(loaded);
            }
        }
        Ok(_) => {}
        Err(error) => shared.diagnostics.add(shared.time.now(), error.to_string()),
    }
    let mut loaded = Loaded {
        machine: shared.kind.empty(stream.clone()),
        length: 0,
        last_event: None,
        snapshot_at: 0,
    };
    replay(shared, stream, &mut loaded).await?;
    Ok(loaded)
}

/// Goes on from a snapshot; `None` if it does not fit the journal, and then it does not count.
async fn resume<K: Kind>(
    shared: &Arc<Shared<K>>,
    stream: &StreamId,
    snapshot: Snapshot,
) -> Result<Option<Loaded<K>>, LoadError> {
    let (kind, length) = (&shared.kind, snapshot.version + 1);
    let Ok(Some(machine)) = contain(|| kind.thaw(stream, &snapshot.state)) else {
        return Ok(None);
    };
    if kind.length(&machine) != length {
        return Ok(None);
    }
    let last = VersionRange(snapshot.version..length);
    let mut read = shared.log.read_stream(stream, last, Order::Forward);
    match read.next().await {
        Some(Ok(event)) if event.id == snapshot.last_event => {}
        Some(Err(error)) => return Err(LoadError::Read(error)),
        _ => return Ok(None),
    }
    let mut loaded = Loaded {
        machine,
        length,
        last_event: Some(snapshot.last_event),
        snapshot_at: length,
    };
    replay(shared, stream, &mut loaded).await?;
    Ok(Some(loaded))
}

async fn replay<K: Kind>(
    shared: &Arc<Shared<K>>,
    stream: &StreamId,
    loaded: &mut Loaded<K>,
) -> Result<(), LoadError> {
    let behind = VersionRange::from(loaded.length);
    let mut read = shared.log.read_stream(stream, behind, Order::Forward);
    while let Some(batch) = read.next_batch().await {
        for event in &batch.map_err(LoadError::Read)? {
            let event = event.map_err(|error| LoadError::Unreadable(error.to_string()))?;
            let evolved = contain(|| {
                let decoded = K::Event::decode(event.event_type, event.schema_version, event.data)
                    .map_err(|error| error.to_string())?;
                shared.kind.evolve(&mut loaded.machine, &decoded)
            });
            if let Ok(Err(reason)) | Err(reason) = evolved {
                let place = format!("event {} of {stream}", event.version);
                return Err(LoadError::Unreadable(format!("{place}: {reason}")));
            }
            loaded.length = event.version + 1;
            loaded.last_event = Some(event.id);
        }
    }
    Ok(())
}

/// The instance, for an operator, as its journal has it.
pub async fn describe<K: Kind>(shared: &Arc<Shared<K>>, stream: &StreamId) -> InstanceStatus {
    let (parked, description) = match load(shared, stream).await {
        Ok(loaded) => match contain(|| shared.kind.describe(&loaded.machine)) {
            Ok(description) => (None, Some(description)),
            Err(panic) => (Some(format!("its code panicked: {panic}")), None),
        },
        Err(LoadError::Unreadable(reason)) => (Some(reason), None),
        Err(LoadError::Read(error)) => (Some(error.to_string()), None),
    };
    InstanceStatus {
        stream: stream.clone(),
        parked,
        description,
    }
}
