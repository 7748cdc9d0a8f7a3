//! Tests of the checker: a log that is plainly right must pass, and each way to make it
//! wrong must be caught. So must each bug planted in the embedded engine.

use anabranch_crash::reference::{Bug, Reference};
use anabranch_crash::{Campaign, Engine, Flaw, Segment, Settings, Wrong, directed, run};

fn campaign(states: u64) -> Campaign {
    Campaign {
        seed: 1,
        states,
        runs_max: u64::MAX,
        threads: 2,
        settings: Settings::default(),
    }
}

/// What the first failing run of an engine broke.
fn caught(engine: &dyn Engine, states: u64) -> Wrong {
    let totals = campaign(states).run(engine);
    match totals.failed {
        Some(failed) => failed.violation.wrong,
        None => panic!(
            "the {} log was not caught in {states} states",
            engine.name()
        ),
    }
}

#[test]
fn a_log_that_is_plainly_right_passes() {
    let totals = campaign(1500).run(&Reference::default());
    if let Some(failed) = totals.failed {
        panic!("seed {}: {}", failed.seed, failed.violation);
    }
    assert!(totals.success_share() >= 0.5);
}

#[test]
fn each_way_to_make_it_wrong_is_caught() {
    for &bug in Bug::ALL {
        caught(&Reference { bug: Some(bug) }, 5000);
    }
}

#[test]
fn what_is_wrong_is_called_by_its_name() {
    for (bug, wrong) in [
        (Bug::AcknowledgeBeforeSync, Wrong::Lost),
        (Bug::LoseTheLast, Wrong::Lost),
        (Bug::Invent, Wrong::Phantom),
        (Bug::ChangeData, Wrong::Changed),
        (Bug::DropMeta, Wrong::Changed),
        (Bug::SplitBatches, Wrong::Torn),
        (Bug::FollowerSkips, Wrong::Read),
        (Bug::AppendSleeps, Wrong::Stuck),
    ] {
        assert_eq!(
            caught(&Reference { bug: Some(bug) }, 5000),
            wrong,
            "{bug:?}"
        );
    }
}

#[test]
fn bugs_planted_in_the_embedded_engine_are_caught() {
    use anabranch_log_segment::Bug;
    // Those that show soon; `anabranch-crash --sabotage` catches all of them.
    for bug in [
        Bug::AckBeforeSync,
        Bug::PublishBeforeSync,
        Bug::SkipCrc,
        Bug::SplitBatch,
        Bug::ForgetIds,
        Bug::ConditionsIgnorePending,
    ] {
        caught(&Segment::with_bug(bug), 5000);
    }
    for flaw in [Flaw::NoDirSync, Flaw::IgnoreWriteError] {
        caught(&Segment::with_flaw(flaw), 5000);
    }
}

#[test]
fn the_embedded_engine_passes_the_cases_led_to_on_purpose() {
    if let Err(violation) = directed(&Segment::default()) {
        panic!("{violation}");
    }
}

#[test]
fn bugs_that_chance_hardly_finds_are_caught_in_cases_led_to_on_purpose() {
    use anabranch_log_segment::Bug;
    for (engine, wrong) in [
        (
            Segment::with_bug(Bug::ConflictDoesNotWait),
            Wrong::Condition,
        ),
        (Segment::with_bug(Bug::RollbackKeepsTerms), Wrong::Condition),
        (Segment::with_flaw(Flaw::NoDirSyncAtOpen), Wrong::Lost),
        (Segment::with_flaw(Flaw::NoPeriodicMark), Wrong::Lost),
        (Segment::with_flaw(Flaw::OneMarkSlot), Wrong::Lost),
        (
            Segment::with_flaw(Flaw::OldMarkNotSynced),
            Wrong::Unavailable,
        ),
    ] {
        let caught = directed(&engine).expect_err(&engine.name());
        assert_eq!(caught.wrong, wrong, "{}: {caught}", engine.name());
    }
}

/// The page lists the changes of a review with the bugs that are like them.
#[test]
fn bugs_that_reviews_planted_are_planted_here() {
    use anabranch_log_segment::Bug;
    let page = include_str!("../../../docs/faults.md");
    let rows = page.lines().filter(|line| line.starts_with("| m"));
    let named: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let bugs = Bug::ALL.map(|bug| format!("{bug:?}"));
    let flaws = Flaw::ALL.map(|flaw| format!("{flaw:?}"));
    let planted: Vec<&String> = bugs.iter().chain(&flaws).collect();
    let missing: Vec<&&str> = named
        .iter()
        .filter(|name| !planted.iter().any(|bug| bug == *name))
        .collect();
    assert_eq!(named.len(), 11, "{named:?}");
    assert!(missing.is_empty(), "not planted: {missing:?}");
}

#[test]
fn a_failure_comes_with_a_journal_and_happens_again_from_its_seed() {
    let engine = Reference {
        bug: Some(Bug::LoseTheLast),
    };
    let totals = campaign(1000).run(&engine);
    let failed = totals.failed.expect("this bug is caught");
    assert!(!failed.journal.is_empty());
    let (_, again) = run(&engine, failed.seed, Settings::default());
    assert_eq!(again, Err(failed.violation));
}
