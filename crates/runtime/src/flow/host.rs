//! Hosts the instances of one process or saga.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{CommandEnvelope, Cut, ReplyEnvelope, Retry, StreamId};
use anabranch_log::{BoxFuture, Log, ReadMode};
use anabranch_model::{EventBatch, EventId, EventType, Filter};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

use super::dispatcher::Dispatcher;
use super::load;
use super::message::{Item, Message, Shared, Touched};
use super::shard;
use super::{InstanceStatus, Kind};
use crate::diagnostics::Diagnostics;
use crate::in_order::InOrder;
use crate::panics::{self, contain};
use crate::send_error::SendError;
use crate::snapshot::{Snapshot, SnapshotStore};
use crate::time::Time;

/// How the instances of a process or a saga are hosted.
#[derive(Debug, Clone)]
pub struct FlowOptions {
    /// How many tasks share the instances.
    pub shards: usize,
    /// How many inputs may wait at one shard before its senders wait.
    pub mailbox_max: usize,
    /// How many instances are kept in memory by each shard, about.
    pub live_max: usize,
    /// When an instance whose code failed is tried again; then it is parked.
    pub restart: Retry,
    /// After how many events of the log the place to begin at is kept, about: a restart looks
    /// through so many.
    pub keep_every: u64,
    /// A snapshot of an instance is kept each so many events of its journal; 0: never.
    pub snapshot_every: u64,
}

impl Default for FlowOptions {
    /// Two shards of 10,000 instances each; five attempts.
    fn default() -> Self {
        Self {
            shards: 2,
            mailbox_max: 4096,
            live_max: 10_000,
            restart: Retry {
                attempts_max: Some(5),
                ..Retry::DEFAULT
            },
            keep_every: 10_000,
            snapshot_every: 1000,
        }
    }
}

/// The instances of one process or saga, whatever its type: what dispatchers and operators use.
pub trait AnyFlow: Send + Sync {
    /// The process's or the saga's name.
    fn name(&self) -> &'static str;

    /// Takes a command to an instance: starts, aborts, resumes or settles a saga. Answers when
    /// what follows from it is durable.
    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// Takes an answer to something that an instance has sent.
    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// The instances that have not ended, and those that are parked.
    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>>;

    /// One instance, from its journal, and whether it is parked here.
    fn show(&self, stream: StreamId) -> BoxFuture<'_, InstanceStatus>;

    /// Tries a parked instance again; false if it was not parked. What it has missed is
    /// consumed again.
    fn retry(&self, stream: StreamId) -> BoxFuture<'_, bool>;

    /// Why no more events are consumed, if that is so.
    fn stopped(&self) -> Option<String>;

    /// How far everything that it listens to was consumed, and what followed is durable.
    fn consumed(&self) -> Cut;

    /// Passes over the event that cannot be consumed; false if there is none.
    fn skip(&self) -> bool;

    /// Tries again to consume the event that cannot be consumed; false if there is none.
    fn consume_again(&self) -> bool;

    /// Stops, and keeps the place to begin at.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Stops at once, as a crash would.
    fn kill(&self);
}

/// What a host is made of.
pub struct FlowParts {
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub diagnostics: Arc<Diagnostics>,
    pub head: watch::Receiver<Cut>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub dispatcher: Arc<Dispatcher>,
    pub source: String,
}

/// Where a runtime begins that takes over. Lost, everything is consumed again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Place {
    /// What was consumed is durable up to here.
    consumed: Cut,
    /// Journals were looked through up to here.
    journals: Cut,
    /// Those of them that have not ended and wait for something.
    open: Vec<StreamId>,
    /// Those that have not ended and wait for nothing.
    #[serde(default)]
    idle: Vec<StreamId>,
}

/// How far journals were looked through when the place was kept last, and when to keep it
/// again.
struct Kept {
    journals: Cut,
    /// How many instances there were: keeping costs time for each.
    instances: u64,
}

fn count(cut: &Cut) -> u64 {
    cut.iter().map(|(_, count)| count).sum()
}

