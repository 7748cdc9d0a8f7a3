use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Problem, Raw};

/// What a reader of events is sent by WebSocket: an event, that everything was given, or why it ends.
/// A message with an id alone says where the reader is by now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LiveMessage {
    /// The token of the place behind it: a reader that comes again begins there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A CloudEvent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Raw>,
    /// Where the log ended: everything before was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Why nothing comes any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What a reader of events sends by WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LiveRequest {
    /// So many events more may be sent to it.
    pub credits: u64,
}

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
