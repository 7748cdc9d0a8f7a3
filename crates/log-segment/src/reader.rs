//! Readers: forward with or without an index, following, backward, and by stream.

use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_log::{BatchSource, Order, ReadError, VersionRange};
use anabranch_model::{Block, Event, EventBatch, Filter, PartitionId, Reach, StreamId};
use bytes::BytesMut;

use crate::index::{FramePlace, Lookup, StreamSpan, lookups};
use crate::part::Part;
use crate::store::Store;

type Polled = Poll<Option<Result<EventBatch, ReadError>>>;

/// An index is used when it spares at least this share of a part: one event in so many.
const SELECTIVE: u64 = 8;

/// How many events a backward reader holds at a time.
const BACKWARD_CHUNK: usize = 512;

/// Forward, to a fixed position or for ever.
pub(crate) struct ForwardSource {
    store: Arc<Store>,
    /// The next event to give.
    position: u64,
    /// Behind what was given, or passed over because of the filter, when a batch was given.
    given_to: u64,
    /// Where to stop; `None`: follow.
    until: Option<u64>,
    filter: Option<Arc<Filter>>,
    lookups: Vec<Lookup>,
    place: Place,
    /// The block given last; its memory is used again when nobody else holds it.
    given: Option<Arc<Block>>,
}

enum Place {
    /// To be found by position.
    Unknown,
    /// Every frame from here on.
    Scan {
        part: Arc<Part>,
        offset: u64,
        at: u64,
    },
    /// Only these frames; then on to `end`.
    Pick {
        part: Arc<Part>,
        frames: Vec<FramePlace>,
        next: usize,
        end: u64,
    },
}

impl ForwardSource {
    pub fn new(store: Arc<Store>, position: u64, until: Option<u64>, filter: Filter) -> Self {
        if until.is_none() {
            store.tail.enter();
        }
        Self {
            lookups: lookups(store.identity.hash_key, &filter),
            filter: (!filter.is_all()).then(|| Arc::new(filter)),
            store,
            position,
            given_to: position,
            until,
            place: Place::Unknown,
            given: None,
        }
    }

    fn buffer(&mut self) -> BytesMut {
        self.given
            .take()
            .and_then(|block| Arc::try_unwrap(block).ok())
            .and_then(|block| block.bytes.try_into_mut().ok())
            .unwrap_or_default()
    }

    /// Gives the events of `block` up to `end`, and goes on from there. The batch also stands
    /// for what the index has passed over since the one before.
    fn give(&mut self, block: Arc<Block>, end: u64) -> EventBatch {
        let from = self.given_to;
        self.position = end;
        self.given_to = end;
        self.given = Some(block.clone());
        EventBatch::of_block(block, from, end, self.filter.clone())
    }

    /// A batch of no events that stands for what the index has passed over.
    fn give_nothing(&mut self) -> EventBatch {
        let reach = Reach::of(PartitionId(0), self.given_to..self.position);
        self.given_to = self.position;
        EventBatch::of_run(Vec::new(), reach, Vec::new())
    }

    fn next(&mut self, limit: u64) -> Result<Option<EventBatch>, ReadError> {
        while self.position < limit {
            match std::mem::replace(&mut self.place, Place::Unknown) {
                Place::Unknown => self.find_place(limit)?,
                Place::Scan { part, offset, at } => {
                    let buffer = self.buffer();
                    let scanned = self.store.scan(&part, offset, at, limit, buffer)?;
                    if scanned.end < part.end() {
                        self.place = Place::Scan {
                            part,
                            offset: scanned.next_offset,
                            at: scanned.end,
                        };
                    }
                    let end = scanned.end.min(limit);
                    return Ok(Some(self.give(Arc::new(scanned.block), end)));
                }
                Place::Pick {
                    part,
                    frames,
                    next,
                    end,
                } => {
                    if next >= frames.len() {
                        self.position = end;
                        continue;
                    }
                    let buffer = self.buffer();
                    let (block, done) = self.store.read_frames(&part, &frames[next..], buffer)?;
                    let to = block
                        .entries
                        .last()
                        .map_or(end, |e| e.first + u64::from(e.count));
                    self.place = Place::Pick {
                        part,
                        frames,
                        next: next + done,
                        end,
                    };
                    let block = Arc::new(block);
                    return Ok(Some(self.give(block, to.min(end))));
                }
            }
        }
        Ok(None)
    }

