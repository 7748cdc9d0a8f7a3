//! A log so simple that it is plainly right, with switches that make it wrong.
//!
//! One file of frames. An append is queued; a step writes all that is queued, syncs, and
//! only then shows and answers it. Opening reads frames up to the first bad one and
//! writes them anew, to a file that takes the old one's place by a rename. A frame's hash
//! covers the number of its file, so that no frame of an older file passes.
//!
//! It keeps the contract and tests the checker: right, it must pass; with any [`Bug`], it
//! must be caught.

mod bug;
mod frames;
mod wrong;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use anabranch_env::{DiskLock, Env, File, OpenMode};
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, Condition, EventStream,
    Log, OpenError, Order, Placed, ReadError, ReadMode, Rejection, Scope, VersionRange,
};
use anabranch_model::{
    Cut, Event, EventBatch, EventId, Filter, LimitError, Limits, PartitionId, Position, StreamId,
    Version,
};

use crate::engine::{Engine, Machine};

pub use bug::Bug;

use frames::{header, put_frame, read_frames};
use wrong::recover_wrongly;

/// The reference log, right or with a bug.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference {
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

impl Engine for Reference {
    fn name(&self) -> String {
        match self.bug {
            None => "reference".to_owned(),
            Some(bug) => format!("reference with {bug:?}"),
        }
    }

    fn open(&self, env: Env, _: u64) -> Result<Box<dyn Machine>, OpenError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::Io { what, source }
        };
        let dir = PathBuf::from("log");
        env.disk
            .create_dir(&dir)
            .map_err(io("making the directory"))?;
        env.disk
            .sync_dir(Path::new(""))
            .map_err(io("syncing the root"))?;
        let lock = env
            .disk
            .lock(&dir.join("lock"), "checker")
            .map_err(io("locking"))?;
        let lock = lock.map_err(|holder| OpenError::Locked {
            path: "log".to_owned(),
            holder,
        })?;
        let inner = Inner::recover(&env, dir, self.bug).map_err(io("recovering"))?;
        Ok(Box::new(Handle {
            log: Arc::new(ReferenceLog(Arc::new(Mutex::new(inner)))),
            _lock: lock,
        }))
    }

    fn open_damaged(&self, _: Env, _: u64) -> Option<Result<Box<dyn Machine>, OpenError>> {
        None
    }
}

struct Handle {
    log: Arc<ReferenceLog>,
    _lock: Box<dyn DiskLock>,
}

impl Machine for Handle {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn step(&self) -> bool {
        self.log.inner().step()
    }

    fn upkeep(&self) {}

    fn close(self: Box<Self>) -> Result<(), OpenError> {
        while self.step() {}
        Ok(())
    }
}

struct ReferenceLog(Arc<Mutex<Inner>>);

impl ReferenceLog {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Result<Appended, AppendError>;

struct Job {
    ticket: u64,
    append: Append,
    waker: Waker,
}

struct Inner {
    env: Env,
    dir: PathBuf,
    bug: Option<Bug>,
    stored: Stored,
    /// Durable, and seen by readers.
    events: Vec<Event>,
    index: Index,
    queue: VecDeque<Job>,
    answers: BTreeMap<u64, Answer>,
    tickets: u64,
    followers: Vec<Waker>,
    /// The file's end is in doubt: it must be written anew before anything is added.
    broken: bool,
}

/// The file of frames.
struct Stored {
    file: Arc<dyn File>,
    /// In its header and in the hash of every frame.
    number: u64,
    end: u64,
}

impl Stored {
    /// Writes all events to a new file, which takes the old one's place.
    fn write(env: &Env, dir: &Path, events: &[Event], bug: Option<Bug>) -> io::Result<Self> {
        let new = dir.join(NEW_FILE);
        let file = create_anew(env, &new)?;
        let number = env.rng.next_u64();
        let mut bytes = header(number);
        // A batch is what was written with one time.
        for batch in events.chunk_by(|a, b| a.recorded_at == b.recorded_at) {
            put_frame(&mut bytes, number, batch)?;
        }
        file.write_all_at(&bytes, 0)?;
        if bug != Some(Bug::RenameBeforeSync) {
            file.sync_data()?;
        }
        env.disk.rename(&new, &dir.join(FILE))?;
        if bug != Some(Bug::NoDirectorySync) {
            env.disk.sync_dir(dir)?;
        }
        let end = bytes.len() as u64;
        Ok(Self { file, number, end })
    }

