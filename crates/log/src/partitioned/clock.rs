use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_env::Clock;

/// The clock of all partitions of one log: it never goes back, and gives no time twice. An event
/// is appended after its causes are durable, so it was recorded later than they, in whichever
/// partition: time, partition and offset are one order of all events, in which nothing comes
/// before its cause.
///
/// It follows the wall clock where that goes on, and else the last event: where a wall clock was
/// set back, a hybrid logical clock.
pub struct CausalClock {
    wall: Arc<dyn Clock>,
    last: AtomicU64,
}

impl CausalClock {
    /// By this wall clock.
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        Self {
            wall,
            last: AtomicU64::new(0),
        }
    }

    /// From now on it gives later times than this one.
    pub(super) fn passes(&self, micros: u64) {
        self.last.fetch_max(micros, Ordering::Relaxed);
    }
}

impl Clock for CausalClock {
    fn wall_micros(&self) -> u64 {
        let wall = self.wall.wall_micros();
        let next = |last: u64| wall.max(last.saturating_add(1));
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let last = self.last.fetch_update(set, fetch, |last| Some(next(last)));
        // It always updates.
        next(last.unwrap_or_else(|last| last))
    }

    fn monotonic(&self) -> Duration {
        self.wall.monotonic()
    }
}
