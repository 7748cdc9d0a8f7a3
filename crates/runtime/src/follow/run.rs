use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Poison, Retry, Timestamp};
use anabranch_log::{BoxFuture, Log, ReadError};
use anabranch_model::{Cut, EventBatch, Filter};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::history::compare;
use super::{FollowState, Intake, ParkedStream, PoisonEvent, Progress, Shown, StoreError, ToHead};
use crate::diagnostics::Diagnostics;
use crate::newer::NewerTypes;
use crate::time::Time;

/// How long it waits before it tries again what the store or the log has refused.
const REST: Duration = Duration::from_secs(1);

/// After this a log that is far is read to its head, because it says nothing although there is something:
/// a server that is older may say nothing of events that nobody here wants.
const STALLED: Duration = Duration::from_secs(3);

/// What is done each time that everything was taken in.
pub type CaughtUp = Box<dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// What following the log needs.
pub struct FollowParts {
    /// Who follows, for an operator: `view orders`.
    pub of: String,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub diagnostics: Arc<Diagnostics>,
    pub head: watch::Receiver<Cut>,
    /// Where it is looked how newer events are read; `None`: they are taken as they are.
    pub newer: Option<NewerTypes>,
    /// What it is brought; `None`: nothing but how far the log goes.
    pub filter: Option<Filter>,
    pub poison: Poison,
    /// How often an event that cannot be taken in is tried.
    pub retry: Retry,
    /// The most streams that are set aside.
    pub parked_max: usize,
    /// After how many events the place is kept; 0: never.
    pub keep_every: u64,
    pub caught_up: Option<CaughtUp>,
}

/// A follower of the log, for those who watch and operate it. It ends with its handle.
pub struct Following {
    intake: Arc<dyn Intake>,
    pub shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Following {
    /// Brings events to `intake`, which is as far as `progress` says, as soon as it is `ready`.
    pub fn start(
        parts: FollowParts,
        intake: Arc<dyn Intake>,
        progress: Progress,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (tell, shown) = watch::channel(Shown::at(progress.cut));
        let nudge = Arc::new(Notify::new());
        let follow = Follow {
            parts,
            intake: intake.clone(),
            shown: tell,
            nudge: nudge.clone(),
            kept_at: progress.events,
            is_compared: false,
        };
        let task = tokio::spawn(async move {
            ready.await;
            follow.run().await;
        });
        Self {
            intake,
            shown,
            nudge,
            task,
        }
    }

    /// Wakes it.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// The event that it has stopped before, if it has.
    pub fn stopped_at(&self) -> Option<PoisonEvent> {
        match &self.shown.borrow().state {
            FollowState::Stopped { event } => Some(event.clone()),
            _ => None,
        }
    }

    /// Tries again the event that it has stopped before; false if it has not stopped.
    pub fn retry(&self) -> bool {
        let has_stopped = self.stopped_at().is_some();
        if has_stopped {
            self.nudge();
        }
        has_stopped
    }

    /// Passes over the event that it has stopped before; false if it has not stopped.
    pub async fn skip(&self) -> Result<bool, StoreError> {
        let Some(event) = self.stopped_at() else {
            return Ok(false);
        };
        let edited = self.intake.edit(Box::new(move |progress: &mut Progress| {
            progress.skipped.insert(event.position);
        }));
        edited.await?;
        self.nudge();
        Ok(true)
    }

    /// Stops at once.
    pub fn end(&self) {
        self.task.abort();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.end();
    }
}

/// Follows the log.
struct Follow {
    parts: FollowParts,
    intake: Arc<dyn Intake>,
    shown: watch::Sender<Shown>,
    /// Wakes it after an operator has changed something.
    nudge: Arc<Notify>,
    /// How many events had been taken in when the place was last kept.
    kept_at: u64,
    /// Whether the log is known to be the one that was read, since it could last be asked.
    is_compared: bool,
}

/// Why a round of reading has ended.
enum Round {
    /// Everything there was is taken in.
    CaughtUp,
    /// The store or the log failed.
    Failed(String),
    /// The log is not the one that was read.
    Changed(String),
    /// What takes events in has fallen back.
    FellBack,
    /// An event cannot be taken in.
    Poison(PoisonEvent),
}

/// What came of a look at the log.
enum Learnt {
    /// What could not be read may be read now.
    News,
    /// The event stays what it is.
    Nothing,
    /// It is looked again when the event is tried again.
    Failed,
}

impl Follow {
    fn note(&self, text: String) {
        let FollowParts {
            diagnostics, time, ..
        } = &self.parts;
        diagnostics.add(time.now(), text);
    }

