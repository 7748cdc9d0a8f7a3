//! The registry of event types: what services write, kept in the log itself.
//!
//! For each category of entities there is a stream `$schema/<category>`. A service that starts
//! says there what it writes, if that is not what was said last. So the log knows what its
//! events look like, also when the program that wrote them is gone. What it reads it says in
//! `$readers/<service>`.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_domain::StreamId;
use anabranch_domain::saga::DefinitionHash;
use anabranch_domain::types::{
    Held, ProgramTypes, Registered, Report, Rollout, Running, ServiceTypes, check as compare,
    check_rollout as compare_rollout,
};
use anabranch_log::{Append, AppendError, Expect, Log, Order, ReadError, ReadMode, VersionRange};
use anabranch_model::{Cut, Event, EventId, EventType, Filter, NewEvent, Version, content_hash};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The category of the registry's streams.
const CATEGORY: &str = "$schema";

/// The type of the registry's events.
const REGISTERED: &str = "$TypesRegistered";

/// The category of the streams in which services say what they read, by their names.
pub const READERS: &str = "$readers";

/// The type of its events.
const READS: &str = "$ReadersRegistered";

/// How often somebody else may write first before this gives up.
const ATTEMPTS_MAX: u32 = 8;

/// Why the registry cannot be read.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry says something that this program does not understand.
    #[error("{stream} version {version}: {reason}; was it written by a newer program?")]
    Unreadable {
        /// The stream.
        stream: String,
        /// The entry.
        version: Version,
        /// What is wrong with it.
        reason: String,
    },
}

anabranch_model::debug_is_words!(RegistryError);

/// Says in the log what a service writes and reads, unless that was said last; `failed` hears what
/// could not be said.
pub(crate) async fn record_all(
    log: &dyn Log,
    types: &ServiceTypes,
    failed: &(dyn Fn(String) + Sync),
) {
    let is_kept = log.capabilities().survives_restart;
    for of in &types.entities {
        // A log that ends with its program has no later reader to tell, but it may have an older one.
        if !is_kept && of.events.downcasts.is_empty() {
            continue;
        }
        let entry = Registered {
            service: types.service.clone(),
            kinds: of.events.kinds.clone(),
            downcasts: of.events.downcasts.clone(),
        };
        if let Err(why) = record(
            log,
            (CATEGORY, REGISTERED),
            &of.category,
            &types.service,
            &entry,
        )
        .await
        {
            let category = &of.category;
            failed(format!(
                "the types of {category} were not registered: {why}"
            ));
        }
    }
    // Also who reads nothing: what it said before holds no longer, and it may take commands.
    if is_kept {
        let service = &types.service;
        if let Err(why) = record(log, (READERS, READS), service, service, types).await {
            failed(format!("what it reads was not registered: {why}"));
        }
    }
}

/// Says `entry` in the log, unless that was said last. Two that start at once do no harm: the second
/// one sees what the first one has said.
async fn record<T: Serialize + DeserializeOwned + PartialEq + Sync>(
    log: &dyn Log,
    (category, event_type): (&str, &str),
    key: &str,
    service: &str,
    entry: &T,
) -> Result<(), String> {
    let stream =
        StreamId::system(format!("{category}/{key}")).map_err(|error| error.to_string())?;
    let data = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
    for _ in 0..ATTEMPTS_MAX {
        let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Backward);
        let last = read.next().await.transpose().map_err(|e| e.to_string())?;
        let last_said = last.as_ref().and_then(|last| {
            // What cannot be understood is certainly not the same.
            serde_json::from_slice::<T>(last.data()).ok()
        });
        if last_said.is_some_and(|said| said == *entry) {
            return Ok(());
        }
        let expect = last.map_or(Expect::Empty, |last| Expect::At(last.version));
        let append = append(&stream, event_type, expect, service, &data)?;
        match log.append(append).await {
            Ok(_) => return Ok(()),
            // Somebody else was first, or nobody knows: look again.
            Err(AppendError::Unknown { .. }) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("gave up after {ATTEMPTS_MAX} attempts"))
}

/// Lets a service that is gone for good read nothing, and take no commands; false if it has never said
/// what it reads.
pub async fn forget_reader(log: &dyn Log, service: &str) -> Result<bool, String> {
    let stream = StreamId::system(format!("{READERS}/{service}"));
    let Ok(stream) = stream else {
        // What is no name has said nothing.
        return Ok(false);
    };
    let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Backward);
    let last = read.next().await.transpose().map_err(|e| e.to_string())?;
    if last.is_none() {
        return Ok(false);
    }
    let nothing = ServiceTypes {
        service: service.to_owned(),
        ..ServiceTypes::default()
    };
    let recorded = record(log, (READERS, READS), service, service, &nothing).await;
    recorded.map(|()| true)
}

fn append(
    stream: &StreamId,
    event_type: &str,
    expect: Expect,
    service: &str,
    data: &[u8],
) -> Result<Append, String> {
    let place = format!("{expect:?}");
    // The same entry at the same place is the same event, whoever writes it.
    let id = content_hash([stream.as_str().as_bytes(), place.as_bytes(), data]);
    let event_type = EventType::new(event_type).map_err(|error| error.to_string())?;
    let id = EventId::from_hash(id);
    let mut event = NewEvent::new(id, stream.clone(), event_type, data.to_vec());
    event.meta_mut().source = Some(service.to_owned());
    event.meta_mut().correlation_id = Some(stream.to_string());
    Ok(Append::event(event).expect(stream.clone(), expect))
}

