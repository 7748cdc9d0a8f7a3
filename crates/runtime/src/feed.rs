//! Which events of the log are on their way to instances, and how far all of them are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::Cut;
use anabranch_model::{PartitionId, Position};
use tokio::sync::Notify;

/// The most events that are on their way at once.
const ON_THE_WAY_MAX: usize = 4096;

/// The events that are brought to the instances of one kind. It goes in rounds: each begins at
/// what is durable, and what belongs to an earlier one does not count any more.
#[derive(Default)]
pub struct Feed {
    inner: Mutex<Inner>,
    /// Rung when there is room.
    room: Notify,
    /// Rung when a round begins.
    begun: Notify,
    /// A shard has lost what it knew of open instances.
    has_lost: AtomicBool,
}

#[derive(Default)]
struct Inner {
    on_the_way: BTreeSet<Position>,
    /// Of each partition the first event that was given back, because its instance is parked.
    given_back: BTreeMap<PartitionId, u64>,
    /// Behind the last event that was handed out, or passed over.
    end: Cut,
    round: u64,
}

/// One event on its way. Dropped before it is done, it was given back: the feed does not
/// forget it.
pub struct Ticket {
    feed: Arc<Feed>,
    position: Position,
    round: u64,
    is_done: bool,
}

impl Inner {
    fn begin(&mut self, cut: Cut) {
        self.on_the_way.clear();
        self.given_back.clear();
        self.end = cut;
        self.round += 1;
    }

    fn done(&self) -> Cut {
        let mut cut = self.end.clone();
        let given_back = self.given_back.iter();
        let given_back = given_back.map(|(&partition, &offset)| Position { partition, offset });
        for position in self.on_the_way.iter().copied().chain(given_back) {
            if cut.includes(position) {
                cut.set(position.partition, position.offset);
            }
        }
        cut
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins at `cut`.
    pub fn begin(&self, cut: Cut) {
        self.lock().begin(cut);
    }

    /// Goes back to what is durable.
    pub fn rewind(&self) {
        {
            let mut inner = self.lock();
            let done = inner.done();
            inner.begin(done);
        }
        self.room.notify_waiters();
        self.begun.notify_waiters();
    }

    /// Goes back, because a shard has lost what it knew.
    pub fn take_over_again(&self) {
        self.has_lost.store(true, Ordering::Release);
        self.rewind();
    }

    /// Whether a shard has lost what it knew since this was asked last.
    pub fn has_lost(&self) -> bool {
        self.has_lost.swap(false, Ordering::AcqRel)
    }

    /// Which round it is.
    pub fn round(&self) -> u64 {
        self.lock().round
    }

    /// Ready with the round once that is another one than `round`.
    pub async fn another_round(&self, round: u64) -> u64 {
        loop {
            let begun = self.begun.notified();
            let now = self.round();
            if now != round {
                return now;
            }
            begun.await;
        }
    }

    /// Hands an event out, as soon as there is room; `None` if the round is over.
    pub async fn hand_out(self: &Arc<Self>, position: Position, round: u64) -> Option<Ticket> {
        loop {
            let room = self.room.notified();
            {
                let mut inner = self.lock();
                if inner.round != round {
                    return None;
                }
                if inner.on_the_way.len() < ON_THE_WAY_MAX {
                    inner.on_the_way.insert(position);
                    return Some(Ticket {
                        feed: self.clone(),
                        position,
                        round,
                        is_done: false,
                    });
                }
            }
            room.await;
        }
    }

    /// Everything in `cut` was handed out or is of no interest; false if the round is over.
    pub fn pass(&self, cut: &Cut, round: u64) -> bool {
        let mut inner = self.lock();
        let goes_on = inner.round == round;
        if goes_on {
            inner.end.join(cut);
        }
        goes_on
    }

    /// Behind the last event that was handed out, or passed over.
    pub fn end(&self) -> Cut {
        self.lock().end.clone()
    }

    /// Events up to here are durable where they belong: the feed may begin here again.
    pub fn done(&self) -> Cut {
        self.lock().done()
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
        let mut inner = self.feed.lock();
        if inner.round != self.round {
            return;
        }
        inner.on_the_way.remove(&self.position);
        if !self.is_done {
            let Position { partition, offset } = self.position;
            let first = inner.given_back.entry(partition).or_insert(offset);
            *first = offset.min(*first);
        }
        drop(inner);
        self.feed.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_given_back_or_is_on_its_way_is_read_again() {
        let feed = Arc::new(Feed::default());
        feed.begin(Cut::at(3));
        let round = feed.round();
        let mut tickets = Vec::new();
        for offset in 3..8 {
            tickets.push(feed.hand_out(Position::at(offset), round).await.unwrap());
            assert!(feed.pass(&Cut::at(offset + 1), round));
        }
        assert_eq!(feed.done(), Cut::at(3));
        let mut tickets = tickets.into_iter();
        tickets.next().unwrap().done();
        assert_eq!(feed.done(), Cut::at(4));
        let on_the_way = tickets.next().unwrap();
        drop(tickets.next().unwrap());
        tickets.for_each(Ticket::done);
        assert_eq!(feed.done(), Cut::at(4));
        on_the_way.done();
        assert_eq!(feed.done(), Cut::at(5));
        feed.rewind();
        assert_eq!(feed.end(), Cut::at(5));
    }

    #[tokio::test]
    async fn what_each_partition_gave_back_is_read_again() {
        let feed = Arc::new(Feed::default());
        feed.begin(Cut::start());
        let round = feed.round();
        let at = |partition, offset| Position {
            partition: PartitionId(partition),
            offset,
        };
        let mut end = Cut::start();
        for position in [at(1, 0), at(2, 0), at(1, 1), at(2, 1), at(3, 0)] {
            let ticket = feed.hand_out(position, round).await.unwrap();
            end.join(&Cut::including(position));
            assert!(feed.pass(&end, round));
            match position.offset {
                0 => ticket.done(),
                _ => drop(ticket),
            }
        }
        feed.rewind();
        assert_eq!(feed.end().to_string(), "1:1,2:1,3:1");
    }

    #[tokio::test]
    async fn what_belongs_to_an_earlier_round_changes_nothing() {
        let feed = Arc::new(Feed::default());
        feed.begin(Cut::at(3));
        let round = feed.round();
        let late = feed.hand_out(Position::at(3), round).await.unwrap();
        assert!(feed.pass(&Cut::at(9), round));
        feed.rewind();
        assert_eq!(feed.another_round(round).await, round + 1);
        assert!(!feed.pass(&Cut::at(20), round));
        assert!(feed.hand_out(Position::at(4), round).await.is_none());
        late.done();
        assert_eq!(feed.end(), Cut::at(3));
    }
}
