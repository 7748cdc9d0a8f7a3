use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Why a name cannot be used. The message says which rule it breaks.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("{what} is empty")]
    Empty {
        /// What was being named.
        what: &'static str,
    },
    /// The name is longer than allowed.
    #[error("{what} has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// What was being named.
        what: &'static str,
        /// How long it is, in bytes.
        bytes: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// The name holds a control character.
    #[error("{what} {name:?} holds a control character at byte {at}; remove it")]
    ControlCharacter {
        /// What was being named.
        what: &'static str,
        /// The offending name.
        name: String,
        /// Where the character stands, in bytes.
        at: usize,
    },
    /// A stream id without `category/key`.
    #[error("stream id {name:?} is not of the form category/key, for example order/536365")]
    NoCategory {
        /// The offending name.
        name: String,
    },
    /// A header with the name of a part of the event.
    #[error("header name {name:?} is the name of an attribute of every event; take another name")]
    Attribute {
        /// The offending name.
        name: String,
    },
    /// A name that belongs to the platform.
    #[error("{what} {name:?} begins with '$', which is reserved for the platform")]
    Reserved {
        /// What was being named.
        what: &'static str,
        /// The offending name.
        name: String,
    },
}

crate::debug_is_words!(NameError);

/// The longest stream id, in bytes.
pub const STREAM_ID_BYTES_MAX: usize = 512;
/// The longest event type, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 255;

pub(crate) fn check_name(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            what,
            bytes: name.len(),
            max,
        });
    }
    if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
        return Err(NameError::ControlCharacter {
            what,
            name: name.to_owned(),
            at,
        });
    }
    Ok(())
}

/// The name of a stream: `category/key`, for example `order/536365`.
///
/// At most 512 bytes, no control characters, both parts non-empty; the key may hold
/// further slashes. It is a name, never a path. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Checks and makes a stream id from its `category/key` form.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        Self::check(name)?;
        if name.starts_with('$') {
            return Err(NameError::Reserved {
                what: "stream id",
                name: name.to_owned(),
            });
        }
        Ok(Self(name.into()))
    }

    /// Makes the id of a stream of the platform itself; its category begins with `$`.
    pub fn system(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        Self::check(name)?;
        Ok(Self(name.into()))
    }

    /// Makes a stream id from its two parts.
    pub fn of(category: &str, key: &str) -> Result<Self, NameError> {
        Self::new(format!("{category}/{key}"))
    }

    fn check(name: &str) -> Result<(), NameError> {
        check_name("stream id", name, STREAM_ID_BYTES_MAX)?;
        match name.split_once('/') {
            Some((category, key)) if !category.is_empty() && !key.is_empty() => Ok(()),
            _ => Err(NameError::NoCategory {
                name: name.to_owned(),
            }),
        }
    }

    /// The whole id, `category/key`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first slash.
    pub fn category(&self) -> &str {
        category_of(&self.0)
    }

    /// The part after the first slash.
    pub fn key(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, key)| key)
    }
}

/// The category of a stream id in text form: what stands before the first slash.
pub(crate) fn category_of(stream: &str) -> &str {
    stream
        .split_once('/')
        .map_or(stream, |(category, _)| category)
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StreamId {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl TryFrom<String> for StreamId {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::system(s)
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for StreamId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What an event says happened: a name in the past tense, for example `OrderPlaced`.
///
/// At most 255 bytes, no control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

impl EventType {
    /// Checks and makes an event type.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        check_name("event type", name, EVENT_TYPE_BYTES_MAX)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl TryFrom<String> for EventType {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl From<EventType> for String {
    fn from(t: EventType) -> String {
        t.0.as_ref().to_owned()
    }
}

/// The unique id of an event, and the idempotency key of its append: a UUID.
///
/// Version 7 is best: ids that grow with time keep the id index small. Any UUID works.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// The id with these 16 bytes, most significant first.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The id as a number, most significant byte first.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// A UUIDv7 from a wall-clock time in milliseconds since 1970 and 74 random bits.
    pub const fn v7(unix_ms: u64, random: u128) -> Self {
        let time = ((unix_ms & 0xffff_ffff_ffff) as u128) << 80;
        let high = ((random >> 62) & 0xfff) << 64;
        let low = random & 0x3fff_ffff_ffff_ffff;
        Self(Uuid::from_u128(
            time | (7u128 << 76) | high | (0b10u128 << 62) | low,
        ))
    }

    /// A UUIDv8 (a custom id, RFC 9562) whose 122 free bits come from a hash of the content.
    pub const fn from_hash(hash: u128) -> Self {
        let cleared = hash & !((0xfu128 << 76) | (0b11u128 << 62));
        Self(Uuid::from_u128(cleared | (8u128 << 76) | (0b10u128 << 62)))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(s).map(Self)
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_id_has_category_and_key() {
        let id = StreamId::new("order/536365/x").unwrap();
        assert_eq!((id.category(), id.key()), ("order", "536365/x"));
    }

    #[test]
    fn bad_stream_ids_are_refused() {
        for bad in ["", "order", "/1", "order/", "a/\u{0}", "a/b\n", "$sys/x"] {
            assert!(StreamId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(StreamId::new("é/".to_owned() + &"x".repeat(509)).is_ok());
        assert!(StreamId::new("é/".to_owned() + &"x".repeat(510)).is_err());
    }

    #[test]
    fn v7_ids_carry_version_variant_and_time() {
        let id = EventId::v7(0x0123_4567_89ab, u128::MAX);
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert!(EventId::v7(1, u128::MAX) < EventId::v7(2, 0));
    }
}
