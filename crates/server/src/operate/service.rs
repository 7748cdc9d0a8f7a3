use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::{Answer, reply};
use crate::problem::Problem;
use crate::read::Parameters;
use crate::server::Shared;

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/services", get(services))
        .route("/types", get(types))
        .route("/diagnostics", get(diagnostics))
        .route("/circuits", get(circuits))
}

async fn services(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let all: Vec<_> = services
        .iter()
        .map(|service| {
            let entities: Vec<_> = service
                .categories()
                .filter_map(|category| {
                    let entity = service.any_entity(category).ok()?;
                    let (live, bytes) = entity.memory();
                    Some(json!({
                        "category": category,
                        "commands": entity.commands(),
                        "in_memory": live,
                        "memory_bytes": bytes,
                    }))
                })
                .collect();
            json!({
                "name": service.name(),
                "entities": entities,
                "views": service.views().map(|(name, _)| name).collect::<Vec<_>>(),
                "processes": service.flows().map(|(name, _)| name).collect::<Vec<_>>(),
                "under_way": service.under_way(),
                "dead_letters": service.dead_letters().len(),
            })
        })
        .collect();
    reply(&all)
}

async fn types(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let types: Vec<_> = services.iter().map(|service| service.types()).collect();
    reply(&types)
}

async fn diagnostics(State(shared): State<Shared>, mut parameters: Parameters) -> Answer {
    let only = parameters.take("service");
    parameters.finish()?;
    let services = shared.fleet.services();
    if let Some(name) = &only
        && !services.iter().any(|service| service.name() == name)
    {
        let known: Vec<_> = services.iter().map(|service| service.name()).collect();
        let known = known.join(", ");
        return Err(Problem::not_found(
            "not-found",
            format!("no service {name:?} is running; known: {known}"),
        ));
    }
    let mut all: Vec<_> = services
        .iter()
        .filter(|service| only.as_deref().is_none_or(|only| service.name() == only))
        .flat_map(|service| {
            let name = service.name().to_owned();
            let diagnostics = service.diagnostics().into_iter();
            diagnostics.map(move |note| (note.at, name.clone(), note.text))
        })
        .collect();
    all.sort();
    let all: Vec<_> = all
        .into_iter()
        .map(|(at, service, text)| json!({"at": at.to_string(), "service": service, "text": text}))
        .collect();
    reply(&all)
}

async fn circuits(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for circuit in service.circuits() {
            all.push(json!({"service": service.name(), "circuit": circuit}));
        }
    }
    reply(&all)
}
