//! The log in PostgreSQL.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Layout, Log,
    Order, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_log_postgres::{Holds, Options, PostgresLog};
use anabranch_model::{Cut, EventBatch, EventId, Filter, PartitionId, StreamId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::{Engine, layout};
use crate::slow::Slow;
use crate::stores::address;

/// A log in a schema of its own.
pub struct Database {
    log: Arc<PostgresLog>,
    address: String,
    _turn: OwnedSemaphorePermit,
}

impl Database {
    /// `None` where there is no server, which is said. One after the other: each has many connections.
    pub async fn new() -> Option<Self> {
        static TURNS: std::sync::LazyLock<Arc<Semaphore>> =
            std::sync::LazyLock::new(|| Arc::new(Semaphore::new(1)));
        let server = address("scenarios of causality in PostgreSQL")?;
        let turn = TURNS.clone().acquire_owned().await.unwrap();
        let schema = format!("causality_{:032x}", Env::os().rng.next_u128());
        let address = format!("{server}?schema={schema}&durability=unchecked");
        let mut options = Options::default();
        options.layout = Some(layout());
        let log = PostgresLog::open(&address, options).unwrap();
        Some(Self {
            log: Arc::new(log),
            address,
            _turn: turn,
        })
    }
}

impl Engine for Database {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn behind(&self, slow: &Arc<Slow>) -> Arc<dyn Log> {
        let mut options = Options::default();
        options.read_only = true;
        options.make = false;
        options.holds = Some(Arc::new(Held(slow.clone())));
        Arc::new(Behind {
            log: self.log(),
            late: Arc::new(PostgresLog::open(&self.address, options).unwrap()),
        })
    }
}

struct Held(Arc<Slow>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Holds for Held {
    fn limit(&self, partition: PartitionId, cx: &Context<'_>) -> u64 {
        self.0.limit(partition, cx)
    }

    fn took(&self, partition: PartitionId, end: u64) {
        self.0.took(partition, end);
    }
}

/// The log, read late.
struct Behind {
    log: Arc<dyn Log>,
    late: Arc<PostgresLog>,
}

/// A read of it to the head.
struct LateRead {
    head: Pin<Box<dyn Future<Output = Result<Cut, ReadError>> + Send>>,
    events: EventStream,
    reached: Cut,
    /// Where it ends, as soon as that is known.
    until: Option<Cut>,
}

impl BatchSource for LateRead {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let until = match &self.until {
            Some(until) => until,
            None => match self.head.as_mut().poll(cx) {
                Poll::Ready(head) => self.until.insert(head.unwrap()),
                Poll::Pending => return Poll::Pending,
            },
        };
        if self.reached.covers(until) {
            return Poll::Ready(None);
        }
        let polled = pin!(self.events.next_batch()).poll(cx);
        if let Poll::Ready(Some(Ok(batch))) = &polled
            && let Some(reach) = batch.reach()
        {
            reach.pass(&mut self.reached);
        }
        polled
    }
}

impl Log for Behind {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn layout(&self) -> Layout {
        self.log.layout()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.log.append(append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        // What is known of types of events is not late.
        let is_of_system = |category: &String| category.starts_with('$');
        let is_system = !filter.is_all() && filter.categories.iter().all(is_of_system);
        if mode == ReadMode::Backward || (mode == ReadMode::ToHead && is_system) {
            return self.log.read(from, filter, mode);
        }
        let events = self.late.read(from, filter, ReadMode::Follow);
        if mode == ReadMode::Follow {
            return events;
        }
        let log = self.log.clone();
        EventStream::new(LateRead {
            head: Box::pin(async move { log.head().await }),
            events,
            reached: from.clone(),
            until: None,
        })
    }

    fn watch(&self, from: &Cut) -> EventStream {
        self.log.watch(from)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}
