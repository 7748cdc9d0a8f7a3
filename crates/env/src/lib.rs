//! The world outside: disk, clock and randomness, as traits.
//!
//! [`os`] is the real machine. [`sim`] is a simulated one, driven by a seed, that loses,
//! tears, reorders and corrupts. The same engine code runs on both, so nothing above this
//! crate may touch a file, read a clock or draw a random number by itself; `clippy.toml`
//! forbids it.

mod clock;
mod disk;
pub mod os;
mod rng;
pub mod sim;

use std::sync::Arc;

pub use clock::Clock;
pub use disk::{Disk, DiskLock, DiskStats, File, OpenMode, is_out_of_files};
pub use rng::{Rng, SplitMix64};

/// All of it, as one value to hand around. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

impl Env {
    /// The real machine.
    pub fn os() -> Self {
        Self {
            disk: Arc::new(os::OsDisk::new()),
            clock: Arc::new(os::OsClock::new()),
            rng: Arc::new(os::OsRng::new()),
        }
    }
}
