//! Copies of a log into another layout: nothing is lost, reordered, or shown before its cause.

#[path = "relayout/logs.rs"]
mod logs;

use std::collections::BTreeMap;

use anabranch_log::copy::CopyError;
use anabranch_log::relayout::{Relayout, sum};
use anabranch_log::{Append, Layout, Log};
use anabranch_model::{Cut, CutMap, EventId, NewEvent, PartitionId, Position, StreamId};
use futures_executor::block_on;

use logs::{Seen, Target, all, filled, layouts, more};

/// Copies so many batches, or to the end.
fn copy(
    source: &dyn Log,
    to: &Target,
    kept: Option<CutMap>,
    batches: usize,
) -> Result<(u64, CutMap), CopyError> {
    block_on(async {
        let timed = to.timed();
        let mut copy = Relayout::start(source, &*to.log, &timed, kept).await?;
        let mut copied = 0;
        for _ in 0..batches {
            match copy.next().await? {
                Some(count) => copied += count,
                None => break,
            }
        }
        Ok((copied, copy.map().clone()))
    })
}

/// The cut that includes each event, its append, and all that this depends on, by what the log says.
fn closures(events: &[Seen]) -> BTreeMap<Position, Cut> {
    let mut known: BTreeMap<PartitionId, Cut> = BTreeMap::new();
    let mut appends = BTreeMap::new();
    for seen in events {
        let event = seen.event.as_ref();
        let closure = known.entry(event.position.partition).or_default();
        closure.join(&event.meta.causes().unwrap());
        closure.join(&Cut::including(event.position));
        appends.insert(seen.append, closure.clone());
    }
    let of = |seen: &Seen| (seen.event.position, appends[&seen.append].clone());
    events.iter().map(of).collect()
}

/// Where each event of the old log stands in the new one.
fn places(old: &[Seen], new: &[Seen]) -> BTreeMap<Position, Position> {
    let places: BTreeMap<EventId, Position> = new
        .iter()
        .map(|seen| (seen.event.id, seen.event.position))
        .collect();
    let place = |seen: &Seen| (seen.event.position, places[&seen.event.id]);
    old.iter().map(place).collect()
}

fn assert_same(source: &dyn Log, target: &dyn Log) {
    let heads = block_on(async { (source.head().await.unwrap(), target.head().await.unwrap()) });
    let sums = block_on(async {
        let theirs = sum(source, &heads.0).await.unwrap();
        (theirs, sum(target, &heads.1).await.unwrap())
    });
    assert_eq!(sums.0, sums.1);
    let (old, new) = (all(source), all(target));
    assert_eq!(old.len(), new.len());
    let by_id: BTreeMap<EventId, &Seen> = new.iter().map(|seen| (seen.event.id, seen)).collect();
    for seen in &old {
        let (event, copied) = (seen.event.as_ref(), by_id[&seen.event.id].event.as_ref());
        assert_eq!(copied.stream, event.stream);
        assert_eq!(copied.version, event.version);
        assert_eq!(copied.event_type, event.event_type);
        assert_eq!(copied.data, event.data);
        assert_eq!(copied.schema_version, event.schema_version);
        assert_eq!(copied.recorded_at, seen.recorded_at);
        let tags = |event: &anabranch_model::EventRef<'_>| {
            event.meta.tags().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(tags(&copied), tags(&event));
    }
    let places = places(&old, &new);
    let (before, after) = (closures(&old), closures(&new));
    for (effect, closure) in &before {
        let depends = &after[&places[effect]];
        for (cause, place) in &places {
            assert!(
                !closure.includes(*cause) || depends.includes(*place),
                "{effect} depends on {cause}, and {} not on {place}",
                places[effect]
            );
        }
    }
}

#[test]
fn a_copy_in_another_layout_has_every_event_behind_all_that_it_depended_on() {
    for (from, to) in layouts() {
        let source = filled(&from, 150);
        let target = Target::new(&to);
        let (copied, map) = copy(&*source, &target, None, usize::MAX).unwrap();
        assert_eq!(copied, all(&*source).len() as u64);
        assert_eq!(map.reached(), block_on(source.head()).unwrap());
        assert_eq!(map.target(), block_on(target.log.head()).unwrap());
        assert_same(&*source, &*target.log);
    }
}

