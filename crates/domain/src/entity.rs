use std::cell::Cell;

use anabranch_model::{CommandId, StreamId, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::Command;
use crate::event::Event;
use crate::rejection::Rejection;
use crate::time::Timestamp;
use crate::upcasts::Upcasts;

/// An event-sourced aggregate: commands in, events out. The unit of consistency and of
/// failure.
///
/// Both functions are pure: no I/O, no clock, no randomness. Time and ids come from the
/// context. The same two functions run in tests, in production, in replay and in simulation.
/// The value itself is the state, made from nothing but its events.
pub trait Entity: Default + Serialize + DeserializeOwned + Send + 'static {
    /// The category of its streams, for example `order`; a key makes it `order/536365`.
    const CATEGORY: &'static str;

    /// The version of the *state's* shape. Raise it when the state's fields or `evolve` change:
    /// stored snapshots of other versions are dropped and made again from the events.
    const STATE_VERSION: u32 = 1;

    /// What may be asked of it.
    type Command: Command;

    /// What can happen to it.
    type Event: Event;

    /// How it says no. [`Rejection`] itself, or an enum that becomes one.
    type Rejection: Into<Rejection>;

    /// What happens when `command` is asked in this state: events, possibly none, or a
    /// business "no". The state does not change here.
    fn decide(
        &self,
        command: &Self::Command,
        cx: &Decide,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after `event`. Never fails: the event has happened.
    fn evolve(&mut self, event: &Self::Event);

    /// How to read commands that older versions of a program send; see
    /// [`CommandReader`](crate::CommandReader).
    fn command_upcasts() -> Upcasts {
        Upcasts::none()
    }
}

/// What a decision may know beside state and command. The same context gives the same
/// decision.
#[derive(Debug, Clone)]
pub struct Decide {
    stream: StreamId,
    version: Option<Version>,
    command: CommandId,
    sender: Option<StreamId>,
    now: Timestamp,
    ids: Cell<u32>,
}

impl Decide {
    /// The context of deciding `command` over `stream`, whose last event has `version` (`None`:
    /// it has no events), at the time `now`.
    pub const fn new(
        stream: StreamId,
        version: Option<Version>,
        command: CommandId,
        now: Timestamp,
    ) -> Self {
        Self {
            stream,
            version,
            command,
            sender: None,
            now,
            ids: Cell::new(0),
        }
    }

    /// The same context, for a command that a process or a saga has sent.
    #[must_use]
    pub fn sent_by(mut self, sender: Option<StreamId>) -> Self {
        self.sender = sender;
        self
    }

    /// The process or saga that asks; `None` when somebody else does.
    pub const fn sender(&self) -> Option<&StreamId> {
        self.sender.as_ref()
    }

    /// When the command is decided.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The entity's stream.
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The entity's key, for example `536365`.
    pub fn key(&self) -> &str {
        self.stream.key()
    }

    /// The version of the stream's last event; `None` when it has none.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// The id of the command, or of the input.
    pub const fn command_id(&self) -> CommandId {
        self.command
    }

    /// A new unique id for what the decision makes. Each call gives another one; deciding the
    /// same command again gives the same ones. Printed as a UUID.
    pub fn new_id(&self) -> CommandId {
        let n = self.ids.get();
        self.ids.set(n + 1);
        CommandId::derived(self.command.as_u128(), &[b"id", &n.to_be_bytes()])
    }
}
