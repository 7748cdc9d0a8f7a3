//! A small log of several partitions in memory with each protection once, so that one of them can
//! be left out. A reader looks at the partitions that it reads from, and at no others.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, CausalClock, Condition,
    EventStream, Layout, Log, MemoryLog, Order, Placed, ReadError, ReadMode, Scope, VersionRange,
};
use anabranch_model::{Cut, Event, EventBatch, EventId, Filter, PartitionId, Reach, StreamId};

use crate::engine::{Engine, layout};
use crate::slow::Slow;

/// What makes that no effect is seen without its cause.
#[derive(Clone, Copy)]
pub struct Protections {
    /// A reader is given an event behind what it depends on.
    pub gate: bool,
    /// What a write answers has what its partition depended on before.
    pub history: bool,
    /// With an event all is stored that it depends on, and not only the nearest.
    pub transitive: bool,
    /// What the filter leaves out says of its causes.
    pub hidden: bool,
    /// What came into the log together is given together.
    pub siblings: bool,
}

impl Protections {
    pub const ALL: Self = Self {
        gate: true,
        history: true,
        transitive: true,
        hidden: true,
        siblings: true,
    };
}

/// The engine.
pub struct Minimal(Arc<State>);

struct State {
    layout: Layout,
    parts: Vec<MemoryLog>,
    protections: Protections,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Of each partition, what its events depend on, up to each of them.
    before: Vec<Vec<Cut>>,
    waiting: Vec<Waker>,
}

impl Minimal {
    pub fn new(protections: Protections) -> Self {
        let env = Env::os();
        let env = Env {
            clock: Arc::new(CausalClock::new(env.clock.clone())),
            ..env
        };
        let layout = layout();
        let parts = layout.ids().map(|_| MemoryLog::new(env.clone()));
        Self(Arc::new(State {
            parts: parts.collect(),
            known: Mutex::new(Known {
                before: vec![Vec::new(); layout.partitions() as usize],
                waiting: Vec::new(),
            }),
            layout,
            protections,
        }))
    }
}

impl Engine for Minimal {
    fn log(&self) -> Arc<dyn Log> {
        self.behind(&Slow::new())
    }

    fn behind(&self, slow: &Arc<Slow>) -> Arc<dyn Log> {
        Arc::new(Handle {
            state: self.0.clone(),
            slow: slow.clone(),
        })
    }
}

struct Handle {
    state: Arc<State>,
    slow: Arc<Slow>,
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory waits"),
    }
}

fn causes_of(event: &Event) -> Cut {
    event.as_ref().meta.decode().unwrap().causes
}

impl State {
    fn head(&self) -> Cut {
        let mut head = Cut::start();
        for (id, part) in self.layout.ids().zip(&self.parts) {
            head.set(id, now(part.head()).unwrap().get(PartitionId(0)));
        }
        head
    }

    /// What `from` includes, newest first.
    fn backward(&self, from: &Cut, filter: &Filter) -> EventStream {
        let mut events = Vec::new();
        for (id, part) in self.layout.ids().zip(&self.parts) {
            let at = Cut::at(from.get(id));
            let mut read = part.read(&at, filter.clone(), ReadMode::Backward);
            while let Some(event) = now(read.next()) {
                let mut event = event.unwrap();
                event.position.partition = id;
                events.push(event);
            }
        }
        events.sort_by_key(|event| std::cmp::Reverse((event.recorded_at, event.position)));
        EventStream::new(Once((!events.is_empty()).then(|| events.into())))
    }

