//! Entities: command → decide → append → reply.

mod host;

use std::time::Duration;

use anabranch_domain::{CommandId, Json, Retry, Role};
use anabranch_log::Expect;
use anabranch_model::{Cut, StreamId, Version};
use serde::Serialize;

pub(crate) use host::EntityHost;
pub use host::{AnyEntity, EntityHandle, HostError};

use crate::host::{HostOptions, Status, shards_default};

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
    /// As many shards as the machine runs threads at once, with 4,096 commands each; snapshots
    /// each 1,000 events, 256 MiB of states.
    fn default() -> Self {
        Self {
            shards: shards_default(),
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

impl EntityOptions {
    fn host(&self) -> HostOptions {
        HostOptions {
            shards: self.shards,
            mailbox_max: self.mailbox_max,
            waiting_max: self.waiting_max,
            snapshot_every: self.snapshot_every,
            memory_max: Some(self.memory_max),
            live_max: usize::MAX,
            restart: self.restart,
            unknown_attempts_max: self.unknown_attempts_max,
            contended_attempts_max: self.contended_attempts_max,
            rejections_max: self.rejections_max,
            // What the log takes at once.
            batch_events_max: usize::MAX,
            batch_bytes_max: usize::MAX,
            held_max: usize::MAX,
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
    /// Id of the whole story it belongs to; `None`: the story begins with it and has its id.
    pub correlation_id: Option<String>,
    /// W3C trace context of who sends it; it is stored with the events.
    pub traceparent: Option<String>,
    /// The part that it plays in a saga.
    pub role: Role,
    /// The saga, or process, that waits for the outcome.
    pub reply_to: Option<StreamId>,
    /// What the sender had seen.
    pub causes: Cut,
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
