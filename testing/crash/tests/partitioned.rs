//! A bounded dose of crashes of a log with several partitions, and of a hostile network before it.
//! The full dose is `cargo run --release -p anabranch-crash -- --partitions`, and `--hostile`.

use anabranch_crash::{Counts, Trouble, Wrong, run_partitioned};
use anabranch_log_segment::Bug;

fn dose(first: u64, runs: u64, trouble: Trouble) -> Counts {
    let mut counts = Counts::default();
    for seed in first..first + runs {
        let (done, outcome) = run_partitioned(seed, trouble, None);
        counts.add(&done);
        if let Err(violation) = outcome {
            panic!("{trouble:?}, seed {seed}: {violation}");
        }
    }
    assert!(counts.acknowledged * 2 > counts.appends, "{counts:?}");
    counts
}

/// What the first failing run with a planted bug broke.
fn caught(bug: Bug, trouble: Trouble) -> Wrong {
    let mut outcomes = (0..500).map(|seed| run_partitioned(seed, trouble, Some(bug)).1);
    match outcomes.find_map(Result::err) {
        Some(violation) => violation.wrong,
        None => panic!("{bug:?} was not caught"),
    }
}

#[test]
fn after_power_cuts_each_acknowledged_append_of_every_partition_is_there_behind_its_causes() {
    let counts = dose(1, 12, Trouble::Cuts);
    assert!(counts.states > 80, "{counts:?}");
    assert!(counts.refused > 0, "{counts:?}");
}

#[test]
fn over_a_hostile_network_each_acknowledged_append_is_there_once() {
    let counts = dose(1, 12, Trouble::Hostile);
    for count in [counts.lost, counts.late, counts.doubled, counts.repeated] {
        assert!(count > 10, "{counts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..2 {
        let run = || run_partitioned(seed, Trouble::Hostile, None);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn bugs_of_a_partition_are_caught() {
    assert_eq!(caught(Bug::AckBeforeSync, Trouble::Cuts), Wrong::Lost);
    caught(Bug::ForgetIds, Trouble::Hostile);
}
