//! What a request says: its address, its parameters, its body.

use std::time::Duration;

use anabranch_domain::{Json, StreamId};
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::problem::Problem;
use crate::server::Shared;

/// `{category}/{key}` of the path; the key may hold slashes.
pub struct Stream(pub StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Stream {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<(String, String)>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Path((category, key)) = path.map_err(bad_path)?;
        stream(&category, &key).map(Self)
    }
}

/// The stream of this name.
pub fn stream(category: &str, key: &str) -> Result<StreamId, Problem> {
    StreamId::of(category, key).map_err(|error| Problem::bad_request("bad-name", error.to_string()))
}

/// The one or the several names in the path.
pub struct Names<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(names)| Self(names)).map_err(bad_path)
    }
}

fn bad_path(rejection: PathRejection) -> Problem {
    Problem::bad_request("bad-path", rejection.body_text())
}

/// The parameters behind the `?`, in order.
pub struct Parameters(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<Vec<(String, String)>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        query
            .map(|Query(all)| Self(all))
            .map_err(|rejection| Problem::bad_request("bad-parameters", rejection.body_text()))
    }
}

impl Parameters {
    /// Takes the parameter of this name out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes a parameter out that is a number.
    pub fn take_number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let wrong = |text: &str| {
            Problem::bad_request(
                "bad-parameters",
                format!("{name}: {text:?} is not a whole number"),
            )
        };
        self.take(name)
            .map(|text| text.parse().map_err(|_| wrong(&text)))
            .transpose()
    }

    /// Refuses what nobody has taken: a parameter that does nothing is a mistake.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad_request(
                "bad-parameters",
                format!("there is no parameter {name:?} here"),
            )),
        }
    }
}

/// A body, which is no larger than the log takes as one event's data.
pub struct Content(pub Bytes);

/// What a command may have around its data.
const AROUND_BYTES: usize = 4096;

impl FromRequest<Shared> for Content {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Problem> {
        let max = shared.limits.data_bytes_max + AROUND_BYTES;
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > max as u64) {
            drain(request.into_body()).await;
            return Err(too_large(max));
        }
        // The end of the body is not waited for once it is too long.
        let limited: Limited<Body> = Limited::new(request.into_body(), max);
        match limited.collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large(max)),
            Err(error) => Err(Problem::bad_request(
                "bad-body",
                format!("the body did not come whole: {error}"),
            )),
        }
    }
}

/// Lets the rest of a body pass, of which nothing is kept: a client that is still sending
/// would not see an answer. One that sends far more is cut off.
async fn drain(mut body: Body) {
    const DRAIN_BYTES: usize = 64 << 20;
    let mut passed = 0;
    while passed < DRAIN_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        passed += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!(
            "the body has more than the {max} bytes that are allowed; store large content elsewhere and send a reference"
        ),
    )
}

impl Content {
    /// The JSON value that the body is; `None` when it is empty.
    pub fn json(&self) -> Result<Option<Json>, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if anabranch_model::is_json_too_deep(&self.0) {
            return Err(Problem::bad_request(
                "bad-json",
                format!(
                    "the body's JSON is nested deeper than {}",
                    anabranch_model::JSON_DEPTH_MAX
                ),
            ));
        }
        Json::from_slice(&self.0)
            .map(Some)
            .map_err(|error| Problem::bad_request("bad-json", format!("the body: {error}")))
    }

    /// The value that the body is the JSON form of; its default when the body is empty.
    pub fn parse<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        match self.json()? {
            None => Ok(T::default()),
            Some(json) => json
                .parse()
                .map_err(|error| Problem::bad_request("bad-json", format!("the body: {error}"))),
        }
    }
}

/// `5s`, `250ms` or `1m`; at most `max`.
pub fn duration(name: &str, text: &str, max: Duration) -> Result<Duration, Problem> {
    let wrong = |what: String| Problem::bad_request("bad-parameters", format!("{name}: {what}"));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => {
            return Err(wrong(format!(
                "{text:?} is no duration such as 250ms, 5s or 1m"
            )));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| wrong(format!("{text:?} is no duration such as 250ms, 5s or 1m")))?;
    let duration = Duration::from_millis(number.saturating_mul(unit_ms));
    if duration > max {
        return Err(wrong(format!(
            "{text} is longer than {max:?}, the most there is"
        )));
    }
    Ok(duration)
}
