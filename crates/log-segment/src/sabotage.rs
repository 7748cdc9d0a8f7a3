//! The one seam for bugs planted to test the tests.
//!
//! The engine asks `bug(Bug::…)` at the steps below. In a build without the feature
//! `sabotage` a [`Planted`] holds nothing and every answer is no, so the compiler leaves
//! neither the question nor what hangs on it. Bugs of how the disk is used (a sync left
//! out, an error passed over) are not planted here: the crash checker puts a careless disk
//! under a sound engine.

/// A bug planted in the engine, to test that the tests find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "sabotage"),
    allow(dead_code, reason = "some are asked for in test builds only")
)]
pub enum Bug {
    /// Appends are answered before their bytes are synced.
    AckBeforeSync,
    /// Readers see events before they are synced.
    PublishBeforeSync,
    /// Checksums of frames are not checked.
    SkipCrc,
    /// A frame of another segment is accepted.
    AcceptRecycledFrame,
    /// After a crash, what may be only in the page cache is not written again.
    SkipTailRewrite,
    /// Damage below the durable mark is cut off like a torn tail.
    CutDamagedMiddle,
    /// After a crash, writing goes on over the remains of a torn tail.
    ReuseTornTail,
    /// A batch is written as one frame for each event.
    SplitBatch,
    /// Event ids are forgotten on restart.
    ForgetIds,
    /// A failed write leaves its events in memory.
    NoRollback,
    /// A failed write leaves its tags and types in the index in memory.
    RollbackKeepsTerms,
    /// The mark is written ahead of what is durable.
    MarkAhead,
    /// Conditions look at durable events only.
    ConditionsIgnorePending,
    /// A conflict with an event that may yet be taken back is answered at once.
    ConflictDoesNotWait,
    /// A repeated append is answered before the first one is durable.
    RepeatDoesNotWait,
    /// That a segment was begun does not prove what is before it to be durable.
    SegmentProvesNothing,
    /// Sealing a segment leaves the remembered heads of its streams as they were.
    SealKeepsOldHeads,
}

#[cfg(feature = "sabotage")]
impl Bug {
    /// The bugs that simulated crashes bring to light. [`Bug::AcceptRecycledFrame`] has a
    /// test of its own: positions alone keep such frames out of almost every log.
    pub const ALL: [Self; 16] = [
        Self::AckBeforeSync,
        Self::PublishBeforeSync,
        Self::SkipCrc,
        Self::SkipTailRewrite,
        Self::CutDamagedMiddle,
        Self::ReuseTornTail,
        Self::SplitBatch,
        Self::ForgetIds,
        Self::NoRollback,
        Self::RollbackKeepsTerms,
        Self::MarkAhead,
        Self::ConditionsIgnorePending,
        Self::ConflictDoesNotWait,
        Self::RepeatDoesNotWait,
        Self::SegmentProvesNothing,
        Self::SealKeepsOldHeads,
    ];
}

/// The bug planted in one log, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted(#[cfg(feature = "sabotage")] Option<Bug>);

impl Planted {
    pub const fn new(#[cfg(feature = "sabotage")] bug: Option<Bug>) -> Self {
        Self(
            #[cfg(feature = "sabotage")]
            bug,
        )
    }

    #[cfg(feature = "sabotage")]
    #[inline]
    pub fn is(self, bug: Bug) -> bool {
        self.0 == Some(bug)
    }

    #[cfg(not(feature = "sabotage"))]
    #[inline]
    #[expect(
        clippy::unused_self,
        reason = "a build without planted bugs knows the answer"
    )]
    pub const fn is(self, _bug: Bug) -> bool {
        false
    }
}
