//! What another service asks of the services here: `POST /peer/…`. It is carried out here or not at
//! all: nothing is handed on.

use anabranch_peer::convert::{self, Malformed};
use anabranch_peer::{ANSWERS, COMMANDS, FORGET, NOT_HERE, QUERIES};
use anabranch_runtime::Whereabouts;
use anabranch_runtime::port::{Reply, Request, Subject};
use anabranch_wire::{PeerAnswer, PeerCommand, PeerForget, PeerHeard, PeerQuery};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

use crate::answer::{Answer, reply};
use crate::read::Message;
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Router<Shared> {
    Router::new()
        .route(COMMANDS, post(command))
        .route(ANSWERS, post(answer))
        .route(FORGET, post(forget))
        .route(QUERIES, post(query))
}

async fn command(State(shared): State<Shared>, Message(command): Message<PeerCommand>) -> Answer {
    let dispatch = convert::dispatch_of(&command).map_err(malformed)?;
    match carry_out(&shared, Request::command(dispatch)).await? {
        Reply::Delivered(delivered) => {
            let delivered = convert::delivered(&delivered);
            reply(&delivered.map_err(|error| Refusal::internal(error.to_string()))?)
        }
        _ => Err(strange()),
    }
}

async fn answer(State(shared): State<Shared>, Message(answer): Message<PeerAnswer>) -> Answer {
    let brought = convert::reply_of(&answer).map_err(malformed)?;
    carry_out(&shared, Request::answer(brought)).await?;
    reply(&PeerHeard {})
}

async fn forget(State(shared): State<Shared>, Message(forget): Message<PeerForget>) -> Answer {
    let (at, saga) = convert::forget_of(&forget).map_err(malformed)?;
    carry_out(&shared, Request::Forget { at, saga }).await?;
    reply(&PeerHeard {})
}

async fn query(State(shared): State<Shared>, Message(query): Message<PeerQuery>) -> Answer {
    let ask = convert::ask_of(query).map_err(malformed)?;
    match carry_out(&shared, Request::Query(Box::new(ask))).await? {
        Reply::Shown(answer) => reply(&convert::shown(&answer)),
        _ => Err(strange()),
    }
}

/// By a service that is here. Who asks for what none has been told an old address, and may ask
/// where it is now.
async fn carry_out(shared: &Shared, request: Request) -> Result<Reply, Refusal> {
    let subject = request.subject();
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
