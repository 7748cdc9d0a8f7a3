//! Reading what older versions of the program have written.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use anabranch_model::EventRef;
use serde_json::Value;

use crate::codec::EventKind;
use crate::downcasts::{Downcasts, IsKnown, Lowered, Newer, Way};
use crate::event::{DecodeError, Event};
use crate::upcasts::{SchemaError, Upcasts};

/// Reads stored events of every version as `E`. Made once, checked when made.
pub struct Reader<E> {
    upcasts: Upcasts,
    newer: Arc<Newer>,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> Reader<E> {
    /// A reader of what `E` knows now and of what its upcasts lead from.
    pub fn new() -> Result<Self, SchemaError> {
        Self::taught(Arc::default())
    }

    /// The same, which also reads newer events as far as `newer` says how.
    pub fn taught(newer: Arc<Newer>) -> Result<Self, SchemaError> {
        Ok(Self {
            upcasts: checked(E::kinds(), E::upcasts(), &E::downcasts())?,
            newer,
            event: PhantomData,
        })
    }

    /// Whether it reads this without what newer programs say.
    fn is_known(&self, name: &str, version: Option<u32>) -> bool {
        let Some(version) = version else {
            return self.has_name(name);
        };
        E::version_of(name).is_some_and(|known| version <= known)
            || self.upcasts.retired.contains(name)
            || self.upcasts.steps.contains_key(&(name.to_owned(), version))
    }

    /// Whether it knows the name itself, at whatever version.
    fn has_name(&self, name: &str) -> bool {
        E::version_of(name).is_some()
            || self.upcasts.retired.contains(name)
            || self.upcasts.steps.keys().any(|(known, _)| known == name)
    }

    /// A stored event as this reader knows it: the event itself, or what newer programs say that it is
    /// for older ones, for which there is `room`; `None` if older ones pass over it.
    pub fn known<'a>(&self, event: &EventRef<'a>, room: &'a mut Lowered) -> Option<EventRef<'a>> {
        let (name, version) = (event.event_type, event.schema_version);
        match E::version_of(name) {
            Some(known) if version <= known => Some(*event),
            _ => lowered(&self.newer, event, room, &|name, version| {
                self.is_known(name, version)
            }),
        }
    }

    /// Every type name that it can read, ascending: the present ones, the older ones that lead
    /// to them, and the retired ones.
    pub fn names(&self) -> Vec<String> {
        let mut names = names(&E::kinds(), &self.upcasts);
        names.extend(self.newer_names());
        names.sort();
        names.dedup();
        names
    }

    /// Whether events of this name can be read.
    pub fn knows(&self, name: &str) -> bool {
        self.has_name(name) || self.newer_names().iter().any(|newer| newer == name)
    }

    fn newer_names(&self) -> Vec<String> {
        self.newer
            .names(&|name, version| self.is_known(name, version))
    }

    /// Reads one stored event; `None` when its type is retired.
    pub fn read(&self, name: &str, version: u32, data: &[u8]) -> Result<Option<E>, DecodeError> {
        match E::version_of(name) {
            Some(known) if known <= version => E::decode(name, version, data).map(Some),
            _ => self.read_older(name, version, data),
        }
    }

    fn read_older(&self, name: &str, version: u32, data: &[u8]) -> Result<Option<E>, DecodeError> {
        match lifted(&self.upcasts, name, version, data)? {
            Some(((name, version), data)) => E::decode(&name, version, data.as_bytes()).map(Some),
            None => Ok(None),
        }
    }
}

// What follows is compiled once, not again for each type of event.

fn checked(
    mut kinds: Vec<EventKind>,
    upcasts: Upcasts,
    downcasts: &Downcasts,
) -> Result<Upcasts, SchemaError> {
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(SchemaError::NameTwice {
            name: pair[0].name.to_owned(),
        });
    }
    upcasts.check(&kinds)?;
    downcasts.check(&kinds)?;
    Ok(upcasts)
}

fn names(kinds: &[EventKind], upcasts: &Upcasts) -> Vec<String> {
    let mut names: BTreeSet<String> = upcasts.retired.clone();
    names.extend(upcasts.steps.keys().map(|(name, _)| name.clone()));
    names.extend(kinds.iter().map(|kind| kind.name.to_owned()));
    names.into_iter().collect()
}

/// A newer event as it is known; as it is if nothing leads there.
fn lowered<'a>(
    newer: &Newer,
    event: &EventRef<'a>,
    room: &'a mut Lowered,
    is_known: &IsKnown<'_>,
) -> Option<EventRef<'a>> {
    let Some(downcasts) = newer.of(event.category()) else {
        return Some(*event);
    };
    match downcasts.way(event.event_type, event.schema_version, is_known) {
        Some(Way::PassedOver) => None,
        Some(Way::To {
            name,
            version,
            steps,
        }) if !steps.is_empty() => {
            let Some(lowered) = Lowered::make(name, version, &steps, event.data) else {
                return Some(*event);
            };
            *room = lowered;
            Some(EventRef {
                event_type: &room.name,
                schema_version: room.version,
                data: &room.data,
                ..*event
            })
        }
        Some(Way::To { .. }) | None => Some(*event),
    }
}

/// The name and the version of a type.
type NameAndVersion = (String, u32);

/// Leads older data on to its present name and version; `None` when its type is retired.
pub(crate) fn lifted(
    upcasts: &Upcasts,
    name: &str,
    version: u32,
    data: &[u8],
) -> Result<Option<(NameAndVersion, String)>, DecodeError> {
    if upcasts.retired.contains(name) {
        return Ok(None);
    }
    let mut at = (name.to_owned(), version);
    let mut value: Value = serde_json::from_slice(data).map_err(|e| DecodeError::Data {
        name: name.to_owned(),
        version,
        reason: e.to_string(),
    })?;
    while let Some(step) = upcasts.steps.get(&at) {
        if let Some(change) = &step.change {
            value = change(value).map_err(|reason| DecodeError::Upcast {
                name: at.0.clone(),
                version: at.1,
                reason,
            })?;
        }
        at = step.to.clone();
    }
    if upcasts.retired.contains(&at.0) {
        return Ok(None);
    }
    Ok(Some((at, value.to_string())))
}

impl<E> fmt::Debug for Reader<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("upcasts", &self.upcasts)
            .finish()
    }
}
