//! From the log to memory: snapshot and tail.

use std::ops::Range;

use anabranch_domain::StreamId;
use anabranch_log::{Order, ReadError, VersionRange};
use anabranch_model::{EventRef, Version};
use futures_util::future::try_join_all;

use super::kind::Drive;
use super::shared::Shared;
use super::slot::{Durable, Live};
use crate::panics::contain;
use crate::snapshot::Snapshot;

/// Why a machine could not be loaded.
#[derive(thiserror::Error)]
pub enum LoadError {
    /// The log could not be read; it may later.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event cannot be understood by this program.
    #[error("{0}")]
    Unreadable(String),
    /// The machine's own code panicked.
    #[error("{0}")]
    Panicked(String),
}

anabranch_model::debug_is_words!(LoadError);

/// The machine as the log has it now: from its newest snapshot, if that fits, and the events
/// behind it.
pub async fn load_newest(shared: &Shared, stream: &StreamId) -> Result<Live, LoadError> {
    let kept = shared.snapshots.load(stream).await.unwrap_or_else(|error| {
        shared.note(error.to_string());
        None
    });
    let resumed = match kept {
        Some(kept) if kept.fingerprint == shared.about.fingerprint => {
            resume(shared, stream, kept).await?
        }
        _ => None,
    };
    let mut live = match resumed {
        Some(live) => live,
        None => load_from_events(shared, stream, None).await?,
    };
    forget_ended(shared, &mut live).await?;
    Ok(live)
}

/// How many journals are asked at a time.
const ASKED_AT_ONCE: usize = 16;

/// Forgets what was remembered for sagas that have ended meanwhile: their journals say so, and
/// what was not in memory then was not told.
async fn forget_ended(shared: &Shared, live: &mut Live) -> Result<(), LoadError> {
    for sagas in live.machine.remembers().chunks(ASKED_AT_ONCE) {
        let ask = |saga| shared.ended.has_ended(&*shared.log, &shared.time, saga);
        let have_ended = try_join_all(sagas.iter().map(ask)).await?;
        for (saga, _) in sagas.iter().zip(have_ended).filter(|(_, ended)| *ended) {
            live.machine.forget(saga);
        }
    }
    Ok(())
}

/// The machine as it was after its event `last`, or as it is now; from events alone.
pub async fn load_from_events(
    shared: &Shared,
    stream: &StreamId,
    last: Option<Version>,
) -> Result<Live, LoadError> {
    let end = last.map_or(Version::MAX, |last| last.saturating_add(1));
    let mut live = Live::new(shared.kind.empty(stream));
    replay(shared, stream, 0..end, &mut live).await?;
    Ok(live)
}

/// Goes on from a snapshot; `None` if it does not fit the stream, and then it does not count.
async fn resume(
    shared: &Shared,
    stream: &StreamId,
    snapshot: Snapshot,
) -> Result<Option<Live>, LoadError> {
    let (version, next) = (snapshot.version, snapshot.version.saturating_add(1));
    let thawed = contain(|| shared.kind.thaw(stream, &snapshot.state));
    let Some(machine) = thawed.ok().flatten().filter(|one| one.length() == next) else {
        return Ok(None);
    };
    let range = VersionRange(version..next);
    let mut events = shared.log.read_stream(stream, range, Order::Forward);
    let last = events.next().await.transpose()?;
    let Some(last) = last.filter(|last| last.id == snapshot.last_event) else {
        return Ok(None);
    };
    let mut live = Live::new(machine);
    take_causes(shared, &mut live, &last.as_ref())?;
    live.durable = Some(Durable::of(&last.as_ref()));
    live.snapshot_at = next;
    replay(shared, stream, next..Version::MAX, &mut live).await?;
    Ok(Some(live))
}

async fn replay(
    shared: &Shared,
    stream: &StreamId,
    range: Range<Version>,
    live: &mut Live,
) -> Result<(), LoadError> {
    let range = VersionRange(range);
    let mut events = shared.log.read_stream(stream, range, Order::Forward);
    while let Some(batch) = events.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|e| LoadError::Unreadable(e.to_string()))?;
            let at = |why: String| format!("event {} of {stream}: {why}", event.version);
            let replayed = contain(|| live.machine.replay(&event));
            let replayed = replayed.map_err(|panic| LoadError::Panicked(at(panic)))?;
            replayed.map_err(|why| LoadError::Unreadable(at(why)))?;
            take_causes(shared, live, &event)?;
            live.durable = Some(Durable::of(&event));
        }
    }
    Ok(())
}

/// Each event of a journal says what all of it depends on.
fn take_causes(shared: &Shared, live: &mut Live, event: &EventRef<'_>) -> Result<(), LoadError> {
    if shared.writer.many_partitions && shared.about.drive != Drive::Asked {
        let meta = event.meta.decode();
        let meta = meta.map_err(|error| LoadError::Unreadable(error.to_string()))?;
        live.causes.join(&meta.causes);
    }
    Ok(())
}
