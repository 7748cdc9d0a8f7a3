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
mod rng;
mod sector;
mod system;
mod tally;
mod trace;
mod tree;

use std::sync::Arc;

use crate::Env;

pub use clock::SimClock;
pub use crash::Survival;
pub use disk::SimDisk;
pub use fault::{Calls, Fault, FaultKind, When};
pub use rng::SimRng;
pub use sector::SECTOR_BYTES;
pub use tally::{Hit, Tally};

/// A machine with an empty disk.
pub fn env(seed: u64) -> (Env, SimDisk, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new());
    let disk = SimDisk::new(seed, clock.clone());
    (disk.env(seed), disk, clock)
}
