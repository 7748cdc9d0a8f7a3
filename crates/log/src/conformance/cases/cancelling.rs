//! Futures that are dropped before they answer.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anabranch_model::{Cut, NewEvent};

use crate::conformance::check::just_these;
use crate::conformance::drive::together;
use crate::conformance::make::{id, stream};
use crate::conformance::stage::Stage;
use crate::{Append, Expect, Order, VersionRange};

/// Begins an append, polls it this often and drops it.
fn cut_short(stage: &Stage<'_>, append: &Append, polls: usize) {
    stage.uncertain(&append.events);
    let mut future = stage.log().append(append.clone());
    for _ in 0..polls {
        let mut cx = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut cx).is_ready() {
            return;
        }
        stage.subject_settles();
    }
}

/// Repeats what was cut short; it must succeed, whether it had happened or not.
fn repeat(stage: &Stage<'_>, append: Append) {
    if let Err(error) = stage.append(append) {
        panic!("repeating what was cut short failed: {error}");
    }
}

/// How many of the events are in the stream.
fn there(stage: &Stage<'_>, name: &str, events: &[NewEvent]) -> usize {
    let read = stage.read_stream(name, VersionRange::ALL, Order::Forward);
    let ids: Vec<_> = read.iter().map(|event| event.id).collect();
    events.iter().filter(|new| ids.contains(&new.id)).count()
}

fn done_or_not_done(stage: &Stage<'_>, polls: usize) {
    for round in 0..20 {
        let name = format!("order/{round}");
        let append = Append::events(stage.events(&name, 4)).expect(stream(&name), Expect::Empty);
        cut_short(stage, &append, polls);
        let found = there(stage, &name, &append.events);
        assert!(found == 0 || found == 4, "{found} of 4 events were written");
        repeat(stage, append.clone());
        assert_eq!(there(stage, &name, &append.events), 4);
        assert_eq!(stage.last_version(&name), Some(3));
    }
}

pub fn an_append_dropped_before_its_first_poll_is_done_or_not_done(stage: &mut Stage<'_>) {
    done_or_not_done(stage, 0);
}

pub fn an_append_dropped_after_its_first_poll_is_done_or_not_done(stage: &mut Stage<'_>) {
    done_or_not_done(stage, 1);
}

pub fn a_dropped_append_does_not_block_the_next(stage: &mut Stage<'_>) {
    for polls in [0, 1, 0, 1, 2] {
        cut_short(stage, &Append::event(stage.event("order/1")), polls);
        stage.put(stage.event("order/1"));
        stage.put(stage.event("order/2"));
    }
}

pub fn appends_dropped_under_load_are_whole_or_absent(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(6, |thread| {
        let name = format!("order/{thread}");
        for n in 0..30 {
            let append = Append::events(stage.events(&name, 3));
            // Between not polled at all and polled often.
            let polls = (id(stage.seed(), (thread * 100 + n) as u64).as_u128() % 4) as usize;
            cut_short(stage, &append, polls);
            let found = there(stage, &name, &append.events);
            assert!(found == 0 || found == 3, "{found} of 3 events were written");
            if n % 3 > 0 {
                repeat(stage, append.clone());
                assert_eq!(there(stage, &name, &append.events), 3);
            }
        }
    });
}

pub fn a_read_dropped_while_it_waits_loses_no_event(stage: &mut Stage<'_>) {
    let mut follower = stage.follow(&Cut::start());
    let mut written = Vec::new();
    let mut read = Vec::new();
    for _ in 0..10 {
        {
            let next = pin!(follower.stream.next());
            let polled = next.poll(&mut Context::from_waker(Waker::noop()));
            assert!(
                matches!(polled, Poll::Pending),
                "nothing was due: {polled:?}"
            );
        }
        written.push(stage.put(stage.event("order/1")));
        read.extend(follower.take(1));
    }
    just_these(&read, &written);
}

pub fn a_head_dropped_before_it_answers_harms_nothing(stage: &mut Stage<'_>) {
    for _ in 0..10 {
        drop(stage.log().head());
        let mut head = stage.log().head();
        let _ = head.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(head);
        stage.put(stage.event("order/1"));
    }
}
