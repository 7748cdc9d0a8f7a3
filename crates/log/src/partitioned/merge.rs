//! A forward read over all partitions, in an order in which nothing comes before its causes.
//!
//! Of each partition one batch is held at the most. What has been given is a cut, and it is
//! closed after each batch, if the cut that the reader began with was: of a held batch only as
//! much is given as depends on nothing beyond that cut. So the reader needs to know of no other
//! dependencies than its own place. A partition whose next event waits for another one stands
//! alone; the others go on.
//!
//! A filter hides events, but neither what they depend on nor that they stand in the log:
//!
//! * What hidden events depend on is in the index of deltas, and holds back what follows them.
//! * If a dependency lies among hidden events, a batch without events says that the read has
//!   come so far, and what depends on it may follow.
//! * Who follows is told so of what nothing waits for, too: else a reader who asks for a place
//!   would not know that it is there.

use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_model::{Cut, EventBatch, Filter, PartitionId};

use super::causes::{Counts, to_cut};
use super::errors::read_error;
use super::shared::Shared;
use crate::contract::ReadMode;
use crate::error::ReadError;
use crate::stream::{BatchSource, EventStream, malformed};

type Polled = Poll<Option<Result<EventBatch, ReadError>>>;

pub(super) struct Merge {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    /// So much of each partition was given.
    given: Counts,
    /// Where to end; `None`: never.
    until: Option<Counts>,
}

/// One partition.
struct Lane {
    /// `None`: it has ended.
    events: Option<EventStream>,
    held: Option<Held>,
    /// What passes the filter before this offset was given, or is held.
    looked_to: u64,
    /// What stands before this offset depends on nothing beyond what was given.
    free_to: u64,
    /// The next event depends on so much of another partition.
    waits_for: Option<(usize, u64)>,
    /// What stands before the place at which the read has begun depends on this.
    base: Counts,
}

/// A batch with at least one event.
struct Held {
    batch: EventBatch,
    first: u64,
    recorded_at: u64,
}

impl Held {
    fn new(batch: EventBatch) -> Result<Option<Self>, ReadError> {
        let first = match batch.iter().next() {
            None => return Ok(None),
            Some(event) => event.map_err(malformed)?,
        };
        let (first, recorded_at) = (first.position.offset, first.recorded_at);
        Ok(Some(Self {
            batch,
            first,
            recorded_at,
        }))
    }
}

impl Merge {
    /// A read from `from` on, which `ends` include: where the partitions end now.
    pub fn new(
        shared: Arc<Shared>,
        from: &Cut,
        ends: Counts,
        filter: &Filter,
        mode: ReadMode,
    ) -> Result<Self, ReadError> {
        let mut lanes = Vec::new();
        let mut given = Vec::new();
        for p in 0..ends.len() {
            let at = from.get(PartitionId(p as u32));
            let inner = shared.log(p)?;
            lanes.push(Lane {
                events: Some(inner.read(&Cut::at(at), filter.clone(), mode)),
                held: None,
                looked_to: at,
                free_to: at,
                waits_for: None,
                base: shared.with_deltas(p, at, |deltas| deltas.before(at))?,
            });
            given.push(at);
        }
        Ok(Self {
            shared,
            lanes,
            given,
            until: (mode == ReadMode::ToHead).then_some(ends),
        })
    }

