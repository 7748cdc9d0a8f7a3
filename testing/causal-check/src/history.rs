//! What clients did: sessions of transactions of reads and writes.

use std::fmt;

/// What clients wrote and read. From its text by [`str::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The names of the variables; operations name them by index.
    pub variables: Vec<String>,
    /// The sessions. Within one, each transaction comes before the next.
    pub sessions: Vec<Vec<Transaction>>,
}

/// Operations that take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Where it stands in the text.
    pub place: Place,
    /// What it did, in order.
    pub operations: Vec<Operation>,
    /// Whether it took effect. What one that did not has read is not judged.
    pub committed: bool,
}

/// One read or write. A value is written once to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `x:=1`
    Write {
        /// Index of the variable.
        variable: usize,
        /// What was written.
        value: u64,
    },
    /// `x==1`, or `x==?` where nothing was there.
    Read {
        /// Index of the variable.
        variable: usize,
        /// What was read; `None` if nobody had written it.
        value: Option<u64>,
    },
}

/// Where a transaction stands in the text: a line, from 1, and which of the line's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// Which transaction of the line, from 1; 0 where it is the only one.
    pub nth: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => write!(f, "line {}", self.line),
            nth => write!(f, "line {} (transaction {nth})", self.line),
        }
    }
}
