//! Who decides with others, one after another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::StreamId;
use tokio::sync::OwnedMutexGuard;

/// The entities of a service that are about to decide with others: of two lists with the same
/// entity the second waits for the first.
#[derive(Default)]
pub struct InTurn(Mutex<HashMap<StreamId, Arc<tokio::sync::Mutex<()>>>>);

impl InTurn {
    /// Waits for all of these, in an order that is the same for everybody.
    pub async fn all(&self, mut streams: Vec<StreamId>) -> Vec<OwnedMutexGuard<()>> {
        streams.sort_unstable();
        streams.dedup();
        let locks: Vec<_> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            let lock = |stream| all.entry(stream).or_default().clone();
            streams.into_iter().map(lock).collect()
        };
        let mut held = Vec::new();
        for lock in locks {
            held.push(lock.lock_owned().await);
        }
        held
    }
}
