//! Loading, resting, parking, leaving.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::StreamId;

use super::item::{Item, Out};
use super::kind::{Drive, Standing};
use super::load::{LoadError, load_newest};
use super::shard::{Done, Shard, learn_open};
use super::shared::Shared;
use super::slot::{Durable, HELD_MAX, Live, Slot, State};
use crate::panics::contain;
use crate::send_error::SendError;
use crate::snapshot::Snapshot;

/// A machine that leaves memory, or was just read, is kept in a snapshot if it has this many events
/// behind its newest one.
const SNAPSHOT_EVENTS_MIN: u64 = 32;

/// How many streams a shard reads at once.
const LOADS_MAX: usize = 256;

/// What another runtime has sent, and nobody has answered for so long, is sent here too: that
/// runtime may have gone.
const OTHERS_SEND_FOR: Duration = Duration::from_secs(300);

impl Shard {
    /// Takes a machine out of memory, and gives back what its slot was.
    pub fn leave(&mut self, stream: &StreamId) -> State {
        self.replace(stream, State::Idle)
    }

    fn replace(&mut self, stream: &StreamId, state: State) -> State {
        if let State::Live(live) = &state {
            self.live += 1;
            self.bytes += live.bytes;
        }
        let before = std::mem::replace(&mut self.slot(stream).state, state);
        if let State::Live(live) = &before {
            self.live -= 1;
            self.bytes -= live.bytes;
        }
        before
    }

    pub fn start_loading(&mut self, stream: &StreamId) {
        if matches!(self.slot(stream).state, State::Loading) {
            return;
        }
        self.replace(stream, State::Loading);
        self.to_load.push_back(stream.clone());
        self.load_next();
    }

    fn load_next(&mut self) {
        while self.loading < LOADS_MAX.min(self.shared.options.live_max)
            && let Some(stream) = self.to_load.pop_front()
        {
            self.loading += 1;
            let shared = self.shared.clone();
            self.jobs.push(Box::pin(async move {
                let loaded = load_newest(&shared, &stream).await;
                Done::Loaded(stream, Box::new(loaded))
            }));
        }
    }

    pub fn loaded(&mut self, stream: &StreamId, loaded: Result<Live, LoadError>) {
        self.loading -= 1;
        self.load_next();
        if !matches!(self.slot(stream).state, State::Loading) {
            // Parked in the meantime.
            return;
        }
        match loaded {
            Ok(live) => self.begin(stream, live),
            Err(LoadError::Read(error)) => {
                let reason = format!("the events of {stream} cannot be read: {error}");
                let unavailable = SendError::Unavailable {
                    reason: reason.clone(),
                    retry_after: None,
                };
                self.refuse_waiting(stream, Item::is_told, &unavailable);
                match self.shared.about.drive {
                    Drive::Asked => drop(self.leave(stream)),
                    Drive::Insists | Drive::Reports => self.rest(stream, reason, 3),
                }
            }
            Err(LoadError::Unreadable(reason)) => self.park(stream, reason),
            Err(LoadError::Panicked(reason)) => self.strike(stream, reason),
        }
    }

    /// A machine is in memory: it goes on where its stream ends.
    fn begin(&mut self, stream: &StreamId, mut live: Live) {
        let outstanding = match contain(|| live.machine.outstanding()) {
            Ok(Ok(outstanding)) => outstanding,
            Ok(Err(reason)) | Err(reason) => return self.park(stream, reason),
        };
        self.timers.drop_all(stream);
        let standing = live.machine.standing();
        if let Standing::Open { waiting } = standing {
            let known = live.known(waiting);
            learn_open(&mut self.open, stream, known);
        }
        let has_begun = live.durable.is_some();
        self.shared.measure(&mut live, stream);
        if standing != Standing::Ended {
            // Whoever reads this many events again after the next crash makes everybody wait.
            live.snapshot_at = self.keep(stream, &live).unwrap_or(live.snapshot_at);
        }
        self.replace(stream, State::Live(Box::new(live)));
        let slot = self.slot(stream);
        let resumes = std::mem::take(&mut slot.resume);
        let recovers = resumes && has_begun;
        match recovers.then(|| self.shared.kind.recovered()).flatten() {
            Some(recovered) => {
                let mut item = Item::plain(recovered);
                item.resume = true;
                self.slot(stream).waiting.push_front(item);
            }
            None => self.send_outstanding(stream, outstanding, resumes),
        }
        self.settle(stream);
    }

    fn send_outstanding(&mut self, stream: &StreamId, outstanding: Vec<Out>, resumes: bool) {
        let insists = self.shared.about.drive == Drive::Insists;
        let mut is_left = false;
        for out in outstanding {
            let sent = match &out {
                Out::Timer(..) => true,
                // Another runtime may have sent it; but what this one sends to the same
                // receiver must not overtake it, and what comes twice is known there.
                Out::Command(_) => resumes || insists,
                // What another runtime has called it calls itself, while it lives.
                _ => resumes,
            };
            match sent {
                true => self.send(stream, out, resumes),
                false => is_left = true,
            }
        }
        if is_left {
            self.resume_later(stream);
        }
    }

    /// Another runtime has sent something: should it go before there is an answer, it is sent
    /// here.
    pub fn resume_later(&mut self, stream: &StreamId) {
        let at = self.shared.time.now() + OTHERS_SEND_FOR;
        self.timers.set(stream, at, None);
    }

