//! How long after its acknowledgement an event reaches a follower.

#![expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_env::{Clock, Env};
use anabranch_log::{Append, Log, ReadMode};
use anabranch_model::{Cut, EventId, Filter, PartitionId, Position};
use serde::Serialize;

use crate::append::sources;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::workload::{EventSource, Workload};

/// Delivered minus acknowledged, in microseconds; an event that is delivered before its
/// writer learns of it counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Followed {
    /// Half of the events took no longer, with one writer and pauses.
    pub p50_us: f64,
    /// 99 of a hundred took no longer.
    pub p99_us: f64,
    /// The same while all clients append as fast as they can.
    pub load_p50_us: f64,
    /// The same while all clients append as fast as they can.
    pub load_p99_us: f64,
    /// Events delivered, altogether.
    pub events: u64,
}

/// How writers pace themselves while a follower is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each waits this long after an acknowledgement, and appends this often.
    Paused(Duration, u64),
    /// Each appends again at once, for this long.
    AtOnce(Duration),
}

/// Follows the log while one writer appends with pauses, and again under the whole load.
pub async fn follow(
    log: &Arc<dyn Log>,
    workload: &Workload,
    idle_appends: u64,
    load: Duration,
) -> Result<Followed, BenchError> {
    let alone = Workload {
        clients: 1,
        batch: 1,
        ..workload.clone()
    };
    let pause = Pace::Paused(Duration::from_millis(2), idle_appends);
    let idle = follow_once(log, &alone, pause).await?;
    let busy = follow_once(log, workload, Pace::AtOnce(load)).await?;
    Ok(Followed {
        p50_us: idle.micros_at(0.5),
        p99_us: idle.micros_at(0.99),
        load_p50_us: busy.micros_at(0.5),
        load_p99_us: busy.micros_at(0.99),
        events: idle.count() + busy.count(),
    })
}

/// The most events of one measurement; writers stop there.
const EVENTS_MAX: usize = 4_000_000;

/// When things happened to the events since a moment, by [`Times::index`]: nanoseconds by the
/// clock plus 1; 0: not yet.
struct Times {
    /// The head at that moment, for each partition.
    base: Vec<u64>,
    clock: Arc<dyn Clock>,
    acknowledged: Vec<AtomicU64>,
}

