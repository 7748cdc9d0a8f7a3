use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In memory, for as long as it is open: `memory:`.
    Memory,
    /// In a directory of this machine: `./dir`.
    Directory(PathBuf),
}

/// A text that is no address. Says nothing of what follows the scheme: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is no text.
    #[error("the log's address is empty; write a directory, for example ./.anabranch/log")]
    Empty,
    /// An engine that this build does not have.
    #[error(
        "this build has no engine for {scheme}: addresses; it has logs in a directory (./dir) and in memory (memory:)"
    )]
    NoEngine {
        /// What stands before the colon.
        scheme: String,
    },
    /// A scheme that no engine has.
    #[error(
        "no log engine is called {scheme:?}; write a directory (./dir) or memory: for a log in memory"
    )]
    UnknownScheme {
        /// What stands before the colon.
        scheme: String,
    },
    /// Text after `memory:`.
    #[error("a log in memory has no name; write just memory:")]
    NamedMemory,
}

/// Engines of the platform that a build may have.
const REMOTE_SCHEMES: [&str; 6] = ["http", "https", "kafka", "nats", "postgres", "postgresql"];

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.trim().is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let scheme = scheme.to_ascii_lowercase();
            if scheme == "memory" {
                return match rest {
                    "" | "//" => Ok(Self::Memory),
                    _ => Err(AddressError::NamedMemory),
                };
            }
            if REMOTE_SCHEMES.contains(&scheme.as_str()) {
                return Err(AddressError::NoEngine { scheme });
            }
            if rest.starts_with("//") && !scheme.contains('/') {
                return Err(AddressError::UnknownScheme { scheme });
            }
        }
        Ok(Self::Directory(text.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Directory(dir) => dir.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_memory_are_addresses() {
        assert_eq!("memory:".parse(), Ok(Address::Memory));
        for dir in ["./dir", "dir", "/var/lib/log", "../a:b", "odd:name"] {
            assert_eq!(dir.parse(), Ok(Address::Directory(dir.into())));
        }
    }

    #[test]
    fn engines_that_are_not_built_in_are_named() {
        for (text, scheme) in [
            ("postgres://user:secret@db/x", "postgres"),
            ("nats://h", "nats"),
            ("kafka://h", "kafka"),
            ("HTTPS://h", "https"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            let scheme = scheme.to_owned();
            assert_eq!(error, AddressError::NoEngine { scheme });
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused() {
        assert_eq!("".parse::<Address>(), Err(AddressError::Empty));
        assert_eq!(
            "memory:x".parse::<Address>(),
            Err(AddressError::NamedMemory)
        );
        assert!(matches!(
            "redis://h".parse::<Address>(),
            Err(AddressError::UnknownScheme { .. })
        ));
    }
}
