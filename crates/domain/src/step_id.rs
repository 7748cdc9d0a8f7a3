use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One step of a saga, or one branch of a `for_each` step: `pay`, or `reserve/3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId {
    /// The step's name.
    pub name: Arc<str>,
    /// Which branch, from 0; 0 for a step without branches.
    pub branch: u32,
}

impl StepId {
    /// The branch `branch` of the step `name`.
    pub fn new(name: impl Into<Arc<str>>, branch: u32) -> Self {
        Self {
            name: name.into(),
            branch,
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.branch {
            0 => f.write_str(&self.name),
            branch => write!(f, "{}/{branch}", self.name),
        }
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no step.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no step; write its name, or name/branch, for example reserve/3")]
pub struct ParseStepIdError(pub String);

anabranch_model::debug_is_words!(ParseStepIdError);

impl FromStr for StepId {
    type Err = ParseStepIdError;

    fn from_str(text: &str) -> Result<Self, ParseStepIdError> {
        let (name, branch) = text.split_once('/').unwrap_or((text, "0"));
        match branch.parse() {
            Ok(branch) if !name.is_empty() => Ok(Self::new(name, branch)),
            _ => Err(ParseStepIdError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for StepId {
    type Error = ParseStepIdError;

    fn try_from(text: String) -> Result<Self, ParseStepIdError> {
        text.parse()
    }
}

impl From<StepId> for String {
    fn from(id: StepId) -> Self {
        id.to_string()
    }
}
