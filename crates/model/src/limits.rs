use thiserror::Error;

use crate::event::NewEvent;
use crate::json::{ATTRIBUTES, is_json_media_type};
use crate::json_text::{JsonTextError, check_json};
use crate::name::{NameError, check_name};

/// How large the parts of an append may be. Checked before anything is buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest `data` of one event, in bytes.
    pub data_bytes_max: usize,
    /// The largest sum of header names and values, tags, ids and causes of one event, in
    /// bytes; each partition of the causes counts 16.
    pub headers_bytes_max: usize,
    /// The largest batch, in bytes of data and metadata.
    pub batch_bytes_max: usize,
    /// The most events of one batch.
    pub batch_events_max: usize,
    /// The most tags of one event.
    pub tags_max: usize,
    /// The most conditions of one append; the types and tags of a query count as well.
    pub conditions_max: usize,
}

/// What one partition of an event's causes counts, in bytes.
const CAUSE_BYTES: usize = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            data_bytes_max: 1 << 20,
            headers_bytes_max: 16 << 10,
            batch_bytes_max: 16 << 20,
            batch_events_max: 10_000,
            tags_max: 64,
            conditions_max: 1_000,
        }
    }
}

/// Why an append is too large or malformed. Nothing of it was written.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum LimitError {
    /// A batch without events.
    #[error("the batch has no events; an append writes at least one")]
    EmptyBatch,
    /// Too many events.
    #[error("the batch has {count} events; at most {max} are allowed: split it")]
    BatchEvents {
        /// How many it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
    /// Too many bytes.
    #[error("the batch has {bytes} bytes; at most {max} are allowed: split it")]
    BatchBytes {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// One event's data is too large.
    #[error(
        "event {index} has {bytes} bytes of data; at most {max} are allowed: store large content elsewhere and append a reference"
    )]
    DataBytes {
        /// Which event of the batch, from 0.
        index: usize,
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// One event's data is called JSON and is none.
    #[error(
        "event {index}: its data is not JSON that every reader can read: {source}; name the media type of data that is no JSON as its content type"
    )]
    NotJson {
        /// Which event of the batch, from 0.
        index: usize,
        /// What is wrong with the data.
        source: JsonTextError,
    },
    /// One event's metadata is too large.
    #[error("event {index} has {bytes} bytes of headers and tags; at most {max} are allowed")]
    HeadersBytes {
        /// Which event of the batch, from 0.
        index: usize,
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// One event has too many tags.
    #[error("event {index} has {count} tags; at most {max} are allowed")]
    Tags {
        /// Which event of the batch, from 0.
        index: usize,
        /// How many it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
    /// Too many conditions.
    #[error(
        "the append has {count} conditions, types and tags of queries included; at most {max} are allowed"
    )]
    Conditions {
        /// How many it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
    /// A header, tag or content type that is no name.
    #[error("event {index}: {source}")]
    Name {
        /// Which event of the batch, from 0.
        index: usize,
        /// What is wrong with it.
        source: NameError,
    },
    /// One id twice in one batch.
    #[error("events {first} and {second} of the batch have the same id; ids are unique")]
    RepeatedId {
        /// The first of the two, from 0.
        first: usize,
        /// The second of the two, from 0.
        second: usize,
    },
}

crate::debug_is_words!(LimitError);

impl Limits {
    /// Checks the shape and size of a batch; does not check that its ids are unique.
    pub fn check(&self, events: &[NewEvent]) -> Result<(), LimitError> {
        self.check_shape(events)?;
        for (index, event) in events.iter().enumerate() {
            check_data(event).map_err(|source| LimitError::NotJson { index, source })?;
        }
        Ok(())
    }

