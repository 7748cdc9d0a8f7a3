use std::fmt;

use anabranch_model::{Cut, Filter, Query};

use super::make::stream;
use super::stage::Stage;
use crate::{Append, AppendError, Capabilities, Expect, ReadError, ReadMode, Rejection};

/// What a case needs beyond what every engine must offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Atomic batches over any streams.
    AtomicBatches,
    /// Conditions on streams that the batch does not write.
    MultiStreamConditions,
    /// [`Condition::NoMatch`](crate::Condition::NoMatch).
    NoMatchConditions,
    /// One order of all events.
    TotalOrder,
    /// [`ReadMode::Backward`].
    BackwardReads,
    /// Events outlive the process.
    SurvivesRestart,
    /// The subject opens the log for reading only beside a writer.
    ReadOnly,
}

impl Need {
    /// Every need there is.
    pub const ALL: [Self; 7] = [
        Self::AtomicBatches,
        Self::MultiStreamConditions,
        Self::NoMatchConditions,
        Self::TotalOrder,
        Self::BackwardReads,
        Self::SurvivesRestart,
        Self::ReadOnly,
    ];

    /// What it is, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::AtomicBatches => "atomic batches over any streams",
            Self::MultiStreamConditions => "conditions on streams that are not written",
            Self::NoMatchConditions => "conditions on what matches a query",
            Self::TotalOrder => "one order of all events",
            Self::BackwardReads => "backward reads",
            Self::SurvivesRestart => "surviving a restart",
            Self::ReadOnly => "opening for reading only",
        }
    }

    pub(super) fn is_met(self, stage: &Stage<'_>) -> bool {
        let can: Capabilities = stage.capabilities();
        match self {
            Self::AtomicBatches => can.batches.is_whole(can.partitions),
            Self::MultiStreamConditions => can.conditions.is_whole(can.partitions),
            Self::NoMatchConditions => can.no_match.is_some_and(|s| s.is_whole(can.partitions)),
            Self::TotalOrder => can.total_order,
            Self::BackwardReads => can.backward_reads,
            Self::SurvivesRestart => can.survives_restart,
            Self::ReadOnly => stage.open_read_only().is_some(),
        }
    }

    /// Checks that an engine without it refuses what asks for it, where something can ask.
    pub(super) fn check_refusal(self, stage: &Stage<'_>) {
        stage.put(stage.event("refusal/0"));
        match self {
            Self::AtomicBatches => {
                // So many that they cannot all be in one partition of several.
                let events: Vec<_> = (0..64)
                    .map(|n| stage.event(&format!("refusal/{n}")))
                    .collect();
                must_be_unsupported(stage, Append::events(events), self);
            }
            Self::MultiStreamConditions => {
                // So many that they cannot all be in one partition of several.
                let mut append = Append::event(stage.event("refusal/1"));
                for n in 2..64 {
                    append = append.expect(stream(&format!("refusal/{n}")), Expect::Empty);
                }
                must_be_unsupported(stage, append, self);
            }
            Self::NoMatchConditions => {
                let append = Append::event(stage.event("refusal/1"));
                let append = append.unless(Query::tags(["a:b"]), stage.head());
                must_be_unsupported(stage, append, self);
            }
            Self::BackwardReads => {
                let read = stage.try_read(&stage.head(), Filter::all(), ReadMode::Backward);
                assert!(
                    matches!(read, Err(ReadError::Unsupported(_))),
                    "the engine says that it lacks {self} and must refuse it as \
                     ReadError::Unsupported; it gave {read:?}"
                );
            }
            // These name what the engine is; there is no call that asks for them.
            Self::TotalOrder | Self::SurvivesRestart | Self::ReadOnly => {
                assert_ne!(stage.head(), Cut::start(), "the engine must write at all");
            }
        }
    }
}

fn must_be_unsupported(stage: &Stage<'_>, append: Append, need: Need) {
    let answer = stage.append(append);
    assert!(
        matches!(
            answer,
            Err(AppendError::Rejected(
                Rejection::Unsupported(_) | Rejection::Apart { .. }
            ))
        ),
        "the engine says that it lacks {need} and must refuse it as Rejection::Unsupported; \
         it answered {answer:?}"
    );
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
