use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::Poison;
use anabranch_model::{Cut, StreamId};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{ConsumerContext, ConsumerSpec, FollowState, Intake, Progress, StoreError};
use crate::diagnostics::Diagnostics;
use crate::follow::{Follow, FollowParts, Shown};

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
    shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
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
        let (tell, shown) = watch::channel(Shown::at(progress.cut));
        let nudge = Arc::new(Notify::new());
        let follow = Follow::new(
            FollowParts {
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
                caught_up: Box::new(|| Box::pin(async { Ok(()) })),
            },
            intake.clone(),
            tell,
            nudge.clone(),
            progress.events,
        );
        Ok(Arc::new(Self {
            name,
            context,
            diagnostics: parts.diagnostics,
            head: parts.head,
            intake,
            shown,
            nudge,
            task: Mutex::new(Some(tokio::spawn(follow.run()))),
        }))
    }

    /// How far it is and what it is doing.
    pub async fn status(&self) -> ConsumerStatus {
        let progress = self.intake.progress().await;
        let shown = self.shown.borrow().clone();
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

    /// Ready when it has consumed everything that `cut` includes.
    pub async fn reached(&self, cut: &Cut) {
        let mut shown = self.shown.clone();
        // A consumer that was ended does not get there.
        if shown.wait_for(|shown| shown.cut.covers(cut)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tries again the event that it has stopped at; false if it has not stopped.
    pub fn retry(&self) -> bool {
        let has_stopped = matches!(self.shown.borrow().state, FollowState::Stopped { .. });
        if has_stopped {
            self.nudge.notify_one();
        }
        has_stopped
    }

    /// Passes over the event that it has stopped at; false if it has not stopped.
    pub async fn skip(&self) -> Result<bool, StoreError> {
        let state = self.shown.borrow().state.clone();
        let FollowState::Stopped { event } = state else {
            return Ok(false);
        };
        let edited = self.intake.edit(Box::new(move |progress: &mut Progress| {
            progress.skipped.insert(event.position);
        }));
        edited.await?;
        self.nudge.notify_one();
        Ok(true)
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
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Drop for ConsumerHost {
    fn drop(&mut self) {
        self.kill();
    }
}
