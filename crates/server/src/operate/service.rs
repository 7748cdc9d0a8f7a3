use anabranch_access::Verb;
use anabranch_wire as wire;
use axum::extract::State;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::policy::{ALL, Needs, Routes};
use crate::read::{Names, Parameters};
use crate::refusal::Refusal;
use crate::registry::{Denied, Known, State as Lease, Subject};
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default()
        .get("/services", Needs::Of(Verb::Operate, ALL), services)
        .get("/types", Needs::Of(Verb::Operate, ALL), types)
        .get("/diagnostics", Needs::Of(Verb::Operate, ALL), diagnostics)
        .get("/circuits", Needs::Of(Verb::Operate, ALL), circuits)
}

pub fn routes_of_log() -> Routes {
    Routes::default()
        .get("/registry", Needs::Of(Verb::Operate, ALL), registry)
        .post(
            "/registry/{name}/forget",
            Needs::Of(Verb::Operate, ALL),
            forget,
        )
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
                    Some(wire::Category {
                        category: category.to_owned(),
                        commands: owned(entity.commands().iter().copied()),
                        in_memory: live as u64,
                        memory_bytes: bytes as u64,
                    })
                })
                .collect();
            wire::Service {
                name: service.name().to_owned(),
                entities,
                views: owned(service.views().map(|(name, _)| name)),
                processes: owned(service.processes().map(|(name, _)| name)),
                under_way: service.under_way() as u64,
                dead_letters: service.dead_letters().len() as u64,
            }
        })
        .collect();
    reply(&all)
}

async fn registry(State(shared): State<Shared>) -> Answer {
    let all = shared.registry.list().await;
    let all = all.map_err(|error| Refusal::unavailable(error.to_string()))?;
    let all: Vec<_> = all.into_iter().map(registration).collect();
    reply(&all)
}

async fn forget(State(shared): State<Shared>, Names(name): Names<String>) -> Answer {
    let registry = shared.registry.clone();
    // To its end, whether or not who asked waits: what the log takes is not forgotten here.
    let done = tokio::spawn(async move {
        registry.forget(&name).await?;
        let known = registry.find(Subject::Service(&name)).await?;
        // One that has never registered has only said what it reads.
        Ok(known.unwrap_or_else(|| Known::unregistered(name)))
    });
    let done = done
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let known = done.map_err(|denied| match denied {
        Denied::Unknown(words) => Refusal::not_found("not-found", words),
        Denied::Held(words) => Refusal::not_now(words),
        other => Refusal::unavailable(other.to_string()),
    })?;
    reply(&registration(known))
}

fn registration(known: Known) -> wire::Registration {
    let about = known.about;
    let (mut expires_in_ms, mut taken_by) = (None, None);
    let state = match known.state {
        Lease::Held(rest) => {
            expires_in_ms = Some(rest.as_millis() as u64);
            wire::LeaseState::Held
        }
        Lease::Expired => wire::LeaseState::Expired,
        Lease::Released => wire::LeaseState::Released,
        Lease::Taken(by) => {
            taken_by = Some(by);
            wire::LeaseState::Taken
        }
    };
    wire::Registration {
        name: known.name,
        address: about.address,
        program: about.program,
        version: about.version,
        owns: about.owns.into_iter().collect(),
        views: about.views.into_iter().collect(),
        reads: about.reads.into_iter().collect(),
        sends: about.sends.into_iter().collect(),
        private: about.private.into_keys().collect(),
        lease: known.lease,
        since: known.since.map(|since| since.to_string()),
        state,
        expires_in_ms,
        taken_by,
    }
}

fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

async fn types(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let types: Vec<_> = services.iter().map(|service| service.types()).collect();
    reply(&types)
}

async fn diagnostics(State(shared): State<Shared>, mut parameters: Parameters) -> Answer {
    let only = parameters.take("service")?;
    parameters.finish()?;
    let services = shared.fleet.services();
    if let Some(name) = &only
        && !services.iter().any(|service| service.name() == name)
    {
        let known: Vec<_> = services.iter().map(|service| service.name()).collect();
        let known = known.join(", ");
        return Err(Refusal::not_found(
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
        .map(|(at, service, text)| wire::Diagnostic {
            at: at.to_string(),
            service,
            text,
        })
        .collect();
    reply(&all)
}

async fn circuits(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for circuit in service.circuits() {
            all.push(wire::ServiceCircuit {
                service: service.name().to_owned(),
                circuit: convert::circuit(&circuit),
            });
        }
    }
    reply(&all)
}
