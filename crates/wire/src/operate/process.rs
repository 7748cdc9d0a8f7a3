use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::letter::DeadLetter;
use super::service::CircuitState;
use crate::problem::Rejection;
use crate::raw::Raw;

/// A process or saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// The service that has it.
    pub service: String,
    /// Why it consumes no more events, if that is so.
    pub stopped: Option<String>,
    /// How far into the log everything that it listens to was consumed: how many events of each
    /// partition.
    pub consumed: std::collections::BTreeMap<String, u64>,
    /// How many events of the log it has not looked at.
    pub lag_events: u64,
    /// How many instances have not ended.
    pub open: u64,
    /// How many of them retry by themselves what has had no answer for many attempts.
    pub retrying: u64,
    /// How much of it stays as it is until a person acts: instances, what they have sent and
    /// nobody could take, and the event that it has stopped before.
    pub need_a_person: u64,
    /// How much of what its instances have sent could not be delivered.
    pub dead_letters: u64,
    /// The instances, when one process was asked for: those that have not ended; or, if that was
    /// asked, the newest of those that have, without their states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
}

/// One instance of a process or saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Its journal, as name/key.
    pub stream: String,
    /// Why it takes in nothing before an operator has looked at it, if that is so.
    pub parked: Option<String>,
    /// How far it is, in a word; `null` when its journal cannot be read.
    pub phase: Option<String>,
    /// Whether it has ended.
    #[serde(default)]
    pub ended: bool,
    /// Whether some of it stays as it is until a person acts.
    #[serde(default)]
    pub needs_person: bool,
    /// Whether some of it has had no answer for many attempts; it is tried further by itself.
    #[serde(default)]
    pub retrying: bool,
    /// How many events its journal has.
    #[serde(default)]
    pub length: u64,
    /// Its state; of a saga it is a [`SagaState`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Raw>,
    /// Events that wait for the one that starts it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldEvent>,
    /// What it has sent that is on its way, when one instance was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<Delivery>,
    /// What it has sent and nobody could take, when one instance was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<DeadLetter>,
}

/// An event that waits in an instance which nothing has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its stream.
    pub stream: String,
    /// Its place in the log.
    pub position: String,
}

/// Something that a process or saga has sent and that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// The command's id, or the call's key.
    pub id: String,
    /// What is asked of whom.
    pub what: String,
    /// How many attempts have failed.
    pub attempts: u64,
    /// Why the last one has, in the words of who was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the next one is made, if one has failed; in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<String>,
    /// Of a call: whether the third party is called now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitState>,
}

impl Instance {
    /// What is the matter with it, in a few words; empty if nothing is.
    pub fn trouble(&self) -> &str {
        match &self.parked {
            Some(reason) => reason,
            None if self.needs_person => "needs a person",
            None if self.retrying => "retrying by itself",
            None => "",
        }
    }
}

/// The state of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaState {
    /// Why it goes back, if it does.
    #[serde(default)]
    pub aborted: Option<String>,
    /// Whether it could still go back: its point of no return was not started.
    #[serde(default)]
    pub can_go_back: Option<bool>,
    /// Its steps.
    pub steps: Vec<SagaStep>,
}

/// A step of a saga, or one branch of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaStep {
    /// Which one, as name or name/branch.
    pub step: String,
    /// How far it is, in a word.
    pub state: String,
    /// What it has asked for and has no answer to.
    #[serde(default)]
    pub asked: Option<String>,
    /// How often it has asked.
    #[serde(default)]
    pub attempts: u64,
    /// Why it has asked for its fallback, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Why the last attempt that has failed did so, in the words of who was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is looked after next.
    #[serde(default)]
    pub again_at: Option<String>,
    /// Why a person should look at it, if that is so.
    #[serde(default)]
    pub parked: Option<String>,
    /// Whether it goes on by itself all the same.
    #[serde(default)]
    pub going_on: bool,
}

/// Who decides something that a saga could not, and why. It is kept in the saga's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorName {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
}

/// Go on with a step that is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeStep {
    /// The step, as name or name/branch.
    pub step: String,
    /// Who says so, and why.
    pub by: OperatorName,
}

/// Take note of what a person has found out, or done by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleStep {
    /// The step, as name or name/branch.
    pub step: String,
    /// What is so.
    #[serde(rename = "as")]
    pub settlement: Settlement,
    /// Who says so, and why.
    pub by: OperatorName,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Settlement {
    /// It took effect; this came back.
    Done(Raw),
    /// It had no effect.
    Refused(Rejection),
    /// Its effect is undone.
    Undone,
}

/// A process does what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessDone {
    /// The process.
    pub process: String,
    /// What it was told: skip or retry.
    pub done: String,
}

/// An instance does what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamDone {
    /// The instance, as name/key.
    pub stream: String,
    /// What it was told: retry, abort, resume or settle.
    pub done: String,
}
