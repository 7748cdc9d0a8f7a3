/// A bug planted in the engine, to test that the tests find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Appends are answered before their bytes are synced.
    AckBeforeSync,
    /// Readers see events before they are synced.
    PublishBeforeSync,
    /// Checksums of frames are not checked.
    SkipCrc,
    /// The directory is not synced when a segment is made.
    NoDirSync,
    /// A failed sync is tried again, and believed.
    RetryFsync,
    /// A failed write or sync is taken for done.
    IgnoreWriteError,
    /// A frame of another segment is accepted.
    AcceptRecycledFrame,
    /// A short write is not completed.
    IgnoreShortWrite,
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
    /// A new segment's header is not synced.
    NoHeaderSync,
    /// The mark is written ahead of what is durable.
    MarkAhead,
    /// Conditions look at durable events only.
    ConditionsIgnorePending,
}

impl Bug {
    /// The bugs that simulated crashes bring to light. [`Bug::AcceptRecycledFrame`] has a
    /// test of its own: positions alone keep such frames out of almost every log.
    pub const ALL: [Self; 16] = [
        Self::AckBeforeSync,
        Self::PublishBeforeSync,
        Self::SkipCrc,
        Self::NoDirSync,
        Self::RetryFsync,
        Self::IgnoreWriteError,
        Self::IgnoreShortWrite,
        Self::SkipTailRewrite,
        Self::CutDamagedMiddle,
        Self::ReuseTornTail,
        Self::SplitBatch,
        Self::ForgetIds,
        Self::NoRollback,
        Self::NoHeaderSync,
        Self::MarkAhead,
        Self::ConditionsIgnorePending,
    ];
}
