//! What services say to each other: more than clients may. A sender tells its story, its part in a
//! saga and what it had seen as they are, and is believed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::{Expected, RecordedEvent};
use crate::problem::Rejection;
use crate::raw::Raw;

/// A command from one service to an entity or saga of another: `POST /peer/commands`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerCommand {
    /// Its id, a UUID: sending it again gives the first outcome.
    pub id: String,
    /// The entity or saga, as category/key.
    pub to: String,
    /// What is asked for.
    #[serde(rename = "type")]
    pub name: String,
    /// What the command holds.
    pub data: Raw,
    /// The part that it plays in a saga.
    #[serde(default)]
    pub role: PeerRole,
    /// The process or saga that waits for the outcome, as name/key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The story that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The W3C trace context of who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What the sender had seen: how many events of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
    /// How long it may take, in milliseconds; as the entity's options say, if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The state that the entity is expected to be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
}

/// What part a command plays in a saga.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerRole {
    /// None.
    #[default]
    Plain,
    /// The request of this step, which may be undone later.
    Step(String),
    /// The request of this step, which is tried until it succeeds.
    Forward(String),
    /// The compensation of a step.
    Undo(Undo),
}

/// Which step of a saga is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The step, as name or name/branch.
    pub step: String,
    /// The id of the step's request.
    pub of: String,
}

/// What has become of a command that was delivered to another service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerDelivered {
    /// Whether a saga has taken it. An entity has done it when it answers.
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
    /// What a reader has to have seen to see what the command did: how many events of each
    /// partition.
    #[serde(default)]
    pub token: BTreeMap<String, u64>,
}

/// What became of a command, a call or a saga, for the process or saga that waits for it:
/// `POST /peer/answers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerAnswer {
    /// Who waits, as name/key.
    pub to: String,
    /// Who answers, as category/key.
    pub from: String,
    /// The command's id, or the call's key.
    pub id: String,
    /// The command's type, or the effect's name.
    #[serde(rename = "type")]
    pub name: String,
    /// The part that the command plays in the saga.
    #[serde(default)]
    pub role: PeerRole,
    /// What became of it.
    pub outcome: PeerOutcome,
    /// What it depends on: how many events of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
}

/// What became of something that a process or saga had asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerOutcome {
    /// It was done; this came back.
    Done(Raw),
    /// It was refused, and nothing was done.
    Refused(Rejection),
    /// It was not done this time; trying again makes sense.
    Unavailable(String),
    /// It may have been done, and nobody will find out by trying again.
    Unknown(String),
}

/// A saga has ended, and an entity may forget what it remembers for it: `POST /peer/forget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerForget {
    /// The entity, as category/key.
    pub at: String,
    /// The saga, as name/key.
    pub saga: String,
}

/// It was heard, and nothing is to be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PeerHeard {}

/// A question to a view of another service: `POST /peer/queries`. The answer is a
/// [`QueryAnswer`](crate::QueryAnswer).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerQuery {
    /// The view.
    pub view: String,
    /// The query's name.
    pub query: String,
    /// The query's fields.
    pub question: PeerQuestion,
    /// What the asker has seen: how many events of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, u64>,
    /// What to do while the view is behind that.
    pub policy: PeerPolicy,
}

/// The fields of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerQuestion {
    /// As JSON.
    Json(Raw),
    /// As names and texts.
    Fields(Vec<PeerField>),
}

/// One field of a query, as a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub text: String,
}

/// What a query does while its view is behind what the asker has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerPolicy {
    /// Waits for so many milliseconds at most, then fails.
    WaitMs(u64),
    /// Fails at once.
    Fail,
    /// Answers, and says that the answer is stale.
    AllowStale,
}
