//! What is lost, as a plan says it.

use std::fmt;

use anabranch_model::{Position, Version};

/// A run of events that no byte is left of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The first event lost.
    pub first: Position,
    /// The last event lost.
    pub last: Position,
    /// The file that held them, or the one beside the gap.
    pub file: String,
    /// Where in it they began, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// What an index still tells of them.
    pub known: Vec<LostEvent>,
}

/// What is still known of a lost event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEvent {
    /// Where it stood.
    pub position: Position,
    /// Its stream, if another event of that stream is left.
    pub stream: Option<String>,
    /// Its version in that stream.
    pub version: Version,
    /// The key under which the indexes know the stream.
    pub(super) key: u128,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, file) = (self.first, self.last, &self.file);
        write!(
            f,
            "events {first}..={last} ({file}, byte {}: {})",
            self.offset, self.what
        )
    }
}
