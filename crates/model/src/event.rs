use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::meta::{Meta, MetaRef, encode_meta};
use crate::name::{EventId, EventType, StreamId, category_of};
use crate::place::{Position, Version};

/// An event to append: a fact that the log does not hold yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Unique id: the idempotency key of the append.
    pub id: EventId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// What happened.
    pub event_type: EventType,
    /// Version of the data's schema, from 1.
    pub schema_version: u32,
    /// The data; JSON unless `meta.content_type` says otherwise.
    pub data: Bytes,
    /// Everything else, absent when there is nothing to say. Events may share it.
    pub meta: Option<Arc<Meta>>,
}

impl NewEvent {
    /// An event with schema version 1 and no metadata.
    pub fn new(
        id: EventId,
        stream: StreamId,
        event_type: EventType,
        data: impl Into<Bytes>,
    ) -> Self {
        Self {
            id,
            stream,
            event_type,
            schema_version: 1,
            data: data.into(),
            meta: None,
        }
    }

    /// The metadata, made empty first if there is none.
    pub fn meta_mut(&mut self) -> &mut Meta {
        Arc::make_mut(self.meta.get_or_insert_default())
    }

    /// The same event with one more tag, for example `sku:85123A`.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.meta_mut().tags.push(tag.into());
        self
    }

    /// The same event with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta_mut().headers.insert(name.into(), value.into());
        self
    }
}

/// A stored event, borrowed from the block it was read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// Where it stands in the log.
    pub position: Position,
    /// Where it stands in its stream.
    pub version: Version,
    /// Its unique id.
    pub id: EventId,
    /// When the log recorded it: microseconds since 1970, UTC. Information only.
    pub recorded_at: u64,
    /// The stream, as `category/key`.
    pub stream: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// Version of the data's schema.
    pub schema_version: u32,
    /// The data, as it was appended.
    pub data: &'a [u8],
    /// Headers, tags and the rest.
    pub meta: MetaRef<'a>,
}

impl<'a> EventRef<'a> {
    /// The category of its stream.
    pub fn category(&self) -> &'a str {
        category_of(self.stream)
    }

    /// The key of its stream.
    pub fn key(&self) -> &'a str {
        self.stream.split_once('/').map_or("", |(_, key)| key)
    }

    /// An event of its own, with its own memory.
    pub fn to_event(&self) -> Event {
        let mut bytes = Vec::with_capacity(
            self.stream.len() + self.event_type.len() + self.meta.0.len() + self.data.len(),
        );
        let mut put = |part: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(part);
            (start, bytes.len() as u32)
        };
        let (stream, event_type) = (put(self.stream.as_bytes()), put(self.event_type.as_bytes()));
        let (meta, data) = (put(self.meta.0), put(self.data));
        Event {
            bytes: bytes.into(),
            stream,
            event_type,
            meta,
            data,
            position: self.position,
            version: self.version,
            id: self.id,
            recorded_at: self.recorded_at,
            schema_version: self.schema_version,
        }
    }

    /// An event that shares `bytes`, from which `self` was decoded.
    pub(crate) fn share(&self, bytes: &Bytes) -> Event {
        let base = bytes.as_ptr() as usize;
        let range = |part: &[u8]| {
            if part.is_empty() {
                return (0, 0);
            }
            let start = part.as_ptr() as usize - base;
            (start as u32, (start + part.len()) as u32)
        };
        Event {
            bytes: bytes.clone(),
            stream: range(self.stream.as_bytes()),
            event_type: range(self.event_type.as_bytes()),
            meta: range(self.meta.0),
            data: range(self.data),
            position: self.position,
            version: self.version,
            id: self.id,
            recorded_at: self.recorded_at,
            schema_version: self.schema_version,
        }
    }
}

/// A stored event. Shares memory with the events it was read with, so keeping one event
/// for long keeps its block: use [`Event::detach`] then.
#[derive(Clone)]
pub struct Event {
    bytes: Bytes,
    stream: (u32, u32),
    event_type: (u32, u32),
    meta: (u32, u32),
    data: (u32, u32),
    /// Where it stands in the log.
    pub position: Position,
    /// Where it stands in its stream.
    pub version: Version,
    /// Its unique id.
    pub id: EventId,
    /// When the log recorded it: microseconds since 1970, UTC. Information only.
    pub recorded_at: u64,
    /// Version of the data's schema.
    pub schema_version: u32,
}

impl Event {
    /// The event as it is stored once `new` stands at this place.
    pub fn stored(new: &NewEvent, position: Position, version: Version, recorded_at: u64) -> Self {
        let mut meta = Vec::new();
        if let Some(m) = &new.meta {
            encode_meta(m, &mut meta);
        }
        EventRef {
            position,
            version,
            id: new.id,
            recorded_at,
            stream: new.stream.as_str(),
            event_type: new.event_type.as_str(),
            schema_version: new.schema_version,
            data: &new.data,
            meta: MetaRef(&meta),
        }
        .to_event()
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.bytes[start as usize..end as usize]
    }

    fn text(&self, range: (u32, u32)) -> &str {
        // Decoding checked that these bytes are UTF-8.
        std::str::from_utf8(self.part(range)).unwrap_or_default()
    }

    /// The event as a borrow.
    pub fn as_ref(&self) -> EventRef<'_> {
        EventRef {
            position: self.position,
            version: self.version,
            id: self.id,
            recorded_at: self.recorded_at,
            stream: self.stream(),
            event_type: self.event_type(),
            schema_version: self.schema_version,
            data: self.data(),
            meta: self.meta(),
        }
    }

    /// The stream, as `category/key`.
    pub fn stream(&self) -> &str {
        self.text(self.stream)
    }

    /// The stream's id, checked at append.
    pub fn stream_id(&self) -> StreamId {
        StreamId::system(self.stream()).expect("a stored stream id was checked at append")
    }

    /// The category of its stream.
    pub fn category(&self) -> &str {
        category_of(self.stream())
    }

    /// The key of its stream.
    pub fn key(&self) -> &str {
        self.as_ref().key()
    }

    /// What happened.
    pub fn event_type(&self) -> &str {
        self.text(self.event_type)
    }

    /// The data, as it was appended.
    pub fn data(&self) -> &[u8] {
        self.part(self.data)
    }

    /// The data, sharing the block's memory.
    pub fn data_bytes(&self) -> Bytes {
        self.bytes.slice(self.data.0 as usize..self.data.1 as usize)
    }

    /// Headers, tags and the rest.
    pub fn meta(&self) -> MetaRef<'_> {
        MetaRef(self.part(self.meta))
    }

    /// The same event with memory of its own.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.as_ref().to_event()
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Event");
        s.field("position", &self.position)
            .field("stream", &self.stream())
            .field("version", &self.version)
            .field("type", &self.event_type())
            .field("id", &self.id);
        match std::str::from_utf8(self.data()) {
            Ok(text) => s.field("data", &text),
            Err(_) => s.field("data", &self.data()),
        };
        s.field("meta", &self.meta()).finish()
    }
}
