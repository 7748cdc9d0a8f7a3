use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// CloudEvents that are in the log now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventsAppended {
    /// Each of them, in the order in which they came.
    pub events: Vec<AppendedEvent>,
}

/// Where an event stands that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppendedEvent {
    /// Its id in the log, a UUID: of a CloudEvent of another producer it follows from source and id.
    pub id: String,
    /// Its stream, as category/key.
    pub stream: String,
    /// Its number in the stream, from 0.
    pub version: u64,
    /// Where it stands in the log, as partition:offset.
    pub position: String,
    /// Whether it was there before.
    #[serde(default)]
    pub repeated: bool,
}
