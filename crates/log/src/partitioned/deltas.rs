//! What the events of one partition say of their causes, by offset: found without reading the
//! events, so that a reader who leaves some out still learns what they depend on.

use std::collections::BTreeMap;

use anabranch_model::record::RecordError;
use anabranch_model::{Cut, EventBatch, EventId, PartitionId};

use super::causes::{Counts, join};
use super::kept::{Entry, Kept, Mark};

/// After so many entries it is written down what all before them come to.
const CHECKPOINT: usize = 64;
/// So many appends whose predecessors are not known yet are remembered; the rest is read.
const WAITING_MAX: usize = 1_024;

/// A partition's index of deltas.
pub(super) struct Deltas {
    partition: PartitionId,
    /// The deltas of so many first events are here.
    known_to: u64,
    /// Ascending by offset.
    entries: Vec<Entry>,
    /// What comes before every `CHECKPOINT`th entry, joined.
    checkpoints: Vec<Counts>,
    /// All entries, joined.
    all: Counts,
    /// Appends beyond `known_to`, by their first offset.
    waiting: BTreeMap<u64, Known>,
    /// The id of the last event before `known_to`.
    last: Option<EventId>,
    /// Where all of this is kept, if anywhere.
    kept: Option<Kept>,
}

/// What is known of an append.
pub(super) struct Known {
    /// It stands before this offset.
    pub end: u64,
    pub delta: Cut,
    /// The id of its last event.
    pub last: EventId,
}

impl Deltas {
    /// Of a partition of so many.
    pub fn new(partition: PartitionId, partitions: usize) -> Self {
        Self {
            partition,
            known_to: 0,
            entries: Vec::new(),
            checkpoints: Vec::new(),
            all: vec![0; partitions],
            waiting: BTreeMap::new(),
            last: None,
            kept: None,
        }
    }

    /// Begins with what was kept, which the event before `mark` agrees with.
    pub fn restore(&mut self, entries: Vec<Entry>, mark: Mark, last: EventId) {
        for entry in entries {
            self.push_entry(entry);
        }
        self.known_to = mark.known_to;
        self.last = Some(last);
    }

    /// Keeps what comes there.
    pub fn keep(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    /// Writes what is not kept yet. Where that fails, nothing more is kept: next time the
    /// events are read instead.
    pub fn write(&mut self) {
        if let (Some(kept), Some(last)) = (&mut self.kept, self.last)
            && kept.write(Mark::new(self.known_to, last)).is_err()
        {
            self.kept = None;
        }
    }

    pub fn known_to(&self) -> u64 {
        self.known_to
    }

    /// An append stands from `first` on.
    pub fn learn(&mut self, first: u64, known: Known) {
        if first > self.known_to {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.insert(first, known);
            }
            return;
        }
        self.take(first, &known);
        self.catch_up();
    }

    fn take(&mut self, first: u64, known: &Known) {
        // Otherwise it was read meanwhile.
        if first == self.known_to {
            self.push(first, &known.delta);
            self.known_to = known.end;
            self.last = Some(known.last);
        }
    }

    /// Events of the partition, read from `known_to` on.
    pub fn read(&mut self, batch: &EventBatch) -> Result<(), RecordError> {
        for event in batch {
            let event = event?;
            let offset = event.position.offset;
            if offset >= self.known_to {
                if !event.meta.is_empty() {
                    self.push(offset, &event.meta.causes()?);
                }
                self.known_to = offset + 1;
                self.last = Some(event.id);
            }
        }
        self.catch_up();
        Ok(())
    }

