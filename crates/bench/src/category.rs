//! What reading one category in a hundred costs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_model::Filter;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::BenchError;
use crate::figures::median;
use crate::fill::fill;
use crate::replay::{Reader, pass};
use crate::workload::{Streams, Workload};

/// The cost of reading one category of many, against its share of the log's events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CategoryCost {
    /// Events of the category over all events.
    pub share: f64,
    /// Events of the category.
    pub events: u64,
    /// Time per event of the category over time per event of the whole log.
    pub time_ratio: f64,
    /// Bytes read per event of the category over bytes read per event of the whole log.
    pub bytes_ratio: f64,
}

/// Categories of the log that is read.
const CATEGORIES: u64 = 100;

/// Fills a log in `dir` with `events` events that the categories take turns in, one append
/// of `workload` after another, and reads all of it and one category, `passes` times each.
pub async fn category_cost(
    engine: &dyn Engine,
    dir: &Path,
    workload: &Workload,
    events: u64,
    passes: usize,
) -> Result<CategoryCost, BenchError> {
    let workload = Workload {
        categories: CATEGORIES,
        streams: workload.streams.max(10 * CATEGORIES),
        ..workload.clone()
    };
    let mut env = Env::os();
    let disk = Arc::new(crate::counting::ReadCounting::new(env.disk));
    let read = disk.bytes_read();
    env.disk = disk;
    let open = engine.open(env, dir, workload.durability)?;
    let log: Arc<dyn Log> = open.clone();
    fill(&log, &workload, events).await?;
    let measure = async |filter: Filter| {
        let (mut seconds, mut bytes, mut events) = (Vec::new(), Vec::new(), 0);
        // The first pass fills the page cache.
        for nth in 0..=passes {
            let before = read.load(Ordering::Relaxed);
            let pass = pass(&log, filter.clone(), Reader::Batches, u64::MAX).await?;
            if nth > 0 {
                seconds.push(pass.elapsed.as_secs_f64());
                bytes.push((read.load(Ordering::Relaxed) - before) as f64);
                events = pass.events;
            }
        }
        let none = || BenchError::Invalid("at least one timed read is needed".to_owned());
        Ok::<_, BenchError>((
            median(seconds).ok_or_else(none)?,
            median(bytes).ok_or_else(none)?,
            events,
        ))
    };
    let all = measure(Filter::all()).await?;
    let one = measure(Filter::category(Streams::category(7))).await?;
    open.close()?;
    cost(one, all)
}

/// Of seconds, bytes and events of one category and of all.
fn cost(one: (f64, f64, u64), all: (f64, f64, u64)) -> Result<CategoryCost, BenchError> {
    if one.2 == 0 || all.2 < one.2 {
        return Err(BenchError::Void(format!(
            "a category of a log of {} events has {} events",
            all.2, one.2
        )));
    }
    let share = one.2 as f64 / all.2 as f64;
    let ratio = |one: f64, all: f64| if all > 0.0 { one / all / share } else { 0.0 };
    Ok(CategoryCost {
        share,
        events: one.2,
        time_ratio: ratio(one.0, all.0),
        bytes_ratio: ratio(one.1, all.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_compared_with_the_share_of_the_events() {
        let cost = cost((0.02, 30.0, 10), (1.0, 1_000.0, 1_000)).unwrap();
        assert_eq!(cost.share, 0.01);
        assert_eq!(cost.time_ratio, 2.0);
        assert!((cost.bytes_ratio - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_category_without_events_has_no_cost() {
        assert!(cost((1.0, 1.0, 0), (1.0, 1.0, 5)).is_err());
    }
}
