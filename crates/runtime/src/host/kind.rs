//! All that the host knows of a user's types.

use anabranch_domain::{EventKind, StreamId};
use anabranch_model::EventRef;

use super::desk::{Desk, Made};
use super::item::Item;
use super::item::{Input, Out};
use super::status::Description;

/// What the host knows of a kind of machines beforehand.
pub struct About {
    /// The name, and the category of the streams.
    pub name: &'static str,
    /// The kinds of events that its streams hold.
    pub events: Vec<EventKind>,
    /// Names the shape of what [`Machine::freeze`] writes.
    pub fingerprint: u128,
    /// How far the host goes by itself.
    pub drive: Drive,
}

/// A kind of machines: how they begin, and how the host treats them.
pub trait Kind: Send + Sync + 'static {
    fn about(&self) -> About;

    /// The machine with an empty stream.
    fn empty(&self, stream: &StreamId) -> Box<dyn Machine>;

    /// The machine of a snapshot of the same shape; `None` if it cannot be read.
    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Box<dyn Machine>>;

    /// What a machine is told when a runtime takes it over.
    fn recovered(&self) -> Option<Input> {
        None
    }
}

/// One machine: its state, and how far its stream goes.
pub trait Machine: Send + 'static {
    /// How many events the state includes.
    fn length(&self) -> u64;

    /// What is to be done about an input. The machine moves along. After an error it may be half
    /// way: its memory is dropped.
    fn decide(&mut self, item: &Item, desk: &Desk<'_>) -> Result<Made, String>;

    /// Takes in an event of its stream; an error says why this program cannot understand it.
    fn replay(&mut self, event: &EventRef<'_>) -> Result<(), String>;

    /// Writes the machine, for a snapshot; false if it cannot be written.
    fn freeze(&self, out: &mut dyn std::io::Write) -> bool;

    /// The machine, for an operator; an error says why its state is no JSON.
    fn describe(&self) -> Result<Description, String>;

    /// Whether the host has to go on with it by itself.
    fn standing(&self) -> Standing;

    /// What was sent and is not answered, and every timer.
    fn outstanding(&self) -> Result<Vec<Out>, String> {
        Ok(Vec::new())
    }

    /// How many inputs it keeps for later, because it has not begun.
    fn held(&self) -> usize {
        0
    }

    /// Forgets what it remembers for a saga that has ended.
    fn forget(&mut self, saga: &StreamId) {
        let _ = saga;
    }

    /// The sagas for which it remembers something.
    fn remembers(&self) -> Vec<StreamId> {
        Vec::new()
    }
}

/// How far the host goes by itself with the machines of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// Nothing happens between two inputs, and whoever sends one is told when it cannot be
    /// done.
    Asked,
    /// It goes on until there is an answer: what it sends is sent until then. Inputs are kept
    /// until they are durable.
    Insists,
    /// It goes on, and decides itself when to send again. Inputs are kept until they are
    /// durable.
    Reports,
}

/// Whether the host has to go on with a machine by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Only when something is sent to it. It stays in memory while there is room.
    Resident,
    /// It has not ended.
    Open {
        /// Whether it waits for an answer or a timer: a runtime that takes over has something
        /// to do about it.
        waiting: bool,
    },
    /// There is nothing more to do: it takes no memory.
    Ended,
}
