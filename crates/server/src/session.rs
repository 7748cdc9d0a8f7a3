//! What a client has written and seen, carried by itself from request to request.

use anabranch_event_json::parse_cut;
use anabranch_model::{Cut, Position, Session, TokenSeal};
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
    // The log may be far: it is asked only about what nobody here has seen of it.
    if !shared.fleet.has_seen(&shared.log, session.seen()) {
        session.check_within(&shared.log.head().await?)?;
    }
    Ok(session)
}

/// The header of an answer to this session.
pub(crate) fn header_of(shared: &Shared, session: &Session) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(&shared.seal.seal(session))
        .map_err(|_| Refusal::internal("the token has no header form"))
}

/// The place in the log that a text names: a token, such as the id of an event that was sent; or
/// how many events there were before it, such as `0:42`; or `head`, which is `head`.
pub(crate) fn place_of(
    shared: &Shared,
    name: &str,
    text: &str,
    head: &Cut,
) -> Result<Cut, Refusal> {
    let wrong = |code: &str, what: String| {
        let hint = "a place is the id of an event as it was sent, a position such as 0:42, or head";
        Refusal::bad_request(code, format!("{name}: {what}; {hint}"))
    };
    let partitions = shared.log.capabilities().partitions;
    let positions = text
        .split(',')
        .filter_map(|part| part.parse::<Position>().ok());
    let mut elsewhere = positions.filter(|position| position.partition.0 >= partitions);
    if let Some(position) = elsewhere.next() {
        return Err(wrong(
            "bad-place",
            no_partition(position.partition.0, partitions),
        ));
    }
    let cut = match (text, parse_cut(text)) {
        ("head", _) => return Ok(head.clone()),
        (_, Some(cut)) => cut,
        (token, None) => {
            // Rounded up, it would pass over events.
            let session = shared.seal.open_place(token);
            let session = session.map_err(|error| wrong("bad-place", error.to_string()))?;
            session.seen().clone()
        }
    };
    if head.covers(&cut) {
        return Ok(cut);
    }
    let what = format!(
        "{cut} lies beyond the log's head {head}: it was read from another log, or events were lost"
    );
    Err(wrong("place-beyond-head", what))
}

/// Says that a log has no such partition. A cut does not tell: with none of its events, it is the
/// start of the log.
pub(crate) fn no_partition(partition: u32, partitions: u32) -> String {
    format!("the log has no partition {partition}; it has {partitions}, counted from 0")
}

/// The token of a place, from which a read goes on.
pub(crate) fn token_of(seal: &TokenSeal, place: &Cut) -> String {
    let mut session = Session::new();
    session.read(place, &Cut::start());
    seal.seal(&session)
}

/// The client was told of something that was durable by now, and nothing says where it stands:
/// what it asks for next includes all there was.
pub(crate) async fn was_told(shared: &Shared, session: &mut Session) -> Result<(), Refusal> {
    session.read(&shared.log.head().await?, &Cut::start());
    Ok(())
}
