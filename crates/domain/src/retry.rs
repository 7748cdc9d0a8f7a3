use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to try again: after `first`, then each time twice as long, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// How long to wait before the second attempt.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How many attempts there are; `None`: no end.
    pub attempts_max: Option<u32>,
    /// How much of a wait is left to chance, in percent, so that many who wait do not come
    /// back at once.
    pub jitter_percent: u8,
}

impl Retry {
    /// From 100 ms to 30 s, without end, a fifth left to chance.
    pub const DEFAULT: Self = Self {
        first: Duration::from_millis(100),
        max: Duration::from_secs(30),
        attempts_max: None,
        jitter_percent: 20,
    };

    /// One attempt only.
    pub const NEVER: Self = Self {
        attempts_max: Some(1),
        ..Self::DEFAULT
    };

    /// How long to wait after attempt number `attempt`, counted from 1. The same `seed` gives
    /// the same wait: chance comes from what is waited for, not from a generator.
    pub fn delay_after(&self, attempt: u32, seed: u128) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let whole = micros(self.first)
            .saturating_mul(1 << doublings)
            .min(micros(self.max));
        let chance = u128::from(self.jitter_percent.min(100));
        let spread = u64::try_from(u128::from(whole) * chance / 100).unwrap_or(u64::MAX);
        let hash =
            anabranch_model::content_hash([&seed.to_be_bytes()[..], &attempt.to_be_bytes()[..]])
                as u64;
        let drawn = (u128::from(hash) * u128::from(spread)) >> 64;
        Duration::from_micros(whole - drawn as u64)
    }

    /// Whether another attempt follows after attempt number `attempt`, counted from 1.
    pub fn goes_on_after(&self, attempt: u32) -> bool {
        self.attempts_max.is_none_or(|max| attempt < max)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry {
            jitter_percent: 0,
            ..Retry::DEFAULT
        };
        let waits = [1, 2, 3, 9, 10, 1000].map(|n| retry.delay_after(n, 7).as_millis());
        assert_eq!(waits, [100, 200, 400, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn chance_only_shortens_a_wait_and_is_repeatable() {
        for seed in 0..100 {
            let wait = Retry::DEFAULT.delay_after(1, seed);
            assert!(wait <= Duration::from_millis(100) && wait >= Duration::from_millis(80));
            assert_eq!(wait, Retry::DEFAULT.delay_after(1, seed));
        }
        assert_ne!(
            Retry::DEFAULT.delay_after(1, 1),
            Retry::DEFAULT.delay_after(1, 2)
        );
    }
}
