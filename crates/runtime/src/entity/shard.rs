//! One shard: the task that owns the entities of its keys.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use anabranch_domain::{CommandId, Entity, EntityInstance, Remembered, StreamId};
use anabranch_log::{AppendError, Appended, BoxFuture, Expect, Rejection};
use anabranch_model::{Cut, Position};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::decide::{append_of, decide, may_join, recorded_as};
use super::load::{LoadError, load};
use super::recall;
use super::rejections::Rejections;
use super::slot::{Ask, Batch, Decided, Durable, Live, Outcome, Slot, State, Verdict};
use super::{Accepted, Shared, Status};
use crate::hash::HashMap;
use crate::panics::contain;
use crate::send_error::SendError;
use crate::snapshot::Snapshot;

/// What reaches a shard.
pub enum Message<E: Entity> {
    Ask(Box<Ask<E>>),
    Status(StreamId, oneshot::Sender<Status>),
    Unpark(StreamId, oneshot::Sender<bool>),
    Parked(oneshot::Sender<Vec<(StreamId, String)>>),
    /// An entity may forget what it remembers for a saga.
    Forget(StreamId, StreamId),
    /// Take nothing more, answer what waits, then end.
    Close,
}

/// How busy a shard is, for those who send to it.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Commands that were taken and are not answered.
    held: AtomicUsize,
    /// How long an answer takes, about, in microseconds.
    latency_micros: AtomicU64,
    /// Entities in memory.
    live: AtomicUsize,
    /// How much memory they take, about.
    bytes: AtomicUsize,
}

impl Gauge {
    pub fn overloaded(&self, queued: usize) -> SendError {
        let micros = self.latency_micros.load(Ordering::Relaxed);
        SendError::Overloaded {
            waiting: queued + self.held.load(Ordering::Relaxed),
            retry_after: Duration::from_micros(micros.clamp(1_000, 1_000_000)),
        }
    }

    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Something that the shard has waited for.
enum Done<E: Entity> {
    Loaded(StreamId, Result<Box<Live<E>>, LoadError>),
    Appended(StreamId, Result<Appended, AppendError>),
    Rested(StreamId),
    Answer(Box<Ask<E>>, Outcome),
    Nothing,
}

enum Turn<E: Entity> {
    Done(Done<E>),
    Message(Option<Message<E>>),
}

/// An entity that leaves memory is kept in a snapshot if it has this many events behind its
/// newest one.
const PASSIVATION_EVENTS_MIN: u64 = 32;
/// How many messages are taken before events are sent to the log.
const MESSAGES_AT_ONCE: usize = 256;

pub struct Shard<E: Entity> {
    shared: Arc<Shared<E>>,
    gauge: Arc<Gauge>,
    slots: HashMap<StreamId, Slot<E>>,
    jobs: FuturesUnordered<BoxFuture<'static, Done<E>>>,
    /// Commands that were taken and are not answered; who else waits for them.
    unanswered: HashMap<CommandId, (StreamId, Vec<oneshot::Sender<Outcome>>)>,
    rejections: Rejections,
    /// Entities that have decided something that is not sent.
    eager: Vec<StreamId>,
    /// Every slot once: the evictor goes round.
    round: VecDeque<StreamId>,
    live: usize,
    bytes: usize,
}

/// Takes commands until the inbox ends or says so, and all are answered.
pub async fn run<E: Entity>(
    shared: Arc<Shared<E>>,
    gauge: Arc<Gauge>,
    inbox: &mut mpsc::Receiver<Message<E>>,
) {
    let mut shard = Shard {
        rejections: Rejections::new(shared.options.rejections_max),
        shared,
        gauge,
        slots: HashMap::default(),
        jobs: FuturesUnordered::new(),
        unanswered: HashMap::default(),
        eager: Vec::new(),
        round: VecDeque::new(),
        live: 0,
        bytes: 0,
    };
    let mut open = true;
    while open || !shard.jobs.is_empty() {
        let mut turn = shard.turn(inbox, open).await;
        let mut taken = 0;
        loop {
            match turn {
                Turn::Message(Some(Message::Close)) => inbox.close(),
                Turn::Message(Some(message)) => shard.receive(message),
                Turn::Message(None) => open = false,
                Turn::Done(done) => shard.finish_job(done),
            }
            taken += 1;
            if taken == MESSAGES_AT_ONCE {
                break;
            }
            // What is at hand now is decided before anything is sent: larger batches.
            turn = match inbox.try_recv() {
                Ok(message) if shard.has_room() => Turn::Message(Some(message)),
                Ok(message) => {
                    shard.receive(message);
                    break;
                }
                Err(_) => break,
            };
        }
        shard.send_decided();
        shard.evict();
        shard.report();
    }
}

impl<E: Entity> Shard<E> {
    /// Waits for the next thing to do. Leaves commands in the mailbox when too many wait for
    /// their answer, so that the mailbox fills and says so.
    async fn turn(&mut self, inbox: &mut mpsc::Receiver<Message<E>>, open: bool) -> Turn<E> {
        poll_fn(|cx| {
            if !self.jobs.is_empty()
                && let Poll::Ready(Some(done)) = self.jobs.poll_next_unpin(cx)
            {
                return Poll::Ready(Turn::Done(done));
            }
            if open && self.has_room() {
                return inbox.poll_recv(cx).map(Turn::Message);
            }
            Poll::Pending
        })
        .await
    }

