//! Places, atomicity and visibility of what was appended.

use std::collections::BTreeMap;

use anabranch_model::{Cut, Event, Filter, NewEvent};

use crate::conformance::check::{count, just_these, no_gap};
use crate::conformance::drive::{together, while_writing};
use crate::conformance::make::{Written, stream};
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, Order, ReadMode, Scope, VersionRange};

pub fn capabilities_are_consistent_and_constant(stage: &mut Stage<'_>) {
    let before = stage.capabilities();
    assert!(!before.engine.is_empty(), "the engine has a name");
    assert!(before.partitions >= 1, "a log has a partition");
    assert!(
        before.partitions > 1 || before.total_order,
        "one partition is one order"
    );
    assert!(
        before.batches < Scope::Log || before.conditions > Scope::Stream,
        "an engine that writes any streams at once can look at any streams at once"
    );
    stage.put(stage.event("order/1"));
    assert_eq!(stage.capabilities(), before);
}

pub fn a_new_log_is_empty(stage: &mut Stage<'_>) {
    assert_eq!(stage.head(), Cut::start());
    assert!(stage.read_all().is_empty());
    assert_eq!(stage.last_version("order/1"), None);
}

pub fn an_append_without_conditions_succeeds(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    just_these(&stage.read_all(), [&written]);
}

pub fn the_first_event_of_a_stream_has_version_zero(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    assert_eq!(stage.put(stage.event("order/2")).placed.version, 0);
}

pub fn versions_of_a_stream_count_up_by_one(stage: &mut Stage<'_>) {
    let versions = stage.put_each("order/1", 20);
    let versions: Vec<_> = versions.iter().map(|w| w.placed.version).collect();
    assert_eq!(versions, (0..20).collect::<Vec<_>>());
}

pub fn versions_of_streams_are_independent(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    stage.put_each("order/2", 1);
    assert_eq!(stage.put(stage.event("order/1")).placed.version, 3);
    assert_eq!(stage.put(stage.event("order/2")).placed.version, 1);
}

pub fn positions_count_up_without_gaps(stage: &mut Stage<'_>) {
    let mut next = BTreeMap::new();
    for n in 0..50 {
        let written = stage.put(stage.event(&format!("order/{}", n % 7)));
        let position = written.placed.position;
        let due: &mut u64 = next.entry(position.partition).or_default();
        assert_eq!(position.offset, *due);
        *due += 1;
    }
}

pub fn positions_of_a_batch_follow_each_other(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let written = stage.put_all(stage.events("order/1", 9));
    for (n, pair) in written.windows(2).enumerate() {
        let [a, b] = [pair[0].placed, pair[1].placed];
        assert_eq!(a.position.partition, b.position.partition);
        assert_eq!(a.position.offset + 1, b.position.offset, "events {n}");
        assert_eq!(a.version + 1, b.version, "events {n}");
    }
}

pub fn a_batch_keeps_its_order(stage: &mut Stage<'_>) {
    let events = stage.events("order/1", 100);
    let ids: Vec<_> = events.iter().rev().map(|event| event.id).collect();
    let events: Vec<NewEvent> = events.into_iter().rev().collect();
    stage.put_all(events);
    let read: Vec<_> = stage.read_all().iter().map(|event| event.id).collect();
    assert_eq!(read, ids);
}

pub fn a_batch_over_several_streams_is_written_whole(stage: &mut Stage<'_>) {
    let names = ["a/1", "b/1", "a/1", "c/1", "b/1", "a/1"];
    let written = stage.put_all(names.map(|name| stage.event(name)).to_vec());
    let versions: Vec<_> = written.iter().map(|w| w.placed.version).collect();
    assert_eq!(versions, [0, 0, 1, 0, 1, 2]);
    just_these(&stage.read_all(), &written);
}

pub fn a_batch_over_many_streams_is_written_whole(stage: &mut Stage<'_>) {
    let events = (0..1_000).map(|n| stage.event(&format!("order/{n}")));
    let written = stage.put_all(events.collect());
    assert!(written.iter().all(|w| w.placed.version == 0));
    just_these(&stage.read_all(), &written);
}

pub fn a_batch_of_many_events_is_written_whole(stage: &mut Stage<'_>) {
    let count = stage.limits().batch_events_max.min(10_000);
    let written = stage.put_all(stage.events("order/1", count));
    just_these(&stage.read_all(), &written);
}

pub fn of_appends_handed_over_together_each_is_taken_or_refused_as_alone(stage: &mut Stage<'_>) {
    let known = stage.put(stage.event("order/1"));
    let conflicts =
        || Append::event(stage.event("order/1")).expect(stream("order/1"), Expect::Empty);
    let mut appends: Vec<_> = (0..40)
        .map(|n| Append::events(stage.events(&format!("order/{}", n % 7), 1 + n % 3)))
        .collect();
    appends.insert(3, conflicts());
    appends.insert(20, Append::event(known.new.clone()));
    appends.insert(21, Append::default());
    appends.push(conflicts());
    let answers = stage.append_all(appends.clone());
    let mut written = vec![known.clone()];
    for (at, (append, answer)) in appends.into_iter().zip(answers).enumerate() {
        match (at, answer) {
            (3 | 43, Err(AppendError::Conflict { .. })) => {}
            (21, Err(AppendError::Rejected(_))) => {}
            (20, Ok(appended)) => {
                assert!(appended.repeated, "the repeat is no repeat");
                assert_eq!(appended.places, [known.placed]);
            }
            (at, Ok(appended)) if ![3, 21, 43].contains(&at) => {
                let both = append.events.into_iter().zip(appended.places);
                written.extend(both.map(|(new, placed)| Written { new, placed }));
            }
            (at, other) => panic!("append {at} of many: {other:?}"),
        }
    }
    assert!(stage.append_all(Vec::new()).is_empty());
    written.sort_by_key(|written| written.placed.position);
    just_these(&stage.read_all(), &written);
}

