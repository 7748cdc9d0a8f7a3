use anabranch_model::StreamId;
use serde::{Deserialize, Serialize};

use crate::json::Json;

/// A saga to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaStart {
    /// The saga's stream, `name/key`.
    pub saga: StreamId,
    /// What it starts from.
    pub input: Json,
}
