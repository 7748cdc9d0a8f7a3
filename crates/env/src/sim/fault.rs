use std::ops::BitOr;
use std::time::Duration;

use crate::SplitMix64;

/// A set of kinds of disk calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls(u16);

impl Calls {
    /// Opening a file that exists.
    pub const OPEN: Self = Self(1);
    /// Making a file.
    pub const CREATE: Self = Self(1 << 1);
    /// Reading.
    pub const READ: Self = Self(1 << 2);
    /// Writing through the page cache.
    pub const WRITE: Self = Self(1 << 3);
    /// Writing past the page cache.
    pub const DIRECT: Self = Self(1 << 4);
    /// Syncing a file.
    pub const SYNC: Self = Self(1 << 5);
    /// Cutting or extending a file.
    pub const SET_LEN: Self = Self(1 << 6);
    /// Renaming a file.
    pub const RENAME: Self = Self(1 << 7);
    /// Removing a file.
    pub const REMOVE: Self = Self(1 << 8);
    /// Syncing a directory.
    pub const SYNC_DIR: Self = Self(1 << 9);
    /// Making a directory.
    pub const CREATE_DIR: Self = Self(1 << 10);
    /// Looking: at a directory, a length, the free space.
    pub const LOOK: Self = Self(1 << 11);
    /// Taking the lock.
    pub const LOCK: Self = Self(1 << 12);

    /// Every call that changes what a file or a directory holds.
    pub const CHANGE: Self = Self(
        Self::CREATE.0
            | Self::WRITE.0
            | Self::DIRECT.0
            | Self::SET_LEN.0
            | Self::RENAME.0
            | Self::REMOVE.0
            | Self::CREATE_DIR.0,
    );
    /// Every call that a power cut may strike: changes and syncs.
    pub const STRIKE: Self = Self(Self::CHANGE.0 | Self::SYNC.0 | Self::SYNC_DIR.0);
    /// Every call.
    pub const ANY: Self = Self(u16::MAX);

    /// Whether one of `other` is in the set.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn bits(self) -> u64 {
        self.0 as u64
    }
}

impl BitOr for Calls {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// EIO. A failed write may have happened in part; a failed sync may have synced in
    /// part, and what it did not sync stays dirty.
    Io,
    /// EIO on a sync, after which pages that did not reach the disk count as clean: reads
    /// show the new bytes, the disk has the old, and a later sync says yes without
    /// writing them. Linux does this.
    LostPages,
    /// ENOSPC; nothing was done.
    NoSpace,
    /// EROFS; nothing was done.
    ReadOnly,
    /// EMFILE; nothing was done.
    TooManyFiles,
    /// EINTR; nothing was done.
    Interrupted,
    /// A read or write of fewer bytes than asked.
    Short,
    /// The call works after this time.
    Slow(Duration),
    /// A sync that says yes and makes nothing durable.
    Lying,
    /// Bytes go to a wrong place in the file: of a direct write at once, of a sync those
    /// of one run of pages. The call says yes.
    Misdirected,
}

/// Which of the calls that a fault fits it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The n-th, from 1, and no other.
    Nth(u64),
    /// The n-th, from 1, and all after it.
    From(u64),
    /// One in so many, by the disk's seed.
    OneIn(u64),
}

/// A fault by plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The calls it fits.
    pub calls: Calls,
    /// It fits files whose name contains this; all when empty.
    pub file: String,
    /// Which of those calls it befalls.
    pub when: When,
    /// What goes wrong.
    pub kind: FaultKind,
}

impl Fault {
    /// A fault of every such call, on any file.
    pub fn every(calls: Calls, kind: FaultKind) -> Self {
        Self {
            calls,
            file: String::new(),
            when: When::From(1),
            kind,
        }
    }

    /// A fault of the n-th such call, from 1, on any file.
    pub fn nth(n: u64, calls: Calls, kind: FaultKind) -> Self {
        Self {
            when: When::Nth(n),
            ..Self::every(calls, kind)
        }
    }

    /// A fault of one in `n` such calls, by the disk's seed.
    pub fn one_in(n: u64, calls: Calls, kind: FaultKind) -> Self {
        Self {
            when: When::OneIn(n),
            ..Self::every(calls, kind)
        }
    }

    /// The same fault, on files whose name contains `part` only.
    #[must_use]
    pub fn on(mut self, part: impl Into<String>) -> Self {
        self.file = part.into();
        self
    }
}

/// The faults that are still to come.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    faults: Vec<(Fault, u64)>,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// What befalls this call, in the order the faults were added.
    pub(super) fn strike(
        &mut self,
        call: Calls,
        file: &str,
        rng: &mut SplitMix64,
        mut befall: impl FnMut(FaultKind),
    ) {
        for (fault, seen) in &mut self.faults {
            if !fault.calls.meets(call) || !file.contains(fault.file.as_str()) {
                continue;
            }
            *seen += 1;
            let due = match fault.when {
                When::Nth(n) => *seen == n,
                When::From(n) => *seen >= n,
                When::OneIn(n) => rng.one_in(n),
            };
            if due {
                befall(fault.kind);
            }
        }
    }
}
