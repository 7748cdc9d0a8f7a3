//! What a client has written and seen, carried by itself from request to request.

use anabranch_model::{Cut, Session};
use axum::http::{HeaderMap, HeaderValue};

use crate::read::one;
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::shared::Shared;

/// The session of a request; one without a token has done nothing.
pub(crate) async fn session_of(shared: &Shared, headers: &HeaderMap) -> Result<Session, Refusal> {
    let Some(token) = one(headers, &TOKEN_HEADER)? else {
        return Ok(Session::new());
    };
    let token = token
        .to_str()
        .map_err(|_| Refusal::bad_request("bad-token", "Anabranch-Token: this is no token"))?;
    let session = shared.seal.open(token)?;
    session.check_within(&shared.log.head().await?)?;
    Ok(session)
}

/// The header of an answer to this session.
pub(crate) fn header_of(shared: &Shared, session: &Session) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(&shared.seal.seal(session))
        .map_err(|_| Refusal::internal("the token has no header form"))
}

/// The client was told of something that was durable by now, and nothing says where it stands:
/// what it asks for next includes all there was.
pub(crate) async fn was_told(shared: &Shared, session: &mut Session) -> Result<(), Refusal> {
    session.read(&shared.log.head().await?, &Cut::start());
    Ok(())
}
