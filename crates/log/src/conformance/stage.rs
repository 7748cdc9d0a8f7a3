use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_model::{Cut, Event, EventBatch, EventId, Filter, Limits, NewEvent};

use super::Subject;
use super::check::{just_these_backward, no_gap, same_written, versions_count_up};
use super::drive::Driver;
use super::make::{Written, id, kind, stream};
use crate::{
    Append, AppendError, Appended, Capabilities, EventStream, Log, Order, Placed, ReadError,
    ReadMode, VersionRange,
};

/// Streams that the audit reads one by one; reading every one of many would be slow.
const STREAMS_AUDITED_MAX: usize = 64;

/// What a case works with: the log, and a memory of what it acknowledged.
pub(super) struct Stage<'a> {
    subject: &'a dyn Subject,
    log: Option<Arc<dyn Log>>,
    seed: u64,
    next_id: AtomicU64,
    acknowledged: Mutex<BTreeMap<EventId, Written>>,
    uncertain: Mutex<BTreeSet<EventId>>,
}

impl<'a> Stage<'a> {
    pub fn new(subject: &'a dyn Subject, seed: u64) -> Self {
        Self {
            subject,
            log: Some(subject.open()),
            seed,
            next_id: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            uncertain: Mutex::default(),
        }
    }

    pub fn log(&self) -> &Arc<dyn Log> {
        self.log.as_ref().expect("the case has closed its log")
    }