/// The instances of one process or saga, hosted.
pub struct FlowHost<K: Kind> {
    shared: Arc<Shared<K>>,
    shards: Vec<mpsc::Sender<Message<K>>>,
    head: watch::Receiver<Cut>,
    options: FlowOptions,
    stopped: Mutex<Option<Stopped>>,
    kept: tokio::sync::Mutex<Kept>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    feed: Mutex<Option<JoinHandle<()>>>,
}

/// The feed stands before an event that cannot be consumed.
struct Stopped {
    reason: String,
    skip: bool,
}

impl<K: Kind> FlowHost<K> {
    /// Starts the shards; [`FlowHost::begin`] lets them consume.
    pub fn start(kind: K, parts: FlowParts, options: FlowOptions) -> Arc<Self> {
        let kinds = <K::Event as anabranch_domain::Event>::kinds();
        let types = kinds
            .iter()
            .filter_map(|kind| EventType::new(kind.name).ok());
        let shared = Arc::new(Shared {
            types: types.collect(),
            log: parts.log,
            time: parts.time,
            diagnostics: parts.diagnostics,
            dispatcher: parts.dispatcher,
            source: parts.source,
            restart: options.restart,
            live_max: options.live_max,
            fingerprint: kind.fingerprint(),
            kind,
            snapshots: parts.snapshots,
            snapshot_every: options.snapshot_every,
            ledger: Arc::default(),
            nudge: Notify::new(),
            rewind: AtomicBool::new(false),
            retake: AtomicBool::new(false),
        });
        let (mut shards, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..options.shards.max(1) {
            let (inbox, mut messages) = mpsc::channel(options.mailbox_max.max(1));
            let shared = shared.clone();
            shards.push(inbox);
            tasks.push(tokio::spawn(async move {
                let mut from_round = 0;
                loop {
                    let run = shard::run(shared.clone(), &mut messages, from_round);
                    let Err(panic) = std::panic::AssertUnwindSafe(run).catch_unwind().await else {
                        return;
                    };
                    let text = format!(
                        "a shard of {} panicked and was started again: {}",
                        shared.kind.name(),
                        panics::message(&*panic)
                    );
                    shared.diagnostics.add(shared.time.now(), text);
                    // It has forgotten what was on its way, what is open, and every timer.
                    from_round = shared.ledger.round() + 1;
                    shared.retake.store(true, Ordering::Release);
                    shared.rewind();
                }
            }));
        }
        Arc::new(Self {
            shared,
            shards,
            head: parts.head,
            options,
            stopped: Mutex::default(),
            kept: tokio::sync::Mutex::new(Kept {
                journals: Cut::start(),
                instances: 0,
            }),
            tasks: Mutex::new(tasks),
            feed: Mutex::default(),
        })
    }

    /// Takes over what is open, and begins to consume. The task holds the host: it lives until it
    /// is closed or killed.
    pub fn begin(self: Arc<Self>) {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let consumed = this.taken_over().await;
            this.listen(consumed).await;
        });
        *self.feed.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    fn note(&self, text: String) {
        let name = self.shared.kind.name();
        let diagnostics = &self.shared.diagnostics;
        diagnostics.add(self.shared.time.now(), format!("{name}: {text}"));
    }

    fn shard(&self, stream: &StreamId) -> &mpsc::Sender<Message<K>> {
        let hash = xxh3_64(stream.as_str().as_bytes());
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }

    fn place_stream(&self) -> Result<StreamId, String> {
        let name = format!("$flow/{}", self.shared.kind.name());
        StreamId::system(name).map_err(|error| error.to_string())
    }

