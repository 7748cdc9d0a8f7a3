use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::EventId;

/// The unique id of a command, and its idempotency key: sending a command again with the
/// same id changes nothing a second time. A UUID; version 7 is best, any UUID works.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(Uuid);

impl CommandId {
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
        Self::from_u128(EventId::v7(unix_ms, random).as_u128())
    }

    /// The id that follows from what caused the command: the same `source` and `parts` give
    /// the same id on every machine, so that sending it again after a crash is harmless.
    ///
    /// A UUIDv8 that keeps the 48 bits of time of `source`, so that ids made together lie
    /// together; the other bits are a hash of `source` and `parts`.
    pub fn derived(source: u128, parts: &[&[u8]]) -> Self {
        Self(derived(source, parts))
    }

    /// The id of the event number `index`, from 0, that this command records. Ids of one
    /// command follow each other.
    pub fn event_id(self, index: u32) -> EventId {
        let first = EventId::from(derived(self.as_u128(), &[b"event"]));
        EventId::from_u128(first.as_u128().wrapping_add(u128::from(index)))
    }
}

fn derived(source: u128, parts: &[&[u8]]) -> Uuid {
    const TIME: u128 = 0xffff_ffff_ffff << 80;
    let source_bytes = source.to_be_bytes();
    let hash = content_hash(std::iter::once(&source_bytes[..]).chain(parts.iter().copied()));
    let bits = (source & TIME) | (hash & !TIME);
    Uuid::from_u128(EventId::from_hash(bits).as_u128())
}

/// A 128-bit hash of a list of byte strings, the same on every machine and for ever:
/// BLAKE3 over each part after its length (64 bits, little-endian), truncated.
pub fn content_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    u128::from_be_bytes(first)
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for CommandId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(s).map(Self)
    }
}

impl From<Uuid> for CommandId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_every_part_and_on_its_borders() {
        let id = |source, parts: &[&[u8]]| CommandId::derived(source, parts);
        assert_eq!(id(1, &[b"a", b"b"]), id(1, &[b"a", b"b"]));
        assert_ne!(id(1, &[b"a", b"b"]), id(1, &[b"ab"]));
        assert_ne!(id(1, &[b"a", b"b"]), id(2, &[b"a", b"b"]));
        assert_ne!(id(1, &[b"a"]), id(1, &[b"a", b""]));
    }

    /// Stored journals hold these ids, so their computation may never change.
    #[test]
    fn derived_ids_are_fixed_for_ever() {
        let id = CommandId::derived(CommandId::v7(0x0123_4567_89ab, 7).as_u128(), &[b"pay"]);
        assert_eq!(id.to_string(), "01234567-89ab-85bf-bf8f-3cab83f25c99");
        assert_eq!(
            id.event_id(0).to_string(),
            "01234567-89ab-88be-a90e-f59dd9a8942b"
        );
    }

    #[test]
    fn derived_ids_keep_the_time_of_their_source() {
        let source = CommandId::v7(0x0123_4567_89ab, 99);
        let id = CommandId::derived(source.as_u128(), &[b"x"]);
        assert_eq!(id.as_u128() >> 80, 0x0123_4567_89ab);
        assert_eq!(id.as_u128() >> 76 & 0xf, 8);
        assert_eq!(id.event_id(0).as_u128() >> 80, 0x0123_4567_89ab);
        assert_eq!(id.event_id(2).as_u128() - id.event_id(0).as_u128(), 2);
    }
}
