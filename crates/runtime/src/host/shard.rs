//! One shard: the task that owns the machines of its keys.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use anabranch_domain::{CommandId, StreamId};
use anabranch_log::{AppendError, Appended, BoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::item::{Item, Key, Outcome};
use super::load::LoadError;
use super::shared::Shared;
use super::slot::{Flight, Known, Live, Slot, State};
use super::status::{InstanceStatus, Status};
use super::timers::Timers;
use crate::hash::HashMap;
use crate::send_error::SendError;

/// What reaches a shard.
pub enum Message {
    Input(StreamId, Box<Item>),
    /// Do this between two inputs.
    Do(Box<dyn FnOnce(&mut Shard) + Send>),
    /// Take nothing more, write what is decided, then end.
    Close,
}

/// A stream, as a read of many streams finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// How many events it has.
    pub length: u64,
    /// Whether its last event says that the machine has ended.
    pub has_ended: bool,
}

/// How busy a shard is, for those who send to it.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Commands that were taken and are not answered.
    held: AtomicUsize,
    /// How long an answer takes, about, in microseconds.
    pub latency_micros: AtomicU64,
    /// Machines in memory.
    pub live: AtomicUsize,
    /// How much memory they take, about.
    pub bytes: AtomicUsize,
}

impl Gauge {
    pub fn overloaded(&self, queued: usize) -> SendError {
        let micros = self.latency_micros.load(Ordering::Relaxed);
        SendError::Overloaded {
            waiting: queued + self.held.load(Ordering::Relaxed),
            retry_after: Duration::from_micros(micros.clamp(1_000, 1_000_000)),
        }
    }
}

/// Something that the shard has waited for.
pub enum Done {
    Loaded(StreamId, Box<Result<Live, LoadError>>),
    Appended(Flight, Result<Appended, AppendError>),
    Rested(StreamId),
    Answer(Box<Item>, Outcome),
    Saved,
}

enum Turn {
    Done(Done),
    Message(Option<Message>),
    Timers,
}

/// How many messages are taken before events are sent to the log.
const MESSAGES_AT_ONCE: usize = 256;

pub struct Shard {
    pub shared: Arc<Shared>,
    pub gauge: Arc<Gauge>,
    pub slots: HashMap<StreamId, Slot>,
    pub jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// How many of the jobs have to end before the shard may.
    pub duties: usize,
    /// Commands that were taken and are not answered; who else waits for them.
    pub unanswered: HashMap<CommandId, (Key, Vec<oneshot::Sender<Outcome>>)>,
    /// Machines that have decided something that is not sent.
    pub eager: Vec<StreamId>,
    /// For so many turns the events of each machine are sent by themselves.
    pub apart: u32,
    /// Machines that are to be read.
    pub to_load: VecDeque<StreamId>,
    /// How many are being read.
    pub loading: usize,
    /// Every slot once: the evictor goes round.
    pub round: VecDeque<StreamId>,
    pub live: usize,
    pub bytes: usize,
    /// Machines that have not ended.
    pub open: HashMap<StreamId, Known>,
    /// What is handed out in an earlier round of the feed was meant for a shard that is gone.
    pub from_round: u64,
    pub timers: Timers,
}

