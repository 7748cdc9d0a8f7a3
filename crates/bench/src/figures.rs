use std::time::Duration;

use anabranch_env::DiskStats;
use serde::Serialize;

use crate::latency::Latencies;

/// What was seen in one stretch of a measurement.
#[derive(Clone, Default)]
pub struct Slice {
    /// Appends acknowledged.
    pub appends: u64,
    /// Events acknowledged.
    pub events: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// From the call to the acknowledgement, of each append.
    pub latencies: Latencies,
    /// What went to the disk meanwhile.
    pub disk: DiskStats,
    /// Processor time of the process meanwhile.
    pub cpu: Option<Duration>,
}

/// The figures of one contender, of one stretch or of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Events acknowledged per second.
    pub events_per_second: f64,
    /// Latency that half of the appends do not exceed, in microseconds.
    pub p50_us: f64,
    /// The same for nine tenths.
    pub p90_us: f64,
    /// The same for 99 of a hundred.
    pub p99_us: f64,
    /// The same for 999 of a thousand.
    pub p999_us: f64,
    /// The longest latency.
    pub max_us: f64,
    /// Device flushes per second. Absent where nobody counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncs_per_second: Option<f64>,
    /// Device flushes per append.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncs_per_append: Option<f64>,
    /// Bytes written to files for each byte of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_payload_byte: Option<f64>,
    /// Processor time of the whole process for each event, in microseconds: clients,
    /// runtime and contender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_event: Option<f64>,
}

impl Figures {
    /// The figures of one stretch.
    pub fn of(slice: &Slice) -> Self {
        let seconds = slice.elapsed.as_secs_f64();
        let per = |count: u64, of: f64| if of > 0.0 { count as f64 / of } else { 0.0 };
        let counted = slice.disk.writes > 0;
        let at = |quantile| slice.latencies.micros_at(quantile);
        Self {
            events_per_second: per(slice.events, seconds),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: slice.latencies.micros_max(),
            syncs_per_second: counted.then(|| per(slice.disk.syncs, seconds)),
            syncs_per_append: counted.then(|| per(slice.disk.syncs, slice.appends as f64)),
            bytes_per_payload_byte: counted
                .then(|| per(slice.disk.bytes_written, slice.data_bytes as f64)),
            cpu_us_per_event: slice
                .cpu
                .filter(|_| slice.events > 0)
                .map(|cpu| cpu.as_secs_f64() * 1e6 / slice.events as f64),
        }
    }

    /// The median of each figure over several stretches; the longest latency is the
    /// longest of all. `None` of none.
    pub fn median(of: &[Self]) -> Option<Self> {
        let over = |pick: fn(&Self) -> f64| median(of.iter().map(pick));
        let over_some = |pick: fn(&Self) -> Option<f64>| median(of.iter().filter_map(pick));
        Some(Self {
            events_per_second: over(|f| f.events_per_second)?,
            p50_us: over(|f| f.p50_us)?,
            p90_us: over(|f| f.p90_us)?,
            p99_us: over(|f| f.p99_us)?,
            p999_us: over(|f| f.p999_us)?,
            max_us: of.iter().map(|f| f.max_us).fold(0.0, f64::max),
            syncs_per_second: over_some(|f| f.syncs_per_second),
            syncs_per_append: over_some(|f| f.syncs_per_append),
            bytes_per_payload_byte: over_some(|f| f.bytes_per_payload_byte),
            cpu_us_per_event: over_some(|f| f.cpu_us_per_event),
        })
    }
}

/// One contender's figures over another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Of events per second.
    pub throughput: f64,
    /// Of the median latencies.
    pub p50: f64,
}

impl Ratio {
    /// The median of the ratios of stretches that were measured one next to the other.
    /// Ratios of neighbours cancel what the machine does meanwhile; a ratio of medians
    /// does not. `None` of none.
    pub fn median(ours: &[Figures], theirs: &[Figures]) -> Option<Self> {
        let over = |pick: fn(&Figures) -> f64| {
            median(
                ours.iter()
                    .zip(theirs)
                    .filter(|(_, theirs)| pick(theirs) > 0.0)
                    .map(|(ours, theirs)| pick(ours) / pick(theirs)),
            )
        };
        Some(Self {
            throughput: over(|f| f.events_per_second)?,
            p50: over(|f| f.p50_us)?,
        })
    }
}

/// The value in the middle; the mean of the two in the middle of an even number of them.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(events_per_second: f64, p50_us: f64) -> Figures {
        Figures {
            events_per_second,
            p50_us,
            p90_us: 0.0,
            p99_us: 0.0,
            p999_us: 0.0,
            max_us: p50_us,
            syncs_per_second: None,
            syncs_per_append: None,
            bytes_per_payload_byte: None,
            cpu_us_per_event: None,
        }
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median([4.0, 1.0, 9.0, 2.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn the_ratio_is_the_median_of_neighbours_not_the_ratio_of_medians() {
        // The machine became ten times slower after the first round.
        let ours = [
            figures(1000.0, 1.0),
            figures(80.0, 10.0),
            figures(90.0, 10.0),
        ];
        let theirs = [
            figures(1000.0, 1.0),
            figures(100.0, 8.0),
            figures(100.0, 5.0),
        ];
        let ratio = Ratio::median(&ours, &theirs).unwrap();
        assert_eq!(ratio.throughput, 0.9);
        assert_eq!(ratio.p50, 1.25);
    }

    #[test]
    fn a_round_in_which_the_other_did_nothing_gives_no_ratio() {
        assert_eq!(
            Ratio::median(&[figures(1.0, 1.0)], &[figures(0.0, 0.0)]),
            None
        );
    }

    #[test]
    fn figures_count_events_flushes_and_bytes_against_time_and_data() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_micros(100));
        let figures = Figures::of(&Slice {
            appends: 10,
            events: 1_000,
            data_bytes: 4_000,
            elapsed: Duration::from_millis(500),
            latencies,
            disk: DiskStats {
                bytes_written: 6_000,
                writes: 7,
                syncs: 5,
            },
            cpu: Some(Duration::from_millis(30)),
        });
        assert_eq!(figures.events_per_second, 2_000.0);
        assert_eq!(figures.syncs_per_second, Some(10.0));
        assert_eq!(figures.syncs_per_append, Some(0.5));
        assert_eq!(figures.bytes_per_payload_byte, Some(1.5));
        assert_eq!(figures.cpu_us_per_event, Some(30.0));
    }

    #[test]
    fn the_median_figures_keep_the_longest_latency() {
        let of = [figures(1.0, 3.0), figures(2.0, 9.0), figures(3.0, 4.0)];
        let median = Figures::median(&of).unwrap();
        assert_eq!((median.events_per_second, median.p50_us), (2.0, 4.0));
        assert_eq!(median.max_us, 9.0);
        assert_eq!(median.syncs_per_second, None);
    }
}
