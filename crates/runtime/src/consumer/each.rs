use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anabranch_domain::HandleError;
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, Event, EventBatch, content_hash};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::context::ConsumerContext;
use crate::checkpoint::Checkpoint;
use crate::follow::{Edit, Intake, PoisonEvent, Progress, StoreError};
use crate::panics::message;
use crate::telemetry;

type Handler<T> = Box<dyn Fn(T) -> BoxFuture<'static, Result<(), HandleError>> + Send + Sync>;

/// What a consumer runs.
pub enum Function {
    /// For each event.
    Each(Handler<Event>),
    /// For each batch.
    Batches(Handler<Vec<Event>>),
}

/// Runs a function for events, and keeps the place behind it.
pub struct EachEvent {
    context: ConsumerContext,
    checkpoint: String,
    function: Function,
    progress: Mutex<Progress>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

/// Names the shape of the checkpoint's data.
fn fingerprint() -> u128 {
    content_hash([b"consumer 1".as_slice()])
}

impl EachEvent {
    /// At its place; at the context's, which is kept at once, if it has none.
    pub async fn open(context: ConsumerContext, function: Function) -> Result<Self, StoreError> {
        let checkpoint = format!("{}/consumer/{}", context.service, context.name);
        let kept = context.checkpoints.load(&checkpoint).await;
        let kept = kept.map_err(|error| context.failed(error))?;
        let progress = match &kept {
            Some(kept) if kept.fingerprint != fingerprint() => {
                return Err(context.failed(
                    "its place was kept by another version of the program, which this one cannot \
                     read; run that version, or give the consumer another name and say where it \
                     begins",
                ));
            }
            Some(kept) => {
                serde_json::from_slice(&kept.data).map_err(|error| context.failed(error))?
            }
            None => Progress {
                cut: context.begin.clone(),
                ..Progress::default()
            },
        };
        let this = Self {
            context,
            checkpoint,
            function,
            progress: Mutex::new(progress),
            changing: tokio::sync::Mutex::default(),
        };
        if kept.is_none() {
            this.save().await?;
        }
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) -> Result<(), StoreError> {
        let data = serde_json::to_vec(&*self.lock());
        let checkpoint = Checkpoint {
            fingerprint: fingerprint(),
            data: data.map_err(|error| self.context.failed(error))?,
        };
        let checkpoints = &self.context.checkpoints;
        let saved = checkpoints.save(&self.checkpoint, checkpoint).await;
        saved.map_err(|error| self.context.failed(error))
    }

    /// Whether the function shall see the event.
    fn wants(&self, event: &Event) -> bool {
        let progress = self.lock();
        !progress.cut.includes(event.position) && !progress.skipped.contains(&event.position)
    }

    /// The event is behind the consumer.
    fn passed(&self, event: &Event) {
        let mut progress = self.lock();
        if progress.cut.includes(event.position) {
            return;
        }
        progress.took(&event.as_ref());
    }

    /// Runs the function; why it failed, if it did.
    async fn run(&self, events: Vec<Event>) -> Result<(), String> {
        let span = telemetry::consumer(self.context.name, events.len());
        let ran = async {
            match &self.function {
                Function::Each(function) => {
                    for event in events {
                        function(event).await?;
                    }
                    Ok(())
                }
                Function::Batches(function) => function(events).await,
            }
        };
        let ran = AssertUnwindSafe(ran.instrument(span.clone()));
        let result = match ran.catch_unwind().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err::<(), HandleError>(error).map_err(|error| error.to_string()),
            Err(panic) => Err(format!("its code panicked: {}", message(&*panic))),
        };
        result.inspect_err(|_| telemetry::failed(&span, "poison"))
    }

    /// Takes events in until one fails.
    async fn take(&self, events: Vec<Event>) -> Option<PoisonEvent> {
        let size = match &self.function {
            Function::Each(_) => 1,
            Function::Batches(_) => events.len().max(1),
        };
        for together in events.chunks(size) {
            let wanted: Vec<_> = together.iter().filter(|e| self.wants(e)).cloned().collect();
            if let Some(first) = wanted.first().cloned()
                && let Err(reason) = self.run(wanted).await
            {
                return Some(PoisonEvent::of(&first, reason));
            }
            for event in together {
                self.passed(event);
            }
        }
        None
    }
}

impl Intake for EachEvent {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let progress = self.lock().clone();
        Box::pin(async { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            let _alone = self.changing.lock().await;
            let reach = batch.reach();
            let events = batch.into_iter().collect::<Result<Vec<_>, _>>();
            let events = events.map_err(|error| {
                self.context
                    .failed(format!("a stored event cannot be decoded: {error}"))
            })?;
            let poison = self.take(events).await;
            if let (None, Some(reach)) = (&poison, reach) {
                reach.pass(&mut self.lock().cut);
            }
            self.save().await?;
            Ok(poison)
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let _alone = self.changing.lock().await;
            edit(&mut self.lock());
            self.save().await
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        self.lock().cut.join(&cut);
        Box::pin(async { Ok(()) })
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let _alone = self.changing.lock().await;
            self.save().await
        })
    }
}
