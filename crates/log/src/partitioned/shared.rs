use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anabranch_env::File;
use anabranch_model::{Cut, Event, Filter, PartitionId, Position};

use super::at_once::{at_once, not_here};
use super::causes::{Causes, Counts};
use super::deltas::Deltas;
use super::kept::{Entry, Kept, Mark};
use super::together::{Part, Together};
use crate::contract::{Log, ReadMode};
use crate::error::{AppendError, ReadError, Rejection};
use crate::stream::malformed;

/// What a log and its readers have in common. It does not keep the partitions open.
pub(super) struct Shared {
    pub logs: Vec<Weak<dyn Log>>,
    /// Another process writes. It does not stop while partitions are asked, one after another, how
    /// far they go, so what they answer is no closed cut.
    reads_only: bool,
    /// It is a copy at work: what events depend on may come later, and readers do not wait for it.
    is_copy: bool,
    causes: Mutex<Causes>,
    deltas: Vec<Mutex<Deltas>>,
}

impl Shared {
    /// Reads what is not known of the partitions: all of them, but for what `files` have kept,
    /// one for each partition or none at all. What is `undone` is yet to be written. Of a copy at
    /// work anything may be missing.
    pub fn open(
        logs: &[Arc<dyn Log>],
        files: Vec<Arc<dyn File>>,
        undone: &[Arc<Together>],
        is_copy: bool,
    ) -> Result<Self, ReadError> {
        let mut shared = Self {
            logs: logs.iter().map(Arc::downgrade).collect(),
            reads_only: is_read_only(&*logs[0]),
            is_copy,
            causes: Mutex::new(Causes::new(Vec::new())),
            deltas: (0..logs.len())
                .map(|p| Mutex::new(Deltas::new(PartitionId(p as u32), logs.len())))
                .collect(),
        };
        for (p, file) in files.into_iter().enumerate() {
            shared.restore(p, file)?;
        }
        let end_of = |log: &Arc<dyn Log>| {
            let head = at_once(log.head()).unwrap_or_else(|| Err(not_here()))?;
            Ok(head.get(PartitionId(0)))
        };
        let ends: Result<Counts, ReadError> = logs.iter().map(end_of).collect();
        let mut ends = ends?;
        for (p, &end) in ends.iter().enumerate() {
            let causes = shared.with_deltas(p, end, |deltas| deltas.before(end))?;
            let comes = |q: usize| {
                let parts = undone.iter().flat_map(|together| &together.parts);
                parts
                    .filter(|part| part.partition == q)
                    .map(Part::end)
                    .max()
            };
            let short = (0..ends.len()).find(|&q| causes[q] > ends[q].max(comes(q).unwrap_or(0)));
            // It may have been written since it was asked, or be on its way.
            if let Some(q) = short
                && !is_copy
                && end_of(&logs[q])? < causes[q]
                && !(shared.reads_only && shared.ends_halfway(p, &ends)?)
            {
                return Err(ReadError::Invalid(format!(
                    "events of partition {p} depend on the first {} events of partition {q}, which has {} only: a part of the log was lost, or an older copy of it was put back; put all partitions back as they were at one time",
                    causes[q], ends[q]
                )));
            }
        }
        if !is_copy {
            shared.close(&vec![0; ends.len()], &mut ends)?;
        }
        let mut parts = Vec::new();
        for (p, &end) in ends.iter().enumerate() {
            parts.push((
                end,
                shared.with_deltas(p, end, |deltas| deltas.before(end))?,
            ));
        }
        let mut causes = Causes::new(parts);
        for part in undone.iter().flat_map(|together| &together.parts) {
            causes.begins_together(part.partition, part.start);
        }
        shared.causes = Mutex::new(causes);
        Ok(shared)
    }

    /// Whether what a partition lacks causes of is its last append: one to several partitions, of
    /// which a reader that has no writer beside it may not see all that was decided.
    fn ends_halfway(&self, partition: usize, ends: &[u64]) -> Result<bool, ReadError> {
        let end = ends[partition];
        let look = |deltas: &Deltas| deltas.first_beyond(0, end, ends);
        let Some(entry) = self.with_deltas(partition, end, look)? else {
            return Ok(true);
        };
        let from = Cut::at(entry.offset);
        let mut events = self
            .log(partition)?
            .read(&from, Filter::all(), ReadMode::ToHead);
        let first = at_once(events.next_batch()).unwrap_or_else(|| Some(Err(not_here())));
        let Some(batch) = first.transpose()? else {
            return Ok(false);
        };
        let start = batch.append_start(Position::at(end - 1));
        Ok(start.offset == entry.offset)
    }

    /// Takes what `file` has kept of a partition, if the events there agree; what comes is kept
    /// there.
    fn restore(&self, partition: usize, file: Arc<dyn File>) -> Result<(), ReadError> {
        let io = |error: std::io::Error| ReadError::Io {
            what: "reading what is kept of the causes of a partition".to_owned(),
            reason: error.to_string(),
        };
        let (mut kept, entries, mark) = Kept::load(file).map_err(io)?;
        let mut deltas = self.deltas(partition);
        let last = match mark {
            Some(mark) => self.event_before(partition, mark.known_to)?,
            None => None,
        };
        let last = last.map(|event| event.id);
        match (mark, last) {
            (Some(mark), Some(last)) if Mark::new(mark.known_to, last) == mark => {
                deltas.restore(entries, mark, last);
            }
            _ => kept.begin_again().map_err(io)?,
        }
        deltas.keep(kept);
        Ok(())
    }

