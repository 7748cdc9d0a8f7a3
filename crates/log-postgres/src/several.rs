//! Reads over several partitions: one task for each, and what they read is merged.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use anabranch_log::{
    BatchSource, CausalIndex, Dependency, EventStream, MergeLane, ReadError, ReadMode, merged,
    merged_backward,
};
use anabranch_model::{Cut, Filter, PartitionId};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::types::Type;

use crate::fault::Fault;
use crate::heads::Heads;
use crate::holds::Holds;
use crate::pool::{Pool, Value};
use crate::read::{self, Begins, Item, Lane, check_cut};

/// What the tasks of a read have learned of the causes of what they give.
struct Learned(Vec<Mutex<VecDeque<Dependency>>>);

impl Learned {
    fn of(&self, partition: usize) -> MutexGuard<'_, VecDeque<Dependency>> {
        // What is behind it is changed only by code that does not panic midway.
        self.0[partition]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl CausalIndex for Learned {
    fn ends(&self) -> Vec<u64> {
        vec![0; self.0.len()]
    }

    fn first_beyond(
        &self,
        partition: usize,
        offsets: Range<u64>,
        given: &[u64],
    ) -> Result<Option<Dependency>, ReadError> {
        let mut learned = self.of(partition);
        while learned
            .front()
            .is_some_and(|first| first.offset < offsets.start)
        {
            learned.pop_front();
        }
        let mut here = learned.iter().take_while(|it| it.offset < offsets.end);
        let is_beyond = |it: &&Dependency| {
            let given = given.get(it.partition.0 as usize);
            given.is_none_or(|given| it.count > *given)
        };
        Ok(here.find(is_beyond).copied())
    }
}

/// A read that begins when the database has said where.
enum Reading {
    Start(oneshot::Receiver<Result<Box<dyn BatchSource>, ReadError>>),
    Begun(Box<dyn BatchSource>),
}

impl BatchSource for Reading {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Self::Start(start) = self {
            let started = match std::pin::Pin::new(start).poll(cx) {
                Poll::Pending => return Poll::Pending,
                // The thread ends with the log.
                Poll::Ready(started) => started.unwrap_or(Err(ReadError::Closed)),
            };
            match started {
                Ok(begun) => *self = Self::Begun(begun),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        match self {
            Self::Start(_) => Poll::Pending,
            Self::Begun(begun) => begun.poll_next_batch(cx),
        }
    }
}

/// Reads all partitions.
pub fn all(
    handle: &Handle,
    (pool, heads): (Arc<Pool>, Arc<Heads>),
    from: Cut,
    filter: Filter,
    mode: ReadMode,
    begins: Begins,
    holds: Option<Arc<dyn Holds>>,
) -> EventStream {
    let (to, start) = oneshot::channel();
    let inside = handle.clone();
    handle.spawn(async move {
        let begun = begin(&inside, (pool, heads), from, filter, mode, begins, holds).await;
        // The reader may have gone.
        drop(to.send(begun));
    });
    EventStream::new(Reading::Start(start))
}

async fn begin(
    handle: &Handle,
    (pool, heads): (Arc<Pool>, Arc<Heads>),
    from: Cut,
    filter: Filter,
    mode: ReadMode,
    begins: Begins,
    holds: Option<Arc<dyn Holds>>,
) -> Result<Box<dyn BatchSource>, ReadError> {
    let head = heads.ask(&pool).await.map_err(Fault::of_read)?;
    drop(begins);
    check_cut(&from, &head)?;
    heads.reach(&head);
    let partitions = heads.partitions();
    if mode == ReadMode::Backward {
        let lanes = (0..partitions).map(|p| {
            let partition = PartitionId(p as u32);
            let at = from.get(partition);
            let mut lane = Lane::new(pool.clone(), partition, at, filter.clone());
            read::stream(handle, |to| async move { lane.backward(&to).await })
        });
        return Ok(merged_backward(lanes.collect()));
    }
    let before = before(&pool, &from, partitions).await;
    let before = before.map_err(Fault::of_read)?;
    let learned = Learned((0..partitions).map(|_| Mutex::default()).collect());
    let learned = Arc::new(learned);
    let mut lanes = Vec::new();
    for (p, depends_on) in before.into_iter().enumerate() {
        let partition = PartitionId(p as u32);
        let at = from.get(partition);
        let mut lane = Lane::new(pool.clone(), partition, at, filter.clone());
        let learned = learned.clone();
        lane.learn(move |news| learned.of(p).extend(news));
        lane.holds.clone_from(&holds);
        let until = (mode == ReadMode::ToHead).then(|| head.get(partition));
        let ends = heads.follow();
        let events = read::stream(handle, |to| async move {
            match until {
                Some(until) => lane.forward(until, &to).await,
                None => lane.follow(ends, &to).await,
            }
        });
        lanes.push(MergeLane {
            events,
            from: at,
            depends_on,
        });
    }
    let until = (mode == ReadMode::ToHead).then_some(&head);
    Ok(merged(lanes, learned, until))
}

/// What the events before a cut depend on, by partition.
async fn before(pool: &Pool, cut: &Cut, partitions: usize) -> Result<Vec<Vec<u64>>, Fault> {
    let schema = pool.schema();
    let sql = format!(
        r#"SELECT b.partition, o.partition, c.count
        FROM unnest($1, $2) AS b (partition, upto), {schema}.partitions o, LATERAL (
            SELECT c.count FROM {schema}.causes c
            WHERE c.partition = b.partition AND c.other = o.partition AND c."offset" < b.upto
            ORDER BY c."offset" DESC LIMIT 1) c"#
    );
    let counts = cut
        .iter()
        .map(|(partition, count)| (partition.0 as i32, count as i64));
    let (numbers, counts): (Vec<i32>, Vec<i64>) = counts.unzip();
    let values: [Value<'_>; 2] = [(&numbers, Type::INT4_ARRAY), (&counts, Type::INT8_ARRAY)];
    let mut before = vec![vec![0; partitions]; partitions];
    for row in pool.query(&sql, &values).await? {
        let said = |error: tokio_postgres::Error| Fault::of(&error);
        let (partition, other): (i32, i32) =
            (row.try_get(0).map_err(said)?, row.try_get(1).map_err(said)?);
        let count: i64 = row.try_get(2).map_err(said)?;
        if let Some(known) = before
            .get_mut(partition as usize)
            .and_then(|it| it.get_mut(other as usize))
        {
            *known = count as u64;
        }
    }
    Ok(before)
}