    fn catch_up(&mut self) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.known_to {
                break;
            }
            let (first, known) = first.remove_entry();
            self.take(first, &known);
        }
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.is_due(self.known_to))
        {
            self.write();
        }
    }

    fn push(&mut self, offset: u64, delta: &Cut) {
        for (partition, count) in delta.iter() {
            let entry = Entry {
                offset,
                partition,
                count,
            };
            if self.push_entry(entry)
                && let Some(kept) = &mut self.kept
            {
                kept.put(entry);
            }
        }
    }

    /// Whether it counts: a log that had one partition may have kept any causes.
    fn push_entry(&mut self, entry: Entry) -> bool {
        let partition = entry.partition;
        if partition == self.partition || partition.0 as usize >= self.all.len() {
            return false;
        }
        if self.entries.len().is_multiple_of(CHECKPOINT) {
            self.checkpoints.push(self.all.clone());
        }
        self.entries.push(entry);
        let known = &mut self.all[partition.0 as usize];
        *known = entry.count.max(*known);
        true
    }

    /// What the events before `offset` depend on, joined.
    pub fn before(&self, offset: u64) -> Counts {
        let end = self.entries.partition_point(|entry| entry.offset < offset);
        if end == self.entries.len() {
            return self.all.clone();
        }
        let checkpoint = end / CHECKPOINT;
        let mut counts = self.checkpoints[checkpoint].clone();
        for entry in &self.entries[checkpoint * CHECKPOINT..end] {
            join(&mut counts, &Cut::from(*entry));
        }
        counts
    }

    /// The first event of `from..to` that depends on more than `given`.
    pub fn first_beyond(&self, from: u64, to: u64, given: &[u64]) -> Option<Entry> {
        let begin = self.entries.partition_point(|entry| entry.offset < from);
        let entries = self.entries[begin..].iter().copied();
        let mut entries = entries.take_while(|entry| entry.offset < to);
        entries.find(|entry| entry.count > given[entry.partition.0 as usize])
    }
}

impl From<Entry> for Cut {
    fn from(entry: Entry) -> Self {
        let mut cut = Self::start();
        cut.set(entry.partition, entry.count);
        cut
    }
}

#[cfg(test)]
mod tests {
    use anabranch_env::SplitMix64;

    use super::*;

    fn cut(counts: &[(u32, u64)]) -> Cut {
        let mut cut = Cut::start();
        for &(partition, count) in counts {
            cut.set(PartitionId(partition), count);
        }
        cut
    }

    fn known(end: u64, counts: &[(u32, u64)]) -> Known {
        Known {
            end,
            delta: cut(counts),
            last: EventId::from_u128(end.into()),
        }
    }

    #[test]
    fn what_was_learned_in_any_order_is_found_by_offset() {
        let mut deltas = Deltas::new(PartitionId(1), 3);
        deltas.learn(2, known(5, &[(0, 7)]));
        assert_eq!(deltas.known_to(), 0);
        deltas.learn(0, known(2, &[(2, 4)]));
        assert_eq!(deltas.known_to(), 5);
        // Again, as when its events were read meanwhile.
        deltas.learn(2, known(5, &[(0, 7)]));
        assert_eq!(deltas.before(0), [0, 0, 0]);
        assert_eq!(deltas.before(2), [0, 0, 4]);
        assert_eq!(deltas.before(3), [7, 0, 4]);
        let entry = Entry {
            offset: 2,
            partition: PartitionId(0),
            count: 7,
        };
        assert_eq!(deltas.first_beyond(0, 5, &[6, 0, 4]), Some(entry));
        assert_eq!(deltas.first_beyond(0, 2, &[6, 0, 4]), None);
        assert_eq!(deltas.first_beyond(3, 5, &[0, 0, 0]), None);
        assert_eq!(deltas.first_beyond(0, 5, &[7, 0, 4]), None);
    }

    #[test]
    fn sums_are_those_of_the_entries_one_by_one() {
        for seed in 0..20 {
            let mut rng = SplitMix64::new(seed);
            let mut deltas = Deltas::new(PartitionId(0), 4);
            let mut sums = vec![vec![0; 4]];
            for offset in 0..400 {
                let mut sum = sums[offset as usize].clone();
                let (q, count) = (1 + rng.below(3), rng.below(2) * rng.below(1_000));
                sum[q as usize] = count.max(sum[q as usize]);
                deltas.learn(offset, known(offset + 1, &[(q as u32, count)]));
                sums.push(sum);
            }
            for (offset, sum) in sums.iter().enumerate() {
                assert_eq!(&deltas.before(offset as u64), sum, "seed {seed}");
            }
        }
    }
}
