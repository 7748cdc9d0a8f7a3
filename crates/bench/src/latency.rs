use std::time::Duration;

use hdrhistogram::Histogram;

/// How long things took: counts of durations up to 10 minutes, in nanoseconds, exact to three
/// digits. Longer ones count as 10 minutes.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

const LONGEST_NS: u64 = 600_000_000_000;

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Self(histogram.expect("the bounds are constants that the histogram can hold"))
    }

    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(ns.min(LONGEST_NS));
    }

    /// Counts all of `other` as well.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms here have the same bounds");
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration, in microseconds, that the share `quantile` of all does not exceed;
    /// 0 when there are none.
    pub fn micros_at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The longest, in microseconds.
    pub fn micros_max(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.001
    }

    #[test]
    fn percentiles_of_a_known_distribution_are_right() {
        let mut latencies = Latencies::new();
        for us in (1..=10_000).rev() {
            latencies.record(Duration::from_micros(us));
        }
        for (quantile, us) in [
            (0.5, 5_000.0),
            (0.9, 9_000.0),
            (0.99, 9_900.0),
            (0.999, 9_990.0),
        ] {
            let got = latencies.micros_at(quantile);
            assert!(near(got, us), "p{quantile}: {got} instead of {us}");
        }
        assert!(near(latencies.micros_max(), 10_000.0));
        assert_eq!(latencies.count(), 10_000);
    }

    #[test]
    fn merging_counts_both() {
        let (mut fast, mut slow) = (Latencies::new(), Latencies::new());
        for _ in 0..3 {
            fast.record(Duration::from_micros(10));
            slow.record(Duration::from_millis(10));
        }
        slow.record(Duration::from_millis(10));
        fast.merge(&slow);
        assert_eq!(fast.count(), 7);
        assert!(near(fast.micros_at(0.4), 10.0));
        assert!(near(fast.micros_at(0.5), 10_000.0));
    }

    #[test]
    fn what_cannot_be_held_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(3_600));
        assert_eq!(latencies.count(), 2);
        assert!(near(latencies.micros_max(), 600e6));
    }
}
