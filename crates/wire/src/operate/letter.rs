use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::raw::Raw;

/// A dead letter and the service that keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceLetter {
    /// The service.
    pub service: String,
    /// The letter.
    pub letter: DeadLetter,
}

/// Something that a process has sent and nobody could take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// The process or saga that has sent it.
    pub from: String,
    /// What was sent.
    pub what: Letter,
    /// Why it could not be delivered.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Letter {
    /// A command.
    Command(CommandLetter),
    /// A call of a third party.
    Call(CallLetter),
}

/// A command that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLetter {
    /// Its id.
    pub id: String,
    /// Whom it is for, as category/key.
    pub to: String,
    /// What is asked for.
    #[serde(rename = "type")]
    pub name: String,
    /// What it holds.
    pub data: Raw,
}

/// A call that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallLetter {
    /// The idempotency key: the same for every attempt.
    pub key: String,
    /// What is called.
    pub effect: String,
    /// What it holds.
    pub request: Raw,
}

impl Letter {
    /// What was sent, as type and receiver, for people.
    pub fn summary(&self) -> (&str, &str) {
        match self {
            Self::Command(command) => (&command.name, &command.to),
            Self::Call(call) => (&call.effect, "the world outside"),
        }
    }

    /// What it holds.
    pub fn data(&self) -> &Raw {
        match self {
            Self::Command(command) => &command.data,
            Self::Call(call) => &call.request,
        }
    }
}

/// Deliver a dead letter again, changed or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edited {
    /// What it shall hold instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
}

/// Why something is given up or goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Why; it is kept.
    pub why: String,
}

/// A dead letter was dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetterDone {
    /// Its id.
    pub id: String,
    /// What was done: discard.
    pub done: String,
}

/// Deliver many dead letters again. Those are meant that fit everything that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryLetters {
    /// All of them; needed when nothing else is said.
    #[serde(default)]
    pub all: bool,
    /// Those of this process or saga, or of this instance as name/key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Those whose reason holds this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only say which are meant.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of the dead letters that were meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LettersRetried {
    /// Each of them, oldest first.
    pub letters: Vec<Retried>,
    /// How many are meant and were not tried, because these are many: ask again.
    pub left: u64,
}

/// What became of a dead letter that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retried {
    /// Its id.
    pub id: String,
    /// The process or saga that has sent it.
    pub from: String,
    /// What became of it.
    pub outcome: LetterOutcome,
    /// Why it failed again, or had failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LetterOutcome {
    /// It was delivered and answered.
    Delivered,
    /// It failed again and is a dead letter as before.
    FailedAgain,
    /// It is being tried, and there is no answer yet.
    UnderWay,
    /// Nothing was done: it was a dry run.
    WouldRetry,
}
