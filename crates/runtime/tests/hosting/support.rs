//! What the tests of this crate share: an entity, a log that misbehaves on demand, and time
//! that stands still.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use anabranch_domain::{Decide, Entity, Event, Rejection};
use anabranch_env::sim::SimRng;
use anabranch_env::{Env, SplitMix64};
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, EventStream, Layout, Log,
    MemoryLog, Order, PartitionedLog, ReadError, ReadMode, VersionRange,
};
use anabranch_model::record;
use anabranch_model::{
    Block, BlockEntry, Cut, EventBatch, EventType, Filter, Meta, NewEvent, PartitionId, StreamId,
};
use anabranch_runtime::{EntityOptions, ManualTime, Service, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Counts; says no below zero; panics at 13.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    pub sum: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CounterCommand {
    Add {
        n: i64,
    },
    /// Records one event for each number.
    AddAll {
        numbers: Vec<i64>,
    },
    /// Only the first time.
    Open,
    /// Panics in `decide`.
    Panic,
    /// Records nothing.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum CounterEvent {
    Added { n: i64 },
    Opened,
}

impl Entity for Counter {
    const CATEGORY: &'static str = "counter";
    type Command = CounterCommand;
    type Event = CounterEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &CounterCommand,
        cx: &Decide,
    ) -> Result<Vec<CounterEvent>, Rejection> {
        match command {
            CounterCommand::Add { n } if self.sum + n < 0 => Err(Rejection::new(
                "below-zero",
                format!("only {} left", self.sum),
            )),
            CounterCommand::Add { n } => Ok(vec![CounterEvent::Added { n: *n }]),
            CounterCommand::AddAll { numbers } => {
                Ok(numbers.iter().map(|&n| CounterEvent::Added { n }).collect())
            }
            CounterCommand::Open if cx.version().is_some() => {
                Err(Rejection::new("already-open", "it is open already"))
            }
            CounterCommand::Open => Ok(vec![CounterEvent::Opened]),
            CounterCommand::Panic => panic!("told to"),
            CounterCommand::Nothing => Ok(Vec::new()),
        }
    }

    fn evolve(&mut self, event: &CounterEvent) {
        if let CounterEvent::Added { n } = event {
            assert_ne!(*n, 13, "thirteen");
            self.sum += n;
        }
    }
}

/// What a [`WildLog`] does with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// Nothing is written.
    Unavailable,
    /// Nothing is written, but nobody knows.
    UnknownNotWritten,
    /// It is written, but nobody knows.
    UnknownWritten,
}

/// A log in memory that misbehaves on demand.
#[derive(Clone)]
pub struct WildLog(Arc<Wild>);

struct Wild {
    inner: Arc<dyn Log>,
    planned: Mutex<VecDeque<Mischief>>,
    /// Random mischief: one append in so many.
    random: Mutex<Option<(SplitMix64, u64)>>,
    /// Appends pass one by one; closed to hold them back.
    gate: Semaphore,
    appends: Mutex<Vec<usize>>,
    /// From which version which streams were read.
    stream_reads: Mutex<Vec<(String, u64)>>,
    /// Reads of the whole log leave these positions out, as if they were lost on their way.
    lost: Mutex<Option<std::ops::Range<u64>>>,
    /// Whether the metadata of what is read is spoilt.
    spoils: AtomicBool,
    /// How many partitions it claims to have at least.
    partitions: AtomicU32,
    survives: AtomicBool,
}

const OPEN: usize = 1 << 30;

/// How many partitions the tests of this process run on, beside that of the platform's streams.
pub const PARTITIONS: &str = "ANABRANCH_TEST_PARTITIONS";

/// An empty log in memory.
pub fn memory(env: Env) -> Arc<dyn Log> {
    let partitions = std::env::var(PARTITIONS).ok();
    match partitions.and_then(|partitions| partitions.parse().ok()) {
        None => Arc::new(MemoryLog::new(env)),
        Some(rest) => {
            let layout = Layout::new(Vec::new(), rest).unwrap();
            Arc::new(PartitionedLog::in_memory(&env, layout))
        }
    }
}

