use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// The version of the program.
    pub version: String,
    /// The version of the log's protocol over the network.
    pub protocol: u32,
    /// The name of the log that is served.
    pub log: String,
}

/// A running service, and what it owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its entities.
    pub entities: Vec<Category>,
    /// The names of its views.
    pub views: Vec<String>,
    /// The names of its processes and sagas.
    pub processes: Vec<String>,
    /// How many commands and calls it has sent that are not answered yet.
    pub under_way: u64,
    /// How much of what it has sent could not be delivered.
    pub dead_letters: u64,
}

/// The entities of one category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Category {
    /// The category.
    pub category: String,
    /// The commands that they know.
    pub commands: Vec<String>,
    /// How many of them are in memory.
    pub in_memory: u64,
    /// How much memory their states take, about, in bytes.
    pub memory_bytes: u64,
}

/// Something that went wrong and was mended or worked around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// When, in RFC 3339.
    pub at: String,
    /// Where.
    pub service: String,
    /// What happened, what was kept and what to do.
    pub text: String,
}

/// How a third party is doing that a service calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceCircuit {
    /// The service that calls it.
    pub service: String,
    /// How it is doing.
    pub circuit: Circuit,
}

/// How a third party is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Circuit {
    /// The effect.
    pub effect: String,
    /// Whether it is called.
    pub state: CircuitState,
    /// How many calls in a row have failed.
    pub failures: u64,
    /// How many calls are under way.
    pub in_flight: u64,
    /// Why the last of them failed, in the words of the third party or of who calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When one call tries whether it works again, if it is open; in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<String>,
}

/// Whether a third party is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    /// It is.
    Closed,
    /// It has only failed: it is not called.
    Open,
    /// One call tries whether it works again.
    HalfOpen,
}

impl CircuitState {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}
