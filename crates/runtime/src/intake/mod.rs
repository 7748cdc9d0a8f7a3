//! Brings the events of the log to the instances of one process or saga.

mod place;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::{Cut, StreamId};
use anabranch_log::BoxFuture;
use anabranch_model::{Event, EventBatch, Position};

pub use place::Places;
use place::count;

use crate::delivery::Dispatcher;
use crate::feed::Feed;
use crate::follow::{Edit, Intake, PoisonEvent, Progress, StoreError};
use crate::host::{Input, Item};
use crate::kinds::closure_of;
use crate::panics::contain;

/// Takes events in by handing them out. How far it is with what came of them, the feed knows.
pub struct ProcessIntake {
    pub places: Places,
    dispatcher: Arc<Dispatcher>,
    /// The round of the feed in which events are brought: those of an earlier one come to
    /// nothing, because others before them are to be brought again.
    round: AtomicU64,
    skipped: Mutex<BTreeSet<Position>>,
    /// When the last event that was handed out was recorded.
    last_at: AtomicU64,
}

impl ProcessIntake {
    pub fn new(places: Places, dispatcher: Arc<Dispatcher>) -> Self {
        Self {
            places,
            dispatcher,
            round: AtomicU64::new(0),
            skipped: Mutex::default(),
            last_at: AtomicU64::new(0),
        }
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.places.host.shared.feed
    }

    fn skipped(&self) -> MutexGuard<'_, BTreeSet<Position>> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what is open, and begins at the place.
    pub async fn take_over(&self) {
        let begins = self.places.taken_over().await;
        *self.skipped() = begins.skipped;
        self.feed().begin(begins.consumed);
        self.round.store(self.feed().round(), Ordering::Release);
    }

    /// Lets the instances of a shard go on that has lost what it knew.
    async fn recover(&self) {
        if self.feed().has_lost() {
            self.places.taken_over().await;
        }
    }

    /// Keeps the place if that is due.
    pub async fn keep_sometimes(&self) {
        let (end, skipped) = (self.feed().end(), self.skipped().clone());
        self.places.keep_sometimes(&end, skipped).await;
    }

    /// The instance that an event reaches, and as what; or why that cannot be told.
    fn consume(&self, event: &Event) -> Result<Option<(StreamId, Input)>, String> {
        if self.skipped().contains(&event.position) {
            return Ok(None);
        }
        match contain(|| self.places.kind.consume(&event.as_ref())) {
            Ok(consumed) => consumed,
            Err(panic) => Err(format!("its code panicked: {panic}")),
        }
    }

    fn failed(&self, reason: impl ToString) -> StoreError {
        StoreError::of(
            format!("process {}", self.places.host.shared.about.name),
            reason,
        )
    }

    /// Hands the events of a batch out, as long as the round goes on.
    async fn hand_out(&self, batch: EventBatch) -> Result<Option<PoisonEvent>, StoreError> {
        let (feed, round) = (self.feed(), self.round.load(Ordering::Acquire));
        let mut at = feed.end();
        let reach = batch.reach();
        for event in batch {
            let event = event.map_err(|error| self.failed(error))?;
            let position = event.position;
            if at.includes(position) {
                continue;
            }
            let consumed = match self.consume(&event) {
                Ok(consumed) => consumed,
                Err(reason) => return Ok(Some(PoisonEvent::of(&event, reason))),
            };
            if let Some((stream, input)) = consumed {
                self.dispatcher.room().await;
                let Some(ticket) = feed.hand_out(position, round).await else {
                    return Ok(None);
                };
                let mut item = Item::plain(input);
                item.ticket = Some(ticket);
                if self.places.host.shared.writer.many_partitions {
                    item.causes = closure_of(&event.as_ref());
                }
                let sent = self.places.host.bring(stream, item).await;
                sent.map_err(|error| self.failed(error))?;
            }
            at.set(position.partition, position.offset + 1);
            if !feed.pass(&at, round) {
                return Ok(None);
            }
            let last_at = event.recorded_at;
            self.last_at.store(last_at, Ordering::Relaxed);
        }
        if let Some(reach) = reach {
            reach.pass(&mut at);
            feed.pass(&at, round);
        }
        Ok(None)
    }
}

impl Intake for ProcessIntake {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        Box::pin(async {
            let cut = self.feed().end();
            Progress {
                events: count(&cut),
                last_at: self.last_at.load(Ordering::Relaxed),
                skipped: self.skipped().clone(),
                cut,
                ..Progress::default()
            }
        })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        Box::pin(async move {
            self.recover().await;
            let poison = self.hand_out(batch).await?;
            self.keep_sometimes().await;
            Ok(poison)
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut progress = self.progress().await;
            edit(&mut progress);
            *self.skipped() = progress.skipped;
            Ok(())
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.recover().await;
            self.feed().pass(&cut, self.round.load(Ordering::Acquire));
            self.keep_sometimes().await;
            Ok(())
        })
    }

    fn fell_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let round = self.round.load(Ordering::Acquire);
            let round = self.feed().another_round(round).await;
            self.round.store(round, Ordering::Release);
        })
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let skipped = self.skipped().clone();
            self.places.keep(skipped).await;
            Ok(())
        })
    }
}
