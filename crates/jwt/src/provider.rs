//! The same cryptography as everywhere else, for the library of tokens.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Lets the library use it, from the first time on.
pub fn install() {
    // Who comes second finds the same one.
    PROVIDER.install_default().unwrap_or_default();
}

struct Checks {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Bytes(&'static dyn VerificationAlgorithm, Vec<u8>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => Key::Bytes(&ED25519, key.clone()),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(key)) => {
            Key::Bytes(&ECDSA_P256_SHA256_FIXED, key.clone())
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Key::Rsa(RsaPublicKeyComponents {
                n: n.clone(),
                e: e.clone(),
            })
        }
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(Checks {
        algorithm: *algorithm,
        key,
    }))
}

impl JwtVerifier for Checks {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Checks {
    fn verify(&self, message: &[u8], said: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match &self.key {
            Key::Bytes(algorithm, key) => {
                UnparsedPublicKey::new(*algorithm, key).verify(message, said)
            }
            Key::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, said),
        };
        checked.map_err(|_| signature::Error::new())
    }
}
