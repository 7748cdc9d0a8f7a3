//! The log's own memory of commands: which of them have recorded events, and which events.

use std::sync::Arc;

use anabranch_domain::{CommandId, StreamId};
use anabranch_log::{Append, AppendError, Expect, Log, ReadMode, Rejection};
use anabranch_model::{Cut, EventType, Filter, NewEvent, Position, Version};

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
    let unreadable = |reason: String| SendError::Unavailable {
        reason: format!("the command was done before, but its events cannot be read: {reason}"),
        retry_after: None,
    };
    let mut from = Cut::start();
    from.set(position.partition, position.offset);
    let mut read = log.read(&from, Filter::all(), ReadMode::ToHead);
    let mut accepted = Accepted {
        events: Vec::new(),
        version: None,
        token: Cut::start(),
        repeated: true,
    };
    while let Some(event) = read.next().await {
        let event = event.map_err(|e| unreadable(e.to_string()))?;
        if event.position.partition != position.partition {
            continue;
        }
        if event.id != command.event_id(accepted.events.len() as u32) {
            break;
        }
        if event.stream() != stream.as_str() {
            return Err(SendError::IdTaken {
                id: command,
                stream: event.stream().to_owned(),
            });
        }
        accepted.version = Some(event.version);
        accepted.token = Cut::including(event.position);
        accepted.events.push(Recorded {
            event_type: EventType::new(event.event_type())
                .map_err(|e| unreadable(e.to_string()))?,
            schema_version: event.schema_version,
            data: bytes::Bytes::copy_from_slice(event.data()),
            place: anabranch_log::Placed {
                position: event.position,
                version: event.version,
            },
        });
    }
    if accepted.events.is_empty() {
        return Err(SendError::IdTaken {
            id: command,
            stream: format!("an event at {position} that is not the command's"),
        });
    }
    Ok(accepted)
}
