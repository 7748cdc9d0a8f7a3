//! A forward read over all partitions, in an order in which nothing comes before its causes.
//!
//! Of each partition one batch is held at the most. What has been given is a cut, and it is
//! closed after each batch, if the cut that the reader began with was: of a held batch only as
//! much is given as depends on nothing beyond that cut. So the reader needs to know of no other
//! dependencies than its own place. A partition whose next event waits for another one stands
//! alone; the others go on. What waits for one another, because it came into the log together, is
//! given in one batch.
//!
//! A filter hides events, but neither what they depend on nor that they stand in the log:
//!
//! * What hidden events depend on is in the index of deltas, and holds back what follows them.
//! * If a dependency lies among hidden events, a batch without events says that the read has
//!   come so far, and what depends on it may follow.
//! * Who follows is told so of what nothing waits for, too: else a reader who asks for a place
//!   would not know that it is there.

use std::ops::Range;
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

/// What a merged read asks beside the events: for engines whose partitions are no logs of their own.
pub trait CausalIndex: Send + Sync + 'static {
    /// How far each partition is known to go, by its number: who has nothing to give has looked so
    /// far. Zeros, where every batch says its reach and the last one reaches to the end.
    fn ends(&self) -> Vec<u64>;

    /// The first event in `offsets` of a partition that depends on more than `given`, which has a
    /// count for each partition. Asked only of what the batches have reached, ascending.
    fn first_beyond(
        &self,
        partition: usize,
        offsets: Range<u64>,
        given: &[u64],
    ) -> Result<Option<Dependency>, ReadError>;
}

/// An event depends on the first events of another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// Where the event stands in its partition.
    pub offset: u64,
    /// The other partition.
    pub partition: PartitionId,
    /// So many of its first events.
    pub count: u64,
}

/// One partition of a merged read.
pub struct MergeLane {
    /// Its events from the place on at which the read begins.
    pub events: EventStream,
    /// That place.
    pub from: u64,
    /// What stands before it depends on so much of each partition.
    pub depends_on: Vec<u64>,
}

/// A forward read over all partitions of a log, given in an order in which nothing comes before
/// its causes. `until`: where it ends, if it does; a closed cut.
pub fn merged(
    lanes: Vec<MergeLane>,
    index: Arc<dyn CausalIndex>,
    until: Option<&Cut>,
) -> Box<dyn BatchSource> {
    let count = |until: &Cut, p: usize| until.get(PartitionId(p as u32));
    let until = until.map(|until| (0..lanes.len()).map(|p| count(until, p)).collect());
    Box::new(Merge::of(lanes, index, until))
}