    /// Takes over, as often as it takes; then everything up to the cut was consumed.
    async fn taken_over(&self) -> Cut {
        loop {
            match self.take_over().await {
                Ok(consumed) => return consumed,
                Err(reason) => {
                    self.note(format!("cannot take over yet: {reason}"));
                    self.shared.time.sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Looks for journals that have not ended, and lets their instances go on.
    async fn take_over(&self) -> Result<Cut, String> {
        let kept = self.shared.snapshots.load(&self.place_stream()?).await;
        let head = self.shared.log.head().await.map_err(|e| e.to_string())?;
        let place: Place = match kept {
            Ok(Some(kept)) => serde_json::from_slice(&kept.state).unwrap_or_default(),
            Ok(None) => Place::default(),
            Err(error) => {
                self.note(error.to_string());
                Place::default()
            }
        };
        let place = if head.covers(&place.consumed) && head.covers(&place.journals) {
            place
        } else {
            Place::default()
        };
        let mut open: BTreeSet<StreamId> = place.open.into_iter().collect();
        let mut idle: BTreeSet<StreamId> = place.idle.into_iter().collect();
        for (stream, touched) in self.touched(&place.journals).await? {
            idle.remove(&stream);
            if touched.has_ended {
                open.remove(&stream);
            } else {
                open.insert(stream);
            }
        }
        *self.kept.lock().await = Kept {
            journals: place.journals,
            instances: (open.len() + idle.len()) as u64,
        };
        let messages = idle
            .into_iter()
            .map(|stream| (stream.clone(), Message::Idle(stream)));
        let resumed = open
            .into_iter()
            .map(|stream| (stream.clone(), Message::Resume(stream)));
        for (stream, message) in messages.chain(resumed) {
            let sent = self.shard(&stream).send(message).await;
            sent.map_err(|_| "the runtime is shutting down".to_owned())?;
        }
        Ok(place.consumed)
    }

    /// The journals that have grown since `from`, whoever has written to them.
    async fn touched(&self, from: &Cut) -> Result<BTreeMap<StreamId, Touched>, String> {
        let filter = Filter::category(self.shared.kind.name());
        let mut read = self.shared.log.read(from, filter, ReadMode::ToHead);
        let mut order = InOrder::from(from);
        let mut touched = BTreeMap::new();
        while let Some(batch) = read.next_batch().await {
            let batch = batch.map_err(|error| error.to_string())?;
            order.check(&batch)?;
            for event in &batch {
                let event = event.map_err(|error| error.to_string())?;
                let stream = StreamId::system(event.stream).map_err(|e| e.to_string())?;
                let grown = Touched {
                    length: event.version + 1,
                    has_ended: self.shared.kind.is_last(event.event_type),
                };
                touched.insert(stream, grown);
            }
        }
        Ok(touched)
    }

    /// Consumes what there is and will be, from a cut on.
    async fn listen(&self, consumed: Cut) {
        let (categories, types) = self.shared.kind.listens_to();
        let consumes = !categories.is_empty();
        let types = types.iter().filter_map(|name| EventType::new(name).ok());
        let filter = Filter {
            categories,
            types: types.collect(),
            ..Filter::all()
        };
        let mut at = consumed;
        self.shared.ledger.begin(&at);
        let mut news = self.head.clone();
        loop {
            if self.shared.retake.swap(false, Ordering::AcqRel) {
                self.taken_over().await;
            }
            if self.shared.rewind.swap(false, Ordering::AcqRel) {
                at = self.shared.ledger.done();
                self.shared.ledger.begin(&at);
            }
            let head = news.borrow_and_update().clone();
            if consumes && head.covers(&at) && head != at {
                if let Err(reason) = self.consume_to_head(&mut at, &filter).await {
                    self.note(format!("cannot consume, tries again: {reason}"));
                    self.shared.time.sleep(Duration::from_secs(1)).await;
                }
                continue;
            }
            self.keep_sometimes(&head).await;
            let nudge = self.shared.nudge.notified();
            let changed = news.changed();
            futures_util::pin_mut!(changed, nudge);
            if let futures_util::future::Either::Left((Err(_), _)) =
                futures_util::future::select(changed, nudge).await
            {
                return;
            }
        }
    }

    async fn consume_to_head(&self, at: &mut Cut, filter: &Filter) -> Result<(), String> {
        let head = self.shared.log.head().await.map_err(|e| e.to_string())?;
        let mut read = self.shared.log.read(at, filter.clone(), ReadMode::ToHead);
        let mut order = InOrder::from(at);
        while let Some(batch) = read.next_batch().await {
            let batch = batch.map_err(|error| error.to_string())?;
            order.check(&batch)?;
            if !self.consume_batch(at, &batch).await? {
                return Ok(());
            }
            self.keep_sometimes(at).await;
        }
        at.join(&head);
        self.shared.ledger.pass(at);
        Ok(())
    }

    /// Consumes one batch; false if the feed has to begin again elsewhere.
    async fn consume_batch(&self, at: &mut Cut, batch: &EventBatch) -> Result<bool, String> {
        // Handing out may wait, and an iterator over borrowed events cannot.
        for event in batch.clone() {
            let event = event.map_err(|error| error.to_string())?;
            let position = event.position;
            if at.includes(position) {
                continue;
            }
            let consumed = loop {
                if self.shared.rewind.load(Ordering::Acquire) {
                    return Ok(false);
                }
                let consumed = contain(|| self.shared.kind.consume(&event.as_ref()));
                let reason = match consumed {
                    Ok(Ok(consumed)) => break consumed,
                    Ok(Err(reason)) => reason,
                    Err(panic) => format!("its code panicked: {panic}"),
                };
                let event = event.as_ref();
                let place = format!("{} at {position} of {}", event.event_type, event.stream);
                if self.stop_before(format!("{place}: {reason}")).await {
                    break None;
                }
            };
            if let Some((stream, input)) = consumed {
                self.shared.dispatcher.room().await;
                let ticket = self.shared.ledger.hand_out(position).await;
                let mut item = Item::plain(input);
                item.ticket = Some(ticket);
                let sent = self.shard(&stream).send(Message::Input(stream, item)).await;
                sent.map_err(|_| "the runtime is shutting down".to_owned())?;
            }
            at.set(position.partition, position.offset + 1);
            self.shared.ledger.pass(at);
        }
        if let Some(reach) = batch.reach() {
            let reached = reach.offsets.end.max(at.get(reach.partition));
            at.set(reach.partition, reached);
            self.shared.ledger.pass(at);
        }
        Ok(true)
    }

    /// Waits for an operator; true if the event shall be passed over.
    async fn stop_before(&self, reason: String) -> bool {
        self.note(format!(
            "has stopped consuming before {reason}; mend it and retry, or skip it"
        ));
        *self.stopped() = Some(Stopped {
            reason,
            skip: false,
        });
        self.shared.nudge.notified().await;
        self.stopped().take().is_some_and(|stopped| stopped.skip)
    }

    fn stopped(&self) -> std::sync::MutexGuard<'_, Option<Stopped>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the place when the log has grown by enough since it was kept, as far as `at`.
    async fn keep_sometimes(&self, at: &Cut) {
        let due = {
            let kept = self.kept.lock().await;
            let every = self.options.keep_every.max(kept.instances);
            count(at) >= count(&kept.journals).saturating_add(every)
        };
        if due {
            self.keep_place().await;
        }
    }

    async fn keep_place(&self) {
        let mut kept = self.kept.lock().await;
        let kept_now = async {
            let place = self.find_place(&kept.journals).await?;
            self.save_place(&place).await?;
            Ok::<_, String>(place)
        };
        match kept_now.await {
            Ok(place) => {
                kept.instances = (place.open.len() + place.idle.len()) as u64;
                kept.journals = place.journals;
            }
            Err(reason) => self.note(format!("the place to begin at was not kept: {reason}")),
        }
    }

    /// Where a restart would begin. A second runtime may have written journals too, which the
    /// shards learn here.
    async fn find_place(&self, from: &Cut) -> Result<Place, String> {
        let consumed = self.shared.ledger.done();
        let journals = self.shared.log.head().await.map_err(|e| e.to_string())?;
        let mut place = Place {
            consumed,
            journals,
            ..Place::default()
        };
        let ended = |_| "a shard has ended".to_owned();
        for (stream, touched) in self.touched(from).await? {
            let message = Message::Touched(stream.clone(), touched);
            self.shard(&stream)
                .send(message)
                .await
                .map_err(|_| ended(()))?;
        }
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            shard
                .send(Message::Open(reply))
                .await
                .map_err(|_| ended(()))?;
            for (stream, known) in answer.await.map_err(|_| ended(()))? {
                if known.waiting {
                    place.open.push(stream);
                } else {
                    place.idle.push(stream);
                }
            }
        }
        Ok(place)
    }

    async fn save_place(&self, place: &Place) -> Result<(), String> {
        let snapshot = Snapshot {
            fingerprint: 0,
            version: 0,
            last_event: EventId::from_u128(0),
            state: serde_json::to_vec(place).map_err(|e| e.to_string())?,
        };
        let stream = self.place_stream()?;
        let saved = self.shared.snapshots.save(&stream, snapshot).await;
        saved.map_err(|e| e.to_string())
    }

    async fn answered(&self, stream: StreamId, input: K::Input) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        let mut item = Item::plain(input);
        item.answer = Some(reply);
        let sent = self.shard(&stream).send(Message::Input(stream, item)).await;
        sent.map_err(|_| SendError::stopping())?;
        answer.await.unwrap_or_else(|_| {
            Err(SendError::Unknown {
                reason: "the runtime ended before it answered".to_owned(),
            })
        })
    }
}

impl<K: Kind> AnyFlow for FlowHost<K> {
    fn name(&self) -> &'static str {
        self.shared.kind.name()
    }

    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let input = self.shared.kind.command(&command)?;
            self.answered(command.to, input).await
        })
    }

    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let stream = reply.to.clone();
            match self.shared.kind.reply(reply) {
                Some(input) => self.answered(stream, input).await,
                None => Ok(()),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for shard in &self.shards {
                let (reply, answer) = oneshot::channel();
                if shard.send(Message::List(reply)).await.is_ok() {
                    all.extend(answer.await.unwrap_or_default());
                }
            }
            all.sort_by(|a, b| a.stream.cmp(&b.stream));
            all
        })
    }

    fn show(&self, stream: StreamId) -> BoxFuture<'_, InstanceStatus> {
        Box::pin(async move {
            let mut status = load::describe(&self.shared, &stream).await;
            let here = self.list().await.into_iter().find(|s| s.stream == stream);
            if let Some(parked) = here.and_then(|here| here.parked) {
                status.parked = Some(parked);
            }
            status
        })
    }

    fn retry(&self, stream: StreamId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let shard = self.shard(&stream);
            let unparked = match shard.send(Message::Unpark(stream, reply)).await {
                Ok(()) => answer.await.unwrap_or(false),
                Err(_) => false,
            };
            if unparked {
                self.shared.rewind();
            }
            unparked
        })
    }

    fn stopped(&self) -> Option<String> {
        FlowHost::stopped(self)
            .as_ref()
            .map(|stopped| stopped.reason.clone())
    }

    fn consumed(&self) -> Cut {
        let (categories, _) = self.shared.kind.listens_to();
        if categories.is_empty() {
            // There is nothing to consume.
            return self.head.borrow().clone();
        }
        self.shared.ledger.done()
    }

    fn skip(&self) -> bool {
        let mut stopped = FlowHost::stopped(self);
        let Some(stopped) = stopped.as_mut() else {
            return false;
        };
        stopped.skip = true;
        self.shared.nudge.notify_one();
        true
    }

    fn consume_again(&self) -> bool {
        let is_stopped = FlowHost::stopped(self).is_some();
        if is_stopped {
            self.shared.nudge.notify_one();
        }
        is_stopped
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(feed) = self
                .feed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
            {
                feed.abort();
            }
            self.keep_place().await;
            for shard in &self.shards {
                // A mailbox that is closed already needs no message.
                drop(shard.send(Message::Close).await);
            }
            let tasks = {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *tasks)
            };
            for task in tasks {
                let guard = AbortOnDrop(task);
                guard.wait().await;
            }
        })
    }

    fn kill(&self) {
        if let Some(feed) = self
            .feed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            feed.abort();
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
    }
}

/// Ends a task when nobody waits for it any more.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn wait(mut self) {
        // A panic of the task was noted where it happened.
        drop((&mut self.0).await);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
