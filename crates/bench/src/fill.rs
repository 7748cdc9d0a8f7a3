//! Logs filled to a certain size, for what is measured on them afterwards.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, Log};

use crate::append::{Contender, log_contender};
use crate::drive::Length;
use crate::error::BenchError;
use crate::workload::{EventSource, Streams, Workload};

/// Appends at least `events` events with all clients of `workload`.
pub async fn fill(log: &Arc<dyn Log>, workload: &Workload, events: u64) -> Result<(), BenchError> {
    let appends = events.div_ceil((workload.clients * workload.batch) as u64);
    let mut contender = log_contender(workload, log, None);
    contender.slice(Length::AppendsEach(appends)).await?;
    Ok(())
}

/// Appends one event to each stream with a number in `from..to`.
pub async fn fill_streams(
    log: &Arc<dyn Log>,
    workload: &Workload,
    streams: &Arc<Streams>,
    from: u64,
    to: u64,
) -> Result<(), BenchError> {
    const WRITERS: u64 = 8;
    const BATCH: u64 = 1_000;
    let clock = Env::os().clock;
    let share = (to - from).div_ceil(WRITERS);
    let tasks = (0..WRITERS).map(|writer| {
        let (log, clock) = (Arc::clone(log), Arc::clone(&clock));
        let mut source = EventSource::new(workload, Arc::clone(streams), clock, writer as usize);
        let mut next = from + writer * share;
        let end = (next + share).min(to);
        tokio::spawn(async move {
            while next < end {
                let count = BATCH.min(end - next);
                let events = source.one_each(next, count as usize);
                log.append(Append::events(events)).await?;
                next += count;
                tokio::task::consume_budget().await;
            }
            Ok::<_, BenchError>(())
        })
    });
    join_all(tasks).await
}

async fn join_all(
    tasks: impl Iterator<Item = tokio::task::JoinHandle<Result<(), BenchError>>>,
) -> Result<(), BenchError> {
    // All are started before the first is waited for.
    for task in tasks.collect::<Vec<_>>() {
        task.await.map_err(|e| BenchError::Void(e.to_string()))??;
    }
    Ok(())
}