impl Times {
    /// Where an event has its place, by its distance from the head at that moment: the events of
    /// several partitions by turns.
    fn index(&self, position: Position) -> Option<usize> {
        let partition = position.partition.0 as usize;
        let distance = position.offset.saturating_sub(*self.base.get(partition)?);
        let distance = usize::try_from(distance).ok()?;
        Some(distance * self.base.len() + partition).filter(|&at| at < EVENTS_MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// Measures delivery to one follower while the clients of `workload` append.
pub async fn follow_once(
    log: &Arc<dyn Log>,
    workload: &Workload,
    pace: Pace,
) -> Result<Latencies, BenchError> {
    let head = log.head().await?;
    let env = Env::os();
    let times = Arc::new(Times {
        base: (0..log.layout().partitions())
            .map(|partition| head.get(PartitionId(partition)))
            .collect(),
        clock: env.clock,
        acknowledged: (0..EVENTS_MAX).map(|_| AtomicU64::new(0)).collect(),
    });
    let last = EventId::from_hash(env.rng.next_u128());
    let follower = tokio::spawn(deliveries(Arc::clone(log), head, last, Arc::clone(&times)));
    let writers: Vec<_> = sources(workload)
        .map(|source| {
            tokio::spawn(write(
                Arc::clone(log),
                source,
                workload.batch,
                pace,
                Arc::clone(&times),
            ))
        })
        .collect();
    for writer in writers {
        writer
            .await
            .map_err(|e| BenchError::Void(e.to_string()))??;
    }
    end(log, workload, last).await?;
    let patience = Duration::from_secs(30);
    let delivered = tokio::time::timeout(patience, follower)
        .await
        .map_err(|_| {
            BenchError::Void(
                "a follower did not get all events within 30 s of the last acknowledgement"
                    .to_owned(),
            )
        })?
        .map_err(|e| BenchError::Void(e.to_string()))??;
    delays(&times, &delivered)
}

async fn write(
    log: Arc<dyn Log>,
    mut source: EventSource,
    batch: usize,
    pace: Pace,
    times: Arc<Times>,
) -> Result<(), BenchError> {
    let begun = times.clock.monotonic();
    let mut appends = 0;
    loop {
        let ended = match pace {
            Pace::Paused(_, count) => appends >= count,
            Pace::AtOnce(length) => times.clock.monotonic().saturating_sub(begun) >= length,
        };
        if ended {
            return Ok(());
        }
        let appended = log.append(Append::events(source.batch(batch))).await?;
        let at = times.now();
        appends += 1;
        for placed in &appended.places {
            match times.index(placed.position) {
                Some(index) => times.acknowledged[index].store(at, Ordering::Relaxed),
                None => return Ok(()),
            }
        }
        if let Pace::Paused(pause, _) = pace {
            tokio::time::sleep(pause).await;
        }
        tokio::task::consume_budget().await;
    }
}

/// Appends the event that tells the follower to stop: it stands behind all others, in whichever
/// partition.
async fn end(log: &Arc<dyn Log>, workload: &Workload, last: EventId) -> Result<(), BenchError> {
    let mut events = sources(workload)
        .next()
        .map_or(Vec::new(), |mut s| s.batch(1));
    let head = log.head().await?;
    for event in &mut events {
        event.id = last;
        if !log.layout().is_one() {
            event.meta_mut().causes = head.clone();
        }
    }
    log.append(Append::events(events)).await?;
    Ok(())
}

/// When each event after `from` was delivered, up to the one with the id `last`.
async fn deliveries(
    log: Arc<dyn Log>,
    from: Cut,
    last: EventId,
    times: Arc<Times>,
) -> Result<Vec<u64>, BenchError> {
    let mut delivered = Vec::with_capacity(1 << 16);
    let mut stream = log.read(&from, Filter::all(), ReadMode::Follow);
    let mut next = times.base.clone();
    while let Some(batch) = stream.next_batch().await {
        let (batch, at) = (batch?, times.now());
        for event in &batch {
            let event = event.map_err(|e| BenchError::Void(e.to_string()))?;
            let Position { partition, offset } = event.position;
            let expected = next.get_mut(partition.0 as usize);
            let expected = expected.ok_or_else(|| {
                BenchError::Void(format!(
                    "a follower got an event of partition {}",
                    partition.0
                ))
            })?;
            if offset != *expected {
                return Err(BenchError::Void(format!(
                    "a follower got the event at {} instead of the one at {}:{expected}",
                    event.position, partition.0
                )));
            }
            *expected += 1;
            if event.id == last {
                return Ok(delivered);
            }
            if let Some(index) = times.index(event.position) {
                if delivered.len() <= index {
                    delivered.resize(index + 1, 0);
                }
                delivered[index] = at;
            }
        }
    }
    Err(BenchError::Void(
        "a follower's stream ended by itself".to_owned(),
    ))
}

fn delays(times: &Times, delivered: &[u64]) -> Result<Latencies, BenchError> {
    let mut delays = Latencies::new();
    for (acknowledged, &delivered) in times.acknowledged.iter().zip(delivered) {
        // 0: the writer had no room to note it.
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        if acknowledged > 0 {
            delays.record(Duration::from_nanos(delivered.saturating_sub(acknowledged)));
        }
    }
    if delays.count() == 0 {
        return Err(BenchError::Void(
            "a follower got no events; measure for longer".to_owned(),
        ));
    }
    Ok(delays)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use anabranch_log::{
        AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Layout,
        MemoryLog, Order, PartitionedLog, ReadError, VersionRange,
    };
    use anabranch_model::{Event, EventBatch, StreamId};

    use super::*;

    fn some() -> Workload {
        Workload {
            clients: 2,
            batch: 3,
            ..Workload::default()
        }
    }

    fn briefly() -> Pace {
        Pace::Paused(Duration::ZERO, 5)
    }

    #[tokio::test]
    async fn every_event_that_was_acknowledged_is_seen_delivered() {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Env::os()));
        let delays = follow_once(&log, &some(), briefly()).await.unwrap();
        assert_eq!(delays.count(), 2 * 3 * 5);
    }

    /// A log whose followers get every event but one.
    struct Forgetful(MemoryLog);

    struct Skipping {
        events: EventStream,
        left_out: u64,
    }

    impl BatchSource for Skipping {
        fn poll_next_batch(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<EventBatch, ReadError>>> {
            let mut batch = std::pin::pin!(self.events.next_batch());
            let Poll::Ready(batch) = batch.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            Poll::Ready(batch.map(|batch| {
                let events = batch?.into_iter().map(|event| event.unwrap());
                let kept = events.filter(|e| e.position.offset != self.left_out);
                Ok(kept.collect::<Vec<Event>>().into())
            }))
        }
    }

    impl Log for Forgetful {
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }

        fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
            self.0.append(append)
        }

        fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
            self.0.read_stream(stream, range, order)
        }

        fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
            EventStream::new(Skipping {
                events: self.0.read(from, filter, mode),
                left_out: 7,
            })
        }

        fn find(
            &self,
            id: anabranch_model::EventId,
        ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
            self.0.find(id)
        }

        fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
            self.0.head()
        }
    }

    #[tokio::test]
    async fn a_follower_that_misses_an_event_voids_the_measurement() {
        let log: Arc<dyn Log> = Arc::new(Forgetful(MemoryLog::new(Env::os())));
        let outcome = follow_once(&log, &some(), briefly()).await;
        let reason = outcome.map(|_| ()).unwrap_err().to_string();
        assert!(reason.contains("0:8 instead of the one at 0:7"), "{reason}");
    }

    #[tokio::test]
    async fn a_follower_of_several_partitions_gets_the_events_of_all() {
        let layout = Layout::new(Vec::new(), 4).unwrap();
        let log: Arc<dyn Log> = Arc::new(PartitionedLog::in_memory(&Env::os(), layout));
        let delays = follow_once(&log, &some(), briefly()).await.unwrap();
        let head = log.head().await.unwrap();
        assert!(head.iter().filter(|(_, count)| *count > 0).count() > 1);
        let written: u64 = head.iter().map(|(_, count)| count).sum();
        assert_eq!(delays.count(), written - 1, "all but the one that ends it");
    }

    #[test]
    fn delivery_before_the_acknowledgement_counts_as_no_delay() {
        let times = Times {
            base: vec![0],
            clock: Env::os().clock,
            acknowledged: [5_000, 0, 1_000].map(AtomicU64::new).into(),
        };
        let delays = delays(&times, &[4_000, 9_000, 3_000]).unwrap();
        assert_eq!(delays.count(), 2, "nobody noted the second acknowledgement");
        assert_eq!(delays.micros_at(0.5), 0.0);
        assert!((delays.micros_max() - 2.0).abs() < 0.01);
    }
}
