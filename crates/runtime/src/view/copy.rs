//! One copy of a view, whatever it is kept in.

use anabranch_domain::{Reader, View};
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, EventBatch, EventRef, Position};

use super::{Copies, CopyId, ParkedStream, PoisonEvent, Progress, StoreError};
use crate::panics::contain;

/// Looks at the rows and at how far they are, both of one moment.
pub type Look<S> = Box<dyn FnOnce(&S, &Progress) + Send>;

/// Changes the bookkeeping beside the rows.
pub type Edit = Box<dyn FnOnce(&mut Progress) + Send>;

/// One set of rows, with the cut that it stands at.
pub trait ViewCopy<V: View>: Send + Sync + 'static {
    /// Which one.
    fn id(&self) -> CopyId;

    /// How far it is.
    fn progress(&self) -> BoxFuture<'_, Progress>;

    /// Takes in events, in one transaction with how far they reach. Events that it has taken
    /// in before change nothing. Stops before the append that has an event which it cannot
    /// take in; what came before that is kept.
    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>>;

    /// Takes in what was set aside of one stream. All of it or nothing; `Some` names the event
    /// that still cannot be taken in.
    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>>;

    /// Changes the bookkeeping.
    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>>;

    /// There is nothing for the view between where it stands and `cut`.
    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Runs a query's code.
    fn look(&self, look: Look<V::Store>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ready when the rows are found less far than they were: a database was put back.
    fn fell_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Makes sure that a restart goes on from about here.
    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Where the copies of a view are kept.
pub trait ViewStore<V: View>: Send + Sync + 'static {
    /// Which copies there are.
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>>;

    /// Says which copies there are from now on.
    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Opens a copy; makes an empty one if there is none.
    fn open(
        &self,
        id: CopyId,
        reader: std::sync::Arc<Reader<V::Event>>,
    ) -> BoxFuture<'_, Result<std::sync::Arc<dyn ViewCopy<V>>, StoreError>>;

    /// Throws a copy away.
    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Takes events into `store`, in order, up to the end of the batch or before the event at
/// `end`. On an error the store may hold a part of what the event has changed.
pub fn take_in<V: View>(
    store: &mut V::Store,
    progress: &mut Progress,
    reader: &Reader<V::Event>,
    batch: &EventBatch,
    end: Option<Position>,
) -> Result<(), Box<PoisonEvent>> {
    let quiet = progress.skipped.is_empty() && progress.parked.is_empty();
    let is_end = |position: Position| {
        end.is_some_and(|end| end.partition == position.partition && position >= end)
    };
    for event in batch {
        let event = event.map_err(|error| {
            Box::new(PoisonEvent {
                position: Position::default(),
                stream: String::new(),
                version: 0,
                event_type: String::new(),
                reason: format!("a stored event cannot be decoded: {error}"),
            })
        })?;
        if progress.cut.includes(event.position) {
            continue;
        }
        if is_end(event.position) {
            break;
        }
        if quiet || !is_set_aside(progress, &event) {
            handle::<V>(store, reader, &event)?;
        }
        progress.events += 1;
        progress.last_at = event.recorded_at;
        let position = event.position;
        progress.cut.set(position.partition, position.offset + 1);
    }
    // Up to here there is nothing else for the view.
    if let Some(reach) = batch.reach() {
        let ends = end.filter(|end| end.partition == reach.partition);
        let to = ends.map_or(reach.offsets.end, |end| end.offset.min(reach.offsets.end));
        if progress.cut.get(reach.partition) < to {
            progress.cut.set(reach.partition, to);
        }
    }
    Ok(())
}

fn is_set_aside(progress: &mut Progress, event: &EventRef<'_>) -> bool {
    if let Some(parked) = progress.parked.get_mut(event.stream)
        && event.version >= parked.version
    {
        parked.last = event.version;
        return true;
    }
    progress.skipped.contains(&event.position)
}

/// Takes one event into `store`.
pub fn handle<V: View>(
    store: &mut V::Store,
    reader: &Reader<V::Event>,
    event: &EventRef<'_>,
) -> Result<(), Box<PoisonEvent>> {
    let handled = contain(|| {
        let read = reader
            .read(event.event_type, event.schema_version, event.data)
            .map_err(|error| error.to_string())?;
        match read {
            Some(read) => V::handle(store, &read, event).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    });
    let reason = match handled {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(reason)) => reason,
        Err(panic) => format!("the view's code panicked: {panic}"),
    };
    Err(Box::new(PoisonEvent {
        position: event.position,
        stream: event.stream.to_owned(),
        version: event.version,
        event_type: event.event_type.to_owned(),
        reason,
    }))
}

/// Takes in the events of a stream that were set aside, and takes the stream back.
pub fn take_back<V: View>(
    store: &mut V::Store,
    progress: &mut Progress,
    reader: &Reader<V::Event>,
    stream: &str,
    events: &EventBatch,
) -> Result<Option<ParkedStream>, Box<PoisonEvent>> {
    let Some(parked) = progress.parked.get(stream).cloned() else {
        return Ok(None);
    };
    let mut taken = parked.version;
    for event in events {
        let Ok(event) = event else { break };
        let wanted = (parked.version..=parked.last).contains(&event.version);
        if wanted && reader.knows(event.event_type) {
            if !progress.skipped.contains(&event.position) {
                handle::<V>(store, reader, &event)?;
            }
            taken = event.version;
        }
    }
    // More was set aside since the events were read: another round takes that.
    if taken < parked.last {
        return Err(Box::new(PoisonEvent {
            position: parked.position,
            stream: stream.to_owned(),
            version: taken + 1,
            event_type: String::new(),
            reason: "more events came in the meantime; try again".to_owned(),
        }));
    }
    progress.parked.remove(stream);
    Ok(Some(parked))
}
