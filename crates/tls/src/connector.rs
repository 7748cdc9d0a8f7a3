//! Connections to servers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_env::Env;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, InvalidMessage};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};
use tower_service::Service;

use crate::stream::Stream;
use crate::trust::Trust;

/// There is no connection. Nothing was said to anybody.
#[derive(Error)]
pub enum ConnectError {
    /// Nobody is there.
    #[error("{0}")]
    Nobody(String),
    /// Nobody can be believed here.
    #[error("{0}")]
    Trust(String),
    /// Somebody is there who has not proved to be this server.
    #[error("{host} has not proved who it is: {reason}")]
    Unproved {
        /// Who it should have been.
        host: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

anabranch_model::debug_is_words!(ConnectError);

/// Makes connections: encrypted ones to addresses with `https://`.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    trust: Result<Option<Trust>, String>,
    /// What the two sides may agree to speak, if it is not all that there is.
    protocols: Option<Vec<Vec<u8>>>,
}

impl Connector {
    /// With whom to trust; `None`: as [`Trust::from_env`] says, when an encrypted connection is needed.
    /// Connecting may take so long.
    pub fn new(trust: Option<Trust>, within: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(within));
        tcp.set_nodelay(true);
        // The system may give this end the very port that a server was killed at. With this, that server
        // can listen there again.
        tcp.set_reuse_address(true);
        tcp.enforce_http(false);
        Self {
            tcp,
            trust: Ok(trust),
            protocols: None,
        }
    }

    /// The same, for connections on which one protocol of HTTP alone is spoken: `h2` or `http/1.1`.
    #[must_use]
    pub fn only(mut self, protocol: &str) -> Self {
        self.protocols = Some(vec![protocol.as_bytes().to_vec()]);
        self
    }

    /// Finds out whom to trust, if nobody has said so. It is kept for all connections from now on.
    fn config(&mut self) -> Result<Arc<ClientConfig>, ConnectError> {
        if matches!(self.trust, Ok(None)) {
            let found = Trust::from_env(&Env::os());
            self.trust = found.map(Some).map_err(|error| error.to_string());
        }
        let config = match &self.trust {
            Ok(Some(trust)) => trust.config(),
            Ok(None) => return Err(ConnectError::Trust(String::new())),
            Err(why) => return Err(ConnectError::Trust(why.clone())),
        };
        let Some(protocols) = &self.protocols else {
            return Ok(config);
        };
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clone_from(protocols);
        Ok(Arc::new(config))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(cx).map_err(|error| nobody(&error))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = match uri.scheme_str() {
            Some("https") => match self.config() {
                Ok(config) => Some(config),
                Err(error) => return Box::pin(async { Err(error) }),
            },
            _ => None,
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let stream = self.tcp.call(uri);
        Box::pin(async move {
            let stream = stream.await.map_err(|error| nobody(&error))?.into_inner();
            if is_itself(&stream) {
                return Err(ConnectError::Nobody(format!("nobody listens at {host}")));
            }
            let Some(config) = tls else {
                return Ok(TokioIo::new(Stream::Plain(stream)));
            };
            let unproved = |reason: String| ConnectError::Unproved {
                host: host.clone(),
                reason,
            };
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| unproved("that is no name of a server".to_owned()))?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            let stream = stream.map_err(|error| unproved(reason(&error)))?;
            let stream = Box::new(TlsStream::from(stream));
            Ok(TokioIo::new(Stream::Tls(stream)))
        })
    }
}

/// Whether both ends are one. Where nobody listens, the system may give this end the port that it looks
/// for somebody at, and then it has found itself.
fn is_itself(stream: &TcpStream) -> bool {
    let ends = (stream.local_addr(), stream.peer_addr());
    matches!(ends, (Ok(here), Ok(there)) if here == there)
}

/// Why a handshake has failed, and what to do about it.
fn reason(error: &io::Error) -> String {
    let of_library = error.get_ref().and_then(|error| error.downcast_ref());
    let known = match of_library {
        Some(rustls::Error::InvalidCertificate(wrong)) => of_certificate(wrong),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Some("it answers without encryption; write its address with http://")
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Some("the connection ended while it should have")
        }
        _ => None,
    };
    known.map_or_else(|| error.to_string(), str::to_owned)
}

fn of_certificate(wrong: &CertificateError) -> Option<&'static str> {
    use CertificateError as Wrong;
    Some(match wrong {
        Wrong::UnknownIssuer | Wrong::BadSignature => {
            "its certificate is signed by nobody who is believed here; name the file of its CA with --tls-ca or ANABRANCH_TLS_CA"
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            "its certificate has expired; whoever runs it has to renew it"
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "its certificate is not good yet; look at the clocks"
        }
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            "its certificate is one for other names; write its address as the certificate names it"
        }
        _ => return None,
    })
}

fn nobody(error: &dyn std::error::Error) -> ConnectError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    ConnectError::Nobody(text)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn who_finds_itself_where_nobody_listens_has_found_nobody() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_itself(&socket.connect(own).await.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await;
        assert!(!is_itself(&other.unwrap()));
    }

    #[tokio::test]
    async fn a_server_can_listen_where_a_connection_to_another_has_its_own_end() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", other.local_addr().unwrap());
        let mut connector = Connector::new(None, Duration::from_secs(5));
        let stream = connector.call(url.parse().unwrap()).await.unwrap();
        let Stream::Plain(stream) = stream.into_inner() else {
            panic!("nobody encrypts");
        };
        let own = stream.local_addr().unwrap();
        TcpListener::bind(own).await.unwrap();
    }
}
