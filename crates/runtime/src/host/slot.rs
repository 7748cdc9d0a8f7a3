//! One machine in a shard's memory.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use anabranch_model::{Cut, EventId, Meta, NewEvent, Position, StreamId, Version};

use super::desk::Verdict;
use super::item::Item;
use super::kind::Machine;
use super::out::Out;
use crate::panics::contain;

/// A machine: what it is doing, and what waits for it.
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
    /// The most inputs that it may hold for later.
    pub held_max: usize,
}

pub enum State {
    /// Not in memory.
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
    /// What became of commands that record nothing. They are appended behind the events.
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
    /// Which of the batch's settled outcomes is its own.
    pub settled: Option<usize>,
    pub verdict: Verdict,
}

impl Slot {
    pub fn idle(held_max: usize) -> Self {
        Self {
            state: State::Idle,
            waiting: VecDeque::new(),
            strikes: 0,
            used: true,
            resume: false,
            receivers: BTreeSet::new(),
            from_round: 0,
            held_max,
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

    /// The batch that a decision joins.
    pub fn open(&mut self) -> &mut Batch {
        self.open.get_or_insert_default()
    }

    /// How many events wait to be sent, and how many bytes they are.
    pub fn decided(&self) -> (usize, usize) {
        let open = self.open.as_ref();
        open.map_or((0, 0), |open| (open.len(), open.bytes))
    }

    /// The machine, for a snapshot; `None` if it cannot be written.
    pub fn frozen(&self) -> Option<Vec<u8>> {
        let written = contain(|| {
            let mut state = Vec::new();
            self.machine.freeze(&mut state).then_some(state)
        });
        written.ok().flatten()
    }

    /// How many events stand in the stream for certain.
    pub fn durable_count(&self) -> u64 {
        self.durable.map_or(0, |durable| durable.version + 1)
    }
}
