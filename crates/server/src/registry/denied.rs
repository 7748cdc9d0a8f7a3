use std::fmt;

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
        | Self::Unknown(words)
        | Self::Unavailable(words)) = self;
        f.write_str(words)
    }
}