impl WildLog {
    pub fn new(env: Env) -> Self {
        Self(Arc::new(Wild {
            inner: memory(env),
            planned: Mutex::default(),
            random: Mutex::default(),
            gate: Semaphore::new(OPEN),
            appends: Mutex::default(),
            stream_reads: Mutex::default(),
            lost: Mutex::default(),
            spoils: AtomicBool::new(false),
            partitions: AtomicU32::new(1),
            survives: AtomicBool::new(false),
        }))
    }

    pub fn inner(&self) -> &Arc<dyn Log> {
        &self.0.inner
    }

    pub fn plan(&self, mischief: impl IntoIterator<Item = Mischief>) {
        self.0.planned.lock().unwrap().extend(mischief);
    }

    pub fn misbehave_one_in(&self, n: u64, seed: u64) {
        *self.0.random.lock().unwrap() = Some((SplitMix64::new(seed), n));
    }

    pub fn behave(&self) {
        *self.0.random.lock().unwrap() = None;
    }

    /// Holds appends back.
    pub fn hold(&self) {
        self.0.gate.forget_permits(OPEN);
    }

    pub fn release(&self) {
        self.0
            .gate
            .add_permits(OPEN - self.0.gate.available_permits());
    }

    /// How many events each append had that reached the log.
    pub fn appends(&self) -> Vec<usize> {
        self.0.appends.lock().unwrap().clone()
    }

    /// From which versions the streams of a category were read since this was asked last, but
    /// for reads of one event.
    pub fn take_reads(&self, category: &str) -> Vec<u64> {
        let reads = std::mem::take(&mut *self.0.stream_reads.lock().unwrap());
        let of = |stream: &str| stream.split('/').next() == Some(category);
        let reads = reads.into_iter().filter(|(stream, _)| of(stream));
        reads.map(|(_, from)| from).collect()
    }

    /// What is read from now on has metadata that nobody can read, or has it whole again.
    pub fn spoil_metadata(&self, spoils: bool) {
        self.0.spoils.store(spoils, Ordering::Relaxed);
    }

    fn spoilt(&self, inner: EventStream) -> EventStream {
        match self.0.spoils.load(Ordering::Relaxed) {
            true => EventStream::new(Spoilt(inner)),
            false => inner,
        }
    }

    /// Claims to have so many partitions.
    pub fn claim_partitions(&self, partitions: u32) {
        self.0.partitions.store(partitions, Ordering::Relaxed);
    }

    /// Claims to outlive the program.
    pub fn claim_to_survive(&self) {
        self.0.survives.store(true, Ordering::Relaxed);
    }

    /// Reads of the whole log leave these positions out; `None`: they are whole again.
    pub fn lose(&self, lost: Option<std::ops::Range<u64>>) {
        *self.0.lost.lock().unwrap() = lost;
    }

    fn next_mischief(&self) -> Option<Mischief> {
        if let Some(planned) = self.0.planned.lock().unwrap().pop_front() {
            return Some(planned);
        }
        let mut random = self.0.random.lock().unwrap();
        let (rng, n) = random.as_mut()?;
        let kinds = [
            Mischief::Unavailable,
            Mischief::UnknownNotWritten,
            Mischief::UnknownWritten,
        ];
        rng.one_in(*n).then(|| kinds[rng.below(3) as usize])
    }
}

impl Log for WildLog {
    fn capabilities(&self) -> Capabilities {
        let inner = self.0.inner.capabilities();
        let claimed = self.0.partitions.load(Ordering::Relaxed);
        Capabilities {
            partitions: inner.partitions.max(claimed),
            survives_restart: self.0.survives.load(Ordering::Relaxed),
            ..inner
        }
    }

    fn layout(&self) -> Layout {
        self.0.inner.layout()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            self.0.gate.acquire().await.unwrap().forget();
            self.0.appends.lock().unwrap().push(append.events.len());
            let unknown = Err(AppendError::Unknown {
                reason: "the answer was lost".to_owned(),
            });
            match self.next_mischief() {
                None => self.0.inner.append(append).await,
                Some(Mischief::Unavailable) => Err(AppendError::Unavailable {
                    reason: "no room".to_owned(),
                    retry_after: None,
                }),
                Some(Mischief::UnknownNotWritten) => unknown,
                Some(Mischief::UnknownWritten) => {
                    // A refusal would be definite; only what is written may get lost.
                    self.0.inner.append(append).await?;
                    unknown
                }
            }
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        if range.0.end - range.0.start > 1 {
            let read = (stream.to_string(), range.0.start);
            self.0.stream_reads.lock().unwrap().push(read);
        }
        self.spoilt(self.0.inner.read_stream(stream, range, order))
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let lost = self.0.lost.lock().unwrap().clone();
        match lost {
            Some(lost) if mode == ReadMode::ToHead => EventStream::new(Lossy {
                inner: self.0.inner.read(from, filter, mode),
                lost,
            }),
            _ => self.spoilt(self.0.inner.read(from, filter, mode)),
        }
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.0.inner.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.0.inner.head()
    }
}

