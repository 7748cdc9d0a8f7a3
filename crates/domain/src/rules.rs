//! The rules that keep a saga right, each of which a test can take away.

/// A rule of the saga protocol. The suite has, for each, a test that fails without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// R1: the intent is durable before the request leaves.
    IntentFirst,
    /// R2: a request is sent again with the same key.
    SameKey,
    /// R2: a request that may be sent only once is not sent again after a crash.
    AtMostOnce,
    /// R3: whatever may have been received is undone, not only what was acknowledged.
    UndoUnknown,
    /// R4: a step is undone after the steps that depend on it.
    UndoInOrder,
    /// R5: a compensation is never given up.
    UndoUntilAcknowledged,
    /// R5: a compensation that is refused parks the saga.
    ParkRefusedUndo,
    /// R6: a compensation that overtakes its request leaves a tombstone.
    Tombstone,
    /// R7: every journal append carries the expected version.
    Fencing,
    /// R8: of answer and time-out, the first in the journal counts.
    FirstInJournalWins,
    /// R9: from the pivot's start on a saga only goes forward.
    NoAbortAfterPivot,
    /// R10: timers survive a restart.
    DurableTimers,
    /// R11: running instances stay on their definition.
    StayOnDefinition,
    /// R12: a step that is a saga and has completed is undone by another saga.
    UndoCompletedChild,
    /// R13: receivers remember until the saga has ended.
    RememberUntilEnd,
    /// R14: what has ended stays as it is.
    TerminalIsFinal,
    /// D.4: a process takes each event in once.
    ProcessDedup,
    /// B.3: a view shows an event only with everything that it depends on.
    CausalViews,
}

/// Which rules hold: all of them, outside of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    #[cfg(any(test, feature = "ablation"))]
    removed: Option<Rule>,
}

impl Rules {
    /// Every rule holds.
    pub const ALL: Self = Self {
        #[cfg(any(test, feature = "ablation"))]
        removed: None,
    };

    /// Every rule but one, to see that a test notices.
    #[cfg(any(test, feature = "ablation"))]
    pub const fn without(rule: Rule) -> Self {
        Self {
            removed: Some(rule),
        }
    }

    /// Whether a rule holds.
    #[cfg(any(test, feature = "ablation"))]
    pub fn keep(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    /// Whether a rule holds.
    #[cfg(not(any(test, feature = "ablation")))]
    pub const fn keep(self, _: Rule) -> bool {
        true
    }
}
