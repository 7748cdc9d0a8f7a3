//! Reads that go on: history, then what is written, without gap or duplicate.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use anabranch_model::{Cut, Event, Filter};

use crate::conformance::check::{count, just_these, no_gap};
use crate::conformance::drive::{Signal, together};
use crate::conformance::make::{set_bytes, tagged, typed};
use crate::conformance::stage::{Reader, Stage};
use crate::{Append, Expect, ReadError, ReadMode};

/// Polls a follower once, to be woken through `signal`.
fn poll(reader: &mut Reader<'_>, signal: &Arc<Signal>) -> Poll<Option<Result<Event, ReadError>>> {
    let waker = Waker::from(Arc::clone(signal));
    let next = pin!(reader.stream.next());
    next.poll(&mut Context::from_waker(&waker))
}

/// Polls a follower that has nothing to give.
fn poll_idle(reader: &mut Reader<'_>, signal: &Arc<Signal>) {
    let polled = poll(reader, signal);
    assert!(
        polled.is_pending(),
        "nothing was due, this came: {polled:?}"
    );
}

pub fn a_follower_from_the_start_gives_history_then_what_is_written(stage: &mut Stage<'_>) {
    let mut written = stage.put_each("order/1", 5);
    let mut follower = stage.follow(&Cut::start());
    let mut read = follower.take(5);
    for _ in 0..10 {
        written.push(stage.put(stage.event("order/1")));
        read.extend(follower.take(1));
    }
    just_these(&read, &written);
}

pub fn a_follower_from_the_middle_gives_the_rest_then_what_is_written(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let cut = stage.head();
    let mut written = stage.put_each("order/1", 4);
    let mut follower = stage.follow(&cut);
    written.extend(stage.put_all(stage.events("order/2", 3)));
    just_these(&follower.take(7), &written);
}

pub fn a_follower_from_the_head_gives_what_is_written(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let mut follower = stage.follow(&stage.head());
    let written = stage.put_each("order/1", 3);
    just_these(&follower.take(3), &written);
}

pub fn a_follower_of_an_empty_log_gives_its_first_event(stage: &mut Stage<'_>) {
    let mut follower = stage.follow(&Cut::start());
    poll_idle(&mut follower, &Arc::default());
    let written = stage.put(stage.event("order/1"));
    just_these(&follower.take(1), [&written]);
}

pub fn a_follower_waits_at_the_head(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let mut follower = stage.follow(&Cut::start());
    follower.take(1);
    for _ in 0..3 {
        poll_idle(&mut follower, &Arc::default());
    }
}

pub fn a_waiting_follower_is_woken(stage: &mut Stage<'_>) {
    let signal = Arc::default();
    let mut follower = stage.follow(&stage.head());
    for _ in 0..10 {
        poll_idle(&mut follower, &signal);
        let written = stage.put(stage.event("order/1"));
        stage.driver().wait_for(&signal, "a waiting follower");
        just_these(&follower.take(1), [&written]);
    }
}

pub fn a_follower_wakes_whoever_polled_it_last(stage: &mut Stage<'_>) {
    let mut follower = stage.follow(&stage.head());
    let (first, last) = (Arc::default(), Arc::default());
    poll_idle(&mut follower, &first);
    poll_idle(&mut follower, &last);
    let written = stage.put(stage.event("order/1"));
    stage.driver().wait_for(&last, "who polled last");
    just_these(&follower.take(1), [&written]);
}

pub fn every_waiting_follower_is_woken(stage: &mut Stage<'_>) {
    let head = stage.head();
    let mut followers: Vec<_> = (0..100)
        .map(|_| (stage.follow(&head), Arc::default()))
        .collect();
    for (follower, signal) in &mut followers {
        poll_idle(follower, signal);
    }
    let written = stage.put(stage.event("order/1"));
    for (follower, signal) in &mut followers {
        stage.driver().wait_for(signal, "one of many followers");
        just_these(&follower.take(1), [&written]);
    }
}

pub fn a_refused_append_shows_nothing_to_followers(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let mut follower = stage.follow(&stage.head());
    let append = Append::event(stage.event("order/1"));
    let stream = append.events[0].stream.clone();
    stage.refuse(append.expect(stream, Expect::Empty));
    poll_idle(&mut follower, &Arc::default());
    let written = stage.put(stage.event("order/1"));
    just_these(&follower.take(1), [&written]);
}

