//! The log in a directory.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Layout, Log,
    Order, PartitionedLog, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_log_segment::{EmbeddedLog, Options, SegmentLog, create, folder_names};
use anabranch_model::{Cut, EventBatch, EventId, Filter, StreamId};

use crate::engine::{Engine, layout};
use crate::slow::{Slow, SlowPart};

/// A log in a directory of its own, which is removed at the end.
pub struct Embedded {
    pub log: Arc<EmbeddedLog>,
    dir: PathBuf,
    stays: bool,
}

impl Embedded {
    pub fn new() -> Self {
        Self::open(Self::make(&layout()))
    }

    /// Makes an empty log of this layout; gives where.
    pub fn make(layout: &Layout) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("anabranch-causality-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        create(&Env::os(), &dir, layout).unwrap();
        dir
    }

    /// The log that is there.
    pub fn open(dir: PathBuf) -> Self {
        let log = EmbeddedLog::open(Env::os(), &dir, small()).unwrap();
        Self {
            log: Arc::new(log),
            dir,
            stays: false,
        }
    }

    /// The same, of which the directory stays.
    pub fn open_for_now(dir: PathBuf) -> Self {
        let mut opened = Self::open(dir);
        opened.stays = true;
        opened
    }
}

pub fn small() -> Options {
    Options {
        segment_bytes: 256 << 10,
        first_segment_bytes: Some(64 << 10),
        ..Options::default()
    }
}

impl Drop for Embedded {
    #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
    fn drop(&mut self) {
        if !self.stays {
            // The system clears what is left here.
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

impl Engine for Embedded {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn behind(&self, slow: &Arc<Slow>) -> Arc<dyn Log> {
        let layout = self.log.layout();
        let names = folder_names(&layout);
        let part = |(partition, name): (_, String)| -> Arc<dyn Log> {
            let log = SegmentLog::open_read_only(Env::os(), self.dir.join(name), small());
            Arc::new(SlowPart {
                log: Arc::new(log.unwrap()),
                partition,
                slow: slow.clone(),
            })
        };
        let parts = layout.ids().zip(names).map(part).collect();
        Arc::new(Behind {
            log: self.log(),
            late: Arc::new(PartitionedLog::open(layout, parts).unwrap()),
        })
    }
}

/// The log, read late.
struct Behind {
    log: Arc<dyn Log>,
    late: Arc<PartitionedLog>,
}

/// A read of it.
struct LateRead {
    late: Arc<PartitionedLog>,
    events: EventStream,
    /// Wakes it when there is something new.
    news: EventStream,
    reached: Cut,
    /// Where it ends, if it does.
    until: Option<Cut>,
}

impl BatchSource for LateRead {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        if let Some(until) = &self.until
            && self.reached.covers(until)
        {
            return Poll::Ready(None);
        }
        while let Poll::Ready(news) = pin!(self.news.next_batch()).poll(cx) {
            drop(news.unwrap().unwrap());
        }
        at_once(self.late.head()).unwrap();
        let polled = pin!(self.events.next_batch()).poll(cx);
        if let Poll::Ready(Some(Ok(batch))) = &polled
            && let Some(reach) = batch.reach()
        {
            reach.pass(&mut self.reached);
        }
        polled
    }
}

/// What answers without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
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
        let head = at_once(self.log.head()).unwrap();
        at_once(self.late.head()).unwrap();
        EventStream::new(LateRead {
            late: self.late.clone(),
            events: self.late.read(from, filter, ReadMode::Follow),
            news: self.log.watch(&head),
            reached: from.clone(),
            until: (mode == ReadMode::ToHead).then_some(head),
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
