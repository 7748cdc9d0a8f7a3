//! Processes: durable state machines that react to events.

mod instance;
mod journal;

use anabranch_model::{EventId, EventRef, NameError, Position, StreamId, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::{Command, CommandError, Outcome, Outgoing};
use crate::effect::{Call, Effect};
use crate::entity::{Decide, Entity};
use crate::event::Event;
use crate::json::Json;
use crate::time::Timestamp;

pub use crate::saga_start::SagaStart;
pub use instance::{
    Consumed, Delivery, ProcessDecision, ProcessError, ProcessInstance, ProcessType,
};
pub use journal::{ConsumedEvent, Planned, ProcessEvent, Received};

/// A durable state machine that reacts to events by sending commands, setting timers and
/// calling the world outside.
///
/// An instance is an entity whose journal is its inbox and outbox: each input is recorded
/// together with what it made the process do, and only then is anything sent. So `decide` runs
/// once for each input, also when the program crashes and restarts in between, and changing
/// its code never changes what was decided before. Replay runs `evolve` alone.
///
/// Its stream is `NAME/key`; the key comes from [`Process::correlate`].
pub trait Process: Default + Serialize + DeserializeOwned + Send + 'static {
    /// The process's name, and the category of its journals.
    const NAME: &'static str;

    /// The categories it listens to. Of their events it gets the types that
    /// [`Process::Event`] knows.
    const CATEGORIES: &'static [&'static str];

    /// Which answers to its commands it wants.
    const REPLIES: Replies = Replies::Refusals;

    /// The names of the effects that it calls, each as `Charge::NAME`: a service that does not
    /// register one of them does not start. A call that is not named here is told when it is made.
    const CALLS: &'static [&'static str] = &[];

    /// The version of the *state's* shape; see [`Entity::STATE_VERSION`].
    const STATE_VERSION: u32 = 1;

    /// The events it wants.
    type Event: Event + Clone;

    /// Which instance an event belongs to, and whether it may begin one.
    fn correlate(event: &Self::Event, about: &EventRef<'_>) -> Correlate;

    /// What to do about `input`, given what was known before it.
    fn decide(&self, input: &Input<Self::Event>, cx: &Decide) -> Reaction;

    /// The state after `input`.
    fn evolve(&mut self, input: &Input<Self::Event>);
}

/// Which answers a process wants as [`Input::Reply`]. Those to calls and to sagas it
/// always gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replies {
    /// Only that a command was refused.
    #[default]
    Refusals,
    /// Every answer.
    All,
}

/// Which instance of a process an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Correlate {
    /// The instance with this key; it begins if there is none yet.
    Start(String),
    /// The instance with this key. If there is none yet, the event waits for the one that
    /// starts it.
    Continue(String),
    /// None: the event is of no interest.
    Ignore,
}

/// What reaches an instance of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<E> {
    /// An event that it listens to.
    Event(E, Source),
    /// A timer that it set is due.
    Timer(Timer),
    /// What became of a command that it sent, of a call that it made, or of a saga that it
    /// started.
    Reply(Reply),
}

/// Where an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: EventId,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// Its place in the log.
    pub position: Position,
    /// When it was recorded. Information only: nothing orders by it.
    pub recorded_at: Timestamp,
}

impl Source {
    /// Where `event` comes from.
    pub fn of(event: &EventRef<'_>) -> Result<Self, NameError> {
        Ok(Self {
            id: event.id,
            stream: StreamId::system(event.stream)?,
            version: event.version,
            position: event.position,
            recorded_at: Timestamp::from_micros(event.recorded_at),
        })
    }

    /// The key of its stream.
    pub fn key(&self) -> &str {
        self.stream.key()
    }
}

/// A moment to be woken at, as a value. Set again under the same name, it is moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its name, unique in the instance that sets it.
    pub name: String,
    /// When it is due. It fires late rather than never.
    pub at: Timestamp,
    /// What comes back when it fires.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub data: Json,
}

/// What became of something that a process has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Who answers: the entity, or the saga; of a call, the process's own stream.
    pub from: StreamId,
    /// The command's type name, or the effect's.
    pub name: String,
    /// What became of it: done, refused or unknown.
    pub outcome: Outcome,
}

/// What a process does about an input. Values only: nothing has been done yet.
///
/// What cannot be encoded does not panic here; it is kept and reported by
/// [`Reaction::into_actions`], and then nothing of the reaction happens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaction {
    actions: Vec<Action>,
    error: Option<CommandError>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Send a command.
    Send(Outgoing),
    /// Set, or move, a timer.
    Schedule(Timer),
    /// Take back a timer.
    Cancel {
        /// The timer's name.
        timer: String,
    },
    /// Call the world outside.
    Call(Call),
    /// Start a saga, once: starting it again with the same key changes nothing.
    StartSaga(SagaStart),
    /// End this instance. Later inputs are passed over.
    Complete,
}

impl Reaction {
    /// Does nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sends `command` to the entity of this key.
    #[must_use]
    pub fn send<E: Entity>(self, key: impl AsRef<str>, command: &E::Command) -> Self {
        self.send_to(E::CATEGORY, key, command)
    }

    /// Sends `command` to an entity whose type is not known here: another service's.
    #[must_use]
    pub fn send_to(mut self, category: &str, key: impl AsRef<str>, command: &impl Command) -> Self {
        let outgoing = Outgoing::new(category, key.as_ref(), command);
        self.push(outgoing.map(Action::Send));
        self
    }

    /// Wakes the process at `at` with `Input::Timer`.
    #[must_use]
    pub fn schedule(self, name: impl Into<String>, at: Timestamp) -> Self {
        self.schedule_with(name, at, &())
    }

    /// As [`Reaction::schedule`]; `data` comes back with the timer.
    #[must_use]
    pub fn schedule_with(
        mut self,
        name: impl Into<String>,
        at: Timestamp,
        data: &impl Serialize,
    ) -> Self {
        let timer = Json::of(data).map(|data| Timer {
            name: name.into(),
            at,
            data,
        });
        self.push(timer.map(Action::Schedule).map_err(CommandError::from));
        self
    }

    /// Takes back a timer.
    #[must_use]
    pub fn cancel(mut self, name: impl Into<String>) -> Self {
        let timer = name.into();
        self.push(Ok(Action::Cancel { timer }));
        self
    }

    /// Calls the world outside; the outcome comes back as [`Input::Reply`].
    #[must_use]
    pub fn call<F: Effect>(mut self, effect: &F) -> Self {
        self.push(
            Call::new(effect)
                .map(Action::Call)
                .map_err(CommandError::from),
        );
        self
    }

    /// Starts the saga `S` under this key.
    #[must_use]
    pub fn start_saga<S: crate::Saga>(mut self, key: impl AsRef<str>, input: &S::Input) -> Self {
        let start = SagaStart::new::<S>(key.as_ref(), input);
        self.push(start.map(Action::StartSaga));
        self
    }

    /// Ends this instance.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.push(Ok(Action::Complete));
        self
    }

    /// What both do, in this order.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.actions.extend(other.actions);
        self.error = self.error.or(other.error);
        self
    }

    /// What to do, in order; or why it cannot be said, and then nothing is to be done.
    pub fn into_actions(self) -> Result<Vec<Action>, CommandError> {
        match self.error {
            None => Ok(self.actions),
            Some(error) => Err(error),
        }
    }

    fn push(&mut self, action: Result<Action, CommandError>) {
        match action {
            Ok(action) => self.actions.push(action),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }
}
