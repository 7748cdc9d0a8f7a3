//! Views in memory, kept in snapshots.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_log::{BoxFuture, Log};
use anabranch_model::{Cut, EventBatch, EventId, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::RwLock;

use super::{
    Copies, CopyId, Edit, Intake, Look, PoisonEvent, Progress, StoreError, ViewCode, ViewContext,
    ViewCopy, ViewStore, ViewStoreFactory, snapshot_stream,
};
use crate::follow::ToHead;
use crate::snapshot::{Snapshot, SnapshotStore};

/// Keeps views in memory, and a snapshot of them now and then: what
/// [`ServiceBuilder::view`](crate::ServiceBuilder::view) does.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryViews;

impl<S> ViewStoreFactory<S> for MemoryViews
where
    S: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<S>> {
        Arc::new(MemoryViewStore {
            view: context.view,
            log: context.log.clone(),
            snapshots: context.snapshots.clone(),
        })
    }
}

/// Copies of a view in memory.
struct MemoryViewStore {
    view: &'static str,
    log: Arc<dyn Log>,
    snapshots: Arc<dyn SnapshotStore>,
}

struct MemoryCopy<S> {
    id: CopyId,
    log: Arc<dyn Log>,
    snapshots: Arc<dyn SnapshotStore>,
    code: Arc<ViewCode<S>>,
    rows: RwLock<Rows<S>>,
    /// What the progress was when nobody changed the rows: for those who must not wait.
    shown: Mutex<Progress>,
}

struct Rows<S> {
    store: S,
    progress: Progress,
}

impl<S> ViewStore<S> for MemoryViewStore
where
    S: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        Box::pin(async {
            let stream = snapshot_stream(self.view, None)?;
            let snapshot = self
                .snapshots
                .load(&stream)
                .await
                .map_err(|error| StoreError::new(self.view, error))?;
            // Copies that nobody knows any more are made again.
            Ok(snapshot
                .and_then(|snapshot| serde_json::from_slice(&snapshot.state).ok())
                .unwrap_or_default())
        })
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let stream = snapshot_stream(self.view, None)?;
            let snapshot = Snapshot {
                fingerprint: 0,
                version: 0,
                last_event: EventId::from_u128(0),
                state: serde_json::to_vec(&copies)
                    .map_err(|error| StoreError::new(self.view, error))?,
            };
            let saved = self.snapshots.save(&stream, snapshot).await;
            saved.map_err(|error| StoreError::new(self.view, error))
        })
    }

    fn open(
        &self,
        id: CopyId,
        code: Arc<ViewCode<S>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<S>>, StoreError>> {
        Box::pin(async move {
            let copy = MemoryCopy {
                id,
                log: self.log.clone(),
                snapshots: self.snapshots.clone(),
                rows: RwLock::new(empty(&code)?),
                code,
                shown: Mutex::default(),
            };
            let kept = copy.kept().await?;
            copy.show(&kept);
            *copy.rows.write().await = kept;
            Ok(Arc::new(copy) as _)
        })
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let stream = snapshot_stream(self.view, Some(id))?;
            let nothing = Snapshot {
                fingerprint: 0,
                version: 0,
                last_event: EventId::from_u128(0),
                state: Vec::new(),
            };
            let saved = self.snapshots.save(&stream, nothing).await;
            saved.map_err(|error| StoreError::new(self.view, error))
        })
    }
}

fn empty<S: Default + 'static>(code: &ViewCode<S>) -> Result<Rows<S>, StoreError> {
    let mut store = S::default();
    code.set_up(&mut store)
        .map_err(|error| code.failed(error))?;
    Ok(Rows {
        store,
        progress: Progress::default(),
    })
}

impl<S> MemoryCopy<S>
where
    S: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn shown(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, rows: &Rows<S>) {
        self.shown().clone_from(&rows.progress);
    }

    fn failed(&self, error: impl ToString) -> StoreError {
        self.code.failed(error)
    }

    /// The rows of the newest snapshot that fits; without one, none.
    async fn kept(&self) -> Result<Rows<S>, StoreError> {
        let stream = snapshot_stream(self.code.name(), Some(self.id))?;
        let snapshot = match self.snapshots.load(&stream).await {
            Ok(Some(snapshot)) if snapshot.fingerprint == self.code.fingerprint() => snapshot,
            _ => return empty(&self.code),
        };
        let head = self.log.head().await.map_err(|error| self.failed(error))?;
        match serde_json::from_slice::<(S, Progress)>(&snapshot.state) {
            Ok((store, progress)) if head.covers(&progress.cut) => Ok(Rows { store, progress }),
            _ => empty(&self.code),
        }
    }

    /// Makes the rows again as they were before the event at `end`: the snapshot, and the
    /// events behind it.
    async fn restore(&self, before: &Progress, end: Position) -> Result<Rows<S>, StoreError> {
        let mut rows = self.kept().await?;
        rows.progress.skipped.clone_from(&before.skipped);
        let newly_parked = before.parked.iter();
        rows.progress
            .parked
            .extend(newly_parked.map(|(stream, parked)| (stream.clone(), parked.clone())));
        let filter = self.code.filter().clone();
        let reading = ToHead::begin(&self.log, &rows.progress.cut, Some(filter)).await;
        let mut reading = reading.map_err(|error| self.failed(error))?;
        while let Some(batch) = reading.next().await {
            let batch = batch.map_err(|error| self.failed(error))?;
            let Rows { store, progress } = &mut rows;
            let taken = self.code.take_in(store, progress, &batch, Some(end));
            taken.map_err(|poison| {
                self.failed(format!(
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

    async fn save(&self, rows: &Rows<S>) -> Result<(), StoreError> {
        let stream = snapshot_stream(self.code.name(), Some(self.id))?;
        let snapshot = Snapshot {
            fingerprint: self.code.fingerprint(),
            version: 0,
            last_event: EventId::from_u128(0),
            state: serde_json::to_vec(&(&rows.store, &rows.progress))
                .map_err(|error| self.failed(error))?,
        };
        let saved = self.snapshots.save(&stream, snapshot).await;
        saved.map_err(|error| self.failed(error))
    }
}

impl<S> Intake for MemoryCopy<S>
where
    S: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let progress = self.shown().clone();
        Box::pin(async { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            let before = rows.progress.clone();
            let Rows { store, progress } = &mut *rows;
            let Err(poison) = self.code.take_in(store, progress, &batch, None) else {
                self.show(&rows);
                return Ok(None);
            };
            // The event may have changed a part of the rows: they are made again. Nobody reads
            // them until they are whole.
            let end = batch.append_start(poison.position);
            let whole = self.restore(&before, end).await?;
            // The next restart, and the next poison event, begin from here; if it cannot be
            // kept, they begin earlier.
            drop(self.save(&whole).await);
            self.show(&whole);
            *rows = whole;
            Ok(Some(*poison))
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            edit(&mut rows.progress);
            self.show(&rows);
            // If it cannot be kept, a restart finds out again.
            drop(self.save(&rows).await);
            Ok(())
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.write().await;
            rows.progress.cut.join(&cut);
            self.show(&rows);
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

impl<S> ViewCopy<S> for MemoryCopy<S>
where
    S: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn id(&self) -> CopyId {
        self.id
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
            match self.code.take_back(store, progress, &stream, &events) {
                Ok(_) => {
                    self.show(&rows);
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

    fn look(&self, look: Look<S>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let rows = self.rows.read().await;
            look(&rows.store, &rows.progress);
            Ok(())
        })
    }
}
