//! Entities: command → decide → append → reply.
//!
//! A *shard* is one task that owns the entities of many keys. It decides over state in memory
//! and does not wait for the log: while one batch of an entity's events becomes durable, the
//! next is decided and gathered. Replies go out when the batch is durable.
//!
//! Three rules keep this right:
//!
//! * An entity has one append in flight, and its condition is the version that the decisions
//!   began at. So a second writer is found out before anything is built on its absence: with
//!   two appends in flight, the second could hold although the first did not.
//! * What was decided over events that are not durable yet, a rejection too, is answered only
//!   when they are. When they cannot be written, memory is dropped, read from the log again,
//!   and everything that is unanswered is decided again.
//! * The ids of a command's events follow from the command's id, so the log itself remembers
//!   every command that ever recorded something, for ever. A command that records nothing is
//!   checked against that memory before it is answered. A refusal of a plain command changes
//!   nothing and is kept in memory only, for a while: repeated after a restart, the command is
//!   decided again. A refusal that a saga has to rely on is recorded.

mod decide;
mod host;
mod load;
mod recall;
mod rejections;
mod shard;
mod slot;

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{CommandId, DecodeError, Event, Json, RecordedEvent, Retry, Role};
use anabranch_log::{Expect, Placed};
use anabranch_model::{Cut, EventType, StreamId, Version};
use bytes::Bytes;
use serde::Serialize;

pub use host::{AnyEntity, EntityHandle, HostError};
pub(crate) use host::{EntityHost, HostParts};

/// How entities of one category are hosted.
#[derive(Debug, Clone)]
pub struct EntityOptions {
    /// How many tasks share the entities.
    pub shards: usize,
    /// How many commands may wait at one shard before it says that it is overloaded.
    pub mailbox_max: usize,
    /// How many commands may wait at one entity, for example while it is loaded.
    pub waiting_max: usize,
    /// A snapshot is taken after this many events; 0: never.
    pub snapshot_every: u64,
    /// How much memory the states may take, about, in bytes. Idle entities leave beyond it.
    pub memory_max: usize,
    /// When an entity whose code panicked is started again. After the greatest number of
    /// attempts it is parked.
    pub restart: Retry,
    /// How often an append whose outcome is unknown is repeated before the sender is told.
    pub unknown_attempts_max: u32,
    /// How often a command is decided again when others write to its entity.
    pub contended_attempts_max: u32,
    /// How many rejections a shard remembers, so that a command that is repeated soon after
    /// gets the first outcome. What was done needs no room here: the log knows it.
    pub rejections_max: usize,
    /// How long a command may take, if the sender says nothing.
    pub timeout: Duration,
}

impl Default for EntityOptions {
    /// Two shards of 4,096 commands, snapshots each 1,000 events, 256 MiB of states.
    fn default() -> Self {
        Self {
            shards: 2,
            mailbox_max: 4096,
            waiting_max: 1024,
            snapshot_every: 1000,
            memory_max: 256 << 20,
            restart: Retry {
                attempts_max: Some(5),
                ..Retry::DEFAULT
            },
            unknown_attempts_max: 8,
            contended_attempts_max: 8,
            rejections_max: 4096,
            timeout: Duration::from_secs(30),
        }
    }
}

/// How a command is sent.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// Its id; `None`: a new one. Sending the same id again gives the first outcome.
    pub id: Option<CommandId>,
    /// How long it may take; `None`: as the entity's options say.
    pub timeout: Option<Duration>,
    /// The state that the entity is expected to be in; `None`: any.
    pub expect: Option<Expect>,
    /// Id of the whole story it belongs to.
    pub correlation_id: Option<String>,
    /// The part that it plays in a saga.
    pub role: Role,
    /// The saga, or process, that waits for the outcome.
    pub reply_to: Option<StreamId>,
    /// What the sender had seen.
    pub causes: Cut,
}

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

/// An entity, as an operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its stream.
    pub stream: StreamId,
    /// The version of the last event that the state includes; `None`: none.
    pub version: Option<Version>,
    /// The state, as JSON.
    pub state: Json,
    /// What it is doing here.
    pub status: Status,
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

/// What all shards of one category share.
pub(crate) struct Shared<E: anabranch_domain::Entity> {
    pub log: Arc<dyn anabranch_log::Log>,
    pub time: crate::time::Time,
    pub snapshots: Arc<dyn crate::snapshot::SnapshotStore>,
    pub options: EntityOptions,
    pub reader: anabranch_domain::Reader<E::Event>,
    /// The types of events by name, the platform's diagnostics among them, ready to be stored.
    pub types: Vec<EventType>,
    pub limits: anabranch_model::Limits,
    /// Whether events say what they depend on beyond their partition.
    pub many_partitions: bool,
    /// The service that writes.
    pub source: String,
    /// Of snapshots: the shape of the state.
    pub fingerprint: u128,
    pub diagnostics: Arc<crate::diagnostics::Diagnostics>,
}
