//! Reading what older versions of the program have written.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde_json::Value;

use crate::codec::EventKind;
use crate::event::{DecodeError, Event};
use crate::upcasts::{SchemaError, Upcasts};

/// Reads stored events of every version as `E`. Made once, checked when made.
pub struct Reader<E> {
    upcasts: Upcasts,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> Reader<E> {
    /// A reader of what `E` knows now and of what its upcasts lead from.
    pub fn new() -> Result<Self, SchemaError> {
        Ok(Self {
            upcasts: checked(E::kinds(), E::upcasts())?,
            event: PhantomData,
        })
    }

    /// Every type name that it can read, ascending: the present ones, the older ones that lead
    /// to them, and the retired ones.
    pub fn names(&self) -> Vec<String> {
        names(&E::kinds(), &self.upcasts)
    }

    /// Whether events of this name can be read.
    pub fn knows(&self, name: &str) -> bool {
        E::version_of(name).is_some()
            || self.upcasts.retired.contains(name)
            || self.upcasts.steps.keys().any(|(known, _)| known == name)
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

fn checked(mut kinds: Vec<EventKind>, upcasts: Upcasts) -> Result<Upcasts, SchemaError> {
    kinds.sort_unstable();
    if let Some(pair) = kinds.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(SchemaError::NameTwice {
            name: pair[0].name.to_owned(),
        });
    }
    upcasts.check(&kinds)?;
    Ok(upcasts)
}

fn names(kinds: &[EventKind], upcasts: &Upcasts) -> Vec<String> {
    let mut names: BTreeSet<String> = upcasts.retired.clone();
    names.extend(upcasts.steps.keys().map(|(name, _)| name.clone()));
    names.extend(kinds.iter().map(|kind| kind.name.to_owned()));
    names.into_iter().collect()
}

/// The name and the version of a type.
type NameAndVersion = (String, u32);

/// Leads older data on to its present name and version; `None` when its type is retired.
fn lifted(
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
