use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use anabranch_env::{Clock, Env};
use anabranch_model::{
    Cut, Event, EventBatch, EventId, Filter, LimitError, Limits, NewEvent, PartitionId, Position,
    Reach, StreamId, Version,
};

use crate::contract::{
    Append, Appended, Capabilities, Condition, Log, Order, Placed, ReadMode, Scope, VersionRange,
};
use crate::error::{AppendError, ReadError, Rejection};
use crate::stream::{BatchSource, BoxFuture, EventStream};

/// About how many events a stream holds ready for its reader, and are looked at while writers
/// wait: forward reads go on to the end of an append.
const CHUNK: usize = 256;

/// A log in memory: the whole contract, kept in the plainest way, until the last clone is
/// dropped.
///
/// For tests, for trying things out, and as the model that other engines are compared
/// with. Every event stays in memory, and a read with a filter looks at each of them.
/// Clones are handles to the same log.
#[derive(Clone)]
pub struct MemoryLog(Arc<Owner>);

impl MemoryLog {
    /// An empty log. It takes the recorded time of its events from `env`.
    pub fn new(env: Env) -> Self {
        Self::with_limits(env, Limits::default())
    }

    /// An empty log with limits of its own.
    pub fn with_limits(env: Env, limits: Limits) -> Self {
        Self(Arc::new(Owner {
            clock: env.clock,
            limits,
            shared: Arc::default(),
        }))
    }

    fn write(&self, append: &Append) -> Result<Appended, AppendError> {
        append.check(&self.0.limits).map_err(limit)?;
        check_ids_differ(&append.events).map_err(limit)?;
        let mut state = self.0.shared.lock();
        if let Some(places) = state.written_before(&append.events)? {
            return Ok(Appended::new(places, true));
        }
        state.check(&append.conditions)?;
        let places = state.push(&append.events, self.0.clock.wall_micros());
        let followers = state.take_followers();
        drop(state);
        followers.into_values().for_each(Waker::wake);
        Ok(Appended::new(places, false))
    }
}

impl Log for MemoryLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "memory",
            partitions: 1,
            batches: Scope::Log,
            conditions: Scope::Log,
            no_match: Some(Scope::Log),
            total_order: true,
            backward_reads: true,
            survives_restart: false,
            survives_power_cut: false,
            limits: self.0.limits,
        }
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move { self.write(&append) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let state = self.0.shared.lock();
        let end = state.streams.get(stream).map_or(0, Vec::len);
        let [from, to] = [range.0.start, range.0.end].map(|version| clamp(version, end));
        EventStream::new(Walk {
            shared: Arc::clone(&self.0.shared),
            over: Over::Stream(stream.clone()),
            from,
            to: to.max(from),
            order,
        })
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let state = self.0.shared.lock();
        let head = state.head();
        if !head.covers(from) {
            return EventStream::failed(ReadError::CutBeyondHead {
                from: from.clone(),
                head,
            });
        }
        let end = state.events.len();
        let at = clamp(from.get(PartitionId(0)), end);
        let (from, to, order) = match mode {
            ReadMode::ToHead | ReadMode::Follow => (at, end, Order::Forward),
            ReadMode::Backward => (0, at, Order::Backward),
        };
        let walk = Walk {
            shared: Arc::clone(&self.0.shared),
            over: Over::All(filter),
            from,
            to,
            order,
        };
        match mode {
            ReadMode::Follow => EventStream::new(Follow { walk, key: None }),
            ReadMode::ToHead | ReadMode::Backward => EventStream::new(walk),
        }
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        let state = self.0.shared.lock();
        let found = state.ids.get(&id).map(|&offset| {
            let stored = &state.events[offset];
            Placed {
                position: stored.position,
                version: stored.version,
            }
        });
        Box::pin(async move { Ok(found) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async { Ok(self.0.shared.lock().head()) })
    }
}

