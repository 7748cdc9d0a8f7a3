//! Encryption of what servers and clients say to each other, by TLS 1.3 and 1.2.
//!
//! * A server has a [`Certificate`]: a chain and its private key, in two files that are looked at again
//!   while it runs. What is connected goes on with the old one; who comes next is shown the new one.
//! * A client has a [`Trust`]: whose certificates it believes. That is what the machine believes, or the
//!   one CA of a file.
//! * A [`Connector`] makes connections to addresses with `http://` and `https://`; what it makes is a
//!   [`Stream`]. When it refuses a server it says why and what to do.
//!
//! Keys are read from files only, and show themselves nowhere.

mod certificate;
mod connector;
mod expiry;
mod file;
mod stream;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{Certificate, CertificateError, Expiry, Looked, Versions};
pub use connector::{ConnectError, Connector};
pub use stream::Stream;
pub use trust::{CA_VARIABLE, Trust, TrustError};

/// What a client and a server may agree to speak, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn protocols() -> Vec<Vec<u8>> {
    PROTOCOLS.map(<[u8]>::to_vec).to_vec()
}
