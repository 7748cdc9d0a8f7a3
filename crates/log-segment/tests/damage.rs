//! What time, cosmic rays and people do to a log's files: nothing of it is silent, and
//! what is not damaged can still be read.

#[path = "damage/backup.rs"]
mod backup;
#[path = "damage/fixture.rs"]
mod fixture;
#[path = "damage/repair.rs"]
mod repair;

use std::collections::BTreeMap;

use anabranch_env::SplitMix64;
use anabranch_log::OpenError;
use anabranch_log_segment::VerifyReport;
use fixture::{Fixture, Region, Trial};

/// A number from the environment, for bigger doses.
fn dose(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn seed() -> u64 {
    dose("ANABRANCH_SEED", 20_240_607)
}

/// The report names the file.
fn names(report: &VerifyReport, file: &str) -> bool {
    report.damages.iter().any(|d| d.file == file) || report.remarks.iter().any(|r| r.file == file)
}

#[test]
fn no_flipped_bit_is_silent() {
    let fixture = Fixture::large();
    let flips = dose("ANABRANCH_BIT_FLIPS", 800);
    let mut rng = SplitMix64::new(seed());
    let mut counts: BTreeMap<Region, u64> = BTreeMap::new();
    let regions = fixture.regions();
    for n in 0..flips {
        let region = Region::ALL[(n % Region::ALL.len() as u64) as usize];
        let ranges = &regions[&region];
        let (file, range) = &ranges[rng.below(ranges.len() as u64) as usize];
        let offset = range.start + rng.below(range.end - range.start);
        let bit = rng.below(8) as u32;
        let what = format!(
            "seed {}, flip {n}: {region:?} {file} byte {offset} bit {bit}",
            seed()
        );
        let trial = fixture.trial();
        trial.disk.flip_bit(&trial.path(file), offset, bit).unwrap();
        *counts.entry(region).or_default() += 1;

        let read = trial.read_all();
        let lost = fixture.frame_at(file, offset);
        let expected = match region {
            Region::FrameHeader | Region::Body => lost.clone().into_iter().collect(),
            _ => Vec::new(),
        };
        assert_eq!(read.missing, expected, "{what}: other events are missing");
        fixture.compare(&read, &what);
        trial.check_lookups(&expected, &what);
        let report = trial.verify();
        match region {
            Region::Lock => assert!(report.is_clean(), "{what}: {report:?}"),
            Region::Unused | Region::Spare => {
                assert!(names(&report, file), "{what}: nothing is said");
            }
            _ => {
                let told = report.damages.iter().find(|d| d.file == *file);
                let told = told.unwrap_or_else(|| panic!("{what}: not reported: {report:?}"));
                assert!(told.offset <= offset, "{what}: {told}");
            }
        }
        assert_eq!(report.lost(), Trial::count(&expected), "{what}: {report:?}");
        trial.check_writer(&expected, &what);
    }
    println!("seed {}: {counts:?}", seed());
}

#[test]
fn no_cut_of_a_file_is_silent() {
    let fixture = Fixture::new();
    let every_byte = dose("ANABRANCH_EVERY_BYTE", 0) == 1;
    for file in [
        fixture.last_segment(),
        fixture.an_index(),
        "mark".to_owned(),
    ] {
        let length = fixture.length(&file);
        let used = fixture.used(&file);
        let mut cut = 0;
        while cut < length {
            let what = format!("{file} cut to {cut} of {length} bytes");
            let trial = fixture.trial();
            trial.disk.truncate(&trial.path(&file), cut).unwrap();
            trial.check_reported(&fixture, &file, &what);
            let step = match cut {
                _ if every_byte => 1,
                _ if cut < used => 1 + cut % 397,
                _ => 4096,
            };
            cut += step;
        }
    }
}

#[test]
fn no_page_of_zeros_is_silent() {
    let fixture = Fixture::new();
    for (file, length) in fixture.files() {
        for page in 0..length.div_ceil(4096) {
            let trial = fixture.trial();
            trial
                .disk
                .zero(&trial.path(&file), page * 4096, 4096)
                .unwrap();
            if trial.bytes(&file) == fixture.bytes(&file) {
                continue;
            }
            let what = format!("{file}: page {page} zeroed");
            if file == "lock" {
                fixture.compare(&trial.read_all(), &what);
                continue;
            }
            trial.check_reported(&fixture, &file, &what);
        }
    }
}

/// Deletes, copies, swaps and renames each file, one after the other.
#[test]
fn no_lost_copied_swapped_or_renamed_file_is_silent() {
    let fixture = Fixture::new();
    let files: Vec<String> = fixture
        .files()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| *name != "lock" && !name.ends_with(".pre"))
        .collect();
    let kind = |name: &str| name.rsplit('.').next().unwrap_or("").to_owned();
    for file in &files {
        let trial = fixture.trial();
        trial.disk.delete(&trial.path(file)).unwrap();
        trial.check_reported(&fixture, file, &format!("{file} deleted"));

        let trial = fixture.trial();
        let renamed = format!("0000000009.{}", kind(file));
        trial
            .env
            .disk
            .rename(&trial.path(file), &trial.path(&renamed))
            .unwrap();
        trial.check_reported(&fixture, file, &format!("{file} renamed to {renamed}"));

        for other in files.iter().filter(|o| *o != file && kind(o) == kind(file)) {
            let trial = fixture.trial();
            trial
                .disk
                .duplicate(&trial.path(file), &trial.path(other))
                .unwrap();
            trial.check_reported(&fixture, other, &format!("{file} copied over {other}"));
            if file < other {
                let trial = fixture.trial();
                trial
                    .disk
                    .swap(&trial.path(file), &trial.path(other))
                    .unwrap();
                trial.check_reported(&fixture, file, &format!("{file} and {other} swapped"));
            }
        }
    }
}

