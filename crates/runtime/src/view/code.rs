//! What a view does with events, whatever its type: stores run it and know nothing else of it.

use std::sync::Arc;

use anabranch_domain::{Event, HandleError, Lowered, Newer, Poison, Reader, SchemaError, View};
use anabranch_model::{EventBatch, EventRef, EventType, Filter, Position, Reach, content_hash};

use super::{ParkedStream, PoisonEvent, Progress, StoreError};
use crate::panics::contain;
use crate::telemetry;

/// The code of a view that writes to rows of type `S`, without the view's own type.
///
/// A [`ViewStore`](super::ViewStore) runs it in a transaction of its own: what one call changes
/// is kept as a whole, with the [`Progress`] beside it, or not at all.
pub struct ViewCode<S> {
    name: &'static str,
    version: u32,
    poison: Poison,
    filter: Filter,
    fingerprint: u128,
    handler: Box<dyn Handler<S>>,
}

/// What of the code depends on the view's type.
trait Handler<S>: Send + Sync {
    fn set_up(&self, rows: &mut S) -> Result<(), HandleError>;
    fn knows(&self, event_type: &str) -> bool;
    fn handle(&self, rows: &mut S, event: &EventRef<'_>) -> Result<(), String>;
}

/// A function that takes one event in.
type Take<S> = Box<dyn Fn(&mut S, &EventRef<'_>) -> Result<(), HandleError> + Send + Sync>;

struct Untyped<S>(Take<S>);

impl<S> Handler<S> for Untyped<S> {
    fn set_up(&self, _: &mut S) -> Result<(), HandleError> {
        Ok(())
    }

    fn knows(&self, _: &str) -> bool {
        true
    }

    fn handle(&self, rows: &mut S, event: &EventRef<'_>) -> Result<(), String> {
        (self.0)(rows, event).map_err(|error| error.to_string())
    }
}

struct Typed<V: View>(Reader<V::Event>);

impl<V: View> Handler<V::Store> for Typed<V> {
    fn set_up(&self, rows: &mut V::Store) -> Result<(), HandleError> {
        V::set_up(rows)
    }

    fn knows(&self, event_type: &str) -> bool {
        self.0.knows(event_type)
    }

    fn handle(&self, rows: &mut V::Store, event: &EventRef<'_>) -> Result<(), String> {
        let mut room = Lowered::default();
        let Some(event) = &self.0.known(event, &mut room) else {
            return Ok(());
        };
        let read = self
            .0
            .read(event.event_type, event.schema_version, event.data);
        match read.map_err(|error| error.to_string())? {
            Some(read) => V::handle(rows, &read, event).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

impl<S: 'static> ViewCode<S> {
    /// The code of view `V`. Fails when its event type and its upcasts do not fit together.
    pub fn of<V: View<Store = S>>() -> Result<Self, SchemaError> {
        Self::taught::<V>(Arc::default())
    }

    /// The same, which also reads newer events as far as `newer` says how.
    pub fn taught<V: View<Store = S>>(newer: Arc<Newer>) -> Result<Self, SchemaError> {
        let reader = Reader::<V::Event>::taught(newer)?;
        let types = reader.names();
        let types = types.iter().filter_map(|name| EventType::new(name).ok());
        let filter = Filter {
            categories: V::CATEGORIES.iter().map(|&c| c.to_owned()).collect(),
            types: types.collect(),
            ..Filter::all()
        };
        let mut parts = vec![
            V::NAME.to_owned(),
            V::VERSION.to_string(),
            std::any::type_name::<S>().to_owned(),
        ];
        parts.extend(V::Event::kinds().iter().map(ToString::to_string));
        Ok(Self {
            name: V::NAME,
            version: V::VERSION,
            poison: V::POISON,
            filter,
            fingerprint: content_hash(parts.iter().map(String::as_bytes)),
            handler: Box::new(Typed::<V>(reader)),
        })
    }

    /// A function as code: for consumers whose place is kept with what they write. It gets
    /// the events as they are stored.
    pub fn of_function(
        name: &'static str,
        function: impl Fn(&mut S, &EventRef<'_>) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            version: 1,
            poison: Poison::Stop,
            filter: Filter::all(),
            fingerprint: content_hash([name.as_bytes()]),
            handler: Box::new(Untyped(Box::new(function))),
        }
    }

    /// The view's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version of the code.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the view wants done with an event that it cannot take in.
    pub fn poison(&self) -> Poison {
        self.poison
    }

    /// The events that the view wants.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Names the code's version and the shape of its rows and events: rows that were kept
    /// under another one are of no use.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// An error of this view's store.
    pub fn failed(&self, reason: impl ToString) -> StoreError {
        StoreError::new(self.name, reason)
    }

    /// Makes what the first event needs; once, on empty rows.
    pub fn set_up(&self, rows: &mut S) -> Result<(), HandleError> {
        self.handler.set_up(rows)
    }

    /// Takes events into `rows`, in order, up to the end of the batch or before the event at
    /// `end`. Events that `progress` includes are passed over. On an error `rows` and
    /// `progress` may hold a part of what was to be changed: the caller takes both back.
    pub fn take_in(
        &self,
        rows: &mut S,
        progress: &mut Progress,
        batch: &EventBatch,
        end: Option<Position>,
    ) -> Result<(), Box<PoisonEvent>> {
        let is_in = |end| batch.reach().is_some_and(|reach| reach.has(end));
        if batch.parts().len() > 1 && end.is_some_and(is_in) {
            // What came into the log together is not taken in by halves.
            return Ok(());
        }
        let span = telemetry::view(self.name);
        let _inside = span.enter();
        let before = progress.events;
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
            if progress.events == before
                && !span.is_disabled()
                && let Ok(meta) = event.meta.decode()
            {
                span.record("messaging.message.conversation_id", meta.correlation_id);
            }
            if quiet || !is_set_aside(progress, &event) {
                let handled = self.handle(rows, &event);
                handled.inspect_err(|_| telemetry::failed(&span, "poison"))?;
            }
            progress.took(&event);
        }
        span.record("messaging.batch.message_count", progress.events - before);
        // Up to here there is nothing else for the view.
        for (partition, offsets) in batch.reach().iter().flat_map(Reach::parts) {
            let ends = end.filter(|end| end.partition == partition);
            let to = ends.map_or(offsets.end, |end| end.offset.min(offsets.end));
            if progress.cut.get(partition) < to {
                progress.cut.set(partition, to);
            }
        }
        Ok(())
    }

    /// Takes in the events of a stream that were set aside, and takes the stream back. On an
    /// error the caller takes back what was changed, as with [`ViewCode::take_in`].
    pub fn take_back(
        &self,
        rows: &mut S,
        progress: &mut Progress,
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
            if wanted && self.handler.knows(event.event_type) {
                if !progress.skipped.contains(&event.position) {
                    self.handle(rows, &event)?;
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

    /// Takes one event in.
    fn handle(&self, rows: &mut S, event: &EventRef<'_>) -> Result<(), Box<PoisonEvent>> {
        let reason = match contain(|| self.handler.handle(rows, event)) {
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
