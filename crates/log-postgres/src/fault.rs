//! Why the database did not do what it was asked.

use std::fmt;

use anabranch_log::ReadError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// See the module's text.
#[derive(Clone, PartialEq, Eq)]
pub enum Fault {
    /// No connection came about: nothing was asked.
    Away(String),
    /// The connection was lost, or nothing came back: it may have been done.
    Lost(String),
    /// The server cannot now; it may later. What was asked was not done.
    Busy(String),
    /// The server refuses just this.
    Refused {
        /// Why.
        text: String,
        /// The server's code for it.
        code: String,
    },
}

impl Fault {
    /// What went wrong where something was asked.
    pub fn of(error: &Error) -> Self {
        let said = text(error);
        let Some(refused) = error.as_db_error() else {
            return Self::Lost(said);
        };
        let code = refused.code();
        // A server that goes away may have committed while it waited for its standby.
        let severity = refused.severity();
        let is_gone = ["FATAL", "PANIC"].contains(&severity) || code.code().starts_with("08");
        if is_gone {
            Self::Lost(said)
        } else if is_of_server(code) {
            Self::Busy(said)
        } else {
            let code = code.code().to_owned();
            Self::Refused { text: said, code }
        }
    }

    /// What went wrong where a connection was made.
    pub fn of_connecting(error: &Error) -> Self {
        match Self::of(error) {
            Self::Lost(text) if is_denied(error) => {
                let code = error.code().map_or("", SqlState::code).to_owned();
                Self::Refused { text, code }
            }
            Self::Lost(text) => Self::Away(text),
            other => other,
        }
    }

    /// Whether it may go by itself.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    /// What it means for a read.
    pub fn of_read(self) -> ReadError {
        match self {
            Self::Away(text) | Self::Lost(text) | Self::Busy(text) => ReadError::Unavailable(text),
            Self::Refused { text, .. } => ReadError::Io {
                what: "reading events from PostgreSQL".to_owned(),
                reason: text,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(text) | Self::Lost(text) | Self::Busy(text) | Self::Refused { text, .. }) =
            self;
        f.write_str(text)
    }
}

anabranch_model::debug_is_words!(Fault);

/// Who asks, or what for, is wrong: asking again helps nobody.
fn is_denied(error: &Error) -> bool {
    let denied = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    error.code().is_some_and(|code| denied.contains(code))
}

/// Rolled back for the sake of others; out of resources; object in use; operator; system. And a
/// server that takes no writes for now.
fn is_of_server(code: &SqlState) -> bool {
    const CLASSES: [&str; 5] = ["40", "53", "55", "57", "58"];
    let is_of = |class: &&str| code.code().starts_with(*class);
    CLASSES.iter().any(is_of) || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// All that an error has to say, in one line.
fn text(error: &Error) -> String {
    if let Some(refused) = error.as_db_error() {
        let mut text = format!("{} (SQLSTATE {})", refused.message(), refused.code().code());
        for more in [refused.detail(), refused.hint()].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(more);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_lacks_may_pass_and_a_refused_statement_does_not() {
        for code in ["53100", "40P01", "55P03", "57014", "25006"] {
            assert!(is_of_server(&SqlState::from_code(code)), "{code}");
        }
        for code in ["23505", "42P01", "42501", "P0001", "XX000"] {
            assert!(!is_of_server(&SqlState::from_code(code)), "{code}");
        }
    }
}