    fn append(&mut self, bytes: &[u8], bug: Option<Bug>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        match bug {
            Some(Bug::AcknowledgeBeforeSync) => Ok(()),
            Some(Bug::IgnoreSyncError) => self.file.sync_data().or(Ok(())),
            Some(Bug::RetrySync) => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }
}

/// What is needed to decide about an append.
#[derive(Clone, Default)]
struct Index {
    ids: BTreeMap<EventId, usize>,
    counts: BTreeMap<StreamId, Version>,
}

impl Index {
    fn add(&mut self, event: &Event) {
        self.ids.insert(event.id, event.position.offset as usize);
        *self.counts.entry(event.stream_id()).or_default() += 1;
    }
}

const FILE: &str = "events";
const NEW_FILE: &str = "events.new";

impl Inner {
    fn recover(env: &Env, dir: PathBuf, bug: Option<Bug>) -> io::Result<Self> {
        let path = dir.join(FILE);
        let mut events = Vec::new();
        if env.disk.exists(&path)? {
            let file = env.disk.open(&path, OpenMode::Read)?;
            let mut bytes = vec![0; file.len()? as usize];
            file.read_exact_at(&mut bytes, 0)?;
            events = read_frames(&bytes, bug);
        }
        recover_wrongly(&mut events, bug);
        let stored = Stored::write(env, &dir, &events, bug)?;
        let mut index = Index::default();
        events.iter().for_each(|event| index.add(event));
        if bug == Some(Bug::ForgetIds) {
            index.ids.clear();
        }
        Ok(Self {
            env: env.clone(),
            dir,
            bug,
            stored,
            events,
            index,
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            tickets: 0,
            followers: Vec::new(),
            broken: false,
        })
    }

    /// Writes all that is queued as one group.
    fn step(&mut self) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let jobs = std::mem::take(&mut self.queue);
        if let Err(error) = self.mend() {
            for job in jobs {
                self.answer(job, Err(unavailable(&error)));
            }
            return true;
        }
        let mut bytes = Vec::new();
        let mut staged = Staged {
            events: Vec::new(),
            index: self.index.clone(),
        };
        let mut answers = Vec::new();
        for job in &jobs {
            answers.push(self.decide(&job.append, &mut staged, &mut bytes));
        }
        let Staged { events, index } = staged;
        let durable = self.events.len() as u64;
        let mut group = Some((events, index));
        if self.bug == Some(Bug::PublishBeforeSync) {
            self.publish(group.take());
        }
        let written = self.stored.append(&bytes, self.bug);
        match &written {
            Ok(()) => self.publish(group),
            Err(_) => self.broken = true,
        }
        for (job, answer) in jobs.into_iter().zip(answers) {
            let answer = match (&written, answer) {
                (Err(error), Ok(appended)) if appended.cut().get(PartitionId(0)) > durable => {
                    Err(self.in_doubt(error))
                }
                (_, answer) => answer,
            };
            self.answer(job, answer);
        }
        true
    }

    /// Writes the file anew when its end is in doubt.
    fn mend(&mut self) -> io::Result<()> {
        if self.broken {
            self.stored = Stored::write(&self.env, &self.dir, &self.events, self.bug)?;
            self.broken = false;
        }
        Ok(())
    }

    fn in_doubt(&self, error: &io::Error) -> AppendError {
        match self.bug {
            Some(Bug::ClaimNothingWritten) => unavailable(error),
            _ => AppendError::Unknown {
                reason: error.to_string(),
            },
        }
    }

    fn publish(&mut self, group: Option<(Vec<Event>, Index)>) {
        let Some((events, index)) = group else {
            return;
        };
        if !events.is_empty() && self.bug != Some(Bug::FollowerSleeps) {
            self.followers.drain(..).for_each(Waker::wake);
        }
        self.events.extend(events);
        self.index = index;
    }

    fn answer(&mut self, job: Job, answer: Answer) {
        self.answers.insert(job.ticket, answer);
        if self.bug != Some(Bug::AppendSleeps) {
            job.waker.wake();
        }
    }