    pub fn driver(&self) -> Driver<'a> {
        Driver(self.subject)
    }

    /// Lets an engine without threads do its pending work.
    pub fn reads_may_begin_late(&self) -> bool {
        self.subject.reads_may_begin_late()
    }

    pub fn subject_settles(&self) {
        self.subject.settle();
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn capabilities(&self) -> Capabilities {
        self.log().capabilities()
    }

    pub fn limits(&self) -> Limits {
        self.capabilities().limits
    }

    pub fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        self.subject.open_read_only()
    }

    /// Closes the log. Nothing is audited after that until it is opened again.
    pub fn close(&mut self) {
        self.log = None;
    }

    /// Closes the log and opens it again, as after the end of the process.
    pub fn reopen(&mut self) {
        self.close();
        self.log = Some(self.subject.open());
    }

    pub fn id(&self) -> EventId {
        id(self.seed, self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A new event of type `Happened`, with data of its own.
    pub fn event(&self, stream_name: &str) -> NewEvent {
        self.typed(stream_name, "Happened")
    }

    pub fn typed(&self, stream_name: &str, type_name: &str) -> NewEvent {
        let id = self.id();
        let data = format!("{{\"id\":\"{id}\"}}");
        NewEvent::new(id, stream(stream_name), kind(type_name), data)
    }

    pub fn events(&self, stream_name: &str, count: usize) -> Vec<NewEvent> {
        (0..count).map(|_| self.event(stream_name)).collect()
    }

    /// Appends, and remembers what was acknowledged.
    pub fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let events = append.events.clone();
        let answer = self.driver().wait("append", self.log().append(append));
        self.remember(events, &answer);
        answer
    }

    /// Hands over many appends at once, and remembers what was acknowledged.
    pub fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        let events: Vec<_> = appends.iter().map(|a| a.events.clone()).collect();
        let appending = self.log().append_all(appends);
        let answers = self.driver().wait("append of many", appending);
        assert_eq!(answers.len(), events.len(), "each append has an answer");
        for (events, answer) in events.into_iter().zip(&answers) {
            self.remember(events, answer);
        }
        answers
    }

    fn remember(&self, events: Vec<NewEvent>, answer: &Result<Appended, AppendError>) {
        let Ok(appended) = answer else { return };
        assert_eq!(
            appended.places.len(),
            events.len(),
            "an append answers one place for each event"
        );
        let mut acknowledged = lock(&self.acknowledged);
        for (new, &placed) in events.into_iter().zip(&appended.places) {
            let before = acknowledged
                .entry(new.id)
                .or_insert(Written { new, placed });
            assert_eq!(before.placed, placed, "one event has two places");
        }
    }

    /// Appends what must succeed and must be new.
    pub fn accept(&self, append: Append) -> Vec<Written> {
        let events = append.events.clone();
        match self.append(append) {
            Ok(appended) => {
                assert!(!appended.repeated, "a new append is no repeat");
                let places = appended.places.into_iter();
                let written = events.into_iter().zip(places);
                written
                    .map(|(new, placed)| Written { new, placed })
                    .collect()
            }
            Err(error) => panic!("an append that must succeed failed: {error}"),
        }
    }

    /// Appends one event without conditions.
    pub fn put(&self, event: NewEvent) -> Written {
        let mut written = self.accept(Append::event(event));
        written.remove(0)
    }

    /// Appends one batch without conditions.
    pub fn put_all(&self, events: Vec<NewEvent>) -> Vec<Written> {
        self.accept(Append::events(events))
    }

    /// Appends events of one stream, one by one.
    pub fn put_each(&self, stream_name: &str, count: usize) -> Vec<Written> {
        (0..count)
            .map(|_| self.put(self.event(stream_name)))
            .collect()
    }

    /// Appends what must be refused without changing the log.
    pub fn refuse(&self, append: Append) -> AppendError {
        let before = self.head();
        match self.append(append) {
            Ok(appended) => panic!("an append that must be refused was accepted: {appended:?}"),
            Err(error) => {
                assert!(error.did_not_happen(), "the outcome must be known: {error}");
                assert_eq!(self.head(), before, "a refused append moved the head");
                error
            }
        }
    }

    /// Remembers events of an append that was cut short: they may be in the log or not.
    pub fn uncertain(&self, events: &[NewEvent]) {
        lock(&self.uncertain).extend(events.iter().map(|event| event.id));
    }

    pub fn find(&self, id: EventId) -> Option<Placed> {
        match self.driver().wait("find", self.log().find(id)) {
            Ok(found) => found,
            Err(error) => panic!("an event could not be looked for: {error}"),
        }
    }

    pub fn head(&self) -> Cut {
        self.head_of(self.log())
    }

    pub fn head_of(&self, log: &Arc<dyn Log>) -> Cut {
        match self.driver().wait("head", log.head()) {
            Ok(head) => head,
            Err(error) => panic!("the head cannot be read: {error}"),
        }
    }

    /// A read that is not driven yet.
    pub fn reader(&self, from: &Cut, filter: Filter, mode: ReadMode) -> Reader<'a> {
        self.over(self.log().read(from, filter, mode))
    }

    pub fn over(&self, stream: EventStream) -> Reader<'a> {
        Reader {
            driver: self.driver(),
            stream,
        }
    }

    pub fn follow(&self, from: &Cut) -> Reader<'a> {
        self.reader(from, Filter::all(), ReadMode::Follow)
    }

    /// All that a read gives until it ends.
    pub fn try_read(
        &self,
        from: &Cut,
        filter: Filter,
        mode: ReadMode,
    ) -> Result<Vec<Event>, ReadError> {
        self.reader(from, filter, mode).rest()
    }

    pub fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> Vec<Event> {
        whole(self.try_read(from, filter, mode))
    }

    pub fn read_all(&self) -> Vec<Event> {
        self.read(&Cut::start(), Filter::all(), ReadMode::ToHead)
    }

    pub fn matching(&self, filter: Filter) -> Vec<Event> {
        self.read(&Cut::start(), filter, ReadMode::ToHead)
    }

    pub fn read_stream(&self, name: &str, range: VersionRange, order: Order) -> Vec<Event> {
        let events = self.log().read_stream(&stream(name), range, order);
        whole(self.over(events).rest())
    }

    pub fn last_version(&self, name: &str) -> Option<u64> {
        let events = self.read_stream(name, VersionRange::ALL, Order::Forward);
        events.last().map(|event| event.version)
    }

    /// Checks the whole log: see the module's docs.
    pub fn audit(&self) {
        if self.log.is_none() {
            return;
        }
        let all = self.read_all();
        assert_eq!(
            no_gap(&all, &Cut::start()),
            self.head(),
            "reading to the head and asking for it differ"
        );
        versions_count_up(&all);
        self.audit_acknowledged(&all);
        self.audit_other_ways(&all);
    }

    fn audit_acknowledged(&self, all: &[Event]) {
        let acknowledged = lock(&self.acknowledged);
        let uncertain = lock(&self.uncertain);
        let mut found = 0;
        for event in all {
            match acknowledged.get(&event.id) {
                Some(written) => {
                    same_written(event, written);
                    found += 1;
                }
                None => assert!(
                    uncertain.contains(&event.id),
                    "the log holds an event that was not acknowledged: {event:?}"
                ),
            }
        }
        assert_eq!(found, acknowledged.len(), "acknowledged events in the log");
    }

    fn audit_other_ways(&self, all: &[Event]) {
        let start = Cut::start();
        let batches = self.reader(&start, Filter::all(), ReadMode::ToHead);
        assert!(
            whole(batches.rest_in_batches()) == all,
            "batches and single events differ"
        );
        let mut streams: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in all {
            streams.entry(event.stream()).or_default().push(event);
        }
        for (name, events) in streams.into_iter().take(STREAMS_AUDITED_MAX) {
            let read = self.read_stream(name, VersionRange::ALL, Order::Forward);
            assert!(
                read.iter().eq(events),
                "stream {name} reads differently alone"
            );
        }
        if self.capabilities().backward_reads {
            let backward = self.read(&self.head(), Filter::all(), ReadMode::Backward);
            let written: Vec<_> = all.iter().map(as_written).collect();
            just_these_backward(&backward, &written);
        }
    }
}

