//! Conditions over partitions: what an append looks at stays as it is until the append is written.
//!
//! A partition checks conditions on its own streams itself. What an append looks at in *other*
//! partitions is checked here, and from the look until the append's answer nobody writes to it. So
//! at the moment of the write all conditions hold, as in a log with one partition.
//!
//! * Who writes and who looks keep one another out; writers do not, nor do lookers.
//! * An append takes all that it needs at once, and waits holding nothing: nobody waits in a
//!   circle. Who came first goes first, so nobody waits for ever.
//! * An append to several partitions has them for itself: nobody else writes or looks there. So it
//!   knows where its events will stand before it writes any of them.
//! * An append whose answer nobody has got may still be written. What it holds is free when its
//!   partition says what became of it. One to several partitions that was decided on has to be
//!   written before.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use anabranch_model::{EventId, StreamId, Version};

use super::together::Together;

/// Of an append to more streams than this it is only known that it writes to its partition.
const STREAMS_MAX: usize = 8;
/// More lost appends than this are looked for also where they keep nobody out.
const LOST_MAX: usize = 64;
/// Of so many streams it is remembered how they were found.
const FOUND_MAX: usize = 1_024;

/// What an append writes and looks at. Streams are named by a hash.
#[derive(Debug, Clone)]
pub(super) struct Wants {
    /// The partition that it writes.
    pub home: usize,
    /// The streams that it writes; `None`: many.
    writes: Option<Vec<u64>>,
    /// What it looks at in other partitions; `None`: all streams of one.
    pub looks: Vec<(usize, Option<u64>)>,
    /// The partitions that it has for itself, `home` among them; none if it writes to `home` only.
    pub alone: Vec<usize>,
    /// The id of its last event.
    pub last: EventId,
    /// What it writes to several partitions, once that is decided.
    decided: Option<Arc<Together>>,
}

impl Wants {
    pub fn new(home: usize, last: EventId) -> Self {
        Self {
            home,
            writes: Some(Vec::new()),
            looks: Vec::new(),
            alone: Vec::new(),
            last,
            decided: None,
        }
    }

    /// Of an append that is written to these partitions, as is decided.
    pub fn decided(partitions: Vec<usize>, last: EventId, together: Arc<Together>) -> Self {
        Self {
            alone: partitions.clone(),
            decided: Some(together),
            ..Self::new(partitions.first().copied().unwrap_or_default(), last)
        }
    }

    pub fn write(&mut self, stream: u64) {
        if let Some(writes) = &mut self.writes
            && !writes.contains(&stream)
        {
            writes.push(stream);
            if writes.len() > STREAMS_MAX {
                self.writes = None;
            }
        }
    }

    /// Looks at a stream of another partition, or at all of one.
    pub fn look(&mut self, partition: usize, stream: Option<u64>) {
        if !self.looks.contains(&(partition, stream)) {
            self.looks.push((partition, stream));
        }
    }

    fn keeps_out(&self, other: &Self) -> bool {
        self.looks_at_writes_of(other)
            || other.looks_at_writes_of(self)
            || self.alone.iter().any(|&partition| other.is_in(partition))
            || other.alone.iter().any(|&partition| self.is_in(partition))
    }

    /// Whether it writes or looks at something there.
    fn is_in(&self, partition: usize) -> bool {
        let mut looks = self.looks.iter();
        self.home == partition
            || self.alone.contains(&partition)
            || looks.any(|&(looked_at, _)| looked_at == partition)
    }

    fn looks_at_writes_of(&self, other: &Self) -> bool {
        let sees = |&(partition, stream): &(usize, Option<u64>)| {
            partition == other.home
                && match (stream, &other.writes) {
                    (Some(stream), Some(writes)) => writes.contains(&stream),
                    _ => true,
                }
        };
        self.looks.iter().any(sees)
    }
}

/// How many write and look, of one stream or of many.
#[derive(Default)]
struct Count {
    writers: u32,
    lookers: u32,
}

