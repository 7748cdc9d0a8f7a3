//! What a request says: its address, its parameters, its body.

use std::time::Duration;

use anabranch_domain::{Json, StreamId};
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::refusal::Refusal;
use crate::shared::{Held, Shared};

/// `{category}/{key}` of the path; the key may hold slashes.
pub struct Stream(pub StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Stream {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path: Result<Path<(String, String)>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Path((category, key)) = path.map_err(bad_path)?;
        stream(&category, &key).map(Self)
    }
}

/// The stream of this name.
pub fn stream(category: &str, key: &str) -> Result<StreamId, Refusal> {
    StreamId::of(category, key).map_err(|error| Refusal::bad_request("bad-name", error.to_string()))
}

/// The one or the several names in the path.
pub struct Names<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(names)| Self(names)).map_err(bad_path)
    }
}

fn bad_path(rejection: PathRejection) -> Refusal {
    Refusal::bad_request("bad-path", rejection.body_text())
}

/// The parameters behind the `?`, in order.
pub struct Parameters(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query: Result<Query<Vec<(String, String)>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        query
            .map(|Query(all)| Self(all))
            .map_err(|rejection| Refusal::bad_request("bad-parameters", rejection.body_text()))
    }
}

impl Parameters {
    /// Takes the parameter of this name out. Nobody knows which is meant of two.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let mut found = self.0.extract_if(.., |(found, _)| found == name);
        let (first, second) = (found.next(), found.next());
        drop(found);
        if second.is_some() {
            return Err(Refusal::bad_request(
                "bad-parameters",
                format!("the parameter {name:?} stands there more than once"),
            ));
        }
        Ok(first.map(|(_, text)| text))
    }

    /// Takes every parameter of this name out, in order.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let found = self.0.extract_if(.., |(found, _)| found == name);
        found.map(|(_, text)| text).collect()
    }

    /// Takes a parameter out that is a number.
    pub fn take_number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let wrong = |text: &str| {
            Refusal::bad_request(
                "bad-parameters",
                format!("{name}: {text:?} is not a whole number"),
            )
        };
        self.take(name)?
            .map(|text| text.parse().map_err(|_| wrong(&text)))
            .transpose()
    }

    /// Refuses what nobody has taken: a parameter that does nothing is a mistake.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad_request(
                "bad-parameters",
                format!("there is no parameter {name:?} here"),
            )),
        }
    }
}

/// The header of this name. Two of them are refused: a proxy and a client may each have added
/// one, and nobody knows which is meant.
pub fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err(Refusal::bad_request(
            "repeated-header",
            format!("{name} stands there more than once; nothing was changed"),
        )),
    }
}

fn unsupported(detail: String) -> Result<(), Refusal> {
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-encoding",
        detail,
    ))
}

/// Refuses a body that is compressed.
fn check_compression(headers: &HeaderMap) -> Result<(), Refusal> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(value.as_bytes());
        if !encoding.trim().eq_ignore_ascii_case("identity") {
            return unsupported(format!(
                "Content-Encoding: {encoding:?} is not understood; send the body as it is"
            ));
        }
    }
    Ok(())
}

/// Refuses a body whose headers say that it is not JSON in UTF-8 as it stands.
fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    check_compression(headers)?;
    let Some(kind) = one(headers, &header::CONTENT_TYPE)? else {
        return Ok(());
    };
    let kind = String::from_utf8_lossy(kind.as_bytes());
    for parameter in kind.split(';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = value.trim().trim_matches('"');
        let is_known = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !is_known {
            return unsupported(format!(
                "Content-Type: the charset {charset:?} is not understood; JSON is UTF-8"
            ));
        }
    }
    Ok(())
}

/// A body, which is no larger than the log takes as one event's data.
pub struct Content(pub Bytes);

/// What a command or an event may have around its data.
pub const AROUND_BYTES: usize = 4096;

impl FromRequest<Shared> for Content {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        let max = shared.limits.data_bytes_max + AROUND_BYTES;
        body(request, shared, max).await.map(Self)
    }
}

/// A body that is JSON.
pub async fn body(request: Request, shared: &Shared, max: usize) -> Result<Bytes, Refusal> {
    let headers = check_encoding(request.headers());
    whole(request, shared, max, headers).await.map(without_mark)
}

/// A body of any kind, byte for byte.
pub async fn bytes(request: Request, shared: &Shared, max: usize) -> Result<Bytes, Refusal> {
    let headers = check_compression(request.headers());
    whole(request, shared, max, headers).await
}

/// A body, unless its headers are wrong.
async fn whole(
    request: Request,
    shared: &Shared,
    max: usize,
    headers: Result<(), Refusal>,
) -> Result<Bytes, Refusal> {
    let length = one(request.headers(), &header::CONTENT_LENGTH)?;
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let came = async {
        if headers.is_err() || length.is_some_and(|length| length > max as u64) {
            drain(request.into_body()).await;
            return Err(headers.err().unwrap_or_else(|| too_large(max)));
        }
        let held = Held::of(request.extensions());
        collected(request.into_body(), held, shared, max).await
    };
    in_time(shared, came).await
}

/// A body of at most so many bytes. Its end is not waited for once it is too long, or once the bodies
/// of all requests hold too much.
pub async fn collected(
    mut body: Body,
    held: Held,
    shared: &Shared,
    max: usize,
) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::bad_request("bad-body", format!("the body did not come whole: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = whole.len() + data.len();
        if length > max {
            return Err(too_large(max));
        }
        if !held.grow(&shared.lanes, length) {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "overloaded",
                "the bodies of the requests that are being answered are too much already; nothing was changed",
            )
            .again_in(Duration::from_millis(250)));
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// A body, unless it takes longer than a body may.
pub async fn in_time<T>(
    shared: &Shared,
    came: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let late = shared.time.sleep(shared.body_time);
    match select(std::pin::pin!(came), late).await {
        Either::Left((body, _)) => body,
        Either::Right(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow-body",
            format!(
                "the body did not come within {:?}; nothing was changed",
                shared.body_time
            ),
        )
        .again_in(Duration::from_secs(1))),
    }
}

/// The mark that some programs set before UTF-8 is no part of the JSON.
fn without_mark(body: Bytes) -> Bytes {
    match body.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => body.slice_ref(rest),
        None => body,
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

fn too_large(max: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!(
            "the body has more than the {max} bytes that are allowed; store large content elsewhere and send a reference"
        ),
    )
}

impl Content {
    /// The JSON value that the body is; `None` when it is empty.
    pub fn json(&self) -> Result<Option<Json>, Refusal> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if anabranch_model::is_json_too_deep(&self.0) {
            return Err(Refusal::bad_request(
                "bad-json",
                format!(
                    "the body's JSON is nested deeper than {}",
                    anabranch_model::JSON_DEPTH_MAX
                ),
            ));
        }
        Json::from_slice(&self.0)
            .map(Some)
            .map_err(|error| Refusal::bad_request("bad-json", format!("the body: {error}")))
    }

    /// The value that the body is the JSON form of; its default when the body is empty.
    pub fn parse<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        match self.json()? {
            None => Ok(T::default()),
            Some(json) => json
                .parse()
                .map_err(|error| Refusal::bad_request("bad-json", format!("the body: {error}"))),
        }
    }
}

/// `5s`, `250ms` or `1m`; at most `max`.
pub fn duration(name: &str, text: &str, max: Duration) -> Result<Duration, Refusal> {
    let wrong = |what: String| Refusal::bad_request("bad-parameters", format!("{name}: {what}"));
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
