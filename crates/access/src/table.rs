//! What a server knows of keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::caller::Principal;
use crate::fact::KeyFact;
use crate::key::{Key, KeyHash};
use crate::scope::Scopes;

/// The keys that the log speaks of.
#[derive(Debug, Default)]
pub struct KeyTable {
    keys: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: Option<KeyHash>,
    principal: Arc<Principal>,
    expires_at: Option<u64>,
    is_revoked: bool,
}

/// A key, as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who holds it, and what that may do.
    pub principal: Arc<Principal>,
    /// Until when it is good, in microseconds since 1970, UTC.
    pub expires_at: Option<u64>,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

/// The caller has shown no key that is good. Which it is of these is for whoever runs the server: callers
/// are told no more than that it is not good.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
pub enum Unauthenticated {
    /// There is no key.
    #[error("no key was shown")]
    Missing,
    /// It has not the form of a key, or there is none like it.
    #[error("the key is not known")]
    Unknown,
    /// It is too old.
    #[error("the key has expired")]
    Expired,
    /// It was revoked.
    #[error("the key was revoked")]
    Revoked,
}

anabranch_model::debug_is_words!(Unauthenticated);

impl KeyTable {
    /// Takes in what the log says of the key of this id. A fact may come twice.
    pub fn take_in(&mut self, id: &str, fact: KeyFact) {
        match fact {
            // What was revoked does not come back.
            KeyFact::Added(_) if self.keys.contains_key(id) => {}
            KeyFact::Added(added) => {
                let entry = Entry {
                    hash: KeyHash::parse(&added.hash),
                    principal: Arc::new(Principal {
                        key: id.to_owned(),
                        name: added.name,
                        scopes: added.scopes,
                        until: None,
                    }),
                    expires_at: added.expires_at,
                    is_revoked: false,
                };
                self.keys.insert(id.to_owned(), entry);
            }
            KeyFact::Revoked => {
                let entry = self.keys.entry(id.to_owned()).or_insert_with(|| Entry {
                    hash: None,
                    principal: Arc::new(Principal {
                        key: id.to_owned(),
                        name: String::new(),
                        scopes: Scopes::default(),
                        until: None,
                    }),
                    expires_at: None,
                    is_revoked: true,
                });
                entry.is_revoked = true;
            }
        }
    }

    /// Whose key this is, at this time: the value of a header `Authorization`, and microseconds since
    /// 1970, UTC.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        now: u64,
    ) -> Result<Arc<Principal>, Unauthenticated> {
        let value = authorization.ok_or(Unauthenticated::Missing)?;
        let key = bearer(value).and_then(Key::parse);
        let key = key.ok_or(Unauthenticated::Unknown)?;
        let entry = self.keys.get(key.id()).ok_or(Unauthenticated::Unknown)?;
        // Hashes are compared in the same time wherever they differ.
        if entry.hash != Some(key.hash()) {
            return Err(Unauthenticated::Unknown);
        }
        if entry.is_revoked {
            return Err(Unauthenticated::Revoked);
        }
        if entry.expires_at.is_some_and(|end| end <= now) {
            return Err(Unauthenticated::Expired);
        }
        Ok(entry.principal.clone())
    }

    /// Whether the key of this id lets its holder in at this time, in microseconds since 1970, UTC.
    pub fn is_good(&self, id: &str, now: u64) -> bool {
        self.keys
            .get(id)
            .is_some_and(|entry| !entry.is_revoked && entry.expires_at.is_none_or(|end| now < end))
    }

    /// The key of this id.
    pub fn find(&self, id: &str) -> Option<Known> {
        self.keys.get(id).map(Entry::known)
    }

    /// All keys, by their ids.
    pub fn list(&self) -> Vec<Known> {
        self.keys.values().map(Entry::known).collect()
    }

    /// Whether the log speaks of none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Entry {
    fn known(&self) -> Known {
        Known {
            principal: self.principal.clone(),
            expires_at: self.expires_at,
            is_revoked: self.is_revoked,
        }
    }
}

/// What stands behind the word `Bearer` in a header `Authorization`; the word may be written in any case.
pub fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use anabranch_env::Env;

    use super::*;
    use crate::fact::KeyAdded;

    fn with_key(expires_at: Option<u64>) -> (KeyTable, Key) {
        let key = Key::generate(&*Env::os().rng);
        let mut table = KeyTable::default();
        table.take_in(
            key.id(),
            KeyFact::Added(KeyAdded {
                name: "orders".to_owned(),
                hash: key.hash().to_string(),
                scopes: Scopes::everything(),
                expires_at,
            }),
        );
        (table, key)
    }

    fn shown(table: &KeyTable, key: &Key, now: u64) -> Result<String, Unauthenticated> {
        let principal = table.authenticate(Some(key.bearer().as_bytes()), now)?;
        Ok(principal.name.clone())
    }

    #[test]
    fn a_key_that_was_added_is_known_until_it_is_revoked_for_ever() {
        let (mut table, key) = with_key(None);
        assert_eq!(shown(&table, &key, 1).as_deref(), Ok("orders"));
        table.take_in(key.id(), KeyFact::Revoked);
        assert_eq!(shown(&table, &key, 1), Err(Unauthenticated::Revoked));
        let added = KeyAdded {
            name: "again".to_owned(),
            hash: key.hash().to_string(),
            scopes: Scopes::everything(),
            expires_at: None,
        };
        table.take_in(key.id(), KeyFact::Added(added));
        assert_eq!(shown(&table, &key, 1), Err(Unauthenticated::Revoked));
    }

    #[test]
    fn a_key_is_good_until_it_expires_and_not_in_that_moment() {
        let (table, key) = with_key(Some(100));
        assert!(shown(&table, &key, 99).is_ok());
        assert_eq!(shown(&table, &key, 100), Err(Unauthenticated::Expired));
    }

    #[test]
    fn nothing_but_the_whole_key_lets_its_holder_in() {
        let (table, key) = with_key(None);
        let (other_table, other) = with_key(None);
        let mut forged = key.reveal().to_owned();
        let last = if forged.ends_with('0') { "1" } else { "0" };
        forged.replace_range(forged.len() - 1.., last);
        let unknown = Err(Unauthenticated::Unknown);
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Basic {}", key.reveal()),
            format!("Bearer {}", key.id()),
            format!("Bearer {}", key.hash()),
            format!("Bearer {forged}"),
            other.bearer(),
        ] {
            let shown = table.authenticate(Some(wrong.as_bytes()), 1);
            assert_eq!(shown.map(|_| ()), unknown, "{wrong}");
        }
        assert!(shown(&other_table, &other, 1).is_ok());
        let none = table.authenticate(None, 1).map(|_| ());
        assert_eq!(none, Err(Unauthenticated::Missing));
        let lower = format!("bearer {}", key.reveal());
        assert!(table.authenticate(Some(lower.as_bytes()), 1).is_ok());
    }
}