#[derive(Default)]
struct Part {
    all: Count,
    /// Those whose streams are not known one by one: they are of all.
    wide: Count,
    streams: HashMap<u64, Count>,
    found: HashMap<u64, Found>,
}

/// How a stream was found, which nobody has written since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub stream: StreamId,
    /// Version and offset of its last event; `None`: it is empty.
    pub last: Option<(Version, u64)>,
}

impl Part {
    fn lets_write(&self, streams: Option<&[u64]>) -> bool {
        if self.all.lookers == 0 {
            return true;
        }
        let is_seen = |stream| self.streams.get(stream).is_some_and(|at| at.lookers > 0);
        self.wide.lookers == 0 && streams.is_some_and(|streams| !streams.iter().any(is_seen))
    }

    fn lets_look(&self, stream: Option<u64>) -> bool {
        let is_written = |stream| {
            let at = self.streams.get(&stream);
            at.is_some_and(|at| at.writers > 0)
        };
        self.all.writers == 0
            || self.wide.writers == 0 && stream.is_some_and(|stream| !is_written(stream))
    }

    /// Counts with `count` of one stream or of none in particular.
    fn change(&mut self, stream: Option<u64>, mut count: impl FnMut(&mut Count)) {
        match stream {
            None => count(&mut self.wide),
            Some(stream) => {
                let at = self.streams.entry(stream).or_default();
                count(at);
                if at.writers == 0 && at.lookers == 0 {
                    self.streams.remove(&stream);
                }
            }
        }
    }

    fn change_all(&mut self, streams: Option<&[u64]>, mut count: impl FnMut(&mut Count)) {
        match streams {
            None => self.change(None, count),
            Some(streams) => {
                for &stream in streams {
                    self.change(Some(stream), &mut count);
                }
            }
        }
    }
}

struct Waiting {
    ticket: u64,
    wants: Wants,
    waker: Waker,
}

#[derive(Default)]
struct State {
    parts: Vec<Part>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// Held by appends whose answer nobody has got.
    lost: Vec<Wants>,
    next: u64,
}

impl State {
    /// Whether `wants` need not wait; `ticket` says where it stands among those that do.
    fn lets(&self, wants: &Wants, ticket: u64) -> bool {
        let mut looks = wants.looks.iter();
        let mut before = self.waiting.iter().take_while(|at| at.ticket < ticket);
        let is_free = |&partition: &usize| {
            let part = &self.parts[partition];
            part.all.writers == 0 && part.all.lookers == 0
        };
        let may_write = match wants.alone.as_slice() {
            [] => self.parts[wants.home].lets_write(wants.writes.as_deref()),
            alone => alone.iter().all(is_free),
        };
        may_write
            && looks.all(|&(partition, stream)| self.parts[partition].lets_look(stream))
            && !before.any(|before| before.wants.keeps_out(wants))
    }

    fn enter(&mut self, wants: &Wants) {
        for &partition in &wants.alone {
            let part = &mut self.parts[partition];
            (part.all.writers, part.all.lookers) = (1, 1);
            (part.wide.writers, part.wide.lookers) = (1, 1);
        }
        if wants.alone.is_empty() {
            let home = &mut self.parts[wants.home];
            home.all.writers += 1;
            let writes = wants.writes.as_deref();
            home.change_all(writes, |count| count.writers += 1);
            match writes {
                None => home.found.clear(),
                Some(_) if home.found.is_empty() => {}
                Some(streams) => home.found.retain(|stream, _| !streams.contains(stream)),
            }
        }
        for &(partition, stream) in &wants.looks {
            let part = &mut self.parts[partition];
            part.all.lookers += 1;
            part.change(stream, |count| count.lookers += 1);
        }
    }

