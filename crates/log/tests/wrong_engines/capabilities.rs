use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::conformance::{Need, Outcome, cases, check_lacking, run};
use anabranch_log::{
    Append, Capabilities, Condition, EventStream, Log, MemoryLog, ReadError, ReadMode, Rejection,
    Scope,
};
use anabranch_model::{Cut, Filter};
use futures_executor::block_on;

use crate::wrong::{Answer, Bug, Gives, Place, Wrong, caught};

#[test]
fn claiming_to_lack_what_works_is_caught() {
    struct Modest;
    impl Bug for Modest {
        fn capabilities(&self, log: &MemoryLog) -> Capabilities {
            Capabilities {
                batches: Scope::Stream,
                conditions: Scope::Stream,
                no_match: None,
                backward_reads: false,
                ..log.capabilities()
            }
        }
    }
    caught(
        || Modest,
        &[
            "appending::a_batch_over_several_streams_is_written_whole",
            "conditions::conditions_on_several_streams_must_all_hold",
            "boundary::an_append_is_accepted_when_nothing_matches",
            "backward::backward_from_the_start_gives_nothing",
        ],
    );
}

#[test]
fn claiming_to_offer_what_is_refused_is_caught() {
    caught(
        Refuses::offering_all,
        &[
            "backward::backward_from_the_head_gives_everything_newest_first",
            "boundary::an_append_is_accepted_when_nothing_matches",
        ],
    );
}

/// Refuses conditions by query and backward reads, and may say so or not.
struct Refuses {
    says_so: bool,
}

impl Refuses {
    fn offering_all() -> Self {
        Self { says_so: false }
    }

    fn honest() -> Self {
        Self { says_so: true }
    }
}

impl Bug for Refuses {
    fn capabilities(&self, log: &MemoryLog) -> Capabilities {
        Capabilities {
            no_match: (!self.says_so).then_some(Scope::Log),
            backward_reads: !self.says_so,
            ..log.capabilities()
        }
    }

    fn append(&self, log: &MemoryLog, append: Append) -> Answer {
        let asks = |condition: &Condition| matches!(condition, Condition::NoMatch { .. });
        if append.conditions.iter().any(asks) {
            return Err(Rejection::Unsupported("check queries").into());
        }
        block_on(log.append(append))
    }

    fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        match mode {
            ReadMode::Backward => EventStream::failed(ReadError::Unsupported("read backward")),
            _ => log.read(from, filter, mode),
        }
    }
}

#[test]
fn an_honest_engine_without_a_capability_passes_and_is_reported() {
    let report = run(|| {
        Place(|| -> Arc<dyn Log> {
            Arc::new(Wrong {
                log: MemoryLog::new(Env::os()),
                bug: Refuses::honest(),
            })
        })
    });
    assert!(report.passed(), "{report}");
    assert_eq!(report.findings.len(), cases().len());
    let count = |need| {
        let lacking = Outcome::Lacking(need);
        let findings = report.findings.iter();
        findings.filter(|found| found.outcome == lacking).count()
    };
    let needing = |need| {
        cases()
            .iter()
            .filter(|case| case.needs.contains(&need))
            .count()
    };
    for need in [
        Need::NoMatchConditions,
        Need::SurvivesRestart,
        Need::ReadOnly,
    ] {
        assert!(count(need) > 0, "{report}");
        assert!(count(need) <= needing(need), "{report}");
    }
    let text = report.to_string();
    assert!(text.contains("not offered: backward reads"), "{text}");
    assert!(text.contains(" 0 broken"), "{text}");
}

#[test]
fn a_broken_case_is_reported_with_its_reason() {
    let report = run(|| {
        Place(|| -> Arc<dyn Log> {
            Arc::new(Wrong {
                log: MemoryLog::new(Env::os()),
                bug: Gives(|_| Vec::new()),
            })
        })
    });
    assert!(!report.passed());
    let text = report.to_string();
    assert!(text.contains("BROKEN: "), "{text}");
}

#[test]
#[should_panic(expected = "what its tests say that it lacks")]
fn lacking_more_than_is_said_is_caught() {
    let place = Place(|| -> Arc<dyn Log> { Arc::new(MemoryLog::new(Env::os())) });
    check_lacking(&[Need::ReadOnly], &place);
}
