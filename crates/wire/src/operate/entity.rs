use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::raw::Raw;

/// An entity, now or as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entity {
    /// Its stream, as category/key.
    pub stream: String,
    /// The version of the last event that the state includes.
    pub version: u64,
    /// The state.
    pub state: Raw,
    /// What it is doing in this program.
    pub status: EntityStatus,
}

/// What an entity is doing in a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum EntityStatus {
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

impl EntityStatus {
    /// In a few words, for people.
    pub fn text(&self) -> String {
        match self {
            Self::Idle => "idle".to_owned(),
            Self::Loading => "loading".to_owned(),
            Self::Live => "live".to_owned(),
            Self::Restarting { reason, .. } => format!("restarting: {reason}"),
            Self::Parked { reason } => format!("parked: {reason}"),
        }
    }
}

/// Some of a stream's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The stream.
    pub stream: String,
    /// The events in CloudEvents' JSON form, oldest first.
    pub events: Vec<Raw>,
    /// The version to go on from; `null` when these are all there are.
    pub next: Option<u64>,
}

/// An entity that takes no commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    /// The service that owns it.
    pub service: String,
    /// Its stream.
    pub stream: String,
    /// Why.
    pub reason: String,
}

/// An entity takes commands again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unparked {
    /// Its stream.
    pub stream: String,
    /// Always true.
    pub unparked: bool,
}