/// Takes inputs until the inbox ends or says so, and all are answered or durable.
pub async fn run(
    shared: Arc<Shared>,
    gauge: Arc<Gauge>,
    inbox: &mut mpsc::Receiver<Message>,
    from_round: u64,
) {
    let mut shard = Shard {
        shared,
        gauge,
        slots: HashMap::default(),
        jobs: FuturesUnordered::new(),
        duties: 0,
        unanswered: HashMap::default(),
        eager: Vec::new(),
        apart: 0,
        to_load: VecDeque::new(),
        loading: 0,
        round: VecDeque::new(),
        live: 0,
        bytes: 0,
        open: HashMap::default(),
        from_round,
        timers: Timers::default(),
    };
    let mut listening = true;
    while listening || shard.duties > 0 || !shard.unanswered.is_empty() {
        let mut turn = shard.turn(inbox, listening).await;
        let mut taken = 0;
        loop {
            match turn {
                Turn::Message(Some(Message::Close)) => inbox.close(),
                Turn::Message(Some(Message::Input(stream, item))) => shard.take(&stream, item),
                Turn::Message(Some(Message::Do(work))) => work(&mut shard),
                Turn::Message(None) => listening = false,
                Turn::Done(done) => shard.finish(done),
                Turn::Timers => shard.fire_timers(),
            }
            taken += 1;
            if taken == MESSAGES_AT_ONCE || !shard.has_room() {
                break;
            }
            // What is at hand now is decided before anything is sent: larger batches.
            turn = match inbox.try_recv() {
                Ok(message) => Turn::Message(Some(message)),
                Err(_) => match shard.jobs.next().now_or_never() {
                    Some(Some(done)) => Turn::Done(done),
                    _ => break,
                },
            };
        }
        shard.send_decided();
        shard.evict();
        shard.report();
    }
}

/// A machine has not ended, and so much is known of it.
pub fn learn_open(open: &mut HashMap<StreamId, Known>, stream: &StreamId, known: Known) {
    *open.entry_ref(stream).or_default() = known;
}

impl Shard {
    /// Waits for the next thing to do. Leaves messages in the mailbox when too many commands
    /// wait for their answer, so that the mailbox fills and says so.
    async fn turn(&mut self, inbox: &mut mpsc::Receiver<Message>, listening: bool) -> Turn {
        self.timers.set_alarm(&self.shared.time);
        poll_fn(|cx| {
            if !self.jobs.is_empty()
                && let Poll::Ready(Some(done)) = self.jobs.poll_next_unpin(cx)
            {
                return Poll::Ready(Turn::Done(done));
            }
            if let Some((_, sleep)) = &mut self.timers.sleep
                && sleep.poll_unpin(cx).is_ready()
            {
                self.timers.sleep = None;
                return Poll::Ready(Turn::Timers);
            }
            if listening && self.has_room() {
                return inbox.poll_recv(cx).map(Turn::Message);
            }
            Poll::Pending
        })
        .await
    }

    fn has_room(&self) -> bool {
        self.unanswered.len() < self.shared.options.mailbox_max
    }

    fn fire_timers(&mut self) {
        let now = self.shared.time.now();
        while let Some((stream, due)) = self.timers.next_due(now) {
            match due {
                Some(input) => self.take(&stream, Item::plain(input)),
                None => self.resume(&stream),
            }
        }
    }

    fn finish(&mut self, done: Done) {
        if !matches!(done, Done::Loaded(..) | Done::Rested(_)) {
            self.duties -= 1;
        }
        match done {
            Done::Loaded(stream, loaded) => self.loaded(&stream, *loaded),
            Done::Appended(flight, result) => self.appended(flight, result),
            Done::Rested(stream) => {
                let state = self.slots.get(&stream).map(|slot| &slot.state);
                if matches!(state, Some(State::Resting(_))) {
                    self.start_loading(&stream);
                }
            }
            Done::Answer(item, outcome) => self.answer(*item, outcome),
            Done::Saved => {}
        }
    }

    pub fn slot(&mut self, stream: &StreamId) -> &mut Slot {
        self.slots.entry_ref(stream).or_insert_with(|| {
            self.round.push_back(stream.clone());
            Slot::default()
        })
    }

    fn take(&mut self, stream: &StreamId, item: Box<Item>) {
        let Some(item) = self.admit(stream, item) else {
            return;
        };
        let (shard_from, waiting_max) = (self.from_round, self.shared.options.waiting_max);
        let slot = self.slot(stream);
        slot.used = true;
        let from_round = slot.from_round.max(shard_from);
        if item.ticket.as_ref().is_some_and(|t| t.round() < from_round) {
            // Dropped, the event is given back, and comes again in its place.
            return;
        }
        let refused = match &slot.state {
            State::Parked(reason) => SendError::Parked {
                stream: stream.clone(),
                reason: reason.to_string(),
            },
            _ if item.is_told() && slot.waiting.len() >= waiting_max => self.gauge.overloaded(0),
            state => {
                let is_idle = matches!(state, State::Idle);
                slot.waiting.push_back(item);
                return match is_idle {
                    true => self.start_loading(stream),
                    false => self.decide_waiting(stream),
                };
            }
        };
        self.answer(*item, Err(refused));
    }

