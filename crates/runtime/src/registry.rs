//! The registry of event types: what services write, kept in the log itself.
//!
//! For each category of entities there is a stream `$schema/<category>`. A service that starts
//! says there what it writes, if that is not what was said last. So the log knows what its
//! events look like, also when the program that wrote them is gone.

use anabranch_domain::StreamId;
use anabranch_domain::types::{
    CategoryTypes, Held, ProgramTypes, Registered, Report, check as compare,
};
use anabranch_log::{Append, AppendError, Expect, Log, Order, ReadError, ReadMode, VersionRange};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, Version, content_hash};
use thiserror::Error;

/// The category of the registry's streams.
const CATEGORY: &str = "$schema";

/// The type of the registry's events.
const REGISTERED: &str = "$TypesRegistered";

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

/// Says in the log what `service` writes, unless that was said last. Two that start at once
/// do no harm: the second one sees what the first one has said.
pub(crate) async fn record(
    log: &dyn Log,
    service: &str,
    types: &CategoryTypes,
) -> Result<(), String> {
    let stream = StreamId::system(format!("{CATEGORY}/{}", types.category))
        .map_err(|error| error.to_string())?;
    let entry = Registered {
        service: service.to_owned(),
        kinds: types.events.kinds.clone(),
    };
    let data = serde_json::to_vec(&entry).map_err(|error| error.to_string())?;
    for _ in 0..ATTEMPTS_MAX {
        let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Backward);
        let last = read.next().await.transpose().map_err(|e| e.to_string())?;
        let last_said = last.as_ref().and_then(|last| {
            // What cannot be understood is certainly not the same.
            serde_json::from_slice::<Registered>(last.data()).ok()
        });
        if last_said.is_some_and(|said| said.kinds == entry.kinds) {
            return Ok(());
        }
        let expect = last.map_or(Expect::Empty, |last| Expect::At(last.version));
        let append = append(&stream, expect, service, &data)?;
        match log.append(append).await {
            Ok(_) => return Ok(()),
            // Somebody else was first, or nobody knows: look again.
            Err(AppendError::Conflict { .. } | AppendError::Unknown { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("gave up after {ATTEMPTS_MAX} attempts"))
}

fn append(stream: &StreamId, expect: Expect, service: &str, data: &[u8]) -> Result<Append, String> {
    let place = format!("{expect:?}");
    // The same entry at the same place is the same event, whoever writes it.
    let id = content_hash([stream.as_str().as_bytes(), place.as_bytes(), data]);
    let event_type = EventType::new(REGISTERED).map_err(|error| error.to_string())?;
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
    let mut held = Held::default();
    let filter = Filter::category(CATEGORY);
    let mut read = log.read(&Cut::start(), filter, ReadMode::ToHead);
    while let Some(event) = read.next().await {
        let event = event?;
        let entry: Registered =
            serde_json::from_slice(event.data()).map_err(|error| RegistryError::Unreadable {
                stream: event.stream().to_owned(),
                version: event.version,
                reason: error.to_string(),
            })?;
        let (_, category) = event.stream().split_once('/').unwrap_or_default();
        let entries = held.registered.entry(category.to_owned()).or_default();
        entries.push(entry);
    }
    Ok(held)
}

/// Compares a program's types with what a log holds: which change would break whom.
pub async fn check(program: &ProgramTypes, log: &dyn Log) -> Result<Report, RegistryError> {
    Ok(compare(program, &held(log).await?))
}
