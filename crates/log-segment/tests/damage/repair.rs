//! Mending: nothing that is left is touched, and what is lost is said to be lost.

use std::ops::Range;

use anabranch_log::{Append, Expect, Log, OpenError, Order, VersionRange};
use anabranch_log_segment::{Action, RepairPlan, plan_repair};
use anabranch_model::{Filter, StreamId};
use futures_executor::block_on;

use super::fixture::{DIR, Fixture, Trial, batch, read};

fn plan(trial: &Trial) -> RepairPlan {
    plan_repair(trial.env.clone(), DIR).unwrap()
}

/// Plans and does a repair; gives the positions lost.
fn mend(fixture: &Fixture, trial: &Trial, what: &str) -> Vec<Range<u64>> {
    let report = trial.verify();
    let plan = plan(trial);
    // A repair may know more ways to an event than a reader does, never fewer.
    assert!(
        plan.lost() <= report.lost(),
        "{what}: {plan:#?}\n{report:#?}"
    );
    plan.apply(trial.env.clone())
        .unwrap_or_else(|e| panic!("{what}: {e}\n{plan:#?}"));
    let range = |loss: &anabranch_log_segment::Loss| loss.first.offset..loss.last.offset + 1;
    let lost: Vec<_> = plan.losses.iter().map(range).collect();
    check(fixture, trial, &lost, what);
    lost
}

/// The log is whole, every event that was not lost is as it was, and it goes on.
fn check(fixture: &Fixture, trial: &Trial, lost: &[Range<u64>], what: &str) {
    let report = trial.verify();
    assert!(report.is_clean(), "{what}: {report:#?}");
    let log = trial.open().unwrap_or_else(|e| panic!("{what}: {e}"));
    let got = read(&log, Filter::all());
    assert_eq!(got.missing, [], "{what}");
    assert_eq!(got.events.len(), fixture.events.len(), "{what}");
    for (at, (event, was)) in got.events.iter().zip(&fixture.events).enumerate() {
        assert_eq!(event.position.offset, at as u64, "{what}");
        if lost.iter().any(|range| range.contains(&(at as u64))) {
            assert_eq!(event.event_type(), "$EventLost", "{what}");
            assert_eq!(event.stream(), format!("$lost/{at}"), "{what}");
        } else {
            assert_eq!(event, was, "{what}");
        }
    }
    let appended = block_on(log.append(Append::events(batch(1_000)))).unwrap();
    assert_eq!(appended.places[0].position.offset, got.head, "{what}");
    log.close().unwrap();
    drop(log);
    let report = trial.verify();
    assert!(
        report.is_clean(),
        "{what}, and after an append: {report:#?}"
    );
    assert!(plan(trial).is_empty(), "{what}");
}

#[test]
fn a_repair_makes_any_zeroed_page_good() {
    let fixture = Fixture::new();
    for (file, length) in fixture.files() {
        // Every third page: the pages of a region are alike.
        for page in (0..length.div_ceil(4096)).step_by(3) {
            let trial = fixture.trial();
            trial
                .disk
                .zero(&trial.path(&file), page * 4096, 4096)
                .unwrap();
            let expected = match file.strip_suffix(".seg") {
                Some(_) if page >= 2 => fixture.frames_on(&file, &(page * 4096..(page + 1) * 4096)),
                _ => Vec::new(),
            };
            let what = format!("{file}: page {page} zeroed");
            assert_eq!(mend(&fixture, &trial, &what), expected, "{what}");
        }
    }
}

#[test]
fn a_repair_makes_any_unreadable_page_good() {
    let fixture = Fixture::new();
    for file in fixture.segments() {
        for page in [0, 1, 2, 9, 15] {
            let trial = fixture.trial();
            trial
                .disk
                .make_unreadable(&trial.path(&file), page * 4096, 4096)
                .unwrap();
            let range = page * 4096..(page + 1) * 4096;
            let what = format!("{file}: page {page} cannot be read");
            if fixture.frames_on(&file, &range).is_empty() {
                continue;
            }
            mend(&fixture, &trial, &what);
        }
    }
}

