use std::sync::{Mutex, PoisonError};

use crate::{Rng, SplitMix64};

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