/// A read in progress.
pub(super) struct Reader<'a> {
    driver: Driver<'a>,
    pub stream: EventStream,
}

impl Reader<'_> {
    pub fn next(&mut self) -> Option<Result<Event, ReadError>> {
        self.driver
            .wait("the next event of a read", self.stream.next())
    }

    /// The next `count` events.
    pub fn take(&mut self, count: usize) -> Vec<Event> {
        (0..count)
            .map(|index| match self.next() {
                Some(Ok(event)) => event,
                other => panic!("event {index} of {count} was due, {other:?} came"),
            })
            .collect()
    }

    /// The next batch, if it is there.
    pub fn batch_at_once(&mut self) -> Option<EventBatch> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let next = std::pin::pin!(self.stream.next_batch());
        match next.poll(&mut cx) {
            std::task::Poll::Pending => None,
            std::task::Poll::Ready(Some(Ok(batch))) => Some(batch),
            std::task::Poll::Ready(other) => panic!("a follower ended: {other:?}"),
        }
    }

    pub fn rest(mut self) -> Result<Vec<Event>, ReadError> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The batches that a read gives until it ends.
    pub fn batches(mut self) -> Vec<EventBatch> {
        let what = "the next batch of a read";
        std::iter::from_fn(|| self.driver.wait(what, self.stream.next_batch()))
            .map(|batch| batch.unwrap_or_else(|error| panic!("a read failed: {error}")))
            .collect()
    }

    pub fn rest_in_batches(mut self) -> Result<Vec<Event>, ReadError> {
        let mut events = Vec::new();
        while let Some(batch) = self
            .driver
            .wait("the next batch of a read", self.stream.next_batch())
        {
            for event in batch?.iter() {
                match event {
                    Ok(event) => events.push(event.to_event()),
                    Err(error) => panic!("a batch cannot be decoded: {error}"),
                }
            }
        }
        Ok(events)
    }
}

pub(super) fn whole(read: Result<Vec<Event>, ReadError>) -> Vec<Event> {
    read.unwrap_or_else(|error| panic!("a read that must succeed failed: {error}"))
}

/// A read event as if its append had been seen, to compare other reads with.
pub(super) fn as_written(event: &Event) -> Written {
    let meta = match event.meta().decode() {
        Ok(meta) => meta,
        Err(error) => panic!("the metadata of {} cannot be decoded: {error}", event.id),
    };
    Written {
        new: NewEvent {
            id: event.id,
            stream: event.stream_id(),
            event_type: kind(event.event_type()),
            schema_version: event.schema_version,
            data: event.data_bytes(),
            meta: Some(Arc::new(meta)),
        },
        placed: crate::Placed {
            position: event.position,
            version: event.version,
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