    /// As [`Limits::check`], but for the JSON: for those who have just written it, and whose log
    /// looks at it once more.
    pub fn check_shape(&self, events: &[NewEvent]) -> Result<(), LimitError> {
        if events.is_empty() {
            return Err(LimitError::EmptyBatch);
        }
        if events.len() > self.batch_events_max {
            return Err(LimitError::BatchEvents {
                count: events.len(),
                max: self.batch_events_max,
            });
        }
        let mut batch_bytes = 0;
        for (index, event) in events.iter().enumerate() {
            batch_bytes += self.shape_bytes(index, event)?;
        }
        if batch_bytes > self.batch_bytes_max {
            return Err(LimitError::BatchBytes {
                bytes: batch_bytes,
                max: self.batch_bytes_max,
            });
        }
        Ok(())
    }

    /// Checks one event, the `index`-th of its batch, by itself; returns how much it adds to the
    /// bytes of the batch.
    pub fn check_event(&self, index: usize, event: &NewEvent) -> Result<usize, LimitError> {
        let bytes = self.shape_bytes(index, event)?;
        check_data(event).map_err(|source| LimitError::NotJson { index, source })?;
        Ok(bytes)
    }

    fn shape_bytes(&self, index: usize, event: &NewEvent) -> Result<usize, LimitError> {
        if event.data.len() > self.data_bytes_max {
            return Err(LimitError::DataBytes {
                index,
                bytes: event.data.len(),
                max: self.data_bytes_max,
            });
        }
        let name = |result: Result<(), NameError>| {
            result.map_err(|source| LimitError::Name { index, source })
        };
        let mut meta_bytes = 0;
        if let Some(meta) = event.meta.as_deref() {
            if meta.tags.len() > self.tags_max {
                return Err(LimitError::Tags {
                    index,
                    count: meta.tags.len(),
                    max: self.tags_max,
                });
            }
            for tag in &meta.tags {
                meta_bytes += tag.len();
                name(check_name("tag", tag, 255))?;
            }
            for (key, value) in &meta.headers {
                meta_bytes += key.len() + value.len();
                name(check_header_name(key))?;
            }
            for (what, text) in [
                ("content type", &meta.content_type),
                ("correlation id", &meta.correlation_id),
                ("causation id", &meta.causation_id),
                ("traceparent", &meta.traceparent),
                ("source", &meta.source),
            ] {
                if let Some(text) = text {
                    meta_bytes += text.len();
                    name(check_name(what, text, 1024))?;
                }
            }
            meta_bytes += CAUSE_BYTES * meta.causes.iter().count();
        }
        if meta_bytes > self.headers_bytes_max {
            return Err(LimitError::HeadersBytes {
                index,
                bytes: meta_bytes,
                max: self.headers_bytes_max,
            });
        }
        Ok(event.data.len() + meta_bytes + event.stream.as_str().len() + 64)
    }
}

/// Data that is called JSON is JSON, or absent: whoever reads it later can.
fn check_data(event: &NewEvent) -> Result<(), JsonTextError> {
    let media_type = event
        .meta
        .as_deref()
        .and_then(|m| m.content_type.as_deref());
    if event.data.is_empty() || !media_type.is_none_or(is_json_media_type) {
        return Ok(());
    }
    check_json(&event.data)
}

fn check_header_name(name: &str) -> Result<(), NameError> {
    if ATTRIBUTES.contains(&name) {
        return Err(NameError::Attribute {
            name: name.to_owned(),
        });
    }
    check_name("header name", name, 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, EventType, StreamId};

    #[test]
    fn a_header_cannot_take_the_name_of_an_attribute() {
        let id = EventId::from_u128(1);
        let stream = StreamId::new("order/1").unwrap();
        let event = NewEvent::new(id, stream, EventType::new("Placed").unwrap(), "{}");
        let limits = Limits::default();
        assert!(
            limits
                .check(&[event.clone().with_header("shop", "x")])
                .is_ok()
        );
        for taken in ATTRIBUTES {
            let event = event.clone().with_header(taken, "x");
            assert!(
                matches!(limits.check(&[event]), Err(LimitError::Name { .. })),
                "{taken} was accepted"
            );
        }
    }
}
