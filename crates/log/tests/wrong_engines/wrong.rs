//! How to make an engine that is wrong in one way.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::conformance::{Subject, cases, check};
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, Condition, EventStream,
    Log, MemoryLog, Order, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, Event, EventBatch, Filter, Limits, NewEvent, StreamId};
use futures_executor::block_on;

pub type Answer = Result<Appended, AppendError>;

/// What is wrong with an engine: the calls that it does not hand through to a log that is
/// right.
pub trait Bug: Send + Sync + 'static {
    fn capabilities(&self, log: &MemoryLog) -> Capabilities {
        log.capabilities()
    }

    fn append(&self, log: &MemoryLog, append: Append) -> Answer {
        block_on(log.append(append))
    }

    fn append_later<'a>(&'a self, log: &'a MemoryLog, append: Append) -> BoxFuture<'a, Answer> {
        Box::pin(async move { self.append(log, append) })
    }

    fn read_stream(
        &self,
        log: &MemoryLog,
        stream: &StreamId,
        range: VersionRange,
        order: Order,
    ) -> EventStream {
        log.read_stream(stream, range, order)
    }

    fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        log.read(from, filter, mode)
    }

    fn find(
        &self,
        log: &MemoryLog,
        id: anabranch_model::EventId,
    ) -> Result<Option<anabranch_log::Placed>, ReadError> {
        block_on(log.find(id))
    }

    fn head(&self, log: &MemoryLog) -> Cut {
        block_on(log.head()).expect("the log in memory has a head")
    }
}

pub struct Wrong<B> {
    pub log: MemoryLog,
    pub bug: B,
}

impl<B: Bug> Log for Wrong<B> {
    fn capabilities(&self) -> Capabilities {
        self.bug.capabilities(&self.log)
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Answer> {
        self.bug.append_later(&self.log, append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.bug.read_stream(&self.log, stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.bug.read(&self.log, from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        Box::pin(async move { self.bug.find(&self.log, id) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async { Ok(self.bug.head(&self.log)) })
    }
}

pub struct Place<F>(pub F);

impl<F: Fn() -> Arc<dyn Log> + Send + Sync> Subject for Place<F> {
    fn open(&self) -> Arc<dyn Log> {
        (self.0)()
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(300)
    }
}

/// Asserts that each of these cases fails on an engine with this bug.
pub fn caught<B: Bug>(bug: impl Fn() -> B + Send + Sync, by: &[&str]) {
    caught_with(Limits::default(), bug, by);
}

pub fn caught_with<B: Bug>(limits: Limits, bug: impl Fn() -> B + Send + Sync, by: &[&str]) {
    let open = || -> Arc<dyn Log> {
        Arc::new(Wrong {
            log: MemoryLog::with_limits(Env::os(), limits),
            bug: bug(),
        })
    };
    for case in by {
        must_fail(case, &Place(open));
    }
}

pub fn must_fail(case: &str, subject: &dyn Subject) {
    let (group, name) = case.split_once("::").expect("a case is named group::name");
    assert!(
        cases().iter().any(|c| (c.group, c.name) == (group, name)),
        "there is no case {case}"
    );
    let ran = catch_unwind(AssertUnwindSafe(|| check(group, name, subject)));
    assert!(ran.is_err(), "{case} passes on a wrong engine");
}

/// A read with each of its events changed.
pub struct Changed<F> {
    inner: EventStream,
    change: F,
}

impl<F: FnMut(Event) -> Vec<Event> + Send> BatchSource for Changed<F> {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        loop {
            let polled = pin!(self.inner.next()).poll(cx);
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(event))) => {
                    let events = (self.change)(event);
                    if !events.is_empty() {
                        return Poll::Ready(Some(Ok(events.into())));
                    }
                }
            }
        }
    }
}

pub fn changed(
    inner: EventStream,
    change: impl FnMut(Event) -> Vec<Event> + Send + 'static,
) -> EventStream {
    EventStream::new(Changed { inner, change })
}

/// The event with its content changed.
pub fn with(event: &Event, change: impl FnOnce(&mut NewEvent)) -> Event {
    let mut new = NewEvent {
        id: event.id,
        stream: event.stream_id(),
        event_type: event.event_type().parse().expect("it was a type"),
        schema_version: event.schema_version,
        data: event.data_bytes(),
        meta: Some(Arc::new(event.meta().decode().expect("it was written"))),
    };
    change(&mut new);
    Event::stored(&new, event.position, event.version, event.recorded_at)
}

pub fn last_version(log: &MemoryLog, stream: &StreamId) -> Option<u64> {
    let mut events = log.read_stream(stream, VersionRange::ALL, Order::Backward);
    let last = block_on(events.next())?;
    last.ok().map(|event| event.version)
}

/// The first expectation that does not hold now.
pub fn conflict(log: &MemoryLog, append: &Append) -> Option<AppendError> {
    append
        .conditions
        .iter()
        .find_map(|condition| match condition {
            Condition::Stream(stream, expected) => {
                let actual = last_version(log, stream);
                (!expected.holds(actual)).then(|| AppendError::Conflict {
                    stream: stream.clone(),
                    expected: *expected,
                    actual,
                })
            }
            Condition::NoMatch { .. } => None,
        })
}

/// A bug that changes what is appended.
pub struct Appends<F>(pub F);

impl<F: Fn(&mut Append) + Send + Sync + 'static> Bug for Appends<F> {
    fn append(&self, log: &MemoryLog, mut append: Append) -> Answer {
        (self.0)(&mut append);
        block_on(log.append(append))
    }
}

