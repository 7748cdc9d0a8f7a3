//! What a service hosts, and how a request reaches it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_log::BoxFuture;

use crate::delivery::Here;
use crate::entity::EntityHost;
use crate::port::{Delivered, Dispatch, Reply, Request};
use crate::process::ProcessHost;
use crate::send_error::SendError;

/// What is hosted by one service and takes commands, by category.
pub struct Hosted {
    pub entities: BTreeMap<&'static str, Arc<EntityHost>>,
    pub processes: BTreeMap<&'static str, Arc<ProcessHost>>,
}

impl Here for Hosted {
    fn owns(&self, category: &str) -> bool {
        self.entities.contains_key(category) || self.processes.contains_key(category)
    }

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, SendError>> {
        Box::pin(async move {
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
        })
    }
}

impl Hosted {
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
