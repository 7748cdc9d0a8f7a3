use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Event, EventRef};
use crate::filter::Filter;
use crate::place::{Cut, PartitionId, Position};
use crate::record::{RecordError, Records};

/// Where one stored batch stands in a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Offset of its first event in the partition.
    pub first: u64,
    /// Offset of the first event of the append that wrote it: the same, unless only some events of
    /// an append are here.
    pub append: u64,
    /// How many events it has.
    pub count: u32,
    /// When it was recorded: microseconds since 1970, UTC.
    pub recorded_at: u64,
    /// Where its records begin in the block, in bytes.
    pub start: u32,
    /// How long its records are, in bytes.
    pub len: u32,
}

/// A run of stored batches that share one buffer, in the form of [`crate::record`].
/// The checksums were verified by whoever made it.
#[derive(Debug, Clone)]
pub struct Block {
    /// The buffer.
    pub bytes: Bytes,
    /// The batches in it, ascending.
    pub entries: Vec<BlockEntry>,
    /// The partition they stand in.
    pub partition: PartitionId,
}

/// Some events of a log, in the order of the read.
///
/// The fast way to read: iterating decodes in place, without allocating.
#[derive(Debug, Clone)]
pub struct EventBatch(Repr);

/// The part of a partition that some events stand for: whoever has taken them in has seen
/// everything there that passes the filter of the read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The partition.
    pub partition: PartitionId,
    /// From the first offset to behind the last one.
    pub offsets: Range<u64>,
    /// The same of other partitions: events that came into the log together are read together.
    pub others: Vec<(PartitionId, Range<u64>)>,
}

impl Reach {
    /// Of one partition, as nearly always.
    pub const fn of(partition: PartitionId, offsets: Range<u64>) -> Self {
        Self {
            partition,
            offsets,
            others: Vec::new(),
        }
    }

    /// Of each partition, from where to where.
    pub fn parts(&self) -> impl Iterator<Item = (PartitionId, &Range<u64>)> {
        let others = self.others.iter().map(|(id, offsets)| (*id, offsets));
        std::iter::once((self.partition, &self.offsets)).chain(others)
    }

    /// Moves a place on to behind the events.
    pub fn pass(&self, place: &mut Cut) {
        for (partition, offsets) in self.parts() {
            place.set(partition, offsets.end.max(place.get(partition)));
        }
    }

    /// Whether the event at `position` is one of those.
    pub fn has(&self, position: Position) -> bool {
        self.parts().any(|(partition, offsets)| {
            partition == position.partition && offsets.contains(&position.offset)
        })
    }
}

#[derive(Debug, Clone)]
enum Repr {
    Events(Vec<Event>),
    Run {
        events: Vec<Event>,
        reach: Reach,
        /// The first offset of each append, ascending.
        appends: Vec<u64>,
    },
    Block {
        block: Arc<Block>,
        /// Where the events are said to stand: another partition than the block's, if the log
        /// that has stored them is a part of a larger one.
        partition: PartitionId,
        from: u64,
        to: u64,
        filter: Option<Arc<Filter>>,
    },
    /// Of several partitions, one batch each.
    Together(Vec<EventBatch>),
}

impl From<Vec<Event>> for EventBatch {
    fn from(events: Vec<Event>) -> Self {
        Self(Repr::Events(events))
    }
}

impl EventBatch {
    /// The events of `block` with offsets in `from..to` that pass `filter`.
    pub fn of_block(block: Arc<Block>, from: u64, to: u64, filter: Option<Arc<Filter>>) -> Self {
        Self(Repr::Block {
            partition: block.partition,
            block,
            from,
            to,
            filter,
        })
    }

    /// The events of `reach` that pass the filter of a read. `appends` has the first offset of
    /// each append in it, ascending.
    pub fn of_run(events: Vec<Event>, reach: Reach, appends: Vec<u64>) -> Self {
        Self(Repr::Run {
            events,
            reach,
            appends,
        })
    }

    /// Batches of different partitions that came into the log together. All of them are taken in,
    /// or none is. Each says its reach.
    pub fn together(mut batches: Vec<Self>) -> Self {
        match batches.len() {
            1 => batches.remove(0),
            _ => Self(Repr::Together(batches)),
        }
    }

    /// The batches that this one is made of: itself, as a rule.
    pub fn parts(&self) -> &[Self] {
        match &self.0 {
            Repr::Together(batches) => batches,
            _ => std::slice::from_ref(self),
        }
    }

    /// The part of the log that the events stand for, if the engine says so: whole appends,
    /// and the next events of the same read begin where these end.
    pub fn reach(&self) -> Option<Reach> {
        match &self.0 {
            Repr::Events(_) => None,
            Repr::Run { reach, .. } => Some(reach.clone()),
            Repr::Block {
                partition,
                from,
                to,
                ..
            } => Some(Reach::of(*partition, *from..*to)),
            Repr::Together(batches) => {
                let mut reaches = batches.iter().map(Self::reach);
                let mut whole = reaches.next()??;
                for reach in reaches {
                    let reach = reach?;
                    whole.others.push((reach.partition, reach.offsets));
                    whole.others.extend(reach.others);
                }
                Some(whole)
            }
        }
    }

