//! A log that is open for reading only, beside its writer.

use std::sync::Arc;

use anabranch_model::{Cut, Event, Filter};

use crate::conformance::check::{count, just_these, no_gap};
use crate::conformance::drive::while_writing;
use crate::conformance::stage::{Stage, whole};
use crate::{Append, AppendError, Log, Order, ReadMode, Rejection, VersionRange};

fn open(stage: &Stage<'_>) -> Arc<dyn Log> {
    stage
        .open_read_only()
        .expect("the subject opens a second time for reading")
}

fn read_all(stage: &Stage<'_>, log: &Arc<dyn Log>) -> Vec<Event> {
    let events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    whole(stage.over(events).rest())
}

/// Waits until a reader, which may lag behind for a moment, shows this many events.
fn wait_for(stage: &Stage<'_>, log: &Arc<dyn Log>, count: usize) {
    let events = log.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    stage.over(events).take(count);
}

pub fn a_reader_sees_what_was_written_before(stage: &mut Stage<'_>) {
    let written = stage.put_each("order/1", 5);
    let reader = open(stage);
    wait_for(stage, &reader, 5);
    just_these(&read_all(stage, &reader), &written);
    let alone = reader.read_stream(&written[0].new.stream, VersionRange(1..3), Order::Backward);
    let alone = whole(stage.over(alone).rest());
    assert!(alone.iter().map(|event| event.version).eq([2, 1]));
}

pub fn a_reader_sees_what_is_written_later(stage: &mut Stage<'_>) {
    let reader = open(stage);
    let mut written = Vec::new();
    for n in 0..10 {
        written.extend(stage.put_all(stage.events("order/1", 1 + n % 3)));
        wait_for(stage, &reader, written.len());
        just_these(&read_all(stage, &reader), &written);
        assert_eq!(stage.head_of(&reader), stage.head());
    }
}

pub fn a_reader_follows_the_writer(stage: &mut Stage<'_>) {
    let reader = open(stage);
    let events = reader.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    let mut follower = stage.over(events);
    for _ in 0..5 {
        let written = stage.put_all(stage.events("order/1", 3));
        just_these(&follower.take(3), &written);
    }
}

pub fn a_reader_refuses_to_write(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let reader = open(stage);
    let append = Append::event(stage.event("order/1"));
    let answer = stage
        .driver()
        .wait("append to a reader", reader.append(append));
    assert_eq!(answer, Err(AppendError::Rejected(Rejection::ReadOnly)));
    assert_eq!(stage.read_all().len(), 1);
}

pub fn a_reader_does_not_disturb_the_writer(stage: &mut Stage<'_>) {
    for _ in 0..5 {
        let reader = open(stage);
        stage.put_each("order/1", 3);
        drop(reader);
        stage.put_each("order/1", 3);
    }
}

pub fn a_reader_beside_busy_writers_sees_no_gap(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let reader = open(stage);
    let write = |thread| {
        for n in 0..50 {
            stage.put_all(stage.events(&format!("order/{thread}"), 1 + n % 4));
        }
    };
    let mut before = Cut::start();
    while_writing(2, write, || {
        let cut = no_gap(&read_all(stage, &reader), &Cut::start());
        assert!(cut.covers(&before), "a later read shows less");
        before = cut;
    });
    wait_for(stage, &reader, count(&stage.head()));
    assert_eq!(stage.head_of(&reader), stage.head());
}

pub fn two_readers_agree(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 5);
    let [a, b] = [open(stage), open(stage)];
    wait_for(stage, &a, 5);
    wait_for(stage, &b, 5);
    assert!(read_all(stage, &a) == read_all(stage, &b));
}
