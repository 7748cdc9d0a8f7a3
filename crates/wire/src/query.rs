use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::raw::Raw;

/// A view's answer, from one unchanging state of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryAnswer {
    /// What was asked for.
    pub value: Raw,
    /// How far into the log the answer reaches: how many events of each partition.
    pub cut: BTreeMap<String, u64>,
    /// Whether the answer lacks something that the client has seen.
    pub stale: bool,
}
