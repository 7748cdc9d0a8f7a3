use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Index of an event in its stream: 0, 1, 2 …
pub type Version = u64;

/// An ordered part of a log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

/// Where an event stands in the log: partition and offset. Dense: no gaps, ever.
///
/// Text form `partition:offset`, for example `0:42`; a bare `42` means partition 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The partition.
    pub partition: PartitionId,
    /// Place in the partition: 0, 1, 2 …
    pub offset: u64,
}

impl Position {
    /// The position `offset` of partition 0, the only partition of an embedded log.
    pub const fn at(offset: u64) -> Self {
        Self {
            partition: PartitionId(0),
            offset,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition.0, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no position.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a position; write partition:offset, for example 0:42, or just 42")]
pub struct ParsePositionError(pub String);

crate::debug_is_words!(ParsePositionError);

impl FromStr for Position {
    type Err = ParsePositionError;
    fn from_str(s: &str) -> Result<Self, ParsePositionError> {
        let (partition, offset) = s.split_once(':').unwrap_or(("0", s));
        match (partition.parse(), offset.parse()) {
            (Ok(partition), Ok(offset)) => Ok(Self {
                partition: PartitionId(partition),
                offset,
            }),
            _ => Err(ParsePositionError(s.to_owned())),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of prefixes: for each partition, how many of its first events are included.
///
/// A partition that is not named counts 0, so the empty cut includes nothing. Cuts join
/// by the pointwise maximum and are ordered pointwise.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cut(BTreeMap<PartitionId, u64>);

impl Cut {
    /// The cut that includes nothing: the start of the log.
    pub const fn start() -> Self {
        Self(BTreeMap::new())
    }

    /// The cut that includes the first `count` events of partition 0.
    pub fn at(count: u64) -> Self {
        let mut cut = Self::start();
        cut.set(PartitionId(0), count);
        cut
    }

    /// The smallest cut of one partition that includes the event at `position`.
    pub fn including(position: Position) -> Self {
        let mut cut = Self::start();
        // No log has so many; a number from elsewhere may be any.
        cut.set(position.partition, position.offset.saturating_add(1));
        cut
    }

    /// How many events of `partition` are included.
    pub fn get(&self, partition: PartitionId) -> u64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// Includes exactly the first `count` events of `partition`.
    pub fn set(&mut self, partition: PartitionId, count: u64) {
        if count == 0 {
            self.0.remove(&partition);
        } else {
            self.0.insert(partition, count);
        }
    }

    /// Whether the event at `position` is included.
    pub fn includes(&self, position: Position) -> bool {
        self.get(position.partition) > position.offset
    }

    /// Whether every event of `other` is included.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(&p, &count)| self.get(p) >= count)
    }

    /// The union: the pointwise maximum.
    pub fn join(&mut self, other: &Self) {
        for (&partition, &count) in &other.0 {
            if self.get(partition) < count {
                self.set(partition, count);
            }
        }
    }

    /// The partitions with at least one event, ascending, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, u64)> + '_ {
        self.0.iter().map(|(&p, &count)| (p, count))
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0:0");
        }
        for (i, (partition, count)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}:{count}", partition.0)?;
        }
        Ok(())
    }
}

/// A text that is no cut.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a cut; write how many events of each partition, for example 0:5,3:17, or just 5"
)]
pub struct ParseCutError(pub String);

crate::debug_is_words!(ParseCutError);

impl FromStr for Cut {
    type Err = ParseCutError;

    fn from_str(text: &str) -> Result<Self, ParseCutError> {
        let mut cut = Self::start();
        for part in text.split(',') {
            match part.parse::<Position>() {
                Ok(count) if cut.get(count.partition) == 0 => {
                    cut.set(count.partition, count.offset);
                }
                _ => return Err(ParseCutError(text.to_owned())),
            }
        }
        Ok(cut)
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back() {
        assert_eq!("42".parse::<Position>().unwrap(), Position::at(42));
        assert_eq!("0:42".parse::<Position>().unwrap(), Position::at(42));
        assert!("x".parse::<Position>().is_err());
        assert!("1:2:3".parse::<Position>().is_err());
    }

    #[test]
    fn cuts_read_back() {
        for text in ["0:0", "0:5", "0:5,3:17", "2:1"] {
            assert_eq!(text.parse::<Cut>().unwrap().to_string(), text);
        }
        assert_eq!("5".parse::<Cut>().unwrap(), Cut::at(5));
        for text in ["", "x", "0:5,", "0:5,0:6", "0:5 3:17", "1:2:3"] {
            assert!(text.parse::<Cut>().is_err(), "{text}");
        }
    }

    #[test]
    fn join_is_the_pointwise_maximum() {
        let mut a = Cut::at(5);
        a.set(PartitionId(2), 1);
        let mut b = Cut::at(3);
        b.set(PartitionId(1), 7);
        let mut joined = a.clone();
        joined.join(&b);
        assert!(joined.covers(&a) && joined.covers(&b));
        assert_eq!(joined.to_string(), "0:5,1:7,2:1");
        assert!(!a.covers(&b));
    }
}
