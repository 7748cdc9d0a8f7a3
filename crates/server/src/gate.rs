//! The gate: whoever shows no key that is good is refused before anything is read of what they send.

use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Unauthenticated};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use connectrpc::ConnectError;

use crate::audit::Audit;
use crate::calls::{is_call, refuse_call};
use crate::entrance::Origin;
use crate::keys::Keys;
use crate::read::one;
use crate::refusal::Refusal;
use crate::shared::Shared;

/// What a caller is told. Why a key is not good is its owner's business, and not a guesser's.
const WHO: &str = "this server asks who calls, and no key that is good was shown; send Authorization: Bearer ab_…, or a token that this server believes (a program takes it from ANABRANCH_TOKEN_FILE or ANABRANCH_KEY); nothing was changed";

/// What a caller is told who asks more often than one may.
pub const TOO_OFTEN: &str =
    "this caller asks more often than the server answers one caller; nothing was changed";

/// Lets a request in whose caller is known, and says to whoever carries it out who that is.
pub async fn let_in(
    State((shared, public)): State<(Shared, Arc<[String]>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(keys) = &shared.keys else {
        request.extensions_mut().insert(Caller::Anybody);
        return next.run(request).await;
    };
    if public.iter().any(|path| path == request.uri().path()) {
        request.extensions_mut().insert(Caller::Nobody);
        return next.run(request).await;
    }
    let mut asked = Asked {
        audit: shared.audit.as_ref(),
        who: Caller::Nobody,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        is_answered: false,
    };
    let response = of_somebody(&shared, keys, request, next, &mut asked.who).await;
    asked.answered(&response);
    response
}

/// Somebody has asked for something.
struct Asked<'a> {
    audit: Option<&'a Audit>,
    who: Caller,
    method: Method,
    path: String,
    is_answered: bool,
}

impl Asked<'_> {
    fn answered(mut self, response: &Response) {
        self.is_answered = true;
        if let Some(audit) = self.audit {
            audit.heard(&self.who, &self.method, &self.path, response);
        }
    }
}

impl Drop for Asked<'_> {
    /// Whoever asks and goes away before the answer may have done it.
    fn drop(&mut self) {
        if let Some(audit) = self.audit.filter(|_| !self.is_answered) {
            audit.left(&self.who, &self.method, &self.path);
        }
    }
}

/// What is answered to whoever shows a key, and who that is.
async fn of_somebody(
    shared: &Shared,
    keys: &Keys,
    mut request: Request,
    next: Next,
    who: &mut Caller,
) -> Response {
    let now = shared.time.monotonic();
    let origin = request.extensions().get::<Origin>().copied();
    let shown = match one(request.headers(), &header::AUTHORIZATION) {
        Ok(value) => {
            let value = value.map(HeaderValue::as_bytes);
            // Who guesses makes the server work no more. A key is looked up in no time, so callers with one
            // are answered whoever else is at their address.
            let origin = origin.filter(|_| keys.is_dear(value));
            let over = origin.and_then(|origin| shared.origins.is_over(&origin, now));
            if let Some(wait) = over {
                return too_often(request.uri().path(), request.headers(), wait);
            }
            keys.authenticate(value)
        }
        Err(_) => Err(Unauthenticated::Unknown),
    };
    match shown {
        Ok(principal) => {
            // What is not there cannot be passed on or written down.
            request.headers_mut().remove(header::AUTHORIZATION);
            let taken = shared.rates.take(&principal.key, now);
            *who = Caller::Known(principal);
            if let Err(wait) = taken {
                return too_often(request.uri().path(), request.headers(), wait);
            }
            request.extensions_mut().insert(who.clone());
            next.run(request).await
        }
        Err(_) => {
            let (path, headers) = (request.uri().path(), request.headers());
            let taken = origin.map_or(Ok(()), |origin| shared.origins.take(&origin, now));
            match taken {
                Ok(()) => unauthenticated(path, headers),
                Err(wait) => too_often(path, headers, wait),
            }
        }
    }
}

fn unauthenticated(path: &str, headers: &HeaderMap) -> Response {
    let mut response = if is_call(path) {
        refuse_call(headers, &ConnectError::unauthenticated(WHO))
    } else {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", WHO).into_response()
    };
    let asks = HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, asks);
    response
}

/// Tells somebody who asks too often when to come again.
fn too_often(path: &str, headers: &HeaderMap, wait: Duration) -> Response {
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", TOO_OFTEN);
    let mut response = refusal.again_in(wait).into_response();
    if is_call(path) {
        let again = response.headers_mut().remove(header::RETRY_AFTER);
        response = refuse_call(headers, &ConnectError::resource_exhausted(TOO_OFTEN));
        if let Some(again) = again {
            response.headers_mut().insert(header::RETRY_AFTER, again);
        }
    }
    response
}
