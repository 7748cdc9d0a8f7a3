//! The byte form of the events of one batch, as engines store them.
//!
//! A *body* is a run of records, one after another, nothing between. All integers are
//! unsigned LEB128 varints unless said otherwise.
//!
//! ```text
//! record   := flags:u8 id stream? version? type? meta? data
//! flags    := 0x01 stream repeats the record before   0x02 type and schema repeat
//!             0x04 id is a step from the id before    0x08 meta is present
//! id       := 16 bytes big-endian | varint(id - id before)           with 0x04
//! stream   := varint(length) UTF-8                                   without 0x01
//! version  := varint                     without 0x01; else the version before + 1
//! type     := varint(length) UTF-8 varint(schema version)            without 0x02
//! meta     := varint(length) field*                                  with 0x08
//! field    := tag:u8 varint(length) value
//! data     := varint(length) bytes
//! ```

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::event::{EventRef, NewEvent};
use crate::meta::MetaRef;
use crate::name::{EventId, EventType, NameError, StreamId};
use crate::place::{Position, Version};

pub use crate::meta::encode_meta;
pub use crate::varint::{Cursor, RecordError, put_bytes, put_varint};

const SAME_STREAM: u8 = 0x01;
const SAME_TYPE: u8 = 0x02;
const ID_STEP: u8 = 0x04;
const HAS_META: u8 = 0x08;
const KNOWN_FLAGS: u8 = SAME_STREAM | SAME_TYPE | ID_STEP | HAS_META;

/// What a record says, but for its meta.
struct Said<'a> {
    id: u128,
    stream: &'a str,
    version: Version,
    event_type: &'a str,
    schema_version: u32,
    data: &'a [u8],
}

/// Appends one record to `out`; it leaves out what it has in common with the one `before`.
#[inline]
fn put(out: &mut Vec<u8>, before: Option<&Said<'_>>, event: &Said<'_>, meta: Option<&[u8]>) {
    let mut flags = 0;
    let mut id_step = 0;
    if let Some(prior) = before {
        if prior.stream == event.stream && event.version == prior.version.wrapping_add(1) {
            flags |= SAME_STREAM;
        }
        if prior.event_type == event.event_type && prior.schema_version == event.schema_version {
            flags |= SAME_TYPE;
        }
        let step = event.id.wrapping_sub(prior.id);
        if step < 1 << 56 {
            flags |= ID_STEP;
            id_step = step as u64;
        }
    }
    if meta.is_some() {
        flags |= HAS_META;
    }
    out.push(flags);
    if flags & ID_STEP == 0 {
        out.extend_from_slice(&event.id.to_be_bytes());
    } else {
        put_varint(out, id_step);
    }
    if flags & SAME_STREAM == 0 {
        put_bytes(out, event.stream.as_bytes());
        put_varint(out, event.version);
    }
    if flags & SAME_TYPE == 0 {
        put_bytes(out, event.event_type.as_bytes());
        put_varint(out, u64::from(event.schema_version));
    }
    if let Some(meta) = meta {
        put_bytes(out, meta);
    }
    put_bytes(out, event.data);
}

/// Appends the records of `events` to `out`. `versions` has one entry for each event.
pub fn encode(out: &mut Vec<u8>, events: &[NewEvent], versions: &[Version]) {
    assert_eq!(events.len(), versions.len(), "one version for each event");
    encode_by(out, events, |at| versions[at]);
}

/// Appends the records of events that have no versions yet to `out`, for a log elsewhere:
/// [`decode_new`] reads them.
pub fn encode_new(out: &mut Vec<u8>, events: &[NewEvent]) {
    // So that a stream is left out where it repeats.
    encode_by(out, events, |at| at as Version);
}

#[inline]
fn encode_by(out: &mut Vec<u8>, events: &[NewEvent], version: impl Fn(usize) -> Version) {
    let mut before: Option<Said<'_>> = None;
    let mut meta = Vec::new();
    for (at, event) in events.iter().enumerate() {
        meta.clear();
        if let Some(of_it) = &event.meta {
            encode_meta(of_it, &mut meta);
        }
        let said = Said {
            id: event.id.as_u128(),
            stream: event.stream.as_str(),
            version: version(at),
            event_type: event.event_type.as_str(),
            schema_version: event.schema_version,
            data: &event.data,
        };
        let meta = event.meta.is_some().then_some(&*meta);
        put(out, before.as_ref(), &said, meta);
        before = Some(said);
    }
}

/// Why records are no events to append.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum NewEventError {
    /// They are no records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A stream or a type is called as none can be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// They would take more memory than they may.
    #[error("the events take more memory than one message may: split it")]
    TooLarge,
}

crate::debug_is_words!(NewEventError);