#[test]
fn a_repair_makes_any_cut_file_good() {
    let fixture = Fixture::new();
    for (file, length) in fixture.files() {
        for cut in (0..length).step_by(16_381) {
            let trial = fixture.trial();
            trial.disk.truncate(&trial.path(&file), cut).unwrap();
            mend(&fixture, &trial, &format!("{file} cut to {cut} bytes"));
        }
    }
}

#[test]
fn a_repair_makes_lost_copied_swapped_and_renamed_files_good() {
    let fixture = Fixture::new();
    let names: Vec<String> = fixture.files().into_iter().map(|(name, _)| name).collect();
    let kind = |name: &str| name.rsplit('.').next().unwrap_or("").to_owned();
    for file in names.iter().filter(|name| *name != "lock") {
        let trial = fixture.trial();
        trial.disk.delete(&trial.path(file)).unwrap();
        let lost = mend(&fixture, &trial, &format!("{file} deleted"));
        assert_eq!(lost.is_empty(), kind(file) != "seg", "{file} deleted");
        for other in names.iter().filter(|o| *o != file && kind(o) == kind(file)) {
            let trial = fixture.trial();
            trial
                .disk
                .duplicate(&trial.path(file), &trial.path(other))
                .unwrap();
            mend(&fixture, &trial, &format!("{file} copied over {other}"));
            let trial = fixture.trial();
            trial
                .disk
                .swap(&trial.path(file), &trial.path(other))
                .unwrap();
            let lost = mend(&fixture, &trial, &format!("{file} and {other} swapped"));
            assert_eq!(lost, [], "{file} and {other} swapped");
        }
    }
    for segment in fixture.segments() {
        for name in ["0000000009.seg", "0000000001.seg.old"] {
            let trial = fixture.trial();
            trial
                .env
                .disk
                .rename(&trial.path(&segment), &trial.path(name))
                .unwrap();
            let lost = mend(&fixture, &trial, &format!("{segment} renamed to {name}"));
            assert_eq!(lost, [], "{segment} renamed to {name}");
        }
    }
}

#[test]
fn a_segment_without_any_header_is_recovered_from_its_name_and_frames() {
    let fixture = Fixture::new();
    for segment in fixture.segments() {
        let trial = fixture.trial();
        trial.disk.zero(&trial.path(&segment), 0, 8192).unwrap();
        let lost = mend(&fixture, &trial, &segment);
        assert_eq!(lost, [], "{segment}");
    }
}

#[test]
fn the_damaged_file_is_kept_as_it_was() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let segment = "0000000002.seg";
    trial
        .disk
        .zero(&trial.path(segment), 5 * 4096, 4096)
        .unwrap();
    let damaged = trial.bytes(segment);
    let plan = plan(&trial);
    let kept = plan.actions.iter().find_map(|action| match action {
        Action::ReplaceSegment { file, kept } if file == segment => Some(kept.clone()),
        _ => None,
    });
    plan.apply(trial.env.clone()).unwrap();
    assert_eq!(kept.as_deref(), Some("0000000002.seg.damaged-1"));
    assert_eq!(trial.bytes("0000000002.seg.damaged-1"), damaged);
}

