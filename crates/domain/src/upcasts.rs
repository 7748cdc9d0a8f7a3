//! How to read what older versions of the program have written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::codec::EventKind;

/// Casts the data of one stored shape to the next; fails with a reason a person can read.
type Change = Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

/// How to read events that older versions of the program have written: steps from one
/// (type, version) to the next, until the present one. What is stored is never changed.
///
/// ```
/// use anabranch_domain::Upcasts;
/// use serde_json::json;
///
/// fn upcasts() -> Upcasts {
///     Upcasts::none()
///         .change("OrderPlaced", 1, |mut data| {
///             let pounds = data["total"].as_f64().ok_or("total is not a number")?;
///             data["total"] = json!((pounds * 1000.0).round() as u64);
///             Ok(data)
///         })
///         .rename(("OrderAccepted", 1), ("OrderConfirmed", 1))
///         .retire("OrderViewed")
/// }
/// ```
#[derive(Clone, Default)]
pub struct Upcasts {
    pub(crate) steps: BTreeMap<(String, u32), Step>,
    repeated: Vec<(String, u32)>,
    pub(crate) retired: BTreeSet<String>,
}

#[derive(Clone)]
pub(crate) struct Step {
    pub to: (String, u32),
    pub change: Option<Change>,
}

impl Upcasts {
    /// No steps: every version is the present one.
    pub fn none() -> Self {
        Self::default()
    }

    /// The data of `name` at `version` becomes, by `change`, that of `version + 1`.
    #[must_use]
    pub fn change(
        self,
        name: &str,
        version: u32,
        change: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let to = (name.to_owned(), version.saturating_add(1));
        self.step(name, version, to, Some(Arc::new(change)))
    }

    /// Events stored as one name and version are read as another, with the same data.
    #[must_use]
    pub fn rename(self, from: (&str, u32), to: (&str, u32)) -> Self {
        self.step(from.0, from.1, (to.0.to_owned(), to.1), None)
    }

    /// Events of this name, of any version, no longer mean anything and are passed over.
    #[must_use]
    pub fn retire(mut self, name: &str) -> Self {
        self.retired.insert(name.to_owned());
        self
    }

    /// The steps of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (from, step) in other.steps {
            self = self.step(&from.0, from.1, step.to, step.change);
        }
        self.repeated.extend(other.repeated);
        self.retired.extend(other.retired);
        self
    }

    fn step(mut self, name: &str, version: u32, to: (String, u32), change: Option<Change>) -> Self {
        let from = (name.to_owned(), version);
        if self
            .steps
            .insert(from.clone(), Step { to, change })
            .is_some()
        {
            self.repeated.push(from);
        }
        self
    }

    /// Every older type and version that it leads on from, ascending.
    pub(crate) fn older(&self) -> impl Iterator<Item = (&str, u32)> {
        self.steps
            .keys()
            .map(|(name, version)| (name.as_str(), *version))
    }

    /// The names that no longer mean anything.
    pub(crate) fn retired(&self) -> impl Iterator<Item = &str> {
        self.retired.iter().map(String::as_str)
    }

    /// Checks that every older version of every kind leads to the present one.
    pub(crate) fn check(&self, kinds: &[EventKind]) -> Result<(), SchemaError> {
        let current: BTreeMap<&str, u32> = kinds.iter().map(|k| (k.name, k.version)).collect();
        self.check_repeated()?;
        if let Some(name) = self
            .retired
            .iter()
            .find(|name| current.contains_key(name.as_str()))
        {
            return Err(SchemaError::RetiredButKnown { name: name.clone() });
        }
        for kind in kinds {
            for version in 1..kind.version {
                if !self.steps.contains_key(&(kind.name.to_owned(), version)) {
                    return Err(SchemaError::Missing {
                        name: kind.name.to_owned(),
                        version,
                        current: kind.version,
                    });
                }
            }
        }
        for (name, version) in self.steps.keys() {
            if current.get(name.as_str()).is_some_and(|now| now <= version) {
                return Err(SchemaError::FromCurrent {
                    name: name.clone(),
                    version: *version,
                });
            }
        }
        for (name, version) in self.steps.keys() {
            self.check_chain(name, *version, &current)?;
        }
        Ok(())
    }

    fn check_repeated(&self) -> Result<(), SchemaError> {
        match self.repeated.first().cloned() {
            Some((name, version)) => Err(SchemaError::Repeated { name, version }),
            None => Ok(()),
        }
    }

    /// Checks that each step leads on in one way and to an end, whatever is known there.
    pub(crate) fn check_steps(&self) -> Result<(), SchemaError> {
        self.check_repeated()?;
        let mut steps = self.steps.keys();
        steps.try_for_each(|(name, version)| self.end_of(name, *version).map(drop))
    }

    /// Where the steps from here end.
    fn end_of(&self, name: &str, version: u32) -> Result<(String, u32), SchemaError> {
        let (name, version) = (name.to_owned(), version);
        let mut at = (name.clone(), version);
        let mut steps = 0;
        while let Some(step) = self.steps.get(&at) {
            at = step.to.clone();
            steps += 1;
            if steps > self.steps.len() {
                return Err(SchemaError::Circle { name, version });
            }
        }
        Ok(at)
    }

    fn check_chain(
        &self,
        name: &str,
        version: u32,
        current: &BTreeMap<&str, u32>,
    ) -> Result<(), SchemaError> {
        let at = self.end_of(name, version)?;
        let name = name.to_owned();
        let ends_well = current.get(at.0.as_str()) == Some(&at.1) || self.retired.contains(&at.0);
        if ends_well {
            Ok(())
        } else {
            Err(SchemaError::Nowhere {
                name,
                version,
                end_name: at.0,
                end_version: at.1,
            })
        }
    }
}

