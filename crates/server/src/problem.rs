//! Errors as problem details.

use std::time::Duration;

use anabranch_log::ReadError;
use anabranch_model::TokenError;
use anabranch_runtime::SendError;
use anabranch_runtime::view::{OperateError, QueryError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Why a request was not done, as RFC 9457 has it: `application/problem+json`.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Whether anything was changed.
    pub happened: Happened,
    /// When to try again, if that makes sense.
    pub retry_after: Option<Duration>,
    /// What else programs may want to know.
    pub more: Map<String, Value>,
}

/// Whether what was asked for has happened though there is no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Nothing was changed, for sure.
    No,
    /// It may have been done. Sending it again with the same id tells.
    Maybe,
}

impl Problem {
    /// A problem of which nothing more is known; nothing was changed.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            happened: Happened::No,
            retry_after: None,
            more: Map::new(),
        }
    }

    /// The request itself is wrong.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Not now; nothing was changed.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).again_in(AGAIN)
    }

    /// Something that has no reason to fail did.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The same, saying when to try again.
    #[must_use]
    pub fn again_in(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn to_json(&self) -> Value {
        let mut all = self.more.clone();
        let happened = match self.happened {
            Happened::No => "no",
            Happened::Maybe => "maybe",
        };
        all.insert(
            "type".to_owned(),
            json!(format!("urn:anabranch:problem:{}", self.code)),
        );
        all.insert("title".to_owned(), json!(self.code.replace('-', " ")));
        all.insert("status".to_owned(), json!(self.status.as_u16()));
        all.insert("code".to_owned(), json!(self.code));
        all.insert("detail".to_owned(), json!(self.detail));
        all.insert("happened".to_owned(), json!(happened));
        if let Some(wait) = self.retry_after {
            all.insert("retry_after_ms".to_owned(), json!(wait.as_millis() as u64));
        }
        Value::Object(all)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(wait) = self.retry_after {
            // The header counts whole seconds; the member has it to the millisecond.
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// When to try again, where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let status = match &error {
            SendError::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SendError::VersionMismatch { .. } => StatusCode::PRECONDITION_FAILED,
            SendError::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            SendError::Expired
            | SendError::Parked { .. }
            | SendError::Contended { .. }
            | SendError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            SendError::Panicked { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            SendError::Invalid(_) | SendError::Malformed(_) => StatusCode::BAD_REQUEST,
            SendError::IdTaken { .. } => StatusCode::CONFLICT,
            SendError::NotHosted { .. } => StatusCode::NOT_FOUND,
            SendError::Unknown { .. } => StatusCode::GATEWAY_TIMEOUT,
        };
        let mut problem = Self::new(status, error.code(), error.to_string());
        if !error.did_not_happen() {
            problem.happened = Happened::Maybe;
        }
        if error.is_passing() {
            problem.retry_after = Some(AGAIN);
        }
        match &error {
            SendError::Rejected(rejection) => {
                problem.detail = rejection.message.clone();
                problem.with("rejection", json!(rejection))
            }
            SendError::VersionMismatch { actual, .. } => problem.with("actual", json!(actual)),
            SendError::Overloaded { retry_after, .. } => problem.again_in(*retry_after),
            SendError::Unavailable {
                retry_after: Some(wait),
                ..
            } => problem.again_in(*wait),
            _ => problem,
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (status, code) = match &error {
            QueryError::NotReached { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not-reached"),
            QueryError::BeyondHead { .. } => (StatusCode::BAD_REQUEST, "token-beyond-head"),
            QueryError::Building { .. } => (StatusCode::SERVICE_UNAVAILABLE, "building"),
            QueryError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-query"),
            QueryError::Malformed { .. } => (StatusCode::BAD_REQUEST, "malformed"),
            QueryError::Failed { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "query-failed"),
            QueryError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
        };
        let problem = Self::new(status, code, error.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            problem.again_in(AGAIN)
        } else {
            problem
        }
    }
}

impl From<OperateError> for Problem {
    fn from(error: OperateError) -> Self {
        let (status, code) = match &error {
            OperateError::NotNow(_) => (StatusCode::CONFLICT, "not-now"),
            OperateError::Unknown(_) => (StatusCode::NOT_FOUND, "not-found"),
            OperateError::Poison(_) => (StatusCode::CONFLICT, "poison"),
            OperateError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match &error {
            TokenError::BeyondHead { .. } => "token-beyond-head",
            TokenError::NewerEpoch { .. } => "token-newer-map",
            _ => "bad-token",
        };
        Self::bad_request(code, format!("Anabranch-Token: {error}"))
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "damaged",
                error.to_string(),
            ),
            _ => Self::unavailable(format!("the log: {error}")),
        }
    }
}
