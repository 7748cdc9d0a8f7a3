use std::path::PathBuf;
use std::time::Duration;

use crate::bare;
use crate::peers::Peer;
use crate::workload::Workload;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The work.
    pub workload: Workload,
    /// How long each contender appends, over all rounds.
    pub seconds: Duration,
    /// How many rounds.
    pub rounds: usize,
    /// The size of the file that the bare loop writes ahead, in bytes.
    pub bare_file_bytes: u64,
    /// Which other systems do the same work.
    pub peers: Vec<Peer>,
    /// Whether the log does the same work behind a server in a process of its own, too.
    pub served: bool,
    /// Below which directory to write. The measurement makes one of its own there.
    pub dir: PathBuf,
    /// Whether that directory stays.
    pub keep: bool,
}

impl Config {
    /// The usual measurement of `workload`, with its files below `dir`.
    pub fn new(workload: Workload, dir: PathBuf) -> Self {
        Self {
            workload,
            seconds: Duration::from_secs(10),
            rounds: 5,
            bare_file_bytes: bare::FILE_BYTES,
            peers: Vec::new(),
            served: false,
            dir,
            keep: false,
        }
    }
}

/// What to measure of the log in PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseConfig {
    /// Of this the clients and the batch are the measurement's own.
    pub workload: Workload,
    /// Partitions of the log besides that of system streams; 0: one alone.
    pub partitions: u32,
    /// How long each contender appends, over all rounds.
    pub seconds: Duration,
    /// How many rounds.
    pub rounds: usize,
    /// Below which directory to write. The measurement makes one of its own there.
    pub dir: PathBuf,
    /// Whether that directory stays.
    pub keep: bool,
}