/// The events that [`encode_new`] has written. Their data shares the memory of `body`. `room` bounds,
/// in bytes of memory, what their parts take; `weight` says how much that is of an event with so many
/// fields of metadata, and is taken off it.
pub fn decode_new(
    body: &Bytes,
    room: &mut usize,
    weight: fn(usize) -> usize,
) -> Result<Vec<NewEvent>, NewEventError> {
    let mut events: Vec<NewEvent> = Vec::new();
    for event in Records::new(body, Position::at(0), 0) {
        let event = event?;
        let left = room.checked_sub(weight(event.meta.count()));
        *room = left.ok_or(NewEventError::TooLarge)?;
        let before = events.last();
        let stream = match before {
            Some(before) if before.stream.as_str() == event.stream => before.stream.clone(),
            // Services write streams of the platform, such as `$checkpoint/…`, by the same way.
            _ => StreamId::system(event.stream)?,
        };
        let event_type = match before {
            Some(before) if before.event_type.as_str() == event.event_type => {
                before.event_type.clone()
            }
            _ => EventType::new(event.event_type)?,
        };
        events.push(NewEvent {
            id: event.id,
            stream,
            event_type,
            schema_version: event.schema_version.max(1),
            data: body.slice_ref(event.data),
            meta: match event.meta.is_empty() {
                true => None,
                false => Some(Arc::new(event.meta.decode()?)),
            },
        });
    }
    Ok(events)
}

/// Appends the record of a stored event to `out`, behind that of `before`; none: it is the first of
/// its body.
pub fn encode_stored(out: &mut Vec<u8>, before: Option<&EventRef<'_>>, event: &EventRef<'_>) {
    fn said<'a>(event: &EventRef<'a>) -> Said<'a> {
        Said {
            id: event.id.as_u128(),
            stream: event.stream,
            version: event.version,
            event_type: event.event_type,
            schema_version: event.schema_version,
            data: event.data,
        }
    }
    let meta = (!event.meta.is_empty()).then_some(event.meta.0);
    put(out, before.map(said).as_ref(), &said(event), meta);
}

/// The most bytes of one cause: its tag, a length of one byte, a partition and an offset.
const CAUSE_LEN_MAX: usize = 1 + 1 + 5 + 10;

/// The most bytes that [`encode`] can write for these events.
pub fn encoded_len_max(events: &[NewEvent]) -> usize {
    let len = |event: &NewEvent| {
        let meta = event.meta.as_ref().map_or(0, |m| {
            let text = |t: &Option<String>| t.as_ref().map_or(0, |t| t.len() + 6);
            let headers: usize = m.headers.iter().map(|(k, v)| k.len() + v.len() + 12).sum();
            let tags: usize = m.tags.iter().map(|t| t.len() + 6).sum();
            text(&m.content_type)
                + text(&m.source)
                + text(&m.causation_id)
                + text(&m.correlation_id)
                + text(&m.traceparent)
                + headers
                + tags
                + m.causes.iter().count() * CAUSE_LEN_MAX
                + 16
        });
        event.stream.as_str().len() + event.event_type.as_str().len() + event.data.len() + meta + 56
    };
    events.iter().map(len).sum()
}

/// Reads the records of one body.
pub struct Records<'a> {
    cursor: Cursor<'a>,
    next: Position,
    recorded_at: u64,
    id: u128,
    stream: &'a str,
    version: Version,
    event_type: &'a str,
    schema_version: u32,
    started: bool,
}

impl<'a> Records<'a> {
    /// Reads `body`, whose first event stands at `first` and was recorded at `recorded_at`.
    #[inline]
    pub fn new(body: &'a [u8], first: Position, recorded_at: u64) -> Self {
        Self {
            cursor: Cursor { bytes: body, at: 0 },
            next: first,
            recorded_at,
            id: 0,
            stream: "",
            version: 0,
            event_type: "",
            schema_version: 0,
            started: false,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<EventRef<'a>, RecordError> {
        let flags = self.cursor.byte()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(RecordError("unknown flags"));
        }
        if !self.started && flags & (SAME_STREAM | SAME_TYPE | ID_STEP) != 0 {
            return Err(RecordError("the first record repeats one before"));
        }
        self.started = true;
        if flags & ID_STEP == 0 {
            let bytes = self.cursor.take(16)?;
            let bytes: [u8; 16] = bytes.try_into().map_err(|_| RecordError("it ends early"))?;
            self.id = u128::from_be_bytes(bytes);
        } else {
            self.id = self.id.wrapping_add(u128::from(self.cursor.varint()?));
        }
        if flags & SAME_STREAM == 0 {
            self.stream = self.cursor.text()?;
            self.version = self.cursor.varint()?;
        } else {
            self.version = self.version.wrapping_add(1);
        }
        if flags & SAME_TYPE == 0 {
            self.event_type = self.cursor.text()?;
            self.schema_version = u32::try_from(self.cursor.varint()?)
                .map_err(|_| RecordError("the schema version is too large"))?;
        }
        let meta = if flags & HAS_META == 0 {
            &[]
        } else {
            self.cursor.run()?
        };
        let data = self.cursor.run()?;
        let position = self.next;
        self.next.offset = self.next.offset.wrapping_add(1);
        Ok(EventRef {
            position,
            version: self.version,
            id: EventId::from_u128(self.id),
            recorded_at: self.recorded_at,
            stream: self.stream,
            event_type: self.event_type,
            schema_version: self.schema_version,
            data,
            meta: MetaRef(meta),
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<EventRef<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.at >= self.cursor.bytes.len() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.cursor.at = self.cursor.bytes.len();
        }
        Some(record)
    }
}