    /// A machine may forget what it remembers for a saga.
    pub fn forget(&mut self, stream: &StreamId, saga: &StreamId) {
        if let Some(live) = self.slots.get_mut(stream).and_then(Slot::live) {
            live.machine.forget(saga);
        }
    }

    /// A machine has not ended, and waits for nothing.
    pub fn learn_idle(&mut self, stream: StreamId) {
        self.open.entry(stream).or_default();
    }

    /// Everything that a machine has sent and that is not answered is sent again.
    pub fn resume(&mut self, stream: &StreamId) {
        let slot = self.slot(stream);
        slot.resume = true;
        match &slot.state {
            State::Idle => self.start_loading(stream),
            // Busy, it is loaded again as soon as what it has decided is durable.
            State::Live(live) if live.is_idle() => self.start_loading(stream),
            _ => {}
        }
    }

    /// A stream has grown: another runtime may have taken a machine further than is known here.
    pub fn learn(&mut self, stream: &StreamId, touched: Touched) {
        let known = self.open.get_mut(stream);
        if known.as_ref().is_some_and(|k| k.length >= touched.length) {
            return;
        }
        if touched.has_ended {
            self.open.remove(stream);
            return;
        }
        if let Some(known) = known {
            *known = Known {
                length: touched.length,
                waiting: true,
            };
            return self.resume_later(stream);
        }
        // Unknown, or ended here in the meantime: its stream tells.
        if matches!(self.slot(stream).state, State::Idle) {
            self.start_loading(stream);
        }
    }

    /// The machines that have not ended, or may not have.
    pub fn known(&self) -> Vec<(StreamId, Known)> {
        let mut known = self.open.clone();
        for (stream, _) in self.slots.iter().filter(|(_, slot)| !slot.is_idle()) {
            known.entry(stream.clone()).or_default().waiting = true;
        }
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        known
    }

    /// The machines that have not ended, and those that are parked.
    pub fn list(&self) -> Vec<InstanceStatus> {
        let slots = self.slots.iter();
        let parked = slots.filter(|(_, slot)| matches!(slot.state, State::Parked(_)));
        let parked = parked.map(|(stream, _)| stream);
        let streams: std::collections::BTreeSet<_> = self.open.keys().chain(parked).collect();
        let status = |stream: &StreamId| {
            let (parked, description) = match self.slots.get(stream).map(|slot| &slot.state) {
                Some(State::Parked(reason)) => (Some(reason.to_string()), None),
                Some(State::Live(live)) => (None, live.described().ok()),
                _ => (None, None),
            };
            InstanceStatus {
                stream: stream.clone(),
                parked,
                description,
            }
        };
        streams.into_iter().map(status).collect()
    }

    pub fn status(&mut self, stream: &StreamId) -> Status {
        let Some(slot) = self.slots.get(stream) else {
            return Status::Idle;
        };
        match &slot.state {
            State::Idle => Status::Idle,
            State::Loading => Status::Loading,
            State::Live(_) => Status::Live,
            State::Resting(reason) => Status::Restarting {
                reason: reason.to_string(),
                attempt: slot.strikes,
            },
            State::Parked(reason) => Status::Parked {
                reason: reason.to_string(),
            },
        }
    }

    fn report(&self) {
        let gauge = &self.gauge;
        gauge.held.store(self.unanswered.len(), Ordering::Relaxed);
        gauge.live.store(self.live, Ordering::Relaxed);
        gauge.bytes.store(self.bytes, Ordering::Relaxed);
    }
}
