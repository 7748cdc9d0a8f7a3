use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Clock;

/// 2026-01-01T00:00:00Z, where a new clock stands.
const WALL_START_MICROS: u64 = 1_767_225_600_000_000;

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SimClock {
    monotonic_nanos: AtomicU64,
    wall_micros: AtomicU64,
}

impl SimClock {
    /// A clock that shows the start of 2026.
    pub fn new() -> Self {
        Self {
            monotonic_nanos: AtomicU64::new(0),
            wall_micros: AtomicU64::new(WALL_START_MICROS),
        }
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        let nanos = by.as_nanos() as u64;
        let before = self.monotonic_nanos.fetch_add(nanos, Ordering::Relaxed);
        let micros = (before + nanos) / 1000 - before / 1000;
        self.wall_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sets the wall clock, forward or back, as an operator or a time server may. The
    /// monotonic clock does not notice.
    pub fn set_wall_micros(&self, micros: u64) {
        self.wall_micros.store(micros, Ordering::Relaxed);
    }

    /// A clock of its own that shows the same times.
    pub(super) fn fork(&self) -> Self {
        Self {
            monotonic_nanos: AtomicU64::new(self.monotonic_nanos.load(Ordering::Relaxed)),
            wall_micros: AtomicU64::new(self.wall_micros.load(Ordering::Relaxed)),
        }
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn wall_micros(&self) -> u64 {
        self.wall_micros.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::Relaxed))
    }
}
