//! Processes and sagas: instances that follow from their journals.
//!
//! An instance is a pure state machine of the domain. A shard decides about its inputs in
//! memory, appends what follows to the instance's journal, and sends only what is durable:
//! intent first. As with entities there is one append in flight for each instance, and its
//! condition is the length that the journal had: two runtimes never both win, the loser reads
//! the journal again.
//!
//! What is sent and not answered, and every timer, follows from the journal. A runtime that
//! starts goes through the journals that are open and sends again; receivers know what they
//! have seen by its id. Events are consumed from where all that was consumed before is durable;
//! what is consumed twice changes nothing.

mod dispatcher;
mod effects;
mod feed;
mod host;
mod load;
mod message;
mod process;
mod saga;
mod shard;
mod under_way;

use anabranch_domain::process::Planned;
use anabranch_domain::{
    CallEnvelope, CommandEnvelope, CommandError, Cut, Event, EventRef, Json, ReplyEnvelope, Role,
    StreamId, Timestamp,
};
use serde::Serialize;

pub(crate) use dispatcher::Dispatcher;
pub use dispatcher::{DeadLetter, Delivered, Letter, Router};
pub use effects::{CallError, Circuit, CircuitState};
pub(crate) use effects::{EffectHost, Effects};
pub use host::{AnyFlow, FlowOptions};
pub(crate) use host::{FlowHost, FlowParts};
pub(crate) use process::ProcessKind;
pub(crate) use saga::SagaKind;

/// A kind of instances: how their journals are read, and what they decide.
pub trait Kind: Send + Sync + 'static {
    /// One instance.
    type Machine: Send + 'static;
    /// What reaches it.
    type Input: Clone + Send + 'static;
    /// What its journal holds.
    type Event: Event;

    /// The name, and the category of the journals.
    fn name(&self) -> &'static str;

    /// How senders treat what the instances send.
    fn style(&self) -> Style;

    /// The categories that it listens to, and the types of events in them.
    fn listens_to(&self) -> (Vec<String>, Vec<String>);

    /// The instance with an empty journal.
    fn empty(&self, stream: StreamId) -> Self::Machine;

    /// What is to be done about an input. The machine moves along.
    fn decide(
        &self,
        machine: &mut Self::Machine,
        input: Self::Input,
        now: Timestamp,
    ) -> Result<Made<Self>, String>
    where
        Self: Sized;

    /// Takes in an event of the journal.
    fn evolve(&self, machine: &mut Self::Machine, event: &Self::Event) -> Result<(), String>;

    /// What was sent and is not answered, and every timer.
    fn outstanding(&self, machine: &Self::Machine) -> Result<Vec<Out<Self::Input>>, String>;

    /// What an instance is told when a runtime takes it over.
    fn recovered(&self) -> Option<Self::Input>;

    /// The instance that an event reaches, and as what.
    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Self::Input)>, String>;

    /// What a reply is to the instance that it answers.
    fn reply(&self, reply: ReplyEnvelope) -> Option<Self::Input>;

    /// What a command is to the instance that it is sent to.
    fn command(&self, command: &CommandEnvelope) -> Result<Self::Input, CommandError>;

    /// Whether a journal whose newest event is of this type has ended for good.
    fn is_last(&self, event_type: &str) -> bool;

    /// Whether an instance has not ended, or waits for an answer.
    fn is_open(&self, machine: &Self::Machine) -> bool;

    /// Whether it waits for an answer or a timer: a runtime that takes over has something to
    /// do about it.
    fn is_waiting(&self, machine: &Self::Machine) -> bool;

    /// How many events its journal has.
    fn length(&self, machine: &Self::Machine) -> u64;

    /// Names the shape of what [`Kind::freeze`] gives.
    fn fingerprint(&self) -> u128;

    /// The instance, for a snapshot; `None` if it cannot be written.
    fn freeze(&self, machine: &Self::Machine) -> Option<Vec<u8>>;

    /// The instance of a snapshot of the same shape; `None` if it cannot be read.
    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Self::Machine>;

    /// The instance, for an operator.
    fn describe(&self, machine: &Self::Machine) -> Description;
}

/// What an input has led to.
pub struct Made<K: Kind> {
    /// The events to append.
    pub events: Vec<K::Event>,
    /// What to send once they are durable.
    pub outs: Vec<Out<K::Input>>,
    /// The answer to who asked.
    pub answer: Result<(), anabranch_domain::Rejection>,
}

/// How senders treat what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The sender tries until there is a definite answer, or gives it to an operator.
    Insist,
    /// The instance itself decides when to try again.
    Report,
}

/// One thing to do once the events that say so are durable.
#[derive(Debug, Clone)]
pub enum Out<I> {
    /// Send a command.
    Command(CommandEnvelope),
    /// Call the world outside.
    Call(CallEnvelope, Role),
    /// Wake the instance.
    Timer(Timestamp, I),
    /// Answer who waits for the instance.
    Reply(ReplyEnvelope),
    /// The instance has ended: receivers may forget what they remember for it.
    Ended,
}

impl<I> Out<I> {
    /// What a process has planned; `timer` makes the input that a timer comes back as.
    fn planned(planned: Planned, timer: impl FnOnce(anabranch_domain::Timer) -> I) -> Option<Self> {
        match planned {
            Planned::Command(command) => Some(Self::Command(command)),
            Planned::Call(call) => Some(Self::Call(call, Role::Plain)),
            Planned::Timer(set) => Some(Self::Timer(set.at, timer(set))),
            // A timer that was taken back means nothing when it comes.
            Planned::Cancel { .. } | Planned::Complete => None,
        }
    }
}

/// An instance, for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// How far it is, in a word.
    pub phase: String,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether some of it stays as it is until a person acts.
    pub needs_person: bool,
    /// Whether some of it has had no answer for so many attempts that a person should know; it
    /// is tried further by itself.
    pub retrying: bool,
    /// How many events its journal has.
    pub length: u64,
    /// Its state.
    pub state: Json,
}

/// An instance and what it is doing in this runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// Its journal.
    pub stream: StreamId,
    /// Why it takes in nothing before an operator has looked at it, if that is so.
    pub parked: Option<String>,
    /// What it is; `None` when its journal cannot be read.
    #[serde(flatten)]
    pub description: Option<Description>,
}

/// On a log with one partition an event depends on what stands before it, and on nothing else.
fn closure_of(event: &EventRef<'_>) -> Cut {
    let mut closure = Cut::including(event.position);
    if let Ok(meta) = event.meta.decode() {
        closure.join(&meta.causes);
    }
    closure
}
