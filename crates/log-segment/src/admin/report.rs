use std::fmt;

use anabranch_model::Position;

/// How far a long piece of work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The file at hand.
    pub file: String,
    /// Bytes done, over all files.
    pub bytes_done: u64,
    /// Bytes to do, over all files.
    pub bytes_total: u64,
}

/// Something in a log's files that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The first and the last event that cannot be read; `None` if all of them can.
    pub events: Option<(Position, Position)>,
    /// What is wrong.
    pub what: String,
    /// Whether the log mends it by itself, without loss, at the next opening or when it is
    /// used. What does not heal waits for [`plan_repair`](crate::plan_repair).
    pub heals: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.file, self.offset, self.what)?;
        match self.events {
            Some((first, last)) => write!(f, "; events {first}..={last} cannot be read"),
            None if self.heals => f.write_str("; no event is lost, it heals by itself"),
            None => f.write_str("; no event is lost"),
        }
    }
}

/// Something worth knowing that is no damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The file's name.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is there.
    pub what: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.file, self.offset, self.what)
    }
}

/// What [`verify`](crate::verify) found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Events that were read and are as they were written.
    pub events: u64,
    /// Batches that were read.
    pub frames: u64,
    /// Bytes that were read, of all files.
    pub bytes: u64,
    /// Files that were read.
    pub files: u64,
    /// The number of events of the log, lost ones included.
    pub end: u64,
    /// How many events were known to be on the disk when the check began.
    pub durable: u64,
    /// Whether a writer was at work; what lay beyond the durable mark was not judged then.
    pub beside_writer: bool,
    /// Everything that is not as it was written, by file and offset.
    pub damages: Vec<Damage>,
    /// What else there is: torn tails, files kept aside, files of others.
    pub remarks: Vec<Remark>,
}

impl VerifyReport {
    /// Whether every byte that counts is as it was written.
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty()
    }

    /// How many events cannot be read.
    pub fn lost(&self) -> u64 {
        let runs = self.damages.iter().filter_map(|damage| damage.events);
        runs.map(|(first, last)| last.offset - first.offset + 1)
            .sum()
    }
}
