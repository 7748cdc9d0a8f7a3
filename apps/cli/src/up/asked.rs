//! What a supervisor is asked to do from outside, and what comes of it.

use serde::{Deserialize, Serialize};

/// What a supervisor is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Say how each service stands.
    Status,
    /// End this one in order, and leave it so.
    Stop(String),
    /// Start this one, and wait until it is ready.
    Start(String),
    /// One after the other.
    Restart(String),
    /// Run another build of this one; the one that runs now, if that does not get ready.
    Deploy(Deploy),
}

/// Another build of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// The service.
    pub service: String,
    /// The program.
    pub program: String,
    /// What it is told besides what is declared.
    pub args: Vec<String>,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How the services that it was about stand now.
    Stand(Vec<Standing>),
    /// The other build did not get ready, for this reason; the one before runs again, or is stopped as it
    /// was, and stands so.
    WentBack(String, Standing),
    /// It would not run: these, which it needs, are stopped. Nothing was changed.
    Needs(Vec<String>),
    /// No service has this name; these are declared.
    Unknown(Vec<String>),
    /// All of them are being stopped.
    Ending,
    /// The request does not have the word that opens the door.
    Refused,
}

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub service: String,
    /// What it is doing, in a word.
    pub state: String,
    /// Its process.
    pub process: Option<u32>,
    /// How often it was started again by itself.
    pub restarts: u64,
    /// Why it has ended last.
    pub last_end: Option<String>,
    /// What it needs and is stopped.
    pub waits_for: Vec<String>,
}
