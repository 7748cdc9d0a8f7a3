//! A log that fails as a test wants it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, MemoryLog, Order,
    Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, StreamId};

/// In memory. Of its appends each takes the next outcome: `None` is carried out.
pub struct Failing {
    pub log: MemoryLog,
    /// Whether it does not say how far it goes.
    pub is_silent: AtomicBool,
    outcomes: Mutex<VecDeque<Option<AppendError>>>,
}

impl Failing {
    pub fn new(outcomes: impl IntoIterator<Item = Option<AppendError>>) -> Self {
        Self {
            log: MemoryLog::new(Env::os()),
            is_silent: AtomicBool::new(false),
            outcomes: Mutex::new(outcomes.into_iter().collect()),
        }
    }
}

impl Log for Failing {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        match self.outcomes.lock().unwrap().pop_front().flatten() {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.log.append(append),
        }
    }

    fn read_stream(&self, id: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(id, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        match self.is_silent.load(Ordering::Relaxed) {
            true => Box::pin(std::future::ready(Err(ReadError::Unavailable(
                "it says nothing".to_owned(),
            )))),
            false => self.log.head(),
        }
    }
}
