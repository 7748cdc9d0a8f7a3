//! The way in for commands to entities.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{CommandId, SchemaError, StreamId};
use anabranch_model::{NameError, Version};
use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{EntityOptions, Inspection, SendOptions};
use crate::causes::Causes;
use crate::host::{
    Accepted, Ask, Host, HostParts, Input, Item, LoadError, Shard, Shared, Status, load_from_events,
};
use crate::kinds::Commanded;
use crate::port::Dispatch;
use crate::send_error::SendError;
use crate::telemetry;
use crate::time::Time;

/// Entities of one category, hosted: what dispatchers and operators use. Their type is known to
/// the kind alone.
pub struct EntityHost {
    pub(crate) kind: Arc<dyn Commanded>,
    pub(crate) host: Host,
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
    pub(crate) fn start(
        kind: Arc<dyn Commanded>,
        parts: HostParts,
        options: EntityOptions,
    ) -> Result<Arc<Self>, HostError> {
        let category = kind.about().name;
        let name = |source| HostError::Name { category, source };
        StreamId::of(category, "x").map_err(name)?;
        let shared = Shared::new(kind.clone(), parts, options, None).map_err(name)?;
        Ok(Arc::new(Self {
            kind,
            host: Host::start(shared),
        }))
    }

    pub(crate) async fn send(
        &self,
        stream: StreamId,
        input: Input,
        options: SendOptions,
    ) -> Result<Accepted, SendError> {
        self.offer(stream, input, options)?.outcome().await
    }

    /// Gives a command to its shard. What waits for the outcome is small: of a command nothing
    /// stays behind in the future that many others hold and move.
    fn offer(
        &self,
        stream: StreamId,
        input: Input,
        mut options: SendOptions,
    ) -> Result<Asked<'_>, SendError> {
        let Shared {
            time,
            options: of_all,
            ..
        } = &*self.host.shared;
        let arrived = time.monotonic();
        let timeout = options.timeout.unwrap_or(of_all.timeout);
        let deadline = arrived.saturating_add(timeout);
        let new_id = || CommandId::v7(time.now().micros() / 1000, time.random());
        let id = options.id.unwrap_or_else(new_id);
        // What processes and sagas send has an id that follows from what it says.
        let comes_from_outside = options.id.is_some() && options.reply_to.is_none();
        let content = comes_from_outside.then(|| self.kind.content(&input));
        let correlation_id = &*options.correlation_id.get_or_insert_with(|| id.to_string());
        let span = telemetry::command(&stream, id, correlation_id, options.traceparent.as_deref());
        let (reply, answer) = oneshot::channel();
        let mut item = Item::plain(input);
        item.reply = Some(reply);
        item.ask = Some(Ask {
            id,
            options,
            content: content.flatten(),
            arrived,
            deadline,
            span: span.clone(),
        });
        span.in_scope(|| self.host.offer(stream, item))
            .inspect_err(|error| telemetry::failed(&span, error.code()))?;
        Ok(Asked {
            answer,
            time,
            deadline,
            timeout,
            span,
        })
    }

    /// The category.
    pub fn category(&self) -> &'static str {
        self.host.shared.about.name
    }

    /// What a command depends on whose sender says nothing of it.
    pub fn causes(&self) -> &Causes {
        &self.host.shared.options.causes
    }

    /// The names of the commands that it takes.
    pub fn commands(&self) -> &'static [&'static str] {
        self.kind.commands()
    }

    /// Sends a command in wire form, and waits for its outcome.
    pub async fn dispatch(&self, dispatch: Box<Dispatch>) -> Result<Accepted, SendError> {
        self.offer_dispatch(*dispatch)?.outcome().await
    }

    fn offer_dispatch(&self, dispatch: Dispatch) -> Result<Asked<'_>, SendError> {
        let Dispatch {
            command,
            timeout,
            expect,
        } = dispatch;
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
        self.offer(command.to, input, options)
    }

    /// The state of an entity after its event `at`, or as it is now, made from its events
    /// alone; and what it is doing here.
    pub async fn inspect(
        &self,
        stream: StreamId,
        at: Option<Version>,
    ) -> Result<Inspection, SendError> {
        let status = self.host.ask(&stream, Shard::status).await;
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
        let described = live.described().map_err(unavailable)?;
        Ok(Inspection {
            stream,
            version: described.length.checked_sub(1),
            state: described.state,
            status: status.unwrap_or(Status::Idle),
        })
    }

    /// The entities that take no commands before an operator un-parks them, and why.
    pub async fn parked(&self) -> Vec<(StreamId, String)> {
        let all = self.host.ask_all(Shard::list).await;
        let parked = all.into_iter().flatten();
        let mut parked: Vec<_> = parked
            .filter_map(|one| Some((one.stream, one.parked?)))
            .collect();
        parked.sort_unstable();
        parked
    }

    /// Lets a parked entity take commands again; false if it was not parked.
    pub async fn unpark(&self, stream: StreamId) -> bool {
        let unparked = self.host.ask(&stream, Shard::unpark).await;
        unparked.unwrap_or(false)
    }

    /// Lets an entity that is in memory forget what it remembers for a saga that has ended.
    pub fn forget(&self, stream: StreamId, saga: StreamId) {
        // Not told, it remembers longer than it has to.
        let at = stream.clone();
        self.host
            .tell_now(&stream, move |shard| shard.forget(&at, &saga));
    }

    /// How many entities are in memory, and how many bytes they take, about.
    pub fn memory(&self) -> (usize, usize) {
        self.host.memory()
    }

    /// Takes no more commands, and waits until all that were taken are answered.
    pub async fn close(&self) {
        self.host.close().await;
    }

    /// Stops at once, as a crash would: what is durable stays.
    pub fn kill(&self) {
        self.host.kill();
    }
}

/// A command that was given to its shard.
struct Asked<'a> {
    answer: oneshot::Receiver<Result<Accepted, SendError>>,
    time: &'a Time,
    deadline: Duration,
    timeout: Duration,
    span: Span,
}

impl Asked<'_> {
    /// Waits for what becomes of it, until its time is up.
    async fn outcome(self) -> Result<Accepted, SendError> {
        let late = self.time.sleep_until(self.deadline);
        let outcome = match select(self.answer, late)
            .instrument(self.span.clone())
            .await
        {
            Either::Left((answer, _)) => answer.unwrap_or_else(|_| Err(SendError::unanswered())),
            Either::Right(((), mut answer)) => answer.try_recv().unwrap_or_else(|_| {
                Err(SendError::Unknown {
                    reason: format!("no answer within {:?}", self.timeout),
                })
            }),
        };
        if let Err(error) = &outcome {
            telemetry::failed(&self.span, error.code());
        }
        outcome
    }
}
