//! The way in for commands to entities.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{CommandId, Entity, SchemaError, StreamId};
use anabranch_log::BoxFuture;
use anabranch_model::{NameError, Version};
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{EntityOptions, Inspection, SendOptions};
use crate::host::{
    Accepted, Ask, Host, HostParts, Input, Item, LoadError, Message, Shared, Status,
    load_from_events,
};
use crate::kinds::{Commanded, EntityKind};
use crate::port::Dispatch;
use crate::send_error::SendError;
use crate::telemetry;

/// Entities of one category, whatever their type: what dispatchers and operators use.
pub trait AnyEntity: Send + Sync + 'static {
    /// The category.
    fn category(&self) -> &'static str;

    /// The names of the commands that it takes.
    fn commands(&self) -> &'static [&'static str];

    /// Sends a command in wire form, and waits for its outcome.
    fn dispatch(&self, dispatch: Dispatch) -> BoxFuture<'_, Result<Accepted, SendError>>;

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

/// Entities of one type, hosted. Their type is known to the kind alone.
pub struct EntityHost {
    kind: Arc<dyn Commanded>,
    host: Host,
    timeout: Duration,
}

/// Why entities cannot be hosted.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
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

anabranch_model::debug_is_words!(HostError);

impl EntityHost {
    /// Starts the shards on the present async runtime.
    pub fn start<E: Entity>(
        parts: HostParts,
        options: EntityOptions,
    ) -> Result<Arc<Self>, HostError> {
        let category = E::CATEGORY;
        let kind = EntityKind::<E>::new();
        let kind = kind.map_err(|source| HostError::Schema { category, source })?;
        Self::of(Arc::new(kind), parts, options)
    }

    fn of(
        kind: Arc<dyn Commanded>,
        parts: HostParts,
        options: EntityOptions,
    ) -> Result<Arc<Self>, HostError> {
        let category = kind.name();
        let name = |source| HostError::Name { category, source };
        StreamId::of(category, "x").map_err(name)?;
        let shared = Shared::new(kind.clone(), parts, options.host(), None).map_err(name)?;
        Ok(Arc::new(Self {
            kind,
            host: Host::start(shared),
            timeout: options.timeout,
        }))
    }

    async fn send(
        &self,
        stream: StreamId,
        input: Input,
        options: SendOptions,
    ) -> Result<Accepted, SendError> {
        let time = &self.host.shared.time;
        let arrived = time.monotonic();
        let timeout = options.timeout.unwrap_or(self.timeout);
        let deadline = arrived.saturating_add(timeout);
        let new_id = || CommandId::v7(time.now().micros() / 1000, time.random());
        let (reply, answer) = oneshot::channel();
        let is_repeatable = options.id.is_some();
        // What processes and sagas send has an id that follows from what it says.
        let comes_from_outside = is_repeatable && options.reply_to.is_none();
        let content = comes_from_outside.then(|| self.kind.content(&input));
        let mut item = Item::plain(input);
        item.reply = Some(reply);
        let id = options.id.unwrap_or_else(new_id);
        let correlation_id = options.correlation_id.unwrap_or_else(|| id.to_string());
        let span = telemetry::command(&stream, id, &correlation_id, options.traceparent.as_deref());
        item.ask = Some(Ask {
            id,
            role: options.role,
            reply_to: options.reply_to,
            expect: options.expect,
            causes: options.causes,
            correlation_id: Some(correlation_id),
            traceparent: options.traceparent,
            is_repeatable,
            content: content.flatten(),
            arrived,
            deadline,
            span: span.clone(),
        });
        let offered = self.host.offer(stream, item);
        let answered = async {
            offered?;
            Self::answered(answer, time.sleep_until(deadline), timeout).await
        };
        let outcome = answered.instrument(span.clone()).await;
        if let Err(error) = &outcome {
            telemetry::failed(&span, error.code());
        }
        outcome
    }

    /// Waits for an answer as long as there is time.
    async fn answered(
        answer: oneshot::Receiver<Result<Accepted, SendError>>,
        time_is_up: BoxFuture<'static, ()>,
        timeout: Duration,
    ) -> Result<Accepted, SendError> {
        match select(answer, time_is_up).await {
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
}

impl AnyEntity for EntityHost {
    fn category(&self) -> &'static str {
        self.kind.name()
    }

    fn commands(&self) -> &'static [&'static str] {
        self.kind.commands()
    }

    fn dispatch(&self, dispatch: Dispatch) -> BoxFuture<'_, Result<Accepted, SendError>> {
        let Dispatch {
            command,
            timeout,
            expect,
        } = dispatch;
        Box::pin(async move {
            let data = command.data.as_str().as_bytes();
            let input = self.kind.command(&command.name, data)?;
            let options = SendOptions {
                id: Some(command.id),
                timeout,
                expect,
                correlation_id: command.correlation_id,
                traceparent: command.traceparent,
                role: command.role,
                reply_to: command.reply_to,
                causes: command.causes,
            };
            self.send(command.to, input, options).await
        })
    }

    fn inspect(
        &self,
        stream: StreamId,
        at: Option<Version>,
    ) -> BoxFuture<'_, Result<Inspection, SendError>> {
        Box::pin(async move {
            let status = self.host.ask(&stream, Message::Status).await;
            let unavailable = |reason| SendError::Unavailable {
                reason,
                retry_after: None,
            };
            let loaded = load_from_events(&self.host.shared, &stream, at).await;
            let live = loaded.map_err(|error| match error {
                LoadError::Read(error) => unavailable(error.to_string()),
                LoadError::Unreadable(reason) | LoadError::Panicked(reason) => SendError::Parked {
                    stream: stream.clone(),
                    reason,
                },
            })?;
            let described = live.machine.describe().map_err(unavailable)?;
            Ok(Inspection {
                stream,
                version: described.length.checked_sub(1),
                state: described.state,
                status: status.unwrap_or(Status::Idle),
            })
        })
    }

    fn parked(&self) -> BoxFuture<'_, Vec<(StreamId, String)>> {
        Box::pin(async move {
            let all = self.host.ask_all(Message::List).await;
            let parked = all.into_iter().flatten();
            let mut parked: Vec<_> = parked
                .filter_map(|one| Some((one.stream, one.parked?)))
                .collect();
            parked.sort_unstable();
            parked
        })
    }

    fn unpark(&self, stream: StreamId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let unparked = self.host.ask(&stream, Message::Unpark).await;
            unparked.unwrap_or(false)
        })
    }

    fn forget(&self, stream: StreamId, saga: StreamId) {
        // Not told, it remembers longer than it has to.
        self.host
            .tell_now(&stream, Message::Forget(stream.clone(), saga));
    }

    fn memory(&self) -> (usize, usize) {
        self.host.memory()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.host.close())
    }

    fn kill(&self) {
        self.host.kill();
    }
}

/// One entity, wherever it is. Cheap; does not load anything by itself.
pub struct EntityHandle<E: Entity> {
    host: Result<Arc<EntityHost>, SendError>,
    stream: Result<StreamId, NameError>,
    entity: PhantomData<fn() -> E>,
}

impl<E: Entity> EntityHandle<E> {
    pub(crate) fn new(host: Result<Arc<EntityHost>, SendError>, key: &str) -> Self {
        Self {
            host,
            stream: StreamId::of(E::CATEGORY, key),
            entity: PhantomData,
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
        host.send(stream, Box::new(command), options).await
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