    /// Takes in everything there is and will be.
    async fn run(mut self) {
        let mut head = self.parts.head.clone();
        let mut told = None;
        // What has read to the head, if it can go on from there.
        let mut kept = None;
        loop {
            match self.catch_up(&mut kept).await {
                Round::CaughtUp => {
                    self.show(|shown| shown.state = FollowState::CaughtUp);
                    if let Some(caught_up) = &self.parts.caught_up
                        && let Err(error) = caught_up().await
                    {
                        self.note(error.to_string());
                    }
                    let cut = self.shown.borrow().cut.clone();
                    let news = async { head.wait_for(|head| !cut.covers(head)).await.is_ok() };
                    let nudge = pin!(self.nudge.notified());
                    let nudge = select(nudge, self.intake.fell_back());
                    if let Either::Left((false, _)) = select(pin!(news), nudge).await {
                        return;
                    }
                }
                Round::FellBack => self.is_compared = false,
                Round::Changed(reason) => {
                    self.alert_changed(&reason);
                    self.show(|shown| shown.state = FollowState::Failing { reason });
                    self.parts.time.sleep(REST).await;
                }
                Round::Failed(reason) => {
                    self.is_compared = false;
                    self.note_failing(&reason);
                    self.show(|shown| shown.state = FollowState::Failing { reason });
                    self.parts.time.sleep(REST).await;
                }
                Round::Poison(event) => {
                    let of = &self.parts.of;
                    let kind = of.split(' ').next().unwrap_or(of);
                    let text = format!(
                        "{of} has stopped before {event}; mend it, then `{kind} retry`, or `{kind} skip`"
                    );
                    // Stopped there again, it is no news.
                    match told.as_ref() == Some(&event) {
                        true => self.note(text),
                        false => self.parts.diagnostics.alert(self.parts.time.now(), text),
                    }
                    told = Some(event.clone());
                    self.show(|shown| shown.state = FollowState::Stopped { event });
                    let nudge = pin!(self.nudge.notified());
                    select(nudge, self.intake.fell_back()).await;
                    self.show(|shown| shown.state = FollowState::CatchingUp);
                }
            }
        }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        self.shown.send_modify(change);
    }

    /// Whether it is known already that it fails for this reason.
    fn fails_for(&self, reason: &str) -> bool {
        matches!(&self.shown.borrow().state, FollowState::Failing { reason: known } if known == reason)
    }

    /// Says once that nothing is taken in any more. It is looked again, should the log be put back.
    fn alert_changed(&self, reason: &str) {
        if !self.fails_for(reason) {
            let text = format!("{} takes in nothing more: {reason}", self.parts.of);
            self.parts.diagnostics.alert(self.parts.time.now(), text);
        }
    }

    /// Says once that it fails, not at each attempt.
    fn note_failing(&self, reason: &str) {
        if !self.fails_for(reason) {
            self.note(format!(
                "{} cannot go on, tries again: {reason}",
                self.parts.of
            ));
        }
    }

