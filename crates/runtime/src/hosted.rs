//! What a service hosts, and how a request reaches it.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use anabranch_log::BoxFuture;

use crate::delivery::Here;
use crate::entity::EntityHost;
use crate::port::{Delivered, Dispatch, Problem, Reply, Request};
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

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        match request {
            Request::Command(dispatch) => match self.entities.get(dispatch.command.to.category()) {
                Some(entity) => Box::pin(async move {
                    let accepted = entity.dispatch(dispatch).await?;
                    Ok(Reply::Delivered(Delivered::Done(accepted)))
                }),
                None => Box::pin(self.to_process(dispatch)),
            },
            Request::Answer(reply) => match self.processes.get(reply.to.category()) {
                Some(process) => Box::pin(async move {
                    process.reply(reply).await?;
                    Ok(Reply::Heard)
                }),
                None => told(Err(self.not_hosted(reply.to.category()).into())),
            },
            Request::Forget { at, saga } => {
                if let Some(entity) = self.entities.get(at.category()) {
                    entity.forget(at, saga);
                }
                told(Ok(Reply::Heard))
            }
            Request::Query(ask) => told(Err(self.not_hosted(&ask.view).into())),
        }
    }
}

fn told<'a>(told: Result<Reply, Problem>) -> BoxFuture<'a, Result<Reply, Problem>> {
    Box::pin(ready(told))
}

impl Hosted {
    async fn to_process(&self, dispatch: Box<Dispatch>) -> Result<Reply, Problem> {
        let category = dispatch.command.to.category();
        let process = self.processes.get(category);
        let process = process.ok_or_else(|| self.not_hosted(category))?;
        if dispatch.expect.is_some() {
            let what = "a saga takes no expected version".to_owned();
            return Err(SendError::Invalid(what).into());
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
