//! A small client: one request, one connection.

use std::time::Duration;

use anabranch_access::Key;
use anabranch_runtime::Time;
use anabranch_tls::{Connector, Trust};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use serde_json::Value;
use thiserror::Error;
use tower_service::Service as _;

/// The largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Longer than any answer takes.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Asks one server.
#[derive(Debug, Clone)]
pub struct Client {
    scheme: &'static str,
    authority: String,
    time: TimeOf,
    /// The log that is meant, whoever answers there.
    log: Option<String>,
    /// What it shows of itself.
    key: Option<Key>,
    /// Whose certificates it believes; `None`: as the environment says.
    trust: Option<Trust>,
}

#[derive(Clone)]
struct TimeOf(Time);

impl std::fmt::Debug for TimeOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

/// How something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing is changed.
    Get,
    /// Something may be changed.
    Post,
}

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// Its number, for example 200.
    pub fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether what was asked for was done.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }
}

impl PartialEq<u16> for Status {
    fn eq(&self, number: &u16) -> bool {
        self.0 == *number
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: Status,
    /// The headers: names in small letters, and texts.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Error)]
pub enum ClientError {
    /// Did not happen: not an address.
    #[error("{0:?} is not an address such as http://127.0.0.1:4077")]
    Address(String),
    /// Did not happen: an address that holds a user or a password. Nothing of it is quoted.
    #[error(
        "an address holds no user and no password; a program takes its key from ANABRANCH_TOKEN_FILE"
    )]
    Secret,
    /// Did not happen: nobody is there.
    #[error("nothing answers at {address}: {reason}")]
    Nobody {
        /// Where.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// May have happened: the connection ended before the answer was whole.
    #[error("{address} did not answer whole: {reason}")]
    Broken {
        /// Where.
        address: String,
        /// What went wrong.
        reason: String,
    },
}

anabranch_model::debug_is_words!(ClientError);

impl Client {
    /// A client of the server at this address.
    pub fn new(url: &str, time: Time) -> Result<Self, ClientError> {
        if url.contains('@') {
            return Err(ClientError::Secret);
        }
        let wrong = || ClientError::Address(url.to_owned());
        let parsed: Uri = url.trim().parse().map_err(|_| wrong())?;
        let (scheme, port) = match parsed.scheme_str() {
            Some("http") => ("http", 80),
            Some("https") => ("https", 443),
            _ => return Err(wrong()),
        };
        let plain = matches!(parsed.path(), "" | "/") && parsed.query().is_none();
        match parsed.authority() {
            Some(authority) if plain => Ok(Self {
                scheme,
                authority: match authority.port() {
                    Some(_) => authority.to_string(),
                    None => format!("{authority}:{port}"),
                },
                time: TimeOf(time),
                log: None,
                key: None,
                trust: None,
            }),
            _ => Err(wrong()),
        }
    }

    /// The same, for requests that are meant for this log: a server of another one refuses them.
    #[must_use]
    pub fn of_log(mut self, log: Option<String>) -> Self {
        self.log = log;
        self
    }

    /// The same, which shows this key to servers that ask who calls.
    #[must_use]
    pub fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self
    }

    /// The same, which believes these certificates. If nothing is said, those that
    /// [`Trust::from_env`](anabranch_tls::Trust::from_env) finds.
    #[must_use]
    pub fn with_trust(mut self, trust: Option<Trust>) -> Self {
        self.trust = trust;
        self
    }

