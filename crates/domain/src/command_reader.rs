//! Reading commands that older versions of a program have sent.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::codec::EventKind;
use crate::command::{Command, CommandError};
use crate::schema::lifted;
use crate::upcasts::{SchemaError, Upcasts};

/// Reads commands of every version as `C`. Made once, checked when made.
///
/// A command's version stands in its name, behind an `@`; one without is at version 1. Older ones are
/// led on by [`Upcasts`], as events are.
///
/// ```
/// use anabranch_domain::{CommandReader, Upcasts};
/// use serde::{Deserialize, Serialize};
/// use serde_json::json;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum TillCommand {
///     /// Version 1 had `pounds`.
///     #[serde(rename = "Pay@2")]
///     Pay { pence: u64 },
/// }
///
/// let upcasts = Upcasts::none().change("Pay", 1, |data| {
///     let pounds = data["pounds"].as_u64().ok_or("`pounds` is no number")?;
///     Ok(json!({ "pence": pounds * 100 }))
/// });
/// let reader = CommandReader::<TillCommand>::new(upcasts)?;
/// assert_eq!(reader.read("Pay", br#"{"pounds":2}"#)?, TillCommand::Pay { pence: 200 });
/// assert_eq!(reader.read("Pay@2", br#"{"pence":5}"#)?, TillCommand::Pay { pence: 5 });
/// assert_eq!(
///     reader.read("Pay@3", b"{}").unwrap_err().to_string(),
///     "command Pay@3: it has version 3, and this program takes up to 2: it was sent by a newer \
///      program; upgrade this one",
/// );
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct CommandReader<C> {
    upcasts: Upcasts,
    current: BTreeMap<&'static str, u32>,
    command: PhantomData<fn() -> C>,
}

impl<C: Command> CommandReader<C> {
    /// A reader of what `C` takes now and of what these lead from.
    pub fn new(upcasts: Upcasts) -> Result<Self, SchemaError> {
        let named = C::names().iter().map(|&name| split(name));
        let current: BTreeMap<_, _> = named.collect();
        // A struct has no names, and no versions: what older steps lead to is one all the same.
        if current.is_empty() {
            upcasts.check_steps()?;
        } else {
            let kinds = current.iter();
            let kinds = kinds.map(|(&name, &version)| EventKind { name, version });
            upcasts.check(&kinds.collect::<Vec<_>>())?;
        }
        Ok(Self {
            upcasts,
            current,
            command: PhantomData,
        })
    }

    /// A reader of what `C` takes now, which looks at `C` only when a command comes.
    pub fn plain() -> Self {
        Self {
            upcasts: Upcasts::none(),
            current: BTreeMap::new(),
            command: PhantomData,
        }
    }

    /// Every name that it reads, ascending: the present ones, and the older ones that lead there.
    pub fn names(&self) -> Vec<String> {
        let older = self.upcasts.older();
        let older = older.map(|(name, version)| joined(name, version));
        let present = C::names().iter().map(|&name| name.to_owned());
        let mut names: Vec<_> = present.chain(older).collect();
        names.sort();
        names
    }

    /// Reads a command of this name.
    pub fn read(&self, name: &str, data: &[u8]) -> Result<C, CommandError> {
        let (plain, version) = split(name);
        match self.current.get(plain) {
            Some(known) if *known == version => C::from_wire(name, data),
            Some(known) if *known < version => Err(malformed(
                name,
                format!(
                    "it has version {version}, and this program takes up to {known}: it was sent by \
                     a newer program; upgrade this one"
                ),
            )),
            _ if self.upcasts.older().all(|older| older != (plain, version)) => {
                C::from_wire(name, data)
            }
            _ => {
                let led = lifted(&self.upcasts, plain, version, data);
                let led = led.map_err(|error| malformed(name, error.to_string()))?;
                match led {
                    Some(((to, version), data)) => {
                        C::from_wire(&joined(&to, version), data.as_bytes())
                    }
                    None => Err(malformed(name, "nobody takes it any more".to_owned())),
                }
            }
        }
    }
}

fn malformed(name: &str, reason: String) -> CommandError {
    CommandError::Malformed {
        name: name.to_owned(),
        reason,
    }
}

/// The name without its version, and the version.
fn split(name: &str) -> (&str, u32) {
    match name.rsplit_once('@') {
        Some((plain, version)) => match version.parse() {
            Ok(version) => (plain, version),
            Err(_) => (name, 1),
        },
        None => (name, 1),
    }
}

fn joined(name: &str, version: u32) -> String {
    match version {
        1 => name.to_owned(),
        version => format!("{name}@{version}"),
    }
}
