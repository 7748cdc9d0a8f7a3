//! What another service asks of the services here: `POST /peer/…`. It is carried out here or not at
//! all: nothing is handed on.

use anabranch_access::{Caller, Verb};
use anabranch_peer::convert::{self, Malformed};
use anabranch_peer::{ANSWERS, COMMANDS, FORGET, MANY, NOT_HERE, QUERIES};
use anabranch_runtime::Whereabouts;
use anabranch_runtime::port::{Reply, Request, Subject};
use anabranch_wire::{PeerAnswer, PeerCommand, PeerForget, PeerHeard, PeerQuery};
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, reply_with};
use crate::peer_line;
use crate::policy::{By, Needs, Routes};
use crate::read::{self, AROUND_BYTES, Content};
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Routes {
    let each = Needs::Each(Verb::Command);
    Routes::default()
        .post(COMMANDS, each, alone::<0>)
        .post(ANSWERS, each, alone::<1>)
        .post(FORGET, each, alone::<2>)
        .post(QUERIES, Needs::Each(Verb::Query), alone::<3>)
        // Each request on it gets an answer of its own.
        .post(MANY, Needs::Known, peer_line::many)
}

/// The largest body of a request. It may bring all that a command has recorded.
pub fn body_max(shared: &Shared) -> usize {
    shared.limits.batch_bytes_max.saturating_mul(2) + AROUND_BYTES
}

/// One request by itself, whose path has this place among the kinds.
async fn alone<const KIND: u8>(
    State(shared): State<Shared>,
    By(caller): By,
    request: axum::extract::Request,
) -> Answer {
    let max = body_max(&shared);
    let body = read::body(request, &shared, max).await?;
    reply_with(answer(&shared, &caller, KIND, body).await?)
}

/// What is answered to a request of this kind.
pub async fn answer(
    shared: &Shared,
    caller: &Caller,
    kind: u8,
    body: Bytes,
) -> Result<Vec<u8>, Refusal> {
    let content = Content(body);
    let request = match kind {
        0 => convert::dispatch_of(&parsed::<PeerCommand>(&content)?).map(Request::command),
        1 => convert::reply_of(&parsed::<PeerAnswer>(&content)?).map(Request::answer),
        2 => convert::forget_of(&parsed::<PeerForget>(&content)?)
            .map(|(at, saga)| Request::Forget { at, saga }),
        3 => {
            convert::ask_of(parsed::<PeerQuery>(&content)?).map(|ask| Request::Query(Box::new(ask)))
        }
        _ => {
            return Err(Refusal::not_found(
                "not-found",
                "nothing is asked like that",
            ));
        }
    };
    let request = request.map_err(malformed)?;
    let said = match (kind, carry_out(shared, caller, request).await?) {
        (0, Reply::Delivered(delivered)) => {
            let delivered = convert::delivered(&delivered);
            let delivered = delivered.map_err(|error| Refusal::internal(error.to_string()))?;
            serde_json::to_vec(&delivered)
        }
        (3, Reply::Shown(answer)) => serde_json::to_vec(&convert::shown(&answer)),
        (1 | 2, _) => serde_json::to_vec(&PeerHeard {}),
        _ => return Err(strange()),
    };
    said.map_err(|error| Refusal::internal(error.to_string()))
}

fn parsed<T: DeserializeOwned>(content: &Content) -> Result<T, Refusal> {
    let json = content.json()?;
    let json = json.ok_or_else(|| Refusal::bad_request("bad-json", "the body is empty"))?;
    json.parse()
        .map_err(|error| Refusal::bad_request("bad-json", format!("the body: {error}")))
}

/// By a service that is here. Who asks for what none has been told an old address, and may ask
/// where it is now.
async fn carry_out(shared: &Shared, caller: &Caller, request: Request) -> Result<Reply, Refusal> {
    let subject = request.subject();
    match subject {
        Subject::Category(name) | Subject::Process(name) => caller.check(Verb::Command, name)?,
        Subject::View(name) => caller.check(Verb::Query, name)?,
    }
    if let Whereabouts::Nowhere { known } = shared.fleet.find(subject) {
        let (Subject::Category(name) | Subject::Process(name) | Subject::View(name)) = subject;
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            NOT_HERE,
            format!("no service here has {name:?}; known: {}", known.join(", ")),
        ));
    }
    Ok(shared.fleet.call_here(request).await?)
}

fn malformed(error: Malformed) -> Refusal {
    Refusal::bad_request("bad-message", error.to_string())
}

fn strange() -> Refusal {
    Refusal::internal("the service answered something else than was asked")
}
