//! Reads other than the causal one: of a stream, and backward.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_model::{Cut, Event, EventBatch, Filter, PartitionId};

use super::causes::{Counts, to_cut};
use super::errors::read_error;
use super::merge::Merge;
use super::shared::Shared;
use crate::contract::{Log, Order, ReadMode};
use crate::error::ReadError;
use crate::stream::{BatchSource, BoxFuture, EventStream, malformed};

type Polled = Poll<Option<Result<EventBatch, ReadError>>>;

/// So many events a backward batch has at the most.
const CHUNK: usize = 256;

/// What a read of the whole log gives, once the partitions have said how far they go.
pub(super) struct Start {
    pub shared: Arc<Shared>,
    pub ends: BoxFuture<'static, Result<Counts, ReadError>>,
    pub from: Cut,
    pub filter: Filter,
    pub mode: ReadMode,
}

/// A read of the whole log.
pub(super) enum Reading {
    Start(Start),
    Forward(Merge),
    Backward(ByTime),
}

impl Start {
    fn begin(&self, ends: Counts) -> Result<Reading, ReadError> {
        let head = to_cut(&ends);
        if !head.covers(&self.from) {
            let from = self.from.clone();
            return Err(ReadError::CutBeyondHead { from, head });
        }
        let shared = Arc::clone(&self.shared);
        Ok(match self.mode {
            ReadMode::Backward => {
                Reading::Backward(ByTime::backward(&shared, &self.from, &self.filter)?)
            }
            mode => Reading::Forward(Merge::new(shared, &self.from, ends, &self.filter, mode)?),
        })
    }
}

impl Reading {
    /// Begins, if the partitions answer at once.
    pub fn begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        if let Self::Start(start) = self {
            let ends = match start.ends.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ends) => ends,
            };
            match ends.and_then(|ends| start.begin(ends)) {
                Ok(begun) => *self = begun,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl BatchSource for Reading {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        match self.begin(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {}
        }
        match self {
            Self::Start(_) => Poll::Pending,
            Self::Forward(merge) => merge.poll_next_batch(cx),
            Self::Backward(backward) => backward.poll_next_batch(cx),
        }
    }
}

/// All partitions by time, and where that is the same by partition and offset.
pub(super) struct ByTime {
    lanes: Vec<(EventStream, Option<Event>, bool)>,
    order: Order,
}

/// Every event of `until`, a cut that includes what its events depend on such as [`Log::head`] gives, oldest
/// first: by time, partition and offset. That is one order for all who ask, and no effect stands before its
/// cause. A read that begins at the start gives events in causal order too, but which of those that depend
/// on one another in no way comes first, the engine decides each time.
pub fn in_order_of_time(log: &dyn Log, until: &Cut) -> EventStream {
    let part = |p| {
        let partition = PartitionId(p);
        let mut from = until.clone();
        from.set(partition, 0);
        EventStream::new(Part {
            events: log.read(&from, Filter::all(), ReadMode::ToHead),
            partition,
            left: 0..until.get(partition),
        })
    };
    let parts = (0..log.layout().partitions()).map(part).collect();
    EventStream::new(ByTime::of(parts, Order::Forward))
}

/// The events of one partition, up to an offset, out of those of a read of the whole log.
struct Part {
    events: EventStream,
    partition: PartitionId,
    left: Range<u64>,
}

impl BatchSource for Part {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut chunk = Vec::new();
        while !self.left.is_empty() && chunk.len() < CHUNK {
            match self.events.poll_event(cx) {
                Poll::Ready(Some(Ok(event))) => {
                    if event.position.partition == self.partition {
                        self.left.start = event.position.offset + 1;
                        chunk.push(event);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.left = 0..0,
                Poll::Pending if chunk.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((!chunk.is_empty()).then(|| Ok(chunk.into())))
    }
}

/// A backward read over all partitions of a log, newest first; one stream for each partition.
pub fn merged_backward(partitions: Vec<EventStream>) -> Box<dyn BatchSource> {
    Box::new(ByTime::of(partitions, Order::Backward))
}

impl ByTime {
    pub fn backward(shared: &Shared, from: &Cut, filter: &Filter) -> Result<Self, ReadError> {
        let mut partitions = Vec::new();
        for p in 0..shared.logs.len() {
            let at = Cut::at(from.get(PartitionId(p as u32)));
            partitions.push(shared.log(p)?.read(&at, filter.clone(), ReadMode::Backward));
        }
        Ok(Self::of(partitions, Order::Backward))
    }

    fn of(partitions: Vec<EventStream>, order: Order) -> Self {
        let lanes = partitions.into_iter().map(|events| (events, None, false));
        Self {
            lanes: lanes.collect(),
            order,
        }
    }

    /// Takes the next event of each partition that has none at hand; whether all have one, or
    /// have ended.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadError> {
        let mut whole = true;
        for (p, (events, at_hand, ended)) in self.lanes.iter_mut().enumerate() {
            if *ended || at_hand.is_some() {
                continue;
            }
            let partition = PartitionId(p as u32);
            match events.poll_event(cx) {
                Poll::Ready(Some(Ok(mut event))) => {
                    event.position.partition = partition;
                    *at_hand = Some(event);
                }
                Poll::Ready(Some(Err(error))) => return Err(read_error(error, partition)),
                Poll::Ready(None) => *ended = true,
                Poll::Pending => whole = false,
            }
        }
        Ok(whole)
    }
}

impl BatchSource for ByTime {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK {
            match self.fill(cx) {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(false) if chunk.is_empty() => return Poll::Pending,
                Ok(false) => break,
                Ok(true) => {}
            }
            let lanes = self.lanes.iter_mut();
            let there = lanes.filter_map(|(_, event, _)| event.is_some().then_some(event));
            let at = |event: &&mut Option<Event>| {
                let event = event.as_ref();
                event.map(|event| (event.recorded_at, event.position))
            };
            let next = match self.order {
                Order::Forward => there.min_by_key(at),
                Order::Backward => there.max_by_key(at),
            };
            match next.and_then(Option::take) {
                Some(event) => chunk.push(event),
                None => break,
            }
        }
        Poll::Ready((!chunk.is_empty()).then(|| Ok(chunk.into())))
    }
}

/// The events of a batch before an offset.
fn whole(batch: EventBatch, until: Option<u64>) -> Result<EventBatch, ReadError> {
    let Some(until) = until else {
        return Ok(batch);
    };
    let mut events = Vec::new();
    for event in batch {
        let event = event.map_err(malformed)?;
        if event.position.offset < until {
            events.push(event);
        }
    }
    Ok(events.into())
}

/// The events of one partition, in the whole log.
pub(super) struct Relabelled {
    pub events: EventStream,
    pub partition: PartitionId,
    /// What stands here or behind is not whole yet: a part of an append to several partitions.
    pub until: Option<u64>,
}

impl BatchSource for Relabelled {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        let partition = self.partition;
        self.events.poll_batch(cx).map(|batch| {
            batch.map(|batch| match batch {
                Ok(batch) => whole(batch, self.until).map(|batch| batch.of_partition(partition)),
                Err(error) => Err(read_error(error, partition)),
            })
        })
    }
}
