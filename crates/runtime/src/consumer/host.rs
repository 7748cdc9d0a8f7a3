use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::Poison;
use anabranch_model::{Cut, StreamId};
use serde::Serialize;
use tokio::sync::watch;

use super::{ConsumerContext, ConsumerSpec, FollowState, Intake, StoreError};
use crate::diagnostics::Diagnostics;
use crate::follow::{FollowParts, Following};

/// After how many events a place is kept that is not kept with each batch.
const KEEP_EVERY: u64 = 10_000;

/// What a consumer's host is made of.
pub struct ConsumerParts {
    /// Its `begin` is found at the start.
    pub context: ConsumerContext,
    pub diagnostics: Arc<Diagnostics>,
    pub head: watch::Receiver<Cut>,
}

/// A consumer, hosted: what operators use.
pub struct ConsumerHost {
    name: &'static str,
    context: ConsumerContext,
    diagnostics: Arc<Diagnostics>,
    head: watch::Receiver<Cut>,
    intake: Arc<dyn Intake>,
    following: Following,
}

/// A consumer, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Its name.
    pub name: &'static str,
    /// What it is doing.
    #[serde(flatten)]
    pub state: FollowState,
    /// Its place: what it has consumed or passed over.
    pub cut: Cut,
    /// How many events it has consumed.
    pub events: u64,
    /// How many events of the log it has not looked at.
    pub lag_events: u64,
    /// How long ago the last event that it consumed was recorded; zero when it has caught up.
    pub lag: Duration,
}

impl ConsumerHost {
    /// Opens its place and starts to consume.
    pub(crate) async fn start(
        parts: ConsumerParts,
        spec: ConsumerSpec,
    ) -> Result<Arc<Self>, StoreError> {
        let name = spec.consumer.name;
        let mut context = parts.context;
        StreamId::of(name, "x").map_err(|error| context.failed(error))?;
        let head = context.log.head().await;
        let head = head.map_err(|error| context.failed(error))?;
        context.begin = spec.begin.cut(&head);
        let intake = (spec.open)(context.clone()).await?;
        let progress = intake.progress().await;
        if !head.covers(&progress.cut) {
            return Err(context.failed(format!(
                "its place is {}, but the log ends at {head}: it is a place of another log. \
                 Nothing was consumed",
                progress.cut
            )));
        }
        let follow = FollowParts {
            newer: None,
            of: format!("consumer {name}"),
            log: context.log.clone(),
            time: context.time.clone(),
            diagnostics: parts.diagnostics.clone(),
            head: parts.head.clone(),
            filter: Some(spec.consumer.filter),
            poison: Poison::Stop,
            retry: spec.retry,
            parked_max: 0,
            keep_every: KEEP_EVERY,
            caught_up: None,
        };
        Ok(Arc::new(Self {
            name,
            context,
            diagnostics: parts.diagnostics,
            head: parts.head,
            following: Following::start(follow, intake.clone(), progress, async {}),
            intake,
        }))
    }

    /// How far it is and what it is doing.
    pub async fn status(&self) -> ConsumerStatus {
        let progress = self.intake.progress().await;
        let shown = self.following.shown.borrow().clone();
        let head = self.head.borrow().clone();
        let (lag_events, lag) = shown.lag(&head, self.context.time.now());
        ConsumerStatus {
            name: self.name,
            state: shown.state,
            cut: shown.cut,
            events: progress.events,
            lag_events,
            lag,
        }
    }

    /// What it was given: a cut of the log.
    pub fn seen(&self) -> Cut {
        self.following.shown.borrow().cut.clone()
    }

    /// Ready when it has consumed everything that `cut` includes.
    pub async fn reached(&self, cut: &Cut) {
        let mut shown = self.following.shown.clone();
        // A consumer that was ended does not get there.
        if shown.wait_for(|shown| shown.cut.covers(cut)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tries again the event that it has stopped at; false if it has not stopped.
    pub fn retry(&self) -> bool {
        self.following.retry()
    }

    /// Passes over the event that it has stopped at; false if it has not stopped.
    pub async fn skip(&self) -> Result<bool, StoreError> {
        self.following.skip().await
    }

    /// Stops, and keeps its place.
    pub async fn close(&self) {
        self.kill();
        if let Err(error) = self.intake.keep().await {
            self.diagnostics
                .add(self.context.time.now(), error.to_string());
        }
    }

    /// Stops at once, as a crash would.
    pub fn kill(&self) {
        self.following.end();
    }
}
