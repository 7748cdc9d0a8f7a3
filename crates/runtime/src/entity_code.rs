//! What of an entity's code is the same for all of its kind: how its events and commands are read, and
//! what it tells the others, in the same append as what it keeps to itself.

use std::sync::Arc;

use anabranch_domain::{CommandReader, Entity, Event, Newer, Publishes, Reader, SchemaError};
use anabranch_model::{EventId, EventType, NewEvent, StreamId, content_hash};

use crate::panics::contain;

/// The code of the entities of one type.
pub struct EntityCode<E: Entity> {
    pub reader: Reader<E::Event>,
    pub commands: CommandReader<E::Command>,
    publish: Option<Publish<E>>,
}

impl<E: Entity> EntityCode<E> {
    pub fn new(newer: Arc<Newer>, publish: Option<Publish<E>>) -> Result<Arc<Self>, SchemaError> {
        // Code that panics at the sight of a command does so when one comes.
        let commands = contain(|| CommandReader::new(E::command_upcasts()));
        Ok(Arc::new(Self {
            reader: Reader::taught(newer)?,
            commands: commands.unwrap_or_else(|_| Ok(CommandReader::plain()))?,
            publish,
        }))
    }

    /// What others are told of these events.
    pub fn published(&self, state: &E, stored: &[NewEvent]) -> Result<Vec<NewEvent>, String> {
        match self.publish {
            Some(publish) => publish(state, stored),
            None => Ok(Vec::new()),
        }
    }
}

/// What others are told of events that an entity in this state has recorded.
pub type Publish<E> = fn(&E, &[NewEvent]) -> Result<Vec<NewEvent>, String>;

/// What others are told of these events.
pub fn published<E: Publishes>(state: &E, stored: &[NewEvent]) -> Result<Vec<NewEvent>, String> {
    let told = stored.iter().map(|stored| told(state, stored));
    let told = told.collect::<Result<Vec<_>, _>>()?;
    Ok(told.into_iter().flatten().collect())
}

fn told<E: Publishes>(state: &E, stored: &NewEvent) -> Result<Option<NewEvent>, String> {
    let name = stored.event_type.as_str();
    if E::Event::version_of(name).is_none() {
        // The platform's own note.
        return Ok(None);
    }
    let event = E::Event::decode(name, stored.schema_version, &stored.data);
    let event = event.map_err(|error| error.to_string())?;
    let Some(published) = state.publish(&event) else {
        return Ok(None);
    };
    let (kind, mut data) = (published.kind(), Vec::new());
    let encoded = published.encode(&mut data);
    encoded.map_err(|error| error.to_string())?;
    let made = new_event(stored, E::PUBLISHED, kind.name, kind.version, data);
    made.map(Some)
}

/// It follows from `stored`, and has an id that follows from that one's. Compiled once.
fn new_event(
    stored: &NewEvent,
    category: &str,
    name: &str,
    version: u32,
    data: Vec<u8>,
) -> Result<NewEvent, String> {
    let stream = StreamId::of(category, stored.stream.key()).map_err(|error| error.to_string())?;
    let name = EventType::new(name).map_err(|error| error.to_string())?;
    let of = stored.id.as_u128().to_be_bytes();
    let id = EventId::from_hash(content_hash([&of[..], b"published"]));
    let mut new = NewEvent::new(id, stream, name, data);
    new.schema_version = version;
    let mut meta = stored.meta.as_deref().cloned().unwrap_or_default();
    meta.causation_id = Some(stored.id.to_string());
    // These are about the command.
    meta.headers.clear();
    new.meta = Some(Arc::new(meta));
    Ok(new)
}
