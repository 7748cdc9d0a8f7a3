//! Keeps one copy of a view up to date.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Poison, Timestamp};
use anabranch_log::ReadMode;
use anabranch_model::{Cut, EventBatch};
use futures_util::future::{Either, select};
use tokio::sync::{Notify, watch};

use super::host::{Inner, Shown};
use super::{CopyState, ParkedStream, PoisonEvent, Progress, StoreError, ViewCopy};
use crate::in_order::InOrder;

/// How long a copy waits before it tries again what the store or the log has refused.
const REST: Duration = Duration::from_secs(1);

/// Keeps one copy up to date.
pub struct Projector<S: 'static> {
    inner: Arc<Inner<S>>,
    copy: Arc<dyn ViewCopy<S>>,
    shown: watch::Sender<Shown>,
    nudge: Arc<Notify>,
    /// How many events the copy had taken in when it was last kept.
    kept_at: u64,
}

/// Why a round of reading has ended.
enum Round {
    /// Everything there was is taken in.
    CaughtUp,
    /// The store or the log failed.
    Failed(String),
    /// An event cannot be taken in.
    Poison(PoisonEvent),
}

impl<S: 'static> Projector<S> {
    /// A projector of `copy`, which has taken in this many events.
    pub fn new(
        inner: Arc<Inner<S>>,
        copy: Arc<dyn ViewCopy<S>>,
        shown: watch::Sender<Shown>,
        nudge: Arc<Notify>,
        events: u64,
    ) -> Self {
        Self {
            inner,
            copy,
            shown,
            nudge,
            kept_at: events,
        }
    }

    /// Takes in everything there is and will be.
    pub async fn run(mut self) {
        let mut head = self.inner.head.clone();
        loop {
            match self.catch_up().await {
                Round::CaughtUp => {
                    self.show(|shown| shown.state = CopyState::CaughtUp);
                    if let Err(error) = self.inner.swap(self.copy.id()).await {
                        self.inner.note(error.to_string());
                    }
                    let cut = self.shown.borrow().cut.clone();
                    let news = async { head.wait_for(|head| !cut.covers(head)).await.is_ok() };
                    let nudge = pin!(self.nudge.notified());
                    let nudge = select(nudge, self.copy.fell_back());
                    if let Either::Left((false, _)) = select(pin!(news), nudge).await {
                        return;
                    }
                }
                Round::Failed(reason) => {
                    self.show(|shown| shown.state = CopyState::Failing { reason });
                    self.inner.time.sleep(REST).await;
                }
                Round::Poison(event) => {
                    let text = format!(
                        "view {} has stopped before {event}; mend it, then `view retry`, or `view skip`",
                        self.inner.code.name()
                    );
                    self.inner.note(text);
                    self.show(|shown| shown.state = CopyState::Stopped { event });
                    self.nudge.notified().await;
                }
            }
        }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        self.shown.send_modify(change);
    }

    /// Takes in everything there is now.
    async fn catch_up(&mut self) -> Round {
        let head = match self.inner.log.head().await {
            Ok(head) => head,
            Err(error) => return Round::Failed(error.to_string()),
        };
        let from = self.copy.progress().await.cut;
        let behind = |cut: &Cut| {
            let missing = head
                .iter()
                .map(|(p, count)| count.saturating_sub(cut.get(p)));
            missing.sum::<u64>()
        };
        let (missing, began) = (behind(&from), self.inner.time.monotonic());
        if missing > 1000 {
            self.show(|shown| shown.state = CopyState::CatchingUp);
        }
        let filter = self.inner.code.filter().clone();
        let mut read = self.inner.log.read(&from, filter, ReadMode::ToHead);
        let mut order = InOrder::from(&from);
        while let Some(batch) = read.next_batch().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Round::Failed(error.to_string()),
            };
            if let Err(disorder) = order.check(&batch) {
                return Round::Failed(disorder);
            }
            let taken = self.take_in(batch).await;
            let Progress {
                cut,
                events,
                last_at,
                ..
            } = self.copy.progress().await;
            let took = self.inner.time.monotonic().saturating_sub(began);
            let took = took.as_secs_f64();
            let done = missing - behind(&cut).min(missing);
            self.show(|shown| {
                shown.cut.join(&cut);
                shown.last_at = Some(Timestamp::from_micros(last_at));
                shown.rate = (took > 0.0).then(|| done as f64 / took);
            });
            match taken {
                Ok(None) => {}
                Ok(Some(poison)) => return Round::Poison(poison),
                Err(error) => return Round::Failed(error.to_string()),
            }
            self.keep_sometimes(events).await;
            tokio::task::yield_now().await;
        }
        if let Err(error) = self.copy.advance(head.clone()).await {
            return Round::Failed(error.to_string());
        }
        self.show(|shown| shown.cut.join(&head));
        Round::CaughtUp
    }

    async fn take_in(&mut self, batch: EventBatch) -> Result<Option<PoisonEvent>, StoreError> {
        let mut attempt = 1;
        loop {
            let Some(poison) = self.copy.apply(batch.clone()).await? else {
                return Ok(None);
            };
            let retry = self.inner.options.retry;
            if retry.goes_on_after(attempt) {
                let seed = u128::from(poison.position.offset);
                self.inner
                    .time
                    .sleep(retry.delay_after(attempt, seed))
                    .await;
                attempt += 1;
                continue;
            }
            let parked = self.copy.progress().await.parked.len();
            let may_park = self.inner.code.poison() == Poison::Park
                && !poison.stream.is_empty()
                && parked < self.inner.options.parked_max;
            if !may_park {
                return Ok(Some(poison));
            }
            self.set_aside(poison).await?;
            attempt = 1;
        }
    }

    async fn set_aside(&self, poison: PoisonEvent) -> Result<(), StoreError> {
        let text = format!(
            "view {} sets {} aside: {poison}",
            self.inner.code.name(),
            poison.stream
        );
        self.inner.note(text);
        self.copy
            .edit(Box::new(move |progress: &mut Progress| {
                let parked = ParkedStream {
                    position: poison.position,
                    version: poison.version,
                    last: poison.version,
                    reason: poison.reason,
                };
                progress.parked.insert(poison.stream, parked);
            }))
            .await
    }

    async fn keep_sometimes(&mut self, events: u64) {
        let every = self.inner.options.snapshot_every;
        if every > 0 && events >= self.kept_at + every {
            self.kept_at = events;
            if let Err(error) = self.copy.keep().await {
                self.inner.note(error.to_string());
            }
        }
    }
}
