use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::raw::Raw;

/// A command as one body. With `?type=…` in the address the body is the data alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// What is asked for, for example `PlaceOrder`.
    #[serde(rename = "type")]
    pub name: String,
    /// What the command holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
}

/// One of several commands that are sent together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListedCommand {
    /// The entity, as category/key.
    pub to: String,
    /// What is asked for, for example `Withdraw`.
    #[serde(rename = "type")]
    pub name: String,
    /// What the command holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
    /// The state that the entity is expected to be in; any, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
}

/// What has become of several commands that were sent together: all of them took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListOutcome {
    /// The id of the list.
    pub list: String,
    /// What has become of each, in their order.
    pub outcomes: Vec<CommandOutcome>,
}

/// What has become of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOutcome {
    /// The entity or saga, as category/key.
    pub stream: String,
    /// The command's id.
    pub command: String,
    /// Whether a saga has taken it: it is durable, and what follows from it is done later. An
    /// entity has done it when it answers.
    #[serde(default)]
    pub taken: bool,
    /// The version of the entity's last event; `null` if it has none.
    #[serde(default)]
    pub version: Option<u64>,
    /// Whether it had been done before, and this is the first outcome.
    #[serde(default)]
    pub repeated: bool,
    /// What it recorded.
    #[serde(default)]
    pub events: Vec<RecordedEvent>,
    /// How the saga that has taken it has ended, if the client wanted to wait for that and it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<SagaEnded>,
}

/// How a saga has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaEnded {
    /// In which of two ways.
    pub outcome: SagaOutcome,
    /// Why it went back, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// In which way a saga has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SagaOutcome {
    /// Every step took effect once.
    Completed,
    /// Everything that may have taken effect is undone.
    Compensated,
}

/// An event that a command has recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedEvent {
    /// What happened, for example `OrderPlaced`.
    #[serde(rename = "type")]
    pub name: String,
    /// The version of the data's form.
    pub schema_version: u32,
    /// Its number in the stream, from 0.
    pub version: u64,
    /// Where it stands in the log, as partition:offset.
    pub position: String,
    /// Its data.
    pub data: Raw,
}

/// The state that a stream is expected to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Any state.
    Any,
    /// No events yet.
    Empty,
    /// At least one event.
    Exists,
    /// Its last event has this version.
    At(u64),
}
