//! Reads of the whole log, from a cut to the head.

use std::collections::BTreeMap;

use anabranch_model::{Cut, Filter, PartitionId};

use crate::conformance::check::{count, just_these, no_gap};
use crate::conformance::drive::{together, while_writing};
use crate::conformance::make::Written;
use crate::conformance::stage::{Stage, whole};
use crate::{ReadError, ReadMode};

/// Writes batches of different sizes to a few streams.
fn write_some(stage: &Stage<'_>) -> Vec<Written> {
    let batch = |n: usize| stage.put_all(stage.events(&format!("order/{}", n % 4), 1 + n % 5));
    (0..12).flat_map(batch).collect()
}

/// Every cut of the log in which at most one partition is not read to its end or start.
fn cuts(head: &Cut) -> Vec<Cut> {
    let mut cuts = vec![Cut::start()];
    let mut so_far = Cut::start();
    for (partition, count) in head.iter() {
        for count in 1..=count {
            so_far.set(partition, count);
            cuts.push(so_far.clone());
        }
    }
    cuts
}

fn beyond(head: &Cut) -> Cut {
    let mut cut = head.clone();
    let (partition, count) = head.iter().next().unwrap_or((PartitionId(0), 0));
    cut.set(partition, count + 1);
    cut
}

fn must_be_beyond(read: Result<Vec<anabranch_model::Event>, ReadError>, from: &Cut, head: &Cut) {
    let wanted = ReadError::CutBeyondHead {
        from: from.clone(),
        head: head.clone(),
    };
    assert_eq!(read, Err(wanted));
}

pub fn reading_from_the_start_gives_everything(stage: &mut Stage<'_>) {
    let written = write_some(stage);
    just_these(&stage.read_all(), &written);
}

pub fn reading_from_the_head_gives_nothing(stage: &mut Stage<'_>) {
    write_some(stage);
    let read = stage.read(&stage.head(), Filter::all(), ReadMode::ToHead);
    assert!(read.is_empty(), "{read:?}");
}

pub fn reading_from_each_cut_gives_the_rest(stage: &mut Stage<'_>) {
    let written = write_some(stage);
    for cut in cuts(&stage.head()) {
        let rest = written
            .iter()
            .filter(|written| !cut.includes(written.placed.position));
        just_these(&stage.read(&cut, Filter::all(), ReadMode::ToHead), rest);
    }
}

pub fn a_read_ends_at_the_head_of_its_call(stage: &mut Stage<'_>) {
    let written = write_some(stage);
    let fresh = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut begun = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut first = begun.take(1);
    write_some(stage);
    just_these(&whole(fresh.rest()), &written);
    first.extend(whole(begun.rest()));
    just_these(&first, &written);
}

pub fn a_read_of_an_empty_log_stays_empty(stage: &mut Stage<'_>) {
    let read = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let late = stage.put(stage.event("order/1"));
    let rest = whole(read.rest());
    if stage.reads_may_begin_late() && !rest.is_empty() {
        just_these(&rest, &[late]);
    } else {
        assert!(rest.is_empty());
    }
}

pub fn a_read_that_has_ended_stays_ended(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let mut read = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
    read.take(1);
    for _ in 0..3 {
        assert!(read.next().is_none());
        stage.put(stage.event("order/1"));
    }
}

pub fn single_events_and_batches_mix(stage: &mut Stage<'_>) {
    let written = write_some(stage);
    let mut read = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let mut events = read.take(2);
    events.extend(whole(read.rest_in_batches()));
    just_these(&events, &written);
}

pub fn a_read_may_be_given_up_midway(stage: &mut Stage<'_>) {
    let written = write_some(stage);
    for count in 0..written.len() {
        let mut read = stage.reader(&Cut::start(), Filter::all(), ReadMode::ToHead);
        assert_eq!(read.take(count).len(), count);
    }
    just_these(&stage.read_all(), &written);
}

pub fn reads_at_the_same_time_agree(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let written = write_some(stage);
    together(6, |_| {
        for _ in 0..5 {
            just_these(&stage.read_all(), &written);
        }
    });
}

