use anabranch_model::{CommandId, Cut, NameError, StreamId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{DecodeError, EncodeError, Event};
use crate::json::Json;
use crate::rejection::Rejection;
use crate::step_id::StepId;
use crate::wire;

/// A request to one entity: any serde enum (in serde's default form), or a struct.
///
/// On the wire a command is its type name, which is the variant's name, and the JSON of what
/// the variant holds: `PlaceOrder` and `{"total":5}`.
///
/// ```
/// use anabranch_domain::Command;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum OrderCommand {
///     PlaceOrder { total: u64 },
/// }
///
/// let (name, data) = OrderCommand::PlaceOrder { total: 5 }.to_wire()?;
/// assert_eq!((name, data.as_str()), ("PlaceOrder", r#"{"total":5}"#));
/// let back = OrderCommand::from_wire("PlaceOrder", br#"{"total":5}"#)?;
/// assert_eq!(back, OrderCommand::PlaceOrder { total: 5 });
///
/// let error = OrderCommand::from_wire("CancelOrder", b"{}").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "command CancelOrder: unknown variant `CancelOrder`, expected `PlaceOrder`",
/// );
/// # Ok::<_, anabranch_domain::CommandError>(())
/// ```
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// The type name and the data.
    fn to_wire(&self) -> Result<(&'static str, Json), CommandError> {
        let mut data = Vec::new();
        let encoded = wire::encode(self, &mut data)
            .and_then(|name| Json::from_slice(&data).map(|json| (name, json)));
        encoded.map_err(|error| CommandError::Malformed {
            name: std::any::type_name::<Self>().to_owned(),
            reason: error.to_string(),
        })
    }

    /// The command of this type name with this JSON data.
    fn from_wire(name: &str, data: &[u8]) -> Result<Self, CommandError> {
        wire::decode(name, data).map_err(|error| CommandError::Malformed {
            name: name.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The type names there are; empty for a struct.
    fn names() -> &'static [&'static str] {
        wire::variant_names::<Self>()
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Command for T {}

/// Why there is no command. Nothing was sent and nothing was changed.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The name is not known, or the data does not fit it.
    #[error("command {name}: {reason}")]
    Malformed {
        /// The type name.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The receiver's name cannot be used.
    #[error("the command's receiver: {0}")]
    Receiver(#[from] NameError),
}

anabranch_model::debug_is_words!(CommandError);

impl From<EncodeError> for CommandError {
    fn from(error: EncodeError) -> Self {
        Self::Malformed {
            name: error.what.to_owned(),
            reason: error.reason,
        }
    }
}

/// A command to an entity, ready to send but without an id yet: who sends it gives it one
/// that follows from what caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The entity that shall do it.
    pub to: StreamId,
    /// The command's type name.
    #[serde(rename = "type")]
    pub name: String,
    /// What the command holds.
    pub data: Json,
}

impl Outgoing {
    /// `command` for the entity `category/key`.
    pub fn new(category: &str, key: &str, command: &impl Command) -> Result<Self, CommandError> {
        let to = StreamId::of(category, key)?;
        let (name, data) = command.to_wire()?;
        Ok(Self {
            to,
            name: name.to_owned(),
            data,
        })
    }
}

/// A command on its way to an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// Its id: repeating it changes nothing a second time.
    pub id: CommandId,
    /// The entity that shall do it.
    pub to: StreamId,
    /// The command's type name.
    #[serde(rename = "type")]
    pub name: String,
    /// What the command holds.
    pub data: Json,
    /// What part it plays in a saga.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
    /// The process or saga that waits for the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<StreamId>,
    /// Id of the whole story it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// W3C trace context of who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What the sender had seen when it decided to send it. The events that the command records
    /// become visible after these.
    #[serde(default, skip_serializing_if = "is_start")]
    pub causes: Cut,
}

impl CommandEnvelope {
    /// An ordinary command for which nobody but the caller waits, of a story of its own.
    pub fn plain(
        id: CommandId,
        to: StreamId,
        command: &impl Command,
        causes: Cut,
    ) -> Result<Self, CommandError> {
        let (name, data) = command.to_wire()?;
        Ok(Self {
            id,
            to,
            name: name.to_owned(),
            data,
            role: Role::Plain,
            reply_to: None,
            correlation_id: None,
            traceparent: None,
            causes,
        })
    }
}

fn is_start(cut: &Cut) -> bool {
    *cut == Cut::start()
}

/// What part a command plays in a saga. The receiver's [`CommandMemory`](crate::CommandMemory)
/// acts on it before the entity decides; a reply carries it back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Role {
    /// None: an ordinary command.
    #[default]
    Plain,
    /// The request of a step that may be undone later: its outcome is remembered, a refusal
    /// too.
    Step(StepId),
    /// The request of a step that is tried until it succeeds: its outcome is remembered, but a
    /// refusal is not.
    Forward(StepId),
    /// The compensation of a step: if that step's request was never received, there is nothing
    /// to undo, and the request is refused when it comes late.
    Undo {
        /// The step.
        step: StepId,
        /// The id of the step's request.
        of: CommandId,
    },
}

impl Role {
    /// Whether the command is an ordinary one.
    pub fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

/// What became of a command, on its way to the process or saga that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyEnvelope {
    /// The process or saga.
    pub to: StreamId,
    /// Who answers: the entity, or the saga.
    pub from: StreamId,
    /// The command's id, or the call's key.
    pub id: CommandId,
    /// The command's type name, or the effect's.
    pub name: String,
    /// The part that the command plays in a saga.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
    /// What became of it.
    pub outcome: Outcome,
    /// What it depends on: the events that were recorded, and all that went before them.
    #[serde(default, skip_serializing_if = "is_start")]
    pub causes: Cut,
}

/// What became of a command, of a call or of a saga that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done. Of a command: the events it recorded, as [`RecordedEvent`]s; of a call:
    /// what came back.
    Done(Json),
    /// It was refused, and nothing was done.
    Refused(Rejection),
    /// It was not done this time, for a reason that passes: trying again makes sense.
    Unavailable(String),
    /// It may have been done, and nobody will find out by trying again.
    Unknown(String),
}

impl Outcome {
    /// A command was done and has recorded these events.
    pub fn recorded(events: &[RecordedEvent]) -> Self {
        match Json::of(events) {
            Ok(json) => Self::Done(json),
            // Recorded events are JSON already; there is nothing here that could fail.
            Err(_) => Self::Done(Json::null()),
        }
    }

    /// The events that a command has recorded; none for anything else.
    pub fn events(&self) -> Vec<RecordedEvent> {
        match self {
            Self::Done(json) => json.parse().unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// An event that a command has recorded, as the sender of the command sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// The type name.
    #[serde(rename = "type")]
    pub name: String,
    /// The schema version.
    pub schema_version: u32,
    /// The data.
    pub data: Json,
}

impl RecordedEvent {
    /// What `event` is when it is stored.
    pub fn of<E: Event>(event: &E) -> Result<Self, EncodeError> {
        let kind = event.kind();
        let mut data = Vec::new();
        event.encode(&mut data)?;
        Ok(Self {
            name: kind.name.to_owned(),
            schema_version: kind.version,
            data: Json::from_slice(&data).map_err(|error| EncodeError {
                what: kind.name,
                reason: error.to_string(),
            })?,
        })
    }

    /// The event that was stored, if `E` knows its type and version.
    pub fn decode<E: Event>(&self) -> Result<E, DecodeError> {
        E::decode(
            &self.name,
            self.schema_version,
            self.data.as_str().as_bytes(),
        )
    }
}
