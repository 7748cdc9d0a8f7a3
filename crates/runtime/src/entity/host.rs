//! The way in: from outside, to the shard that owns the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_domain::{
    Command, CommandEnvelope, CommandId, Entity, Event, Json, Note, Reader, SchemaError, StreamId,
};
use anabranch_log::{BoxFuture, Expect, Log};
use anabranch_model::{EventType, NameError, Version};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

use super::load::{LoadError, fingerprint, load_at};
use super::shard::{self, Gauge, Message};
use super::slot::Ask;
use super::{Accepted, EntityOptions, Inspection, SendOptions, Shared, Status};
use crate::diagnostics::Diagnostics;
use crate::panics;
use crate::send_error::SendError;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

/// Entities of one category, whatever their type: what dispatchers and operators use.
pub trait AnyEntity: Send + Sync + 'static {
    /// The category.
    fn category(&self) -> &'static str;

    /// The names of the commands that it takes.
    fn commands(&self) -> &'static [&'static str];

    /// Sends a command in wire form, and waits for its outcome at most this long (`None`: as
    /// the options say).
    fn dispatch(
        &self,
        command: CommandEnvelope,
        timeout: Option<Duration>,
    ) -> BoxFuture<'_, Result<Accepted, SendError>> {
        self.dispatch_expecting(command, timeout, None)
    }

    /// As [`AnyEntity::dispatch`], if the entity is in the state that is expected.
    fn dispatch_expecting(
        &self,
        command: CommandEnvelope,
        timeout: Option<Duration>,
        expect: Option<Expect>,
    ) -> BoxFuture<'_, Result<Accepted, SendError>>;

    /// The state of an entity after its event `at`, or as it is now, made from its events
    /// alone; and what it is doing here.
    fn inspect(
        &self,
        stream: StreamId,
        at: Option<Version>,
    ) -> BoxFuture<'_, Result<Inspection, SendError>>;

    /// The entities that take no commands before an operator un-parks them, and why.
    fn parked(&self) -> BoxFuture<'_, Vec<(StreamId, String)>>;

    /// Lets a parked entity take commands again; false if it was not parked.
    fn unpark(&self, stream: StreamId) -> BoxFuture<'_, bool>;

    /// Lets an entity that is in memory forget what it remembers for a saga that has ended.
    fn forget(&self, stream: StreamId, saga: StreamId);

    /// How many entities are in memory, and how many bytes they take, about.
    fn memory(&self) -> (usize, usize);

    /// Takes no more commands, and waits until all that were taken are answered.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Stops at once, as a crash would: what is durable stays.
    fn kill(&self);
}

/// Entities of one type, hosted.
pub struct EntityHost<E: Entity> {
    shared: Arc<Shared<E>>,
    shards: Vec<ShardHandle<E>>,
    closing: AtomicBool,
}

struct ShardHandle<E: Entity> {
    inbox: mpsc::Sender<Message<E>>,
    gauge: Arc<Gauge>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What a host is made of.
pub struct HostParts {
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub source: String,
    pub diagnostics: Arc<Diagnostics>,
}

/// Why entities cannot be hosted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The event type and its upcasts do not fit together.
    #[error("{category}: {source}")]
    Schema {
        /// The category.
        category: &'static str,
        /// What does not fit.
        source: SchemaError,
    },
    /// A name that cannot be used.
    #[error("{category}: {source}")]
    Name {
        /// The category.
        category: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
}

impl<E: Entity> EntityHost<E> {
    /// Starts the shards on the present async runtime.
    pub fn start(parts: HostParts, options: EntityOptions) -> Result<Arc<Self>, HostError> {
        let category = E::CATEGORY;
        let name = |source| HostError::Name { category, source };
        StreamId::of(category, "x").map_err(name)?;
        let reader = Reader::new().map_err(|source| HostError::Schema { category, source })?;
        let mut types = Vec::new();
        for kind in E::Event::kinds().into_iter().chain(Note::kinds()) {
            types.push(EventType::new(kind.name).map_err(name)?);
        }
        let capabilities = parts.log.capabilities();
        let shared = Arc::new(Shared {
            log: parts.log,
            time: parts.time,
            snapshots: parts.snapshots,
            reader,
            types,
            limits: capabilities.limits,
            many_partitions: capabilities.partitions > 1,
            source: parts.source,
            fingerprint: fingerprint::<E>(),
            diagnostics: parts.diagnostics,
            options,
        });
        let shards = (0..shared.options.shards.max(1))
            .map(|_| ShardHandle::start(&shared))
            .collect();
        Ok(Arc::new(Self {
            shared,
            shards,
            closing: AtomicBool::new(false),
        }))
    }