    /// When the last event of each partition was recorded.
    pub fn last_times(&self) -> Result<Vec<u64>, ReadError> {
        let mut times = Vec::new();
        for (partition, end) in self.causes().ends().into_iter().enumerate() {
            let last = self.event_before(partition, end)?;
            times.extend(last.map(|event| event.recorded_at));
        }
        Ok(times)
    }

    /// The event before an offset, if there is one.
    fn event_before(&self, partition: usize, offset: u64) -> Result<Option<Event>, ReadError> {
        let log = self.log(partition)?;
        let end = at_once(log.head()).unwrap_or_else(|| Err(not_here()))?;
        if offset == 0 || end.get(PartitionId(0)) < offset {
            return Ok(None);
        }
        let from = Cut::at(offset - 1);
        let mut events = log.read(&from, Filter::all(), ReadMode::ToHead);
        let first = at_once(events.next()).unwrap_or_else(|| Some(Err(not_here())));
        first.transpose()
    }

    /// What has to be given before the events of a partition from an offset on.
    pub fn due_before(&self, partition: usize, offset: u64) -> Result<Counts, ReadError> {
        match self.is_copy {
            true => Ok(vec![0; self.logs.len()]),
            false => self.with_deltas(partition, offset, |deltas| deltas.before(offset)),
        }
    }

    /// The first of these events that depends on more than `given`, if anybody waits for that.
    pub fn first_due(
        &self,
        partition: usize,
        offsets: Range<u64>,
        given: &[u64],
    ) -> Result<Option<Entry>, ReadError> {
        if self.is_copy {
            return Ok(None);
        }
        let Range { start, end } = offsets;
        self.with_deltas(partition, end, |deltas| {
            deltas.first_beyond(start, end, given)
        })
    }

    pub fn causes(&self) -> MutexGuard<'_, Causes> {
        lock(&self.causes)
    }

    pub fn deltas(&self, partition: usize) -> MutexGuard<'_, Deltas> {
        lock(&self.deltas[partition])
    }

    pub fn log(&self, partition: usize) -> Result<Arc<dyn Log>, ReadError> {
        self.logs[partition].upgrade().ok_or(ReadError::Closed)
    }

    /// Asks a partition how far it goes.
    pub async fn ask_end(&self, partition: usize) -> Result<(), ReadError> {
        let head = self.log(partition)?.head().await?;
        self.causes().reaches(partition, head.get(PartitionId(0)));
        Ok(())
    }

    /// Every durable event there is now: a closed cut.
    pub async fn ask_ends(&self) -> Result<Counts, ReadError> {
        if self.reads_only {
            return self.ask_beside().await;
        }
        for partition in 0..self.logs.len() {
            self.ask_end(partition).await?;
        }
        Ok(self.causes().ends())
    }

    /// The same beside a writer in another process: without what came so late that its causes were
    /// not to be seen yet. What was there before the call is in it, with its causes.
    async fn ask_beside(&self) -> Result<Counts, ReadError> {
        let before = self.causes().ends();
        let mut ends = before.clone();
        for (p, end) in ends.iter_mut().enumerate() {
            let head = self.log(p)?.head().await?;
            *end = head.get(PartitionId(0)).max(*end);
        }
        self.close(&before, &mut ends)?;
        let mut causes = self.causes();
        for (p, end) in ends.into_iter().enumerate() {
            causes.reaches(p, end);
        }
        Ok(causes.ends())
    }

    /// Lowers `ends` to the greatest closed cut in it; `before` is one.
    fn close(&self, before: &[u64], ends: &mut Counts) -> Result<(), ReadError> {
        let mut p = 0;
        // A partition that is lowered may be what one before it depends on.
        while p < ends.len() {
            let beyond = self.with_deltas(p, ends[p], |deltas| {
                deltas.first_beyond(before[p], ends[p], ends)
            })?;
            p = match beyond {
                None => p + 1,
                Some(entry) => {
                    ends[p] = entry.offset;
                    0
                }
            };
        }
        Ok(())
    }

    /// What `look` finds in the deltas of a partition, when they are known up to `to`, which is
    /// durable. What an append that nobody waits for any more has written is read.
    pub fn with_deltas<T>(
        &self,
        partition: usize,
        to: u64,
        look: impl FnOnce(&Deltas) -> T,
    ) -> Result<T, ReadError> {
        let mut deltas = self.deltas(partition);
        if deltas.known_to() < to {
            let from = Cut::at(deltas.known_to());
            let log = self.log(partition)?;
            let mut events = log.read(&from, Filter::all(), ReadMode::ToHead);
            while let Some(batch) =
                at_once(events.next_batch()).unwrap_or_else(|| Some(Err(not_here())))
            {
                deltas.read(&batch?).map_err(malformed)?;
            }
        }
        Ok(look(&deltas))
    }
}

fn is_read_only(log: &dyn Log) -> bool {
    matches!(
        log.takes_appends(),
        Err(AppendError::Rejected(Rejection::ReadOnly))
    )
}

/// What is behind these locks is changed only by code that does not panic midway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
