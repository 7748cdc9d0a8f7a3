use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anabranch_log::{Append, BoxFuture, EventStream, Log, MemoryLog, ReadMode};
use anabranch_model::{Cut, Event, Filter, PartitionId};
use futures_executor::block_on;

use crate::engines::lock;
use crate::wrong::{Answer, Bug, Lazy, Reads, caught, changed};

/// A follower whose events are changed, given the head of its call.
fn follows(change: fn(u64, Event) -> Vec<Event>) -> impl Bug {
    Reads(move |log: &MemoryLog, from: &Cut, filter, mode| {
        let inner = log.read(from, filter, mode);
        if mode != ReadMode::Follow {
            return inner;
        }
        let head = block_on(log.head()).expect("a head").get(PartitionId(0));
        changed(inner, move |event| change(head, event))
    })
}

#[test]
fn skipping_an_event_at_the_switch_to_live_is_caught() {
    let bug = || {
        follows(|head, event| {
            if event.position.offset == head {
                Vec::new()
            } else {
                vec![event]
            }
        })
    };
    caught(
        bug,
        &[
            "following::a_follower_from_the_start_gives_history_then_what_is_written",
            "following::followers_miss_nothing_while_many_write",
        ],
    );
}

#[test]
fn repeating_an_event_at_the_switch_to_live_is_caught() {
    let bug = || {
        follows(|head, event| {
            if event.position.offset == head {
                vec![event.clone(), event]
            } else {
                vec![event]
            }
        })
    };
    caught(
        bug,
        &[
            "following::a_follower_from_the_start_gives_history_then_what_is_written",
            "following::followers_miss_nothing_while_many_write",
        ],
    );
}

#[test]
fn a_gap_between_history_and_live_is_caught() {
    // History up to the head of the call, then live from the head of the switch.
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            if mode != ReadMode::Follow {
                return log.read(from, filter, mode);
            }
            let log = log.clone();
            let mut history = Some(log.read(from, filter.clone(), ReadMode::ToHead));
            let mut live = None;
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                if let Some(reading) = &mut history {
                    let polled = pin!(reading.next_batch()).poll(cx);
                    match polled {
                        Poll::Ready(None) => history = None,
                        other => return other,
                    }
                }
                let live = live.get_or_insert_with(|| {
                    let head = block_on(log.head()).expect("a head");
                    log.read(&head, filter.clone(), ReadMode::Follow)
                });
                pin!(live.next_batch()).poll(cx)
            }))
        })
    };
    caught(
        bug,
        &["following::a_follower_from_the_middle_gives_the_rest_then_what_is_written"],
    );
}

#[test]
fn forgetting_to_wake_a_follower_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            let mut inner = log.read(from, filter, mode);
            EventStream::new(Lazy(move |_: &mut Context<'_>| {
                pin!(inner.next_batch()).poll(&mut Context::from_waker(Waker::noop()))
            }))
        })
    };
    caught(bug, &["following::a_waiting_follower_is_woken"]);
}

#[test]
fn waking_who_polled_first_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            let mut inner = log.read(from, filter, mode);
            let mut first: Option<Waker> = None;
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                let waker = first.get_or_insert_with(|| cx.waker().clone());
                pin!(inner.next_batch()).poll(&mut Context::from_waker(waker))
            }))
        })
    };
    caught(bug, &["following::a_follower_wakes_whoever_polled_it_last"]);
}

#[test]
fn waking_one_follower_of_many_is_caught() {
    struct WakesOne(Arc<Mutex<Vec<Waker>>>);
    impl Bug for WakesOne {
        fn append(&self, log: &MemoryLog, append: Append) -> Answer {
            let answer = block_on(log.append(append));
            if let Some(waker) = lock(&self.0).pop() {
                waker.wake();
            }
            answer
        }

        fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
            let waiting = Arc::clone(&self.0);
            let mut inner = log.read(from, filter, mode);
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                let mut quiet = Context::from_waker(Waker::noop());
                let polled = pin!(inner.next_batch()).poll(&mut quiet);
                if polled.is_pending() {
                    lock(&waiting).push(cx.waker().clone());
                }
                polled
            }))
        }
    }
    caught(
        || WakesOne(Arc::default()),
        &["following::every_waiting_follower_is_woken"],
    );
}

#[test]
fn ending_a_follower_at_the_head_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| match mode {
            ReadMode::Follow => log.read(from, filter, ReadMode::ToHead),
            _ => log.read(from, filter, mode),
        })
    };
    caught(bug, &["following::a_follower_waits_at_the_head"]);
}

#[test]
fn keeping_the_wakers_of_dropped_followers_is_caught() {
    let bug = || {
        let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
        Reads(move |log: &MemoryLog, from: &Cut, filter, mode| {
            let kept = Arc::clone(&kept);
            let mut inner = log.read(from, filter, mode);
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                lock(&kept).push(cx.waker().clone());
                pin!(inner.next_batch()).poll(cx)
            }))
        })
    };
    caught(
        bug,
        &["following::a_dropped_follower_leaves_nothing_behind"],
    );
}

#[test]
fn keeping_the_log_open_for_a_follower_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| {
            let log = log.clone();
            let inner = log.read(from, filter, mode);
            changed(inner, move |event| {
                // The follower owns a handle to the log.
                let _ = &log;
                vec![event]
            })
        })
    };
    caught(bug, &["following::a_follower_ends_when_its_log_is_closed"]);
}

#[test]
fn writers_that_wait_for_a_slow_follower_are_caught() {
    /// How many batches no follower has taken yet.
    struct Waits(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl Bug for Waits {
        fn append_later<'a>(&'a self, log: &'a MemoryLog, append: Append) -> BoxFuture<'a, Answer> {
            Box::pin(async move {
                let (followers, untaken) = (&self.0, &self.1);
                poll_fn(|_| {
                    let full = untaken.load(Ordering::Acquire) > 16;
                    if full && followers.load(Ordering::Acquire) > 0 {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    }
                })
                .await;
                untaken.fetch_add(1, Ordering::AcqRel);
                self.append(log, append)
            })
        }

        fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
            let inner = log.read(from, filter, mode);
            if mode != ReadMode::Follow {
                return inner;
            }
            self.0.fetch_add(1, Ordering::AcqRel);
            let untaken = Arc::clone(&self.1);
            changed(inner, move |event| {
                untaken.store(0, Ordering::Release);
                vec![event]
            })
        }
    }
    caught(
        || Waits(Arc::default(), Arc::default()),
        &[
            "following::a_stalled_follower_does_not_hold_up_the_writers",
            "following::a_follower_that_never_polls_does_not_hold_up_the_writers",
        ],
    );
}
