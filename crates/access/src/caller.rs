//! Who calls.

use std::sync::Arc;

use thiserror::Error;

use crate::scope::{Scopes, Verb};

/// Whoever holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The id of the key.
    pub key: String,
    /// What the key was made for, in words.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Until when what it has shown is good, in microseconds since 1970, UTC; `None`: for as long as the
    /// log says that its key is.
    pub until: Option<u64>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The server asks nobody who they are, and everybody may everything.
    Anybody,
    /// Somebody who has shown a key.
    Known(Arc<Principal>),
    /// Somebody who may nothing.
    Nobody,
}

/// The caller may not do it. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{who} may not {} {name:?}; the scope {}:{name} would allow it", .verb.name(), .verb.name())]
pub struct Forbidden {
    /// Who asked.
    pub who: String,
    /// What for.
    pub verb: Verb,
    /// Of what.
    pub name: String,
}

anabranch_model::debug_is_words!(Forbidden);

impl Caller {
    /// Whether it may do this.
    pub fn may(&self, verb: Verb, name: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Known(principal) => principal.scopes.allow(verb, name),
            Self::Nobody => false,
        }
    }

    /// Refuses what it may not do.
    pub fn check(&self, verb: Verb, name: &str) -> Result<(), Forbidden> {
        if self.may(verb, name) {
            return Ok(());
        }
        Err(self.forbidden(verb, name))
    }

    /// Refuses who may not do it to all that does not begin with `$`.
    pub fn check_all(&self, verb: Verb) -> Result<(), Forbidden> {
        let may = match self {
            Self::Anybody => true,
            Self::Known(principal) => principal.scopes.allow_all(verb),
            Self::Nobody => false,
        };
        if may {
            return Ok(());
        }
        Err(self.forbidden(verb, "*"))
    }

    /// Refuses who may do it to nothing at all.
    pub fn check_some(&self, verb: Verb) -> Result<(), Forbidden> {
        let may = match self {
            Self::Anybody => true,
            Self::Known(principal) => principal.scopes.allow_some(verb),
            Self::Nobody => false,
        };
        if may {
            return Ok(());
        }
        Err(self.forbidden(verb, "*"))
    }

    /// Refuses who has shown no key.
    pub fn check_known(&self) -> Result<(), Forbidden> {
        match self {
            Self::Anybody | Self::Known(_) => Ok(()),
            Self::Nobody => Err(self.forbidden(Verb::Read, "*")),
        }
    }

    fn forbidden(&self, verb: Verb, name: &str) -> Forbidden {
        Forbidden {
            who: self.name(),
            verb: verb.needed_for(name),
            name: name.to_owned(),
        }
    }

    /// Who it is, in words.
    pub fn name(&self) -> String {
        match self {
            Self::Known(principal) => format!("{} (key {})", principal.name, principal.key),
            Self::Anybody => "anybody".to_owned(),
            Self::Nobody => "nobody".to_owned(),
        }
    }

    /// Whether nothing is asked of it, so that nothing needs to be checked one by one.
    pub fn is_anybody(&self) -> bool {
        matches!(self, Self::Anybody)
    }
}
