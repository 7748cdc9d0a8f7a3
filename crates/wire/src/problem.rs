use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Expected;
use crate::raw::Raw;

/// Why a request was not done, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:anabranch:problem:` and the code.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The code in words.
    #[serde(default)]
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// Stable, for programs, for example `version-mismatch`.
    pub code: String,
    /// What happened and what to do, for people.
    #[serde(default)]
    pub detail: String,
    /// Whether what was asked for has happened though there is no good answer.
    pub happened: Happened,
    /// When to try again, in milliseconds, if that makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The command's id, by which sending it again tells what has become of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The entity's or saga's own "no".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// With `version-mismatch`: the version of the entity's last event; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<u64>,
    /// With `other-log`: the id of the log that this server is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What `detail` is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<ProblemParts>,
}

/// What the words of a problem are made of, so that a service that asks another can say the
/// problem as its own. Which of them are there depends on the code.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProblemParts {
    /// The cause alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stream that it is about, as category/key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The category, view, query or command that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What there is instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// The state that was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// How many: commands that wait, attempts, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How far a view or the log is: how many events of each partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<BTreeMap<String, u64>>,
    /// How far it has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<BTreeMap<String, u64>>,
}

/// Whether what was asked for has happened though there is no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// Nothing was changed, for sure.
    No,
    /// It may have been done. Sending it again with the same id tells.
    Maybe,
    /// It was done, for sure, and only its answer cannot be given.
    Yes,
}

impl Problem {
    /// A problem of which nothing more is known; nothing was changed.
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:anabranch:problem:{code}"),
            title: code.replace('-', " "),
            status,
            code: code.to_owned(),
            detail: detail.into(),
            happened: Happened::No,
            retry_after_ms: None,
            command: None,
            rejection: None,
            actual: None,
            log: None,
            parts: None,
        }
    }

    /// Whether nothing was changed, for sure.
    pub fn did_not_happen(&self) -> bool {
        self.happened == Happened::No
    }

    /// Whether sending the same request again, with the same id, makes sense.
    pub fn is_passing(&self) -> bool {
        self.retry_after_ms.is_some()
    }
}

/// A business "no": the command was understood and is not allowed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    /// For programs: the service's own code, for example `out-of-stock`.
    pub code: String,
    /// For people: what is in the way.
    pub message: String,
    /// Details for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
    /// Whether the same command may be allowed a little later.
    #[serde(default)]
    pub try_again: bool,
}