    fn shard(&self, stream: &StreamId) -> &ShardHandle<E> {
        let hash = xxh3_64(stream.as_str().as_bytes());
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }

    async fn send(
        &self,
        stream: StreamId,
        command: E::Command,
        options: SendOptions,
    ) -> Result<Accepted, SendError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(SendError::stopping());
        }
        let time = &self.shared.time;
        let arrived = time.monotonic();
        let timeout = options.timeout.unwrap_or(self.shared.options.timeout);
        let deadline = arrived.saturating_add(timeout);
        let id = options
            .id
            .unwrap_or_else(|| CommandId::v7(time.now().micros() / 1000, time.random()));
        let (reply, answer) = oneshot::channel();
        let shard = self.shard(&stream);
        let ask = Box::new(Ask {
            stream,
            command,
            id,
            role: options.role,
            reply_to: options.reply_to,
            expect: options.expect,
            causes: options.causes,
            correlation_id: options.correlation_id,
            arrived,
            deadline,
            reply,
            attempts: 0,
            alone: false,
        });
        match shard.inbox.try_send(Message::Ask(ask)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(shard.gauge.overloaded(shard.inbox.max_capacity()));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SendError::stopping()),
        }
        match select(answer, time.sleep_until(deadline)).await {
            Either::Left((Ok(outcome), _)) => outcome,
            Either::Left((Err(_), _)) => Err(SendError::Unknown {
                reason: "the runtime ended before it answered".to_owned(),
            }),
            Either::Right(((), mut answer)) => match answer.try_recv() {
                Ok(outcome) => outcome,
                Err(_) => Err(SendError::Unknown {
                    reason: format!("no answer within {timeout:?}"),
                }),
            },
        }
    }

    async fn status(&self, stream: &StreamId) -> Status {
        let (reply, answer) = oneshot::channel();
        let message = Message::Status(stream.clone(), reply);
        let idle = Status::Idle;
        match self.shard(stream).inbox.send(message).await {
            Ok(()) => answer.await.unwrap_or(idle),
            Err(_) => idle,
        }
    }
}

impl<E: Entity> ShardHandle<E> {
    fn start(shared: &Arc<Shared<E>>) -> Self {
        let (inbox, mut messages) = mpsc::channel(shared.options.mailbox_max.max(1));
        let gauge = Arc::new(Gauge::default());
        let (shared, watched) = (shared.clone(), gauge.clone());
        let task = tokio::spawn(async move {
            loop {
                let run = shard::run(shared.clone(), watched.clone(), &mut messages);
                match std::panic::AssertUnwindSafe(run).catch_unwind().await {
                    Ok(()) => return,
                    // Whoever waited is told that the outcome is unknown; what is durable is
                    // read from the log again.
                    Err(panic) => shared.diagnostics.add(
                        shared.time.now(),
                        format!(
                            "a shard of {} panicked and was started again: {}",
                            E::CATEGORY,
                            panics::message(&*panic)
                        ),
                    ),
                }
            }
        });
        Self {
            inbox,
            gauge,
            task: std::sync::Mutex::new(Some(task)),
        }
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        let mut task = self.task.lock().unwrap_or_else(|e| e.into_inner());
        task.take()
    }
}

impl<E: Entity> Drop for EntityHost<E> {
    fn drop(&mut self) {
        self.kill();
    }
}

