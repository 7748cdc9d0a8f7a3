//! How a power cut decides what survives.

use crate::SplitMix64;

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// Any part of it that the rules allow, by a seed.
    Any(u64),
}

/// How kind a power cut is: drawn once for the disk or for a file, so that the extremes
/// come as often as the mixtures.
#[derive(Debug, Clone)]
pub(super) struct Mood {
    /// Of 16 unsynced sectors, how many reach the disk.
    keep: u64,
    /// Of 16 sectors that do, how many do in part.
    tear: u64,
    /// Of 16 lost sectors of a grown file, how many show older bytes.
    stale: u64,
}

impl Mood {
    pub(super) const NOTHING: Self = Self {
        keep: 0,
        tear: 0,
        stale: 0,
    };
    pub(super) const EVERYTHING: Self = Self {
        keep: 16,
        tear: 0,
        stale: 0,
    };

    pub(super) fn draw(rng: &mut SplitMix64) -> Self {
        const KEEP: [u64; 6] = [0, 2, 8, 14, 15, 16];
        const TEAR: [u64; 4] = [0, 0, 2, 12];
        const STALE: [u64; 3] = [0, 8, 16];
        Self {
            keep: KEEP[rng.below(6) as usize],
            tear: TEAR[rng.below(4) as usize],
            stale: STALE[rng.below(3) as usize],
        }
    }

    pub(super) fn keeps(&self, rng: &mut SplitMix64) -> bool {
        rng.below(16) < self.keep
    }

    pub(super) fn tears(&self, rng: &mut SplitMix64) -> bool {
        self.tear > 0 && rng.below(16) < self.tear
    }

    pub(super) fn shows_stale(&self, rng: &mut SplitMix64) -> bool {
        self.stale > 0 && rng.below(16) < self.stale
    }

    /// How many of `count` ordered changes are kept: the first ones.
    pub(super) fn prefix(&self, rng: &mut SplitMix64, count: usize) -> usize {
        match self.keep {
            0 => 0,
            16 => count,
            _ => rng.below(count as u64 + 1) as usize,
        }
    }
}
