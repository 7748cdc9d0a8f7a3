//! Holds back the reads of some partitions.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Log, Order,
    Placed, ReadError, ReadMode, Rejection, VersionRange,
};
use anabranch_model::{Cut, EventBatch, EventId, Filter, PartitionId, Position, StreamId};
use tokio::sync::watch;

/// How far readers are given the partitions.
pub struct Slow {
    limits: Mutex<Limits>,
    taken: watch::Sender<Cut>,
}

#[derive(Default)]
struct Limits {
    /// So many events of a partition, if that is said.
    of: BTreeMap<PartitionId, u64>,
    waiting: Vec<Waker>,
}

impl Slow {
    /// Nothing is held back.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            limits: Mutex::default(),
            taken: watch::Sender::new(Cut::start()),
        })
    }

    /// From now on no more than so many events of a partition are given.
    pub fn hold(&self, partition: PartitionId, count: u64) {
        self.limits.lock().unwrap().of.insert(partition, count);
        self.wake();
    }

    /// Nothing is held back any more.
    pub fn resume(&self) {
        self.limits.lock().unwrap().of.clear();
        self.wake();
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut self.limits.lock().unwrap().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How many events of a partition are given. Who waits for more is woken.
    pub fn limit(&self, partition: PartitionId, cx: &Context<'_>) -> u64 {
        let mut limits = self.limits.lock().unwrap();
        limits.waiting.push(cx.waker().clone());
        limits.of.get(&partition).copied().unwrap_or(u64::MAX)
    }

    /// A read has taken what is before `end`.
    pub fn took(&self, partition: PartitionId, end: u64) {
        self.taken.send_if_modified(|taken| {
            let is_news = taken.get(partition) < end;
            if is_news {
                taken.set(partition, end);
            }
            is_news
        });
    }

    /// Ready when a read has taken the event, whether it was shown or not.
    pub async fn has_taken(&self, position: Position) {
        let mut taken = self.taken.subscribe();
        let arrived = taken.wait_for(|taken| taken.includes(position)).await;
        drop(arrived.unwrap());
    }
}

/// One partition, as slow as is said: it ends where it is held back. Reads only.
pub struct SlowPart {
    pub log: Arc<dyn Log>,
    pub partition: PartitionId,
    pub slow: Arc<Slow>,
}

impl SlowPart {
    fn limit(&self) -> u64 {
        self.slow
            .limit(self.partition, &Context::from_waker(Waker::noop()))
    }
}

/// A read of one.
struct SlowRead {
    events: EventStream,
    partition: PartitionId,
    slow: Arc<Slow>,
    /// What was read already and is held back.
    rest: Option<EventBatch>,
    ends: bool,
}

impl BatchSource for SlowRead {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let limit = self.slow.limit(self.partition, cx);
        let mut batch = match self.rest.take() {
            Some(rest) => rest,
            None => match pin!(self.events.next_batch()).poll(cx) {
                Poll::Ready(Some(Ok(batch))) => batch,
                other => return other,
            },
        };
        let reach = batch.reach().expect("a part says how far it reaches");
        if reach.offsets.end <= limit {
            self.slow.took(self.partition, reach.offsets.end);
            return Poll::Ready(Some(Ok(batch)));
        }
        let given = (limit > reach.offsets.start)
            .then(|| batch.split_to(PartitionId(0), reach.offsets.start..limit));
        self.rest = Some(batch);
        match given {
            Some(given) => {
                self.slow.took(self.partition, limit);
                Poll::Ready(Some(Ok(given)))
            }
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Log for SlowPart {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, _: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async { Err(Rejection::ReadOnly.into()) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        EventStream::new(SlowRead {
            events: self.log.read(from, filter, mode),
            partition: self.partition,
            slow: self.slow.clone(),
            rest: None,
            ends: mode == ReadMode::ToHead,
        })
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async {
            let head = self.log.head().await?;
            Ok(Cut::at(head.get(PartitionId(0)).min(self.limit())))
        })
    }

    fn takes_appends(&self) -> Result<(), AppendError> {
        Err(Rejection::ReadOnly.into())
    }
}