    fn has_room(&self) -> bool {
        self.unanswered.len() < self.shared.options.mailbox_max
    }

    fn receive(&mut self, message: Message<E>) {
        match message {
            Message::Ask(ask) => self.admit(ask),
            // Nobody waits for an answer that nobody takes.
            Message::Status(stream, reply) => drop(reply.send(self.status(&stream))),
            Message::Unpark(stream, reply) => drop(reply.send(self.unpark(&stream))),
            Message::Parked(reply) => {
                let parked = self
                    .slots
                    .iter()
                    .filter_map(|(stream, slot)| match &slot.state {
                        State::Parked { reason } => Some((stream.clone(), reason.clone())),
                        _ => None,
                    });
                drop(reply.send(parked.collect()));
            }
            Message::Forget(stream, saga) => {
                if let Some(slot) = self.slots.get_mut(&stream)
                    && let State::Live(live) = &mut slot.state
                {
                    live.entity.forget(&saga);
                }
            }
            Message::Close => {}
        }
    }

    fn admit(&mut self, ask: Box<Ask<E>>) {
        let id_taken = |other: &StreamId| {
            Err(SendError::IdTaken {
                id: ask.id,
                stream: other.to_string(),
            })
        };
        if let Some((stream, rejection)) = self.rejections.get(ask.id) {
            let outcome = if *stream == ask.stream {
                Err(rejection.clone())
            } else {
                id_taken(stream)
            };
            drop(ask.reply.send(outcome));
            return;
        }
        if let Some((stream, also)) = self.unanswered.get_mut(&ask.id) {
            if *stream == ask.stream {
                also.push(ask.reply);
            } else {
                let outcome = id_taken(stream);
                drop(ask.reply.send(outcome));
            }
            return;
        }
        self.unanswered
            .insert(ask.id, (ask.stream.clone(), Vec::new()));
        let stream = ask.stream.clone();
        let slot = match self.slots.get_mut(&stream) {
            Some(slot) => slot,
            None => {
                self.round.push_back(stream.clone());
                self.slots.entry(stream.clone()).or_insert_with(Slot::idle)
            }
        };
        slot.used = true;
        if let State::Parked { reason } = &slot.state {
            let reason = reason.clone();
            return self.answer(ask, Err(SendError::Parked { stream, reason }));
        }
        if slot.waiting.len() >= self.shared.options.waiting_max {
            let overloaded = self.gauge.overloaded(0);
            return self.answer(ask, Err(overloaded));
        }
        slot.waiting.push_back(ask);
        match slot.state {
            State::Idle => self.start_loading(&stream),
            _ => self.decide_waiting(&stream),
        }
    }

    fn status(&self, stream: &StreamId) -> Status {
        match self
            .slots
            .get(stream)
            .map(|slot| (&slot.state, slot.strikes))
        {
            None | Some((State::Idle, _)) => Status::Idle,
            Some((State::Loading, _)) => Status::Loading,
            Some((State::Live(_), _)) => Status::Live,
            Some((State::Restarting { reason }, attempt)) => Status::Restarting {
                reason: reason.clone(),
                attempt,
            },
            Some((State::Parked { reason }, _)) => Status::Parked {
                reason: reason.clone(),
            },
        }
    }

