//! Brings the events of the log to the instances, and knows how far all of them are durable.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::Cut;
use anabranch_model::Position;
use tokio::sync::Notify;

/// The most events that are on their way at once.
const ON_THE_WAY_MAX: usize = 4096;

/// What the feed and the shards tell each other.
#[derive(Default)]
pub struct Feed {
    pub ledger: Arc<Ledger>,
    /// Wakes the feed.
    pub nudge: Notify,
    /// The feed goes back to what is durable.
    pub rewind: AtomicBool,
    /// The feed takes over again: a shard has lost what it knew.
    pub retake: AtomicBool,
}

impl Feed {
    /// Lets the feed go back to what is durable.
    pub fn rewind(&self) {
        self.rewind.store(true, Ordering::Release);
        self.nudge.notify_one();
    }

    /// Lets the feed take over again, and go back.
    pub fn take_over_again(&self) {
        self.retake.store(true, Ordering::Release);
        self.rewind();
    }
}

/// Which events are on their way.
#[derive(Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    on_the_way: BTreeSet<Position>,
    /// The first event that was given back because its instance is parked.
    given_back: Option<Position>,
    /// Behind the last event that was handed out, or passed over.
    end: Cut,
    /// Grows when the feed goes back.
    round: u64,
}

/// One event on its way. Dropped before it is done, it was given back: the feed does not
/// forget it.
pub struct Ticket {
    ledger: Arc<Ledger>,
    position: Position,
    round: u64,
    is_done: bool,
}

impl Ledger {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, or begins again, from `cut`.
    pub fn begin(&self, cut: &Cut) {
        let mut inner = self.lock();
        inner.on_the_way.clear();
        inner.given_back = None;
        inner.end = cut.clone();
        inner.round += 1;
    }

    /// Hands an event out, as soon as there is room.
    pub async fn hand_out(self: &Arc<Self>, position: Position) -> Ticket {
        loop {
            let room = self.room.notified();
            {
                let mut inner = self.lock();
                if inner.on_the_way.len() < ON_THE_WAY_MAX {
                    inner.on_the_way.insert(position);
                    return Ticket {
                        ledger: self.clone(),
                        position,
                        round: inner.round,
                        is_done: false,
                    };
                }
            }
            room.await;
        }
    }

    /// How often the feed has begun.
    pub fn round(&self) -> u64 {
        self.lock().round
    }

    /// Everything in `cut` was handed out or is of no interest.
    pub fn pass(&self, cut: &Cut) {
        self.lock().end.join(cut);
    }

    /// Events up to here are durable where they belong: the feed may begin here again.
    pub fn done(&self) -> Cut {
        let inner = self.lock();
        let mut cut = inner.end.clone();
        let first = inner.on_the_way.iter().chain(&inner.given_back);
        for position in first {
            if cut.includes(*position) {
                cut.set(position.partition, position.offset);
            }
        }
        cut
    }
}

impl Ticket {
    /// In which round of the feed the event was handed out.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// What the event has led to is durable.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.ledger.lock();
        if inner.round != self.round {
            return;
        }
        inner.on_the_way.remove(&self.position);
        if !self.is_done && inner.given_back.is_none_or(|first| self.position < first) {
            inner.given_back = Some(self.position);
        }
        drop(inner);
        self.ledger.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_given_back_or_is_on_its_way_is_read_again() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin(&Cut::at(3));
        let mut tickets = Vec::new();
        for offset in 3..8 {
            tickets.push(ledger.hand_out(Position::at(offset)).await);
            ledger.pass(&Cut::at(offset + 1));
        }
        assert_eq!(ledger.done(), Cut::at(3));
        let mut tickets = tickets.into_iter();
        tickets.next().unwrap().done();
        assert_eq!(ledger.done(), Cut::at(4));
        let on_the_way = tickets.next().unwrap();
        drop(tickets.next().unwrap());
        tickets.for_each(Ticket::done);
        assert_eq!(ledger.done(), Cut::at(4));
        on_the_way.done();
        assert_eq!(ledger.done(), Cut::at(5));
        ledger.begin(&Cut::at(5));
        assert_eq!(ledger.done(), Cut::at(5));
    }
}