pub fn a_repeat_shows_nothing_to_followers(stage: &mut Stage<'_>) {
    let first = stage.put(stage.event("order/1"));
    let mut follower = stage.follow(&stage.head());
    if let Err(error) = stage.append(Append::event(first.new)) {
        panic!("a repeat must succeed; it failed: {error}");
    }
    let written = stage.put(stage.event("order/1"));
    just_these(&follower.take(1), [&written]);
}

pub fn a_filtered_follower_passes_over_the_rest(stage: &mut Stage<'_>) {
    let mut follower = stage.reader(&Cut::start(), tagged(&["t:1"]), ReadMode::Follow);
    let mut written = Vec::new();
    for n in 0..100 {
        let event = stage.event("order/1");
        if n % 10 == 3 {
            written.push(stage.put(event.with_tag("t:1")));
        } else {
            stage.put(event);
        }
    }
    just_these(&follower.take(10), &written);
}

pub fn a_filtered_follower_sleeps_through_the_rest(stage: &mut Stage<'_>) {
    let mut follower = stage.reader(&Cut::start(), typed(&["Wanted"]), ReadMode::Follow);
    for _ in 0..20 {
        stage.put(stage.event("order/1"));
        poll_idle(&mut follower, &Arc::default());
    }
    let written = stage.put(stage.typed("order/1", "Wanted"));
    just_these(&follower.take(1), [&written]);
}

pub fn a_follower_gives_batches_and_single_events(stage: &mut Stage<'_>) {
    let written = stage.put_all(stage.events("order/1", 10));
    let mut follower = stage.follow(&Cut::start());
    let mut read = follower.take(3);
    while read.len() < 10 {
        let batch = stage
            .driver()
            .wait("a batch of a follower", follower.stream.next_batch());
        match batch {
            Some(Ok(batch)) => {
                read.extend(batch.iter().map(|event| match event {
                    Ok(event) => event.to_event(),
                    Err(error) => panic!("a batch cannot be decoded: {error}"),
                }));
            }
            other => panic!("a batch was due, this came: {other:?}"),
        }
    }
    just_these(&read, &written);
}

pub fn a_follower_may_move_between_threads(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let mut follower = stage.follow(&Cut::start());
    poll_idle(&mut follower, &Arc::default());
    let written = stage.put_each("order/1", 6);
    let mut read = Vec::new();
    for _ in 0..3 {
        let slot = std::sync::Mutex::new(Some(follower));
        let mut done = together(1, |_| {
            let taken = slot.lock().ok().and_then(|mut slot| slot.take());
            let mut follower = taken.expect("one thread takes the follower");
            (follower.take(2), follower)
        });
        let (events, back) = done.remove(0);
        read.extend(events);
        follower = back;
    }
    just_these(&read, &written);
}

pub fn followers_miss_nothing_while_many_write(stage: &mut Stage<'_>) {
    const FOLLOWERS: usize = 3;
    let stage = &*stage;
    let written = AtomicUsize::new(stage.put_all(stage.events("order/0", 50)).len());
    let wanted = AtomicUsize::new(0);
    let following = AtomicUsize::new(FOLLOWERS);
    let followed = together(FOLLOWERS + 4, |thread| {
        let mut followed = Vec::new();
        if thread < FOLLOWERS {
            let _done = Done(&following);
            // Again and again, so that the switch to live happens at many moments.
            for n in 0..12 {
                let head = stage.head();
                let from = if n % 4 == 0 {
                    Cut::start()
                } else {
                    head.clone()
                };
                let mut follower = stage.follow(&from);
                wanted.fetch_max(count(&head) + 20, Ordering::AcqRel);
                let read = follower.take(count(&head) - count(&from) + 20);
                followed.push((from, read));
            }
        } else {
            let mut size = 1;
            while following.load(Ordering::Acquire) > 0 {
                // Ahead of what the followers need, but not without bound.
                if written.load(Ordering::Acquire) < wanted.load(Ordering::Acquire) + 100 {
                    size = size % 3 + 1;
                    let batch = stage.events(&format!("order/{thread}"), size);
                    written.fetch_add(stage.put_all(batch).len(), Ordering::AcqRel);
                }
                thread::yield_now();
            }
        }
        followed
    });
    let all = stage.read_all();
    for (from, read) in followed.iter().flatten() {
        let end = no_gap(read, from);
        let between =
            |event: &&Event| !from.includes(event.position) && end.includes(event.position);
        let mut wanted: Vec<&Event> = all.iter().filter(between).collect();
        let mut read: Vec<&Event> = read.iter().collect();
        wanted.sort_by_key(|event| event.position);
        read.sort_by_key(|event| event.position);
        assert!(read == wanted, "a follower from {from} gave other events");
    }
}