pub fn a_long_log_is_read_whole(stage: &mut Stage<'_>) {
    let batch = |n: usize| stage.put_all(stage.events(&format!("order/{}", n % 10), 100));
    let written: Vec<_> = (0..60).flat_map(batch).collect();
    just_these(&stage.read_all(), &written);
}

pub fn a_read_from_a_cut_has_no_gap_while_others_write(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let mut cut = Cut::start();
    let write = |thread| {
        for n in 0..60 {
            stage.put_all(stage.events(&format!("order/{thread}"), 1 + n % 4));
        }
    };
    while_writing(3, write, || {
        let read = stage.read(&cut, Filter::all(), ReadMode::ToHead);
        cut = no_gap(&read, &cut);
    });
    assert_eq!(count(&cut), 3 * (60 + 90));
}

pub fn reading_from_beyond_the_head_is_refused(stage: &mut Stage<'_>) {
    for _ in 0..2 {
        let head = stage.head();
        let from = beyond(&head);
        for mode in [ReadMode::ToHead, ReadMode::Follow] {
            must_be_beyond(stage.try_read(&from, Filter::all(), mode), &from, &head);
        }
        write_some(stage);
    }
}

pub fn reading_backward_from_beyond_the_head_is_refused(stage: &mut Stage<'_>) {
    write_some(stage);
    let head = stage.head();
    let from = beyond(&head);
    let read = stage.try_read(&from, Filter::all(), ReadMode::Backward);
    must_be_beyond(read, &from, &head);
}

pub fn reading_a_partition_that_does_not_exist_is_refused(stage: &mut Stage<'_>) {
    write_some(stage);
    let head = stage.head();
    let mut from = head.clone();
    from.set(PartitionId(stage.capabilities().partitions), 1);
    for mode in [ReadMode::ToHead, ReadMode::Follow] {
        must_be_beyond(stage.try_read(&from, Filter::all(), mode), &from, &head);
    }
}

/// Writes appends of many sizes; each of their events says how large the append is that has
/// written it.
fn write_appends(stage: &Stage<'_>) {
    for n in 0..120_usize {
        let size = 1 + n * 7 % 23;
        let mut events: Vec<_> = (0..size)
            .map(|i| {
                // Of one key: an append writes one partition.
                let category = if i % 3 == 0 { "third" } else { "other" };
                stage.event(&format!("{category}/{n}"))
            })
            .collect();
        for event in &mut events {
            event.meta_mut().correlation_id = Some(format!("{n}:{size}:{}", size.div_ceil(3)));
        }
        stage.put_all(events);
    }
}

pub fn a_read_gives_whole_appends(stage: &mut Stage<'_>) {
    write_appends(stage);
    for (filter, field) in [(Filter::all(), 1), (Filter::category("third"), 2)] {
        let read = stage.reader(&Cut::start(), filter, ReadMode::ToHead);
        for batch in read.batches() {
            let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
            for event in batch.iter().flatten() {
                let meta = event.meta.decode().unwrap_or_default();
                *sizes
                    .entry(meta.correlation_id.unwrap_or_default())
                    .or_default() += 1;
            }
            for (append, seen) in sizes {
                let size = append.split(':').nth(field);
                assert_eq!(Some(seen.to_string().as_str()), size, "of append {append}");
            }
        }
    }
}

pub fn the_batches_of_a_read_follow_each_other(stage: &mut Stage<'_>) {
    write_appends(stage);
    for filter in [Filter::all(), Filter::category("third")] {
        let mut reached = Cut::start();
        let read = stage.reader(&Cut::start(), filter, ReadMode::ToHead);
        for batch in read.batches() {
            // An engine need not say how far its batches reach.
            let Some(reach) = batch.reach() else { continue };
            for (partition, offsets) in reach.parts() {
                let begins = reached.get(partition);
                assert_eq!(offsets.start, begins, "a batch begins where one ended");
            }
            for event in batch.iter().flatten() {
                assert!(reach.has(event.position));
            }
            reach.pass(&mut reached);
        }
        assert!(stage.head().covers(&reached));
    }
}