#[test]
fn files_of_another_log_are_not_taken_for_its_own() {
    let (fixture, other) = (Fixture::new(), Fixture::of_seed(2));
    for (file, _) in fixture.files() {
        if file == "lock" || file.ends_with(".pre") {
            continue;
        }
        let trial = fixture.trial();
        trial
            .disk
            .plant(&trial.path(&file), &other.bytes(&file))
            .unwrap();
        trial.check_reported(&fixture, &file, &format!("{file} of another log"));
    }
}

#[test]
fn a_newer_format_is_refused_in_every_kind_of_file() {
    let fixture = Fixture::new();
    for file in [
        fixture.last_segment(),
        fixture.an_index(),
        "mark".to_owned(),
    ] {
        let trial = fixture.trial();
        trial.make_newer(&file);
        for refused in [
            trial.open().err(),
            trial.open_reader().err(),
            anabranch_log_segment::verify(trial.env.clone(), fixture::DIR, &mut |_| {}).err(),
        ] {
            match refused {
                Some(OpenError::NewerFormat {
                    file: named,
                    found,
                    known,
                }) => {
                    assert_eq!((named, found, known), (file.clone(), 3, 2));
                }
                other => panic!("{file} of a newer format: {other:?}"),
            }
        }
    }
}

#[test]
fn a_segment_whose_first_header_copy_is_gone_is_read_by_the_second() {
    let fixture = Fixture::new();
    for segment in fixture.segments() {
        for copy in [0, 4096] {
            let trial = fixture.trial();
            trial
                .disk
                .overwrite(&trial.path(&segment), copy, &[0xff; 4096])
                .unwrap();
            let read = trial.read_all();
            assert_eq!(read.missing, [], "{segment}");
            fixture.compare(&read, &segment);
            let report = trial.verify();
            let told: Vec<_> = report.damages.iter().map(|d| (d.offset, d.heals)).collect();
            assert_eq!(told, [(copy, true)], "{segment}");
            trial.check_writer(&[], &segment);
        }
    }
}

#[test]
fn a_frame_length_out_of_bounds_costs_one_batch_and_no_memory() {
    let fixture = Fixture::new();
    for frame in fixture.some_frames() {
        for length in [u32::MAX, 1 << 30, 50_000, 0] {
            let trial = fixture.trial();
            let at = frame.0.1 + 8;
            let path = trial.path(&frame.0.0);
            trial
                .disk
                .overwrite(&path, at, &length.to_le_bytes())
                .unwrap();
            let what = format!("{} byte {at}: length {length}", frame.0.0);
            let read = trial.read_all();
            assert_eq!(read.missing, std::slice::from_ref(&frame.1), "{what}");
            fixture.compare(&read, &what);
            assert_eq!(trial.verify().lost(), Trial::count(&read.missing), "{what}");
        }
    }
}