    /// Polls the partitions of which nothing is held; whether that has changed anything.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadError> {
        // Asked before the partitions are: who then has nothing to give has looked so far.
        let known = match &self.until {
            Some(until) => until.clone(),
            None => self.shared.causes().ends(),
        };
        let mut moved = false;
        for (p, lane) in self.lanes.iter_mut().enumerate() {
            let until = self.until.as_ref().map_or(u64::MAX, |until| until[p]);
            if lane.held.is_some() {
                continue;
            }
            if lane.looked_to >= until {
                lane.events = None;
            }
            let Some(events) = &mut lane.events else {
                continue;
            };
            match events.poll_batch(cx) {
                Poll::Ready(Some(Ok(batch))) => {
                    moved = true;
                    let reach = batch.reach().map(|reach| reach.offsets.end);
                    let held = Held::new(batch)?;
                    let end = match (reach, &held) {
                        (Some(end), _) => end,
                        (None, Some(held)) => last_of(&held.batch)? + 1,
                        (None, None) => 0,
                    };
                    lane.looked_to = end.min(until).max(lane.looked_to);
                    lane.held = held.filter(|held| held.first < until);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Err(read_error(error, PartitionId(p as u32)));
                }
                Poll::Ready(None) => {
                    moved = true;
                    lane.events = None;
                    lane.looked_to = known[p].max(lane.looked_to);
                }
                Poll::Pending => {
                    moved |= known[p] > lane.looked_to;
                    lane.looked_to = known[p].max(lane.looked_to);
                }
            }
        }
        Ok(moved)
    }

    /// Finds out how much of a partition may be given.
    fn free(&mut self, p: usize) -> Result<(), ReadError> {
        let (lane, given) = (&mut self.lanes[p], &self.given);
        if let Some((q, count)) = lane.waits_for
            && given[q] < count
        {
            return Ok(());
        }
        lane.waits_for = None;
        if let Some(q) = (0..given.len()).find(|&q| q != p && lane.base[q] > given[q]) {
            lane.waits_for = Some((q, lane.base[q]));
            return Ok(());
        }
        let (from, to) = (lane.free_to, lane.looked_to);
        if from >= to {
            return Ok(());
        }
        let beyond = self
            .shared
            .with_deltas(p, to, |deltas| deltas.first_beyond(from, to, given))?;
        lane.free_to = match beyond {
            None => to,
            Some(entry) => {
                lane.waits_for = Some((entry.partition.0 as usize, entry.count));
                entry.offset
            }
        };
        Ok(())
    }

    /// The partition to give from next, if any may be.
    fn choose(&mut self) -> Result<Option<usize>, ReadError> {
        let mut oldest = None;
        for p in 0..self.lanes.len() {
            self.free(p)?;
            let lane = &self.lanes[p];
            if let Some(held) = &lane.held
                && held.first < lane.free_to
                && oldest.is_none_or(|(time, _)| held.recorded_at < time)
            {
                oldest = Some((held.recorded_at, p));
            }
        }
        if let Some((_, p)) = oldest {
            return Ok(Some(p));
        }
        // What is held may wait for events that the filter hides, perhaps through others.
        for p in 0..self.lanes.len() {
            let mut at = self.lanes[p].held.as_ref().map(|_| p);
            for _ in 0..self.lanes.len() {
                let Some((q, _)) = at.and_then(|p| self.lanes[p].waits_for) else {
                    break;
                };
                if self.lanes[q].free_to > self.given[q] {
                    return Ok(Some(q));
                }
                at = Some(q);
            }
        }
        // Who follows is told how far there is nothing, also where nothing waits for that.
        let passed = |&p: &usize| self.lanes[p].free_to > self.given[p];
        Ok((0..self.lanes.len())
            .find(passed)
            .filter(|_| self.until.is_none()))
    }

    /// Gives of a partition as much as may be.
    fn give(&mut self, p: usize) -> Result<EventBatch, ReadError> {
        let lane = &mut self.lanes[p];
        let offsets = self.given[p]..lane.free_to;
        self.given[p] = lane.free_to;
        let partition = PartitionId(p as u32);
        match lane.held.take() {
            None => Ok(EventBatch::from(Vec::new()).split_to(partition, offsets)),
            Some(mut held) => {
                let given = held.batch.split_to(partition, offsets);
                if lane.free_to < lane.looked_to {
                    lane.held = Held::new(held.batch)?;
                }
                Ok(given)
            }
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Result<Poll<Option<EventBatch>>, ReadError> {
        loop {
            let moved = self.fill(cx)?;
            if let Some(p) = self.choose()? {
                return Ok(Poll::Ready(Some(self.give(p)?)));
            }
            if moved {
                continue;
            }
            // Who was asked a moment ago wakes this up. What is held was not asked.
            let was_asked = |lane: &Lane| lane.events.is_some() && lane.held.is_none();
            if self.lanes.iter().any(was_asked) {
                return Ok(Poll::Pending);
            }
            return match self.lanes.iter().position(|lane| lane.held.is_some()) {
                None => Ok(Poll::Ready(None)),
                Some(p) => Err(ReadError::Invalid(format!(
                    "the event {p}:{} depends on events that are not in the log, which goes to {}",
                    self.lanes[p].free_to,
                    to_cut(&self.given)
                ))),
            };
        }
    }
}

fn last_of(batch: &EventBatch) -> Result<u64, ReadError> {
    let mut last = 0;
    for event in batch {
        last = event.map_err(malformed)?.position.offset;
    }
    Ok(last)
}

impl BatchSource for Merge {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        match self.next(cx) {
            Ok(polled) => polled.map(|batch| batch.map(Ok)),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}
