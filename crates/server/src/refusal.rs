//! Errors as problem details.

use std::time::Duration;

use anabranch_log::{AppendError, ReadError};
use anabranch_model::TokenError;
use anabranch_peer::problem;
use anabranch_runtime::view::{OperateError, QueryError};
use anabranch_runtime::{SendError, port};
use anabranch_wire::{Happened, PROBLEM_JSON, Problem};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The header that holds a token, both ways.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::TOKEN_HEADER);

/// A problem on its way to a client.
#[derive(Debug)]
pub struct Refusal {
    pub problem: Box<Problem>,
    /// What the client has been told counts as seen.
    pub token: Option<HeaderValue>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            token: None,
        }
    }
}

impl Refusal {
    /// A problem of which nothing more is known; nothing was changed.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Problem::new(status.as_u16(), code, detail).into()
    }

    /// The request itself is wrong.
    pub fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// There is no such thing.
    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Not now; nothing was changed.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).again_in(AGAIN)
    }

    /// It does not fit what is.
    pub fn not_now(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "not-now", detail)
    }

    /// Something that has no reason to fail did.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The same, saying when to try again.
    #[must_use]
    pub fn again_in(mut self, wait: Duration) -> Self {
        self.problem.retry_after_ms = Some(wait.as_millis() as u64);
        self
    }

    /// The same, naming the command that it is about.
    #[must_use]
    pub fn of_command(mut self, id: impl ToString) -> Self {
        self.problem.command = Some(id.to_string());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { problem, token } = self;
        // A status is one of ours, and a problem has a JSON form: both are checked by tests.
        let status = StatusCode::from_u16(problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let content_type = HeaderValue::from_static(PROBLEM_JSON);
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(wait_ms) = problem.retry_after_ms {
            // The header counts whole seconds; the member has it to the millisecond.
            let value = HeaderValue::from(wait_ms.div_ceil(1000).max(1));
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if let Some(token) = token {
            response.headers_mut().insert(TOKEN_HEADER, token);
        }
        response
    }
}

/// When to try again, where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        problem::of_send(&error).into()
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        problem::of_query(&error).into()
    }
}

impl From<port::Problem> for Refusal {
    fn from(error: port::Problem) -> Self {
        problem::of(&error).into()
    }
}

impl From<OperateError> for Refusal {
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

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let code = match &error {
            TokenError::BeyondHead { .. } => "token-beyond-head",
            TokenError::NewerEpoch { .. } => "token-newer-map",
            TokenError::OlderEpoch { .. } => "token-older-map",
            _ => "bad-token",
        };
        Self::bad_request(code, format!("Anabranch-Token: {error}"))
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let status = match (&error, error.code()) {
            (_, "too-large") => StatusCode::PAYLOAD_TOO_LARGE,
            (_, "id-taken" | "partly-written") => StatusCode::CONFLICT,
            (_, "not-owner" | "read-only") => StatusCode::FORBIDDEN,
            (AppendError::Rejected(_), _) => StatusCode::BAD_REQUEST,
            (
                AppendError::Conflict { .. }
                | AppendError::Untold { .. }
                | AppendError::Matched { .. },
                _,
            ) => StatusCode::CONFLICT,
            (AppendError::Unavailable { .. }, _) => StatusCode::SERVICE_UNAVAILABLE,
            (AppendError::Unknown { .. }, _) => StatusCode::GATEWAY_TIMEOUT,
        };
        let mut refusal = Self::new(status, error.code(), error.to_string());
        match error {
            AppendError::Unavailable { retry_after, .. } => {
                refusal.again_in(retry_after.unwrap_or(AGAIN))
            }
            AppendError::Unknown { .. } => {
                refusal.problem.happened = Happened::Maybe;
                refusal.again_in(AGAIN)
            }
            _ => refusal,
        }
    }
}

impl From<ReadError> for Refusal {
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
