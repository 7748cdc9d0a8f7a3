//! What the scenarios need of a log.

use std::sync::Arc;

use anabranch_log::{Layout, Log};

use crate::slow::Slow;

/// A log with several partitions, as those who write and those who read have it.
pub trait Engine: Send + Sync {
    /// The log, for those who write.
    fn log(&self) -> Arc<dyn Log>;

    /// The same log for readers far away: what `slow` holds back, their reads do not give them. How
    /// far the log goes they know. Whatever a read has taken of a partition is told to `slow`.
    fn behind(&self, slow: &Arc<Slow>) -> Arc<dyn Log>;
}

/// Two partitions for hops, six for the rest; and one that holds system streams.
pub fn layout() -> Layout {
    let hops = "hops=hop:2".parse().unwrap();
    Layout::new(vec![hops], 6).unwrap()
}