#[test]
fn an_append_whose_streams_stay_together_stays_one() {
    let (from, to) = layouts().remove(1);
    let source = filled(&from, 150);
    let target = Target::new(&to);
    copy(&*source, &target, None, usize::MAX).unwrap();
    let (old, new) = (all(&*source), all(&*target.log));
    let places = places(&old, &new);
    let starts: BTreeMap<Position, Position> = new
        .iter()
        .map(|seen| (seen.event.position, seen.append))
        .collect();
    let mut checked = 0;
    for seen in old.iter().filter(|seen| seen.append != seen.event.position) {
        let (place, first) = (places[&seen.event.position], places[&seen.append]);
        if place.partition == first.partition {
            assert_eq!(starts[&place], starts[&first], "{}", seen.event.position);
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn a_copy_that_was_interrupted_goes_on_from_any_map_or_from_none() {
    let (from, to) = layouts().remove(0);
    let source = filled(&from, 60);
    let total = all(&*source).len() as u64;
    for batches in [0, 1, 5, 9] {
        let target = Target::new(&to);
        let (first, map) = copy(&*source, &target, None, batches).unwrap();
        let (more, later) = copy(&*source, &target, Some(map.clone()), 3).unwrap();
        // The older map; what is behind it is there already.
        let (rest, _) = copy(&*source, &target, Some(map), usize::MAX).unwrap();
        assert_eq!(first + more + rest, total);
        assert_same(&*source, &*target.log);
        let (none, _) = copy(&*source, &target, Some(later), usize::MAX).unwrap();
        let (again, _) = copy(&*source, &target, None, usize::MAX).unwrap();
        assert_eq!((none, again), (0, 0));
        assert_same(&*source, &*target.log);
    }
}

#[test]
fn a_map_of_what_a_power_cut_took_away_is_not_believed() {
    let (from, to) = layouts().remove(0);
    let source = filled(&from, 20);
    let (_, map) = copy(&*source, &Target::new(&to), None, usize::MAX).unwrap();
    let empty = Target::new(&to);
    copy(&*source, &empty, Some(map), usize::MAX).unwrap();
    assert_same(&*source, &*empty.log);
}

#[test]
fn a_copy_takes_what_has_come_since() {
    for (from, to) in layouts() {
        let source = filled(&from, 40);
        let target = Target::new(&to);
        let (_, map) = copy(&*source, &target, None, usize::MAX).unwrap();
        more(&*source, 40, 40);
        copy(&*source, &target, Some(map), usize::MAX).unwrap();
        assert_same(&*source, &*target.log);
    }
}

#[test]
fn an_old_cut_is_rounded_up_to_a_closed_one_that_has_all_of_its_events() {
    for (from, to) in layouts() {
        let source = filled(&from, 120);
        let target = Target::new(&to);
        let (_, map) = copy(&*source, &target, None, usize::MAX).unwrap();
        let map = CutMap::decode(&map.encode()).unwrap();
        let (old, new) = (all(&*source), all(&*target.log));
        let places = places(&old, &new);
        let after = closures(&new);
        for closure in closures(&old).values() {
            let rounded = map.round_up(closure).unwrap();
            for (cause, place) in &places {
                assert!(
                    !closure.includes(*cause) || rounded.includes(*place),
                    "{closure}"
                );
            }
            for (place, depends) in &after {
                assert!(
                    !rounded.includes(*place) || rounded.covers(depends),
                    "{rounded}"
                );
            }
        }
    }
}

#[test]
fn what_somebody_has_written_to_the_copy_is_found() {
    let (from, to) = layouts().remove(0);
    let source = filled(&from, 20);
    let target = Target::new(&to);
    let stream = all(&*source)[0].event.stream_id();
    let stray = NewEvent::new(
        EventId::from_u128(1 << 90),
        stream,
        "Stray".parse().unwrap(),
        "{}",
    );
    block_on(target.log.append(Append::event(stray))).unwrap();
    let refused = copy(&*source, &target, None, usize::MAX).unwrap_err();
    assert!(matches!(refused, CopyError::Differs { .. }), "{refused}");
}

#[test]
fn the_same_layout_is_refused() {
    let (from, _) = layouts().remove(0);
    let refused = copy(&*filled(&from, 1), &Target::new(&from), None, 1).unwrap_err();
    assert!(matches!(refused, CopyError::SameLayout { .. }), "{refused}");
}

#[test]
fn a_log_that_says_a_place_of_its_layout_is_refused() {
    let source = filled(&Layout::one(), 3);
    let said = |id, data: &'static str| {
        let stream = StreamId::system("$flow/shipping").unwrap();
        NewEvent::new(
            EventId::from_u128(id),
            stream,
            "$Began".parse().unwrap(),
            data,
        )
    };
    let (_, to) = layouts().remove(0);
    block_on(source.append(Append::event(said(1 << 80, r#"{"cut":{}}"#)))).unwrap();
    copy(&*source, &Target::new(&to), None, usize::MAX).unwrap();
    block_on(source.append(Append::event(said(1 << 81, r#"{"cut":{"0":3}}"#)))).unwrap();
    let refused = copy(&*source, &Target::new(&to), None, usize::MAX).unwrap_err();
    assert!(matches!(refused, CopyError::NamesPlace { .. }), "{refused}");
}

#[test]
fn one_changed_event_changes_what_is_compared() {
    let one = |data: &'static str| {
        let log = Target::new(&Layout::one()).log;
        let stream = StreamId::new("order/1").unwrap();
        let event = NewEvent::new(
            EventId::from_u128(1),
            stream,
            "Placed".parse().unwrap(),
            data,
        );
        block_on(log.append(Append::event(event))).unwrap();
        block_on(sum(&*log, &Cut::at(1))).unwrap()
    };
    assert_eq!(one("{}"), one("{}"));
    assert_ne!(one("{}"), one("[]"));
}