    /// Decides how to read on from `position`.
    fn find_place(&mut self, limit: u64) -> Result<(), ReadError> {
        let part = self.store.part_for(self.position)?;
        let end = part.end().min(limit);
        let events = end - self.position;
        let mut best: Option<(u64, &Lookup)> = None;
        if events > 16 {
            for lookup in &self.lookups {
                let count = self.store.count_in(&part, lookup)?;
                if best.is_none_or(|(least, _)| count < least) {
                    best = Some((count, lookup));
                }
            }
        }
        let whole = part.end().min(self.store.published()) - part.first;
        self.place = match best {
            Some((count, lookup)) if count * SELECTIVE <= whole => {
                let range = (self.position - part.first) as u32..(end - part.first) as u32;
                let rels = self.store.lookup_in(&part, lookup, &range)?;
                let frames = self.store.frames_in(&part, &rels)?;
                Place::Pick {
                    part,
                    frames,
                    next: 0,
                    end,
                }
            }
            _ => {
                let frame = self.store.locate(&part, self.position)?;
                Place::Scan {
                    offset: u64::from(frame.offset),
                    at: part.first + u64::from(frame.rel),
                    part,
                }
            }
        };
        Ok(())
    }
}

impl BatchSource for ForwardSource {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(until) = self.until else {
            return self.poll_follow(cx);
        };
        // What was written last is in memory while somebody follows.
        if let Some(batch) = self.take_from_tail(until) {
            return Poll::Ready(Some(Ok(batch)));
        }
        Poll::Ready(self.next(until).transpose())
    }
}

impl ForwardSource {
    /// The next events, up to position `limit`, if they are in memory.
    fn take_from_tail(&mut self, limit: u64) -> Option<EventBatch> {
        if self.position >= limit {
            return None;
        }
        let block = self.store.tail.find(self.position)?;
        self.place = Place::Unknown;
        let last = block.entries.last();
        let end = last.map_or(limit, |e| e.first + u64::from(e.count));
        Some(self.give(block, end.min(limit)))
    }

