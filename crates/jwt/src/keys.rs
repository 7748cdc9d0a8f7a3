//! Whose tokens are believed, and by which keys they are known.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anabranch_env::{Disk, Env, OpenMode};
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
    disk: Arc<dyn Disk>,
    file: PathBuf,
    known: RwLock<Known>,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) scopes: String,
}

/// What the file held when it was read last.
struct Known {
    bytes: Vec<u8>,
    keys: Vec<Arc<Key>>,
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
        let known = Known::read(&*env.disk, path)?;
        for (what, text) in [
            ("issuer", issuer),
            ("audience", audience),
            ("claim", scopes),
        ] {
            if text.is_empty() {
                return Err(IssuerError::Keys {
                    file: path.display().to_string(),
                    reason: format!("the {what} has no name"),
                });
            }
        }
        provider::install();
        Ok(Self {
            disk: env.disk.clone(),
            file: path.to_owned(),
            known: RwLock::new(known),
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            scopes: scopes.to_owned(),
        })
    }

    /// Reads the file again, and says whether it holds other keys than before: these are believed from now
    /// on, and no others. Where it cannot be used, the keys from before stay.
    pub fn look(&self) -> Result<bool, IssuerError> {
        let read = Known::read(&*self.disk, &self.file)?;
        if read.bytes == self.known().bytes {
            return Ok(false);
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(true)
    }

    /// The key that a token names; one that names none may mean the only one.
    pub(crate) fn key(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let known = self.known();
        match id {
            Some(_) => known.keys.iter().find(|key| key.id.as_deref() == id),
            None if known.keys.len() == 1 => known.keys.first(),
            None => None,
        }
        .cloned()
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read(disk: &dyn Disk, path: &Path) -> Result<Self, IssuerError> {
        let file = path.display().to_string();
        let bytes = whole(disk, path).map_err(|source| IssuerError::File {
            file: file.clone(),
            source,
        })?;
        let keys = keys(&bytes).map_err(|reason| IssuerError::Keys { file, reason })?;
        Ok(Self { bytes, keys })
    }
}

fn whole(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long to hold keys"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The keys of a JSON Web Key Set, or why it cannot be used.
fn keys(bytes: &[u8]) -> Result<Vec<Arc<Key>>, String> {
    let set: JwkSet = serde_json::from_slice(bytes)
        .map_err(|_| "it is no JSON Web Key Set, {\"keys\": […]}".to_owned())?;
    let mut keys: Vec<Arc<Key>> = Vec::with_capacity(set.keys.len());
    for jwk in &set.keys {
        let key = Key::of(jwk)?;
        if set.keys.len() > 1 && key.id.is_none() {
            return Err("one of several keys has no kid".to_owned());
        }
        if keys.iter().any(|other| other.id == key.id) {
            return Err("two keys have the same kid".to_owned());
        }
        keys.push(Arc::new(key));
    }
    if keys.is_empty() {
        return Err("it holds no key".to_owned());
    }
    Ok(keys)
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
        let keys = self.known().keys.len();
        write!(f, "Issuer({}, {keys} keys)", self.issuer)
    }
}
