//! Hosts the instances of one process or saga.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{CommandEnvelope, Cut, ReplyEnvelope, Retry, StreamId};
use anabranch_log::{BoxFuture, ReadMode};
use anabranch_model::{EventBatch, EventId, EventType, Filter, content_hash};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Style;
use super::any::AnyFlow;
use super::dispatcher::Dispatcher;
use crate::entity::HostError;
use crate::host::{
    Drive, Host, HostOptions, HostParts, Input, InstanceStatus, Item, LoadError, Message, Out,
    Outbox, Shared, Touched, load_newest, shards_default,
};
use crate::in_order::InOrder;
use crate::kinds::Listening;
use crate::panics::contain;
use crate::send_error::SendError;
use crate::snapshot::Snapshot;

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
    /// As many shards as the machine runs threads at once, with 10,000 instances each; five
    /// attempts.
    fn default() -> Self {
        Self {
            shards: shards_default(),
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

impl FlowOptions {
    fn host(&self) -> HostOptions {
        HostOptions {
            shards: self.shards,
            mailbox_max: self.mailbox_max,
            waiting_max: usize::MAX,
            snapshot_every: self.snapshot_every,
            memory_max: None,
            live_max: self.live_max,
            restart: self.restart,
            unknown_attempts_max: UNKNOWN_ATTEMPTS_MAX,
            contended_attempts_max: u32::MAX,
            rejections_max: 0,
            batch_events_max: BATCH_EVENTS_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            held_max: HELD_MAX,
        }
    }
}

/// Beyond this the next decision waits for the next append.
const BATCH_EVENTS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often an append of unknown outcome is repeated before the journal is read again.
const UNKNOWN_ATTEMPTS_MAX: u32 = 8;
/// The most events that an instance holds which has not been started.
const HELD_MAX: usize = 1000;

/// What a host is made of.
pub struct FlowParts {
    pub host: HostParts,
    pub head: watch::Receiver<Cut>,
    pub dispatcher: Arc<Dispatcher>,
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
pub struct FlowHost {
    kind: Arc<dyn Listening>,
    host: Host,
    shared: Arc<Shared>,
    dispatcher: Arc<Dispatcher>,
    head: watch::Receiver<Cut>,
    keep_every: u64,
    stopped: Mutex<Option<Stopped>>,
    kept: tokio::sync::Mutex<Kept>,
    feed: Mutex<Option<JoinHandle<()>>>,
}

/// The feed stands before an event that cannot be consumed.
struct Stopped {
    reason: String,
    skip: bool,
}

impl FlowHost {
    /// Starts the shards; [`FlowHost::begin`] lets them consume.
    pub fn start(
        kind: Arc<dyn Listening>,
        parts: FlowParts,
        options: FlowOptions,
    ) -> Result<Arc<Self>, HostError> {
        let outbox = ToDispatcher::new(parts.dispatcher.clone(), kind.drive());
        let outbox = Some(Arc::new(outbox) as _);
        let shared =
            Shared::new(kind.clone(), parts.host, options.host(), outbox).map_err(|source| {
                HostError::Name {
                    category: kind.name(),
                    source,
                }
            })?;
        let host = Host::start(shared);
        Ok(Arc::new(Self {
            kind,
            shared: host.shared.clone(),
            host,
            dispatcher: parts.dispatcher,
            head: parts.head,
            keep_every: options.keep_every,
            stopped: Mutex::default(),
            kept: tokio::sync::Mutex::new(Kept {
                journals: Cut::start(),
                instances: 0,
            }),
            feed: Mutex::default(),
        }))
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
        self.shared.note(format!("{}: {text}", self.kind.name()));
    }

    /// Names what the place depends on: the categories and types that are listened to.
    fn listening(&self) -> u128 {
        let (mut categories, mut types) = self.kind.listens_to();
        categories.sort_unstable();
        types.sort_unstable();
        let categories = categories.iter().map(|name| name.as_bytes());
        let types = types.iter().map(|name| name.as_bytes());
        content_hash(categories.chain([&b""[..]]).chain(types))
    }

    fn place_stream(&self) -> Result<StreamId, String> {
        let name = format!("$flow/{}", self.kind.name());
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
            Ok(Some(kept)) => {
                let mut place: Place = serde_json::from_slice(&kept.state).unwrap_or_default();
                if kept.fingerprint != self.listening() {
                    // It listens to something else than it did: what it has not heard of that
                    // is heard now, as if the place had been lost.
                    place.consumed = Cut::start();
                }
                place
            }
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
            let sent = self.host.tell(&stream, message).await;
            sent.map_err(|error| error.to_string())?;
        }
        Ok(place.consumed)
    }

    /// The journals that have grown since `from`, whoever has written to them.
    async fn touched(&self, from: &Cut) -> Result<BTreeMap<StreamId, Touched>, String> {
        let filter = Filter::category(self.kind.name());
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
                    has_ended: self.kind.is_last(event.event_type),
                };
                touched.insert(stream, grown);
            }
        }
        Ok(touched)
    }

    /// Consumes what there is and will be, from a cut on.
    async fn listen(&self, consumed: Cut) {
        let (categories, types) = self.kind.listens_to();
        let consumes = !categories.is_empty();
        let types = types.iter().filter_map(|name| EventType::new(name).ok());
        let filter = Filter {
            categories,
            types: types.collect(),
            ..Filter::all()
        };
        let mut at = consumed;
        self.shared.feed.ledger.begin(&at);
        let mut news = self.head.clone();
        loop {
            if self.shared.feed.retake.swap(false, Ordering::AcqRel) {
                self.taken_over().await;
            }
            if self.shared.feed.rewind.swap(false, Ordering::AcqRel) {
                at = self.shared.feed.ledger.done();
                self.shared.feed.ledger.begin(&at);
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
            let nudge = self.shared.feed.nudge.notified();
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
        self.shared.feed.ledger.pass(at);
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
                if self.shared.feed.rewind.load(Ordering::Acquire) {
                    return Ok(false);
                }
                let consumed = contain(|| self.kind.consume(&event.as_ref()));
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
                self.dispatcher.room().await;
                let ticket = self.shared.feed.ledger.hand_out(position).await;
                let mut item = Item::plain(input);
                item.ticket = Some(ticket);
                let message = Message::Input(stream.clone(), item);
                let sent = self.host.tell(&stream, message).await;
                sent.map_err(|error| error.to_string())?;
            }
            at.set(position.partition, position.offset + 1);
            self.shared.feed.ledger.pass(at);
        }
        if let Some(reach) = batch.reach() {
            let reached = reach.offsets.end.max(at.get(reach.partition));
            at.set(reach.partition, reached);
            self.shared.feed.ledger.pass(at);
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
        self.shared.feed.nudge.notified().await;
        self.stopped().take().is_some_and(|stopped| stopped.skip)
    }

    fn stopped(&self) -> std::sync::MutexGuard<'_, Option<Stopped>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the place when the log has grown by enough since it was kept, as far as `at`.
    async fn keep_sometimes(&self, at: &Cut) {
        let due = {
            let kept = self.kept.lock().await;
            let every = self.keep_every.max(kept.instances);
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
        let consumed = self.shared.feed.ledger.done();
        let journals = self.shared.log.head().await.map_err(|e| e.to_string())?;
        let mut place = Place {
            consumed,
            journals,
            ..Place::default()
        };
        for (stream, touched) in self.touched(from).await? {
            let message = Message::Touched(stream.clone(), touched);
            let told = self.host.tell(&stream, message).await;
            told.map_err(|error| error.to_string())?;
        }
        let known = self.host.ask_all(Message::Open).await;
        for (stream, known) in known.ok_or("a shard has ended")? {
            match known.waiting {
                true => place.open.push(stream),
                false => place.idle.push(stream),
            }
        }
        Ok(place)
    }

    async fn save_place(&self, place: &Place) -> Result<(), String> {
        let snapshot = Snapshot {
            fingerprint: self.listening(),
            version: 0,
            last_event: EventId::from_u128(0),
            state: serde_json::to_vec(place).map_err(|e| e.to_string())?,
        };
        let stream = self.place_stream()?;
        let saved = self.shared.snapshots.save(&stream, snapshot).await;
        saved.map_err(|e| e.to_string())
    }

    async fn answered(&self, stream: StreamId, input: Input) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        let mut item = Item::plain(input);
        item.reply = Some(reply);
        let message = Message::Input(stream.clone(), item);
        self.host.tell(&stream, message).await?;
        let outcome = answer.await.unwrap_or_else(|_| {
            Err(SendError::Unknown {
                reason: "the runtime ended before it answered".to_owned(),
            })
        });
        outcome.map(|_| ())
    }

    /// The instance, for an operator, as its journal has it.
    async fn read(&self, stream: StreamId) -> InstanceStatus {
        let (parked, description) = match load_newest(&self.shared, &stream).await {
            Ok(live) => match contain(|| live.machine.describe()) {
                Ok(Ok(description)) => (None, Some(description)),
                Ok(Err(reason)) => (Some(reason), None),
                Err(panic) => (Some(format!("its code panicked: {panic}")), None),
            },
            Err(LoadError::Unreadable(reason) | LoadError::Panicked(reason)) => {
                (Some(reason), None)
            }
            Err(LoadError::Read(error)) => (Some(error.to_string()), None),
        };
        InstanceStatus {
            stream,
            parked,
            description,
        }
    }
}

