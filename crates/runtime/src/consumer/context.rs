use std::sync::Arc;

use anabranch_log::Log;
use anabranch_model::Cut;

use crate::checkpoint::Checkpoints;
use crate::follow::StoreError;
use crate::time::Time;

/// What a consumer's store may need to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConsumerContext {
    /// The service's name.
    pub service: String,
    /// The consumer's name.
    pub name: &'static str,
    /// Where it begins, if it has no place yet: to be kept before the first event comes.
    pub begin: Cut,
    /// The service's log.
    pub log: Arc<dyn Log>,
    /// The service's clock.
    pub time: Time,
    /// Where the service keeps the places of its readers.
    pub checkpoints: Arc<dyn Checkpoints>,
}

impl ConsumerContext {
    /// An error of this consumer's store.
    pub fn failed(&self, reason: impl ToString) -> StoreError {
        StoreError::of(format!("consumer {}", self.name), reason)
    }
}
