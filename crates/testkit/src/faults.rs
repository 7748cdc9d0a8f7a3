use std::time::Duration;

use crate::message::Message;

/// Faults that happen at random, by the world's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// How many of 100 messages are lost.
    pub drop_percent: u8,
    /// How many of 100 messages arrive twice.
    pub duplicate_percent: u8,
    /// How much later than at once a message may arrive; messages overtake each other.
    pub delay_max: Duration,
    /// In how many of 100 simulated minutes each service crashes: before an append or after
    /// it, or, if it has none to make, while it rests. It depends on the time alone, so that a
    /// service with much to do crashes no more often than one with little.
    pub crash_percent_per_minute: u8,
    /// How long a service that has crashed at random stays down at most.
    pub down_max: Duration,
}

impl Faults {
    /// A kind world.
    pub const NONE: Self = Self {
        drop_percent: 0,
        duplicate_percent: 0,
        delay_max: Duration::ZERO,
        crash_percent_per_minute: 0,
        down_max: Duration::ZERO,
    };
}

/// Where a crash strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// It was decided, but nothing is durable.
    BeforeAppend,
    /// It is durable, but nothing was sent and nobody was answered.
    AfterAppend,
}

/// Names messages that are kept back; see [`World::hold`](crate::World::hold).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldId(pub(crate) usize);

pub(crate) struct CrashPlan {
    pub service: String,
    pub point: CrashPoint,
    /// The type of event at which it strikes; `None`: any.
    pub event: Option<String>,
}

type Matches = Box<dyn Fn(&Message) -> bool + Send>;

pub(crate) struct DropPlan {
    pub matches: Matches,
    pub left: u32,
}

/// Messages that are kept back.
pub(crate) struct Hold {
    pub matches: Matches,
    pub kept: Vec<tokio::sync::oneshot::Sender<()>>,
    pub is_open: bool,
}