impl AnyFlow for FlowHost {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let input = self.kind.command(&command)?;
            self.answered(command.to, input).await
        })
    }

    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let (stream, id) = (reply.to.clone(), reply.id);
            if let Some(input) = self.kind.reply(reply) {
                self.answered(stream, input).await?;
            }
            self.dispatcher.heard(id);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>> {
        Box::pin(async move {
            let all = self.host.ask_all(Message::List).await;
            let mut all = all.unwrap_or_default();
            all.sort_by(|a, b| a.stream.cmp(&b.stream));
            all
        })
    }

    fn show(&self, stream: StreamId) -> BoxFuture<'_, InstanceStatus> {
        Box::pin(async move {
            let mut status = self.read(stream).await;
            let mut here = self.list().await.into_iter();
            let here = here.find(|here| here.stream == status.stream);
            if let Some(parked) = here.and_then(|here| here.parked) {
                status.parked = Some(parked);
            }
            status
        })
    }

    fn retry(&self, stream: StreamId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let unparked = self.host.ask(&stream, Message::Unpark).await;
            let unparked = unparked.unwrap_or(false);
            if unparked {
                self.shared.feed.rewind();
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
        let (categories, _) = self.kind.listens_to();
        if categories.is_empty() {
            // There is nothing to consume.
            return self.head.borrow().clone();
        }
        self.shared.feed.ledger.done()
    }

    fn skip(&self) -> bool {
        let mut stopped = FlowHost::stopped(self);
        let Some(stopped) = stopped.as_mut() else {
            return false;
        };
        stopped.skip = true;
        self.shared.feed.nudge.notify_one();
        true
    }

    fn consume_again(&self) -> bool {
        let is_stopped = FlowHost::stopped(self).is_some();
        if is_stopped {
            self.shared.feed.nudge.notify_one();
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
            self.host.close().await;
        })
    }

    fn kill(&self) {
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feed.take() {
            feed.abort();
        }
        self.host.kill();
    }
}

/// Gives what the instances of one kind send to the dispatcher.
struct ToDispatcher {
    dispatcher: Arc<Dispatcher>,
    style: Style,
}

impl ToDispatcher {
    fn new(dispatcher: Arc<Dispatcher>, drive: Drive) -> Self {
        let style = match drive {
            Drive::Insists => Style::Insist,
            Drive::Asked | Drive::Reports => Style::Report,
        };
        Self { dispatcher, style }
    }
}

impl Outbox for ToDispatcher {
    fn send(&self, from: &StreamId, out: Out, again: bool) {
        match out {
            Out::Command(command) => self.dispatcher.command(from.clone(), command, self.style),
            Out::Call(call, role) => self.dispatcher.call(call, role, self.style, again),
            Out::Reply(reply) => self.dispatcher.bring(reply),
            // The host keeps these to itself.
            Out::Timer(..) | Out::Ended => {}
        }
    }

    fn forget(&self, receiver: &StreamId, from: &StreamId) {
        self.dispatcher.forget(receiver, from);
    }
}
