//! Views in memory, kept in snapshots.

use std::sync::Arc;

use anabranch_domain::{Event, Reader, View};
use anabranch_log::{BoxFuture, Log, ReadMode};
use anabranch_model::{Cut, EventBatch, EventId, Position, content_hash};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::RwLock;

use super::copy::{Edit, Look, ViewCopy, ViewStore, take_back, take_in};
use super::host::filter_of;
use super::{Copies, CopyId, PoisonEvent, Progress, StoreError, snapshot_stream};
use crate::snapshot::{Snapshot, SnapshotStore};

/// Copies of a view in memory.
pub struct MemoryViewStore {
    pub log: Arc<dyn Log>,
    pub snapshots: Arc<dyn SnapshotStore>,
}

struct MemoryCopy<V: View> {
    id: CopyId,
    log: Arc<dyn Log>,
    snapshots: Arc<dyn SnapshotStore>,
    reader: Arc<Reader<V::Event>>,
    rows: RwLock<Rows<V::Store>>,
}

struct Rows<S> {
    store: S,
    progress: Progress,
}

fn failed<V: View>(reason: impl ToString) -> StoreError {
    StoreError {
        view: V::NAME.to_owned(),
        reason: reason.to_string(),
    }
}

fn fingerprint<V: View>() -> u128 {
    let mut parts = vec![
        V::NAME.to_owned(),
        V::VERSION.to_string(),
        std::any::type_name::<V::Store>().to_owned(),
    ];
    parts.extend(V::Event::kinds().iter().map(ToString::to_string));
    content_hash(parts.iter().map(String::as_bytes))
}

impl<V: View> ViewStore<V> for MemoryViewStore
where
    V::Store: Default + Serialize + DeserializeOwned + Send + Sync,
{
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        Box::pin(async {
            let stream = snapshot_stream(V::NAME, None)?;
            let snapshot = self.snapshots.load(&stream).await.map_err(failed::<V>)?;
            // Copies that nobody knows any more are made again.
            Ok(snapshot
                .and_then(|snapshot| serde_json::from_slice(&snapshot.state).ok())
                .unwrap_or_default())
        })
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let stream = snapshot_stream(V::NAME, None)?;
            let snapshot = Snapshot {
                fingerprint: 0,
                version: 0,
                last_event: EventId::from_u128(0),
                state: serde_json::to_vec(&copies).map_err(failed::<V>)?,
            };
            let saved = self.snapshots.save(&stream, snapshot).await;
            saved.map_err(failed::<V>)
        })
    }

    fn open(
        &self,
        id: CopyId,
        reader: Arc<Reader<V::Event>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<V>>, StoreError>> {
        Box::pin(async move {
            let copy = MemoryCopy::<V> {
                id,
                log: self.log.clone(),
                snapshots: self.snapshots.clone(),
                reader,
                rows: RwLock::new(empty::<V>()?),
            };
            let kept = copy.kept().await?;
            *copy.rows.write().await = kept;
            Ok(Arc::new(copy) as _)
        })
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let stream = snapshot_stream(V::NAME, Some(id))?;
            let nothing = Snapshot {
                fingerprint: 0,
                version: 0,
                last_event: EventId::from_u128(0),
                state: Vec::new(),
            };
            let saved = self.snapshots.save(&stream, nothing).await;
            saved.map_err(failed::<V>)
        })
    }
}

fn empty<V: View>() -> Result<Rows<V::Store>, StoreError>
where
    V::Store: Default,
{
    let mut store = V::Store::default();
    V::set_up(&mut store).map_err(failed::<V>)?;
    Ok(Rows {
        store,
        progress: Progress::default(),
    })
}

