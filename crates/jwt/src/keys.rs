//! Whose tokens are believed, and by which keys they are known.

use std::fmt;
use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use thiserror::Error;

use crate::provider;

/// No file of keys is longer, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Whoever signs tokens that are believed.
pub struct Issuer {
    keys: Vec<Key>,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) scopes: String,
}

/// One of its public keys.
pub(crate) struct Key {
    id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// Nobody's tokens can be believed.
#[derive(Error)]
pub enum IssuerError {
    /// The file cannot be read.
    #[error("the keys in {file} cannot be read: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{file}: {reason}")]
    Keys {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

anabranch_model::debug_is_words!(IssuerError);

impl Issuer {
    /// Who signs with one of the keys in this file, a JSON Web Key Set; names itself so as `iss`, and the
    /// server so as `aud`; and says in a claim of this name what a caller may do.
    pub fn read(
        env: &Env,
        path: &Path,
        issuer: &str,
        audience: &str,
        scopes: &str,
    ) -> Result<Self, IssuerError> {
        let file = path.display().to_string();
        let read = || {
            let file = env.disk.open(path, OpenMode::Read)?;
            let length = file.len()?;
            if length > FILE_BYTES_MAX {
                return Err(io::Error::other("it is too long to hold keys"));
            }
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| IssuerError::File {
            file: file.clone(),
            source,
        })?;
        let wrong = |reason: String| IssuerError::Keys {
            file: file.clone(),
            reason,
        };
        let set: JwkSet = serde_json::from_slice(&bytes)
            .map_err(|_| wrong("it is no JSON Web Key Set, {\"keys\": […]}".to_owned()))?;
        let keys: Result<Vec<_>, _> = set.keys.iter().map(Key::of).collect();
        let keys = keys.map_err(wrong)?;
        for (at, key) in keys.iter().enumerate() {
            if keys.len() > 1 && key.id.is_none() {
                return Err(wrong("one of several keys has no kid".to_owned()));
            }
            if keys[..at].iter().any(|other| other.id == key.id) {
                return Err(wrong("two keys have the same kid".to_owned()));
            }
        }
        if keys.is_empty() {
            return Err(wrong("it holds no key".to_owned()));
        }
        for (what, text) in [
            ("issuer", issuer),
            ("audience", audience),
            ("claim", scopes),
        ] {
            if text.is_empty() {
                return Err(wrong(format!("the {what} has no name")));
            }
        }
        provider::install();
        Ok(Self {
            keys,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            scopes: scopes.to_owned(),
        })
    }

    /// The key that a token names; one that names none may mean the only one.
    pub(crate) fn key(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(_) => self.keys.iter().find(|key| key.id.as_deref() == id),
            None if self.keys.len() == 1 => self.keys.first(),
            None => None,
        }
    }
}

impl Key {
    /// The algorithm follows from the kind of the key.
    fn of(jwk: &Jwk) -> Result<Self, String> {
        let id = jwk.common.key_id.clone();
        let name = id.as_deref().unwrap_or("without kid");
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::OctetKey(_) => {
                return Err(format!(
                    "key {name:?} is a shared secret; whoever can check with it can sign with it"
                ));
            }
            _ => {
                return Err(format!(
                    "key {name:?} is of another kind than Ed25519, P-256 and RSA"
                ));
            }
        };
        let named = jwk.common.key_algorithm;
        if named.is_some_and(|named| named != KeyAlgorithm::from(algorithm)) {
            return Err(format!(
                "key {name:?} is for another algorithm than {algorithm:?}"
            ));
        }
        let use_of = &jwk.common.public_key_use;
        if use_of
            .as_ref()
            .is_some_and(|use_of| *use_of != PublicKeyUse::Signature)
        {
            return Err(format!("key {name:?} is not for signatures"));
        }
        let key = DecodingKey::from_jwk(jwk);
        let key = key.map_err(|error| format!("key {name:?} cannot be used: {error}"))?;
        Ok(Self { id, algorithm, key })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({}, {} keys)", self.issuer, self.keys.len())
    }
}
