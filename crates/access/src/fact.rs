//! What the log says of keys.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::KeyHash;
use crate::scope::Scopes;

const ADDED: &str = "$KeyAdded";
const REVOKED: &str = "$KeyRevoked";

/// Something about a key, whose id is the key of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFact {
    /// There is a new one.
    Added(KeyAdded),
    /// It is good for nothing any more, for ever.
    Revoked,
}

/// A new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAdded {
    /// What it is for, in words.
    pub name: String,
    /// What is kept of it.
    pub hash: String,
    /// What its holder may do.
    pub scopes: Scopes,
    /// Until when it is good, in microseconds since 1970, UTC; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// A stored fact cannot be read.
#[derive(Error)]
pub enum FactError {
    /// Of a type that is not known here.
    #[error("events of type {0} are not known; was it written by a newer program?")]
    Type(String),
    /// Its data is not what it should be.
    #[error("its data cannot be read: {0}")]
    Data(#[from] serde_json::Error),
    /// It names no hash.
    #[error("it holds no hash of a key")]
    Hash,
}

anabranch_model::debug_is_words!(FactError);

impl KeyFact {
    /// The type and the data of the event that says it.
    pub fn event(&self) -> Result<(&'static str, Vec<u8>), FactError> {
        Ok(match self {
            Self::Added(added) => (ADDED, serde_json::to_vec(added)?),
            Self::Revoked => (REVOKED, b"{}".to_vec()),
        })
    }

    /// What an event of this type and data says.
    pub fn said_by(event_type: &str, data: &[u8]) -> Result<Self, FactError> {
        match event_type {
            ADDED => {
                let added: KeyAdded = serde_json::from_slice(data)?;
                if KeyHash::parse(&added.hash).is_none() {
                    return Err(FactError::Hash);
                }
                Ok(Self::Added(added))
            }
            REVOKED => Ok(Self::Revoked),
            other => Err(FactError::Type(other.to_owned())),
        }
    }
}
