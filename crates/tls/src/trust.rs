//! Whose certificates a client believes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::Env;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::{file, protocols, provider};

/// Names the file of the CA that is believed, and no other is.
pub const CA_VARIABLE: &str = "ANABRANCH_TLS_CA";

/// Names the file of all that a machine believes, as other programs know it too.
const MACHINE_VARIABLE: &str = "SSL_CERT_FILE";

/// Where machines keep what they believe.
const MACHINE_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Whose certificates are believed. Cheap to clone.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

/// Nobody can be believed.
#[derive(Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("the CA in {file} cannot be read: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no certificate.
    #[error(
        "{file} holds no certificate; it has to be PEM, and begins with -----BEGIN CERTIFICATE"
    )]
    Empty {
        /// The file.
        file: String,
    },
    /// This machine has none of the usual files.
    #[error(
        "this machine says nowhere whose certificates it believes; name the CA of the server with --tls-ca FILE or {CA_VARIABLE}"
    )]
    Nobody,
    /// The library takes none of it.
    #[error("no connection can be encrypted: {0}")]
    Library(#[from] rustls::Error),
}

anabranch_model::debug_is_words!(TrustError);

impl Trust {
    /// The CA in this file of PEM, which may hold several, and nobody else.
    pub fn of_file(env: &Env, path: &Path) -> Result<Self, TrustError> {
        let name = || path.display().to_string();
        let failed = |source| TrustError::File {
            file: name(),
            source,
        };
        let bytes = file::read(&*env.disk, path).map_err(failed)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let certificate = certificate.map_err(|_| TrustError::Empty { file: name() })?;
            roots.add(certificate)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty { file: name() });
        }
        Self::of(roots)
    }

    /// Whom this machine believes: the file that `SSL_CERT_FILE` names, or one of the usual ones.
    pub fn of_machine(env: &Env) -> Result<Self, TrustError> {
        let named = std::env::var_os(MACHINE_VARIABLE).map(PathBuf::from);
        let usual = || {
            let mut usual = MACHINE_FILES.iter().map(PathBuf::from);
            usual.find(|path| matches!(env.disk.exists(path), Ok(true)))
        };
        let path = named.or_else(usual).ok_or(TrustError::Nobody)?;
        let failed = |source| TrustError::File {
            file: path.display().to_string(),
            source,
        };
        let bytes = file::read(&*env.disk, &path).map_err(failed)?;
        let mut roots = RootCertStore::empty();
        // What this library does not understand is believed by nobody.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
        if roots.is_empty() {
            return Err(TrustError::Nobody);
        }
        Self::of(roots)
    }

    /// The same; nobody, if this machine says nowhere whom it believes.
    pub fn of_machine_if_any(env: &Env) -> Result<Self, TrustError> {
        match Self::of_machine(env) {
            Err(TrustError::Nobody) => Self::of(RootCertStore::empty()),
            found => found,
        }
    }

    /// The CA that `ANABRANCH_TLS_CA` names, or else whom this machine believes.
    pub fn from_env(env: &Env) -> Result<Self, TrustError> {
        match std::env::var_os(CA_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::of_file(env, Path::new(&path)),
            None => Self::of_machine(env),
        }
    }

    fn of(roots: RootCertStore) -> Result<Self, TrustError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols();
        Ok(Self(Arc::new(config)))
    }

    /// What the library needs.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}
