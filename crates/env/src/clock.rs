use std::time::Duration;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time: microseconds since 1970, UTC. For information; nothing may order
    /// or expire by it.
    fn wall_micros(&self) -> u64;

    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}
