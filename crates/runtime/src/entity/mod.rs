//! Entities: command → decide → append → reply.

mod host;

use anabranch_domain::Json;
use anabranch_model::{StreamId, Version};
use serde::Serialize;

pub use host::{EntityHost, HostError};

use crate::host::Status;
pub use crate::host::{HostOptions as EntityOptions, SendOptions};

/// An entity, as an operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its stream.
    pub stream: StreamId,
    /// The version of the last event that the state includes; `None`: none.
    pub version: Option<Version>,
    /// The state, as JSON.
    pub state: Json,
    /// What it is doing here.
    pub status: Status,
}
