//! What another service asks of the services here: `POST /peer/…`. It is carried out here or not at
//! all: nothing is handed on.

use anabranch_access::{Caller, Verb};
use anabranch_peer::convert::{self, Malformed};
use anabranch_peer::{ANSWERS, COMMANDS, FORGET, NOT_HERE, QUERIES};
use anabranch_runtime::Whereabouts;
use anabranch_runtime::port::{Reply, Request, Subject};
use anabranch_wire::{PeerAnswer, PeerCommand, PeerForget, PeerHeard, PeerQuery};
use axum::extract::State;
use axum::http::StatusCode;

use crate::answer::{Answer, reply};
use crate::policy::{By, Needs, Routes};
use crate::read::Message;
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default()
        .post(COMMANDS, Needs::Each(Verb::Command), command)
        .post(ANSWERS, Needs::Each(Verb::Command), answer)
        .post(FORGET, Needs::Each(Verb::Command), forget)
        .post(QUERIES, Needs::Each(Verb::Query), query)
}

async fn command(
    State(shared): State<Shared>,
    By(caller): By,
    Message(command): Message<PeerCommand>,
) -> Answer {
    let dispatch = convert::dispatch_of(&command).map_err(malformed)?;
    match carry_out(&shared, &caller, Request::command(dispatch)).await? {
        Reply::Delivered(delivered) => {
            let delivered = convert::delivered(&delivered);
            reply(&delivered.map_err(|error| Refusal::internal(error.to_string()))?)
        }
        _ => Err(strange()),
    }
}

async fn answer(
    State(shared): State<Shared>,
    By(caller): By,
    Message(answer): Message<PeerAnswer>,
) -> Answer {
    let brought = convert::reply_of(&answer).map_err(malformed)?;
    carry_out(&shared, &caller, Request::answer(brought)).await?;
    reply(&PeerHeard {})
}

async fn forget(
    State(shared): State<Shared>,
    By(caller): By,
    Message(forget): Message<PeerForget>,
) -> Answer {
    let (at, saga) = convert::forget_of(&forget).map_err(malformed)?;
    carry_out(&shared, &caller, Request::Forget { at, saga }).await?;
    reply(&PeerHeard {})
}

async fn query(
    State(shared): State<Shared>,
    By(caller): By,
    Message(query): Message<PeerQuery>,
) -> Answer {
    let ask = convert::ask_of(query).map_err(malformed)?;
    match carry_out(&shared, &caller, Request::Query(Box::new(ask))).await? {
        Reply::Shown(answer) => reply(&convert::shown(&answer)),
        _ => Err(strange()),
    }
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
