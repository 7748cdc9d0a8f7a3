//! What a service hosts, and how a request reaches it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_domain::{CommandEnvelope, Cut, ReplyEnvelope, StreamId};
use anabranch_log::BoxFuture;

use crate::entity::AnyEntity;
use crate::host::InstanceStatus;
use crate::port::{Delivered, Dispatch, Reply, Request};
use crate::send_error::SendError;

/// The instances of one process or saga, whatever its type: what dispatchers and operators use.
pub trait AnyProcess: Send + Sync {
    /// The process's or the saga's name.
    fn name(&self) -> &'static str;

    /// Takes a command to an instance: starts, aborts, resumes or settles a saga. Answers when
    /// what follows from it is durable.
    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// Takes an answer to something that an instance has sent.
    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// The instances that have not ended, and those that are parked.
    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>>;

    /// The instances that have ended, newest first and at most `max`, without their states. Reads
    /// the ends of all journals.
    fn ended(&self, max: usize) -> BoxFuture<'_, Result<Vec<InstanceStatus>, String>>;

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

/// What is hosted by one service and takes commands, by category.
#[derive(Clone, Default)]
pub struct Hosted {
    pub entities: BTreeMap<&'static str, Arc<dyn AnyEntity>>,
    pub processes: BTreeMap<&'static str, Arc<dyn AnyProcess>>,
}

impl Hosted {
    /// Whether what stands behind this category is hosted here.
    pub fn owns(&self, category: &str) -> bool {
        self.entities.contains_key(category) || self.processes.contains_key(category)
    }

    /// Carries out whatever is no query.
    pub async fn call(&self, request: Request) -> Result<Reply, SendError> {
        match request {
            Request::Command(dispatch) => self.command(*dispatch).await,
            Request::Answer(reply) => {
                let process = self.processes.get(reply.to.category());
                let process = process.ok_or_else(|| self.not_hosted(reply.to.category()))?;
                process.reply(*reply).await.map(|()| Reply::Heard)
            }
            Request::Forget { at, saga } => {
                if let Some(entity) = self.entities.get(at.category()) {
                    entity.forget(at, saga);
                }
                Ok(Reply::Heard)
            }
            Request::Query(ask) => Err(self.not_hosted(&ask.view)),
        }
    }

    async fn command(&self, dispatch: Dispatch) -> Result<Reply, SendError> {
        let category = dispatch.command.to.category();
        if let Some(entity) = self.entities.get(category) {
            let done = entity.dispatch(dispatch).await;
            return done.map(|accepted| Reply::Delivered(Delivered::Done(accepted)));
        }
        let process = self.processes.get(category);
        let process = process.ok_or_else(|| self.not_hosted(category))?;
        if dispatch.expect.is_some() {
            let what = "a saga takes no expected version".to_owned();
            return Err(SendError::Invalid(what));
        }
        process.command(dispatch.command).await?;
        Ok(Reply::Delivered(Delivered::Taken))
    }

    pub fn not_hosted(&self, category: &str) -> SendError {
        let known = self.entities.keys().chain(self.processes.keys()).copied();
        SendError::NotHosted {
            category: category.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }
}
