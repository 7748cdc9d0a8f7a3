//! One machine in a shard's memory.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use anabranch_model::{Cut, EventId, EventRef, Meta, NewEvent, Position, StreamId, Version};

use super::desk::Verdict;
use super::item::{Item, Out};
use super::kind::Machine;
use super::status::Description;
use crate::panics::contain;

/// A machine: what it is doing, and what waits for it.
#[derive(Default)]
pub struct Slot {
    pub state: State,
    /// Inputs that are not decided yet, oldest first.
    pub waiting: VecDeque<Box<Item>>,
    /// How often in a row its code has failed.
    pub strikes: u32,
    /// Whether it was used since the evictor last came by.
    pub used: bool,
    /// Loaded, it sends again what is not answered.
    pub resume: bool,
    /// Whom it has sent commands to.
    pub receivers: BTreeSet<StreamId>,
    /// Events that were handed out in an earlier round of the feed come too early: it has
    /// missed others before them.
    pub from_round: u64,
    /// How many inputs more than [`HELD_MAX`] it may hold for later: it was un-parked.
    pub held_more: usize,
}

/// The most inputs that a machine may hold for later, because it has not begun; then it is parked.
pub const HELD_MAX: usize = 1000;

#[derive(Default)]
pub enum State {
    /// Not in memory.
    #[default]
    Idle,
    /// Being read, or in the queue for that.
    Loading,
    Live(Box<Live>),
    /// It is tried again after a while.
    Resting(Box<str>),
    /// It takes nothing before an operator un-parks it.
    Parked(Box<str>),
}

// A hundred thousand idle entities have one of each.
const _: () = assert!(size_of::<Slot>() <= 104 && size_of::<Live>() <= 160);

/// A machine in memory.
pub struct Live {
    /// Its state after every event that was decided, durable or not.
    pub machine: Box<dyn Machine>,
    /// The last durable event.
    pub durable: Option<Durable>,
    /// Decided, not sent to the log yet. In a box of its own: of many machines nearly all are
    /// idle.
    pub open: Option<Box<Batch>>,
    /// Sent to the log.
    pub flight: Option<Box<Batch>>,
    /// Its code has failed: once nothing is in flight, it rests.
    pub broken: Option<String>,
    /// The version of the newest snapshot, plus one; 0: none.
    pub snapshot_at: u64,
    /// How much memory it takes, about.
    pub bytes: usize,
    /// At how many events it is measured again.
    pub measure_at: u64,
    /// What all events of a journal say beside their data.
    pub meta: Option<Arc<Meta>>,
    /// What its decisions depend on beyond its own stream. Empty while the log has one
    /// partition, whose order says it all.
    pub causes: Cut,
}

/// An event that cannot be lost any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    pub version: Version,
    pub position: Position,
    pub id: EventId,
}

/// What a shard knows of a machine that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// How many events its stream has, as far as the shard knows.
    pub length: u64,
    /// Whether a restart has to go on with it.
    pub waiting: bool,
}

/// Batches of some machines on their way to the log, in one append.
pub struct Flight {
    pub streams: Vec<StreamId>,
    /// How often it was sent.
    pub times: u32,
}

/// Decisions whose events are written together.
#[derive(Default)]
pub struct Batch {
    pub events: Vec<NewEvent>,
    /// What became of commands that record nothing, and what is published: appended behind the events.
    pub settled: Vec<NewEvent>,
    pub decided: Vec<Decided>,
    /// What to send once the events are durable, and whether an earlier runtime may have.
    pub outs: Vec<(Out, bool)>,
    pub bytes: usize,
    /// The state after it, if a snapshot is due.
    pub snapshot: Option<Vec<u8>>,
}

/// A decision, not answered yet.
pub struct Decided {
    pub item: Box<Item>,
    /// Which of the batch's events it has led to.
    pub events: Range<usize>,
    /// Which of what is appended behind the events is its own.
    pub behind: Range<usize>,
    pub verdict: Verdict,
}

impl Durable {
    pub fn of(event: &EventRef<'_>) -> Self {
        Self {
            version: event.version,
            position: event.position,
            id: event.id,
        }
    }
}

impl Slot {
    /// Whether nothing happens to it before somebody sends it something.
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Idle => true,
            State::Live(live) => live.is_idle(),
            State::Loading | State::Resting(_) | State::Parked(_) => false,
        }
    }

    pub fn peek(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }

    pub fn live(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }
}

impl Flight {
    /// The batch of one machine.
    pub fn of(stream: StreamId) -> Self {
        Self {
            streams: vec![stream],
            times: 1,
        }
    }
}

impl Batch {
    pub const fn appends_nothing(&self) -> bool {
        self.events.is_empty() && self.settled.is_empty()
    }

    /// How many events it appends, all told.
    pub const fn len(&self) -> usize {
        self.events.len() + self.settled.len()
    }

    /// The event at this place of what it appends.
    pub fn event(&self, index: usize) -> Option<&NewEvent> {
        self.events.iter().chain(&self.settled).nth(index)
    }

    pub fn has(&self, id: EventId) -> bool {
        let mut events = self.events.iter().chain(&self.settled);
        events.any(|event| event.id == id)
    }

    pub fn is_alone(&self) -> bool {
        self.decided.first().is_some_and(|first| first.item.alone)
    }
}

impl Live {
    pub fn new(machine: Box<dyn Machine>) -> Self {
        Self {
            machine,
            durable: None,
            open: None,
            flight: None,
            broken: None,
            snapshot_at: 0,
            bytes: 0,
            measure_at: 0,
            meta: None,
            causes: Cut::start(),
        }
    }

    pub const fn is_idle(&self) -> bool {
        self.flight.is_none() && self.open.is_none() && self.broken.is_none()
    }

    /// Whether an input may be decided now and share the open batch.
    pub fn takes(&self, next: &Item) -> bool {
        let mut batches = self.flight.iter().chain(&self.open);
        let undisturbed = self.flight.is_none() && self.open.is_none();
        !batches.any(|batch| batch.is_alone()) && (!next.alone || undisturbed)
    }

    /// Takes what was in flight, if anything was.
    pub fn landed(&mut self) -> Option<(&mut Self, Box<Batch>)> {
        let batch = self.flight.take()?;
        Some((self, batch))
    }

    /// The machine, for a snapshot; `None` if it cannot be written.
    pub fn frozen(&self) -> Option<Vec<u8>> {
        let written = contain(|| {
            let mut state = Vec::new();
            self.machine.freeze(&mut state).then_some(state)
        });
        written.ok().flatten()
    }

    /// The machine, for an operator; an error says why it cannot be told.
    pub fn described(&self) -> Result<Description, String> {
        let described = contain(|| self.machine.describe());
        described.unwrap_or_else(|panic| Err(format!("its code panicked: {panic}")))
    }

    /// What a shard knows of it.
    pub fn known(&self, waiting: bool) -> Known {
        Known {
            length: self.durable_count(),
            waiting,
        }
    }

    /// How many events stand in the stream for certain.
    pub fn durable_count(&self) -> u64 {
        self.durable.map_or(0, |durable| durable.version + 1)
    }
}
