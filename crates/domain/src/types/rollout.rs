//! What a new build of one service would break, while the others run.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::compare::{Finding, FindingCode, Reads, Report, check, written};
use super::{EventTypes, Held, ProgramTypes, ReaderTypes, ServiceTypes};
use crate::saga::DefinitionHash;

/// What runs on a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// What services have said that they read, newest.
    pub services: Vec<ServiceTypes>,
    /// How many instances of each saga have not ended, by the definition that they run on.
    pub sagas: BTreeMap<String, BTreeMap<DefinitionHash, u64>>,
}

/// What a roll-out of one service would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rollout {
    /// The service.
    pub service: String,
    /// What would break, and what was looked at.
    #[serde(flatten)]
    pub report: Report,
    /// Who else reads what it writes.
    pub readers: Vec<ReaderOf>,
    /// How many instances of its sagas run.
    pub sagas: u64,
}

/// Somebody else who reads what the service writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReaderOf {
    /// The service that it is part of.
    pub service: String,
    /// Which one: `view catalogue`.
    pub reader: String,
    /// What it reads.
    pub categories: Vec<String>,
    /// Whether it would be broken.
    pub breaks: bool,
    /// The newer events that it would read by a downcast.
    pub by_downcast: Vec<String>,
}

/// Compares a new build of one service with what the log holds and with who runs on it.
pub fn check_rollout(next: &ServiceTypes, held: &Held, running: &Running) -> Rollout {
    let mut report = check(&ProgramTypes(vec![next.clone()]), held);
    let mut owned = owners(next, held);
    let mut own = categories_of(next);
    let others = || {
        let services = running.services.iter();
        services.filter(|other| other.service != next.service)
    };
    let before = running
        .services
        .iter()
        .find(|one| one.service == next.service);
    for category in before.map(categories_of).unwrap_or_default() {
        // What it wrote and does not write any more, nobody writes, unless another has it now.
        if !others().any(|other| categories_of(other).contains(category)) && own.insert(category) {
            owned.insert(category, EventTypes::default());
        }
    }
    let mut readers = Vec::new();
    for service in others() {
        for reader in &service.readers {
            let mut categories = reader.categories.clone();
            categories.retain(|category| own.contains(category.as_str()));
            if categories.is_empty() {
                continue;
            }
            let whom = format!(
                "{} {} of service {}",
                reader.what, reader.name, service.service
            );
            let reads = Reads {
                whom: &whom,
                events: &reader.events,
                must_know_all: false,
            };
            let mut found = Report::default();
            // Its own come first, by which it is named what nobody writes.
            let mut sorted = reader.categories.clone();
            sorted.sort_by_key(|category| !own.contains(category.as_str()));
            written(&reads, &sorted, &owned, &mut found);
            // What others write was so before.
            found
                .breaks
                .retain(|one| own.contains(one.event.split('/').next().unwrap_or("")));
            readers.push(ReaderOf {
                service: service.service.clone(),
                reader: format!("{} {}", reader.what, reader.name),
                breaks: !found.breaks.is_empty(),
                by_downcast: by_downcast(reader, &categories, &owned),
                categories,
            });
            report.breaks.append(&mut found.breaks);
        }
    }
    let sagas = sagas(next, before, running, &mut report.breaks);
    if let Some(before) = before {
        commands(next, before, &mut report.breaks);
    }
    report.others.clear();
    report.breaks.sort();
    report.breaks.dedup();
    Rollout {
        service: next.service.clone(),
        report,
        readers,
        sagas,
    }
}

fn categories_of(service: &ServiceTypes) -> BTreeSet<&str> {
    let entities = service.entities.iter();
    entities.map(|of| of.category.as_str()).collect()
}

/// What is written in each category: by the new build, and by the others as they have said last.
fn owners<'a>(next: &'a ServiceTypes, held: &'a Held) -> BTreeMap<&'a str, EventTypes> {
    let mut owned = BTreeMap::new();
    for (category, said) in &held.registered {
        let Some(last) = said.last() else { continue };
        let events = EventTypes {
            kinds: last.kinds.clone(),
            downcasts: last.downcasts.clone(),
            ..EventTypes::default()
        };
        owned.insert(category.as_str(), events);
    }
    for of in &next.entities {
        owned.insert(of.category.as_str(), of.events.clone());
    }
    owned
}

/// The events that a reader would get by a downcast.
fn by_downcast(
    reader: &ReaderTypes,
    categories: &[String],
    owned: &BTreeMap<&str, EventTypes>,
) -> Vec<String> {
    let is_read = |name: &str, version| reader.events.knows(name, version);
    let owners = categories
        .iter()
        .filter_map(|category| owned.get(category.as_str()));
    let kinds = owners.flat_map(|owner| owner.kinds.iter().map(move |kind| (owner, kind)));
    let lowered = kinds.filter(|(owner, kind)| {
        reader.events.kind(&kind.name).is_some()
            && !reader.events.reads(&kind.name, kind.version)
            && owner.downcasts.leads(&kind.name, kind.version, &is_read)
    });
    lowered
        .map(|(_, kind)| format!("{} v{}", kind.name, kind.version))
        .collect()
}

/// Finds instances that run on what the new build does not have. How many run at all.
fn sagas(
    next: &ServiceTypes,
    before: Option<&ServiceTypes>,
    running: &Running,
    breaks: &mut Vec<Finding>,
) -> u64 {
    let before = before.into_iter().flat_map(|before| before.sagas.keys());
    let names: BTreeSet<&String> = next.sagas.keys().chain(before).collect();
    let mut all = 0;
    for name in names {
        let known = next.sagas.get(name);
        for (hash, count) in running.sagas.get(name).into_iter().flatten() {
            all += count;
            if known.is_some_and(|known| known.contains(hash)) {
                continue;
            }
            breaks.push(Finding {
                code: FindingCode::RunningSagas,
                whom: format!("saga {name}"),
                event: format!("{name}/… SagaStarted v1"),
                stored: *count,
                what: format!("{count} running instances are on its definition {hash}, which the build does not have"),
                remedy: "keep that definition in `Saga::older` until they have ended".to_owned(),
            });
        }
    }
    all
}

/// Finds commands that it took and does not take any more.
fn commands(next: &ServiceTypes, before: &ServiceTypes, breaks: &mut Vec<Finding>) {
    for (category, taken) in &before.commands {
        let takes = next.commands.get(category);
        for name in taken {
            if takes.is_some_and(|takes| takes.contains(name)) {
                continue;
            }
            breaks.push(Finding {
                code: FindingCode::RemovedCommand,
                whom: format!("whoever sends to {category}"),
                event: format!("{category}/… {name}"),
                stored: 0,
                what: format!("the build does not take the command {name}"),
                remedy: "keep the command, or lead it on in `Entity::command_upcasts`".to_owned(),
            });
        }
    }
}
