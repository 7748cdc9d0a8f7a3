use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service that has registered at the log, as those of other processes do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Where it is asked; empty: it is not to be asked.
    pub address: String,
    /// The program that runs it.
    pub program: String,
    /// The version of that program.
    pub version: String,
    /// The categories that it alone appends to.
    pub owns: Vec<String>,
    /// The views that it answers.
    pub views: Vec<String>,
    /// The categories of other services that it follows.
    pub reads: Vec<String>,
    /// The categories of other services that it sends commands to.
    pub sends: Vec<String>,
    /// The categories that it owns and keeps to itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<String>,
    /// The number of its newest lease.
    pub lease: u64,
    /// When it got that lease, which is when it was started: RFC 3339, by the clock of the log's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How that lease is.
    pub state: LeaseState,
    /// How long it lasts yet, in milliseconds, if it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The service that has claimed what it owned, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by: Option<String>,
}

/// How a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// The service is there.
    Held,
    /// It has not renewed its lease in time; it may come back.
    Expired,
    /// It has ended in order.
    Released,
    /// Another service has claimed what it owned, after the lease had ended.
    Taken,
}

impl LeaseState {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Taken => "taken",
        }
    }
}