#[test]
fn an_unreadable_page_costs_the_batches_on_it_and_no_others() {
    let fixture = Fixture::new();
    for (file, length) in fixture.files() {
        if file == "lock" || file.ends_with(".pre") {
            continue;
        }
        for page in 0..length.div_ceil(4096) {
            let what = format!("{file}: page {page} cannot be read");
            let trial = fixture.trial();
            let range = page * 4096..(page + 1) * 4096;
            trial
                .disk
                .make_unreadable(&trial.path(&file), range.start, 4096)
                .unwrap();
            let read = trial.read_all();
            assert_eq!(read.missing, fixture.frames_on(&file, &range), "{what}");
            fixture.compare(&read, &what);
            let report = trial.verify();
            assert!(names(&report, &file), "{what}: nothing is said");
            assert_eq!(
                report.lost(),
                Trial::count(&read.missing),
                "{what}: {report:?}"
            );
        }
    }
}

/// The disk writes a frame where another one belongs: within its segment, and into another.
#[test]
fn a_frame_written_to_a_wrong_place_is_not_taken_for_another() {
    let fixture = Fixture::new();
    let frames = fixture.some_frames();
    let mut places = 0;
    for ((from, at), _) in &frames {
        for ((to, there), lost) in &frames {
            if (from, at) == (to, there) {
                continue;
            }
            let trial = fixture.trial();
            let len = fixture
                .length_at(from, *at)
                .min(fixture.length_at(to, *there));
            let bytes = trial.bytes(from)[*at as usize..(*at + len) as usize].to_vec();
            trial
                .disk
                .overwrite(&trial.path(to), *there, &bytes)
                .unwrap();
            let what = format!("{from} byte {at} written to {to} byte {there}");
            let read = trial.read_all();
            assert_eq!(read.missing, std::slice::from_ref(lost), "{what}");
            fixture.compare(&read, &what);
            assert_eq!(trial.verify().lost(), Trial::count(&read.missing), "{what}");
            places += 1;
        }
    }
    assert!(places > 100, "{places}");
}

#[test]
fn what_a_writer_does_meanwhile_is_no_damage() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let log = trial.open().unwrap();
    let mut n = 1_000;
    let report = anabranch_log_segment::verify(trial.env.clone(), fixture::DIR, &mut |_| {
        // Segments fill, are sealed and indexed while the check goes on.
        for _ in 0..100 {
            let append = anabranch_log::Append::events(fixture::batch(n));
            futures_executor::block_on(anabranch_log::Log::append(&log, append)).unwrap();
            n += 1;
        }
        trial
            .disk
            .clock()
            .advance(std::time::Duration::from_millis(60));
        log.prepare();
    })
    .unwrap();
    assert!(n > 1_400, "the writer was at work");
    assert!(report.beside_writer && report.is_clean(), "{report:?}");
    assert!(report.events >= fixture.events.len() as u64);
    drop(log);
    trial.disk.kill();
    assert!(trial.verify().is_clean());
}

#[test]
fn a_look_at_a_log_tells_what_it_holds_and_what_is_wrong() {
    let fixture = Fixture::new();
    let trial = fixture.trial();
    let info =
        |trial: &Trial| anabranch_log_segment::info(trial.env.clone(), fixture::DIR).unwrap();
    let whole = info(&trial);
    assert_eq!(whole.events, fixture.events.len() as u64);
    assert_eq!(
        (whole.clean, whole.written, whole.problems.len()),
        (true, false, 0)
    );
    let names: Vec<_> = whole.segments.iter().map(|s| s.file.clone()).collect();
    assert_eq!(names, fixture.segments());
    for segment in &whole.segments {
        assert_eq!(segment.first..segment.end, fixture.events_of(&segment.file));
        assert_eq!(segment.sealed, segment.file != fixture.last_segment());
    }
    trial.disk.delete(&trial.path("0000000002.seg")).unwrap();
    assert!(!info(&trial).problems.is_empty());
}
