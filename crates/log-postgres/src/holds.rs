//! Reads that are held back, in tests.

use std::fmt;
use std::task::Context;

use anabranch_model::PartitionId;

/// Holds back what reads over several partitions are given, and is told what they have taken.
pub trait Holds: fmt::Debug + Send + Sync {
    /// So many events of a partition are given. Who waits for more is woken.
    fn limit(&self, partition: PartitionId, cx: &Context<'_>) -> u64;

    /// A read has taken what is before `end`, whether it is shown yet or not.
    fn took(&self, partition: PartitionId, end: u64);
}