/// Tells the writers that one more follower is done, also when it panics.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

pub fn a_follower_never_runs_ahead_of_the_head(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(3, |thread| {
        if thread > 0 {
            for _ in 0..80 {
                stage.put_all(stage.events(&format!("order/{thread}"), 2));
            }
            return;
        }
        let mut follower = stage.follow(&Cut::start());
        for _ in 0..320 {
            let event = follower.take(1).remove(0);
            assert!(
                stage.head().includes(event.position),
                "the event at {} was given before it was in the log",
                event.position
            );
        }
    });
}

pub fn a_stalled_follower_does_not_hold_up_the_writers(stage: &mut Stage<'_>) {
    let mut stalled = stage.follow(&Cut::start());
    let first = stage.put(stage.event("order/1"));
    let mut read = stalled.take(1);
    let mut written = vec![first];
    for _ in 0..60 {
        let mut batch = stage.events("order/1", 100);
        for event in &mut batch {
            set_bytes(event, vec![b'x'; 1_000]);
        }
        written.extend(stage.put_all(batch));
    }
    read.extend(stalled.take(6_000));
    just_these(&read, &written);
}

pub fn a_follower_that_never_polls_does_not_hold_up_the_writers(stage: &mut Stage<'_>) {
    let followers: Vec<_> = (0..100).map(|_| stage.follow(&Cut::start())).collect();
    for _ in 0..30 {
        stage.put_all(stage.events("order/1", 100));
    }
    drop(followers);
}

pub fn a_slow_follower_does_not_hold_up_a_fast_one(stage: &mut Stage<'_>) {
    let mut slow = stage.follow(&Cut::start());
    let mut fast = stage.follow(&Cut::start());
    for _ in 0..20 {
        let written = stage.put_all(stage.events("order/1", 100));
        just_these(&fast.take(100), &written);
    }
    no_gap(&slow.take(2_000), &Cut::start());
}

pub fn a_dropped_follower_leaves_nothing_behind(stage: &mut Stage<'_>) {
    let signal: Arc<Signal> = Arc::default();
    for _ in 0..200 {
        let mut follower = stage.follow(&stage.head());
        poll_idle(&mut follower, &signal);
    }
    // An engine may clean up when it next has something to tell.
    for _ in 0..200 {
        if Arc::strong_count(&signal) == 1 {
            return;
        }
        stage.put(stage.event("order/1"));
        stage.subject_settles();
    }
    panic!(
        "{} wakers of dropped followers are still held",
        Arc::strong_count(&signal) - 1
    );
}

pub fn a_dropped_follower_does_not_disturb_the_others(stage: &mut Stage<'_>) {
    let head = stage.head();
    let mut followers: Vec<_> = (0..10).map(|_| stage.follow(&head)).collect();
    for follower in &mut followers {
        poll_idle(follower, &Arc::default());
    }
    let mut left: Vec<_> = followers.into_iter().step_by(2).collect();
    let written = stage.put_each("order/1", 2);
    for follower in &mut left {
        just_these(&follower.take(2), &written);
    }
}

pub fn a_follower_ends_when_its_log_is_closed(stage: &mut Stage<'_>) {
    let mut waiting = stage.follow(&stage.head());
    let signal = Arc::default();
    poll_idle(&mut waiting, &signal);
    stage.close();
    stage
        .driver()
        .wait_for(&signal, "a follower of a closed log");
    assert_eq!(waiting.next(), Some(Err(ReadError::Closed)));
    assert_eq!(waiting.next(), None);
}

pub fn two_followers_with_different_filters_each_get_their_own(stage: &mut Stage<'_>) {
    let mut a = stage.reader(&Cut::start(), Filter::category("a"), ReadMode::Follow);
    let mut b = stage.reader(&Cut::start(), Filter::category("b"), ReadMode::Follow);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        of_a.push(stage.put(stage.event("a/1")));
        of_b.push(stage.put(stage.event("b/1")));
    }
    just_these(&a.take(20), &of_a);
    just_these(&b.take(20), &of_b);
}
