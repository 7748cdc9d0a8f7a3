//! From the log to memory: snapshot and tail.

use std::sync::Arc;

use anabranch_domain::{Entity, EntityInstance, StreamId};
use anabranch_log::{Order, ReadError, VersionRange};
use anabranch_model::{EventRef, Version, content_hash};

use super::Shared;
use super::slot::{Batch, Durable, Live};
use crate::panics::contain;
use crate::snapshot::Snapshot;

/// Why an entity could not be loaded.
pub enum LoadError {
    /// The log could not be read; it may later.
    Read(ReadError),
    /// An event cannot be understood by this program.
    Unreadable(String),
    /// The entity's own code panicked.
    Panicked(String),
}

/// The fingerprint of an entity's snapshots: category, version and name of the state, and the
/// shapes of the events that it was made from.
pub fn fingerprint<E: Entity>() -> u128 {
    use anabranch_domain::Event;
    let mut kinds = E::Event::kinds();
    kinds.sort_unstable();
    let mut parts = vec![
        E::CATEGORY.to_owned(),
        E::STATE_VERSION.to_string(),
        std::any::type_name::<E>().to_owned(),
    ];
    parts.extend(kinds.iter().map(ToString::to_string));
    content_hash(parts.iter().map(String::as_bytes))
}

/// The entity as the log has it now: from its newest snapshot, if that fits, and the events
/// behind it.
pub async fn load<E: Entity>(
    shared: &Arc<Shared<E>>,
    stream: &StreamId,
) -> Result<Live<E>, LoadError> {
    match shared.snapshots.load(stream).await {
        Ok(Some(snapshot)) if snapshot.fingerprint == shared.fingerprint => {
            if let Some(live) = resume(shared, stream, snapshot).await? {
                return Ok(live);
            }
        }
        Ok(_) => {}
        Err(error) => shared.diagnostics.add(shared.time.now(), error.to_string()),
    }
    let mut live = empty();
    replay(shared, stream, 0..Version::MAX, &mut live).await?;
    Ok(live)
}

/// The entity as it was after its event `last`, or as it is now; from events alone.
pub async fn load_at<E: Entity>(
    shared: &Arc<Shared<E>>,
    stream: &StreamId,
    last: Option<Version>,
) -> Result<Live<E>, LoadError> {
    let end = last.map_or(Version::MAX, |last| last.saturating_add(1));
    let mut live = empty();
    replay(shared, stream, 0..end, &mut live).await?;
    Ok(live)
}

fn empty<E: Entity>() -> Live<E> {
    Live {
        entity: EntityInstance::new(),
        durable: None,
        open: Batch::new(),
        flight: None,
        broken: None,
        snapshot_at: 0,
        bytes: 0,
        measure_at: 0,
    }
}

/// Goes on from a snapshot; `None` if it does not fit the stream, and then it does not count.
async fn resume<E: Entity>(
    shared: &Arc<Shared<E>>,
    stream: &StreamId,
    snapshot: Snapshot,
) -> Result<Option<Live<E>>, LoadError> {
    let version = snapshot.version;
    let entity: EntityInstance<E> = match serde_json::from_slice(&snapshot.state) {
        Ok(entity) => entity,
        Err(_) => return Ok(None),
    };
    if entity.version() != Some(version) {
        return Ok(None);
    }
    let range = VersionRange(version..version.saturating_add(1));
    let mut events = shared.log.read_stream(stream, range, Order::Forward);
    let last = match events.next().await {
        None => return Ok(None),
        Some(event) => event.map_err(LoadError::Read)?,
    };
    if last.id != snapshot.last_event {
        return Ok(None);
    }
    let mut live = Live {
        entity,
        durable: Some(Durable {
            version,
            position: last.position,
            id: last.id,
        }),
        snapshot_at: version + 1,
        ..empty()
    };
    replay(shared, stream, version + 1..Version::MAX, &mut live).await?;
    Ok(Some(live))
}

async fn replay<E: Entity>(
    shared: &Arc<Shared<E>>,
    stream: &StreamId,
    range: std::ops::Range<Version>,
    live: &mut Live<E>,
) -> Result<(), LoadError> {
    let mut events = shared
        .log
        .read_stream(stream, VersionRange(range), Order::Forward);
    while let Some(batch) = events.next_batch().await {
        for event in &batch.map_err(LoadError::Read)? {
            let event = event.map_err(|e| LoadError::Unreadable(e.to_string()))?;
            take_in(shared, live, &event)?;
        }
    }
    Ok(())
}

fn take_in<E: Entity>(
    shared: &Shared<E>,
    live: &mut Live<E>,
    event: &EventRef<'_>,
) -> Result<(), LoadError> {
    let place = || format!("event {} of {}", event.version, event.stream);
    match contain(|| live.entity.replay(&shared.reader, event)) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(LoadError::Unreadable(format!("{}: {error}", place()))),
        Err(panic) => return Err(LoadError::Panicked(format!("{}: {panic}", place()))),
    }
    live.durable = Some(Durable {
        version: event.version,
        position: event.position,
        id: event.id,
    });
    Ok(())
}
