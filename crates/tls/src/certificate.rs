//! What a server shows of itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_env::Disk;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ServerConfig, SupportedProtocolVersion};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::stream::Stream;
use crate::{expiry, file, protocols, provider};

/// How long before its end a certificate is worth a word, in seconds.
const SOON: u64 = 14 * 24 * 3600;

/// The first byte of whoever begins to encrypt.
const HANDSHAKE: u8 = 0x16;

/// What somebody is told who does not encrypt.
const ENCRYPT: &str = "this server encrypts; write its address with https://";

/// A certificate and its private key, from two files that may be replaced while the server runs.
pub struct Certificate {
    disk: Arc<dyn Disk>,
    chain: PathBuf,
    key: PathBuf,
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
}

/// A server has nothing to show. Nothing was opened.
#[derive(Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{what} {file} cannot be read: {source}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold that. Nothing of it is quoted.
    #[error("{file} holds no {what} as PEM")]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: String,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("the certificate in {chain} and the key in {key} cannot be used: {reason}")]
    Mismatch {
        /// The file of the certificate.
        chain: String,
        /// The file of the key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// It is good no longer.
    #[error("the certificate in {file} has expired; renew it")]
    Expired {
        /// The file.
        file: String,
    },
}

anabranch_model::debug_is_words!(CertificateError);

/// How long a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For long, or it does not say.
    Good,
    /// For two weeks at most.
    Soon {
        /// How long, in seconds.
        left: u64,
    },
    /// No longer. Clients refuse it.
    Expired,
}

/// What looking at the files again has come to.
#[derive(Debug)]
pub enum Looked {
    /// They hold what they held.
    Same,
    /// They hold another certificate, which whoever comes next is shown.
    Renewed,
    /// They cannot be used. The certificate from before stays.
    Failed(CertificateError),
}

/// What connections are shown.
struct Shown(Mutex<Pair>);

struct Pair {
    certified: Arc<CertifiedKey>,
    /// Seconds since 1970, UTC.
    not_after: Option<u64>,
}

impl Pair {
    fn has_expired(&self, now: u64) -> bool {
        self.not_after.is_some_and(|end| end <= now)
    }
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// TLS 1.3.
    #[default]
    Tls13,
    /// TLS 1.3, and TLS 1.2 with clients that know nothing newer.
    Tls13And12,
}

impl Versions {
    fn known(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls13 => const { &[&TLS13] },
            Self::Tls13And12 => rustls::ALL_VERSIONS,
        }
    }
}

impl Certificate {
    /// The chain of certificates in one file and the private key in another, both PEM. `now` is in seconds
    /// since 1970, UTC: what has expired is refused.
    pub fn open(
        disk: Arc<dyn Disk>,
        chain: &Path,
        key: &Path,
        versions: Versions,
        now: u64,
    ) -> Result<Self, CertificateError> {
        let pair = read(&*disk, chain, key)?;
        if pair.has_expired(now) {
            return Err(expired(chain));
        }
        let shown = Arc::new(Shown(Mutex::new(pair)));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions.known())
            .map_err(|error| mismatch(chain, key, &error))?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = protocols();
        Ok(Self {
            disk,
            chain: chain.to_owned(),
            key: key.to_owned(),
            shown,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Looks at the files again. `now` is in seconds since 1970, UTC: another certificate that has expired is
    /// refused.
    pub fn look(&self, now: u64) -> Looked {
        let pair = match read(&*self.disk, &self.chain, &self.key) {
            Ok(pair) => pair,
            Err(error) => return Looked::Failed(error),
        };
        let mut shown = self.shown.pair();
        if shown.certified.cert == pair.certified.cert {
            return Looked::Same;
        }
        if pair.has_expired(now) {
            return Looked::Failed(expired(&self.chain));
        }
        *shown = pair;
        Looked::Renewed
    }

    /// When it ends, in seconds since 1970, UTC; `None` if it does not say.
    pub fn not_after(&self) -> Option<u64> {
        self.shown.pair().not_after
    }

    /// How it stands at this time, in seconds since 1970, UTC.
    pub fn expiry(&self, now: u64) -> Expiry {
        match self.not_after() {
            Some(end) if end <= now => Expiry::Expired,
            Some(end) if end - now <= SOON => Expiry::Soon { left: end - now },
            _ => Expiry::Good,
        }
    }

    /// Begins to encrypt with somebody who has connected. Who speaks HTTP without encryption is told so.
    /// Takes as long as the other side does: the caller has to bound it.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let mut first = [0; 3];
        let said = stream.peek(&mut first).await?;
        if said > 0 && first[0] != HANDSHAKE {
            tell(&stream, &first[..said]).await?;
            return Err(io::Error::other("the client does not encrypt"));
        }
        let stream = self.acceptor.accept(stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::from(stream))))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.chain.display())
    }
}