    /// Decides about one append and stages its frame.
    fn decide(&self, append: &Append, staged: &mut Staged, out: &mut Vec<u8>) -> Answer {
        check_shape(append)?;
        if let Some(repeated) = self.repeated(append, staged)? {
            return Ok(repeated);
        }
        let refusal = match self.bug {
            Some(Bug::IgnoreConditions) => Ok(()),
            _ => self.check_conditions(append, staged),
        };
        if self.bug != Some(Bug::WriteTheRefused) {
            refusal.clone()?;
        }
        let first = self.events.len() + staged.events.len();
        // Times grow by at least one from batch to batch: a rewrite tells batches by them.
        let last = staged.events.last().or(self.events.last());
        let now = self.env.clock.wall_micros();
        let recorded_at = last.map_or(now, |event| now.max(event.recorded_at + 1));
        let mut places = Vec::new();
        let mut batch = Vec::new();
        for (i, event) in append.events.iter().enumerate() {
            let position = Position::at((first + i) as u64);
            let version = staged.index.counts.get(&event.stream).copied().unwrap_or(0);
            let stored = Event::stored(event, position, version, recorded_at);
            staged.index.add(&stored);
            batch.push(stored);
            places.push(Placed { position, version });
        }
        let frame_events = match self.bug {
            Some(Bug::SplitBatches) => 1,
            _ => batch.len(),
        };
        for frame in batch.chunks(frame_events) {
            put_frame(out, self.stored.number, frame).map_err(|error| unavailable(&error))?;
        }
        staged.events.extend(batch);
        refusal?;
        Ok(Appended::new(places, false))
    }

    fn repeated(&self, append: &Append, staged: &Staged) -> Result<Option<Appended>, AppendError> {
        let at = |id: &EventId| staged.index.ids.get(id).copied();
        let known: Vec<Option<usize>> = append.events.iter().map(|e| at(&e.id)).collect();
        let Some((id, offset)) = append
            .events
            .iter()
            .zip(&known)
            .find_map(|(e, k)| Some((e.id, (*k)?)))
        else {
            return Ok(None);
        };
        let position = Position::at(offset as u64);
        let mut places = Vec::new();
        for (event, known) in append.events.iter().zip(&known) {
            let Some(offset) = *known else {
                return Err(Rejection::PartlyWritten { id, position }.into());
            };
            let later = offset.checked_sub(self.events.len());
            let stored = match later {
                None => self.events.get(offset),
                Some(later) => staged.events.get(later),
            };
            let Some(stored) = stored else {
                continue;
            };
            let same = Event::stored(event, stored.position, stored.version, stored.recorded_at);
            if same != *stored {
                let position = stored.position;
                return Err(Rejection::IdTaken {
                    id: event.id,
                    position,
                }
                .into());
            }
            places.push(Placed {
                position: stored.position,
                version: stored.version,
            });
        }
        Ok(Some(Appended::new(places, true)))
    }

