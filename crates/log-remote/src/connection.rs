//! The connection to a server, and what becomes of a call that it breaks under.

use std::time::Duration;

use anabranch_log::{Capabilities, Layout, OpenError, ReadError};
use anabranch_rpc::{
    Malformed, PROTOCOL, capabilities_of, layout_of, protocol as p, registry as r,
};
use anabranch_tls::Connector;
use connectrpc::client::{ClientConfig, Http2Connection, SharedHttp2Connection};
use connectrpc::{ConnectError, ErrorCode};
use http::Uri;
use http::header::{AUTHORIZATION, HeaderValue};

use crate::options::Options;

pub type Client = p::LogServiceClient<SharedHttp2Connection>;
pub type RegistryClient = r::RegistryServiceClient<SharedHttp2Connection>;

/// The header that names the log that a request is meant for.
const LOG_HEADER: &str = "anabranch-log";

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is there, and how long that may take.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// How much the server may send of one read that its reader has not taken yet.
const STREAM_WINDOW: u32 = 128 << 10;
/// The same over the connection: as much as HTTP/2 allows, so that readers who have stopped
/// reading hold up nobody else. Each is bounded by its own.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// No message of a server is larger, and none makes more than this out of little.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// The most calls that wait to be sent.
const CALLS_MAX: usize = 1024;

/// When a call that broke is tried again: first, and at the most.
const AGAIN_FIRST: Duration = Duration::from_millis(5);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// A connection that is made when it is needed, and again when it breaks.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    registry: RegistryClient,
    address: String,
    log: String,
    patience: Duration,
}

/// What a server says of its log.
pub struct Described {
    pub log: String,
    pub capabilities: Capabilities,
    pub layout: Layout,
}

/// Why a call has no answer.
pub enum Lost {
    /// The connection: trying again may help.
    Connection(String),
    /// The server refuses, and would again.
    Refused(String),
    /// It refuses what only a wrong caller asks for.
    Unsupported(String),
}

/// Checks an address.
pub fn parse(address: &str) -> Result<Uri, OpenError> {
    let wrong = |what: &str| {
        Err(OpenError::Invalid(format!(
            "{what}; write it as http://127.0.0.1:7400"
        )))
    };
    let Ok(uri) = address.trim().parse::<Uri>() else {
        return wrong("the log's address cannot be read");
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            wrong("the log's address holds a password, which everybody would see")
        }
        (Some("http" | "https"), Some(_))
            if matches!(uri.path(), "" | "/") && uri.query().is_none() =>
        {
            Ok(uri)
        }
        (Some("http" | "https"), Some(_)) => wrong("the address of a server ends with its port"),
        _ => wrong("the log's address names no server"),
    }
}

impl Connection {
    /// A connection to this address. Has to be called on the runtime that drives it.
    pub fn new(uri: &Uri, address: &str, options: &Options) -> Self {
        let connector = Connector::new(options.trust.clone(), CONNECT_WITHIN).only("h2");
        let http = Http2Connection::builder()
            .establishment_timeout(CONNECT_WITHIN)
            .keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .lazy_with_connector(connector, uri.clone())
            .shared(CALLS_MAX);
        let mut config = ClientConfig::new(uri.clone())
            .with_default_max_message_size(MESSAGE_BYTES_MAX)
            .with_default_element_memory_limit(MESSAGE_BYTES_MAX);
        if let Some(key) = &options.key
            && let Ok(mut shown) = HeaderValue::from_str(&key.bearer())
        {
            shown.set_sensitive(true);
            config = config.with_default_header(AUTHORIZATION, shown);
        }
        if let Some(log) = &options.log {
            config = config.with_default_header(LOG_HEADER, log);
        }
        Self {
            registry: RegistryClient::new(http.clone(), config.clone()),
            client: Client::new(http, config),
            address: address.trim_end_matches('/').to_owned(),
            log: options.log.clone().unwrap_or_default(),
            patience: options.patience,
        }
    }

