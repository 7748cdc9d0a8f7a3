//! What runs inside a service of a [`World`](super::World): one host for each entity type,
//! view, process, saga and effect. Hosts hold volatile memory only; the log is the truth.

mod effect;
mod entity;
mod process;
mod saga;
mod view;

use std::any::Any;

use anabranch_model::{CommandId, Cut, Event as StoredEvent, StreamId};

use super::log::{WorldLog, Write};
use super::message::Message;
use crate::command::Outcome;
use crate::process::Timer;
use crate::saga::{Rules, SagaTimer};
use crate::time::Timestamp;

pub use effect::{EffectHost, Provider};
pub use entity::EntityHost;
pub use process::ProcessHost;
pub use saga::SagaHost;
pub use view::ViewHost;

/// What a host may look at while it works.
pub struct Scene<'a> {
    pub log: &'a WorldLog,
    pub now: Timestamp,
    pub rules: Rules,
}

/// What a host wants done: an append, and what to send when it is durable.
pub struct Work {
    pub write: Option<Write>,
    /// What to send, given the closure of the write.
    pub then: Then,
}

type Then = Box<dyn FnOnce(&Cut) -> Vec<Send>>;

/// Something to do once the write is durable.
#[derive(Debug, Clone)]
pub enum Send {
    Message(Message),
    /// A timer for the instance with this stream.
    Timer(StreamId, HostTimer, Timestamp),
    /// The answer to a command of the test itself.
    Answer(CommandId, Outcome, Cut),
    /// A saga has ended; its receivers may forget it.
    Ended(StreamId),
}

#[derive(Debug, Clone)]
pub enum HostTimer {
    Saga(SagaTimer),
    Process(Timer),
    /// Send again what is not answered.
    Again,
}

impl Work {
    pub fn nothing() -> Self {
        Self::send(Vec::new())
    }

    /// Only sends.
    pub fn send(sends: Vec<Send>) -> Self {
        Self {
            write: None,
            then: Box::new(|_| sends),
        }
    }

    /// Writes, then sends what follows from the closure of the write.
    pub fn write(write: Write, then: impl FnOnce(&Cut) -> Vec<Send> + 'static) -> Self {
        Self {
            write: Some(write),
            then: Box::new(then),
        }
    }
}

/// One host. Errors are faults of the code under test and end it.
pub trait Host {
    /// What it hosts, for traces, for example `entity order`.
    fn name(&self) -> String;

    /// Whether the message is for it.
    fn takes(&self, message: &Message) -> bool;

    fn take(&mut self, message: &Message, scene: &Scene<'_>) -> Result<Work, String>;

    /// Whether it listens to events at all.
    fn listens(&self) -> bool {
        false
    }

    /// Whether the event may be taken in now. One that depends on events that have not been
    /// taken in waits, and so do those behind it in its partition.
    fn ready(&self, _: &StoredEvent, _: &Cut, _: Rules) -> bool {
        true
    }

    fn consume(&mut self, _: &StoredEvent, _: &Scene<'_>) -> Result<Work, String> {
        Ok(Work::nothing())
    }

    fn fire(&mut self, _: &StreamId, _: HostTimer, _: &Scene<'_>) -> Result<Work, String> {
        Ok(Work::nothing())
    }

    /// After a restart, or when another node has gone: what to take up again.
    fn recover(&mut self, _: &Scene<'_>) -> Result<Vec<Work>, String> {
        Ok(Vec::new())
    }

    /// Forgets what it holds of a stream, because the log has moved on without it.
    fn evict(&mut self, stream: &StreamId);

    /// For looking at views.
    fn as_any(&self) -> &dyn Any;
}
