//! Where the events of a log went that was laid out anew: from cuts of the one to cuts of the other.

use std::collections::BTreeMap;

use crate::command_id::content_hash;
use crate::place::{Cut, PartitionId};
use crate::token_error::TokenError;
use crate::varint::{Cursor, RecordError, put_varint};

/// What the bytes of a map begin with: its name, and the version of its form.
const MAGIC: &[u8; 8] = b"anbcuts\x01";
const HASH_BYTES: usize = 16;

/// Which closed cut of a log stands for a cut of the log that it was copied from, when the two are
/// laid out differently.
///
/// It has rows, not every event: for some counts of each old partition the new cut that includes so
/// many of its events, and all that they depend on. What is between two rows is rounded up. So a
/// new cut may have more than the old one, and never less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutMap {
    /// How many rows a partition has before every other one is dropped.
    rows_max: usize,
    parts: BTreeMap<PartitionId, Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// How many of its events are there.
    count: u64,
    /// How many events are between two rows, at least.
    every: u64,
    /// What its events depend on in other old partitions.
    knows: Cut,
    /// The new cut of all of them.
    last: Cut,
    /// Ascending.
    rows: Vec<(u64, Cut)>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            count: 0,
            every: 1,
            knows: Cut::start(),
            last: Cut::start(),
            rows: Vec::new(),
        }
    }
}

impl CutMap {
    /// Nothing is there yet. Each old partition gets at most so many rows, 2 at least.
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows_max: rows_max.max(2),
            parts: BTreeMap::new(),
        }
    }

    /// How much of the old log is there.
    pub fn reached(&self) -> Cut {
        let mut cut = Cut::start();
        for (&partition, part) in &self.parts {
            cut.set(partition, part.count);
        }
        cut
    }

    /// How much of the new log that is.
    pub fn target(&self) -> Cut {
        let mut cut = Cut::start();
        for part in self.parts.values() {
            cut.join(&part.last);
        }
        cut
    }

    /// What the events of an old partition depend on in others, as far as they are there.
    pub fn knows(&self, partition: PartitionId) -> Cut {
        let part = self.parts.get(&partition);
        part.map_or_else(Cut::start, |part| part.knows.clone())
    }

    /// The first `count` events of `partition` are there now: with what they depend on, old
    /// (`causes`) and new (`closure`, which includes them and is closed).
    pub fn note(&mut self, partition: PartitionId, count: u64, causes: &Cut, closure: &Cut) {
        let part = self.parts.entry(partition).or_default();
        part.count = part.count.max(count);
        part.knows.join(causes);
        part.last.join(closure);
        let before = part.rows.last().map_or(0, |(count, _)| *count);
        if part.count < before + part.every {
            return;
        }
        part.rows.push((part.count, part.last.clone()));
        if part.rows.len() > self.rows_max {
            // The newest is among those that stay or is `last`.
            let mut number = 0;
            part.rows.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            part.every *= 2;
        }
    }

    /// The smallest new cut known to include all of an old one. It is closed.
    ///
    /// # Errors
    ///
    /// The old cut has what the old log did not have when it was copied.
    pub fn round_up(&self, old: &Cut) -> Result<Cut, TokenError> {
        let mut new = Cut::start();
        for (partition, count) in old.iter() {
            let beyond = |head| TokenError::BeyondHead {
                partition,
                count,
                head,
            };
            let part = self.parts.get(&partition).ok_or(beyond(0))?;
            if part.count < count {
                return Err(beyond(part.count));
            }
            let at = part.rows.partition_point(|(row, _)| *row < count);
            new.join(part.rows.get(at).map_or(&part.last, |(_, row)| row));
        }
        Ok(new)
    }

    /// Its bytes, as `docs/formats/cuts.md` describes them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_varint(&mut out, self.rows_max as u64);
        put_varint(&mut out, self.parts.len() as u64);
        for (partition, part) in &self.parts {
            put_varint(&mut out, u64::from(partition.0));
            put_varint(&mut out, part.count);
            put_varint(&mut out, part.every);
            put_cut(&mut out, &part.knows);
            put_cut(&mut out, &part.last);
            put_varint(&mut out, part.rows.len() as u64);
            for (count, row) in &part.rows {
                put_varint(&mut out, *count);
                put_cut(&mut out, row);
            }
        }
        let hash = content_hash([&out[..]]);
        out.extend_from_slice(&hash.to_be_bytes());
        out
    }

    /// The map of these bytes.
    ///
    /// # Errors
    ///
    /// They are none of a map, or were changed.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let body_len = bytes.len().checked_sub(HASH_BYTES);
        let (body, hash) = bytes.split_at(body_len.ok_or(RecordError("it ends early"))?);
        if !body.starts_with(MAGIC) {
            return Err(RecordError("it is no map of cuts of version 1"));
        }
        if content_hash([body]).to_be_bytes() != *hash {
            return Err(RecordError("it was changed"));
        }
        let mut from = Cursor {
            bytes: body,
            at: MAGIC.len(),
        };
        let rows_max = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        let mut map = Self::new(rows_max);
        for _ in 0..from.varint()? {
            let partition = take_partition(&mut from)?;
            let (count, every) = (from.varint()?, from.varint()?);
            let (knows, last) = (take_cut(&mut from)?, take_cut(&mut from)?);
            let mut rows = Vec::new();
            for _ in 0..from.varint()? {
                rows.push((from.varint()?, take_cut(&mut from)?));
            }
            let part = Part {
                count,
                every,
                knows,
                last,
                rows,
            };
            map.parts.insert(partition, part);
        }
        match from.at == body.len() {
            true => Ok(map),
            false => Err(RecordError("it goes on behind its end")),
        }
    }
}