    /// Where it asks.
    pub fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Whether it asks the same machine in the same way as another one: by its name, not by its port.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host() == other.host()
    }

    fn host(&self) -> Option<String> {
        let (host, _) = self.authority.rsplit_once(':')?;
        Some(host.to_ascii_lowercase())
    }

    /// Whether it shows a key.
    pub fn shows_key(&self) -> bool {
        self.key.is_some()
    }

    /// Asks for what stands at this path; see [`path`].
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        self.send(Method::Get, path, &[], Bytes::new()).await
    }

    /// Sends a body to this path.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Reply, ClientError> {
        self.send(Method::Post, path, &[], body.into()).await
    }

    /// Sends a request with these headers; its body is JSON if they say nothing of it.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, ClientError> {
        let asked = Box::pin(self.ask(method, path, headers, body));
        match select(asked, self.time.0.sleep(TIMEOUT)).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => Err(self.broken(format!("it took longer than {TIMEOUT:?}"))),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, ClientError> {
        let nobody = |error: &dyn std::fmt::Display| ClientError::Nobody {
            address: self.address(),
            reason: error.to_string(),
        };
        let mut request = Request::builder()
            .method(match method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
            })
            .uri(path)
            .header(header::HOST, &self.authority);
        let is_kind = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("content-type");
        if !headers.iter().any(is_kind) {
            request = request.header(header::CONTENT_TYPE, anabranch_wire::JSON);
        }
        if let Some(log) = &self.log {
            request = request.header(anabranch_wire::LOG_HEADER, log);
        }
        if let Some(key) = &self.key {
            let mut shown = HeaderValue::from_str(&key.bearer()).map_err(|e| nobody(&e))?;
            shown.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, shown);
        }
        for (name, value) in headers {
            let name = name.parse::<HeaderName>().map_err(|e| nobody(&e))?;
            let value = HeaderValue::from_str(value).map_err(|e| nobody(&e))?;
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| nobody(&e))?;
        let server: Uri = self.address().parse().map_err(|e| nobody(&e))?;
        let mut connector = Connector::new(self.trust.clone(), CONNECT_WITHIN).only("http/1.1");
        let stream = connector.call(server).await;
        let stream = stream.map_err(|e| nobody(&e))?;
        let handshake = http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|e| nobody(&e))?;
        // Its errors come out of the request as well.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let reply = async {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Reply {
                status: Status(parts.status.as_u16()),
                headers: parts
                    .headers
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.to_string(), value.to_str().ok()?.to_owned()))
                    })
                    .collect(),
                body: body.to_bytes(),
            })
        };
        let reply = reply.await;
        connection.abort();
        reply.map_err(|error| self.broken(error.to_string()))
    }

    fn broken(&self, reason: String) -> ClientError {
        ClientError::Broken {
            address: self.address(),
            reason,
        }
    }
}

impl Reply {
    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(found, _)| found == name);
        found.next().map(|(_, text)| text.as_str())
    }
}

/// A path of these parts, each of which may hold any character, with these parameters.
///
/// ```
/// use anabranch_server::client::path;
///
/// let path = path(&["commands", "order", "a/b c"], &[("type", "PlaceOrder")]);
/// assert_eq!(path, "/commands/order/a%2Fb%20c?type=PlaceOrder");
/// ```
pub fn path(parts: &[&str], parameters: &[(&str, &str)]) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        encode(part, &mut path);
    }
    for (at, (name, text)) in parameters.iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        encode(name, &mut path);
        path.push('=');
        encode(text, &mut path);
    }
    path
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, ClientError> {
        let env = anabranch_env::Env::os();
        Client::new(url, Time::of(&env))
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_quoted() {
        for url in [
            "http://me:hunter2@127.0.0.1:1",
            "http://me:hunter2@x/y",
            "hunter2@",
        ] {
            let error = client(url).unwrap_err().to_string();
            assert!(error.contains("no password"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn clients_are_beside_each_other_by_scheme_and_host_whatever_the_port() {
        let log = client("https://log.example:7400").unwrap();
        for (url, expected) in [
            ("https://LOG.example", true),
            ("https://log.example:1", true),
            ("http://log.example:7400", false),
            ("https://log.example.evil.example:7400", false),
            ("https://[::1]:7400", false),
        ] {
            assert_eq!(client(url).unwrap().is_beside(&log), expected, "{url}");
        }
    }
}
