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

use thiserror::Error;

use crate::event::{EventRef, Meta, MetaRef, NewEvent};
use crate::name::EventId;
use crate::place::{PartitionId, Position, Version};

const SAME_STREAM: u8 = 0x01;
const SAME_TYPE: u8 = 0x02;
const ID_STEP: u8 = 0x04;
const HAS_META: u8 = 0x08;
const KNOWN_FLAGS: u8 = SAME_STREAM | SAME_TYPE | ID_STEP | HAS_META;

pub(crate) const META_CONTENT_TYPE: u8 = 1;
const META_SOURCE: u8 = 2;
const META_CAUSATION: u8 = 3;
const META_CORRELATION: u8 = 4;
const META_TRACEPARENT: u8 = 5;
pub(crate) const META_TAG: u8 = 6;
pub(crate) const META_HEADER: u8 = 7;
const META_CAUSES: u8 = 8;
/// Set in the number of a field that a reader must know. A record that has one sets a flag
/// too, so that a reader that does not look at its metadata stops as well.
const META_MUST_KNOW: u8 = 0x40;

/// Bytes that are no record. Checksums keep damaged bytes from getting here, so this
/// tells of a writer that is wrong or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed event record: {0}")]
pub struct RecordError(pub &'static str);

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the records of `events` to `out`. `versions` has one entry for each event.
pub fn encode(out: &mut Vec<u8>, events: &[NewEvent], versions: &[Version]) {
    assert_eq!(events.len(), versions.len(), "one version for each event");
    let mut before: Option<(&NewEvent, Version)> = None;
    for (event, &version) in events.iter().zip(versions) {
        let mut flags = 0;
        let mut id_step = 0;
        if let Some((prior, prior_version)) = before {
            if prior.stream == event.stream && version == prior_version + 1 {
                flags |= SAME_STREAM;
            }
            if prior.event_type == event.event_type && prior.schema_version == event.schema_version
            {
                flags |= SAME_TYPE;
            }
            let step = event.id.as_u128().wrapping_sub(prior.id.as_u128());
            if step < 1 << 56 {
                flags |= ID_STEP;
                id_step = step as u64;
            }
        }
        if event.meta.is_some() {
            flags |= HAS_META;
        }
        out.push(flags);
        if flags & ID_STEP == 0 {
            out.extend_from_slice(&event.id.as_u128().to_be_bytes());
        } else {
            put_varint(out, id_step);
        }
        if flags & SAME_STREAM == 0 {
            put_bytes(out, event.stream.as_str().as_bytes());
            put_varint(out, version);
        }
        if flags & SAME_TYPE == 0 {
            put_bytes(out, event.event_type.as_str().as_bytes());
            put_varint(out, u64::from(event.schema_version));
        }
        if let Some(meta) = &event.meta {
            let mut bytes = Vec::new();
            encode_meta(meta, &mut bytes);
            put_bytes(out, &bytes);
        }
        put_bytes(out, &event.data);
        before = Some((event, version));
    }
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

/// Appends the byte form of `meta` to `out`.
pub fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    let mut put = |tag: u8, value: &[u8]| {
        out.push(tag);
        put_bytes(out, value);
    };
    for (tag, text) in [
        (META_CONTENT_TYPE, &meta.content_type),
        (META_SOURCE, &meta.source),
        (META_CAUSATION, &meta.causation_id),
        (META_CORRELATION, &meta.correlation_id),
        (META_TRACEPARENT, &meta.traceparent),
    ] {
        if let Some(text) = text {
            put(tag, text.as_bytes());
        }
    }
    for tag in &meta.tags {
        put(META_TAG, tag.as_bytes());
    }
    for (name, value) in &meta.headers {
        let mut bytes = Vec::with_capacity(name.len() + value.len() + 2);
        put_bytes(&mut bytes, name.as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        put(META_HEADER, &bytes);
    }
    for (partition, count) in meta.causes.iter() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::from(partition.0));
        put_varint(&mut bytes, count);
        put(META_CAUSES, &bytes);
    }
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<Meta, RecordError> {
    let mut meta = Meta::default();
    for field in meta_fields(bytes) {
        let (tag, value) = field?;
        let text = || {
            std::str::from_utf8(value)
                .map(str::to_owned)
                .map_err(|_| RecordError("a metadata field is not UTF-8"))
        };
        match tag {
            META_CONTENT_TYPE => meta.content_type = Some(text()?),
            META_SOURCE => meta.source = Some(text()?),
            META_CAUSATION => meta.causation_id = Some(text()?),
            META_CORRELATION => meta.correlation_id = Some(text()?),
            META_TRACEPARENT => meta.traceparent = Some(text()?),
            META_TAG => meta.tags.push(text()?),
            META_HEADER => {
                let (name, value) =
                    split_header(value).ok_or(RecordError("a header is malformed"))?;
                meta.headers.insert(name.to_owned(), value.to_owned());
            }
            META_CAUSES => {
                let mut cursor = Cursor {
                    bytes: value,
                    at: 0,
                };
                let partition = u32::try_from(cursor.varint()?)
                    .map_err(|_| RecordError("a cause names no partition"))?;
                meta.causes.set(PartitionId(partition), cursor.varint()?);
            }
            _ if tag & META_MUST_KNOW != 0 => {
                return Err(RecordError(
                    "a metadata field must be understood and is not known here",
                ));
            }
            // A field of a later version: readers that do not know it pass over it.
            _ => {}
        }
    }
    Ok(meta)
}

/// The fields of encoded metadata: tag and value.
pub(crate) fn meta_fields(
    bytes: &[u8],
) -> impl Iterator<Item = Result<(u8, &[u8]), RecordError>> + use<'_> {
    let mut cursor = Cursor { bytes, at: 0 };
    std::iter::from_fn(move || {
        if cursor.at >= cursor.bytes.len() {
            return None;
        }
        let field = (|| {
            let number = cursor.varint()?;
            // Numbers of more than seven bits are nobody's yet: what matters is their bit.
            let tag = match u8::try_from(number) {
                Ok(tag) if tag < 0x80 => tag,
                _ => 0x80 | (number as u8 & META_MUST_KNOW),
            };
            Ok((tag, cursor.run()?))
        })();
        if field.is_err() {
            cursor.at = cursor.bytes.len();
        }
        Some(field)
    })
}

pub(crate) fn split_header(value: &[u8]) -> Option<(&str, &str)> {
    let mut cursor = Cursor {
        bytes: value,
        at: 0,
    };
    let name = std::str::from_utf8(cursor.run().ok()?).ok()?;
    let value = std::str::from_utf8(&value[cursor.at..]).ok()?;
    Some((name, value))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(RecordError("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, RecordError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError("a number is too long"))
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], RecordError> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len))
            .ok_or(RecordError("a length is too large"))?;
        let run = self
            .bytes
            .get(self.at..end)
            .ok_or(RecordError("it ends early"))?;
        self.at = end;
        Ok(run)
    }

    #[inline]
    fn run(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.varint()?;
        self.take(len)
    }

    #[inline]
    fn text(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.run()?).map_err(|_| RecordError("a name is not UTF-8"))
    }
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
