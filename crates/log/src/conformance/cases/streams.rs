//! Reads of one stream.

use crate::conformance::check::{just_these, just_these_backward, same_written};
use crate::conformance::drive::while_writing;
use crate::conformance::make::{Written, stream};
use crate::conformance::stage::{Stage, whole};
use crate::{Order, VersionRange};

/// Writes `count` events to `order/1`, among those of other streams.
fn write(stage: &Stage<'_>, count: usize) -> Vec<Written> {
    let one = |n: usize| {
        stage.put(stage.event(&format!("order/{}", 10 + n % 3)));
        let written = stage.put(stage.event("order/1"));
        stage.put_all(stage.events("payment/1", n % 3 + 1));
        written
    };
    (0..count).map(one).collect()
}

fn forward(stage: &Stage<'_>, range: VersionRange, wanted: &[Written]) {
    same(stage, range, Order::Forward, wanted.iter());
}

fn backward(stage: &Stage<'_>, range: VersionRange, wanted: &[Written]) {
    same(stage, range, Order::Backward, wanted.iter().rev());
}

/// The order within the stream counts, so events are compared one by one.
fn same<'a>(
    stage: &Stage<'_>,
    range: VersionRange,
    order: Order,
    wanted: impl Iterator<Item = &'a Written>,
) {
    let read = stage.read_stream("order/1", range.clone(), order);
    let versions: Vec<_> = read.iter().map(|event| event.version).collect();
    let wanted: Vec<_> = wanted.collect();
    let wanted_versions: Vec<_> = wanted.iter().map(|w| w.placed.version).collect();
    assert_eq!(versions, wanted_versions, "{range:?} {order:?}");
    for (event, written) in read.iter().zip(wanted) {
        same_written(event, written);
    }
}

pub fn a_missing_stream_reads_as_empty(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/2"));
    for order in [Order::Forward, Order::Backward] {
        for range in [VersionRange::ALL, VersionRange::from(3), VersionRange(0..1)] {
            assert!(stage.read_stream("order/1", range, order).is_empty());
        }
    }
}

pub fn a_stream_reads_forward(stage: &mut Stage<'_>) {
    let written = write(stage, 10);
    forward(stage, VersionRange::ALL, &written);
}

pub fn a_stream_reads_backward(stage: &mut Stage<'_>) {
    let written = write(stage, 10);
    backward(stage, VersionRange::ALL, &written);
}

pub fn a_range_has_its_first_version_and_not_its_last(stage: &mut Stage<'_>) {
    let written = write(stage, 10);
    forward(stage, VersionRange(3..6), &written[3..6]);
    backward(stage, VersionRange(3..6), &written[3..6]);
}

pub fn an_open_range_goes_to_the_end(stage: &mut Stage<'_>) {
    let written = write(stage, 10);
    forward(stage, VersionRange::from(7), &written[7..]);
    backward(stage, VersionRange::from(7), &written[7..]);
}

pub fn a_range_before_a_version_begins_at_the_start(stage: &mut Stage<'_>) {
    let written = write(stage, 10);
    forward(stage, VersionRange::before(4), &written[..4]);
    backward(stage, VersionRange::before(4), &written[..4]);
}

pub fn an_empty_range_gives_nothing(stage: &mut Stage<'_>) {
    write(stage, 5);
    for version in 0..7 {
        forward(stage, VersionRange(version..version), &[]);
        backward(stage, VersionRange(version..version), &[]);
    }
}

pub fn a_range_that_ends_before_it_begins_gives_nothing(stage: &mut Stage<'_>) {
    write(stage, 5);
    #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
    for range in [3..1, 5..0, u64::MAX..0] {
        forward(stage, VersionRange(range.clone()), &[]);
        backward(stage, VersionRange(range), &[]);
    }
}

pub fn a_range_beyond_the_end_gives_what_there_is(stage: &mut Stage<'_>) {
    let written = write(stage, 5);
    forward(stage, VersionRange(3..100), &written[3..]);
    backward(stage, VersionRange(3..100), &written[3..]);
    for first in [5, 6, u64::MAX - 1, u64::MAX] {
        forward(stage, VersionRange::from(first), &[]);
        backward(stage, VersionRange::from(first), &[]);
    }
}

pub fn every_range_of_a_short_stream_is_right_in_both_orders(stage: &mut Stage<'_>) {
    let written = write(stage, 6);
    for first in 0..8 {
        for last in first..9 {
            let there = &written[first.min(6)..last.min(6)];
            let range = VersionRange(first as u64..last as u64);
            forward(stage, range.clone(), there);
            backward(stage, range, there);
        }
    }
}

pub fn a_stream_read_ends_where_the_stream_ended_at_its_call(stage: &mut Stage<'_>) {
    let written = write(stage, 3);
    let [ahead, back] = [Order::Forward, Order::Backward].map(|order| {
        let events = stage
            .log()
            .read_stream(&stream("order/1"), VersionRange::ALL, order);
        let mut events = stage.over(events);
        // Over a network a call is made when it gets through.
        let first = events.take(1);
        (first, events)
    });
    write(stage, 3);
    let [ahead, back] = [ahead, back].map(|(mut all, events)| {
        all.extend(whole(events.rest()));
        all
    });
    assert_eq!(ahead.len(), 3, "events forward");
    just_these(&ahead, &written);
    assert_eq!(back.len(), 3, "events backward");
    just_these_backward(&back, &written);
}

pub fn a_stream_read_may_be_given_up_midway(stage: &mut Stage<'_>) {
    write(stage, 20);
    for order in [Order::Forward, Order::Backward] {
        for count in 0..5 {
            let stream = stream("order/1");
            let events = stage.log().read_stream(&stream, VersionRange::ALL, order);
            stage.over(events).take(count);
        }
    }
}

pub fn a_long_stream_reads_in_both_orders(stage: &mut Stage<'_>) {
    let mut written = Vec::new();
    for _ in 0..30 {
        written.extend(stage.put_all(stage.events("order/1", 100)));
        stage.put_all(stage.events("order/2", 50));
    }
    forward(stage, VersionRange::ALL, &written);
    backward(stage, VersionRange::ALL, &written);
    forward(stage, VersionRange(999..2_001), &written[999..2_001]);
    backward(stage, VersionRange(999..2_001), &written[999..2_001]);
}

pub fn a_stream_has_no_gap_while_it_is_written(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let write = |_| {
        for n in 0..60 {
            stage.put_all(stage.events("order/1", 1 + n % 3));
        }
    };
    let mut before = 0;
    while_writing(3, write, || {
        let ahead = stage.read_stream("order/1", VersionRange::ALL, Order::Forward);
        assert!(ahead.iter().map(|e| e.version).eq(0..ahead.len() as u64));
        assert!(ahead.len() >= before, "a later read shows less");
        before = ahead.len();
        let back = stage.read_stream("order/1", VersionRange::ALL, Order::Backward);
        assert!(
            back.iter()
                .map(|e| e.version)
                .eq((0..back.len() as u64).rev())
        );
        assert!(back.len() >= before, "a later read shows less");
    });
}
