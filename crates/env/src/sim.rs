//! A simulated machine, driven by a seed.
//!
//! [`SimDisk`] is a file system in memory that knows, for every 512-byte sector and every
//! directory entry, what a power cut would leave of it. It can be struck at any call, by
//! a power cut ([`SimDisk::crash`]) or by the end of the process ([`SimDisk::kill`]), and
//! fails by plan ([`Fault`]). [`SimClock`] stands still until it is advanced.
//!
//! Everything that looks like chance is drawn from the seed, and every call goes into a
//! hash: the same seed and the same calls give the same [`SimDisk::trace`].

mod clock;
mod crash;
mod damage;
mod disk;
mod fault;
mod file;
mod node;
mod tally;
mod trace;
mod tree;

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Env, Rng, SplitMix64};

pub use clock::SimClock;
pub use crash::Survival;
pub use disk::SimDisk;
pub use fault::{Calls, Fault, FaultKind, When};
pub use tally::{Hit, Tally};

/// The unit that a power cut keeps, loses or tears: 512 bytes.
pub const SECTOR_BYTES: usize = 512;

/// A machine with an empty disk.
pub fn env(seed: u64) -> (Env, SimDisk, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new());
    let disk = SimDisk::new(seed, clock.clone());
    (disk.env(seed), disk, clock)
}

/// Random numbers from a seed.
#[derive(Debug)]
pub struct SimRng(Mutex<SplitMix64>);

impl SimRng {
    /// A generator that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SplitMix64::new(seed)))
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }
}