impl<E: Entity> AnyEntity for EntityHost<E> {
    fn category(&self) -> &'static str {
        E::CATEGORY
    }

    fn commands(&self) -> &'static [&'static str] {
        E::Command::names()
    }

    fn dispatch_expecting(
        &self,
        command: CommandEnvelope,
        timeout: Option<Duration>,
        expect: Option<Expect>,
    ) -> BoxFuture<'_, Result<Accepted, SendError>> {
        Box::pin(async move {
            let decoded = E::Command::from_wire(&command.name, command.data.as_str().as_bytes())?;
            let options = SendOptions {
                id: Some(command.id),
                timeout,
                expect,
                correlation_id: command.correlation_id,
                role: command.role,
                reply_to: command.reply_to,
                causes: command.causes,
            };
            self.send(command.to, decoded, options).await
        })
    }

    fn inspect(
        &self,
        stream: StreamId,
        at: Option<Version>,
    ) -> BoxFuture<'_, Result<Inspection, SendError>> {
        Box::pin(async move {
            let status = self.status(&stream).await;
            let unavailable = |reason| SendError::Unavailable {
                reason,
                retry_after: None,
            };
            let live = load_at(&self.shared, &stream, at)
                .await
                .map_err(|error| match error {
                    LoadError::Read(error) => unavailable(error.to_string()),
                    LoadError::Unreadable(reason) | LoadError::Panicked(reason) => {
                        SendError::Parked {
                            stream: stream.clone(),
                            reason,
                        }
                    }
                })?;
            let state = Json::of(live.entity.state()).map_err(|e| unavailable(e.to_string()))?;
            Ok(Inspection {
                stream,
                version: live.entity.version(),
                state,
                status,
            })
        })
    }

    fn parked(&self) -> BoxFuture<'_, Vec<(StreamId, String)>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for shard in &self.shards {
                let (reply, answer) = oneshot::channel();
                if shard.inbox.send(Message::Parked(reply)).await.is_ok() {
                    all.extend(answer.await.unwrap_or_default());
                }
            }
            all.sort_unstable();
            all
        })
    }

    fn unpark(&self, stream: StreamId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let inbox = &self.shard(&stream).inbox;
            match inbox.send(Message::Unpark(stream, reply)).await {
                Ok(()) => answer.await.unwrap_or(false),
                Err(_) => false,
            }
        })
    }

    fn forget(&self, stream: StreamId, saga: StreamId) {
        // A shard that is too busy remembers it longer than it has to.
        let inbox = &self.shard(&stream).inbox;
        drop(inbox.try_send(Message::Forget(stream, saga)));
    }

    fn kill(&self) {
        self.closing.store(true, Ordering::Release);
        for shard in &self.shards {
            if let Some(task) = shard.take_task() {
                task.abort();
            }
        }
    }

    fn memory(&self) -> (usize, usize) {
        let gauges = || self.shards.iter().map(|shard| &shard.gauge);
        (
            gauges().map(|g| g.live()).sum(),
            gauges().map(|g| g.bytes()).sum(),
        )
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closing.store(true, Ordering::Release);
            for shard in &self.shards {
                // A mailbox that is closed already needs no message.
                drop(shard.inbox.send(Message::Close).await);
            }
            for shard in &self.shards {
                if let Some(mut task) = shard.take_task() {
                    let ended = TaskGuard(&mut task);
                    ended.wait().await;
                }
            }
        })
    }
}

/// Waits for a task; ends it when nobody waits any more.
struct TaskGuard<'a>(&'a mut JoinHandle<()>);

impl TaskGuard<'_> {
    async fn wait(self) {
        // A panic of the task was noted where it happened.
        drop((&mut *self.0).await);
    }
}

impl Drop for TaskGuard<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One entity, wherever it is. Cheap; does not load anything by itself.
pub struct EntityHandle<E: Entity> {
    host: Result<Arc<EntityHost<E>>, SendError>,
    stream: Result<StreamId, NameError>,
}

impl<E: Entity> EntityHandle<E> {
    pub(crate) fn new(host: Result<Arc<EntityHost<E>>, SendError>, key: &str) -> Self {
        Self {
            host,
            stream: StreamId::of(E::CATEGORY, key),
        }
    }

    /// Sends a command; answers when what it records is durable.
    pub async fn send(&self, command: E::Command) -> Result<Accepted, SendError> {
        self.send_with(command, SendOptions::default()).await
    }

    /// Sends a command with an id, a time limit or an expectation.
    pub async fn send_with(
        &self,
        command: E::Command,
        options: SendOptions,
    ) -> Result<Accepted, SendError> {
        let host = self.host.as_ref().map_err(Clone::clone)?;
        let stream = self.stream()?;
        host.send(stream, command, options).await
    }

    /// Its state as its durable events make it, after event `at` or now.
    pub async fn inspect(&self, at: Option<Version>) -> Result<Inspection, SendError> {
        let host = self.host.as_ref().map_err(Clone::clone)?;
        host.inspect(self.stream()?, at).await
    }

    fn stream(&self) -> Result<StreamId, SendError> {
        let stream = self.stream.clone();
        stream.map_err(|error| SendError::Invalid(error.to_string()))
    }
}