impl<V: View> MemoryCopy<V>
where
    V::Store: Default + Serialize + DeserializeOwned + Send + Sync,
{
    /// The rows of the newest snapshot that fits; without one, none.
    async fn kept(&self) -> Result<Rows<V::Store>, StoreError> {
        let stream = snapshot_stream(V::NAME, Some(self.id))?;
        let snapshot = match self.snapshots.load(&stream).await {
            Ok(Some(snapshot)) if snapshot.fingerprint == fingerprint::<V>() => snapshot,
            _ => return empty::<V>(),
        };
        let head = self.log.head().await.map_err(failed::<V>)?;
        match serde_json::from_slice::<(V::Store, Progress)>(&snapshot.state) {
            Ok((store, progress)) if head.covers(&progress.cut) => Ok(Rows { store, progress }),
            _ => empty::<V>(),
        }
    }

    /// Makes the rows again as they were before the event at `end`: the snapshot, and the
    /// events behind it.
    async fn restore(
        &self,
        before: &Progress,
        end: Position,
    ) -> Result<Rows<V::Store>, StoreError> {
        let mut rows = self.kept().await?;
        rows.progress.skipped.clone_from(&before.skipped);
        let newly_parked = before.parked.iter();
        rows.progress
            .parked
            .extend(newly_parked.map(|(stream, parked)| (stream.clone(), parked.clone())));
        let filter = filter_of::<V>(&self.reader);
        let from = rows.progress.cut.clone();
        let mut read = self.log.read(&from, filter, ReadMode::ToHead);
        while let Some(batch) = read.next_batch().await {
            let batch = batch.map_err(failed::<V>)?;
            let Rows { store, progress } = &mut rows;
            take_in::<V>(store, progress, &self.reader, &batch, Some(end)).map_err(|poison| {
                failed::<V>(format!(
                    "an event that was taken in before is refused now: {poison}"
                ))
            })?;
            let last = batch.iter().flatten().last();
            if last.is_some_and(|event| event.position >= end) {
                break;
            }
        }
        Ok(rows)
    }

    async fn save(&self, rows: &Rows<V::Store>) -> Result<(), StoreError> {
        let stream = snapshot_stream(V::NAME, Some(self.id))?;
        let snapshot = Snapshot {
            fingerprint: fingerprint::<V>(),
            version: 0,
            last_event: EventId::from_u128(0),
            state: serde_json::to_vec(&(&rows.store, &rows.progress)).map_err(failed::<V>)?,
        };
        let saved = self.snapshots.save(&stream, snapshot).await;
        saved.map_err(failed::<V>)
    }
}

impl<V: View> ViewCopy<V> for MemoryCopy<V>
where
    V::Store: Default + Serialize + DeserializeOwned + Send + Sync,
{
    fn id(&self) -> CopyId {
        self.id
    }

    fn progress(&self) -> BoxFuture<'_, Progress> {
        Box::pin(async { self.rows.read().await.progress.clone() })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            let before = rows.progress.clone();
            let Rows { store, progress } = &mut *rows;
            let Err(poison) = take_in::<V>(store, progress, &self.reader, &batch, None) else {
                return Ok(None);
            };
            // The event may have changed a part of the rows: they are made again. Nobody reads
            // them until they are whole.
            let end = batch.append_start(poison.position);
            let whole = self.restore(&before, end).await?;
            // The next restart, and the next poison event, begin from here; if it cannot be
            // kept, they begin earlier.
            drop(self.save(&whole).await);
            *rows = whole;
            Ok(Some(*poison))
        })
    }

    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            // What is tried here is not in the log in this order: without a snapshot the rows
            // could not be made again.
            self.save(&rows).await?;
            let Rows { store, progress } = &mut *rows;
            match take_back::<V>(store, progress, &self.reader, &stream, &events) {
                Ok(_) => {
                    self.save(&rows).await?;
                    Ok(None)
                }
                Err(poison) => {
                    *rows = self.kept().await?;
                    Ok(Some(*poison))
                }
            }
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            edit(&mut rows.progress);
            // If it cannot be kept, a restart finds out again.
            drop(self.save(&rows).await);
            Ok(())
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.rows.write().await.progress.cut.join(&cut);
            Ok(())
        })
    }

    fn look(&self, look: Look<V::Store>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let rows = self.rows.read().await;
            look(&rows.store, &rows.progress);
            Ok(())
        })
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let rows = self.rows.read().await;
            self.save(&rows).await
        })
    }
}