    /// Takes in everything there is now.
    async fn catch_up(&mut self, kept: &mut Option<ToHead>) -> Round {
        let progress = self.intake.progress().await;
        if let (false, Some(filter)) = (self.is_compared, &self.parts.filter) {
            match compare(&self.parts.log, (&progress.cut, &progress.last), filter).await {
                Ok(()) => self.is_compared = true,
                Err(error @ ReadError::HistoryChanged { .. }) => {
                    return Round::Changed(error.to_string());
                }
                Err(error) => return Round::Failed(error.to_string()),
            }
        }
        let from = progress.cut;
        let mut reading = match self.reading(kept.take(), &from).await {
            Ok(reading) => reading,
            Err(reason) => return Round::Failed(reason),
        };
        let head = reading.head().clone();
        let behind = |cut: &Cut| {
            let missing = head
                .iter()
                .map(|(p, count)| count.saturating_sub(cut.get(p)));
            missing.sum::<u64>()
        };
        let (missing, began) = (behind(&from), self.parts.time.monotonic());
        if missing > 1000 {
            self.show(|shown| shown.state = FollowState::CatchingUp);
        }
        while let Some(batch) = self.next_of(&mut reading).await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(reason) => return Round::Failed(reason),
            };
            let passed = match reading.passed() {
                Some(passed) => self.intake.advance(passed).await,
                None => Ok(()),
            };
            let is_empty = reading.follows() && batch.iter().next().is_none();
            let taken = match (passed, is_empty) {
                (Ok(()), false) => self.take_in(batch).await,
                (passed, _) => passed.map(|()| None),
            };
            let Progress {
                cut,
                events,
                last_at,
                ..
            } = self.intake.progress().await;
            let took = self.parts.time.monotonic().saturating_sub(began);
            let took = took.as_secs_f64();
            let done = missing - behind(&cut).min(missing);
            self.show(|shown| {
                shown.cut.join(&cut);
                // 0: it has taken in nothing yet.
                shown.last_at = (last_at > 0).then(|| Timestamp::from_micros(last_at));
                shown.rate = (took > 0.0).then(|| done as f64 / took);
            });
            match taken {
                Ok(None) => {}
                Ok(Some(poison)) => return Round::Poison(poison),
                Err(error) => return Round::Failed(error.to_string()),
            }
            self.keep_sometimes(events).await;
            if self.intake.fell_back().now_or_never().is_some() {
                return Round::FellBack;
            }
            tokio::task::yield_now().await;
        }
        let head = reading.head().clone();
        if let Err(error) = self.intake.advance(head.clone()).await {
            return Round::Failed(error.to_string());
        }
        self.show(|shown| shown.cut.join(&head));
        *kept = Some(reading);
        Round::CaughtUp
    }

    /// What reads everything that there is now behind `from`.
    async fn reading(&self, kept: Option<ToHead>, from: &Cut) -> Result<ToHead, String> {
        let FollowParts { log, filter, .. } = &self.parts;
        let known = self.parts.head.borrow().clone();
        match filter {
            // Before anything is known of the head, it is asked for.
            Some(filter) if log.is_far() && known != Cut::start() => {
                let again = kept.and_then(|kept| kept.again(from, &known));
                Ok(again.unwrap_or_else(|| ToHead::follow(log, from, filter.clone(), known)))
            }
            _ => ToHead::begin(log, from, filter.clone()).await,
        }
    }

    /// The next events.
    async fn next_of(&self, reading: &mut ToHead) -> Option<Result<EventBatch, String>> {
        let FollowParts {
            log, filter, time, ..
        } = &self.parts;
        while reading.follows() {
            match select(pin!(reading.next()), time.sleep(STALLED)).await {
                Either::Left((batch, _)) => return batch,
                Either::Right(_) => {}
            }
            match ToHead::begin(log, reading.reached(), filter.clone()).await {
                Ok(begun) => *reading = begun,
                Err(reason) => return Some(Err(reason)),
            }
        }
        reading.next().await
    }

    async fn take_in(&mut self, batch: EventBatch) -> Result<Option<PoisonEvent>, StoreError> {
        let mut attempt = 1;
        let mut newer = self.parts.newer.clone();
        loop {
            let Some(poison) = self.intake.apply(batch.clone()).await? else {
                return Ok(None);
            };
            // Who has written it may have said how older programs read it.
            if let Some(asked) = newer.take() {
                match self.learn(&asked).await? {
                    Learnt::News => continue,
                    Learnt::Nothing => {}
                    Learnt::Failed => newer = Some(asked),
                }
            }
            let retry = self.parts.retry;
            if retry.goes_on_after(attempt) {
                let seed = u128::from(poison.position.offset);
                self.parts
                    .time
                    .sleep(retry.delay_after(attempt, seed))
                    .await;
                attempt += 1;
                continue;
            }
            let parked = self.intake.progress().await.parked.len();
            let may_park = self.parts.poison == Poison::Park
                && !poison.stream.is_empty()
                && parked < self.parts.parked_max;
            if !may_park {
                return Ok(Some(poison));
            }
            self.set_aside(poison).await?;
            attempt = 1;
        }
    }

    /// Looks how newer events are read. What the log does not tell to this reader leaves the event as
    /// unreadable as it is: only a log that is away is waited for.
    async fn learn(&self, newer: &NewerTypes) -> Result<Learnt, StoreError> {
        let error = match newer.look().await {
            Ok(news) => {
                for error in news.unreadable {
                    self.note(error.to_string());
                }
                return Ok(match news.is_news {
                    true => Learnt::News,
                    false => Learnt::Nothing,
                });
            }
            Err(error @ ReadError::Unavailable(_)) => return Err(self.failed(error)),
            Err(error) => error,
        };
        let of = &self.parts.of;
        self.note(format!(
            "{of} cannot look how newer events are read: {error}"
        ));
        Ok(match error {
            ReadError::Io { .. } => Learnt::Failed,
            _ => Learnt::Nothing,
        })
    }

    fn failed(&self, reason: impl ToString) -> StoreError {
        StoreError::of(self.parts.of.clone(), reason)
    }

    async fn set_aside(&self, poison: PoisonEvent) -> Result<(), StoreError> {
        let text = format!("{} sets {} aside: {poison}", self.parts.of, poison.stream);
        self.note(text);
        self.intake
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
        let every = self.parts.keep_every;
        if every > 0 && events >= self.kept_at + every {
            self.kept_at = events;
            if let Err(error) = self.intake.keep().await {
                self.note(error.to_string());
            }
        }
    }
}
