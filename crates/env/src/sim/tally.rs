use std::fmt;

macro_rules! hits {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Something that befell a simulated disk.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Hit {
            $($(#[$doc])* $name,)+
        }

        impl Hit {
            /// All of them, in the order they are listed to people.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it is, in words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

hits! {
    /// All unsynced writes were put at risk.
    PowerCut = "power cut",
    /// The process ended; the page cache lived on.
    Kill = "process killed",
    /// The end came during a call.
    CallCut = "cut during a call",
    /// An unsynced sector reached the disk.
    SectorKept = "unsynced sector kept",
    /// An unsynced sector did not.
    SectorLost = "unsynced sector lost",
    /// A sector holds part new and part old bytes.
    SectorTorn = "sector torn",
    /// Of neighbouring unsynced sectors some were kept and some lost.
    WriteTorn = "write torn",
    /// A file kept its new length, with zeros where its data was lost.
    GrownZero = "size grown, data zero",
    /// A file lost its new length.
    GrowthLost = "size growth lost",
    /// A sector of a grown file shows what an older file had there.
    StaleBytes = "stale bytes",
    /// A file made, renamed or removed: not after all.
    EntryLost = "directory entry lost",
    /// A rename was kept, data of the renamed file was not.
    RenameBeforeData = "rename before its data",
    /// A read failed with EIO.
    ReadError = "EIO on read",
    /// A write failed with EIO.
    WriteError = "EIO on write",
    /// A direct write failed with EIO.
    DirectError = "EIO on direct write",
    /// A sync failed with EIO; the pages stayed dirty.
    SyncError = "EIO on sync",
    /// A sync failed with EIO; the pages count as clean but never reached the disk.
    LostPages = "EIO on sync, pages dropped",
    /// Another call failed with EIO.
    OtherError = "EIO on another call",
    /// ENOSPC by plan.
    NoSpace = "ENOSPC",
    /// ENOSPC because the capacity was reached.
    Full = "disk full",
    /// EROFS.
    ReadOnly = "EROFS",
    /// EMFILE.
    TooManyFiles = "EMFILE",
    /// A read gave fewer bytes than there were.
    ShortRead = "short read",
    /// A write took fewer bytes than given.
    ShortWrite = "short write",
    /// EINTR.
    Interrupted = "EINTR",
    /// A call took long.
    Slow = "slow call",
    /// A sync said yes and did nothing.
    LyingSync = "lying sync",
    /// Right bytes in a wrong place.
    Misdirected = "misdirected write",
    /// A sector that cannot be read was asked for.
    BadSector = "bad sector",
    /// A bit was flipped.
    BitFlip = "bit flipped",
    /// Bytes were set to zero.
    Zeroed = "bytes zeroed",
    /// Bytes were overwritten.
    Overwritten = "bytes overwritten",
    /// A file was cut.
    Truncated = "file truncated",
    /// A file was deleted.
    Deleted = "file deleted",
    /// A file was copied over another name.
    Duplicated = "file duplicated",
    /// Two files changed places.
    Swapped = "files swapped",
}

/// How often each thing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally([u64; Hit::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Hit::ALL.len()])
    }
}

impl Tally {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often this happened.
    pub fn get(&self, hit: Hit) -> u64 {
        self.0[hit as usize]
    }

    /// Adds what another disk saw.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Everything that happened at least once.
    pub fn iter(&self) -> impl Iterator<Item = (Hit, u64)> + '_ {
        Hit::ALL
            .iter()
            .map(|&hit| (hit, self.get(hit)))
            .filter(|&(_, count)| count > 0)
    }

    pub(super) fn hit(&mut self, hit: Hit) {
        self.count(hit, 1);
    }

    pub(super) fn count(&mut self, hit: Hit, count: u64) {
        self.0[hit as usize] += count;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (hit, count)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {count}", hit.text())?;
        }
        Ok(())
    }
}
