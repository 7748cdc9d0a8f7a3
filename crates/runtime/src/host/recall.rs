//! The log's own memory of commands: which of them have recorded events, and which events; and
//! what became of those that have recorded none.

use std::sync::Arc;

use anabranch_domain::{Event as _, Note, StreamId};
use anabranch_log::{Expect, Log, Placed, ReadMode};
use anabranch_model::{Cut, Event, EventType, Filter, Meta, NewEvent, Position, Version};
use serde::{Deserialize, Serialize};

use super::desk::{CONTENT_HEADER, Verdict, Writer, content_text};
use super::item::{Key, Outcome};
use super::status::{Accepted, Recorded};
use crate::beside::beside;
use crate::send_error::SendError;

/// The event that says what became of a command that has recorded nothing. It has the id that
/// the command's first event would have: so of all that is ever decided about one command, the
/// log takes one. It stands beside the entities' own streams: nothing has happened to them.
const SETTLED: &str = "$Settled";
/// The category of these events; the key is that of the entities.
const SETTLED_CATEGORY: &str = "$settled";

#[derive(Debug, Serialize, Deserialize)]
struct Settled {
    /// The entity's stream.
    stream: StreamId,
    /// The version of its last event at that time.
    version: Option<Version>,
    became: Became,
}

#[derive(Debug, Serialize, Deserialize)]
enum Became {
    /// It was done, and there was nothing to record.
    Done,
    Refused(anabranch_domain::Rejection),
    /// The entity was at another version than this.
    Unexpected(#[serde(with = "Expected")] Expect),
}

/// As [`Expect`], stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Expect")]
enum Expected {
    Any,
    Empty,
    Exists,
    At(Version),
}

impl Settled {
    /// `None` if the verdict is none that lasts.
    fn of(stream: &StreamId, version: Option<Version>, verdict: &Verdict) -> Option<Self> {
        let became = match verdict {
            Verdict::Done => Became::Done,
            Verdict::Failed(SendError::Rejected(why)) if !why.try_again => {
                Became::Refused(why.clone())
            }
            Verdict::Failed(SendError::VersionMismatch { expected, .. }) => {
                Became::Unexpected(*expected)
            }
            Verdict::Failed(_) | Verdict::Repeat(_) => return None,
        };
        Some(Self {
            stream: stream.clone(),
            version,
            became,
        })
    }

    fn outcome(self, position: Position) -> Outcome {
        match self.became {
            Became::Done => Ok(Accepted {
                token: Cut::including(position),
                ..nothing_new(self.version)
            }),
            Became::Refused(why) => Err(SendError::Rejected(why)),
            Became::Unexpected(expected) => Err(SendError::VersionMismatch {
                stream: self.stream,
                expected,
                actual: self.version,
            }),
        }
    }
}

/// The event that settles what became of a command that records nothing, so that it stays so.
/// `None` if the verdict is none that lasts. It is appended on the condition that the entity is
/// still at the version that it was decided at: a runtime that lags behind settles nothing.
pub fn settled(
    key: &Key,
    writer: &Writer,
    meta: Meta,
    version: Option<Version>,
    verdict: &Verdict,
) -> Result<Option<NewEvent>, SendError> {
    let Some(settled) = Settled::of(&key.stream, version, verdict) else {
        return Ok(None);
    };
    let invalid = |error: String| SendError::Invalid(error);
    let stream = beside(SETTLED_CATEGORY, &key.stream, writer.many_partitions);
    let stream = stream.map_err(|e| invalid(e.to_string()))?;
    let kind = EventType::new(SETTLED).map_err(|e| invalid(e.to_string()))?;
    let data = serde_json::to_vec(&settled).map_err(|e| invalid(e.to_string()))?;
    let mut event = NewEvent::new(key.id.event_id(0), stream, kind, data);
    event.meta = Some(Arc::new(meta));
    Ok(Some(event))
}

/// An id names one command for ever: what it says is compared too, where both are known.
fn check_content(key: &Key, event: &Event) -> Result<(), SendError> {
    let Some(content) = key.content else {
        return Ok(());
    };
    let meta = event.meta().decode().map_err(unreadable)?;
    match meta.headers.get(CONTENT_HEADER) {
        Some(first) if *first != content_text(content) => Err(SendError::IdTaken {
            id: key.id,
            stream: key.stream.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The first outcome of a command; `None` if the log has none.
pub async fn first_outcome(log: &Arc<dyn Log>, key: &Key) -> Result<Option<Accepted>, SendError> {
    let (stream, command) = (&key.stream, key.id);
    let found = log.find(command.event_id(0)).await;
    let found = found.map_err(|error| SendError::Unavailable {
        reason: format!("could not find out whether the command was done before: {error}"),
        retry_after: None,
    })?;
    let Some(Placed { position, .. }) = found else {
        return Ok(None);
    };
    let mut from = log.head().await.map_err(unreadable)?;
    from.set(position.partition, position.offset);
    let mut read = log.read(&from, Filter::all(), ReadMode::ToHead);
    let mut accepted = nothing_new(None);
    let mut index = 0;
    while let Some(event) = read.next().await {
        let event = event.map_err(unreadable)?;
        if event.position.partition != position.partition {
            continue;
        }
        if event.id != command.event_id(index) {
            break;
        }
        let id_taken = |stream: &str| SendError::IdTaken {
            id: command,
            stream: stream.to_owned(),
        };
        if event.event_type() == SETTLED {
            let settled = serde_json::from_slice::<Settled>(event.data());
            let settled = settled.map_err(unreadable)?;
            if settled.stream != *stream {
                return Err(id_taken(settled.stream.as_str()));
            }
            check_content(key, &event)?;
            return settled.outcome(position).map(Some);
        }
        if event.stream() != stream.as_str() {
            return Err(id_taken(event.stream()));
        }
        check_content(key, &event)?;
        take_in(&mut accepted, &event)?;
        index += 1;
    }
    match index {
        0 => Err(unreadable(format_args!(
            "there is none of it at {position}"
        ))),
        _ => Ok(Some(accepted)),
    }
}

/// The outcome of a command that has recorded nothing, at an entity of this version.
pub fn nothing_new(version: Option<Version>) -> Accepted {
    Accepted {
        events: Vec::new(),
        version,
        token: Cut::start(),
        repeated: true,
    }
}

fn unreadable(reason: impl std::fmt::Display) -> SendError {
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
        return match note.map_err(unreadable)? {
            Note::Refused { rejection, .. } => Err(SendError::Rejected(rejection)),
            Note::Tombstone { .. } | Note::Done { .. } => Ok(()),
        };
    }
    accepted.events.push(Recorded {
        event_type: EventType::new(event.event_type()).map_err(unreadable)?,
        schema_version: event.schema_version,
        data: bytes::Bytes::copy_from_slice(event.data()),
        place: Placed {
            position: event.position,
            version: event.version,
        },
    });
    Ok(())
}
