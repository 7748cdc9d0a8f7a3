//! Kinds of events, and why one cannot be written or read.

use thiserror::Error;

/// The name of a kind of event, and the version of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKind {
    /// The type name, for example `OrderPlaced`.
    pub name: &'static str,
    /// The schema version, from 1.
    pub version: u32,
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// A value that cannot be written as JSON.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{what} cannot be written as JSON: {reason}")]
pub struct EncodeError {
    /// What was to be written.
    pub what: &'static str,
    /// Why not.
    pub reason: String,
}

anabranch_model::debug_is_words!(EncodeError);

/// Why stored data could not be read as an event. The stored event is unchanged.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// No kind has this name.
    #[error(
        "unknown event type {name:?}; known here: {known}. Add a variant for it, an upcast that renames it, or retire it"
    )]
    UnknownType {
        /// The stored type name.
        name: String,
        /// The names that are known, separated by commas.
        known: String,
    },
    /// Written by a newer program.
    #[error(
        "{name} has schema version {version}, but this program reads up to {known}: it was written by a newer program; upgrade this one"
    )]
    Newer {
        /// The type name.
        name: String,
        /// The stored schema version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Written by an older program, and nothing leads from there to here.
    #[error(
        "{name} has schema version {version}, but this program has {current} and no upcast from {version}; add one to its `Upcasts`"
    )]
    Older {
        /// The type name.
        name: String,
        /// The stored schema version.
        version: u32,
        /// The version that this program has.
        current: u32,
    },
    /// An upcast failed.
    #[error("the upcast of {name} from schema version {version} failed: {reason}")]
    Upcast {
        /// The type name.
        name: String,
        /// The schema version that it was cast from.
        version: u32,
        /// What it said.
        reason: String,
    },
    /// The data is not what the type says.
    #[error("{name} v{version}: {reason}")]
    Data {
        /// The type name.
        name: String,
        /// The schema version.
        version: u32,
        /// What is wrong, and where.
        reason: String,
    },
}

anabranch_model::debug_is_words!(DecodeError);
