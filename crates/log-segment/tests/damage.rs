//! What time, cosmic rays and people do to a log's files: nothing of it is silent, and
//! what is not damaged can still be read.

#[path = "damage/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;

use anabranch_env::SplitMix64;
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
    let fixture = Fixture::new();
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
        let what = format!("seed {}, flip {n}: {region:?} {file} byte {offset} bit {bit}", seed());
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
    for file in [fixture.last_segment(), fixture.an_index(), "mark".to_owned()] {
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
                _ if cut < used => 1 + cut % 97,
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
            trial.disk.zero(&trial.path(&file), page * 4096, 4096).unwrap();
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