/// What the handles of one log have in common. Streams hold only `shared`, so the log
/// closes while they live.
struct Owner {
    clock: Arc<dyn Clock>,
    limits: Limits,
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let followers = state.take_followers();
        drop(state);
        followers.into_values().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    /// The state is changed only by code that does not panic midway, so it is whole even
    /// if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    /// By offset.
    events: Vec<Event>,
    /// The first offset of each append, ascending.
    appends: Vec<u64>,
    /// The offsets of each stream's events, by version.
    streams: BTreeMap<StreamId, Vec<usize>>,
    /// The offset of each event.
    ids: BTreeMap<EventId, usize>,
    /// Who waits for the next event, by a key of its own. Wakers are other people's code,
    /// so they are woken and dropped after the lock is released.
    followers: BTreeMap<u64, Waker>,
    /// The key of the next follower.
    next_key: u64,
    closed: bool,
}

impl State {
    fn head(&self) -> Cut {
        Cut::at(self.events.len() as u64)
    }

    fn last_version(&self, stream: &StreamId) -> Option<Version> {
        let offsets = self.streams.get(stream)?;
        (offsets.len() as Version).checked_sub(1)
    }

    /// Where the events stand, if all of them were written before; `None` if none was.
    fn written_before(&self, events: &[NewEvent]) -> Result<Option<Vec<Placed>>, Rejection> {
        let mut places = Vec::new();
        let mut first = None;
        for new in events {
            let Some(&offset) = self.ids.get(&new.id) else {
                continue;
            };
            let stored = &self.events[offset];
            if !is_same(new, stored) {
                return Err(Rejection::IdTaken {
                    id: new.id,
                    position: stored.position,
                });
            }
            first = first.or(Some(stored));
            places.push(Placed {
                position: stored.position,
                version: stored.version,
            });
        }
        match first {
            None => Ok(None),
            Some(_) if places.len() == events.len() => Ok(Some(places)),
            Some(stored) => Err(Rejection::PartlyWritten {
                id: stored.id,
                position: stored.position,
            }),
        }
    }

