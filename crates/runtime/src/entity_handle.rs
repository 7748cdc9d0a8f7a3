//! One entity for who sends commands to it, wherever it is.

use std::marker::PhantomData;
use std::sync::Arc;

use anabranch_domain::{Command as _, CommandEnvelope, CommandId, Entity, StreamId};
use anabranch_model::{Cut, Version};

use crate::causes::Causes;
use crate::entity::{EntityHost, Inspection, SendOptions};
use crate::host::Accepted;
use crate::port::{Delivered, Dispatch, Port, Problem};
use crate::reads::Reads;
use crate::send_error::SendError;
use crate::time::Time;

/// One entity, wherever it is. Cheap; does not load anything by itself.
pub struct EntityHandle<E: Entity> {
    at: Result<(Way, StreamId), SendError>,
    causes: Option<Causes>,
    /// What its sender reads.
    reads: Option<Arc<Reads>>,
    entity: PhantomData<fn() -> E>,
}

/// How an entity is reached.
enum Way {
    /// It is hosted here.
    Here(Arc<EntityHost>),
    /// Whoever has it is behind this port.
    There(Arc<dyn Port>, Time),
}

impl<E: Entity> EntityHandle<E> {
    pub(crate) fn new(host: Result<Arc<EntityHost>, SendError>, key: &str) -> Self {
        Self::by(host.map(Way::Here), key)
    }

    /// The entity of this key at whoever is behind `port`. New commands get their ids by `time`.
    pub fn through(port: Arc<dyn Port>, time: Time, key: impl AsRef<str>) -> Self {
        Self::by(Ok(Way::There(port, time)), key.as_ref())
    }

    fn by(way: Result<Way, SendError>, key: &str) -> Self {
        let stream = StreamId::of(E::CATEGORY, key);
        let stream = stream.map_err(|error| SendError::Invalid(error.to_string()));
        Self {
            at: way.and_then(|way| Ok((way, stream?))),
            causes: None,
            reads: None,
            entity: PhantomData,
        }
    }

    pub(crate) fn read_by(mut self, reads: Arc<Reads>) -> Self {
        self.reads = Some(reads);
        self
    }

    /// What the commands depend on that are sent by this handle. Without this the options of a
    /// command say it, or else those of the entity ([`EntityOptions::causes`](crate::EntityOptions)),
    /// which are [`Causes::Session`]: what the service has read.
    #[must_use]
    pub fn causes(mut self, causes: Causes) -> Self {
        self.causes = Some(causes);
        self
    }

    fn depends(&self, way: &Way, given: Cut) -> Cut {
        let session = || match &self.reads {
            Some(reads) if given == Cut::start() => reads.seen(),
            _ => given.clone(),
        };
        match (&self.causes, way) {
            (Some(causes), _) => causes.cut(session),
            (None, Way::Here(host)) if given == Cut::start() => host.causes().cut(session),
            (None, _) => session(),
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
        mut options: SendOptions,
    ) -> Result<Accepted, SendError> {
        let (way, stream) = self.at.as_ref().map_err(Clone::clone)?;
        options.causes = self.depends(way, options.causes);
        let (port, time) = match way {
            Way::Here(host) => {
                return host.send(stream.clone(), Box::new(command), options).await;
            }
            Way::There(port, time) => (port, time),
        };
        let (name, data) = command.to_wire()?;
        let new_id = || CommandId::v7(time.now().micros() / 1000, time.random());
        let id = options.id.unwrap_or_else(new_id);
        let envelope = CommandEnvelope {
            id,
            to: stream.clone(),
            name: name.to_owned(),
            data,
            role: options.role,
            reply_to: options.reply_to,
            correlation_id: options.correlation_id.or_else(|| Some(id.to_string())),
            traceparent: options.traceparent,
            causes: options.causes,
        };
        let dispatch = Dispatch {
            command: envelope,
            timeout: options.timeout,
            expect: options.expect,
        };
        match port.deliver(dispatch).await? {
            Delivered::Done(accepted) => Ok(accepted),
            Delivered::Taken => Err(Problem::Strange.of_send()),
        }
    }

    /// Its state as its durable events make it, after event `at` or now. Of an entity that another
    /// process has, only an operator there can tell.
    pub async fn inspect(&self, at: Option<Version>) -> Result<Inspection, SendError> {
        let (way, stream) = self.at.as_ref().map_err(Clone::clone)?;
        match way {
            Way::Here(host) => host.inspect(stream.clone(), at).await,
            Way::There(..) => Err(SendError::Unavailable {
                reason: format!("{stream} is looked at where it is hosted"),
                retry_after: None,
            }),
        }
    }
}
