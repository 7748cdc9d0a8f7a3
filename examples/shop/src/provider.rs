//! The payment provider: a little HTTP server outside the shop, slow and failing on demand,
//! and the client that the payments service calls it with.
//!
//! It remembers the key of each request, so a request that comes twice moves money once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch::domain::Rejection;
use anabranch::runtime::{CallContext, CallError, Time};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

/// What the provider has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// What the provider calls it.
    pub reference: String,
}

/// How the provider behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers each request within milliseconds.
    Reliable,
    /// It is slow, fails, answers too late although it has done its work, declines one payment
    /// in fifty, and is away for a moment every few seconds.
    Flaky,
    /// It is away for this long, and reliable from then on.
    DownFor(Duration),
}

/// Why a text names no mood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way for a provider to be; say reliable, flaky or down-for=30s")]
pub struct UnknownMood(String);

impl FromStr for Mood {
    type Err = UnknownMood;

    fn from_str(text: &str) -> Result<Self, UnknownMood> {
        let unknown = || UnknownMood(text.to_owned());
        match text {
            "reliable" => Ok(Self::Reliable),
            "flaky" => Ok(Self::Flaky),
            _ => {
                let seconds = text.strip_prefix("down-for=").ok_or_else(unknown)?;
                let seconds = seconds.strip_suffix('s').unwrap_or(seconds);
                let seconds = seconds.parse().map_err(|_| unknown())?;
                Ok(Self::DownFor(Duration::from_secs(seconds)))
            }
        }
    }
}

/// What is asked of the provider.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    payment: String,
    mills: u64,
}

/// What the provider has done altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// How often it has taken money.
    pub charges: u64,
    /// How much it has taken, in thousandths of a pound.
    pub charged_mills: u64,
    /// How often it has given money back.
    pub refunds: u64,
    /// How much it has given back, in thousandths of a pound.
    pub refunded_mills: u64,
}

struct Provider {
    mood: Mood,
    time: Time,
    opened: Duration,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// What was done, by key.
    done: HashMap<String, Receipt>,
    /// How often each key has come.
    attempts: HashMap<String, u32>,
    ledger: Ledger,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answer {
        after: Duration,
    },
    /// Nothing is done.
    Away,
    /// It is done, and then said to have failed.
    DoneAndFailed,
    /// It is done, and answered too late.
    DoneAndLate,
}

/// Longer than anybody waits.
const TOO_LATE: Duration = Duration::from_millis(1500);

/// How often a flaky provider is away for a moment, and for how long.
const AWAY_EVERY: Duration = Duration::from_secs(4);
const AWAY_FOR: Duration = Duration::from_millis(400);

impl Provider {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, key: &str) -> Fate {
        let open_for = self.time.monotonic().saturating_sub(self.opened);
        match self.mood {
            Mood::Reliable => Fate::Answer {
                after: Duration::ZERO,
            },
            Mood::DownFor(down) if open_for < down => Fate::Away,
            Mood::DownFor(_) => Fate::Answer {
                after: Duration::ZERO,
            },
            Mood::Flaky => {
                let since_away = open_for.as_micros() % AWAY_EVERY.as_micros();
                if open_for >= AWAY_EVERY && since_away < AWAY_FOR.as_micros() {
                    return Fate::Away;
                }
                let attempt = {
                    let mut books = self.books();
                    let attempt = books.attempts.entry(key.to_owned()).or_default();
                    *attempt += 1;
                    *attempt
                };
                let chance = chance(&format!("{key} {attempt}"));
                match chance % 100 {
                    0..4 => Fate::Away,
                    4..7 => Fate::DoneAndFailed,
                    7..9 => Fate::DoneAndLate,
                    _ => Fate::Answer {
                        after: Duration::from_millis(1 + (chance / 100) % 20),
                    },
                }
            }
        }
    }

    /// Whether the customer's bank says no.
    fn declines(&self, payment: &str) -> bool {
        self.mood == Mood::Flaky && chance(payment).is_multiple_of(50)
    }

    /// Moves the money, once for each key.
    fn settle(&self, key: &str, kind: Kind, mills: u64) -> Receipt {
        let mut books = self.books();
        if let Some(receipt) = books.done.get(key) {
            return receipt.clone();
        }
        let ledger = &mut books.ledger;
        let (count, total, letters) = match kind {
            Kind::Charge => (&mut ledger.charges, &mut ledger.charged_mills, "ch"),
            Kind::Refund => (&mut ledger.refunds, &mut ledger.refunded_mills, "re"),
        };
        *count += 1;
        *total += mills;
        let receipt = Receipt {
            reference: format!("{letters}_{:016x}", chance(key)),
        };
        books.done.insert(key.to_owned(), receipt.clone());
        receipt
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Charge,
    Refund,
}

