//! What stands before every request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use anabranch_access::Listening;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use connectrpc::ConnectError;
use hyper::body::{Body, Frame, SizeHint};

use crate::host::is_loopback;
use crate::read::one;
use crate::refusal::Refusal;
use crate::seal::log_name;
use crate::shared::{Held, Shared};
use crate::{calls, prefer};

const LOG_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::LOG_HEADER);

/// Refuses what a page of a stranger makes a browser send.
pub async fn same_origin(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    // HTTP/2 says in the address what HTTP/1 says in a header.
    let authority = request.uri().authority().map(Authority::as_str);
    match check(request.headers(), authority, shared.listening) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Says that the connection ends if the request was answered before its body had come: what is left
/// of that would be taken for the next request, so the server closes, and the client must not send
/// another one.
pub async fn say_close(request: Request, next: Next) -> Response {
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_read = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| {
        axum::body::Body::new(Watched {
            body,
            is_read: is_read.clone(),
        })
    });
    let mut response = next.run(request).await;
    if !is_read.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A body that says when it was read to its end.
struct Watched {
    body: axum::body::Body,
    is_read: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn check(
    headers: &HeaderMap,
    authority: Option<&str>,
    listening: Listening,
) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(authority).unwrap_or_default();
    // Beyond this machine nobody knows by which names it is known.
    if listening == Listening::Local && !is_loopback(host) {
        // A name that somebody let point to this machine.
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong-host",
            format!("this server answers on loopback names only, not as {host:?}"),
        ));
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if is_own(origin, host) => Ok(()),
        Some(origin) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "other-origin",
            format!("a page of {origin} may not use this server"),
        )),
    }
}

/// Whether a page of this origin came from the server that is called so. A page cannot choose its scheme,
/// and a server has one port for one of the two.
fn is_own(origin: &str, host: &str) -> bool {
    let mut schemes = ["http://", "https://"].into_iter();
    !host.is_empty() && schemes.any(|scheme| origin.strip_prefix(scheme) == Some(host))
}

/// Refuses what is meant for another log, and says in every answer which log it is about. A
/// program that was killed leaves its address behind, and whoever gets its port next would be
/// believed.
pub async fn same_log(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let here = log_name(&shared.seal);
    let path = request.uri().path();
    // It refuses in the words of its own protocol.
    let is_rpc = path.starts_with(calls::LOG_PATH) || path.starts_with(calls::REGISTRY_PATH);
    let mut response = match one(request.headers(), &LOG_HEADER) {
        _ if is_rpc => next.run(request).await,
        Err(refusal) => refusal.into_response(),
        Ok(Some(meant)) if meant.as_bytes() != here.as_bytes() => {
            let mut refusal = Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "other-log",
                "the request is meant for another log than the one that is served here; \
                 nothing was changed",
            );
            refusal.problem.log = Some(here.clone());
            refusal.into_response()
        }
        Ok(_) => next.run(request).await,
    };
    if let Ok(name) = here.parse() {
        response.headers_mut().insert(LOG_HEADER, name);
    }
    response
}

/// Lets so many requests in at a time: what they hold in memory is bounded.
pub async fn admit(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    let response = admitted(&shared, request, next).await;
    drop(held);
    response
}

async fn admitted(shared: &Shared, request: Request, next: Next) -> Response {
    let lanes = &shared.lanes;
    let (lane, which) = match request.uri().path().split('/').nth(1) {
        // Whoever supervises the server is answered however busy it is.
        Some("livez" | "readyz" | "version" | calls::HEALTH) => {
            return next.run(request).await;
        }
        Some("operate" | "openapi.json" | "asyncapi.json" | "metrics") => {
            (&lanes.operators, "requests of operators")
        }
        Some("views") => (&lanes.queries, "queries"),
        Some("events") => (&lanes.calls, "calls of the log"),
        Some("peer") => (&lanes.peers, "requests of other services"),
        Some(calls::LOG) => (&lanes.calls, "calls of the log"),
        Some(calls::REGISTRY) => (&lanes.registry, "calls of the registry"),
        _ if prefer::wait(request.headers()).is_some() => {
            (&lanes.waits, "commands whose client waits for an end")
        }
        _ => (&lanes.commands, "commands"),
    };
    if let Ok(_permit) = lane.try_acquire() {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let full = format!("too many {which} are being answered already; nothing was changed");
    if calls::is_call(path) {
        return calls::refuse_call(request.headers(), &ConnectError::resource_exhausted(full));
    }
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", full)
        .again_in(std::time::Duration::from_millis(250))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(host: &'static str, origin: Option<&'static str>) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        check(&headers, None, Listening::Local).map_err(|refusal| refusal.problem.code)
    }

    #[test]
    fn a_page_of_a_stranger_is_refused() {
        assert_eq!(checked("localhost:80", None), Ok(()));
        assert_eq!(checked("[::1]:80", None), Ok(()));
        let own = Some("http://127.0.0.1:80");
        assert_eq!(checked("127.0.0.1:80", own), Ok(()));
        let other = Some("http://evil.example");
        assert_eq!(
            checked("127.0.0.1:80", other),
            Err("other-origin".to_owned())
        );
        assert_eq!(
            checked("127.0.0.1:80", Some("null")),
            Err("other-origin".to_owned())
        );
        assert_eq!(
            checked("evil.example:80", None),
            Err("wrong-host".to_owned())
        );
        assert_eq!(checked("", None), Err("wrong-host".to_owned()));
    }
}
