use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Verb;
use anabranch_domain::CommandId;
use anabranch_runtime::{DeadLetter, Service};
use anabranch_wire as wire;
use axum::extract::State;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::policy::{ALL, Needs, Routes};
use crate::read::{Content, Names};
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default()
        .get("/dead-letters", Needs::Of(Verb::Operate, ALL), list)
        .post(
            "/dead-letters/retry",
            Needs::Of(Verb::Operate, ALL),
            retry_many,
        )
        .get("/dead-letters/{id}", Needs::Of(Verb::Operate, ALL), show)
        .post(
            "/dead-letters/{id}/retry",
            Needs::Of(Verb::Operate, ALL),
            retry,
        )
        .post(
            "/dead-letters/{id}/discard",
            Needs::Of(Verb::Operate, ALL),
            discard,
        )
}

fn shown(service: &Service, letter: &DeadLetter) -> wire::ServiceLetter {
    wire::ServiceLetter {
        service: service.name().to_owned(),
        letter: convert::letter(letter),
    }
}

async fn list(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let all: Vec<_> = services
        .iter()
        .flat_map(|service| {
            let letters = service.dead_letters().into_iter();
            letters.map(|letter| shown(service, &letter))
        })
        .collect();
    reply(&all)
}

fn find(shared: &Shared, id: &str) -> Result<(Arc<Service>, DeadLetter), Refusal> {
    let none = || {
        Refusal::not_found(
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
    reply(&shown(&service, &letter))
}

async fn retry(State(shared): State<Shared>, Names(id): Names<String>, content: Content) -> Answer {
    let wire::Edited { data } = content.parse()?;
    let data = data.map(|data| convert::json(&data)).transpose()?;
    let (service, letter) = find(&shared, &id)?;
    if !service.retry_letter(letter.id, data) {
        return Err(gone(&id));
    }
    let mut retried = outcomes(&shared, vec![(service, letter)]).await;
    reply(&retried.remove(0))
}

/// How long the outcome of what is delivered again is waited for.
const OUTCOME_WAIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The most that are tried at a time; who asked is told how many are left.
const RETRIED_MAX: usize = 1000;

async fn retry_many(State(shared): State<Shared>, content: Content) -> Answer {
    let meant: wire::RetryLetters = content.parse()?;
    if !meant.all && meant.from.is_none() && meant.reason.is_none() {
        return Err(Refusal::bad_request(
            "bad-body",
            "say which: {\"all\":true}, {\"from\":\"PROCESS\"} or {\"reason\":\"TEXT\"}; nothing was tried",
        ));
    }
    let mut found = Vec::new();
    for service in shared.fleet.services() {
        let letters = service.dead_letters().into_iter();
        let letters = letters.filter(|letter| fits(&meant, letter));
        found.extend(letters.map(|letter| (service.clone(), letter)));
    }
    let left = found.len().saturating_sub(RETRIED_MAX) as u64;
    found.truncate(RETRIED_MAX);
    let letters = if meant.dry_run {
        let would = |letter: &DeadLetter| wire::Retried {
            id: letter.id.to_string(),
            from: letter.from.to_string(),
            outcome: wire::LetterOutcome::WouldRetry,
            reason: Some(letter.reason.clone()),
        };
        found.iter().map(|(_, letter)| would(letter)).collect()
    } else {
        // What somebody else has dealt with meanwhile is none of ours.
        found.retain(|(service, letter)| service.retry_letter(letter.id, None));
        outcomes(&shared, found).await
    };
    reply(&wire::LettersRetried { letters, left })
}

fn fits(meant: &wire::RetryLetters, letter: &DeadLetter) -> bool {
    let from = |from: &String| letter.from.category() == from || letter.from.as_str() == from;
    let reason = |reason: &String| letter.reason.contains(reason.as_str());
    meant.from.as_ref().is_none_or(from) && meant.reason.as_ref().is_none_or(reason)
}

/// Waits for what becomes of letters that are being delivered again.
async fn outcomes(shared: &Shared, tried: Vec<(Arc<Service>, DeadLetter)>) -> Vec<wire::Retried> {
    let is_under_way =
        |(service, letter): &(Arc<Service>, DeadLetter)| service.is_under_way(letter.id);
    let mut waited = Duration::ZERO;
    while waited < OUTCOME_WAIT && tried.iter().any(is_under_way) {
        shared.time.sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
    let mut failed: BTreeMap<CommandId, String> = BTreeMap::new();
    for service in shared.fleet.services() {
        let letters = service.dead_letters().into_iter();
        failed.extend(letters.map(|letter| (letter.id, letter.reason)));
    }
    let outcome = |one: &(Arc<Service>, DeadLetter)| {
        let reason = failed.remove(&one.1.id);
        wire::Retried {
            id: one.1.id.to_string(),
            from: one.1.from.to_string(),
            outcome: match &reason {
                Some(_) => wire::LetterOutcome::FailedAgain,
                None if is_under_way(one) => wire::LetterOutcome::UnderWay,
                None => wire::LetterOutcome::Delivered,
            },
            reason,
        }
    };
    tried.iter().map(outcome).collect()
}

async fn discard(
    State(shared): State<Shared>,
    Names(id): Names<String>,
    content: Content,
) -> Answer {
    let wire::Why { why } = content.parse()?;
    if why.is_empty() {
        return Err(Refusal::bad_request(
            "bad-body",
            "say why, as {\"why\":…}: the sender is told",
        ));
    }
    let (service, letter) = find(&shared, &id)?;
    if service.discard_letter(letter.id, &why).await {
        return reply(&wire::LetterDone {
            id: letter.id.to_string(),
            done: "discard".to_owned(),
        });
    }
    Err(gone(&id))
}

fn gone(id: &str) -> Refusal {
    Refusal::not_found(
        "not-found",
        format!("dead letter {id} is gone: somebody else dealt with it"),
    )
}
