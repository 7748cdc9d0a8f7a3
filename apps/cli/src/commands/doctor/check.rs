//! One thing that was looked at, and how it is.

use serde::Serialize;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It goes, and should be looked at.
    Warning,
    /// Something does not work, or is about to be lost.
    Fault,
}

impl State {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about, in a word.
    pub about: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(about: &'static str, what: impl Into<String>) -> Self {
        Self {
            about,
            state: State::Ok,
            what: what.into(),
            remedy: None,
        }
    }

    /// It goes, and should be looked at.
    pub fn warning(
        about: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(about, what)
        }
    }

    /// It does not work.
    pub fn fault(about: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Fault,
            ..Self::warning(about, what, remedy)
        }
    }
}