    /// The same, for requests that are meant for this log.
    pub fn of_log(mut self, log: &str) -> Self {
        for config in [self.client.config_mut(), self.registry.config_mut()] {
            *config = config.clone().with_default_header(LOG_HEADER, log);
        }
        self.log = log.to_owned();
        self
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn registry(&self) -> &RegistryClient {
        &self.registry
    }

    pub fn log(&self) -> &str {
        &self.log
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks which log it is. Does not insist: nobody may be there at all.
    pub async fn describe(&self) -> Result<Described, OpenError> {
        let request = p::DescribeRequest {
            protocol: PROTOCOL,
            ..Default::default()
        };
        let unreachable = |reason: String| OpenError::Unreachable {
            address: self.address.clone(),
            reason,
        };
        let answer = match self.client.describe(request).await {
            Ok(answer) => answer.into_owned(),
            Err(error) => {
                return Err(match Lost::of(&error) {
                    Lost::Connection(reason) => unreachable(reason),
                    Lost::Refused(reason) | Lost::Unsupported(reason) => {
                        OpenError::Invalid(format!("{}: {reason}", self.address))
                    }
                });
            }
        };
        if answer.protocol.saturating_add(1) < PROTOCOL || answer.protocol > PROTOCOL {
            return Err(OpenError::Invalid(format!(
                "{}: the server speaks version {} of the protocol, and this program versions {} to {PROTOCOL}; use programs that are one version apart at the most",
                self.address,
                answer.protocol,
                PROTOCOL - 1
            )));
        }
        let capabilities = answer.capabilities.as_option().map(|can| {
            let can = capabilities_of(can)?;
            Ok::<_, Malformed>((can, layout_of(answer.layout.as_option())?))
        });
        match capabilities {
            Some(Ok((capabilities, layout))) => Ok(Described {
                log: answer.log,
                capabilities,
                layout,
            }),
            Some(Err(error)) => Err(unreachable(error.to_string())),
            None => Err(unreachable(
                "it does not say what its log can do".to_owned(),
            )),
        }
    }

    /// Calls, and again while nobody answers, for as long as the patience lasts.
    pub async fn insist<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Lost>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let mut again = Again::new(self.patience);
        loop {
            match call(self.client.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match Lost::of(&error) {
                    Lost::Connection(reason) if !again.wait().await => {
                        return Err(Lost::Connection(self.gone(&reason)));
                    }
                    Lost::Connection(_) => {}
                    refused => return Err(refused),
                },
            }
        }
    }

    /// In words, that nobody has answered for too long.
    pub fn gone(&self, reason: &str) -> String {
        format!(
            "{} has not answered for {:?}: {reason}",
            self.address, self.patience
        )
    }
}

impl Lost {
    /// What an error of a call means.
    pub fn of(error: &ConnectError) -> Self {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = error.source();
        }
        match error.code {
            ErrorCode::Unimplemented => Self::Unsupported(reason),
            ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::PermissionDenied
            | ErrorCode::FailedPrecondition
            | ErrorCode::OutOfRange
            | ErrorCode::DataLoss
            | ErrorCode::Unauthenticated => Self::Refused(reason),
            _ => Self::Connection(reason),
        }
    }

    /// An answer that makes no sense.
    pub fn strange(error: &anabranch_rpc::Malformed) -> Self {
        Self::Refused(format!("the server's answer cannot be read: {error}"))
    }

    /// The same as why events could not be read.
    pub fn of_read(self) -> ReadError {
        match self {
            Self::Connection(reason) => ReadError::Unavailable(reason),
            Self::Unsupported(reason) | Self::Refused(reason) => ReadError::Io {
                what: "asking the server".to_owned(),
                reason,
            },
        }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Connection(reason) | Self::Refused(reason) | Self::Unsupported(reason) => reason,
        }
    }
}

/// When something is tried again: soon at first, then more and more seldom, until the patience
/// is at its end.
pub struct Again {
    next: Duration,
    patience: Duration,
    since: tokio::time::Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server is away in real time; nothing here is simulated"
)]
impl Again {
    pub fn new(patience: Duration) -> Self {
        Self {
            next: AGAIN_FIRST,
            patience,
            since: tokio::time::Instant::now(),
        }
    }

    /// Somebody has answered.
    pub fn reset(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Waits for the next try; false if there is to be none.
    pub async fn wait(&mut self) -> bool {
        if self.since.elapsed() + self.next > self.patience {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(AGAIN_MOST);
        true
    }
}
