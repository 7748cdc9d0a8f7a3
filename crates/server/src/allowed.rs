//! What of many a caller may: each event of an append, and each of a read.

use anabranch_access::{AUDIT, CATEGORY, Caller, Forbidden, Verb};
use anabranch_model::record::RecordError;
use anabranch_model::{Event, EventBatch, Filter, NewEvent};

use crate::shared::Shared;

/// Why something that goes on for long ends.
pub const NO_MORE: &str =
    "the key that was shown is good no more: it has expired or was revoked; nothing was changed";

/// Refuses an append, unless each of its events may be appended. Where nobody is asked who they are, nobody
/// makes keys: they would be good later. What is refused is written down, and what is appended to categories
/// of the platform.
pub fn append(shared: &Shared, caller: &Caller, events: &[NewEvent]) -> Result<(), Forbidden> {
    for event in events {
        let category = event.stream.category();
        let checked = match caller {
            Caller::Anybody if [AUDIT, CATEGORY].contains(&category) => {
                Caller::Nobody.check(Verb::Append, category)
            }
            caller => caller.check(Verb::Append, category),
        };
        checked.map_err(|forbidden| refused(shared, caller, forbidden))?;
    }
    let Some(audit) = &shared.audit else {
        return Ok(());
    };
    let of_platform = |event: &&NewEvent| event.stream.category().starts_with('$');
    for event in events.iter().filter(of_platform) {
        let did = format!("append {}", event.event_type.as_str());
        audit.tell(caller.name(), &did, event.stream.as_str(), "allowed");
    }
    Ok(())
}

/// Refuses a read that names something that may not be read, and writes that down.
pub fn filter(shared: &Shared, caller: &Caller, filter: &Filter) -> Result<(), Forbidden> {
    let streams = filter.streams.iter().map(|stream| stream.category());
    let mut named = filter.categories.iter().map(String::as_str).chain(streams);
    let checked = named.try_for_each(|category| caller.check(Verb::Read, category));
    checked.map_err(|forbidden| refused(shared, caller, forbidden))
}

fn refused(shared: &Shared, caller: &Caller, forbidden: Forbidden) -> Forbidden {
    if let Some(audit) = &shared.audit {
        audit.refused(caller.name(), forbidden.verb.name(), &forbidden.name);
    }
    forbidden
}

/// The events of a batch that may be read. What they stand for stays, so that its reader's place moves over
/// the others.
pub fn of_batch(batch: EventBatch, caller: &Caller) -> Result<EventBatch, RecordError> {
    if caller.is_anybody() {
        return Ok(batch);
    }
    let mut is_whole = true;
    for event in &batch {
        is_whole &= caller.may(Verb::Read, event?.category());
    }
    if is_whole {
        return Ok(batch);
    }
    let Some(reach) = batch.reach() else {
        let events = batch.into_iter().filter(|event| is_allowed(event, caller));
        return Ok(events.collect::<Result<Vec<_>, _>>()?.into());
    };
    let (mut events, mut appends) = (Vec::new(), Vec::new());
    for event in batch.clone() {
        let event = event?;
        if caller.may(Verb::Read, event.category()) {
            let start = batch.append_start(event.position).offset;
            if appends.last() != Some(&start) {
                appends.push(start);
            }
            events.push(event);
        }
    }
    Ok(EventBatch::of_run(events, reach, appends))
}

fn is_allowed(event: &Result<Event, RecordError>, caller: &Caller) -> bool {
    event
        .as_ref()
        .map_or(true, |event| caller.may(Verb::Read, event.category()))
}
