//! The log's own memory of commands: which of them have recorded events, and which events.

use std::ops::Range;
use std::sync::Arc;

use anabranch_domain::Event as _;
use anabranch_domain::{CommandId, Note, StreamId};

use anabranch_log::{Append, AppendError, Expect, Log, Order, ReadMode, Rejection, VersionRange};
use anabranch_model::{Cut, Event, EventType, Filter, NewEvent, Position, Version};

use super::{Accepted, Recorded};
use crate::send_error::SendError;

/// Where the first event stands that the command has recorded; `None` if it has recorded none.
///
/// Asks by an append that cannot be written, because no stream is ever at its greatest
/// version: the log looks for the id before it looks at the condition.
pub async fn find(
    log: &Arc<dyn Log>,
    stream: &StreamId,
    command: CommandId,
) -> Result<Option<Position>, SendError> {
    let probe = EventType::new("$probe").map_err(|e| SendError::Invalid(e.to_string()))?;
    let event = NewEvent::new(command.event_id(0), stream.clone(), probe, &b"{}"[..]);
    let append = Append::event(event).expect(stream.clone(), Expect::At(Version::MAX));
    match log.append(append).await {
        Err(AppendError::Conflict { .. }) => Ok(None),
        Err(AppendError::Rejected(
            Rejection::IdTaken { position, .. } | Rejection::PartlyWritten { position, .. },
        )) => Ok(Some(position)),
        Ok(appended) => Ok(appended.places.first().map(|place| place.position)),
        Err(error) => Err(SendError::Unavailable {
            reason: format!("could not find out whether the command was done before: {error}"),
            retry_after: None,
        }),
    }
}

/// The first outcome of a command whose first event stands at `position`.
pub async fn recall(
    log: &Arc<dyn Log>,
    stream: &StreamId,
    command: CommandId,
    position: Position,
) -> Result<Accepted, SendError> {
    let mut from = Cut::start();
    from.set(position.partition, position.offset);
    let mut read = log.read(&from, Filter::all(), ReadMode::ToHead);
    let mut accepted = nothing_yet();
    let mut index = 0;
    while let Some(event) = read.next().await {
        let event = event.map_err(|e| unreadable(e.to_string()))?;
        if event.position.partition != position.partition {
            continue;
        }
        if event.id != command.event_id(index) {
            break;
        }
        if event.stream() != stream.as_str() {
            return Err(SendError::IdTaken {
                id: command,
                stream: event.stream().to_owned(),
            });
        }
        take_in(&mut accepted, &event)?;
        index += 1;
    }
    if index == 0 {
        return Err(SendError::IdTaken {
            id: command,
            stream: format!("an event at {position} that is not the command's"),
        });
    }
    Ok(accepted)
}

/// The first outcome of a command that has recorded the events of these versions, possibly
/// none.
pub async fn recall_versions(
    log: &Arc<dyn Log>,
    stream: &StreamId,
    versions: Range<Version>,
) -> Result<Accepted, SendError> {
    let mut accepted = nothing_yet();
    if versions.is_empty() {
        accepted.version = versions.start.checked_sub(1);
    }
    let mut read = log.read_stream(stream, VersionRange(versions), Order::Forward);
    while let Some(event) = read.next().await {
        take_in(
            &mut accepted,
            &event.map_err(|e| unreadable(e.to_string()))?,
        )?;
    }
    Ok(accepted)
}

fn nothing_yet() -> Accepted {
    Accepted {
        events: Vec::new(),
        version: None,
        token: Cut::start(),
        repeated: true,
    }
}

fn unreadable(reason: String) -> SendError {
    SendError::Unavailable {
        reason: format!("the command was done before, but its events cannot be read: {reason}"),
        retry_after: None,
    }
}

/// Adds an event to the outcome; or turns it into the refusal that the event says it was.
fn take_in(accepted: &mut Accepted, event: &Event) -> Result<(), SendError> {
    accepted.version = Some(event.version);
    accepted.token = Cut::including(event.position);
    if Note::version_of(event.event_type()).is_some() {
        let note = Note::decode(event.event_type(), event.schema_version, event.data());
        return match note.map_err(|e| unreadable(e.to_string()))? {
            Note::Refused { rejection, .. } => Err(SendError::Rejected(rejection)),
            Note::Tombstone { .. } | Note::Done { .. } => Ok(()),
        };
    }
    accepted.events.push(Recorded {
        event_type: EventType::new(event.event_type()).map_err(|e| unreadable(e.to_string()))?,
        schema_version: event.schema_version,
        data: bytes::Bytes::copy_from_slice(event.data()),
        place: anabranch_log::Placed {
            position: event.position,
            version: event.version,
        },
    });
    Ok(())
}