#[test]
fn versions_go_on_after_the_lost_ones_that_an_index_tells_of() {
    let fixture = Fixture::new();
    let stream = StreamId::new("order/5").unwrap();
    let of_stream = fixture.events.iter().filter(|e| e.stream() == "order/5");
    let last = of_stream.map(|e| e.version).max().unwrap();
    // The last event of the stream stands in the last segment, which has no index; one
    // segment before, all is known.
    for (segment, is_known) in [("0000000003.seg", true), ("0000000004.seg", false)] {
        let trial = fixture.trial();
        trial.disk.delete(&trial.path("0000000004.seg")).unwrap();
        if is_known {
            trial.disk.delete(&trial.path(segment)).unwrap();
        }
        let plan = plan(&trial);
        let known = plan.losses.iter().flat_map(|loss| &loss.known);
        let of_stream: Vec<_> = known
            .filter(|event| event.stream.as_deref() == Some("order/5"))
            .collect();
        for event in &of_stream {
            let was = &fixture.events[event.position.offset as usize];
            assert_eq!((was.stream(), was.version), ("order/5", event.version));
        }
        assert_eq!(!of_stream.is_empty(), is_known);
        plan.apply(trial.env.clone()).unwrap();
        let log = trial.open().unwrap();
        let before = fixture.events.iter().filter(|e| {
            e.stream() == "order/5" && e.position.offset < fixture.events_of("0000000004.seg").start
        });
        let expected = before.map(|e| e.version).max().unwrap() + 1;
        assert!(expected <= last);
        let mut events = batch(1_000);
        events.truncate(1);
        events[0].stream = stream.clone();
        let append = Append::events(events).expect(stream.clone(), Expect::At(expected - 1));
        let placed = block_on(log.append(append)).unwrap().places[0];
        assert_eq!(placed.version, expected, "{segment}");
        let mut back = log.read_stream(&stream, VersionRange::ALL, Order::Backward);
        assert_eq!(block_on(back.next()).unwrap().unwrap().version, expected);
    }
}

#[test]
fn an_interrupted_repair_is_planned_and_done_again() {
    let fixture = Fixture::new();
    let damage = |trial: &Trial| {
        trial
            .disk
            .swap(&trial.path("0000000001.seg"), &trial.path("0000000002.seg"))
            .unwrap();
        trial
            .disk
            .zero(&trial.path("0000000003.seg"), 5 * 4096, 4096)
            .unwrap();
        trial.disk.delete(&trial.path("mark")).unwrap();
    };
    let whole = fixture.trial();
    damage(&whole);
    let planned = plan(&whole);
    let range = |loss: &anabranch_log_segment::Loss| loss.first.offset..loss.last.offset + 1;
    let lost: Vec<_> = planned.losses.iter().map(range).collect();
    let before = whole.disk.changes();
    planned.apply(whole.env.clone()).unwrap();
    let steps = whole.disk.changes() - before;
    assert!(steps > 10, "{steps} steps");
    for step in 1..=steps {
        let what = format!("interrupted at step {step} of {steps}");
        let trial = fixture.trial();
        damage(&trial);
        trial.disk.strike_at(step);
        plan(&trial).apply(trial.env.clone()).unwrap_err();
        trial.disk.crash(anabranch_env::sim::Survival::Any(step));
        plan(&trial).apply(trial.env.clone()).unwrap();
        check(&fixture, &trial, &lost, &what);
    }
}

#[test]
fn a_plan_for_a_log_that_changed_since_is_refused() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    trial
        .disk
        .zero(&trial.path("0000000002.seg"), 5 * 4096, 4096)
        .unwrap();
    let plan = plan(&trial);
    trial
        .disk
        .zero(&trial.path("0000000001.seg"), 5 * 4096, 4096)
        .unwrap();
    let refused = plan.apply(trial.env.clone()).unwrap_err();
    assert!(matches!(refused, OpenError::Invalid(_)), "{refused}");
}

#[test]
fn a_log_with_a_writer_is_not_repaired() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    trial
        .disk
        .zero(&trial.path("0000000002.seg"), 5 * 4096, 4096)
        .unwrap();
    let planned = plan(&trial);
    let _log = trial.open().unwrap();
    let refused = planned.apply(trial.env.clone()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    let refused = plan_repair(trial.env.clone(), DIR).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
}

#[test]
fn a_repair_drops_a_damaged_catalogue_which_the_log_makes_again() {
    let fixture = Fixture::large();
    let files = fixture.files();
    let run = files.iter().find(|(name, _)| name.ends_with(".cat"));
    let (run, length) = run.expect("a log of many segments has a catalogue");
    for page in 0..length / 4096 {
        let trial = fixture.trial();
        trial
            .disk
            .zero(&trial.path(run), page * 4096, 4096)
            .unwrap();
        let lost = mend(&fixture, &trial, &format!("{run}: page {page} zeroed"));
        assert_eq!(lost, []);
    }
}