/// A log, and time that stands still.
pub struct Bench {
    pub log: WildLog,
    pub clock: ManualTime,
    pub time: Time,
}

impl Bench {
    pub fn new() -> Self {
        let clock = ManualTime::new();
        let rng = Arc::new(SimRng::new(7));
        let env = Env {
            clock: Arc::new(clock.clone()),
            rng: rng.clone(),
            ..Env::os()
        };
        Self {
            log: WildLog::new(env),
            time: Time::manual(&clock, rng),
            clock,
        }
    }

    pub fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    /// A service with the counter.
    pub async fn service(&self, options: EntityOptions) -> Service {
        Service::builder("test", self.log(), self.time.clone())
            .entity_with::<Counter>(options)
            .start()
            .await
            .unwrap()
    }

    /// The types of the events of a stream.
    pub async fn types(&self, stream: &str) -> Vec<String> {
        let stream = StreamId::system(stream).unwrap();
        let mut read = self
            .log
            .read_stream(&stream, VersionRange::ALL, Order::Forward);
        let mut types = Vec::new();
        while let Some(event) = read.next().await {
            types.push(event.unwrap().event_type().to_owned());
        }
        types
    }
}

/// Lets every other task of this thread go on until it waits for something.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A read of events whose metadata is no text any more.
struct Spoilt(EventStream);

impl BatchSource for Spoilt {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let polled = pin!(self.0.next_batch()).poll(cx);
        let Poll::Ready(Some(Ok(batch))) = polled else {
            return polled;
        };
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for event in batch.iter().map(|event| event.unwrap().to_event()) {
            let start = bytes.len();
            let mut new = NewEvent::new(
                event.id,
                StreamId::system(event.stream()).unwrap(),
                EventType::new(event.event_type()).unwrap(),
                event.data().to_vec(),
            );
            new.schema_version = event.schema_version;
            new.meta = Some(Arc::new(Meta {
                source: Some("spoil me".to_owned()),
                ..Meta::default()
            }));
            record::encode(&mut bytes, &[new], &[event.version]);
            let at = bytes[start..].windows(8).position(|w| w == b"spoil me");
            bytes[start + at.unwrap()] = 0xff;
            entries.push(BlockEntry {
                first: event.position.offset,
                append: event.position.offset,
                count: 1,
                recorded_at: event.recorded_at,
                start: start as u32,
                len: (bytes.len() - start) as u32,
            });
        }
        let (from, to) = match batch.reach() {
            Some(reach) => (reach.offsets.start, reach.offsets.end),
            None => (0, u64::MAX),
        };
        let block = Arc::new(Block {
            bytes: bytes.into(),
            entries,
            partition: PartitionId(0),
        });
        let spoilt = EventBatch::of_block(block, from, to, None);
        Poll::Ready(Some(Ok(spoilt)))
    }
}

/// A read that loses what comes at some positions, with the rest of its batch.
struct Lossy {
    inner: EventStream,
    lost: std::ops::Range<u64>,
}

impl BatchSource for Lossy {
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let polled = pin!(self.inner.next_batch()).poll(cx);
        let Poll::Ready(Some(Ok(batch))) = &polled else {
            return polled;
        };
        let mut reach = batch.reach().unwrap();
        if reach.offsets.contains(&self.lost.start) && reach.offsets.end >= self.lost.end {
            reach.offsets.start = self.lost.end;
            let events = batch.iter().map(|event| event.unwrap().to_event());
            let kept: Vec<_> = events
                .filter(|event| event.position.offset >= self.lost.end)
                .collect();
            return Poll::Ready(Some(Ok(EventBatch::of_run(kept, reach, Vec::new()))));
        }
        polled
    }
}