    /// Whom to wake, now that `wants` is over.
    fn leave(&mut self, wants: &Wants) -> Vec<Waker> {
        for &partition in &wants.alone {
            let part = &mut self.parts[partition];
            (part.all, part.wide) = (Count::default(), Count::default());
            // What it has looked at it may have written.
            part.found.clear();
        }
        if wants.alone.is_empty() {
            let home = &mut self.parts[wants.home];
            home.all.writers -= 1;
            home.change_all(wants.writes.as_deref(), |count| count.writers -= 1);
        }
        for &(partition, stream) in &wants.looks {
            let part = &mut self.parts[partition];
            part.all.lookers -= 1;
            part.change(stream, |count| count.lookers -= 1);
        }
        self.wakers()
    }

    /// The lost appends that keep `wants` out; all of them when there are many.
    fn lost(&self, wants: &Wants) -> Vec<Lost> {
        let are_many = self.lost.len() > LOST_MAX;
        let lost = self.lost.iter();
        lost.filter(|lost| are_many || lost.keeps_out(wants))
            .map(Lost::of)
            .collect()
    }

    fn wakers(&self) -> Vec<Waker> {
        self.waiting.iter().map(|at| at.waker.clone()).collect()
    }
}

/// An append whose answer nobody has got.
#[derive(Clone)]
pub(super) struct Lost {
    pub home: usize,
    /// The id of its last event.
    pub last: EventId,
    /// What it writes to several partitions, if that was decided.
    pub decided: Option<Arc<Together>>,
}

impl Lost {
    fn of(wants: &Wants) -> Self {
        Self {
            home: wants.home,
            last: wants.last,
            decided: wants.decided.clone(),
        }
    }
}

/// See the module's text.
pub(super) struct Held(Mutex<State>);

impl Held {
    /// Of so many partitions.
    pub fn new(partitions: usize) -> Self {
        Self(Mutex::new(State {
            parts: (0..partitions).map(|_| Part::default()).collect(),
            ..State::default()
        }))
    }

    /// What is behind the lock is changed only by code that does not panic midway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an append needs, if that is free and nobody waits for it.
    pub fn try_take(&self, wants: Wants) -> Result<Hold<'_>, Wants> {
        let mut state = self.lock();
        if state.lost.len() > LOST_MAX || !state.lets(&wants, u64::MAX) {
            return Err(wants);
        }
        state.enter(&wants);
        Ok(Hold::new(self, wants))
    }

    /// Takes what an append needs, as soon as that is free.
    pub fn take(&self, wants: Wants) -> Taking<'_> {
        Taking {
            held: self,
            wants: Some(wants),
            ticket: None,
        }
    }

    /// An append to several partitions that was decided on before the log was opened may not be
    /// written everywhere yet.
    pub fn is_decided(&self, wants: Wants) {
        let mut state = self.lock();
        state.enter(&wants);
        state.lost.push(wants);
    }

    /// The appends to several partitions that were decided on and that nobody writes.
    pub fn undone(&self) -> Vec<Lost> {
        let state = self.lock();
        let undone = state.lost.iter().filter(|wants| wants.decided.is_some());
        undone.map(Lost::of).collect()
    }

    /// The partition of this append has said what became of it.
    pub fn is_over(&self, home: usize, last: EventId) {
        let mut state = self.lock();
        let is_it = |wants: &Wants| wants.home == home && wants.last == last;
        let Some(at) = state.lost.iter().position(is_it) else {
            return;
        };
        let wants = state.lost.swap_remove(at);
        let wakers = state.leave(&wants);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How a stream was found that the caller looks at, if that is still known.
    pub fn found(&self, partition: usize, hash: u64, stream: &StreamId) -> Option<Found> {
        let state = self.lock();
        let found = state.parts[partition].found.get(&hash);
        found.filter(|found| found.stream == *stream).cloned()
    }

    /// Remembers how a stream was found that the caller looks at.
    pub fn remember(&self, partition: usize, hash: u64, found: Found) {
        let found_all = &mut self.lock().parts[partition].found;
        if found_all.len() >= FOUND_MAX {
            found_all.clear();
        }
        found_all.insert(hash, found);
    }
}