    fn poll_follow(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            let published = self.store.published();
            if self.position < published {
                if let Some(batch) = self.take_from_tail(published) {
                    return Poll::Ready(Some(Ok(batch)));
                }
                match self.next(published) {
                    Ok(Some(batch)) => return Poll::Ready(Some(Ok(batch))),
                    // An index has said that there is nothing: who follows learns how far.
                    Ok(None) => return Poll::Ready(Some(Ok(self.give_nothing()))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            self.given = None;
            self.store.tail.register(cx);
            if self.store.is_closed() {
                return Poll::Ready(Some(Err(ReadError::Closed)));
            }
            if self.store.published() == published {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for ForwardSource {
    fn drop(&mut self) {
        if self.until.is_none() {
            self.store.tail.leave();
        }
    }
}

/// Reads the events at `rels` of a part, in order, and keeps those that are wanted.
fn read_rels(
    store: &Store,
    part: &Arc<Part>,
    rels: &[u32],
    wanted: impl Fn(&anabranch_model::EventRef<'_>) -> bool,
) -> Result<Vec<Event>, ReadError> {
    let frames = store.frames_in(part, rels)?;
    let mut events = Vec::with_capacity(rels.len());
    let mut next = 0;
    while next < frames.len() {
        let (block, done) = store.read_frames(part, &frames[next..], BytesMut::new())?;
        next += done;
        let batch = EventBatch::of_block(Arc::new(block), 0, u64::MAX, None);
        for event in &batch {
            let event = event.map_err(|e| ReadError::Io {
                what: "decoding stored events".to_owned(),
                reason: e.to_string(),
            })?;
            let rel = event.position.offset - part.first;
            if rels.binary_search(&(rel as u32)).is_ok() && wanted(&event) {
                // Copied: what is wanted may be little of the appends that it stands in.
                events.push(event.to_event());
            }
        }
    }
    Ok(events)
}

/// Backward from a position to the start.
pub(crate) struct BackwardSource {
    store: Arc<Store>,
    /// Every event before this is still to come.
    position: u64,
    filter: Filter,
    lookups: Vec<Lookup>,
    /// What an index gave for the part that holds `position`, ascending.
    picked: Option<(Arc<Part>, Vec<u32>)>,
}

impl BackwardSource {
    pub fn new(store: Arc<Store>, position: u64, filter: Filter) -> Self {
        Self {
            lookups: lookups(store.identity.hash_key, &filter),
            store,
            position,
            filter,
            picked: None,
        }
    }

    fn next(&mut self) -> Result<Option<EventBatch>, ReadError> {
        while self.position > 0 {
            let part = &self.store.part_for(self.position - 1)?;
            let rels = self.chunk(part)?;
            let Some(&lowest) = rels.first() else {
                self.position = part.first;
                self.picked = None;
                continue;
            };
            self.position = part.first + u64::from(lowest);
            let mut events = read_rels(&self.store, part, &rels, |e| self.filter.matches(e))?;
            if events.is_empty() {
                continue;
            }
            events.reverse();
            return Ok(Some(events.into()));
        }
        Ok(None)
    }

    /// The events to read next, ascending; the last ones before `position`.
    fn chunk(&mut self, part: &Arc<Part>) -> Result<Vec<u32>, ReadError> {
        let end = (self.position - part.first) as u32;
        if !self
            .picked
            .as_ref()
            .is_some_and(|(picked, _)| Arc::ptr_eq(picked, part))
        {
            self.picked = None;
            let mut best: Option<(u64, &Lookup)> = None;
            for lookup in &self.lookups {
                let count = self.store.count_in(part, lookup)?;
                if best.is_none_or(|(least, _)| count < least) {
                    best = Some((count, lookup));
                }
            }
            if let Some((count, lookup)) = best
                && count * 2 <= u64::from(end)
            {
                let rels = self.store.lookup_in(part, lookup, &(0..end))?;
                self.picked = Some((part.clone(), rels));
            }
        }
        Ok(match &mut self.picked {
            Some((_, rels)) => {
                rels.truncate(rels.partition_point(|&rel| rel < end));
                rels.split_off(rels.len().saturating_sub(BACKWARD_CHUNK))
            }
            None => (end.saturating_sub(BACKWARD_CHUNK as u32)..end).collect(),
        })
    }
}

impl BatchSource for BackwardSource {
    fn poll_next_batch(&mut self, _: &mut Context<'_>) -> Polled {
        Poll::Ready(self.next().transpose())
    }
}

/// One stream, either way.
pub(crate) struct StreamSource {
    store: Arc<Store>,
    stream: StreamId,
    key: u128,
    range: VersionRange,
    order: Order,
    /// Events from this position on did not exist when the read began.
    until: u64,
    /// The parts still to be read; the next one is last.
    parts: Vec<Arc<Part>>,
    /// What is left of the part being read, in order of reading.
    rels: Vec<u32>,
    part: Option<Arc<Part>>,
    /// Backward, in a part that grows: the event to go on from.
    walk: Option<u32>,
    /// Whether the parts before the first version asked for were passed over.
    sought: bool,
}

impl StreamSource {
    pub fn new(store: Arc<Store>, stream: StreamId, range: VersionRange, order: Order) -> Self {
        let until = store.published();
        let mut parts: Vec<_> = store.parts().iter().cloned().collect();
        if order == Order::Forward {
            parts.reverse();
        }
        Self {
            key: store.key(stream.as_str()),
            store,
            stream,
            range,
            order,
            until,
            parts,
            rels: Vec::new(),
            part: None,
            walk: None,
            sought: false,
        }
    }

    fn next(&mut self) -> Result<Option<EventBatch>, ReadError> {
        loop {
            if self.rels.is_empty() && !self.next_part()? {
                return Ok(None);
            }
            let Some(part) = self.part.clone() else {
                continue;
            };
            let count = self.rels.len().min(BACKWARD_CHUNK);
            let mut chunk: Vec<u32> = self.rels.drain(..count).collect();
            chunk.sort_unstable();
            let mut events = read_rels(&self.store, &part, &chunk, |event| {
                event.stream == self.stream.as_str() && self.range.0.contains(&event.version)
            })?;
            if events.is_empty() {
                continue;
            }
            if self.order == Order::Backward {
                events.reverse();
            }
            return Ok(Some(events.into()));
        }
    }

    /// Looks the stream up in the next part that may have it.
    fn next_part(&mut self) -> Result<bool, ReadError> {
        if let (Some(part), Some(from)) = (self.part.clone(), self.walk.take()) {
            self.take_rels(&part, Some(from), None)?;
            return Ok(true);
        }
        if !std::mem::replace(&mut self.sought, true) {
            self.seek()?;
        }
        while let Some(part) = self.parts.pop() {
            if part.first >= self.until {
                continue;
            }
            let Some(span) = self.store.stream_in(&part, self.key)? else {
                continue;
            };
            if span.next_version <= self.range.0.start {
                if self.order == Order::Backward {
                    return Ok(false);
                }
                continue;
            }
            if span.first_version >= self.range.0.end {
                if self.order == Order::Forward {
                    return Ok(false);
                }
                continue;
            }
            self.take_rels(&part, None, Some(span))?;
            if self.rels.is_empty() && self.walk.is_none() {
                continue;
            }
            self.part = Some(part);
            return Ok(true);
        }
        Ok(false)
    }

    /// Forward from a version: passes over the parts before the one that has it. The newest
    /// are asked first: late versions are asked for more often than early ones.
    fn seek(&mut self) -> Result<(), ReadError> {
        if self.order == Order::Backward || self.range.0.start == 0 {
            return Ok(());
        }
        // The oldest is last.
        for at in 0..self.parts.len() {
            let span = self.store.stream_in(&self.parts[at], self.key)?;
            if span.is_some_and(|span| span.first_version <= self.range.0.start) {
                self.parts.truncate(at + 1);
                break;
            }
        }
        Ok(())
    }

    /// Finds events of the stream in a part, from event `from` back or all of them.
    fn take_rels(
        &mut self,
        part: &Arc<Part>,
        from: Option<u32>,
        span: Option<StreamSpan>,
    ) -> Result<(), ReadError> {
        let end = u32::try_from(self.until.saturating_sub(part.first)).unwrap_or(u32::MAX);
        let range = (end, &self.range.0);
        if self.order == Order::Backward {
            self.rels.clear();
            let rels = &mut self.rels;
            let walked = Store::walk_back(part, self.key, from, range, BACKWARD_CHUNK, rels);
            if let Some(more) = walked {
                self.walk = more;
                return Ok(());
            }
        }
        let mut rels = self.store.stream_rels(part, self.key, range)?;
        if let Some(span) = span
            && u64::from(span.count) == span.next_version - span.first_version
            && rels.len() == span.count as usize
        {
            // Versions are dense here, so they tell the places.
            let from = self.range.0.start.saturating_sub(span.first_version);
            let to = (self.range.0.end - span.first_version).min(rels.len() as u64);
            rels.truncate(to as usize);
            rels.drain(..(from as usize).min(rels.len()));
        }
        if let Some(from) = from {
            // It was sealed since.
            rels.retain(|&rel| rel <= from);
        }
        if self.order == Order::Backward {
            rels.reverse();
        }
        self.rels = rels;
        Ok(())
    }
}

impl BatchSource for StreamSource {
    fn poll_next_batch(&mut self, _: &mut Context<'_>) -> Polled {
        Poll::Ready(self.next().transpose())
    }
}
