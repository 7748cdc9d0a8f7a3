//! Callers that show a token which somebody else has signed: a JWT.
//!
//! A server has the public keys of whoever signs, from a file ([`Issuer::read`]), which
//! [`Issuer::look`] reads again; nothing is asked of the network. What a token says of itself decides nothing but which of these keys is tried:
//!
//! * the algorithm is the one of the key: EdDSA, ES256 or RS256; no other, and never `none`;
//! * where a key might be found (`jku`, `x5u`, `jwk`, `x5c`) is not looked at;
//! * it has to be from the issuer and for the audience that the server expects, and to say whom it is
//!   about and until when it is good;
//! * its scopes are written as those of keys are; words without a colon mean something to others.
//!
//! Whoever shows a good one is a [`Principal`] until it ends, and no longer: what goes on for long ends
//! with it.

mod keys;
mod provider;
mod token;

use std::sync::Arc;

use anabranch_access::{Principal, Unauthenticated};

pub use keys::{Issuer, IssuerError};
pub use token::{LEEWAY, TOKEN_BYTES_MAX};

impl Issuer {
    /// Whose token this is, at this time in microseconds since 1970, UTC: the value of a header
    /// `Authorization`.
    pub fn authenticate(
        &self,
        authorization: &[u8],
        now: u64,
    ) -> Result<Arc<Principal>, Unauthenticated> {
        let token = anabranch_access::bearer(authorization).ok_or(Unauthenticated::Unknown)?;
        token::principal(self, token, now).map(Arc::new)
    }
}
