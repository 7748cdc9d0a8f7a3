use std::time::Duration;

use anabranch_model::Limits;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After its bytes are on the disk. The default.
    Sync,
    /// After its bytes are with the operating system; the disk follows at this interval.
    /// A power cut may lose what was acknowledged since.
    Interval(Duration),
}

/// Who does the engine's work that no caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Threads of the engine's own.
    Threads,
    /// Nobody but the caller, by [`crate::SegmentLog::step`]: for simulation, where every
    /// step must be chosen by the seed.
    Manual,
}

/// How to write to the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMethod {
    /// Measure both at open and take the faster; `Direct` if there is little between them.
    Auto,
    /// Through the page cache, then `fdatasync`.
    Buffered,
    /// Past the page cache, each write durable when it returns.
    Direct,
}

/// How an embedded log behaves. Plain data; `Options::default()` is right for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When an append is acknowledged.
    pub durability: Durability,
    /// How to write to the active segment.
    pub write_method: WriteMethod,
    /// The size of a new segment file, in bytes. Existing segments keep theirs.
    pub segment_bytes: u64,
    /// The size of a log's first segment, in bytes; later ones grow with the log up to
    /// `segment_bytes`. `None`: 4 MiB.
    pub first_segment_bytes: Option<u64>,
    /// Segments kept written ahead, so that a roll does not wait.
    pub spare_segments: usize,
    /// How much memory the indexes may take, in bytes: stream heads and cached index pages.
    pub index_memory: usize,
    /// Bytes of appends that may wait for the disk before callers wait.
    pub queue_bytes_max: usize,
    /// How long an append may wait for the disk before it is answered.
    pub append_timeout: Duration,
    /// Free space kept so that seals and indexes can always be written, in bytes.
    pub reserve_bytes: u64,
    /// How large the parts of an append may be.
    pub limits: Limits,
    /// Who does the background work.
    pub background: Background,
    /// Whether the log is opened to copy the events of another one into it: then it may still be on
    /// its way here ([`crate::Moving`]), and its clock, which says when each was recorded, is taken
    /// as it is.
    pub for_copy: Option<ForCopy>,
    /// A planted bug, for testing the tests.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            write_method: WriteMethod::Auto,
            segment_bytes: 128 << 20,
            first_segment_bytes: None,
            spare_segments: 1,
            index_memory: 512 << 20,
            queue_bytes_max: 32 << 20,
            append_timeout: Duration::from_secs(30),
            reserve_bytes: 64 << 20,
            limits: Limits::default(),
            background: Background::Threads,
            for_copy: None,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

impl Options {
    /// The planted bug, if this build can have one.
    pub(crate) fn planted(&self) -> crate::sabotage::Planted {
        crate::sabotage::Planted::new(
            #[cfg(feature = "sabotage")]
            self.sabotage,
        )
    }
}

/// What is copied into a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForCopy {
    /// Events to the places that they have in a log of the same layout.
    SamePlaces,
    /// Events of a log of another layout, each behind all that it depends on.
    OtherPlaces,
}