    fn check(&self, conditions: &[Condition]) -> Result<(), AppendError> {
        for condition in conditions {
            match condition {
                Condition::Stream(stream, expected) => {
                    let actual = self.last_version(stream);
                    if !expected.holds(actual) {
                        return Err(AppendError::Conflict {
                            stream: stream.clone(),
                            expected: *expected,
                            actual,
                        });
                    }
                }
                Condition::NoMatch { query, after } => {
                    let head = self.head();
                    if !head.covers(after) {
                        let after = after.clone();
                        return Err(Rejection::CutBeyondHead { after, head }.into());
                    }
                    let read = clamp(after.get(PartitionId(0)), self.events.len());
                    let unread = &self.events[read..];
                    if let Some(event) = unread.iter().find(|e| query.matches(&e.as_ref())) {
                        let position = event.position;
                        return Err(AppendError::Matched { position });
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, events: &[NewEvent], recorded_at: u64) -> Vec<Placed> {
        self.appends.push(self.events.len() as u64);
        let place = |new: &NewEvent| {
            let offset = self.events.len();
            let versions = self.streams.entry(new.stream.clone()).or_default();
            let placed = Placed {
                position: Position::at(offset as u64),
                version: versions.len() as Version,
            };
            versions.push(offset);
            self.ids.insert(new.id, offset);
            self.events.push(Event::stored(
                new,
                placed.position,
                placed.version,
                recorded_at,
            ));
            placed
        };
        events.iter().map(place).collect()
    }

    /// The first offsets of the appends that begin in `offsets`.
    fn appends_in(&self, offsets: Range<usize>) -> &[u64] {
        let place = |offset| self.appends.partition_point(|&first| first < offset as u64);
        &self.appends[place(offsets.start)..place(offsets.end)]
    }

    /// The first offset from `offset` on that begins an append, or the end.
    fn append_end(&self, offset: usize) -> usize {
        let next = self.appends.partition_point(|&first| first < offset as u64);
        let next = self
            .appends
            .get(next)
            .map(|&first| clamp(first, usize::MAX));
        next.unwrap_or(self.events.len())
    }

    fn take_followers(&mut self) -> BTreeMap<u64, Waker> {
        std::mem::take(&mut self.followers)
    }
}

fn limit(error: LimitError) -> Rejection {
    Rejection::Limit(error)
}

fn check_ids_differ(events: &[NewEvent]) -> Result<(), LimitError> {
    let mut seen = BTreeMap::new();
    for (second, event) in events.iter().enumerate() {
        if let Some(first) = seen.insert(event.id, second) {
            return Err(LimitError::RepeatedId { first, second });
        }
    }
    Ok(())
}

fn is_same(new: &NewEvent, stored: &Event) -> bool {
    new.stream.as_str() == stored.stream()
        && new.event_type.as_str() == stored.event_type()
        && new.data == stored.data()
}

fn clamp(place: u64, end: usize) -> usize {
    usize::try_from(place).map_or(end, |place| place.min(end))
}

/// Goes over a fixed range of events, a chunk at a time.
struct Walk {
    shared: Arc<Shared>,
    over: Over,
    /// What is left of the range: of offsets, or of versions of the stream.
    from: usize,
    to: usize,
    order: Order,
}

enum Over {
    All(Filter),
    Stream(StreamId),
}

impl Walk {
    /// The next events; `None` when the range is exhausted. Lets writers in between chunks.
    fn next_chunk(&mut self) -> Option<EventBatch> {
        let begun = self.from;
        while self.from < self.to {
            let state = self.shared.lock();
            let len = (self.to - self.from).min(CHUNK);
            let chunk = match (self.order, &self.over) {
                (Order::Forward, Over::All(_)) => {
                    self.from..state.append_end(self.from + len).min(self.to)
                }
                (Order::Forward, Over::Stream(_)) => self.from..self.from + len,
                (Order::Backward, _) => self.to - len..self.to,
            };
            match self.order {
                Order::Forward => self.from = chunk.end,
                Order::Backward => self.to = chunk.start,
            }
            let mut events: Vec<Event> = match &self.over {
                Over::All(filter) => state.events[chunk.clone()]
                    .iter()
                    .filter(|event| filter.matches(&event.as_ref()))
                    .cloned()
                    .collect(),
                Over::Stream(stream) => state.streams.get(stream).map_or(Vec::new(), |offsets| {
                    let offsets = offsets[chunk.clone()].iter();
                    offsets.map(|&at| state.events[at].clone()).collect()
                }),
            };
            if events.is_empty() {
                continue;
            }
            return Some(match (self.order, &self.over) {
                (Order::Forward, Over::All(_)) => {
                    let reach = Reach::of(PartitionId(0), begun as u64..chunk.end as u64);
                    let appends = state.appends_in(begun..chunk.end).to_vec();
                    EventBatch::of_run(events, reach, appends)
                }
                (Order::Forward, Over::Stream(_)) => events.into(),
                (Order::Backward, _) => {
                    events.reverse();
                    events.into()
                }
            });
        }
        None
    }
}

impl BatchSource for Walk {
    fn poll_next_batch(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        Poll::Ready(self.next_chunk().map(Ok))
    }
}

/// A walk whose range grows with the log.
struct Follow {
    walk: Walk,
    /// Names it among the followers, once it has waited.
    key: Option<u64>,
}

impl BatchSource for Follow {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        loop {
            if let Some(events) = self.walk.next_chunk() {
                return Poll::Ready(Some(Ok(events)));
            }
            let mut state = self.walk.shared.lock();
            self.walk.to = state.events.len();
            if self.walk.from < self.walk.to {
                continue;
            }
            if state.closed {
                return Poll::Ready(Some(Err(ReadError::Closed)));
            }
            // Under the same lock as the look at the end: no append can slip in between.
            let key = *self.key.get_or_insert_with(|| {
                state.next_key += 1;
                state.next_key
            });
            let before = state.followers.insert(key, cx.waker().clone());
            drop(state);
            drop(before);
            return Poll::Pending;
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let before = self.walk.shared.lock().followers.remove(&key);
            drop(before);
        }
    }
}