    fn unpark(&mut self, stream: &StreamId) -> bool {
        match self.slots.get_mut(stream) {
            Some(slot) if matches!(slot.state, State::Parked { .. }) => {
                slot.strikes = 0;
                slot.state = State::Idle;
                true
            }
            _ => false,
        }
    }

    fn finish_job(&mut self, done: Done<E>) {
        match done {
            Done::Loaded(stream, loaded) => self.loaded(&stream, loaded),
            Done::Appended(stream, result) => self.appended(&stream, result),
            Done::Rested(stream) => self.start_loading(&stream),
            Done::Answer(ask, outcome) => self.answer(ask, outcome),
            Done::Nothing => {}
        }
    }

    #[expect(
        clippy::boxed_local,
        reason = "commands live in boxes; taking one out to drop it would copy it"
    )]
    fn answer(&mut self, ask: Box<Ask<E>>, outcome: Outcome) {
        let now = self.shared.time.monotonic();
        let took = now.saturating_sub(ask.arrived).as_micros() as u64;
        let before = self.gauge.latency_micros.load(Ordering::Relaxed);
        let smoothed = before - before / 8 + took / 8;
        self.gauge.latency_micros.store(smoothed, Ordering::Relaxed);
        self.rejections
            .remember(ask.id, &ask.role, &ask.stream, &outcome);
        // Who no longer listens does not want the answer.
        if let Some((_, also)) = self.unanswered.remove(&ask.id) {
            for reply in also {
                drop(reply.send(repeated(outcome.clone())));
            }
        }
        drop(ask.reply.send(outcome));
    }

    // Deciding.

    /// Decides what waits at an entity, as far as that is possible now.
    fn decide_waiting(&mut self, stream: &StreamId) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let State::Live(live) = &mut slot.state else {
            return;
        };
        let mut expired = Vec::new();
        while live.broken.is_none()
            && let Some(next) = slot.waiting.front()
            && may_join(live, next)
        {
            let Some(ask) = slot.waiting.pop_front() else {
                break;
            };
            if self.shared.time.monotonic() >= ask.deadline {
                expired.push(ask);
            } else if let Err(ask) = decide(&self.shared, live, ask) {
                slot.waiting.push_front(ask);
                break;
            }
        }
        if live.flight.is_none() && !live.open.is_empty() {
            self.eager.push(stream.clone());
        }
        for ask in expired {
            self.answer(ask, Err(SendError::Expired));
        }
    }

    /// Sends what was decided, of each entity that has nothing in flight.
    fn send_decided(&mut self) {
        while let Some(stream) = self.eager.pop() {
            self.send_batch(&stream);
        }
    }

    fn send_batch(&mut self, stream: &StreamId) {
        let Some(Slot {
            state: State::Live(live),
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        if live.flight.is_some() || live.open.is_empty() {
            return;
        }
        let mut batch = std::mem::replace(&mut live.open, Batch::new());
        if batch.events.is_empty() {
            let durable = live.durable;
            self.answer_batch(batch, durable, None);
            return self.rest_or_go_on(stream);
        }
        let options = &self.shared.options;
        if live.broken.is_none()
            && options.snapshot_every > 0
            && live.event_count() - live.snapshot_at >= options.snapshot_every
        {
            batch.snapshot = serialize(&live.entity);
        }
        batch.sent = 1;
        let append = append_of(stream, live.durable, &batch);
        live.flight = Some(Box::new(batch));
        let (log, stream) = (self.shared.log.clone(), stream.clone());
        self.jobs.push(Box::pin(async move {
            let result = log.append(append).await;
            Done::Appended(stream, result)
        }));
    }

    // What comes back from the log.

    fn appended(&mut self, stream: &StreamId, result: Result<Appended, AppendError>) {
        let Some(Slot {
            state: State::Live(live),
            strikes,
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        let Some(batch) = live.flight.take().map(|flight| *flight) else {
            return;
        };
        let next_version = live.durable.map_or(0, |durable| durable.version + 1);
        match result {
            Ok(appended)
                if appended.places.len() == batch.events.len()
                    && appended.places[0].version == next_version =>
            {
                *strikes = 0;
                self.confirm(stream, batch, &appended);
            }
            Ok(appended) => self.done_before(stream, batch, &appended),
            Err(AppendError::Conflict { .. }) => self.lost_race(stream, batch),
            Err(AppendError::Rejected(
                Rejection::IdTaken { id, position } | Rejection::PartlyWritten { id, position },
            )) => {
                let has_it = |decided: &Decided<E>| match &decided.verdict {
                    Verdict::Events(range) => {
                        batch.events[range.clone()].iter().any(|e| e.id == id)
                    }
                    _ => false,
                };
                let repeated = batch.decided.iter().position(has_it);
                self.roll_back(stream, batch, |i, _| match repeated {
                    Some(index) if index == i => Fate::Recall(position),
                    _ => Fate::Again,
                });
            }
            Err(AppendError::Rejected(why)) => {
                let single = batch.decided.len() == 1;
                self.roll_back(stream, batch, |_, ask| {
                    if single {
                        return Fate::Answer(SendError::Invalid(why.to_string()));
                    }
                    ask.alone = true;
                    Fate::Again
                });
            }
            Err(AppendError::Unknown { reason }) => self.unknown(stream, batch, reason),
            // After an attempt of unknown outcome, that the next one did nothing says nothing.
            Err(AppendError::Unavailable { reason, .. }) if batch.sent > 1 => {
                self.unknown(stream, batch, reason);
            }
            Err(AppendError::Unavailable {
                reason,
                retry_after,
            }) => self.unavailable(stream, batch, reason, retry_after),
            Err(error @ AppendError::Matched { .. }) => {
                self.unavailable(stream, batch, error.to_string(), None);
            }
        }
    }

    /// The batch is durable, where memory has it.
    fn confirm(&mut self, stream: &StreamId, mut batch: Batch<E>, appended: &Appended) {
        let Some(Slot {
            state: State::Live(live),
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        let (Some(place), Some(event)) = (appended.places.last(), batch.events.last()) else {
            return;
        };
        let durable = Durable {
            version: place.version,
            position: place.position,
            id: event.id,
        };
        live.durable = Some(durable);
        if let Some(state) = batch.snapshot.take() {
            live.snapshot_at = durable.version + 1;
            save_snapshot(&self.shared, &mut self.jobs, stream, durable, state);
        }
        if live.broken.is_none() && live.event_count() >= live.measure_at {
            let before = live.bytes;
            measure(live, stream);
            self.bytes = self.bytes + live.bytes - before;
        }
        self.answer_batch(batch, Some(durable), Some(appended));
        self.rest_or_go_on(stream);
    }

    /// Answers a batch whose events, if any, are durable.
    fn answer_batch(
        &mut self,
        batch: Batch<E>,
        durable: Option<Durable>,
        appended: Option<&Appended>,
    ) {
        let Batch {
            events, decided, ..
        } = batch;
        let places = appended.map_or(&[][..], |appended| &appended.places);
        for Decided { ask, verdict } in decided {
            let range = verdict.events();
            let accepted = |version, position: Option<Position>| {
                let mut token = ask.causes.clone();
                if let Some(position) = position {
                    token.join(&Cut::including(position));
                }
                Accepted {
                    events: Vec::new(),
                    version,
                    token,
                    repeated: false,
                }
            };
            if !range.is_empty() {
                let places = &places[range.clone()];
                let last = places.last();
                let mut accepted = accepted(last.map(|p| p.version), last.map(|p| p.position));
                let outcome = match verdict {
                    Verdict::Noted(_, outcome) => outcome.map_err(SendError::Rejected),
                    _ => {
                        let recorded = events[range].iter().zip(places);
                        accepted.events = recorded.map(|(e, p)| recorded_as(e, *p)).collect();
                        Ok(())
                    }
                };
                self.answer(ask, outcome.map(|()| accepted));
                continue;
            }
            let outcome = match verdict {
                Verdict::Events(_) | Verdict::Noted(..) => Ok(accepted(
                    durable.map(|durable| durable.version),
                    durable.map(|durable| durable.position),
                )),
                Verdict::Rejected(rejection) | Verdict::Repeat(Remembered::Refused(rejection)) => {
                    Err(SendError::Rejected(rejection))
                }
                Verdict::Repeat(Remembered::Recorded(versions)) => {
                    let log = self.shared.log.clone();
                    self.jobs.push(Box::pin(async move {
                        let recalled = recall::recall_versions(&log, &ask.stream, versions).await;
                        Done::Answer(ask, recalled)
                    }));
                    continue;
                }
                Verdict::OtherVersion(actual) => Err(SendError::VersionMismatch {
                    stream: ask.stream.clone(),
                    expected: ask.expect.unwrap_or(Expect::Any),
                    actual,
                }),
                Verdict::Failed(error) => Err(error),
            };
            match durable {
                // An empty stream has recorded no command.
                None => self.answer(ask, outcome),
                Some(_) => self.answer_unless_done_before(ask, outcome),
            }
        }
    }

    /// Answers a command that records nothing now, unless it has recorded something before.
    fn answer_unless_done_before(&mut self, ask: Box<Ask<E>>, outcome: Outcome) {
        let log = self.shared.log.clone();
        self.jobs.push(Box::pin(async move {
            let outcome = match recall::find(&log, &ask.stream, ask.id).await {
                Ok(None) => outcome,
                Ok(Some(position)) => recall::recall(&log, &ask.stream, ask.id, position).await,
                Err(error) => Err(error),
            };
            Done::Answer(ask, outcome)
        }));
    }

    /// The events had been written before, so memory now has them twice.
    fn done_before(&mut self, stream: &StreamId, batch: Batch<E>, appended: &Appended) {
        let firsts: Vec<Option<Position>> = batch
            .decided
            .iter()
            .map(|decided| {
                let range = decided.verdict.events();
                let first = appended.places.get(range.start);
                first.filter(|_| !range.is_empty()).map(|p| p.position)
            })
            .collect();
        self.roll_back(stream, batch, |i, _| match firsts[i] {
            Some(position) => Fate::Recall(position),
            None => Fate::Again,
        });
    }

    /// Somebody else has written to the stream.
    fn lost_race(&mut self, stream: &StreamId, batch: Batch<E>) {
        let attempts_max = self.shared.options.contended_attempts_max;
        let name = stream.clone();
        self.roll_back(stream, batch, |_, ask| {
            ask.attempts += 1;
            if ask.attempts < attempts_max {
                return Fate::Again;
            }
            Fate::Answer(SendError::Contended {
                stream: name.clone(),
                attempts: ask.attempts,
            })
        });
    }

    fn unknown(&mut self, stream: &StreamId, mut batch: Batch<E>, reason: String) {
        let Some(Slot {
            state: State::Live(live),
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        if batch.sent >= self.shared.options.unknown_attempts_max {
            let unavailable = SendError::Unavailable {
                reason: reason.clone(),
                retry_after: None,
            };
            self.drop_open(stream, &unavailable);
            return self.roll_back(stream, batch, |_, _| {
                Fate::Answer(SendError::Unknown {
                    reason: reason.clone(),
                })
            });
        }
        let wait =
            anabranch_domain::Retry::DEFAULT.delay_after(batch.sent, self.shared.time.random());
        batch.sent += 1;
        let append = append_of(stream, live.durable, &batch);
        live.flight = Some(Box::new(batch));
        let (log, stream) = (self.shared.log.clone(), stream.clone());
        let rest = self.shared.time.sleep(wait);
        self.jobs.push(Box::pin(async move {
            rest.await;
            let result = log.append(append).await;
            Done::Appended(stream, result)
        }));
    }

    fn unavailable(
        &mut self,
        stream: &StreamId,
        batch: Batch<E>,
        reason: String,
        retry_after: Option<Duration>,
    ) {
        let error = SendError::Unavailable {
            reason,
            retry_after,
        };
        self.drop_open(stream, &error);
        self.roll_back(stream, batch, |_, _| Fate::Answer(error.clone()));
    }

    /// Answers everything that was decided behind a batch and not sent.
    fn drop_open(&mut self, stream: &StreamId, error: &SendError) {
        if let Some(Slot {
            state: State::Live(live),
            ..
        }) = self.slots.get_mut(stream)
        {
            let open = std::mem::replace(&mut live.open, Batch::new());
            for Decided { ask, .. } in open.decided {
                self.answer(ask, Err(error.clone()));
            }
        }
    }

    /// Drops the entity's memory, because what `batch` decided does not hold. `fate` says what
    /// becomes of each of its commands; what was decided behind it is decided again.
    fn roll_back(
        &mut self,
        stream: &StreamId,
        batch: Batch<E>,
        mut fate: impl FnMut(usize, &mut Ask<E>) -> Fate,
    ) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let state = std::mem::replace(&mut slot.state, State::Idle);
        let (mut behind, mut broken) = (Batch::new(), None);
        if let State::Live(live) = state {
            self.live -= 1;
            self.bytes -= live.bytes;
            behind = live.open;
            broken = live.broken;
        }
        let mut again = Vec::new();
        let mut answers = Vec::new();
        for (i, Decided { mut ask, .. }) in batch.decided.into_iter().enumerate() {
            match fate(i, &mut ask) {
                Fate::Again => again.push(ask),
                Fate::Answer(error) => answers.push((ask, error)),
                Fate::Recall(position) => {
                    let log = self.shared.log.clone();
                    self.jobs.push(Box::pin(async move {
                        let recalled = recall::recall(&log, &ask.stream, ask.id, position).await;
                        Done::Answer(ask, recalled)
                    }));
                }
            }
        }
        again.extend(behind.decided.into_iter().map(|decided| decided.ask));
        for ask in again.into_iter().rev() {
            slot.waiting.push_front(ask);
        }
        let wanted = !slot.waiting.is_empty();
        for (ask, error) in answers {
            self.answer(ask, Err(error));
        }
        match broken {
            Some(reason) => self.strike(stream, reason),
            None if wanted => self.start_loading(stream),
            None => {}
        }
    }

    /// After a batch: decides what waits, or restarts the entity if its code has panicked.
    fn rest_or_go_on(&mut self, stream: &StreamId) {
        self.decide_waiting(stream);
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        if let State::Live(live) = &mut slot.state
            && live.flight.is_none()
            && live.open.is_empty()
            && let Some(reason) = live.broken.take()
        {
            self.live -= 1;
            self.bytes -= live.bytes;
            slot.state = State::Idle;
            self.strike(stream, reason);
        }
    }

    // Loading, restarting, parking, leaving.

    fn start_loading(&mut self, stream: &StreamId) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        slot.state = State::Loading;
        let (shared, stream) = (self.shared.clone(), stream.clone());
        self.jobs.push(Box::pin(async move {
            let loaded = load(&shared, &stream).await;
            Done::Loaded(stream, loaded.map(Box::new))
        }));
    }

    fn loaded(&mut self, stream: &StreamId, loaded: Result<Box<Live<E>>, LoadError>) {
        match loaded {
            Ok(mut live) => {
                measure(&mut live, stream);
                self.live += 1;
                self.bytes += live.bytes;
                if let Some(slot) = self.slots.get_mut(stream) {
                    slot.state = State::Live(live);
                }
                self.decide_waiting(stream);
            }
            Err(LoadError::Read(error)) => {
                let reason = format!("the events of {stream} cannot be read: {error}");
                self.refuse_waiting(stream, State::Idle, || SendError::Unavailable {
                    reason: reason.clone(),
                    retry_after: None,
                });
            }
            Err(LoadError::Unreadable(reason)) => self.park(stream, reason),
            Err(LoadError::Panicked(reason)) => self.strike(stream, reason),
        }
    }

    /// The entity's code has panicked: it rests, or is parked when that happens too often.
    fn strike(&mut self, stream: &StreamId, reason: String) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        slot.strikes += 1;
        let (strikes, restart) = (slot.strikes, self.shared.options.restart);
        if !restart.goes_on_after(strikes) {
            let reason = format!("its code panicked {strikes} times: {reason}");
            return self.park(stream, reason);
        }
        slot.state = State::Restarting { reason };
        let rest = self
            .shared
            .time
            .sleep(restart.delay_after(strikes, self.shared.time.random()));
        let stream = stream.clone();
        self.jobs.push(Box::pin(async move {
            rest.await;
            Done::Rested(stream)
        }));
    }

    fn park(&mut self, stream: &StreamId, reason: String) {
        self.shared.diagnostics.add(
            self.shared.time.now(),
            format!("{stream} is parked: {reason}. Mend the cause and un-park it"),
        );
        let state = State::Parked {
            reason: reason.clone(),
        };
        self.refuse_waiting(stream, state, || SendError::Parked {
            stream: stream.clone(),
            reason: reason.clone(),
        });
    }

    fn refuse_waiting(
        &mut self,
        stream: &StreamId,
        state: State<E>,
        error: impl Fn() -> SendError,
    ) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        slot.state = state;
        for ask in std::mem::take(&mut slot.waiting) {
            self.answer(ask, Err(error()));
        }
    }

    /// Lets idle entities leave until the rest fits into the budget: those first that were not
    /// used since the evictor last came by.
    fn evict(&mut self) {
        let budget = self.shared.options.memory_max / self.shared.options.shards.max(1);
        let mut looks = self.round.len() * 2;
        while self.bytes > budget && looks > 0 {
            looks -= 1;
            let Some(stream) = self.round.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get_mut(&stream) else {
                continue;
            };
            let used = std::mem::take(&mut slot.used);
            match &slot.state {
                State::Live(live) if live.is_idle() && slot.waiting.is_empty() && !used => {
                    if live.event_count() - live.snapshot_at >= PASSIVATION_EVENTS_MIN
                        && self.shared.options.snapshot_every > 0
                        && let (Some(durable), Some(state)) =
                            (live.durable, serialize(&live.entity))
                    {
                        save_snapshot(&self.shared, &mut self.jobs, &stream, durable, state);
                    }
                    self.live -= 1;
                    self.bytes -= live.bytes;
                    self.slots.remove(&stream);
                }
                State::Idle if slot.waiting.is_empty() && !used => {
                    self.slots.remove(&stream);
                }
                _ => self.round.push_back(stream),
            }
        }
    }

    fn report(&self) {
        let gauge = &self.gauge;
        gauge.held.store(self.unanswered.len(), Ordering::Relaxed);
        gauge.live.store(self.live, Ordering::Relaxed);
        gauge.bytes.store(self.bytes, Ordering::Relaxed);
    }
}

/// What becomes of a command whose decision does not hold.
enum Fate {
    /// It is decided again.
    Again,
    Answer(SendError),
    /// It was done before; its first event stands here.
    Recall(Position),
}

fn serialize<E: Entity>(entity: &EntityInstance<E>) -> Option<Vec<u8>> {
    contain(|| serde_json::to_vec(entity).ok()).ok().flatten()
}

/// Estimates the memory that an entity takes: what it is itself, and the length of its JSON
/// for what it holds.
fn measure<E: Entity>(live: &mut Live<E>, stream: &StreamId) {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // An entity that cannot be written as JSON is taken for its bare size.
    drop(contain(|| {
        serde_json::to_writer(&mut count, &live.entity).is_ok()
    }));
    let fixed = size_of::<Live<E>>() + size_of::<Slot<E>>() + 3 * stream.as_str().len();
    live.bytes = fixed + count.0;
    live.measure_at = (live.event_count() * 2).max(8);
}

fn save_snapshot<E: Entity>(
    shared: &Arc<Shared<E>>,
    jobs: &mut FuturesUnordered<BoxFuture<'static, Done<E>>>,
    stream: &StreamId,
    durable: Durable,
    state: Vec<u8>,
) {
    let snapshot = Snapshot {
        fingerprint: shared.fingerprint,
        version: durable.version,
        last_event: durable.id,
        state,
    };
    let (shared, stream) = (shared.clone(), stream.clone());
    jobs.push(Box::pin(async move {
        if let Err(error) = shared.snapshots.save(&stream, snapshot).await {
            shared.diagnostics.add(shared.time.now(), error.to_string());
        }
        Done::Nothing
    }));
}

fn repeated(outcome: Outcome) -> Outcome {
    outcome.map(|accepted| Accepted {
        repeated: true,
        ..accepted
    })
}
