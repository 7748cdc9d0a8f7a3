//! Engines to run the suite on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anabranch_env::{Clock, Env};
use anabranch_log::conformance::Subject;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, MemoryLog, Order,
    ReadError, ReadMode, Rejection, VersionRange,
};
use anabranch_model::{Cut, Filter, NewEvent, StreamId};
use futures_executor::block_on;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that stands still, so that writing a batch again records the same time.
struct Still;

impl Clock for Still {
    fn wall_micros(&self) -> u64 {
        1_291_191_960_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A log in memory that is written again from its journal when it is opened again, and
/// lets others read: it offers everything that the suite has cases for.
#[derive(Default)]
pub struct Kept {
    pub journal: Arc<Mutex<Vec<Vec<NewEvent>>>>,
    open: Mutex<Weak<KeptLog>>,
}

pub struct KeptLog {
    pub log: MemoryLog,
    journal: Arc<Mutex<Vec<Vec<NewEvent>>>>,
}

impl Kept {
    pub fn open_log(&self) -> Arc<KeptLog> {
        let mut env = Env::os();
        env.clock = Arc::new(Still);
        let log = MemoryLog::new(env);
        for events in lock(&self.journal).iter() {
            block_on(log.append(Append::events(events.clone()))).expect("it was accepted before");
        }
        let journal = Arc::clone(&self.journal);
        let log = Arc::new(KeptLog { log, journal });
        *lock(&self.open) = Arc::downgrade(&log);
        log
    }

    /// The log as it is open for writing.
    pub fn writer(&self) -> Arc<KeptLog> {
        lock(&self.open).upgrade().expect("the writer is open")
    }

    pub fn reader(&self) -> Arc<Reader> {
        Arc::new(Reader(self.writer()))
    }
}

impl Subject for Kept {
    fn open(&self) -> Arc<dyn Log> {
        self.open_log()
    }

    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        Some(self.reader())
    }
}

impl KeptLog {
    /// Under the journal's lock, so that it has the order of the log.
    fn write(&self, append: Append) -> Result<Appended, AppendError> {
        let mut journal = lock(&self.journal);
        let events = append.events.clone();
        let appended = block_on(self.log.append(append))?;
        if !appended.repeated {
            journal.push(events);
        }
        Ok(appended)
    }
}

impl Log for KeptLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "kept",
            survives_restart: true,
            ..self.log.capabilities()
        }
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move { self.write(append) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

/// The same log, for reading only.
pub struct Reader(Arc<KeptLog>);

impl Log for Reader {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn append(&self, _: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async { Err(Rejection::ReadOnly.into()) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.0.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.0.read(from, filter, mode)
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