/// The same text has the same chance, so that runs are alike.
fn chance(text: &str) -> u64 {
    anabranch::model::content_hash([text.as_bytes()]) as u64
}

/// Serves the provider on `listener` until the task ends.
pub async fn serve(
    listener: tokio::net::TcpListener,
    mood: Mood,
    time: Time,
) -> std::io::Result<()> {
    let opened = time.monotonic();
    let provider = Arc::new(Provider {
        mood,
        time,
        opened,
        books: Mutex::default(),
    });
    let routes = Router::new()
        .route("/{kind}", post(request))
        .route("/ledger", get(ledger))
        .with_state(provider);
    axum::serve(listener, routes).await
}

async fn ledger(State(provider): State<Arc<Provider>>) -> Json<Ledger> {
    Json(provider.books().ledger)
}

async fn request(
    State(provider): State<Arc<Provider>>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    let kind = match kind.as_str() {
        "charges" => Kind::Charge,
        "refunds" => Kind::Refund,
        _ => return (StatusCode::NOT_FOUND, "charges or refunds").into_response(),
    };
    let key = headers.get("idempotency-key").and_then(|k| k.to_str().ok());
    let Some(key) = key else {
        return (StatusCode::BAD_REQUEST, "say an idempotency-key").into_response();
    };
    let fate = provider.fate(key);
    if fate == Fate::Away {
        return (StatusCode::SERVICE_UNAVAILABLE, "away for a moment").into_response();
    }
    if kind == Kind::Charge && provider.declines(&request.payment) {
        let no = Rejection::new("declined", "the customer's bank has declined the payment");
        return (StatusCode::PAYMENT_REQUIRED, Json(no)).into_response();
    }
    let receipt = provider.settle(key, kind, request.mills);
    match fate {
        Fate::Away | Fate::DoneAndFailed => {
            (StatusCode::INTERNAL_SERVER_ERROR, "something broke").into_response()
        }
        Fate::DoneAndLate => {
            provider.time.sleep(TOO_LATE).await;
            Json(receipt).into_response()
        }
        Fate::Answer { after } => {
            if !after.is_zero() {
                provider.time.sleep(after).await;
            }
            Json(receipt).into_response()
        }
    }
}

/// Calls the provider. Cheap to clone.
#[derive(Clone)]
pub struct ProviderClient {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl ProviderClient {
    /// Calls the provider at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Asks for something under the key of this call, as a part of its trace.
    pub async fn post(
        &self,
        path: &str,
        what: &impl Serialize,
        context: &CallContext,
    ) -> Result<Receipt, CallError> {
        let unsent = |error: String| CallError::Failed(format!("not sent: {error}"));
        let body = serde_json::to_vec(what).map_err(|error| unsent(error.to_string()))?;
        let mut request = hyper::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .header("idempotency-key", context.key.to_string());
        if let Some(trace) = &context.traceparent {
            request = request.header("traceparent", trace);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unsent(error.to_string()))?;
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                return Err(CallError::Failed(format!("no connection: {error}")));
            }
            Err(error) => return Err(CallError::Unknown(error.to_string())),
        };
        let status = response.status();
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(CallError::Unknown(error.to_string())),
        };
        let said = || String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| CallError::Unknown(format!("no receipt: {error}"))),
            StatusCode::PAYMENT_REQUIRED => Err(match serde_json::from_slice(&body) {
                Ok(rejection) => CallError::Refused(rejection),
                Err(_) => CallError::Refused(Rejection::new("declined", said())),
            }),
            StatusCode::SERVICE_UNAVAILABLE => Err(CallError::Failed(said())),
            status if status.is_client_error() => {
                let no = Rejection::new("malformed", format!("{status}: {}", said()));
                Err(CallError::Refused(no))
            }
            status => Err(CallError::Unknown(format!("{status}: {}", said()))),
        }
    }

    /// What the provider has done altogether.
    pub async fn ledger(&self) -> Result<Ledger, CallError> {
        let uri = format!("http://{}/ledger", self.address);
        let uri: hyper::Uri = uri
            .parse()
            .map_err(|error| CallError::Failed(format!("{error}")))?;
        let response = self.client.get(uri).await;
        let response = response.map_err(|error| CallError::Failed(error.to_string()))?;
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| CallError::Failed(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| CallError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_are_told_by_their_names() {
        assert_eq!("flaky".parse(), Ok(Mood::Flaky));
        let half_a_minute = Mood::DownFor(Duration::from_secs(30));
        assert_eq!("down-for=30s".parse(), Ok(half_a_minute));
        for wrong in ["", "down-for=", "down-for=x", "Reliable"] {
            assert!(wrong.parse::<Mood>().is_err(), "{wrong:?}");
        }
    }
}
