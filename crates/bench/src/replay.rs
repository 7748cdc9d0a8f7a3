//! Reading a log from its start.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Clock, Env};
use anabranch_log::{Log, ReadMode};
use anabranch_model::{Cut, Filter};
use serde::Serialize;

use crate::error::BenchError;
use crate::figures::median;
use crate::machine::Process;

/// How fast a log can be read from its start, by one reader on one thread, with the files
/// in the page cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// Of the reader of batches.
    pub events_per_second: f64,
    /// Of the asynchronous stream of single events.
    pub stream_events_per_second: f64,
    /// Events read each time.
    pub events: u64,
    /// Processor time of the batch reader over the time it took: above 1, more than one
    /// core was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<f64>,
}

/// What one pass over a log gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Events read.
    pub events: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Processor time of the process meanwhile.
    pub cpu: Option<Duration>,
}

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// In batches, decoded in place.
    Batches,
    /// One event at a time, from the asynchronous stream.
    Stream,
}

/// Reads the log `passes + 1` times with each reader and times all but the first, which
/// fills the page cache. `events_max` bounds what is read, so that it fits there.
pub async fn replay(
    log: &Arc<dyn Log>,
    events_max: u64,
    passes: usize,
) -> Result<Replayed, BenchError> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut cores = Vec::new();
    let mut events = 0;
    for (reader, rates) in [Reader::Batches, Reader::Stream]
        .into_iter()
        .zip(&mut rates)
    {
        for nth in 0..=passes {
            let pass = pass(log, Filter::all(), reader, events_max).await?;
            if nth == 0 {
                events = pass.events;
                continue;
            }
            if pass.events != events {
                return Err(BenchError::Void(format!(
                    "one replay gave {events} events, the next {}",
                    pass.events
                )));
            }
            rates.push(pass.events as f64 / pass.elapsed.as_secs_f64());
            if let (Reader::Batches, Some(cpu)) = (reader, pass.cpu) {
                cores.push(cpu.as_secs_f64() / pass.elapsed.as_secs_f64());
            }
        }
    }
    let [batches, stream] = rates.map(median);
    let none = || BenchError::Invalid("at least one timed replay is needed".to_owned());
    Ok(Replayed {
        events_per_second: batches.ok_or_else(none)?,
        stream_events_per_second: stream.ok_or_else(none)?,
        events,
        cores: median(cores),
    })
}

/// Reads what `filter` wants, once, on a thread of its own, up to `events_max` events.
pub async fn pass(
    log: &Arc<dyn Log>,
    filter: Filter,
    reader: Reader,
    events_max: u64,
) -> Result<Pass, BenchError> {
    let log = Arc::clone(log);
    let read = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(BenchError::io("starting a runtime of one thread"))?;
        crate::block_on(&runtime, read(&*log, filter, reader, events_max))
    });
    read.await.map_err(|e| BenchError::Void(e.to_string()))?
}

async fn read(
    log: &dyn Log,
    filter: Filter,
    reader: Reader,
    events_max: u64,
) -> Result<Pass, BenchError> {
    let Env { disk, clock, .. } = Env::os();
    let (begun, cpu_begun) = (clock.monotonic(), Process::now(&*disk).cpu);
    let (events, data_bytes) = match reader {
        Reader::Batches => read_batches(log, filter, events_max).await?,
        Reader::Stream => read_stream(log, filter, events_max).await?,
    };
    let elapsed = elapsed_since(&*clock, begun);
    let cpu_ended = Process::now(&*disk).cpu;
    Ok(Pass {
        events,
        data_bytes,
        elapsed,
        cpu: cpu_ended
            .zip(cpu_begun)
            .map(|(to, from)| to.saturating_sub(from)),
    })
}

/// Never zero, so that a rate can be taken.
fn elapsed_since(clock: &dyn Clock, begun: Duration) -> Duration {
    clock
        .monotonic()
        .saturating_sub(begun)
        .max(Duration::from_nanos(1))
}

async fn read_batches(
    log: &dyn Log,
    filter: Filter,
    events_max: u64,
) -> Result<(u64, u64), BenchError> {
    let mut stream = log.read(&Cut::start(), filter, ReadMode::ToHead);
    let (mut events, mut data_bytes) = (0, 0);
    while events < events_max
        && let Some(batch) = stream.next_batch().await
    {
        for event in &batch? {
            let event = event.map_err(|e| BenchError::Void(e.to_string()))?;
            events += 1;
            data_bytes += event.data.len() as u64;
        }
    }
    Ok((events, data_bytes))
}

async fn read_stream(
    log: &dyn Log,
    filter: Filter,
    events_max: u64,
) -> Result<(u64, u64), BenchError> {
    let mut stream = log.read(&Cut::start(), filter, ReadMode::ToHead);
    let (mut events, mut data_bytes) = (0, 0);
    while events < events_max
        && let Some(event) = stream.next().await
    {
        events += 1;
        data_bytes += event?.data().len() as u64;
    }
    Ok((events, data_bytes))
}

#[cfg(test)]
mod tests {
    use anabranch_log::MemoryLog;

    use super::*;
    use crate::fill::fill;
    use crate::workload::{Streams, Workload};

    async fn filled(events: u64) -> Arc<dyn Log> {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let workload = Workload {
            clients: 1,
            batch: 1,
            size: 10,
            categories: 2,
            ..Workload::default()
        };
        fill(&log, &workload, events).await.unwrap();
        log
    }

    #[tokio::test]
    async fn both_readers_read_every_event_and_all_of_its_data() {
        let log = filled(50).await;
        for reader in [Reader::Batches, Reader::Stream] {
            let pass = pass(&log, Filter::all(), reader, u64::MAX).await.unwrap();
            assert_eq!((pass.events, pass.data_bytes), (50, 500), "{reader:?}");
            assert!(!pass.elapsed.is_zero());
        }
    }

    #[tokio::test]
    async fn the_parts_that_categories_have_add_up() {
        let log = filled(60).await;
        let mut events = 0;
        for category in 0..2 {
            let filter = Filter::category(Streams::category(category));
            let pass = pass(&log, filter, Reader::Batches, u64::MAX).await.unwrap();
            assert!(pass.events > 0);
            events += pass.events;
        }
        assert_eq!(events, 60);
    }

    #[tokio::test]
    async fn what_is_read_is_bounded() {
        let log = filled(50).await;
        let pass = pass(&log, Filter::all(), Reader::Stream, 20).await.unwrap();
        assert_eq!(pass.events, 20);
    }
}