/// What an append holds. Dropped before it is sent, it is free.
pub(super) struct Hold<'a> {
    held: &'a Held,
    wants: Option<Wants>,
    is_sent: bool,
}

impl<'a> Hold<'a> {
    fn new(held: &'a Held, wants: Wants) -> Self {
        Self {
            held,
            wants: Some(wants),
            is_sent: false,
        }
    }

    /// From now on it may be written.
    pub fn is_sent(&mut self) {
        self.is_sent = true;
    }

    /// From now on this has to be written.
    pub fn is_decided(&mut self, together: Arc<Together>) {
        self.is_sent = true;
        if let Some(wants) = &mut self.wants {
            wants.decided = Some(together);
        }
    }

    /// It is known what became of it, or that this is not known.
    pub fn answered(mut self, is_known: bool) {
        self.is_sent = !is_known;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let Some(wants) = self.wants.take() else {
            return;
        };
        let mut state = self.held.lock();
        let wakers = if self.is_sent {
            state.lost.push(wants);
            state.wakers()
        } else {
            state.leave(&wants)
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// What [`Held::take`] comes to.
pub(super) enum Taken<'a> {
    Hold(Hold<'a>),
    /// First it has to be found out what became of these appends.
    Lost(Vec<Lost>),
}

/// An append that waits its turn. It keeps its place while what was lost is looked for.
pub(super) struct Taking<'a> {
    held: &'a Held,
    wants: Option<Wants>,
    ticket: Option<u64>,
}

impl<'a> Future for &mut Taking<'a> {
    type Output = Taken<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken<'a>> {
        let this = &mut **self;
        let mut state = this.held.lock();
        let Some(wants) = &this.wants else {
            return Poll::Pending;
        };
        let lost = state.lost(wants);
        if lost.is_empty() && state.lets(wants, this.ticket.unwrap_or(u64::MAX)) {
            state.enter(wants);
            drop(state);
            return match this.wants.take() {
                Some(wants) => Poll::Ready(Taken::Hold(Hold::new(this.held, wants))),
                None => Poll::Pending,
            };
        }
        let ticket = *this.ticket.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let waker = cx.waker().clone();
        match state.waiting.iter_mut().find(|at| at.ticket == ticket) {
            Some(at) => at.waker = waker,
            None => state.waiting.push(Waiting {
                ticket,
                wants: wants.clone(),
                waker,
            }),
        }
        match lost.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(Taken::Lost(lost)),
        }
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.held.lock();
            state.waiting.retain(|at| at.ticket != ticket);
            let wakers = state.wakers();
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use anabranch_env::SplitMix64;

    use super::*;

    fn writes(home: usize, stream: u64) -> Wants {
        let mut wants = Wants::new(home, EventId::from_u128(stream.into()));
        wants.write(stream);
        wants
    }

    /// An append to a stream 9 of partition 1 that looks at partition 0.
    fn looks(stream: Option<u64>) -> Wants {
        let mut wants = writes(1, 9);
        wants.look(0, stream);
        wants
    }

    fn poll<'a>(taking: &mut Taking<'a>) -> Option<Taken<'a>> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(taking).poll(&mut cx) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    fn holds<'a>(taking: &mut Taking<'a>) -> Hold<'a> {
        match poll(taking) {
            Some(Taken::Hold(hold)) => hold,
            _ => panic!("it has to wait"),
        }
    }

    #[test]
    fn who_looks_keeps_out_just_who_writes_there() {
        let held = Held::new(2);
        let looking = held.try_take(looks(Some(7))).ok();
        assert!(looking.is_some());
        assert!(held.try_take(writes(0, 7)).is_err());
        assert!(held.try_take(looks(Some(7))).is_ok());
        assert!(held.try_take(writes(0, 8)).is_ok());
        assert!(held.try_take(writes(1, 7)).is_ok());
        let mut many = Wants::new(0, EventId::from_u128(1));
        (0..=STREAMS_MAX as u64).for_each(|n| many.write(100 + n));
        assert!(held.try_take(many.clone()).is_err());
        drop(looking);
        assert!(held.try_take(writes(0, 7)).is_ok());
        assert!(held.try_take(many).is_ok());
    }

    #[test]
    fn who_writes_keeps_out_just_who_looks_there() {
        let held = Held::new(2);
        let writing = held.try_take(writes(0, 7)).ok();
        assert!(writing.is_some());
        assert!(held.try_take(writes(0, 7)).is_ok());
        assert!(held.try_take(looks(Some(7))).is_err());
        assert!(held.try_take(looks(None)).is_err());
        assert!(held.try_take(looks(Some(8))).is_ok());
        drop(writing);
        assert!(held.try_take(looks(None)).is_ok());
    }

    #[test]
    fn who_waits_longest_goes_first() {
        let held = Held::new(2);
        let first = held.try_take(writes(0, 7)).ok();
        let mut looking = held.take(looks(Some(7)));
        assert!(poll(&mut looking).is_none());
        // Else writers, one after another, could keep it out for ever.
        let mut writing = held.take(writes(0, 7));
        assert!(poll(&mut writing).is_none());
        drop(first);
        assert!(poll(&mut writing).is_none());
        let hold = holds(&mut looking);
        drop(looking);
        assert!(poll(&mut writing).is_none());
        drop(hold);
        drop(holds(&mut writing));
    }

    #[test]
    fn who_gives_up_keeps_nobody_out() {
        let held = Held::new(2);
        let first = held.try_take(writes(0, 7)).ok();
        let mut looking = held.take(looks(Some(7)));
        assert!(poll(&mut looking).is_none());
        assert!(held.try_take(writes(0, 7)).is_err());
        drop(looking);
        assert!(held.try_take(writes(0, 7)).is_ok());
        drop(first);
    }

    #[test]
    fn what_may_still_be_written_keeps_out_until_it_is_known() {
        let held = Held::new(2);
        let mut sent = held.try_take(writes(0, 7)).ok();
        sent.iter_mut().for_each(Hold::is_sent);
        drop(sent);
        let mut looking = held.take(looks(Some(7)));
        match poll(&mut looking) {
            Some(Taken::Lost(lost)) => {
                let lost: Vec<_> = lost.iter().map(|lost| (lost.home, lost.last)).collect();
                assert_eq!(lost, [(0, EventId::from_u128(7))]);
            }
            _ => panic!("nobody is told to look for it"),
        }
        held.is_over(0, EventId::from_u128(7));
        drop(holds(&mut looking));
    }

    fn alone(partitions: &[usize]) -> Wants {
        let mut wants = Wants::new(partitions[0], EventId::from_u128(100));
        wants.alone = partitions.to_vec();
        wants
    }

    #[test]
    fn who_writes_to_several_partitions_has_them_for_itself() {
        let held = Held::new(4);
        let found = Found {
            stream: "order/7".parse().expect("a stream"),
            last: None,
        };
        let both = held.try_take(alone(&[0, 1])).ok();
        assert!(both.is_some());
        held.remember(1, 7, found.clone());
        for other in [writes(0, 7), writes(1, 7), looks(None), alone(&[1, 2])] {
            assert!(held.try_take(other).is_err());
        }
        assert!(held.try_take(writes(2, 7)).is_ok());
        assert!(held.try_take(alone(&[2, 3])).is_ok());
        drop(both);
        // It may have written what it has looked at.
        assert_eq!(held.found(1, 7, &found.stream), None);
        let writing = held.try_take(writes(1, 7)).ok();
        assert!(held.try_take(alone(&[0, 1])).is_err());
        drop(writing);
        let looking = held.try_take(looks(Some(7))).ok();
        assert!(held.try_take(alone(&[0, 2])).is_err());
        drop(looking);
        assert!(held.try_take(alone(&[0, 2])).is_ok());
    }

    fn drawn(rng: &mut SplitMix64, number: u64) -> Wants {
        let home = rng.below(3) as usize;
        let mut wants = Wants::new(home, EventId::from_u128(number.into()));
        if rng.one_in(6) {
            wants.alone = vec![home, (home + 1) % 3];
            return wants;
        }
        let streams = if rng.one_in(8) { 20 } else { 1 + rng.below(2) };
        (0..streams).for_each(|n| wants.write((rng.below(4) + n) % 20));
        for _ in 0..rng.below(3) {
            let partition = (home + 1 + rng.below(2) as usize) % 3;
            let stream = (!rng.one_in(6)).then(|| rng.below(4));
            wants.look(partition, stream);
        }
        wants
    }

    /// Panics if somebody has got in beside who keeps them out.
    fn assert_apart(seed: u64, inside: &[(Wants, Option<Hold<'_>>)]) {
        for (at, (one, _)) in inside.iter().enumerate() {
            for (other, _) in &inside[..at] {
                assert!(!one.keeps_out(other), "seed {seed}: {one:?}, {other:?}");
            }
        }
    }

    #[test]
    fn in_random_runs_nobody_looks_at_what_is_written_and_all_get_their_turn() {
        for seed in 0..200 {
            let mut rng = SplitMix64::new(seed);
            let held = Held::new(3);
            let mut waiting: Vec<(Wants, Taking<'_>)> = Vec::new();
            // Those whose answer nobody has got hold without a hold.
            let mut inside: Vec<(Wants, Option<Hold<'_>>)> = Vec::new();
            for step in 0..400 {
                if step < 300 && waiting.len() < 8 {
                    let wants = drawn(&mut rng, step);
                    waiting.push((wants.clone(), held.take(wants)));
                }
                if !waiting.is_empty() {
                    let at = rng.below(waiting.len() as u64) as usize;
                    if let Some(Taken::Hold(hold)) = poll(&mut waiting[at].1) {
                        inside.push((waiting.swap_remove(at).0, Some(hold)));
                    } else if rng.one_in(10) {
                        drop(waiting.swap_remove(at));
                    }
                }
                assert_apart(seed, &inside);
                if rng.one_in(2) && !inside.is_empty() {
                    let at = rng.below(inside.len() as u64) as usize;
                    let (wants, hold) = inside.swap_remove(at);
                    match hold {
                        None => held.is_over(wants.home, wants.last),
                        Some(mut hold) if rng.one_in(4) => {
                            hold.is_sent();
                            hold.answered(false);
                            inside.push((wants, None));
                        }
                        Some(hold) => drop(hold),
                    }
                }
            }
            for (wants, hold) in inside {
                drop(hold);
                held.is_over(wants.home, wants.last);
            }
            while !waiting.is_empty() {
                let before = waiting.len();
                waiting.retain_mut(|(_, taking)| poll(taking).is_none());
                assert!(waiting.len() < before, "seed {seed}: nobody gets in");
            }
            let state = held.lock();
            assert!(
                state.waiting.is_empty() && state.lost.is_empty(),
                "seed {seed}"
            );
            let is_free = |part: &Part| part.streams.is_empty() && part.all.writers == 0;
            assert!(state.parts.iter().all(is_free), "seed {seed}");
        }
    }

    #[test]
    fn how_a_stream_was_found_is_forgotten_when_it_is_written() {
        let held = Held::new(2);
        let stream: StreamId = "order/7".parse().expect("a stream");
        let found = Found {
            stream: stream.clone(),
            last: Some((3, 30)),
        };
        held.remember(0, 7, found.clone());
        assert_eq!(held.found(0, 7, &stream), Some(found.clone()));
        let other = "order/8".parse().expect("a stream");
        assert_eq!(held.found(0, 7, &other), None);
        assert!(held.try_take(writes(0, 8)).is_ok());
        assert_eq!(held.found(0, 7, &stream), Some(found));
        assert!(held.try_take(writes(0, 7)).is_ok());
        assert_eq!(held.found(0, 7, &stream), None);
    }
}
