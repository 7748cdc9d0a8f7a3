//! Leases, and what proves them.

use anabranch_model::{Version, content_hash};

use super::denied::Denied;

/// A lease of a service: its number is the version of the event that registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub service: String,
    pub number: Version,
}

/// What a token says.
pub struct Proof<'a> {
    pub service: &'a str,
    pub number: Version,
    pub secret: &'a str,
}

impl<'a> Proof<'a> {
    /// Reads a token: the service, the number of the lease, and its secret, between colons.
    pub fn of(token: &'a str) -> Result<Self, Denied> {
        let mut parts = token.rsplitn(3, ':');
        let (secret, number, service) = (parts.next(), parts.next(), parts.next());
        let number = number.and_then(|number| number.parse().ok());
        match (service, number, secret) {
            (Some(service), Some(number), Some(secret)) if token.len() <= TOKEN_BYTES_MAX => {
                Ok(Self {
                    service,
                    number,
                    secret,
                })
            }
            // What was given may be a secret, so it is not shown.
            _ => Err(Denied::Malformed(
                "the lease is none that this server has given; present its token as RegisterService gave it"
                    .to_owned(),
            )),
        }
    }
}

/// The longest token.
const TOKEN_BYTES_MAX: usize = 400;

/// How short and how long a secret may be.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=128;

/// What proves a lease, as one word.
pub fn token(service: &str, number: Version, secret: &str) -> String {
    format!("{service}:{number}:{secret}")
}

/// What the log keeps of a secret: who reads it cannot act by it.
pub fn secret_hash(service: &str, secret: &str) -> String {
    let parts = [
        &b"secret of a lease"[..],
        service.as_bytes(),
        secret.as_bytes(),
    ];
    format!("{:032x}", content_hash(parts))
}

/// Refuses a secret that can be guessed or not be written into a token.
pub fn check_secret(secret: &str) -> Result<(), Denied> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if SECRET_BYTES.contains(&secret.len()) && secret.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Denied::Malformed(
        "the secret has to be 32 to 128 of the characters A-Z a-z 0-9 . _ - ; leave it out, and one is made"
            .to_owned(),
    ))
}
