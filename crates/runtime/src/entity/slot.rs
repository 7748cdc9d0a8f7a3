//! One entity in a shard's memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use anabranch_domain::{Asked, CommandId, Entity, EntityInstance, Rejection, Remembered, Role};
use anabranch_log::Expect;
use anabranch_model::{Cut, EventId, NewEvent, Position, StreamId, Version};
use tokio::sync::oneshot;

use super::Accepted;
use crate::send_error::SendError;

/// What became of a command.
pub type Outcome = Result<Accepted, SendError>;

/// A command on its way through a shard.
pub struct Ask<E: Entity> {
    pub stream: StreamId,
    pub command: E::Command,
    pub id: CommandId,
    pub role: Role,
    pub reply_to: Option<StreamId>,
    pub expect: Option<Expect>,
    pub causes: Cut,
    pub correlation_id: Option<String>,
    /// When it came, on the monotonic clock.
    pub arrived: Duration,
    /// When its time is up, on the monotonic clock.
    pub deadline: Duration,
    pub reply: oneshot::Sender<Outcome>,
    /// How often it was decided in vain, because others wrote.
    pub attempts: u32,
    /// Whether its events share no batch with others'.
    pub alone: bool,
}

/// An entity: what it is doing, and who waits for it.
pub struct Slot<E: Entity> {
    pub state: State<E>,
    /// Commands that are not decided yet, oldest first.
    pub waiting: VecDeque<Box<Ask<E>>>,
    /// How often in a row its code has panicked.
    pub strikes: u32,
    /// Whether it was used since the evictor last came by.
    pub used: bool,
}

pub enum State<E: Entity> {
    /// Not in memory.
    Idle,
    Loading,
    Live(Box<Live<E>>),
    Restarting {
        reason: String,
    },
    Parked {
        reason: String,
    },
}

/// An entity in memory.
pub struct Live<E: Entity> {
    /// Its state after every event that was decided, durable or not.
    pub entity: EntityInstance<E>,
    /// The last durable event.
    pub durable: Option<Durable>,
    /// Decided, not sent to the log yet.
    pub open: Batch<E>,
    /// Sent to the log. In a box of its own: of many entities nearly all are idle.
    pub flight: Option<Box<Batch<E>>>,
    /// Its code panicked: once nothing is in flight, it restarts.
    pub broken: Option<String>,
    /// The version of the newest snapshot, plus one; 0: none.
    pub snapshot_at: u64,
    /// How much memory it takes, about.
    pub bytes: usize,
    /// At how many events it is measured again.
    pub measure_at: u64,
}

/// An event that cannot be lost any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    pub version: Version,
    pub position: Position,
    pub id: EventId,
}

/// Decisions whose events are written together.
pub struct Batch<E: Entity> {
    pub events: Vec<NewEvent>,
    pub decided: Vec<Decided<E>>,
    pub bytes: usize,
    /// How often it was sent.
    pub sent: u32,
    /// The state after it, if a snapshot is due.
    pub snapshot: Option<Vec<u8>>,
}

/// A decision, not answered yet.
pub struct Decided<E: Entity> {
    pub ask: Box<Ask<E>>,
    pub verdict: Verdict,
}

pub enum Verdict {
    /// These of the batch's events, possibly none.
    Events(Range<usize>),
    Rejected(Rejection),
    /// This event of the batch, which says what became of the command, and that.
    Noted(usize, Result<(), Rejection>),
    /// What was answered before.
    Repeat(Remembered),
    OtherVersion(Option<Version>),
    Failed(SendError),
}

impl<E: Entity> Ask<E> {
    pub const fn asked(&self) -> Asked<'_> {
        Asked {
            id: self.id,
            role: &self.role,
            reply_to: self.reply_to.as_ref(),
        }
    }
}

impl Verdict {
    /// Which of the batch's events it is about.
    pub fn events(&self) -> Range<usize> {
        match self {
            Self::Events(range) => range.clone(),
            Self::Noted(index, _) => *index..*index + 1,
            _ => 0..0,
        }
    }
}

impl<E: Entity> Slot<E> {
    pub fn idle() -> Self {
        Self {
            state: State::Idle,
            waiting: VecDeque::new(),
            strikes: 0,
            used: true,
        }
    }
}

impl<E: Entity> Batch<E> {
    pub const fn new() -> Self {
        Self {
            events: Vec::new(),
            decided: Vec::new(),
            bytes: 0,
            sent: 0,
            snapshot: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.decided.is_empty()
    }

    pub fn is_alone(&self) -> bool {
        self.decided.first().is_some_and(|first| first.ask.alone)
    }
}

impl<E: Entity> Live<E> {
    pub fn is_idle(&self) -> bool {
        self.flight.is_none() && self.open.is_empty() && self.broken.is_none()
    }

    /// How many events the state includes.
    pub fn event_count(&self) -> u64 {
        self.entity.version().map_or(0, |version| version + 1)
    }
}
