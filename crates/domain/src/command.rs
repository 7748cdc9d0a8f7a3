use anabranch_model::{CommandId, NameError, StreamId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::json::Json;
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
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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
}

/// What part a command plays in a saga. The receiver's [`CommandMemory`](crate::CommandMemory)
/// acts on it before the entity decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Role {
    /// None: an ordinary command.
    #[default]
    Plain,
    /// The request of a step: its outcome is remembered, a refusal too.
    Step,
    /// The compensation of a step: if that step's request was never received, there is nothing
    /// to undo, and the request is refused when it comes late.
    Undo {
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
