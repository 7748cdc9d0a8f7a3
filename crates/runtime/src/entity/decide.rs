//! From a command to the events that a batch will hold.

use std::sync::Arc;

use anabranch_domain::{Decided as Decision, Entity, Event, SAGA_HEADER, StreamId};
use anabranch_log::{Append, Expect, Placed};
use anabranch_model::{Meta, NewEvent};

use super::slot::{Ask, Batch, Decided, Durable, Live, Verdict};
use super::{Recorded, Shared};
use crate::panics::contain;
use crate::send_error::SendError;

/// Whether a command may be decided now and share the open batch.
pub fn may_join<E: Entity>(live: &Live<E>, next: &Ask<E>) -> bool {
    let flight_alone = live.flight.as_ref().is_some_and(|flight| flight.is_alone());
    let undisturbed = live.flight.is_none() && live.open.is_empty();
    !flight_alone && !live.open.is_alone() && (!next.alone || undisturbed)
}

/// Decides one command into the open batch; gives it back if the batch has no room for it.
pub fn decide<E: Entity>(
    shared: &Shared<E>,
    live: &mut Live<E>,
    ask: Box<Ask<E>>,
) -> Result<(), Box<Ask<E>>> {
    let entity = &live.entity;
    if let Some(expect) = ask.expect
        && !expect.holds(entity.version())
    {
        let verdict = Verdict::OtherVersion(entity.version());
        live.open.decided.push(Decided { ask, verdict });
        return Ok(());
    }
    let now = shared.time.now();
    let decided = contain(|| {
        let decision = entity.decide(&ask.stream, ask.asked(), &ask.command, now);
        let encoded = match &decision {
            Decision::Events(events) => encode(shared, &ask, events),
            Decision::Note(note, _) => encode(shared, &ask, std::slice::from_ref(note)),
            Decision::Nothing(_) | Decision::Repeat(_) => Ok(Vec::new()),
        };
        (decision, encoded)
    });
    let (decision, encoded) = match decided {
        Ok((decision, Ok(encoded))) => (decision, encoded),
        Ok((_, Err(error))) => {
            let verdict = Verdict::Failed(error);
            live.open.decided.push(Decided { ask, verdict });
            return Ok(());
        }
        Err(reason) => {
            fail(live, ask, reason);
            return Ok(());
        }
    };
    let open = &mut live.open;
    let bytes: usize = encoded.iter().map(size_of_event).sum();
    let full = open.events.len() + encoded.len() > shared.limits.batch_events_max
        || open.bytes + bytes > shared.limits.batch_bytes_max;
    if full && !open.events.is_empty() {
        return Err(ask);
    }
    let first = open.events.len();
    let verdict = match decision {
        Decision::Events(events) => match contain(|| live.entity.apply(ask.asked(), &events)) {
            Ok(()) => Verdict::Events(first..first + events.len()),
            Err(reason) => {
                fail(live, ask, reason);
                return Ok(());
            }
        },
        Decision::Note(note, outcome) => {
            live.entity.apply_note(&note);
            Verdict::Noted(first, outcome)
        }
        Decision::Nothing(Ok(())) => Verdict::Events(first..first),
        Decision::Nothing(Err(rejection)) => Verdict::Rejected(rejection),
        Decision::Repeat(remembered) => Verdict::Repeat(remembered),
    };
    let open = &mut live.open;
    open.bytes += bytes;
    open.events.extend(encoded);
    open.decided.push(Decided { ask, verdict });
    Ok(())
}

/// The entity's code has panicked at a command: nothing of it is kept.
fn fail<E: Entity>(live: &mut Live<E>, ask: Box<Ask<E>>, reason: String) {
    let verdict = Verdict::Failed(SendError::Panicked {
        stream: ask.stream.clone(),
        reason: reason.clone(),
    });
    live.open.decided.push(Decided { ask, verdict });
    live.broken = Some(reason);
}

/// The events as they are stored: their ids and their cause follow from the command.
fn encode<E: Entity, V: Event>(
    shared: &Shared<E>,
    ask: &Ask<E>,
    events: &[V],
) -> Result<Vec<NewEvent>, SendError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut meta = Meta {
        source: Some(shared.source.clone()),
        causation_id: Some(ask.id.to_string()),
        correlation_id: ask.correlation_id.clone(),
        ..Meta::default()
    };
    if shared.many_partitions {
        meta.causes = ask.causes.clone();
    }
    if let (false, Some(saga)) = (ask.role.is_plain(), &ask.reply_to) {
        meta.headers
            .insert(SAGA_HEADER.to_owned(), saga.to_string());
    }
    let meta = Arc::new(meta);
    let mut encoded = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let kind = event.kind();
        let known = shared.types.iter().find(|t| t.as_str() == kind.name);
        let event_type = known.cloned().ok_or_else(|| {
            SendError::Invalid(format!(
                "{kind} is not among the kinds that its event type declares"
            ))
        })?;
        let mut data = Vec::new();
        event
            .encode(&mut data)
            .map_err(|error| SendError::Invalid(error.to_string()))?;
        let id = ask.id.event_id(index as u32);
        let mut new = NewEvent::new(id, ask.stream.clone(), event_type, data);
        new.schema_version = kind.version;
        new.meta = Some(meta.clone());
        encoded.push(new);
    }
    let checked = shared.limits.check(&encoded);
    checked.map_err(|error| SendError::Invalid(error.to_string()))?;
    Ok(encoded)
}

/// What the sender of a command sees of an event that it has recorded.
pub fn recorded_as(event: &NewEvent, place: Placed) -> Recorded {
    Recorded {
        event_type: event.event_type.clone(),
        schema_version: event.schema_version,
        data: event.data.clone(),
        place,
    }
}

/// At least what the log's limits count.
fn size_of_event(event: &NewEvent) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let meta = event.meta.as_deref().map_or(0, |meta| {
        text(&meta.source) + text(&meta.causation_id) + text(&meta.correlation_id)
    });
    event.data.len() + meta + event.stream.as_str().len() + 64
}

/// The append of a batch that was decided over `base`.
pub fn append_of<E: Entity>(stream: &StreamId, base: Option<Durable>, batch: &Batch<E>) -> Append {
    let expect = base.map_or(Expect::Empty, |durable| Expect::At(durable.version));
    Append::events(batch.events.clone()).expect(stream.clone(), expect)
}