    /// Whatever its events stand in. That a part of an append is refused and another is not does not
    /// come: the scenarios have one writer.
    fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let known = &mut *self.known.lock().unwrap();
        let home = |stream: &StreamId| self.layout.partition_of(stream);
        let mut parts: BTreeMap<PartitionId, (Append, Vec<usize>)> = BTreeMap::new();
        for (number, event) in append.events.into_iter().enumerate() {
            let (part, numbers) = parts.entry(home(&event.stream)).or_default();
            part.events.push(event);
            numbers.push(number);
        }
        for condition in append.conditions {
            if let Condition::Stream(stream, _) = &condition {
                let (part, _) = parts.get_mut(&home(stream)).unwrap();
                part.conditions.push(condition);
            }
        }
        let mut siblings = Cut::start();
        if parts.len() > 1 && self.protections.siblings {
            let head = self.head();
            for (&id, (part, _)) in &parts {
                let before = head.get(id) as usize;
                let said = known.before[id.0 as usize][..before].last().cloned();
                siblings.join(&said.unwrap_or_default());
                siblings.set(id, before as u64 + part.events.len() as u64);
            }
        }
        let mut whole: Option<(Vec<(usize, Placed)>, Appended)> = None;
        for (id, (part, numbers)) in parts {
            let appended = self.append_part(known, id, part, &siblings)?;
            let places = numbers.into_iter().zip(appended.places.clone());
            match &mut whole {
                None => whole = Some((places.collect(), appended)),
                Some((all, answer)) => {
                    all.extend(places);
                    answer.closure.join(&appended.closure);
                }
            }
        }
        let (mut places, mut answer) = whole.unwrap();
        places.sort_unstable_by_key(|(number, _)| *number);
        answer.places = places.into_iter().map(|(_, place)| place).collect();
        for waiting in known.waiting.drain(..) {
            waiting.wake();
        }
        Ok(answer)
    }

    fn append_part(
        &self,
        known: &mut Known,
        home: PartitionId,
        mut append: Append,
        siblings: &Cut,
    ) -> Result<Appended, AppendError> {
        let index = home.0 as usize;
        let mut causes = siblings.clone();
        for event in &append.events {
            causes.join(
                &event
                    .meta
                    .as_ref()
                    .map_or(Cut::start(), |meta| meta.causes.clone()),
            );
        }
        let before = known.before[index].last().cloned().unwrap_or_default();
        let mut delta = Cut::start();
        for (q, count) in causes.iter().filter(|&(q, _)| q != home) {
            let is_said = before.get(q) >= count;
            // What another cause depends on is further away.
            let is_far = !self.protections.transitive
                && causes.iter().any(|(other, to)| {
                    let of_other = known.before[other.0 as usize].get(to as usize - 1);
                    other != q && of_other.is_some_and(|said| said.get(q) >= count)
                });
            if !is_said && !is_far {
                delta.set(q, count);
            }
        }
        for (n, event) in append.events.iter_mut().enumerate() {
            event.meta_mut().causes = if n == 0 { delta.clone() } else { Cut::start() };
        }
        let count = append.events.len();
        let mut appended = now(self.parts[index].append(append))?;
        if !appended.repeated {
            let mut depends = before;
            depends.join(&causes);
            known.before[index].extend(std::iter::repeat_n(depends, count));
        }
        for place in &mut appended.places {
            place.position.partition = home;
        }
        appended.closure = appended.cut();
        appended.closure.join(&causes);
        if self.protections.history {
            let last = appended.places.last().unwrap().position.offset as usize;
            let own = appended.closure.get(home);
            appended.closure.join(&known.before[index][last]);
            appended.closure.set(home, own);
        }
        Ok(appended)
    }
}

/// A forward read.
struct Merge {
    state: Arc<State>,
    slow: Arc<Slow>,
    filter: Filter,
    /// The partitions in which there may be what it wants.
    sub: BTreeSet<PartitionId>,
    given: Cut,
    until: Option<Cut>,
}

impl Merge {
    /// The next event of a partition, if it may be given.
    fn next_of(&self, id: PartitionId, cx: &Context<'_>) -> Option<EventBatch> {
        let at = self.given.get(id);
        let part = &self.state.parts[id.0 as usize];
        let end = now(part.head()).unwrap().get(PartitionId(0));
        let until = self.until.as_ref().map_or(u64::MAX, |until| until.get(id));
        let limit = self.slow.limit(id, cx).min(end).min(until);
        if at >= limit {
            return None;
        }
        let reach = |to| Reach::of(id, at..to);
        if !self.sub.contains(&id) {
            return Some(EventBatch::of_run(Vec::new(), reach(limit), Vec::new()));
        }
        self.slow.took(id, limit);
        let mut events = part.read(&Cut::at(at), Filter::all(), ReadMode::ToHead);
        let mut event = now(events.next()).unwrap().unwrap();
        event.position.partition = id;
        let passes = self.filter.matches(&event.as_ref());
        let Protections { gate, hidden, .. } = self.state.protections;
        let needs = match passes || hidden {
            true => causes_of(&event),
            false => Cut::start(),
        };
        let is_free = needs
            .iter()
            .all(|(q, count)| !self.sub.contains(&q) || self.given.get(q) >= count);
        if gate && !is_free {
            return None;
        }
        let (events, appends) = match passes {
            true => (vec![event], vec![at]),
            false => (Vec::new(), Vec::new()),
        };
        Some(EventBatch::of_run(events, reach(at + 1), appends))
    }
}

impl Merge {
    fn event(&self, id: PartitionId, offset: u64) -> Event {
        let part = &self.state.parts[id.0 as usize];
        let mut events = part.read(&Cut::at(offset), Filter::all(), ReadMode::ToHead);
        let mut event = now(events.next()).unwrap().unwrap();
        event.position.partition = id;
        event
    }

