//! Which sagas have ended. Entities forget what they remember for these.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::StreamId;
use anabranch_log::{Log, Order, ReadError, VersionRange};
use tokio::sync::OnceCell;

use crate::hash::HashMap;
use crate::time::Time;

/// The most sagas that are known at a time.
const KNOWN_MAX: usize = 1 << 16;

/// For how long a saga that was running counts as that.
const RUNNING_FOR: Duration = Duration::from_secs(1);

/// What the journals of sagas have said. A thousand entities that remember one saga, and are
/// loaded after a restart, ask its journal once.
#[derive(Default)]
pub struct EndedSagas(Mutex<HashMap<StreamId, Known>>);

struct Known {
    asked_at: Duration,
    /// Filled by the one who asks, while the others wait.
    has_ended: Arc<OnceCell<bool>>,
}

impl EndedSagas {
    /// Whether a saga has ended, or had when it was asked a moment ago.
    pub async fn has_ended(
        &self,
        log: &dyn Log,
        time: &Time,
        saga: &StreamId,
    ) -> Result<bool, ReadError> {
        let has_ended = self.known(time.monotonic(), saga);
        let asked = has_ended.get_or_try_init(|| ask(log, saga));
        asked.await.copied()
    }

    fn known(&self, now: Duration, saga: &StreamId) -> Arc<OnceCell<bool>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        let new = || Known {
            asked_at: now,
            has_ended: Arc::default(),
        };
        let known = all.entry_ref(saga).or_insert_with(new);
        // One that was running may have ended since.
        if known.has_ended.get() == Some(&false)
            && now.saturating_sub(known.asked_at) >= RUNNING_FOR
        {
            *known = new();
        }
        known.has_ended.clone()
    }
}

/// What the journal says.
async fn ask(log: &dyn Log, saga: &StreamId) -> Result<bool, ReadError> {
    let mut journal = log.read_stream(saga, VersionRange::ALL, Order::Backward);
    while let Some(event) = journal.next().await {
        match event?.event_type() {
            "SagaCompleted" | "SagaCompensated" => return Ok(true),
            // What came too late is noted behind the end.
            "LateReply" => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saga() -> StreamId {
        StreamId::of("checkout", "1").unwrap()
    }

    #[test]
    fn who_asks_at_once_shares_an_answer() {
        let known = EndedSagas::default();
        let first = known.known(Duration::ZERO, &saga());
        assert!(Arc::ptr_eq(&first, &known.known(RUNNING_FOR * 9, &saga())));
    }

    #[test]
    fn a_saga_that_was_running_is_asked_again_after_a_while_and_one_that_has_ended_never() {
        let known = EndedSagas::default();
        let running = known.known(Duration::ZERO, &saga());
        running.set(false).unwrap();
        let soon = known.known(RUNNING_FOR / 2, &saga());
        assert!(Arc::ptr_eq(&running, &soon));
        let later = known.known(RUNNING_FOR, &saga());
        assert!(!Arc::ptr_eq(&running, &later));
        later.set(true).unwrap();
        let much_later = known.known(RUNNING_FOR * 1_000, &saga());
        assert!(Arc::ptr_eq(&later, &much_later));
    }
}
