use std::sync::Arc;

use anabranch_domain::{CommandId, Json};
use anabranch_runtime::{DeadLetter, Service};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, reply};
use crate::problem::Problem;
use crate::read::{Content, Names};
use crate::server::Shared;

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", get(show))
        .route("/dead-letters/{id}/retry", post(retry))
        .route("/dead-letters/{id}/discard", post(discard))
}

#[derive(Serialize)]
struct Shown<'a> {
    service: &'a str,
    letter: DeadLetter,
}

async fn list(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let all: Vec<_> = services
        .iter()
        .flat_map(|service| {
            let letters = service.dead_letters().into_iter();
            letters.map(|letter| Shown {
                service: service.name(),
                letter,
            })
        })
        .collect();
    reply(&all)
}

fn find(shared: &Shared, id: &str) -> Result<(Arc<Service>, DeadLetter), Problem> {
    let none = || {
        Problem::not_found(
            "not-found",
            format!("no dead letter has id {id}; it may have been delivered meanwhile"),
        )
    };
    let wanted: CommandId = id.parse().map_err(|_| none())?;
    let services = shared.fleet.services().into_iter();
    let mut found = services.filter_map(|service| {
        let letter = service
            .dead_letters()
            .into_iter()
            .find(|l| l.id == wanted)?;
        Some((service, letter))
    });
    found.next().ok_or_else(none)
}

async fn show(State(shared): State<Shared>, Names(id): Names<String>) -> Answer {
    let (service, letter) = find(&shared, &id)?;
    reply(&Shown {
        service: service.name(),
        letter,
    })
}

async fn retry(State(shared): State<Shared>, Names(id): Names<String>, content: Content) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Edited {
        data: Option<Json>,
    }
    let Edited { data } = content.parse()?;
    let (service, letter) = find(&shared, &id)?;
    if service.retry_letter(letter.id, data) {
        return reply(&json!({"id": letter.id, "done": "retry"}));
    }
    Err(gone(&id))
}

async fn discard(
    State(shared): State<Shared>,
    Names(id): Names<String>,
    content: Content,
) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Why {
        why: String,
    }
    let Why { why } = content.parse()?;
    if why.is_empty() {
        return Err(Problem::bad_request(
            "bad-body",
            "say why, as {\"why\":…}: the sender is told",
        ));
    }
    let (service, letter) = find(&shared, &id)?;
    if service.discard_letter(letter.id, &why).await {
        return reply(&json!({"id": letter.id, "done": "discard"}));
    }
    Err(gone(&id))
}

fn gone(id: &str) -> Problem {
    Problem::not_found(
        "not-found",
        format!("dead letter {id} is gone: somebody else dealt with it"),
    )
}