    /// Takes out the events before `offsets.end`, as a batch of `partition` that reaches over
    /// `offsets`: for a log whose parts are logs of one partition. What is left begins there.
    pub fn split_to(&mut self, partition: PartitionId, offsets: Range<u64>) -> Self {
        let end = offsets.end;
        let (events, appends) = match &mut self.0 {
            Repr::Block {
                block,
                from,
                to,
                filter,
                ..
            } => {
                let taken = Repr::Block {
                    block: Arc::clone(block),
                    partition,
                    from: offsets.start,
                    to: end,
                    filter: filter.clone(),
                };
                *from = end.min(*to);
                return Self(taken);
            }
            Repr::Run {
                events,
                reach,
                appends,
            } => {
                reach.offsets.start = end.min(reach.offsets.end);
                (events, split_before(appends, |&first| first < end))
            }
            Repr::Events(events) => (events, Vec::new()),
            // Nobody takes such a batch apart.
            Repr::Together(batches) => return Self(Repr::Together(std::mem::take(batches))),
        };
        let mut events = split_before(events, |event| event.position.offset < end);
        for event in &mut events {
            event.position.partition = partition;
        }
        Self::of_run(events, Reach::of(partition, offsets), appends)
    }

    /// The same events, as those of this partition.
    #[must_use]
    pub fn of_partition(mut self, partition: PartitionId) -> Self {
        match &mut self.0 {
            Repr::Block { partition: at, .. } => *at = partition,
            Repr::Run { events, reach, .. } => {
                reach.partition = partition;
                let places = events.iter_mut().map(|event| &mut event.position);
                places.for_each(|place| place.partition = partition);
            }
            Repr::Events(events) => {
                let places = events.iter_mut().map(|event| &mut event.position);
                places.for_each(|place| place.partition = partition);
            }
            // A log of one partition gives none.
            Repr::Together(_) => {}
        }
        self
    }

    /// Where the append begins that has written the event at `position`, as far as the engine
    /// says so; otherwise `position` itself.
    pub fn append_start(&self, position: Position) -> Position {
        let offset = match &self.0 {
            Repr::Events(_) => None,
            Repr::Run { appends, .. } => {
                let behind = appends.partition_point(|&first| first <= position.offset);
                behind.checked_sub(1).map(|index| appends[index])
            }
            Repr::Block { block, .. } => {
                let entry = block.entries.get(first_entry(block, position.offset));
                entry.map(|entry| entry.append)
            }
            Repr::Together(batches) => {
                let has = |batch: &&Self| batch.reach().is_some_and(|reach| reach.has(position));
                return match batches.iter().find(has) {
                    Some(batch) => batch.append_start(position),
                    None => position,
                };
            }
        };
        let offset = offset.filter(|&first| first <= position.offset);
        Position {
            offset: offset.unwrap_or(position.offset),
            ..position
        }
    }

    /// The first event that does not come behind the one before it, or that lies outside of
    /// the reach; `None` if all is in order. Looks at no data.
    pub fn first_out_of_order(&self) -> Option<Position> {
        let (events, reach) = match &self.0 {
            Repr::Events(events) => (events, None),
            Repr::Run { events, reach, .. } => (events, Some(reach)),
            // Positions follow from the place in the block.
            Repr::Block { .. } => return None,
            Repr::Together(batches) => return batches.iter().find_map(Self::first_out_of_order),
        };
        let mut reached = Cut::start();
        events.iter().map(|event| event.position).find(|position| {
            let goes_back = reached.includes(*position);
            reached.join(&Cut::including(*position));
            goes_back || reach.is_some_and(|reach| !reach.has(*position))
        })
    }

    /// The events, decoded in place.
    pub fn iter(&self) -> EventBatchIter<'_> {
        match &self.0 {
            Repr::Events(events) | Repr::Run { events, .. } => {
                EventBatchIter(Iter::Events(events.iter()))
            }
            Repr::Block {
                block,
                partition,
                from,
                to,
                filter,
            } => EventBatchIter(Iter::Block {
                block,
                partition: *partition,
                entry: first_entry(block, *from),
                records: None,
                from: *from,
                to: *to,
                filter: filter.as_deref(),
            }),
            Repr::Together(batches) => EventBatchIter(Iter::Together {
                batches: batches.iter(),
                current: None,
            }),
        }
    }
}

/// Takes the first items out, as many as are `before`.
fn split_before<T>(items: &mut Vec<T>, before: impl Fn(&T) -> bool) -> Vec<T> {
    let rest = items.split_off(items.partition_point(before));
    std::mem::replace(items, rest)
}

/// The first entry that holds an offset of at least `from`.
fn first_entry(block: &Block, from: u64) -> usize {
    block
        .entries
        .partition_point(|e| e.first + u64::from(e.count) <= from)
}

