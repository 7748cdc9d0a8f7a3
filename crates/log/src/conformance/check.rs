//! What must be true of events that were read.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_model::{Cut, Event, NewEvent, Version};

use super::make::Written;

/// Asserts that `event` is `new`, to the last byte.
pub(super) fn same_event(event: &Event, new: &NewEvent) {
    assert_eq!(event.id, new.id, "the id of {event:?}");
    assert_eq!(event.stream(), new.stream.as_str(), "stream of {}", new.id);
    assert_eq!(
        event.event_type(),
        new.event_type.as_str(),
        "type of {}",
        new.id
    );
    assert_eq!(
        event.schema_version, new.schema_version,
        "schema version of {}",
        new.id
    );
    assert!(
        event.data() == new.data,
        "the data of {} changed: {} bytes were written, {} were read",
        new.id,
        new.data.len(),
        event.data().len()
    );
    let meta = match event.meta().decode() {
        Ok(meta) => meta,
        Err(error) => panic!("the metadata of {} cannot be decoded: {error}", new.id),
    };
    let mut wanted = new.meta.as_deref().cloned().unwrap_or_default();
    // Stored is what the partition has not said before.
    wanted.causes = meta.causes.clone();
    assert_eq!(meta, wanted, "metadata of {}", new.id);
}

/// Asserts that `event` is what was written, where it was written.
pub(super) fn same_written(event: &Event, written: &Written) {
    same_event(event, &written.new);
    let place = (event.position, event.version);
    let wanted = (written.placed.position, written.placed.version);
    assert_eq!(place, wanted, "place of {}", written.new.id);
}

/// Asserts that `read` is just `written`, each partition in the order of its positions.
pub(super) fn just_these<'a>(read: &[Event], written: impl IntoIterator<Item = &'a Written>) {
    let mut wanted: Vec<&Written> = written.into_iter().collect();
    wanted.sort_by_key(|written| written.placed.position);
    same_in_each_partition(read, &wanted);
}

/// Asserts that `read` is just `written`, each partition newest first.
pub(super) fn just_these_backward<'a>(
    read: &[Event],
    written: impl IntoIterator<Item = &'a Written>,
) {
    let mut wanted: Vec<&Written> = written.into_iter().collect();
    wanted.sort_by_key(|written| written.placed.position);
    wanted.reverse();
    same_in_each_partition(read, &wanted);
}

fn same_in_each_partition(read: &[Event], wanted: &[&Written]) {
    let mut read: Vec<&Event> = read.iter().collect();
    let mut wanted = wanted.to_vec();
    // Stable, so the order within a partition stays what it was.
    read.sort_by_key(|event| event.position.partition);
    wanted.sort_by_key(|written| written.placed.position.partition);
    let places: Vec<_> = read.iter().map(|event| event.position).collect();
    let wanted_places: Vec<_> = wanted
        .iter()
        .map(|written| written.placed.position)
        .collect();
    assert_eq!(places, wanted_places, "positions of the events read");
    for (event, written) in read.iter().zip(&wanted) {
        same_written(event, written);
    }
}

/// Asserts that `read` has every position of each partition from `from` on, once and in
/// order; gives the cut it ends at.
pub(super) fn no_gap(read: &[Event], from: &Cut) -> Cut {
    let mut cut = from.clone();
    for event in read {
        let next = cut.get(event.position.partition);
        assert!(
            event.position.offset == next,
            "offset {next} of partition {} was due, the event at {} came",
            event.position.partition.0,
            event.position
        );
        cut.set(event.position.partition, next + 1);
    }
    cut
}

/// Asserts that the versions of each stream count up from 0, that ids are unique and that
/// no position comes twice.
pub(super) fn versions_count_up(read: &[Event]) {
    let mut next: BTreeMap<&str, Version> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for event in read {
        let due = next.entry(event.stream()).or_default();
        assert_eq!(event.version, *due, "version of {event:?}");
        *due += 1;
        assert!(ids.insert(event.id), "id {} was written twice", event.id);
    }
}

/// How many events a cut includes.
pub(super) fn count(cut: &Cut) -> usize {
    let total: u64 = cut.iter().map(|(_, count)| count).sum();
    usize::try_from(total).unwrap_or(usize::MAX)
}
