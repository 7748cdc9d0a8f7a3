//! What a service hosts, and how a request reaches it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::any::AnyFlow;
use crate::entity::AnyEntity;
use crate::port::{Delivered, Dispatch, Reply, Request};
use crate::send_error::SendError;

/// What is hosted by one service and takes commands, by category.
#[derive(Clone, Default)]
pub struct Hosted {
    pub entities: BTreeMap<&'static str, Arc<dyn AnyEntity>>,
    pub flows: BTreeMap<&'static str, Arc<dyn AnyFlow>>,
}

impl Hosted {
    /// Whether what stands behind this category is hosted here.
    pub fn owns(&self, category: &str) -> bool {
        self.entities.contains_key(category) || self.flows.contains_key(category)
    }

    /// Carries out whatever is no query.
    pub async fn call(&self, request: Request) -> Result<Reply, SendError> {
        match request {
            Request::Command(dispatch) => self.command(*dispatch).await,
            Request::Answer(reply) => {
                let flow = self.flows.get(reply.to.category());
                let flow = flow.ok_or_else(|| self.not_hosted(reply.to.category()))?;
                flow.reply(*reply).await.map(|()| Reply::Heard)
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
        let flow = self.flows.get(category);
        let flow = flow.ok_or_else(|| self.not_hosted(category))?;
        if dispatch.expect.is_some() {
            let what = "a saga takes no expected version".to_owned();
            return Err(SendError::Invalid(what));
        }
        flow.command(dispatch.command).await?;
        Ok(Reply::Delivered(Delivered::Taken))
    }

    pub fn not_hosted(&self, category: &str) -> SendError {
        let known = self.entities.keys().chain(self.flows.keys()).copied();
        SendError::NotHosted {
            category: category.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }
}
