//! Backups: consistent beside a writer, incremental, and checked before they are a log.

use anabranch_log::{Append, Log, OpenError};
use anabranch_log_segment::{BackupReport, backup, info, restore};
use anabranch_model::Filter;
use futures_executor::block_on;

use super::fixture::{DIR, Fixture, Read, Trial, batch, options, read};

fn back_up(trial: &Trial) -> Result<BackupReport, OpenError> {
    backup(trial.env.clone(), DIR, "backup", &mut |_| {})
}

fn restored(trial: &Trial) -> Result<BackupReport, OpenError> {
    restore(trial.env.clone(), "backup", "restored", &mut |_| {})
}

fn read_dir(trial: &Trial, dir: &str) -> Read {
    let log = anabranch_log_segment::SegmentLog::open_read_only(trial.env.clone(), dir, options());
    read(&log.unwrap(), Filter::all())
}

#[test]
fn a_restored_log_is_the_log_that_was_backed_up() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let report = back_up(&trial).unwrap();
    assert_eq!(report.events as usize, fixture.events.len());
    assert_eq!(restored(&trial).unwrap().events, report.events);
    fixture.compare(&read_dir(&trial, "restored"), "restored");
    let (env, opts) = (trial.env.clone(), options());
    let verified = anabranch_log_segment::verify(env.clone(), "restored", &mut |_| {}).unwrap();
    assert!(verified.is_clean(), "{verified:?}");

    let before = info(env.clone(), DIR).unwrap();
    let log = anabranch_log_segment::SegmentLog::open(env.clone(), "restored", opts).unwrap();
    assert_eq!(log.notes(), Vec::<String>::new());
    let after = info(env, "restored").unwrap();
    assert_eq!((after.log_id, after.events), (before.log_id, before.events));
    assert_eq!(after.epoch, before.epoch + 1);
    let repeated = block_on(log.append(Append::events(batch(17)))).unwrap();
    assert!(repeated.repeated, "the ids of old events are known");
    let appended = block_on(log.append(Append::events(batch(1_000)))).unwrap();
    assert_eq!(appended.places[0].position.offset, before.events);
}

#[test]
fn a_second_backup_copies_what_is_new() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let first = back_up(&trial).unwrap();
    assert_eq!(first.segments_copied, first.segments);
    let log = trial.open().unwrap();
    block_on(log.append(Append::events(batch(1_000)))).unwrap();
    log.close().unwrap();
    let second = back_up(&trial).unwrap();
    assert_eq!(
        (second.segments, second.segments_copied),
        (first.segments, 1)
    );
    assert!(second.events > first.events && second.bytes_copied < first.bytes_copied);
    assert_eq!(restored(&trial).unwrap().events, second.events);
    assert_eq!(
        read_dir(&trial, "restored").events,
        read_dir(&trial, DIR).events
    );
    let old: Vec<_> = trial.env.disk.list("backup".as_ref()).unwrap();
    assert_eq!(old.len() as u64, second.segments + 1, "{old:?}");
}

#[test]
fn a_backup_beside_a_writer_holds_what_was_durable_when_it_began() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let log = trial.open().unwrap();
    for n in 1_000..1_200 {
        block_on(log.append(Append::events(batch(n)))).unwrap();
        trial
            .disk
            .clock()
            .advance(std::time::Duration::from_millis(60));
        log.prepare();
    }
    let marked = info(trial.env.clone(), DIR).unwrap().marked;
    let mut more = 0;
    let report = backup(trial.env.clone(), DIR, "backup", &mut |_| {
        // The writer goes on, over the end of the segment too.
        for n in 2_000 + more..2_100 + more {
            block_on(log.append(Append::events(batch(n)))).unwrap();
        }
        more += 100;
    })
    .unwrap();
    assert!(more > 0 && report.events >= marked, "{report:?} {marked}");
    let all = read(&log, Filter::all()).events;
    assert_eq!(restored(&trial).unwrap().events, report.events);
    let got = read_dir(&trial, "restored").events;
    assert_eq!(got.len() as u64, report.events);
    assert!(got.len() < all.len());
    assert_eq!(got, all[..got.len()]);
}

