use anabranch_domain::saga::{Operator, SagaCommand, Settlement, StepId};
use anabranch_runtime::{AnyFlow, InstanceStatus, Service};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Answer, not_now, reply};
use crate::problem::Problem;
use crate::read::{Content, Names, Stream};
use crate::server::Shared;

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/processes", get(list))
        .route("/processes/{name}", get(instances))
        .route("/processes/{name}/{verb}", post(mend))
        .route("/instance/{name}/{*key}", get(show))
        .route("/retry/{name}/{*key}", post(retry))
        .route("/abort/{name}/{*key}", post(abort))
        .route("/resume/{name}/{*key}", post(resume))
        .route("/settle/{name}/{*key}", post(settle))
}

/// The service that has a process or saga, if it is here.
fn home(shared: &Shared, name: &str) -> Result<Arc<Service>, Problem> {
    let services = shared.fleet.services();
    let has_it = |service: &&Arc<Service>| service.flow(name).is_ok();
    if let Some(service) = services.iter().find(has_it) {
        return Ok(service.clone());
    }
    let mut known: Vec<_> = services
        .iter()
        .flat_map(|service| service.flows().map(|(name, _)| name))
        .collect();
    known.sort_unstable();
    Err(Problem::not_found(
        "not-found",
        format!(
            "no service has a process or saga {name:?}; known: {}",
            known.join(", ")
        ),
    ))
}

fn summary(service: &Service, flow: &dyn AnyFlow, instances: &[InstanceStatus]) -> Value {
    let needs_person = |status: &&InstanceStatus| {
        status.parked.is_some()
            || status
                .description
                .as_ref()
                .is_some_and(|described| described.needs_person)
    };
    let retrying = |status: &&InstanceStatus| {
        !needs_person(status)
            && status
                .description
                .as_ref()
                .is_some_and(|described| described.retrying)
    };
    json!({
        "name": flow.name(),
        "service": service.name(),
        "stopped": flow.stopped(),
        "consumed": flow.consumed(),
        "open": instances.len(),
        "retrying": instances.iter().filter(retrying).count(),
        "need_a_person": instances.iter().filter(needs_person).count(),
    })
}

async fn list(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for (_, flow) in service.flows() {
            all.push(summary(&service, &**flow, &flow.list().await));
        }
    }
    reply(&all)
}

async fn instances(State(shared): State<Shared>, Names(name): Names<String>) -> Answer {
    let owner = home(&shared, &name)?;
    let flow = owner.flow(&name)?;
    let instances = flow.list().await;
    let mut all = summary(&owner, &**flow, &instances);
    all["instances"] =
        serde_json::to_value(&instances).map_err(|error| Problem::internal(error.to_string()))?;
    reply(&all)
}

async fn mend(
    State(shared): State<Shared>,
    Names((name, verb)): Names<(String, String)>,
) -> Answer {
    let owner = home(&shared, &name)?;
    let flow = owner.flow(&name)?;
    let done = match verb.as_str() {
        "skip" => flow.skip(),
        "retry" => flow.consume_again(),
        _ => {
            return Err(Problem::not_found(
                "no-such-path",
                format!("a process takes skip and retry, not {verb:?}"),
            ));
        }
    };
    if done {
        return reply(&json!({"process": name, "done": verb}));
    }
    Err(not_now(format!("{name} has not stopped before an event")))
}

async fn show(State(shared): State<Shared>, Stream(stream): Stream) -> Answer {
    let owner = home(&shared, stream.category())?;
    let status = owner.flow(stream.category())?.show(stream.clone()).await;
    let is_there = status.parked.is_some()
        || status
            .description
            .as_ref()
            .is_none_or(|described| described.length > 0);
    if is_there {
        return reply(&status);
    }
    Err(Problem::not_found(
        "not-found",
        format!("{stream} has no journal"),
    ))
}

async fn retry(State(shared): State<Shared>, Stream(stream): Stream) -> Answer {
    let owner = home(&shared, stream.category())?;
    if owner.flow(stream.category())?.retry(stream.clone()).await {
        return reply(&json!({"stream": stream, "done": "retry"}));
    }
    Err(not_now(format!("{stream} is not parked")))
}

async fn abort(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Why {
        why: String,
    }
    let Why { why } = content.parse()?;
    if why.is_empty() {
        return Err(Problem::bad_request(
            "bad-body",
            "say why, as {\"why\":…}: it is kept in the saga's journal",
        ));
    }
    let owner = home(&shared, stream.category())?;
    let command = SagaCommand::AbortSaga { why };
    owner.command_saga(stream.clone(), &command, None).await?;
    reply(&json!({"stream": stream, "done": "abort"}))
}

async fn resume(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Resume {
        step: StepId,
        by: Operator,
    }
    let body: Option<Resume> = content.parse()?;
    let Some(Resume { step, by }) = body else {
        return Err(Problem::bad_request(
            "bad-body",
            "say which step and who says so, as {\"step\":…,\"by\":{\"who\":…,\"why\":…}}",
        ));
    };
    let owner = home(&shared, stream.category())?;
    let command = SagaCommand::ResumeStep { step, by };
    owner.command_saga(stream.clone(), &command, None).await?;
    reply(&json!({"stream": stream, "done": "resume"}))
}

async fn settle(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settle {
        step: StepId,
        #[serde(rename = "as")]
        settlement: Settlement,
        by: Operator,
    }
    let body: Option<Settle> = content.parse()?;
    let Some(Settle {
        step,
        settlement,
        by,
    }) = body
    else {
        return Err(Problem::bad_request(
            "bad-body",
            "say which step, what is so, and who says so, as {\"step\":…,\"as\":{\"Done\":RESULT}, \
             {\"Refused\":{\"code\":…,\"message\":…}} or \"Undone\",\"by\":{\"who\":…,\"why\":…}}",
        ));
    };
    let owner = home(&shared, stream.category())?;
    let command = SagaCommand::SettleStep {
        step,
        settlement,
        by,
    };
    owner.command_saga(stream.clone(), &command, None).await?;
    reply(&json!({"stream": stream, "done": "settle"}))
}