/// What the log holds: every category, type and version that occurs, and what services have
/// said of them. Reads the whole log once.
pub async fn held(log: &dyn Log) -> Result<Held, RegistryError> {
    let mut held = registered(log).await?;
    let mut read = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(batch) = read.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|error| ReadError::Io {
                what: "decoding stored events".to_owned(),
                reason: error.to_string(),
            })?;
            let category = event.stream.split('/').next().unwrap_or_default();
            if category.starts_with('$') {
                continue;
            }
            // Most events are of a kind that was seen before: no text is copied for them.
            let count = held
                .events
                .get_mut(category)
                .and_then(|types| types.get_mut(event.event_type))
                .and_then(|versions| versions.get_mut(&event.schema_version));
            if let Some(count) = count {
                *count += 1;
                continue;
            }
            let types = held.events.entry(category.to_owned()).or_default();
            let versions = types.entry(event.event_type.to_owned()).or_default();
            versions.insert(event.schema_version, 1);
        }
    }
    Ok(held)
}

/// What services have said of the types that they write, without looking at the events.
pub async fn registered(log: &dyn Log) -> Result<Held, RegistryError> {
    let (held, unreadable) = readable(log).await?;
    match unreadable.into_iter().next() {
        None => Ok(held),
        Some(error) => Err(error),
    }
}

/// The same, and what of it cannot be understood.
pub(crate) async fn readable(log: &dyn Log) -> Result<(Held, Vec<RegistryError>), ReadError> {
    let (mut held, mut wrong) = (Held::default(), Vec::new());
    let filter = Filter::category(CATEGORY);
    let mut read = log.read(&Cut::start(), filter, ReadMode::ToHead);
    while let Some(event) = read.next().await {
        let event = event?;
        let entry = match serde_json::from_slice::<Registered>(event.data()) {
            Ok(entry) => entry,
            Err(error) => {
                wrong.push(unreadable(&event, &error));
                continue;
            }
        };
        let (_, category) = event.stream().split_once('/').unwrap_or_default();
        let entries = held.registered.entry(category.to_owned()).or_default();
        entries.push(entry);
    }
    Ok((held, wrong))
}

/// Compares a program's types with what a log holds: which change would break whom.
pub async fn check(program: &ProgramTypes, log: &dyn Log) -> Result<Report, RegistryError> {
    Ok(compare(program, &held(log).await?))
}

/// Which change of one service would break whom: the log's history, instances that run, and readers
/// that are part of other services.
pub async fn check_rollout(next: &ServiceTypes, log: &dyn Log) -> Result<Rollout, RegistryError> {
    let held = held(log).await?;
    let mut running = Running {
        services: readers(log).await?,
        ..Running::default()
    };
    let before = running.services.iter();
    let before = before.filter(|service| service.service == next.service);
    let before = before.flat_map(|service| service.sagas.keys());
    let names: BTreeSet<String> = next.sagas.keys().chain(before).cloned().collect();
    for name in names {
        let open = open_sagas(log, &name).await?;
        running.sagas.insert(name, open);
    }
    Ok(compare_rollout(next, &held, &running))
}

/// What services have said last of what they read, by their names.
pub async fn readers(log: &dyn Log) -> Result<Vec<ServiceTypes>, RegistryError> {
    let mut said = BTreeMap::new();
    let mut read = log.read(&Cut::start(), Filter::category(READERS), ReadMode::ToHead);
    while let Some(event) = read.next().await {
        let event = event?;
        let types: ServiceTypes =
            serde_json::from_slice(event.data()).map_err(|error| unreadable(&event, &error))?;
        said.insert(types.service.clone(), types);
    }
    Ok(said.into_values().collect())
}

/// How many instances of a saga have not ended, by the definition that they run on.
async fn open_sagas(
    log: &dyn Log,
    saga: &str,
) -> Result<BTreeMap<DefinitionHash, u64>, RegistryError> {
    let mut open = BTreeMap::new();
    let types = [STARTED, "SagaCompleted", "SagaCompensated"];
    let filter = Filter {
        categories: [saga.to_owned()].into(),
        types: types
            .iter()
            .filter_map(|name| EventType::new(*name).ok())
            .collect(),
        ..Filter::all()
    };
    let mut read = log.read(&Cut::start(), filter, ReadMode::ToHead);
    while let Some(event) = read.next().await {
        let event = event?;
        if event.event_type() != STARTED {
            open.remove(event.stream());
            continue;
        }
        let started: Started =
            serde_json::from_slice(event.data()).map_err(|error| unreadable(&event, &error))?;
        open.insert(event.stream().to_owned(), started.definition);
    }
    let mut counts = BTreeMap::new();
    for definition in open.into_values() {
        *counts.entry(definition).or_default() += 1;
    }
    Ok(counts)
}

const STARTED: &str = "SagaStarted";

/// Of the event that starts a saga, what counts here.
#[derive(Deserialize)]
struct Started {
    definition: DefinitionHash,
}

fn unreadable(event: &Event, error: &serde_json::Error) -> RegistryError {
    RegistryError::Unreadable {
        stream: event.stream().to_string(),
        version: event.version,
        reason: error.to_string(),
    }
}
