use std::fmt;

use connectrpc::ConnectError;

/// Why the registry does not do what it was asked for. In words, which say what to do; nothing was
/// changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The request itself is wrong.
    Malformed(String),
    /// Another service holds it.
    Held(String),
    /// The secret is not the one.
    WrongSecret(String),
    /// The lease has ended, and somebody has followed.
    Lost(String),
    /// It is what another service keeps to itself.
    Private(String),
    /// There is no such service.
    Unknown(String),
    /// The log cannot be asked now.
    Unavailable(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Malformed(words)
        | Self::Held(words)
        | Self::WrongSecret(words)
        | Self::Lost(words)
        | Self::Private(words)
        | Self::Unknown(words)
        | Self::Unavailable(words)) = self;
        f.write_str(words)
    }
}

impl From<Denied> for ConnectError {
    fn from(denied: Denied) -> Self {
        let words = denied.to_string();
        match denied {
            Denied::Malformed(_) => Self::invalid_argument(words),
            Denied::Held(_) => Self::already_exists(words),
            Denied::WrongSecret(_) | Denied::Private(_) => Self::permission_denied(words),
            Denied::Lost(_) => Self::failed_precondition(words),
            Denied::Unknown(_) => Self::not_found(words),
            Denied::Unavailable(_) => Self::unavailable(words),
        }
    }
}
