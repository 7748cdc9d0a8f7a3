//! What a token says, once it is known who has signed it.

use anabranch_access::{Principal, Scopes, Unauthenticated};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::keys::Issuer;

/// How far the clocks of an issuer and of a server may be apart, in seconds.
pub const LEEWAY: u64 = 30;

/// No token is longer, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// No name of whom a token is about is longer, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

const MICROS: u64 = 1_000_000;

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: Number,
    nbf: Option<Number>,
    /// One issuer, and not one of several.
    #[serde(rename = "iss")]
    _iss: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Whose token it is, at this time in microseconds.
pub fn principal(issuer: &Issuer, token: &str, now: u64) -> Result<Principal, Unauthenticated> {
    let unknown = Unauthenticated::Unknown;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(unknown);
    }
    let header = decode_header(token).map_err(|_| unknown)?;
    // What has to be understood is understood by nobody here.
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(unknown);
    }
    let key = issuer.key(header.kid.as_deref()).ok_or(unknown)?;
    let mut rules = Validation::new(key.algorithm);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules.set_issuer(&[&issuer.issuer]);
    rules.set_audience(&[&issuer.audience]);
    // The library would ask the machine what time it is.
    (rules.validate_exp, rules.validate_nbf) = (false, false);
    let token = decode::<Claims>(token, &key.key, &rules).map_err(|_| unknown)?;
    let claims = token.claims;
    let end = seconds(&claims.exp).ok_or(unknown)?;
    let end = end.saturating_add(LEEWAY).saturating_mul(MICROS);
    if end <= now {
        return Err(Unauthenticated::Expired);
    }
    if let Some(begin) = &claims.nbf {
        let begin = seconds(begin).ok_or(unknown)?;
        if begin.saturating_sub(LEEWAY).saturating_mul(MICROS) > now {
            return Err(unknown);
        }
    }
    let subject = claims.sub;
    let is_plain = !subject.is_empty() && !subject.chars().any(char::is_control);
    if !is_plain || subject.len() > SUBJECT_BYTES_MAX {
        return Err(unknown);
    }
    Ok(Principal {
        key: format!("jwt:{subject}"),
        name: subject,
        scopes: scopes(claims.rest.get(&issuer.scopes)).ok_or(unknown)?,
        until: Some(end),
    })
}

/// Whole seconds since 1970; what is before that is none.
fn seconds(number: &Number) -> Option<u64> {
    let of_fraction = || {
        let seconds = number.as_f64()?;
        (0.0..1e15).contains(&seconds).then_some(seconds as u64)
    };
    number.as_u64().or_else(of_fraction)
}

/// Words in one text, or in several. One with a colon that is no scope makes the token no good: it might
/// have denied something.
fn scopes(claim: Option<&Value>) -> Option<Scopes> {
    let words: Vec<&str> = match claim {
        None => Vec::new(),
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
        Some(_) => return None,
    };
    let ours = words.into_iter().filter(|word| word.contains(':'));
    Scopes::parse(ours).ok()
}
