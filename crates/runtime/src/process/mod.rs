//! Processes and sagas: instances that follow from their journals.
//!
//! An instance is a pure state machine of the domain. Its host decides about its inputs in
//! memory, appends what follows to the instance's journal, and sends only what is durable:
//! intent first. Of two runtimes on one journal never both win; the loser reads the journal
//! again.
//!
//! What is sent and not answered, and every timer, follows from the journal. A runtime that
//! starts goes through the journals that are open and sends again; receivers know what they
//! have seen by its id. Events are consumed from where all that was consumed before is durable;
//! what is consumed twice changes nothing.

mod host;

use anabranch_domain::{Cut, Retry};

pub use host::ProcessHost;
pub(crate) use host::ProcessParts;

use crate::follow::Begin;
use crate::host::HostOptions;

/// How the instances of a process or a saga are hosted.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// How many tasks share the instances.
    pub shards: usize,
    /// How many inputs may wait at one shard before its senders wait.
    pub mailbox_max: usize,
    /// How many instances are kept in memory by each shard, about.
    pub live_max: usize,
    /// When an instance whose code failed is tried again; then it is parked.
    pub restart: Retry,
    /// After how many events of the log the place to begin at is kept, about: a restart looks
    /// through so many.
    pub keep_every: u64,
    /// A snapshot of an instance is kept each so many events of its journal; 0: never.
    pub snapshot_every: u64,
    /// Where it begins to consume, when it is started for the first time. Left out, it does not
    /// start on a log on disk that already holds events which it listens to: what a process sends
    /// because of them cannot be taken back.
    pub begin: Option<Begin>,
}

impl Default for ProcessOptions {
    /// As many shards as the machine runs threads at once, with 10,000 instances each; five
    /// attempts.
    fn default() -> Self {
        let host = HostOptions::default();
        Self {
            shards: host.shards,
            mailbox_max: host.mailbox_max,
            live_max: 10_000,
            restart: host.restart,
            keep_every: 10_000,
            snapshot_every: host.snapshot_every,
            begin: None,
        }
    }
}

impl ProcessOptions {
    /// Begins at the start of the log, when it is started for the first time.
    #[must_use]
    pub fn from_start(self) -> Self {
        self.begins(Begin::Start)
    }

    /// Begins at what is written after it is started for the first time.
    #[must_use]
    pub fn from_now(self) -> Self {
        self.begins(Begin::Now)
    }

    /// Begins behind what `cut` includes, when it is started for the first time.
    #[must_use]
    pub fn from(self, cut: Cut) -> Self {
        self.begins(Begin::At(cut))
    }

    fn begins(mut self, begin: Begin) -> Self {
        self.begin = Some(begin);
        self
    }

    fn host(&self) -> HostOptions {
        HostOptions {
            shards: self.shards,
            mailbox_max: self.mailbox_max,
            snapshot_every: self.snapshot_every,
            // They are not measured.
            memory_max: usize::MAX,
            live_max: self.live_max,
            restart: self.restart,
            ..HostOptions::default()
        }
    }
}