fn records<'a>(block: &'a Block, partition: PartitionId, entry: &BlockEntry) -> Records<'a> {
    let body = &block.bytes[entry.start as usize..(entry.start + entry.len) as usize];
    let first = Position {
        partition,
        offset: entry.first,
    };
    Records::new(body, first, entry.recorded_at)
}

impl<'a> IntoIterator for &'a EventBatch {
    type Item = Result<EventRef<'a>, RecordError>;
    type IntoIter = EventBatchIter<'a>;
    fn into_iter(self) -> EventBatchIter<'a> {
        self.iter()
    }
}

/// Iterates over the events of an [`EventBatch`].
pub struct EventBatchIter<'a>(Iter<'a>);

enum Iter<'a> {
    Events(std::slice::Iter<'a, Event>),
    Together {
        batches: std::slice::Iter<'a, EventBatch>,
        current: Option<Box<EventBatchIter<'a>>>,
    },
    Block {
        block: &'a Block,
        partition: PartitionId,
        entry: usize,
        records: Option<Records<'a>>,
        from: u64,
        to: u64,
        filter: Option<&'a Filter>,
    },
}

impl<'a> Iterator for EventBatchIter<'a> {
    type Item = Result<EventRef<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Iter::Events(events) => events.next().map(|e| Ok(e.as_ref())),
            Iter::Together { batches, current } => loop {
                if let Some(event) = current.as_mut().and_then(|events| events.next()) {
                    return Some(event);
                }
                *current = Some(Box::new(batches.next()?.iter()));
            },
            Iter::Block {
                block,
                partition,
                entry,
                records: current,
                from,
                to,
                filter,
            } => loop {
                let Some(open) = current else {
                    let next = block.entries.get(*entry)?;
                    if next.first >= *to {
                        return None;
                    }
                    *entry += 1;
                    *current = Some(records(block, *partition, next));
                    continue;
                };
                match open.next() {
                    Some(Ok(event)) => {
                        if event.position.offset >= *to {
                            *entry = block.entries.len();
                            *current = None;
                            return None;
                        }
                        if event.position.offset >= *from
                            && filter.is_none_or(|filter| filter.matches(&event))
                        {
                            return Some(Ok(event));
                        }
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => *current = None,
                }
            },
        }
    }
}

impl IntoIterator for EventBatch {
    type Item = Result<Event, RecordError>;
    type IntoIter = EventBatchIntoIter;

    /// The events as owned values that share the block's memory.
    fn into_iter(self) -> EventBatchIntoIter {
        EventBatchIntoIter(match self.0 {
            Repr::Events(events) | Repr::Run { events, .. } => IntoIter::Events(events.into_iter()),
            Repr::Block {
                block,
                partition,
                from,
                to,
                filter,
            } => IntoIter::Block {
                partition,
                entry: first_entry(&block, from),
                batch: Vec::new().into_iter(),
                block,
                from,
                to,
                filter,
            },
            Repr::Together(batches) => IntoIter::Together {
                batches: batches.into_iter(),
                current: None,
            },
        })
    }
}

/// Iterates over the events of an [`EventBatch`], as owned values.
pub struct EventBatchIntoIter(IntoIter);

enum IntoIter {
    Events(std::vec::IntoIter<Event>),
    Together {
        batches: std::vec::IntoIter<EventBatch>,
        current: Option<Box<EventBatchIntoIter>>,
    },
    Block {
        block: Arc<Block>,
        partition: PartitionId,
        entry: usize,
        batch: std::vec::IntoIter<Result<Event, RecordError>>,
        from: u64,
        to: u64,
        filter: Option<Arc<Filter>>,
    },
}

impl Iterator for EventBatchIntoIter {
    type Item = Result<Event, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            IntoIter::Events(events) => events.next().map(Ok),
            IntoIter::Together { batches, current } => loop {
                if let Some(event) = current.as_mut().and_then(|events| events.next()) {
                    return Some(event);
                }
                *current = Some(Box::new(batches.next()?.into_iter()));
            },
            IntoIter::Block {
                block,
                partition,
                entry,
                batch,
                from,
                to,
                filter,
            } => loop {
                if let Some(event) = batch.next() {
                    return Some(event);
                }
                let open = block.entries.get(*entry)?;
                if open.first >= *to {
                    return None;
                }
                *entry += 1;
                let wanted = |event: &EventRef<'_>| {
                    (*from..*to).contains(&event.position.offset)
                        && filter.as_deref().is_none_or(|f| f.matches(event))
                };
                if open.count == 1 {
                    match records(block, *partition, open).next() {
                        Some(Ok(event)) if wanted(&event) => {
                            return Some(Ok(event.share(&block.bytes)));
                        }
                        Some(Err(error)) => return Some(Err(error)),
                        _ => continue,
                    }
                }
                let events: Vec<_> = records(block, *partition, open)
                    .filter(|r| r.as_ref().map_or(true, wanted))
                    .map(|r| r.map(|event| event.share(&block.bytes)))
                    .collect();
                *batch = events.into_iter();
            },
        }
    }
}
