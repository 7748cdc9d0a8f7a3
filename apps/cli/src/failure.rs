//! How a command fails: a code, what happened, what is safe, what to do.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use anabranch::log::{AppendError, OpenError, ReadError, Rejection};
use anabranch_wire::Happened;
use serde_json::{Map, Value, json};

/// The exit code of a command that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Something else was written there before.
    Conflict = 4,
    /// Not now; trying again may help.
    Unavailable = 5,
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Ending {
    /// It failed.
    Failed(Box<Failure>),
    /// Who reads its output went away. That is no failure: `read | head` works.
    ReaderGone,
}

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Ending>;

/// A failure as it is shown to people and programs.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// Stable, for programs and logs.
    pub code: Cow<'static, str>,
    /// What happened.
    pub what: String,
    /// What was kept and what was not done.
    pub safe: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
    /// Where in an input it happened.
    pub place: Option<Box<InputPlace>>,
    /// Whether a request was carried out though it has no good answer.
    pub happened: Happened,
}

/// A place in a file that a command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlace {
    /// The file, or `-`.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// In characters, from 1, if it is about a part of the line.
    pub column: Option<usize>,
}

impl Failure {
    /// A failure with nothing but what happened.
    pub fn new(exit: Exit, code: impl Into<Cow<'static, str>>, what: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.into(),
            what: what.into(),
            safe: None,
            remedy: None,
            place: None,
            happened: Happened::No,
        }
    }

    /// A wrong command line or configuration.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what)
    }

    /// A file that the user named could not be used.
    pub fn file(doing: &str, name: &str, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        let code = match exit {
            Exit::NotFound => "file-not-found",
            _ => "file",
        };
        Self::new(exit, code, format!("cannot {doing} {name}: {error}"))
    }

    /// Says what was kept and what was not done.
    #[must_use]
    pub fn safe(mut self, safe: impl Into<String>) -> Self {
        self.safe = Some(safe.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Says whether the request that failed was carried out.
    #[must_use]
    pub fn happened(mut self, happened: Happened) -> Self {
        self.happened = happened;
        self.safe(match happened {
            Happened::No => "nothing was changed",
            Happened::Maybe => "it may have been done",
            Happened::Yes => "it was done",
        })
    }

    /// Says where in an input it happened.
    #[must_use]
    pub fn at(mut self, place: InputPlace) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// The failure for people, on a few lines.
    pub fn to_text(&self) -> String {
        let mut text = format!("error[{}]: ", self.code);
        if let Some(place) = &self.place {
            let _ = write!(text, "{}: line {}", place.file, place.line);
            if let Some(column) = place.column {
                let _ = write!(text, ", column {column}");
            }
            text.push_str(": ");
        }
        text.push_str(&self.what);
        for (label, part) in [("safe", &self.safe), ("do", &self.remedy)] {
            if let Some(part) = part {
                let _ = write!(text, "\n  {label}: {part}");
            }
        }
        text.push('\n');
        text
    }

    /// The failure for programs, one object on one line.
    pub fn to_json(&self) -> String {
        let mut error = Map::new();
        error.insert("code".to_owned(), Value::from(&*self.code));
        error.insert("message".to_owned(), self.what.as_str().into());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                error.insert(name.to_owned(), value);
            }
        };
        put("safe", self.safe.as_deref().map(Value::from));
        put("do", self.remedy.as_deref().map(Value::from));
        if let Some(place) = &self.place {
            put("file", Some(place.file.as_str().into()));
            put("line", Some(place.line.into()));
            put("column", place.column.map(Value::from));
        }
        put("exit", Some((self.exit as u8).into()));
        format!("{}\n", json!({ "error": error }))
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let what = error.to_string();
        match error {
            OpenError::Locked { .. } => {
                Self::new(Exit::Unavailable, "locked", what).safe("the log is as it was")
            }
            OpenError::NotFound { .. } => Self::new(Exit::NotFound, "no-log", what),
            OpenError::Moved { .. } => {
                Self::new(Exit::Failed, "moved", what).safe("the log is as it was")
            }
            OpenError::NewerFormat { .. } => {
                Self::new(Exit::Failed, "newer-format", what).safe("the log is as it was")
            }
            OpenError::OlderFormat { .. } => {
                Self::new(Exit::Failed, "older-format", what).safe("the log is as it was")
            }
            OpenError::Damaged { .. } => Self::new(Exit::Failed, "damaged", what),
            OpenError::Io { .. } => {
                Self::new(Exit::Failed, "io", what).safe("the log is as it was")
            }
            OpenError::Unreachable { .. } => Self::new(Exit::Unavailable, "unreachable", what),
            OpenError::Invalid(_) => Self::usage(what),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let what = error.to_string();
        match error {
            ReadError::Damaged { last, .. } => Self::new(Exit::Failed, "damaged", what)
                .safe("what was printed before is right; the log is as it was")
                .remedy(format!(
                    "read what follows with --from {}:{}; see all damage with `anabranch log verify`",
                    last.partition.0,
                    last.offset.saturating_add(1)
                )),
            ReadError::CutBeyondHead { head, .. } => {
                Self::new(Exit::NotFound, "beyond-head", what)
                    .remedy(format!("the next event will stand at {head}; leave --from out to read all there is"))
            }
            ReadError::Io { .. } => Self::new(Exit::Failed, "io", what),
            ReadError::Unavailable(_) => Self::new(Exit::Unavailable, "unreachable", what)
                .safe("what was printed before is right; nothing was changed")
                .remedy("start what serves the log, or check the address"),
            ReadError::Unsupported(_) => Self::new(Exit::Failed, "unsupported", what),
            ReadError::Invalid(_) => Self::usage(what),
            ReadError::HistoryChanged { .. } => {
                Self::new(Exit::Failed, "history-changed", what)
            }
            ReadError::Closed => Self::new(Exit::Unavailable, "closed", what),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let (code, what) = (error.code(), error.to_string());
        let exit = match &error {
            AppendError::Conflict { .. }
            | AppendError::Untold { .. }
            | AppendError::Matched { .. } => Exit::Conflict,
            AppendError::Rejected(
                Rejection::IdTaken { .. }
                | Rejection::IdUntold { .. }
                | Rejection::PartlyWritten { .. }
                | Rejection::NotOwner { .. },
            ) => Exit::Conflict,
            AppendError::Rejected(_) => Exit::Failed,
            AppendError::Unavailable { .. } | AppendError::Unknown { .. } => Exit::Unavailable,
        };
        let failure = Self::new(exit, code, what);
        if error.did_not_happen() {
            failure.safe("nothing was written")
        } else {
            failure
        }
    }
}

impl From<OpenError> for Ending {
    fn from(error: OpenError) -> Self {
        Failure::from(error).into()
    }
}

impl From<ReadError> for Ending {
    fn from(error: ReadError) -> Self {
        Failure::from(error).into()
    }
}

impl From<AppendError> for Ending {
    fn from(error: AppendError) -> Self {
        Failure::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_where_what_is_safe_and_what_to_do() {
        let failure = Failure::new(Exit::Failed, "bad-line", "no `type`")
            .safe("lines 1 to 3 are in the log")
            .remedy("correct it and run again")
            .at(InputPlace {
                file: "f.jsonl".to_owned(),
                line: 4,
                column: Some(9),
            });
        assert_eq!(
            failure.to_text(),
            "error[bad-line]: f.jsonl: line 4, column 9: no `type`\n  \
             safe: lines 1 to 3 are in the log\n  do: correct it and run again\n"
        );
        let json: Value = serde_json::from_str(&failure.to_json()).unwrap();
        assert_eq!(json["error"]["line"], 4);
        assert_eq!(json["error"]["exit"], 1);
    }
}
