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
    /// Behind a server, which is another process: `http://127.0.0.1:7400`, or with `https://` one that
    /// encrypts.
    Server(String),
    /// In a database of PostgreSQL: `postgres://user@host:5432/database?schema=anabranch` (feature
    /// `log-postgres`).
    Database(DatabaseAddress),
}

/// Where a database is, and how to get in. Shown without what is secret of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseAddress(String);

impl DatabaseAddress {
    /// All of it, with the password: for whoever opens it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // A password may have any character that an address has.
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (user.split(':').next().map(|user| format!("{user}@")), place),
            None => (None, rest),
        };
        write!(f, "{scheme}://{}", user.unwrap_or_default())?;
        let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
        f.write_str(place)?;
        let mut between = '?';
        for parameter in parameters.split('&') {
            if !parameter.is_empty() && !parameter.starts_with("password=") {
                write!(f, "{between}{parameter}")?;
                between = '&';
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no address. Says nothing of what follows the scheme: it may hold a
/// password.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is no text.
    #[error("the log's address is empty; write a directory, for example ./.anabranch/log")]
    Empty,
    /// An engine that this build does not have.
    #[error(
        "this build has no engine for {scheme}: addresses; it has logs in a directory (./dir), in memory (memory:) and behind a server (http://127.0.0.1:7400)"
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
    /// What a shell would have replaced, or what is nearly the address of a log in memory.
    #[error(
        "{text:?} looks like {meant}, and would be a directory of that very name; write {instead}"
    )]
    LookAlike {
        /// The text.
        text: String,
        /// What it looks like.
        meant: &'static str,
        /// What to write.
        instead: &'static str,
    },
    /// Text after `memory:`.
    #[error("a log in memory has no name; write just memory:")]
    NamedMemory,
}

anabranch_model::debug_is_words!(AddressError);

/// Engines of the platform that a build may have.
const REMOTE_SCHEMES: [&str; 4] = ["kafka", "nats", "postgres", "postgresql"];

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.trim().is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with('~') {
            return Err(AddressError::LookAlike {
                text: text.to_owned(),
                meant: "a home directory, which only a shell puts in",
                instead: "the whole path, or ./~ if that is meant",
            });
        }
        let bare = text.trim().trim_matches(':');
        if bare.eq_ignore_ascii_case("memory") && !text.to_ascii_lowercase().starts_with("memory:")
        {
            return Err(AddressError::LookAlike {
                text: text.to_owned(),
                meant: "a log in memory",
                instead: "memory: for that, or ./memory for a directory",
            });
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let scheme = scheme.to_ascii_lowercase();
            if scheme == "memory" {
                return match rest {
                    "" | "//" => Ok(Self::Memory),
                    _ => Err(AddressError::NamedMemory),
                };
            }
            if matches!(&*scheme, "http" | "https") {
                return Ok(Self::Server(text.trim().to_owned()));
            }
            if cfg!(feature = "log-postgres") && matches!(&*scheme, "postgres" | "postgresql") {
                return Ok(Self::Database(DatabaseAddress(text.trim().to_owned())));
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
            Self::Server(url) => f.write_str(url),
            Self::Database(database) => database.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_memory_and_servers_are_addresses() {
        assert_eq!("memory:".parse(), Ok(Address::Memory));
        for server in ["http://127.0.0.1:7400", "https://log.example:7400"] {
            assert_eq!(server.parse(), Ok(Address::Server(server.to_owned())));
        }
        for dir in ["./dir", "dir", "/var/lib/log", "../a:b", "odd:name"] {
            assert_eq!(dir.parse(), Ok(Address::Directory(dir.into())));
        }
    }

    #[test]
    fn engines_that_are_not_built_in_are_named() {
        for (text, scheme) in [
            #[cfg(not(feature = "log-postgres"))]
            ("postgres://user:secret@db/x", "postgres"),
            ("nats://h", "nats"),
            ("kafka://h", "kafka"),
            ("KAFKA://h", "kafka"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            let scheme = scheme.to_owned();
            assert_eq!(error, AddressError::NoEngine { scheme });
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn an_address_of_a_database_is_shown_without_what_is_secret() {
        for (text, shown) in [
            (
                "postgres://ann:se:c/r?e@t@db:5433/shop?schema=a&password=secret",
                "postgres://ann@db:5433/shop?schema=a",
            ),
            ("postgresql://db/shop", "postgresql://db/shop"),
            (
                "postgres://ann@db/shop?password=secret",
                "postgres://ann@db/shop",
            ),
        ] {
            let address = DatabaseAddress(text.to_owned());
            assert_eq!(address.to_string(), shown);
            assert_eq!(
                format!("{:?}", Address::Database(address)),
                format!("Database({shown})")
            );
        }
    }

    #[test]
    fn what_looks_like_a_home_directory_or_like_memory_makes_no_directory_of_that_name() {
        for text in [
            "~",
            "~/events",
            "~ada/events",
            "memory",
            "Memory",
            " memory ",
            ":memory:",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(matches!(error, AddressError::LookAlike { .. }), "{text}");
        }
        for text in ["./~", "./memory", "a~b", "/memory"] {
            assert_eq!(text.parse(), Ok(Address::Directory(text.into())));
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
