//! What a caller has.

use std::fmt;
use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode, Rng};
use thiserror::Error;

const PREFIX: &str = "ab";
/// How long an id and a secret are, in hexadecimal digits.
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;

/// No file that holds a key is longer, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 10;

/// What the hash of a key is made for, so that it is the hash of nothing else.
const HASH_CONTEXT: &str = "anabranch 2026-11 hash of an API key";

/// Names the file that holds a key.
pub const KEY_FILE_VARIABLE: &str = "ANABRANCH_TOKEN_FILE";
/// Holds a key.
pub const KEY_VARIABLE: &str = "ANABRANCH_KEY";

/// What a caller has: `ab_<id>_<secret>`. Whoever knows it may do what it may, so it shows itself
/// nowhere: its `Debug` has only its id.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
}

/// What is kept of a key: enough to know it again, and no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(blake3::Hash);

/// A key cannot be used. Nothing of it is said.
#[derive(Error)]
pub enum KeyError {
    /// It has another form.
    #[error("{place} holds no key such as ab_…_…; make one with `anabranch key add`")]
    Malformed {
        /// Where it was found.
        place: String,
    },
    /// The file cannot be read.
    #[error("the key in {file} cannot be read: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

anabranch_model::debug_is_words!(KeyError);

impl Key {
    /// A new one, of 256 random bits.
    pub fn generate(rng: &dyn Rng) -> Self {
        let id = rng.next_u64() >> (64 - 4 * ID_DIGITS);
        let (high, low) = (rng.next_u128(), rng.next_u128());
        Self {
            text: format!(
                "{PREFIX}_{id:0width$x}_{high:032x}{low:032x}",
                width = ID_DIGITS
            ),
        }
    }

    /// The key that this is the text of.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('_');
        let is_key = parts.next() == Some(PREFIX)
            && parts.next().is_some_and(|id| is_hex(id, ID_DIGITS))
            && parts
                .next()
                .is_some_and(|secret| is_hex(secret, SECRET_DIGITS))
            && parts.next().is_none();
        is_key.then(|| Self {
            text: text.to_owned(),
        })
    }

    /// The key that this is the text of, or a token that somebody else has signed (a JWT), which is shown
    /// in the same way.
    fn shown(text: &str) -> Option<Self> {
        let is_part = |part: &str| {
            let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !part.is_empty() && part.bytes().all(is_digit)
        };
        let is_token = text.split('.').count() == 3 && text.split('.').all(is_part);
        let token = || {
            is_token.then(|| Self {
                text: text.to_owned(),
            })
        };
        Self::parse(text).or_else(token)
    }

    /// The key in this file, alone on its only line.
    pub fn read(env: &Env, path: &Path) -> Result<Self, KeyError> {
        let place = path.display().to_string();
        let read = || {
            let file = env.disk.open(path, OpenMode::Read)?;
            let length = file.len()?;
            if length > FILE_BYTES_MAX {
                return Err(io::Error::other("it is too long to be one"));
            }
            let mut text = vec![0; length as usize];
            file.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        let text = read().map_err(|source| KeyError::File {
            file: place.clone(),
            source,
        })?;
        let text = str::from_utf8(&text).unwrap_or_default();
        Self::shown(text.trim()).ok_or(KeyError::Malformed { place })
    }

    /// The key of this process: the one in the file that `ANABRANCH_TOKEN_FILE` names, or else the one in
    /// `ANABRANCH_KEY`; `None` if neither is set.
    pub fn from_env(env: &Env) -> Result<Option<Self>, KeyError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = set(KEY_FILE_VARIABLE) {
            return Self::read(env, Path::new(&path)).map(Some);
        }
        let Some(text) = set(KEY_VARIABLE) else {
            return Ok(None);
        };
        let key = text.to_str().and_then(|text| Self::shown(text.trim()));
        key.map(Some).ok_or_else(|| KeyError::Malformed {
            place: KEY_VARIABLE.to_owned(),
        })
    }

    /// By what it is named. It is no secret.
    pub fn id(&self) -> &str {
        let key = self.text.strip_prefix("ab_");
        key.and_then(|key| key.split('_').next()).unwrap_or("token")
    }

    /// All of it, to hand it to whoever shall have it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The header `Authorization` of a request of its holder.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.text)
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        let hash = blake3::derive_key(HASH_CONTEXT, self.text.as_bytes());
        KeyHash(blake3::Hash::from_bytes(hash))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}…)", self.id())
    }
}

impl KeyHash {
    /// The hash that this is the text of.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anabranch_env::sim::{SimClock, SimDisk};

    use super::*;

    fn key(number: u64) -> Key {
        Key::parse(&format!("ab_{number:012x}_{number:064x}")).unwrap()
    }

    #[test]
    fn a_new_key_has_256_random_bits_and_is_read_again() {
        let rng = Env::os().rng;
        let (one, other) = (Key::generate(&*rng), Key::generate(&*rng));
        assert_ne!(one.reveal()[16..], other.reveal()[16..]);
        assert_eq!(one.reveal().len(), 2 + 1 + ID_DIGITS + 1 + SECRET_DIGITS);
        assert_eq!(Key::parse(one.reveal()), Some(one));
    }

    #[test]
    fn what_is_no_key_is_none() {
        let good = key(7).text;
        for wrong in [
            "",
            "ab",
            "ab__",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!("{good}_0"),
            &good.to_uppercase(),
        ] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_shows_its_secret_neither_in_debug_nor_by_its_hash() {
        let key = key(0x5ec2e7);
        let secret = key.text.split('_').nth(2).unwrap();
        for shown in [
            format!("{key:?}"),
            format!("{:?}", key.hash()),
            key.hash().to_string(),
        ] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(KeyHash::parse(&key.hash().to_string()) == Some(key.hash()));
        assert!(key.hash() != self::key(1).hash());
    }

    #[test]
    fn a_token_is_shown_as_a_key_is_and_nothing_of_it_in_debug() {
        let token = Key::shown("ab_c.de_f.gh-i").unwrap();
        assert_eq!(token.bearer(), "Bearer ab_c.de_f.gh-i");
        let token = Key::shown("eyJ_hbGc.secret_claims.sig").unwrap();
        assert_eq!(format!("{token:?}"), "Key(token…)");
        for wrong in ["", "a.b", "a.b.c.d", "a..c", "a.b c.d"] {
            assert_eq!(Key::shown(wrong), None, "{wrong}");
        }
        assert_eq!(Key::parse("a.b.c"), None);
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_and_not_quoted() {
        let env = SimDisk::new(1, Arc::new(SimClock::new())).env(1);
        let path = Path::new("/key");
        let file = env.disk.open(path, OpenMode::Create).unwrap();
        file.write_all_at(b"hunter2\n", 0).unwrap();
        let error = Key::read(&env, path).unwrap_err().to_string();
        assert!(
            error.contains("/key") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
