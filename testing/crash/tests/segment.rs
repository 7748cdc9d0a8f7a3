//! A bounded dose of crashes of the embedded engine: fixed seeds, and a fresh one that is
//! printed. The full dose is `cargo run --release -p anabranch-crash`.

use anabranch_crash::{Campaign, Engine, Segment, Settings, Totals, run};
use anabranch_env::Env;
use anabranch_env::sim::Hit;

fn dose(seed: u64, states: u64) -> Totals {
    let campaign = Campaign {
        seed,
        states,
        runs_max: u64::MAX,
        threads: 2,
        settings: Settings::default(),
    };
    let engine = Segment::default();
    let totals = campaign.run(&engine);
    if let Some(failed) = &totals.failed {
        panic!(
            "the {} log, seed {}: {}",
            engine.name(),
            failed.seed,
            failed.violation
        );
    }
    assert!(
        totals.success_share() >= 0.5,
        "only {:.2} of the operations succeeded: the rest means nothing",
        totals.success_share()
    );
    totals
}

#[test]
fn no_acknowledged_event_is_lost_from_fixed_seeds() {
    let totals = dose(1, 1500);
    let hits = &totals.report.tally;
    for hit in [
        Hit::PowerCut,
        Hit::Kill,
        Hit::CallCut,
        Hit::SectorLost,
        Hit::SectorTorn,
        Hit::WriteTorn,
        Hit::GrownZero,
        Hit::StaleBytes,
        Hit::EntryLost,
        Hit::SyncError,
        Hit::LostPages,
        Hit::DirectError,
        Hit::NoSpace,
        Hit::ReadOnly,
        Hit::TooManyFiles,
        Hit::ShortWrite,
        Hit::Interrupted,
        Hit::Slow,
        Hit::BitFlip,
        Hit::Truncated,
        Hit::Deleted,
        Hit::Swapped,
    ] {
        assert!(hits.get(hit) > 0, "the dose never met: {}", hit.text());
    }
    assert!(totals.report.recoveries_cut > 0);
}

#[test]
fn no_acknowledged_event_is_lost_from_a_fresh_seed() {
    let seed = Env::os().rng.next_u64() >> 16;
    println!("seed {seed}");
    dose(seed, 500);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let settings = Settings {
        lives: 3,
        forks: 4,
        damages: 6,
        ..Settings::default()
    };
    let engine = Segment::default();
    for seed in 0..10 {
        let (one, _) = run(&engine, seed, settings);
        let (other, _) = run(&engine, seed, settings);
        assert_eq!(one, other, "seed {seed}");
        let (third, _) = run(&engine, seed + 1000, settings);
        assert_ne!(one.trace, third.trace, "seed {seed}");
    }
}