    pub fn unpark(&mut self, stream: &StreamId) -> bool {
        let round = self.shared.feed.round() + 1;
        let slot = self.slots.get_mut(stream);
        let Some(slot) = slot.filter(|slot| matches!(slot.state, State::Parked(_))) else {
            return false;
        };
        slot.strikes = 0;
        slot.held_more += HELD_MAX;
        match self.shared.about.drive {
            Drive::Asked => drop(self.leave(stream)),
            Drive::Insists | Drive::Reports => {
                slot.resume = true;
                slot.from_round = round;
                self.start_loading(stream);
            }
        }
        true
    }

    /// A machine's code has failed: it rests, or is parked when that happens too often.
    pub fn strike(&mut self, stream: &StreamId, reason: String) {
        let slot = self.slot(stream);
        slot.strikes += 1;
        let strikes = slot.strikes;
        if self.shared.options.restart.goes_on_after(strikes) {
            return self.rest(stream, reason, strikes);
        }
        let failed = match self.shared.about.drive {
            Drive::Asked => "its code panicked",
            Drive::Insists | Drive::Reports => "it failed",
        };
        let times = match strikes {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        self.park(stream, format!("{failed} {times}: {reason}"));
    }

    /// Tries again after a while; the longer, the more attempts there were.
    pub fn rest(&mut self, stream: &StreamId, reason: String, attempt: u32) {
        let shared = self.shared.clone();
        shared.note(format!("{stream} rests and is tried again: {reason}"));
        self.replace(stream, State::Resting(reason.into()));
        let time = &shared.time;
        let delay = shared.options.restart.delay_after(attempt, time.random());
        let (rest, stream) = (time.sleep(delay), stream.clone());
        self.jobs.push(Box::pin(async move {
            rest.await;
            Done::Rested(stream)
        }));
    }

    pub fn park(&mut self, stream: &StreamId, reason: String) {
        let text = format!("{stream} is parked: {reason}. Mend the cause, then retry it");
        self.shared.alert(text);
        self.replace(stream, State::Parked(reason.as_str().into()));
        let parked = SendError::Parked {
            stream: stream.clone(),
            reason,
        };
        self.refuse_waiting(stream, |_| true, &parked);
    }

    fn refuse_waiting(&mut self, stream: &StreamId, which: fn(&Item) -> bool, error: &SendError) {
        let waiting = std::mem::take(&mut self.slot(stream).waiting);
        let (refused, kept): (VecDeque<_>, _) = waiting.into_iter().partition(|item| which(item));
        self.slot(stream).waiting = kept;
        for item in refused {
            self.answer(*item, Err(error.clone()));
        }
    }

    /// Lets idle machines leave until the rest fits into the budget: those first that were not
    /// used since the evictor last came by.
    pub fn evict(&mut self) {
        let options = &self.shared.options;
        let live_max = options.live_max;
        let budget = options.memory_max / options.shards.max(1);
        let mut looks = self.round.len() * 2;
        while looks > 0 && (self.bytes > budget || self.slots.len() > live_max) {
            looks -= 1;
            let Some(stream) = self.round.pop_front() else {
                debug_assert!(
                    self.slots.is_empty(),
                    "a slot is not in the evictor's round"
                );
                return;
            };
            let Some(slot) = self.slots.get_mut(&stream) else {
                continue;
            };
            let used = std::mem::take(&mut slot.used);
            if !slot.is_idle() || used || !slot.waiting.is_empty() {
                self.round.push_back(stream);
                continue;
            }
            if let State::Live(live) = self.leave(&stream) {
                self.keep(&stream, &live);
            }
            self.slots.remove(&stream);
        }
    }

    /// Saves a snapshot of a machine, if there are many events since its last one; the number of
    /// events that it holds.
    fn keep(&mut self, stream: &StreamId, live: &Live) -> Option<u64> {
        let since = live.durable_count() - live.snapshot_at;
        if self.shared.options.snapshot_every == 0 || since < SNAPSHOT_EVENTS_MIN {
            return None;
        }
        let (durable, state) = (live.durable?, live.frozen()?);
        self.save_snapshot(stream, durable, state);
        Some(live.durable_count())
    }

    pub fn save_snapshot(&mut self, stream: &StreamId, durable: Durable, state: Vec<u8>) {
        let snapshot = Snapshot {
            fingerprint: self.shared.about.fingerprint,
            version: durable.version,
            last_event: durable.id,
            state,
        };
        let (shared, stream): (Arc<Shared>, _) = (self.shared.clone(), stream.clone());
        self.duties += 1;
        self.jobs.push(Box::pin(async move {
            if let Err(error) = shared.snapshots.save(&stream, snapshot).await {
                shared.note(error.to_string());
            }
            Done::Saved
        }));
    }
}

/// Counts what is written.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Estimates the memory that a machine takes: what it is itself, and the length of its
    /// JSON for what it holds. One that cannot be written as JSON is taken for its bare size.
    pub fn measure(&self, live: &mut Live, stream: &StreamId) {
        if self.options.memory_max == usize::MAX {
            return;
        }
        let mut count = Count(0);
        drop(contain(|| live.machine.freeze(&mut count)));
        let fixed = size_of::<Live>() + size_of::<Slot>() + size_of_val(&*live.machine);
        live.bytes = fixed + 3 * stream.as_str().len() + count.0;
        live.measure_at = (live.machine.length() * 2).max(8);
    }
}