    fn check_conditions(&self, append: &Append, staged: &Staged) -> Result<(), AppendError> {
        for condition in &append.conditions {
            match condition {
                Condition::Stream(stream, expect) => {
                    let count = staged.index.counts.get(stream).copied().unwrap_or(0);
                    let actual = count.checked_sub(1);
                    if !expect.holds(actual) {
                        return Err(AppendError::Conflict {
                            stream: stream.clone(),
                            expected: *expect,
                            actual,
                        });
                    }
                }
                Condition::NoMatch { query, after } => {
                    let from = after.get(PartitionId(0)) as usize;
                    let all = self.events.iter().chain(&staged.events);
                    if from > self.events.len() + staged.events.len() {
                        return Err(Rejection::CutBeyondHead {
                            after: after.clone(),
                            head: Cut::at(self.events.len() as u64),
                        }
                        .into());
                    }
                    if let Some(event) = all.skip(from).find(|e| query.matches(&e.as_ref())) {
                        return Err(AppendError::Matched {
                            position: event.position,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

struct Staged {
    events: Vec<Event>,
    index: Index,
}

fn check_shape(append: &Append) -> Result<(), AppendError> {
    Limits::default()
        .check(&append.events)
        .map_err(Rejection::from)?;
    let mut ids = BTreeMap::new();
    for (second, event) in append.events.iter().enumerate() {
        if let Some(first) = ids.insert(event.id, second) {
            let repeated = LimitError::RepeatedId { first, second };
            return Err(Rejection::from(repeated).into());
        }
    }
    Ok(())
}

fn create_anew(env: &Env, path: &Path) -> io::Result<Arc<dyn File>> {
    if env.disk.exists(path)? {
        env.disk.remove(path)?;
    }
    env.disk.open(path, OpenMode::Create)
}

fn unavailable(error: &io::Error) -> AppendError {
    AppendError::Unavailable {
        reason: error.to_string(),
        retry_after: None,
    }
}

impl Log for ReferenceLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "reference",
            partitions: 1,
            batches: Scope::Log,
            conditions: Scope::Log,
            no_match: Some(Scope::Log),
            total_order: true,
            backward_reads: true,
            survives_restart: true,
            survives_power_cut: true,
            limits: Limits::default(),
        }
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Answer> {
        Box::pin(AppendFuture {
            inner: self.0.clone(),
            append: Some(append),
            ticket: 0,
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let inner = self.inner();
        let events = inner.events.iter();
        let events =
            events.filter(|e| e.stream() == stream.as_str() && range.0.contains(&e.version));
        let mut events: Vec<Event> = events.cloned().collect();
        if order == Order::Backward {
            events.reverse();
            if inner.bug == Some(Bug::BackwardStopsEarly) {
                events.pop();
            }
        }
        EventStream::new(Listed(Some(events)))
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let inner = self.inner();
        let from = from.get(PartitionId(0)) as usize;
        match mode {
            ReadMode::Follow => EventStream::new(Follow {
                inner: self.0.clone(),
                at: from,
                filter,
            }),
            ReadMode::ToHead => {
                let events = inner.events.iter().skip(from);
                let events = events.filter(|e| filter.matches(&e.as_ref())).cloned();
                EventStream::new(Listed(Some(events.collect())))
            }
            ReadMode::Backward => {
                let events = inner.events.iter().take(from).rev();
                let events = events.filter(|e| filter.matches(&e.as_ref())).cloned();
                EventStream::new(Listed(Some(events.collect())))
            }
        }
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        let inner = self.inner();
        let found = inner.events.iter().find(|event| event.id == id);
        let found = found.map(|event| Placed {
            position: event.position,
            version: event.version,
        });
        Box::pin(std::future::ready(Ok(found)))
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        let head = Cut::at(self.inner().events.len() as u64);
        Box::pin(std::future::ready(Ok(head)))
    }
}

struct AppendFuture {
    inner: Arc<Mutex<Inner>>,
    append: Option<Append>,
    ticket: u64,
}

impl Future for AppendFuture {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        let mut inner = lock(&this.inner);
        let waker = cx.waker().clone();
        if let Some(append) = this.append.take() {
            inner.tickets += 1;
            let ticket = inner.tickets;
            this.ticket = ticket;
            inner.queue.push_back(Job {
                ticket,
                append,
                waker,
            });
            return Poll::Pending;
        }
        match inner.answers.remove(&this.ticket) {
            Some(answer) => Poll::Ready(answer),
            None => {
                let job = inner.queue.iter_mut().find(|job| job.ticket == this.ticket);
                if let Some(job) = job {
                    job.waker = waker;
                }
                Poll::Pending
            }
        }
    }
}

struct Listed(Option<Vec<Event>>);

impl BatchSource for Listed {
    fn poll_next_batch(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let events = self.0.take().filter(|events| !events.is_empty());
        Poll::Ready(events.map(|events| Ok(events.into())))
    }
}

struct Follow {
    inner: Arc<Mutex<Inner>>,
    at: usize,
    filter: Filter,
}

impl BatchSource for Follow {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        const BATCH_EVENTS: usize = 7;
        let mut inner = lock(&self.inner);
        let mut batch = Vec::new();
        while let Some(event) = inner.events.get(self.at)
            && batch.len() < BATCH_EVENTS
        {
            let skips = inner.bug == Some(Bug::FollowerSkips) && self.at % 10 == 9;
            if self.filter.matches(&event.as_ref()) && !skips {
                batch.push(event.clone());
            }
            self.at += 1;
        }
        if batch.is_empty() {
            inner.followers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(batch.into())))
    }
}