fn put_cut(out: &mut Vec<u8>, cut: &Cut) {
    put_varint(out, cut.iter().count() as u64);
    for (partition, count) in cut.iter() {
        put_varint(out, u64::from(partition.0));
        put_varint(out, count);
    }
}

fn take_partition(from: &mut Cursor<'_>) -> Result<PartitionId, RecordError> {
    let id = u32::try_from(from.varint()?);
    id.map(PartitionId)
        .map_err(|_| RecordError("it names no partition"))
}

fn take_cut(from: &mut Cursor<'_>) -> Result<Cut, RecordError> {
    let mut cut = Cut::start();
    for _ in 0..from.varint()? {
        let partition = take_partition(from)?;
        cut.set(partition, from.varint()?);
    }
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(entries: &[(u32, u64)]) -> Cut {
        let mut cut = Cut::start();
        for &(partition, count) in entries {
            cut.set(PartitionId(partition), count);
        }
        cut
    }

    /// A hundred events of partition 3, which went to 1 and 2 in turn.
    fn map(rows_max: usize) -> CutMap {
        let mut map = CutMap::new(rows_max);
        for n in 1..=100_u64 {
            let closure = cut(&[(1, n.div_ceil(2)), (2, n / 2)]);
            map.note(PartitionId(3), n, &cut(&[(0, n / 10)]), &closure);
        }
        map
    }

    #[test]
    fn a_cut_is_rounded_up_and_never_down() {
        for rows_max in [2, 3, 8, 1000] {
            let map = map(rows_max);
            for n in 1..=100_u64 {
                let new = map.round_up(&cut(&[(3, n)])).unwrap();
                let exact = cut(&[(1, n.div_ceil(2)), (2, n / 2)]);
                assert!(new.covers(&exact), "{rows_max}: {n} became {new}");
                if rows_max == 1000 {
                    assert_eq!(new, exact);
                }
            }
            assert!(map.parts[&PartitionId(3)].rows.len() <= rows_max);
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let beyond = map(8).round_up(&cut(&[(3, 101)]));
        let error = TokenError::BeyondHead {
            partition: PartitionId(3),
            count: 101,
            head: 100,
        };
        assert_eq!(beyond, Err(error));
        assert!(map(8).round_up(&cut(&[(4, 1)])).is_err());
        assert_eq!(map(8).round_up(&Cut::start()), Ok(Cut::start()));
    }

    #[test]
    fn a_map_says_how_far_it_goes() {
        let map = map(8);
        assert_eq!(map.reached(), cut(&[(3, 100)]));
        assert_eq!(map.target(), cut(&[(1, 50), (2, 50)]));
        assert_eq!(map.knows(PartitionId(3)), cut(&[(0, 10)]));
    }

    #[test]
    fn every_changed_byte_of_a_map_is_seen() {
        let bytes = map(8).encode();
        assert_eq!(CutMap::decode(&bytes), Ok(map(8)));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(CutMap::decode(&changed).is_err(), "byte {at}");
            assert!(CutMap::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