/// A bug that changes what is answered.
pub struct Answers<F>(pub F);

impl<F: Fn(Answer) -> Answer + Send + Sync + 'static> Bug for Answers<F> {
    fn append(&self, log: &MemoryLog, append: Append) -> Answer {
        (self.0)(block_on(log.append(append)))
    }
}

/// A bug in the way to append.
pub struct Writes<F>(pub F);

impl<F: Fn(&MemoryLog, Append) -> Answer + Send + Sync + 'static> Bug for Writes<F> {
    fn append(&self, log: &MemoryLog, append: Append) -> Answer {
        (self.0)(log, append)
    }
}

/// A bug in the way to read all streams.
pub struct Reads<F>(pub F);

impl<F> Bug for Reads<F>
where
    F: Fn(&MemoryLog, &Cut, Filter, ReadMode) -> EventStream + Send + Sync + 'static,
{
    fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        (self.0)(log, from, filter, mode)
    }
}

/// A bug in the way to read one stream.
pub struct StreamReads<F>(pub F);

impl<F> Bug for StreamReads<F>
where
    F: Fn(&MemoryLog, &StreamId, VersionRange, Order) -> EventStream + Send + Sync + 'static,
{
    fn read_stream(
        &self,
        log: &MemoryLog,
        stream: &StreamId,
        range: VersionRange,
        order: Order,
    ) -> EventStream {
        (self.0)(log, stream, range, order)
    }
}

/// A bug in what every read gives.
pub struct Gives<F>(pub F);

impl<F: Fn(Event) -> Vec<Event> + Copy + Send + Sync + 'static> Bug for Gives<F> {
    fn read_stream(
        &self,
        log: &MemoryLog,
        stream: &StreamId,
        range: VersionRange,
        order: Order,
    ) -> EventStream {
        changed(log.read_stream(stream, range, order), self.0)
    }

    fn read(&self, log: &MemoryLog, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        changed(log.read(from, filter, mode), self.0)
    }
}

/// A read that gives what a function gives.
pub struct Lazy<F>(pub F);

impl<F> BatchSource for Lazy<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Result<EventBatch, ReadError>>> + Send,
{
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        (self.0)(cx)
    }
}
