//! What an event may carry beside its data, and its byte form: a field of a [record](crate::record).

use std::collections::BTreeMap;
use std::fmt;

use crate::place::{Cut, PartitionId};
use crate::varint::{Cursor, RecordError, put_bytes, put_varint};

const META_CONTENT_TYPE: u8 = 1;
const META_SOURCE: u8 = 2;
const META_CAUSATION: u8 = 3;
const META_CORRELATION: u8 = 4;
const META_TRACEPARENT: u8 = 5;
const META_TAG: u8 = 6;
const META_HEADER: u8 = 7;
const META_CAUSES: u8 = 8;
/// Set in the number of a field that a reader must know. A record that has one sets a flag
/// too, so that a reader that does not look at its metadata stops as well.
const META_MUST_KNOW: u8 = 0x40;

/// What an event may carry beside its data. All of it is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Media type of the data; `None` means `application/json`.
    pub content_type: Option<String>,
    /// The service that wrote it.
    pub source: Option<String>,
    /// Id of the command or event that caused it.
    pub causation_id: Option<String>,
    /// Id of the whole story it belongs to.
    pub correlation_id: Option<String>,
    /// W3C trace context, so that consumers can link to the producer's trace.
    pub traceparent: Option<String>,
    /// Labels for finding events and for append conditions, by custom `key:value`.
    pub tags: Vec<String>,
    /// The user's own names and values.
    pub headers: BTreeMap<String, String>,
    /// What it depends on beyond its own partition's prefix; empty on a one-partition log.
    pub causes: Cut,
}

impl Meta {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The metadata of a stored event, decoded on demand.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct MetaRef<'a>(pub(crate) &'a [u8]);

impl<'a> MetaRef<'a> {
    /// What [`encode_meta`] has written, kept elsewhere than in a record.
    pub const fn of_encoded(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many fields it has: tags, headers and causes count one each.
    pub fn count(&self) -> usize {
        meta_fields(self.0).count()
    }

    /// All of it, decoded.
    pub fn decode(&self) -> Result<Meta, RecordError> {
        decode_meta(self.0)
    }

    /// The tags, in the order they were written.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        meta_fields(self.0).filter_map(|field| match field {
            Ok((META_TAG, value)) => std::str::from_utf8(value).ok(),
            _ => None,
        })
    }

    /// The value of one header.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        meta_fields(self.0)
            .find_map(|field| match field {
                Ok((META_HEADER, value)) => split_header(value).filter(|(key, _)| *key == name),
                _ => None,
            })
            .map(|(_, value)| value)
    }

    /// What it depends on beyond its own partition's prefix.
    pub fn causes(&self) -> Result<Cut, RecordError> {
        let mut causes = Cut::start();
        for field in meta_fields(self.0) {
            if let (META_CAUSES, value) = field? {
                put_cause(&mut causes, value)?;
            }
        }
        Ok(causes)
    }

    /// Media type of the data; `None` means `application/json`.
    pub fn content_type(&self) -> Option<&'a str> {
        meta_fields(self.0).find_map(|field| match field {
            Ok((META_CONTENT_TYPE, value)) => std::str::from_utf8(value).ok(),
            _ => None,
        })
    }
}

impl fmt::Debug for MetaRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decode() {
            Ok(meta) => fmt::Debug::fmt(&meta, f),
            Err(error) => write!(f, "<{error}>"),
        }
    }
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

fn decode_meta(bytes: &[u8]) -> Result<Meta, RecordError> {
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
            META_CAUSES => put_cause(&mut meta.causes, value)?,
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

fn put_cause(causes: &mut Cut, value: &[u8]) -> Result<(), RecordError> {
    let mut cursor = Cursor {
        bytes: value,
        at: 0,
    };
    let partition =
        u32::try_from(cursor.varint()?).map_err(|_| RecordError("a cause names no partition"))?;
    causes.set(PartitionId(partition), cursor.varint()?);
    Ok(())
}

/// The fields of encoded metadata: tag and value.
fn meta_fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), RecordError>> + use<'_> {
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

fn split_header(value: &[u8]) -> Option<(&str, &str)> {
    let mut cursor = Cursor {
        bytes: value,
        at: 0,
    };
    let name = std::str::from_utf8(cursor.run().ok()?).ok()?;
    let value = std::str::from_utf8(&value[cursor.at..]).ok()?;
    Some((name, value))
}
