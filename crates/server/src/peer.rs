//! What another service asks of the services here: `POST /peer/…`. It is carried out here or not at
//! all: nothing is handed on.

use std::sync::Arc;

use anabranch_access::{Caller, Verb};
use anabranch_peer::convert::{self, Malformed};
use anabranch_peer::{ANSWERS, COMMANDS, FORGET, NOT_HERE, QUERIES};
use anabranch_runtime::Whereabouts;
use anabranch_runtime::port::{Reply, Request, Subject};
use anabranch_wire::{PeerAnswer, PeerCommand, PeerForget, PeerHeard, PeerQuery};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, reply_with};
use crate::policy::{By, Needs, Routes};
use crate::read::{self, AROUND_BYTES, Content, one};
use crate::refusal::Refusal;
use crate::shared::Shared;

const SERVICE: HeaderName = HeaderName::from_static(anabranch_wire::SERVICE_HEADER);

/// Who asks: whose key was shown, and which service that says it is.
#[derive(Clone)]
pub struct Asker {
    pub caller: Caller,
    service: Option<Arc<str>>,
}

impl Asker {
    pub fn of(caller: Caller, headers: &HeaderMap) -> Result<Self, Refusal> {
        let service = one(headers, &SERVICE)?.and_then(|service| service.to_str().ok());
        Ok(Self {
            caller,
            service: service.map(Arc::from),
        })
    }
}

pub fn routes() -> Routes {
    let each = Needs::Each(Verb::Command);
    Routes::default()
        .post(COMMANDS, each, alone::<0>)
        .post(ANSWERS, each, alone::<1>)
        .post(FORGET, each, alone::<2>)
        .post(QUERIES, Needs::Each(Verb::Query), alone::<3>)
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
    let asker = Asker::of(caller, request.headers())?;
    let max = body_max(&shared);
    let body = read::body(request, &shared, max).await?;
    reply_with(answer(&shared, &asker, KIND, body).await?)
}

/// What is answered to a request of this kind.
pub async fn answer(
    shared: &Shared,
    asker: &Asker,
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
    let said = match (kind, carry_out(shared, asker, request).await?) {
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
async fn carry_out(shared: &Shared, asker: &Asker, request: Request) -> Result<Reply, Refusal> {
    let Asker { caller, service } = asker;
    let subject = request.subject();
    let (Subject::Category(name) | Subject::Process(name) | Subject::View(name)) = subject;
    let verb = match subject {
        Subject::View(_) => Verb::Query,
        _ => Verb::Command,
    };
    caller.check(verb, name)?;
    shared
        .askers
        .check(caller, service.as_deref(), name)
        .await?;
    if let Whereabouts::Nowhere { known } = shared.fleet.find(subject) {
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