pub fn a_refused_batch_writes_nothing(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let batch = Append::events(stage.events("order/1", 3));
    stage.refuse(batch.expect(stream("order/1"), Expect::Empty));
    assert_eq!(stage.read_all().len(), 1);
}

pub fn a_refused_batch_over_several_streams_writes_nothing(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/2"));
    let names = ["order/1", "order/2", "order/3"];
    let batch = Append::events(names.map(|name| stage.event(name)).to_vec());
    stage.refuse(batch.expect(stream("order/2"), Expect::Empty));
    assert_eq!(stage.last_version("order/1"), None);
    assert_eq!(stage.last_version("order/3"), None);
}

pub fn an_acknowledged_event_is_visible_to_every_read(stage: &mut Stage<'_>) {
    for n in 0..20 {
        let before = stage.head();
        let written = stage.put(stage.event("order/1"));
        let cut = Cut::including(written.placed.position);
        assert!(stage.head().covers(&cut), "the head lags");
        just_these(
            &stage.read(&before, Filter::all(), ReadMode::ToHead),
            [&written],
        );
        let range = VersionRange::from(n);
        just_these(
            &stage.read_stream("order/1", range, Order::Forward),
            [&written],
        );
        just_these(&stage.follow(&before).take(1), [&written]);
    }
}

pub fn the_head_counts_every_acknowledged_event(stage: &mut Stage<'_>) {
    let mut due = 0;
    for size in [1, 5, 2, 17, 1] {
        stage.put_all(stage.events("order/1", size));
        due += size;
        assert_eq!(count(&stage.head()), due);
    }
}

pub fn the_cut_of_an_append_includes_just_its_past(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let append = Append::events(stage.events("order/1", 4));
    let cut = match stage.append(append) {
        Ok(appended) => appended.cut(),
        Err(error) => panic!("an append that must succeed failed: {error}"),
    };
    let later = stage.put(stage.event("order/1"));
    just_these(&stage.read(&cut, Filter::all(), ReadMode::ToHead), [&later]);
}

pub fn the_recorded_time_stays_the_same(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 5);
    let times = |events: Vec<Event>| -> Vec<u64> { events.iter().map(|e| e.recorded_at).collect() };
    let first = times(stage.read_all());
    stage.put_each("order/1", 5);
    assert_eq!(times(stage.read_all())[..5], first);
    let alone = stage.read_stream("order/1", VersionRange::before(5), Order::Forward);
    assert_eq!(times(alone), first);
}

pub fn appends_of_many_threads_are_all_written_once(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let written = together(8, |thread| {
        let one =
            |n| stage.put_all(stage.events(&format!("order/{}", (thread + n) % 5), 1 + n % 3));
        (0..40).flat_map(one).collect::<Vec<Written>>()
    });
    just_these(&stage.read_all(), written.iter().flatten());
}

pub fn appends_of_one_thread_keep_their_order(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let written = together(4, |thread| stage.put_each(&format!("order/{thread}"), 40));
    for (thread, written) in written.iter().enumerate() {
        let versions: Vec<_> = written.iter().map(|w| w.placed.version).collect();
        assert_eq!(versions, (0..40).collect::<Vec<_>>(), "thread {thread}");
        for pair in written.windows(2) {
            assert!(pair[0].placed.position < pair[1].placed.position);
        }
    }
}

pub fn a_batch_is_seen_whole_or_not_at_all(stage: &mut Stage<'_>) {
    seen_whole(stage, |_, thread| format!("order/{thread}"));
}

pub fn a_batch_over_several_streams_is_seen_whole_or_not_at_all(stage: &mut Stage<'_>) {
    seen_whole(stage, |n, thread| format!("order/{thread}-{n}"));
}

/// Reads while three threads write batches of `SIZE`, and checks that each read has all of a
/// batch or nothing of it, and that reads only ever grow.
fn seen_whole(stage: &Stage<'_>, name: impl Fn(usize, usize) -> String + Sync) {
    const SIZE: usize = 5;
    let write = |thread| {
        for _ in 0..60 {
            let batch = stage.id().to_string();
            let mut events: Vec<_> = (0..SIZE).map(|n| stage.event(&name(n, thread))).collect();
            for event in &mut events {
                event.meta_mut().correlation_id = Some(batch.clone());
            }
            stage.put_all(events);
        }
    };
    let mut seen = Vec::new();
    while_writing(3, write, || {
        let head = stage.head();
        whole_batches(&stage.read(&head, Filter::all(), ReadMode::ToHead), SIZE);
        let all = stage.read_all();
        whole_batches(&all, SIZE);
        let cut = no_gap(&all, &Cut::start());
        assert!(cut.covers(&head), "a later read shows less");
        assert!(
            stage.head().covers(&cut),
            "a read shows events beyond the head"
        );
        let shown: Vec<_> = all.iter().map(|event| event.id).collect();
        assert!(
            !stage.capabilities().total_order || shown.starts_with(&seen),
            "a later read shows another past"
        );
        seen = shown;
    });
}

fn whole_batches(events: &[Event], size: usize) {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        let meta = event.meta().decode().unwrap_or_default();
        *sizes
            .entry(meta.correlation_id.unwrap_or_default())
            .or_default() += 1;
    }
    for (batch, seen) in sizes {
        assert_eq!(seen, size, "events seen of batch {batch}");
    }
}