impl Shown {
    fn pair(&self) -> MutexGuard<'_, Pair> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().certified.clone())
    }
}

/// Tells somebody who has begun like this that nothing is said here without encryption.
async fn tell(stream: &TcpStream, begins: &[u8]) -> io::Result<()> {
    let answer = match begins {
        b"PRI" => http2_answer(),
        _ => http1_answer(),
    };
    stream.writable().await?;
    // It fits into what the system buffers of a connection that is new.
    stream.try_write(&answer)?;
    // What has come and is not read would turn the end into a reset, which loses the answer.
    read_away(|unread| stream.try_read(unread));
    Ok(())
}

/// Who goes on sending for so many rounds does not wait for an answer.
const ROUNDS_MAX: usize = 64;

fn read_away(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) {
    let mut unread = [0; 4096];
    for _ in 0..ROUNDS_MAX {
        if !matches!(read(&mut unread), Ok(1..)) {
            return;
        }
    }
}

fn http1_answer() -> Vec<u8> {
    let length = ENCRYPT.len() + 1;
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n";
    format!("{head}content-length: {length}\r\n\r\n{ENCRYPT}\n").into_bytes()
}

/// Settings, and then that the connection ends because it is not secure enough.
fn http2_answer() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const INADEQUATE_SECURITY: u8 = 12;
    let length = (8 + ENCRYPT.len()) as u8;
    let mut answer = vec![0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
    answer.extend([0, 0, length, GOAWAY, 0, 0, 0, 0, 0]);
    answer.extend([0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY]);
    answer.extend(ENCRYPT.as_bytes());
    answer
}

fn read(disk: &dyn Disk, chain: &Path, key: &Path) -> Result<Pair, CertificateError> {
    const CHAIN: &str = "certificate";
    const KEY: &str = "private key";
    let file = |what: &'static str, path: &Path| {
        file::read(disk, path).map_err(|source| CertificateError::File {
            what,
            file: path.display().to_string(),
            source,
        })
    };
    let empty = |what: &'static str, path: &Path| CertificateError::Empty {
        what,
        file: path.display().to_string(),
    };
    let bytes = file(CHAIN, chain)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|_| empty(CHAIN, chain))?;
    let first = certificates.first().ok_or_else(|| empty(CHAIN, chain))?;
    let not_after = expiry::not_after(first);
    let secret = PrivateKeyDer::from_pem_slice(&file(KEY, key)?);
    let secret = secret.map_err(|_| empty(KEY, key))?;
    let signs = any_supported_type(&secret).map_err(|error| mismatch(chain, key, &error))?;
    let certified = CertifiedKey::new(certificates, signs);
    match certified.keys_match() {
        // Of a kind whose public half cannot be told from the private one.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(mismatch(chain, key, &error)),
    }
    Ok(Pair {
        certified: Arc::new(certified),
        not_after,
    })
}

fn expired(chain: &Path) -> CertificateError {
    let file = chain.display().to_string();
    CertificateError::Expired { file }
}

fn mismatch(chain: &Path, key: &Path, error: &rustls::Error) -> CertificateError {
    CertificateError::Mismatch {
        chain: chain.display().to_string(),
        key: key.display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_sends_without_end_is_not_read_to_its_end() {
        let mut rounds = 0;
        read_away(|_| {
            rounds += 1;
            Ok(usize::from(rounds < 10_000))
        });
        assert_eq!(rounds, ROUNDS_MAX);
    }
}
