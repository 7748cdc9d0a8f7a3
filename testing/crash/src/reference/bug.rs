/// What can be made wrong about the reference log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Answers before the sync.
    AcknowledgeBeforeSync,
    /// Shows events to readers before the sync.
    PublishBeforeSync,
    /// Ignores the error of a sync and answers.
    IgnoreSyncError,
    /// Calls sync again when it failed, and believes the second answer.
    RetrySync,
    /// Does not sync the directory after the rename.
    NoDirectorySync,
    /// Renames the rewritten file before it is synced.
    RenameBeforeSync,
    /// Believes frames without looking at their hash.
    SkipHash,
    /// Writes each event as a frame of its own.
    SplitBatches,
    /// Forgets the last batch when it opens.
    LoseTheLast,
    /// Exchanges the last two batches when it opens.
    Reorder,
    /// Adds an event when it opens.
    Invent,
    /// Flips a bit of the last event's data when it opens.
    ChangeData,
    /// Drops headers and tags when it opens.
    DropMeta,
    /// Does not know after opening which ids were written.
    ForgetIds,
    /// Takes no notice of conditions.
    IgnoreConditions,
    /// Says "conflict" and writes all the same.
    WriteTheRefused,
    /// Says "unavailable" when it does not know.
    ClaimNothingWritten,
    /// A follower passes over an event now and then.
    FollowerSkips,
    /// A follower that waits is not woken.
    FollowerSleeps,
    /// Who waits for an answer is not woken.
    AppendSleeps,
    /// Backward reads leave out the first event.
    BackwardStopsEarly,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::AcknowledgeBeforeSync,
        Self::PublishBeforeSync,
        Self::IgnoreSyncError,
        Self::RetrySync,
        Self::NoDirectorySync,
        Self::RenameBeforeSync,
        Self::SkipHash,
        Self::SplitBatches,
        Self::LoseTheLast,
        Self::Reorder,
        Self::Invent,
        Self::ChangeData,
        Self::DropMeta,
        Self::ForgetIds,
        Self::IgnoreConditions,
        Self::WriteTheRefused,
        Self::ClaimNothingWritten,
        Self::FollowerSkips,
        Self::FollowerSleeps,
        Self::AppendSleeps,
        Self::BackwardStopsEarly,
    ];
}
