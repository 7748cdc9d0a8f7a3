//! Faults that are to come.

use std::time::Duration;

use anabranch_model::StreamId;

use super::message::Message;

/// Faults that happen at random, by the world's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How many of 100 messages are lost.
    pub drop_percent: u8,
    /// How many of 100 messages arrive twice.
    pub duplicate_percent: u8,
    /// How much later than at once a message may arrive; messages overtake each other.
    pub delay_max: Duration,
    /// How many of 100 pieces of work end in a crash of the replica that does them: before the
    /// append, after it, or after what follows was sent.
    pub crash_percent: u8,
    /// How long a replica that has crashed at random stays down at most.
    pub down_max: Duration,
}

impl Faults {
    /// A kind world.
    pub const NONE: Self = Self {
        drop_percent: 0,
        duplicate_percent: 0,
        delay_max: Duration::ZERO,
        crash_percent: 0,
        down_max: Duration::ZERO,
    };
}

/// Where a crash strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// It was decided, but nothing is durable.
    BeforeAppend,
    /// It is durable, but nothing was sent.
    AfterAppend,
    /// It is durable and was sent.
    AfterSend,
}

pub struct CrashPlan {
    pub service: String,
    pub point: CrashPoint,
    pub event: String,
}

pub type Matches = Box<dyn Fn(&Message) -> bool>;

pub struct DropPlan {
    pub matches: Matches,
    pub left: u32,
}

/// Messages that are kept back.
pub struct Hold {
    pub matches: Matches,
    pub kept: Vec<Message>,
    pub open: bool,
}

impl Hold {
    pub fn about(&self) -> impl Iterator<Item = &StreamId> {
        self.kept.iter().filter_map(Message::about)
    }
}

/// Names messages that are kept back; see [`World::hold`](super::World::hold).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldId(pub(super) usize);