pub(super) struct Merge {
    index: Arc<dyn CausalIndex>,
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
        for p in 0..ends.len() {
            let from = from.get(PartitionId(p as u32));
            let inner = shared.log(p)?;
            lanes.push(MergeLane {
                events: inner.read(&Cut::at(from), filter.clone(), mode),
                from,
                depends_on: shared.due_before(p, from)?,
            });
        }
        let until = (mode == ReadMode::ToHead).then_some(ends);
        Ok(Self::of(lanes, shared, until))
    }

    fn of(lanes: Vec<MergeLane>, index: Arc<dyn CausalIndex>, until: Option<Counts>) -> Self {
        let given = lanes.iter().map(|lane| lane.from).collect();
        let lane = |lane: MergeLane| Lane {
            events: Some(lane.events),
            held: None,
            looked_to: lane.from,
            free_to: lane.from,
            waits_for: None,
            base: lane.depends_on,
        };
        Self {
            index,
            lanes: lanes.into_iter().map(lane).collect(),
            given,
            until,
        }
    }

    /// Polls the partitions of which nothing is held; whether that has changed anything.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadError> {
        // Asked before the partitions are: who then has nothing to give has looked so far.
        let mut known = self.index.ends();
        if let Some(until) = &self.until {
            let bounded = known.iter_mut().zip(until);
            bounded.for_each(|(known, until)| *known = (*known).min(*until));
        }
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

    /// Whether a read that ends still waits for a partition to give something or to end. So its
    /// order does not depend on who is faster.
    fn is_filling(&self) -> bool {
        let Some(until) = &self.until else {
            return false;
        };
        let mut lanes = self.lanes.iter().zip(until);
        lanes.any(|(lane, &until)| {
            lane.held.is_none() && lane.events.is_some() && lane.looked_to < until
        })
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
        let beyond = self.index.first_beyond(p, from..to, given)?;
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
        Ok(None)
    }

    /// A partition of which there is nothing to give as far as it was read. Who follows is told so,
    /// also where nothing waits for that.
    fn choose_nothing(&self) -> Option<usize> {
        let passed = |&p: &usize| self.lanes[p].free_to > self.given[p];
        let mut lanes = 0..self.lanes.len();
        lanes.find(passed).filter(|_| self.until.is_none())
    }

    /// How far to give of each partition so that what waits for one another is given in one batch, if
    /// all of it was read. The smallest such batch has nothing else: what waits for it comes later.
    fn choose_together(&self) -> Result<Option<Counts>, ReadError> {
        let mut smallest = None;
        for (p, lane) in self.lanes.iter().enumerate() {
            if lane.waits_for.is_some()
                && lane.free_to < lane.looked_to
                && let Some(to) = self.closed_with(p)?
            {
                let count: u64 = to
                    .iter()
                    .zip(&self.given)
                    .map(|(to, given)| to - given)
                    .sum();
                if smallest.as_ref().is_none_or(|(least, _)| count < *least) {
                    smallest = Some((count, to));
                }
            }
        }
        Ok(smallest.map(|(_, to)| to))
    }

    /// The least that has the next event of this partition with all that it waits for.
    fn closed_with(&self, p: usize) -> Result<Option<Counts>, ReadError> {
        let mut to = self.given.clone();
        to[p] = self.lanes[p].free_to + 1;
        loop {
            let mut is_closed = true;
            for (r, lane) in self.lanes.iter().enumerate() {
                if to[r] <= lane.free_to {
                    continue;
                }
                if to[r] > lane.looked_to {
                    return Ok(None);
                }
                for (q, &base) in lane.base.iter().enumerate() {
                    if q != r && to[q] < base {
                        to[q] = base;
                        is_closed = false;
                    }
                }
                while let Some(entry) = self.index.first_beyond(r, lane.free_to..to[r], &to)? {
                    to[entry.partition.0 as usize] = entry.count;
                    is_closed = false;
                }
            }
            if is_closed {
                break;
            }
        }
        // What came into the log together says of each part how far it goes: these are whole appends.
        Ok(Some(to))
    }

    fn give_together(&mut self, to: &[u64]) -> Result<EventBatch, ReadError> {
        let mut batches = Vec::new();
        for (p, &to) in to.iter().enumerate() {
            if to > self.given[p] {
                let lane = &mut self.lanes[p];
                lane.free_to = to.max(lane.free_to);
                lane.waits_for = None;
                batches.push(self.give(p)?);
            }
        }
        Ok(EventBatch::together(batches))
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
            if self.is_filling() {
                match moved {
                    true => continue,
                    false => return Ok(Poll::Pending),
                }
            }
            if let Some(p) = self.choose()? {
                return Ok(Poll::Ready(Some(self.give(p)?)));
            }
            if let Some(to) = self.choose_together()? {
                return Ok(Poll::Ready(Some(self.give_together(&to)?)));
            }
            if let Some(p) = self.choose_nothing() {
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

impl CausalIndex for Shared {
    fn ends(&self) -> Counts {
        self.causes().ends()
    }

    fn first_beyond(
        &self,
        partition: usize,
        offsets: Range<u64>,
        given: &[u64],
    ) -> Result<Option<Dependency>, ReadError> {
        let beyond = self.first_due(partition, offsets, given)?;
        Ok(beyond.map(|entry| Dependency {
            offset: entry.offset,
            partition: entry.partition,
            count: entry.count,
        }))
    }
}

impl BatchSource for Merge {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        match self.next(cx) {
            Ok(polled) => polled.map(|batch| batch.map(Ok)),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}