impl fmt::Debug for Upcasts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|((name, version), step)| {
            format!("{name} v{version} → {} v{}", step.to.0, step.to.1)
        });
        f.debug_struct("Upcasts")
            .field("steps", &steps.collect::<Vec<_>>())
            .field("retired", &self.retired)
            .finish()
    }
}

/// Why the kinds of an event type and its upcasts do not fit together. Found before anything
/// is read.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// An older version cannot be read.
    #[error(
        "{name} is at schema version {current}, but no upcast leads from version {version}; add `.change({name:?}, {version}, …)`"
    )]
    Missing {
        /// The type name.
        name: String,
        /// The version from which a step is missing.
        version: u32,
        /// The present version.
        current: u32,
    },
    /// Two steps begin at one place.
    #[error("two upcasts lead from {name} v{version}; keep one")]
    Repeated {
        /// The type name.
        name: String,
        /// The version.
        version: u32,
    },
    /// A step begins at what is already present, or newer.
    #[error(
        "an upcast leads from {name} v{version}, which needs none; raise `#[event(version = …)]` of {name} or remove the upcast"
    )]
    FromCurrent {
        /// The type name.
        name: String,
        /// The version.
        version: u32,
    },
    /// The steps go round in a circle.
    #[error("the upcasts from {name} v{version} go round in a circle")]
    Circle {
        /// The type name.
        name: String,
        /// The version where it begins.
        version: u32,
    },
    /// The steps end at what nobody knows.
    #[error(
        "the upcasts from {name} v{version} end at {end_name} v{end_version}, which this event type does not have"
    )]
    Nowhere {
        /// The type name.
        name: String,
        /// The version where the chain begins.
        version: u32,
        /// The type name where it ends.
        end_name: String,
        /// The version where it ends.
        end_version: u32,
    },
    /// A name is both retired and in use.
    #[error("{name} is retired, but the event type has a variant of this name; remove one of them")]
    RetiredButKnown {
        /// The type name.
        name: String,
    },
    /// A downcast begins where nothing is written, or leads nowhere.
    #[error("the downcast of {name} v{version}: {why}")]
    Downcast {
        /// The type name.
        name: String,
        /// The version where it begins; 0: every one.
        version: u32,
        /// What is wrong.
        why: String,
    },
    /// Two variants have one name.
    #[error("two variants have the event name {name}; each name means one thing")]
    NameTwice {
        /// The name.
        name: String,
    },
}

anabranch_model::debug_is_words!(SchemaError);
