//! What is answered about a command, and about a machine.

use anabranch_domain::{DecodeError, Event, Json, RecordedEvent};
use anabranch_log::Placed;
use anabranch_model::{Cut, EventType, StreamId, Version};
use bytes::Bytes;
use serde::Serialize;

/// A command was done, and what it recorded is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The events it recorded, possibly none.
    pub events: Vec<Recorded>,
    /// The version of the entity's last event at that time; `None`: it has none.
    pub version: Option<Version>,
    /// What a reader has to have seen to see what the command did, and what it was based on.
    pub token: Cut,
    /// Whether it had been done before, and this is the first outcome.
    pub repeated: bool,
}

impl Accepted {
    /// The events, as processes and sagas get them.
    pub fn recorded_events(&self) -> Result<Vec<RecordedEvent>, serde_json::Error> {
        let recorded = |event: &Recorded| {
            Ok(RecordedEvent {
                name: event.event_type.as_str().to_owned(),
                schema_version: event.schema_version,
                data: Json::from_slice(&event.data)?,
            })
        };
        self.events.iter().map(recorded).collect()
    }
}

/// An event that a command has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What happened.
    pub event_type: EventType,
    /// Version of the data's schema.
    pub schema_version: u32,
    /// The data, as JSON.
    pub data: Bytes,
    /// Where it stands.
    pub place: Placed,
}

impl Recorded {
    /// The event, if `E` knows its type and version.
    pub fn decode<E: Event>(&self) -> Result<E, DecodeError> {
        E::decode(self.event_type.as_str(), self.schema_version, &self.data)
    }
}

/// What an entity is doing in this runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Status {
    /// Not in memory; a command loads it.
    Idle,
    /// Its events are being read.
    Loading,
    /// In memory and taking commands.
    Live,
    /// Its code panicked; it is started again after a while.
    Restarting {
        /// What the panic said.
        reason: String,
        /// How often in a row.
        attempt: u32,
    },
    /// It takes no commands before an operator un-parks it.
    Parked {
        /// Why.
        reason: String,
    },
}

/// An instance, for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
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
    /// Events that wait for the one that starts it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldEvent>,
}

/// An event that waits in an instance which nothing has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldEvent {
    /// Its type name.
    pub event_type: String,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the log.
    pub position: anabranch_model::Position,
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
