//! What types of events a program writes and reads, as values that can be kept and compared.
//!
//! A program describes its types with [`ServiceTypes`]; a log holds what was written
//! ([`Held`]). [`check`] compares the two and names every change that would break somebody.

mod compare;
mod private;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use compare::{Finding, FindingCode, Report, check};
pub use private::{Kept, Privacy, PrivateRead, Reads};
pub use rollout::{ReaderOf, Rollout, Running, check_rollout};

use crate::codec::EventKind;
use crate::downcasts::Downcasts;
use crate::event::Event;
use crate::saga::DefinitionHash;
use crate::upcasts::Upcasts;

pub use crate::shape::{Field, Mismatch, Shape};

/// The types of a whole program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramTypes(pub Vec<ServiceTypes>);

/// The types of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceTypes {
    /// The service's name.
    pub service: String,
    /// What it writes: the events of its entities.
    pub entities: Vec<CategoryTypes>,
    /// What it reads of its own and of others.
    pub readers: Vec<ReaderTypes>,
    /// The processes and sagas, whose journals hold events of the platform.
    pub journals: Vec<String>,
    /// The categories of its entities that are its own business: what it publishes of them stands in
    /// others.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub private: BTreeSet<String>,
    /// The commands that its entities take, by category; older names among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, Vec<String>>,
    /// The definitions on which instances of its sagas may run, by saga.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sagas: BTreeMap<String, Vec<DefinitionHash>>,
}

/// The events of one category of entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryTypes {
    /// The category.
    pub category: String,
    /// Its events.
    pub events: EventTypes,
}

/// What a view, a process or a saga listens to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderTypes {
    /// What it is: `view`, `process` or `saga`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// The categories whose events it gets.
    pub categories: Vec<String>,
    /// The events that it wants of them.
    pub events: EventTypes,
}

/// What one event type of the program knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventTypes {
    /// The kinds that it has.
    pub kinds: Vec<KindTypes>,
    /// Older names and versions that it can read too.
    #[serde(default)]
    pub older: BTreeSet<(String, u32)>,
    /// Names that it passes over.
    #[serde(default)]
    pub retired: BTreeSet<String>,
    /// How older programs read what it writes.
    #[serde(default, skip_serializing_if = "Downcasts::is_empty")]
    pub downcasts: Downcasts,
}

/// One kind of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindTypes {
    /// The type name.
    pub name: String,
    /// The schema version.
    pub version: u32,
    /// What its data looks like.
    pub shape: Shape,
}

impl EventTypes {
    /// What `E` knows.
    pub fn of<E: Event>() -> Self {
        Self {
            downcasts: E::downcasts(),
            ..Self::new(&E::kinds(), &E::upcasts(), &E::shape_of)
        }
    }

    /// What no type parameter reaches is compiled once.
    fn new(kinds: &[EventKind], upcasts: &Upcasts, shape_of: &dyn Fn(&str) -> Shape) -> Self {
        let kinds = kinds.iter().map(|kind| KindTypes {
            name: kind.name.to_owned(),
            version: kind.version,
            shape: shape_of(kind.name),
        });
        let older = upcasts
            .older()
            .map(|(name, version)| (name.to_owned(), version));
        Self {
            kinds: kinds.collect(),
            older: older.collect(),
            retired: upcasts.retired().map(str::to_owned).collect(),
            downcasts: Downcasts::none(),
        }
    }

    /// Whether it reads events of this name and version without what newer programs say.
    pub fn reads(&self, name: &str, version: u32) -> bool {
        self.retired.contains(name)
            || self.older.contains(&(name.to_owned(), version))
            || self.kind(name).is_some_and(|kind| kind.version == version)
    }

    /// The same; without a version, whether it knows the name at any.
    pub(crate) fn knows(&self, name: &str, version: Option<u32>) -> bool {
        match version {
            Some(version) => self.reads(name, version),
            None => {
                self.retired.contains(name)
                    || self.kind(name).is_some()
                    || self.older.iter().any(|(older, _)| older == name)
            }
        }
    }

    /// The kind of this name, if it has one.
    pub fn kind(&self, name: &str) -> Option<&KindTypes> {
        self.kinds.iter().find(|kind| kind.name == name)
    }
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// How many events of each category, type name and version there are.
    pub events: BTreeMap<String, BTreeMap<String, BTreeMap<u32, u64>>>,
    /// What services have said of the types that they write, oldest first, by category.
    pub registered: BTreeMap<String, Vec<Registered>>,
}

/// What a service has said of the types of one category, at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The service.
    pub service: String,
    /// What it writes from then on.
    pub kinds: Vec<KindTypes>,
    /// How older programs read that.
    #[serde(default, skip_serializing_if = "Downcasts::is_empty")]
    pub downcasts: Downcasts,
}