    /// The least that has the next event of a partition with all that it depends on, if that may be
    /// given: events that depend on one another.
    fn closed_with(&self, id: PartitionId, cx: &Context<'_>) -> Option<Cut> {
        let mut to = self.given.clone();
        to.set(id, to.get(id) + 1);
        loop {
            let mut is_closed = true;
            for &id in &self.sub {
                let end = now(self.state.parts[id.0 as usize].head()).unwrap();
                let until = self.until.as_ref().map_or(u64::MAX, |until| until.get(id));
                let limit = self
                    .slow
                    .limit(id, cx)
                    .min(end.get(PartitionId(0)))
                    .min(until);
                if to.get(id) > self.given.get(id) && to.get(id) > limit {
                    return None;
                }
                for offset in self.given.get(id)..to.get(id) {
                    for (q, count) in causes_of(&self.event(id, offset)).iter() {
                        if self.sub.contains(&q) && q != id && to.get(q) < count {
                            to.set(q, count);
                            is_closed = false;
                        }
                    }
                }
            }
            if is_closed {
                return (to.get(id) <= self.slow.limit(id, cx) && self.sub.contains(&id))
                    .then_some(to);
            }
        }
    }

    fn up_to(&self, to: &Cut) -> EventBatch {
        let mut batches = Vec::new();
        for (id, end) in to.iter() {
            let from = self.given.get(id);
            if from < end {
                self.slow.took(id, end);
                let events = (from..end).map(|offset| self.event(id, offset));
                let events: Vec<_> = events
                    .filter(|event| self.filter.matches(&event.as_ref()))
                    .collect();
                let appends = events.iter().map(|event| event.position.offset).collect();
                batches.push(EventBatch::of_run(
                    events,
                    Reach::of(id, from..end),
                    appends,
                ));
            }
        }
        EventBatch::together(batches)
    }
}

impl BatchSource for Merge {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        if let Some(until) = &self.until
            && self.given.covers(until)
        {
            return Poll::Ready(None);
        }
        let waker = cx.waker().clone();
        self.state.known.lock().unwrap().waiting.push(waker);
        for id in self.state.layout.ids() {
            if let Some(batch) = self.next_of(id, cx) {
                let end = batch.reach().unwrap().offsets.end;
                self.given.set(id, end);
                return Poll::Ready(Some(Ok(batch)));
            }
        }
        for id in self.state.layout.ids() {
            if let Some(to) = self.closed_with(id, cx) {
                let batch = self.up_to(&to);
                self.given = to;
                return Poll::Ready(Some(Ok(batch)));
            }
        }
        Poll::Pending
    }
}

impl Log for Handle {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            partitions: self.state.layout.partitions(),
            batches: Scope::Log,
            conditions: Scope::Stream,
            no_match: None,
            total_order: false,
            ..self.state.parts[0].capabilities()
        }
    }

    fn layout(&self) -> Layout {
        self.state.layout.clone()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async { self.state.append(append) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let home = self.state.layout.partition_of(stream);
        let mut inner = self.state.parts[home.0 as usize].read_stream(stream, range, order);
        let mut events = Vec::new();
        while let Some(event) = now(inner.next()) {
            let mut event = event.unwrap();
            event.position.partition = home;
            events.push(event);
        }
        EventStream::new(Once((!events.is_empty()).then(|| events.into())))
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        if mode == ReadMode::Backward {
            return self.state.backward(from, &filter);
        }
        let layout = &self.state.layout;
        // Hops have partitions of their own, and so have system streams.
        let is_in = |id: &PartitionId| match filter.categories.is_empty() {
            true => true,
            false => filter.categories.iter().any(|category| match &**category {
                "hop" => (1..3).contains(&id.0),
                system if system.starts_with('$') => id.0 == 0,
                _ => id.0 >= 3,
            }),
        };
        let sub: BTreeSet<_> = layout.ids().filter(is_in).collect();
        let mut until = Cut::start();
        for (id, count) in self.state.head().iter().filter(|(id, _)| sub.contains(id)) {
            until.set(id, count);
        }
        EventStream::new(Merge {
            state: self.state.clone(),
            slow: self.slow.clone(),
            sub,
            filter,
            given: from.clone(),
            until: (mode == ReadMode::ToHead).then_some(until),
        })
    }

    fn is_far(&self) -> bool {
        true
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        Box::pin(async move {
            for (partition, part) in self.state.layout.ids().zip(&self.state.parts) {
                if let Some(mut placed) = part.find(id).await? {
                    placed.position.partition = partition;
                    return Ok(Some(placed));
                }
            }
            Ok(None)
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async { Ok(self.state.head()) })
    }
}

/// What is there, once.
struct Once(Option<EventBatch>);

impl BatchSource for Once {
    fn poll_next_batch(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}
