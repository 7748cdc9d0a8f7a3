use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A view and the service that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// The service.
    pub service: String,
    /// The view.
    pub view: View,
}

/// A view, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The version of its code.
    pub version: u32,
    /// The copy that answers queries.
    pub serving: Option<CopyStatus>,
    /// The copy that is being built.
    pub building: Option<CopyStatus>,
    /// The copy that served before, if it is kept.
    pub previous: Option<CopyId>,
    /// The queries that can be asked by name.
    pub queries: Vec<String>,
}

/// One of the sets of rows that a view has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyId {
    /// The version of the code that made it.
    pub version: u32,
    /// Which copy of that version, from 1.
    pub generation: u32,
}

/// One copy of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyStatus {
    /// Which one.
    pub id: CopyId,
    /// What it is doing.
    pub state: CopyState,
    /// When it has stopped: the event that it stands before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<PoisonEvent>,
    /// When it is failing: what is the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How far into the log it has taken events in: how many of each partition.
    pub cut: BTreeMap<String, u64>,
    /// How many events of the log it has not looked at.
    pub lag_events: u64,
    /// How long ago the last event that it took in was recorded, in milliseconds; 0 when it has
    /// caught up.
    pub lag_ms: u64,
    /// How long it will take to catch up, about, in milliseconds; only while it catches up.
    pub time_left_ms: Option<u64>,
    /// Streams that it has set aside.
    pub parked: BTreeMap<String, ParkedStream>,
}

/// What a copy of a view is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// It takes in what is behind it.
    CatchingUp,
    /// It has taken in everything there was.
    CaughtUp,
    /// It has stopped before an event; `retry` or `skip` lets it go on.
    Stopped,
    /// The store or the log fails; it tries again by itself.
    Failing,
}

impl CopyState {
    /// In two words, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching up",
            Self::CaughtUp => "caught up",
            Self::Stopped => "stopped",
            Self::Failing => "failing",
        }
    }
}

/// An event that a view cannot take in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoisonEvent {
    /// Where it stands, as partition:offset.
    pub position: String,
    /// Its stream.
    pub stream: String,
    /// Its version in the stream.
    pub version: u64,
    /// Its type.
    pub event_type: String,
    /// Why it cannot be taken in.
    pub reason: String,
}

/// A stream that a view has set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParkedStream {
    /// The event that it could not take in, as partition:offset.
    pub position: String,
    /// The version of that event.
    pub version: u64,
    /// The version of the last event that was set aside.
    pub last: u64,
    /// Why.
    pub reason: String,
}

/// A view does what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ViewDone {
    /// The view.
    pub view: String,
    /// What it was told: rebuild, back-out, skip or retry.
    pub done: String,
    /// With rebuild: the copy that is being built; with back-out: the one that serves again.
    pub copy: Option<CopyId>,
}