#[test]
fn no_damage_to_a_backup_becomes_a_log() {
    let fixture = Fixture::new();
    let whole = fixture.trial();
    back_up(&whole).unwrap();
    let files: Vec<_> = whole.disk.files();
    let files: Vec<_> = files
        .into_iter()
        .filter(|(path, _)| path.starts_with("backup"))
        .collect();
    assert_eq!(files.len(), fixture.segments().len() + 1);
    let copy = || {
        let disk = whole.disk.fork();
        Trial {
            env: disk.env(7),
            disk,
        }
    };
    let refused = |trial: &Trial, what: &str| {
        let error = restored(trial).expect_err(what).to_string();
        assert!(error.contains("backup"), "{what}: {error}");
        let log = anabranch_log_segment::SegmentLog::open_read_only(
            trial.env.clone(),
            "restored",
            options(),
        );
        assert!(matches!(log, Err(OpenError::NotFound { .. })), "{what}");
    };
    for (path, length) in &files {
        for at in (0..*length).step_by(*length as usize / 40 + 1) {
            let trial = copy();
            trial.disk.flip_bit(path, at, (at % 8) as u32).unwrap();
            refused(&trial, &format!("{} byte {at}", path.display()));
            let trial = copy();
            trial.disk.truncate(path, at).unwrap();
            refused(&trial, &format!("{} cut to {at}", path.display()));
        }
        let trial = copy();
        trial.disk.delete(path).unwrap();
        refused(&trial, &format!("{} deleted", path.display()));
    }
}

#[test]
fn a_restore_refuses_a_directory_in_use() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    back_up(&trial).unwrap();
    let refused = restore(trial.env.clone(), "backup", DIR, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    fixture.compare(&trial.read_all(), "after a refused restore");
}

#[test]
fn a_backup_refuses_the_directory_of_another_log() {
    let (fixture, other) = (Fixture::new(), Fixture::of_seed(2));
    let trial = fixture.trial();
    back_up(&trial).unwrap();
    for (file, _) in other.files() {
        let path = std::path::Path::new("other").join(&file);
        trial.disk.plant(&path, &other.bytes(&file)).unwrap();
    }
    let refused = backup(trial.env.clone(), "other", "backup", &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("another log"), "{refused}");
    assert_eq!(
        restored(&trial).unwrap().events as usize,
        fixture.events.len()
    );
}

#[test]
fn a_damaged_log_is_not_backed_up_over_a_good_backup() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    back_up(&trial).unwrap();
    let segment = fixture.last_segment();
    trial.disk.zero(&trial.path(&segment), 9_000, 100).unwrap();
    let refused = back_up(&trial).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Damaged { file, .. } if *file == segment),
        "{refused}"
    );
    restored(&trial).unwrap();
    fixture.compare(&read_dir(&trial, "restored"), "the backup before");
}

#[test]
fn an_interrupted_backup_or_restore_leaves_the_one_before_and_can_be_repeated() {
    let fixture = Fixture::new();
    let whole = fixture.trial();
    let before = whole.disk.changes();
    back_up(&whole).unwrap();
    let backup_steps = whole.disk.changes() - before;
    restored(&whole).unwrap();
    let restore_steps = whole.disk.changes() - before - backup_steps;
    for step in 1..=backup_steps {
        let trial = fixture.trial();
        trial.disk.strike_at(step);
        back_up(&trial).unwrap_err();
        trial.disk.crash(anabranch_env::sim::Survival::Any(step));
        if restored(&trial).is_err() {
            back_up(&trial).unwrap();
            restored(&trial).unwrap();
        }
        fixture.compare(&read_dir(&trial, "restored"), &format!("step {step}"));
    }
    for step in 1..=restore_steps {
        let trial = fixture.trial();
        back_up(&trial).unwrap();
        trial.disk.strike_at(step);
        restored(&trial).unwrap_err();
        trial.disk.crash(anabranch_env::sim::Survival::Any(step));
        let what = format!("restore, step {step} of {restore_steps}");
        match restored(&trial) {
            Ok(_) => fixture.compare(&read_dir(&trial, "restored"), &what),
            // Some of it had appeared; it is not taken for a log.
            Err(error) => {
                assert!(error.to_string().contains("not empty"), "{what}: {error}");
                let log = anabranch_log_segment::SegmentLog::open(
                    trial.env.clone(),
                    "restored",
                    options(),
                );
                if let Ok(log) = log {
                    fixture.compare(&read(&log, Filter::all()), &what);
                }
            }
        }
    }
}
