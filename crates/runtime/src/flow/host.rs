//! Hosts the instances of one process or saga.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::{CommandEnvelope, Cut, Poison, ReplyEnvelope, Retry, StreamId};
use anabranch_log::BoxFuture;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::Style;
use super::any::AnyFlow;
use super::dispatcher::Dispatcher;
use super::intake::FlowIntake;
use super::place::Places;
use crate::entity::HostError;
use crate::follow::{Begin, Follow, FollowParts, FollowState, Intake as _, PoisonEvent, Shown};
use crate::host::{
    Drive, Host, HostOptions, HostParts, Input, InstanceStatus, Item, LoadError, Message, Out,
    Outbox, Shared, load_newest, shards_default,
};
use crate::kinds::Listening;
use crate::panics::contain;
use crate::send_error::SendError;

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
    /// Where it begins to consume, when it is started for the first time; `None`: at the start.
    /// Say so on a log that holds events already: what a process sends because of them cannot be
    /// taken back.
    pub begin: Option<Begin>,
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
            begin: None,
        }
    }
}

impl FlowOptions {
    /// Begins at the start of the log, when it is started for the first time.
    #[must_use]
    pub fn from_start(self) -> Self {
        self.begins(Begin::Start)
    }

    /// Begins at what is written after it is started for the first time.
    #[must_use]
    pub fn from_now(self) -> Self {
        self.begins(Begin::Now)
    }

    /// Begins behind what `cut` includes, when it is started for the first time.
    #[must_use]
    pub fn from(self, cut: Cut) -> Self {
        self.begins(Begin::At(cut))
    }

    fn begins(mut self, begin: Begin) -> Self {
        self.begin = Some(begin);
        self
    }

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

/// The instances of one process or saga, hosted.
pub struct FlowHost {
    intake: Arc<FlowIntake>,
    parts: FlowParts,
    shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    follow: Mutex<Option<Follow>>,
    task: Mutex<Option<JoinHandle<()>>>,
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
        let host = parts.host.clone();
        let shared = Shared::new(kind.clone(), host, options.host(), outbox);
        let shared = shared.map_err(|source| HostError::Name {
            category: kind.name(),
            source,
        })?;
        let places = Places::new(kind, Host::start(shared), options.keep_every, options.begin);
        let intake = Arc::new(FlowIntake::new(places, parts.dispatcher.clone()));
        let (tell, shown) = watch::channel(Shown::at(Cut::start()));
        let nudge = Arc::new(Notify::new());
        let follow = Follow::new(
            follow_parts(&intake, &parts),
            intake.clone(),
            tell,
            nudge.clone(),
            0,
        );
        Ok(Arc::new(Self {
            intake,
            parts,
            shown,
            nudge,
            follow: Mutex::new(Some(follow)),
            task: Mutex::default(),
        }))
    }

    /// Takes over what is open, and begins to consume. The task holds the host: it lives until it
    /// is closed or killed.
    pub fn begin(self: Arc<Self>) {
        let this = self.clone();
        let Some(follow) = locked(&self.follow).take() else {
            return;
        };
        let task = tokio::spawn(async move {
            this.intake.take_over().await;
            follow.run().await;
        });
        *locked(&self.task) = Some(task);
    }

    fn kind(&self) -> &Arc<dyn Listening> {
        &self.intake.places.kind
    }

    fn host(&self) -> &Host {
        &self.intake.places.host
    }

    fn stopped_at(&self) -> Option<PoisonEvent> {
        match &self.shown.borrow().state {
            FollowState::Stopped { event } => Some(event.clone()),
            _ => None,
        }
    }

    fn end(&self) {
        if let Some(task) = locked(&self.task).take() {
            task.abort();
        }
    }

    async fn answered(&self, stream: StreamId, input: Input, causes: Cut) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        let mut item = Item::plain(input);
        item.reply = Some(reply);
        item.causes = causes;
        let message = Message::Input(stream.clone(), item);
        self.host().tell(&stream, message).await?;
        let outcome = answer.await.unwrap_or_else(|_| {
            Err(SendError::Unknown {
                reason: "the runtime ended before it answered".to_owned(),
            })
        });
        outcome.map(|_| ())
    }

    /// The instance, for an operator, as its journal has it.
    async fn read(&self, stream: StreamId) -> InstanceStatus {
        let (parked, description) = match load_newest(&self.host().shared, &stream).await {
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
        self.kind().name()
    }

    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let input = self.kind().command(&command)?;
            self.answered(command.to, input, command.causes).await
        })
    }

    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let (stream, id, causes) = (reply.to.clone(), reply.id, reply.causes.clone());
            if let Some(input) = self.kind().reply(reply) {
                self.answered(stream, input, causes).await?;
            }
            self.parts.dispatcher.heard(id);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>> {
        Box::pin(async move {
            let all = self.host().ask_all(Message::List).await;
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
            let unparked = self.host().ask(&stream, Message::Unpark).await;
            let unparked = unparked.unwrap_or(false);
            if unparked {
                self.host().shared.feed.rewind();
            }
            unparked
        })
    }

    fn stopped(&self) -> Option<String> {
        self.stopped_at().map(|event| event.to_string())
    }

    fn consumed(&self) -> Cut {
        let (categories, _) = self.kind().listens_to();
        if categories.is_empty() {
            // There is nothing to consume.
            return self.parts.head.borrow().clone();
        }
        self.host().shared.feed.done()
    }

    fn skip(&self) -> bool {
        let Some(event) = self.stopped_at() else {
            return false;
        };
        self.intake.skip(event.position);
        self.nudge.notify_one();
        true
    }

    fn consume_again(&self) -> bool {
        let is_stopped = self.stopped_at().is_some();
        if is_stopped {
            self.nudge.notify_one();
        }
        is_stopped
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.end();
            // It notes itself when the place cannot be kept.
            drop(self.intake.keep().await);
            self.host().close().await;
        })
    }

    fn kill(&self) {
        self.end();
        self.host().kill();
    }
}

/// How the log is followed: an event that cannot be consumed is tried once, and nothing is
/// passed over. The place is kept when the intake says so.
fn follow_parts(intake: &Arc<FlowIntake>, parts: &FlowParts) -> FollowParts {
    let HostParts {
        log,
        time,
        diagnostics,
        ..
    } = parts.host.clone();
    let keeps = intake.clone();
    FollowParts {
        of: format!("process {}", intake.places.kind.name()),
        log,
        time,
        diagnostics,
        head: parts.head.clone(),
        filter: intake.filter(),
        poison: Poison::Stop,
        retry: Retry {
            attempts_max: Some(1),
            ..Retry::DEFAULT
        },
        parked_max: 0,
        keep_every: 0,
        caught_up: Box::new(move || {
            let intake = keeps.clone();
            Box::pin(async move {
                intake.keep_sometimes().await;
                Ok(())
            })
        }),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
