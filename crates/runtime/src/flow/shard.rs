//! One shard: the task that owns the instances of its keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anabranch_domain::{Event as _, Rejection, Retry, StreamId, Timestamp};
use anabranch_log::{Append, AppendError, BoxFuture, Expect, Log, Order, ReadError, VersionRange};
use anabranch_model::{EventId, EventType, Meta, NewEvent};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::courier::Courier;
use super::feed::Ticket;
use super::{InstanceStatus, Kind, Out};
use crate::hash::HashMap;
use crate::notes::Notes;
use crate::panics::contain;
use crate::send_error::SendError;
use crate::time::Time;

/// What reaches a shard.
pub enum Message<K: Kind> {
    Input(StreamId, Box<Item<K::Input>>),
    /// Take an open instance over from a runtime that has gone.
    Resume(StreamId),
    Unpark(StreamId, oneshot::Sender<bool>),
    List(oneshot::Sender<Vec<InstanceStatus>>),
    /// The instances that a restart has to go on with.
    Open(oneshot::Sender<Vec<StreamId>>),
    /// Take nothing more, write what is decided, then end.
    Close,
}

/// An input on its way, and who waits for it to be durable.
pub struct Item<I> {
    pub input: I,
    pub ticket: Option<Ticket>,
    pub answer: Option<oneshot::Sender<Result<(), SendError>>>,
    /// Also send again everything that is not answered.
    pub resume: bool,
}

impl<I> Item<I> {
    pub fn plain(input: I) -> Box<Self> {
        Box::new(Self {
            input,
            ticket: None,
            answer: None,
            resume: false,
        })
    }
}

/// What the shards of one kind share.
pub struct Shared<K: Kind> {
    pub kind: K,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub notes: Arc<Notes>,
    pub courier: Arc<Courier>,
    pub source: String,
    /// The types of the journals' events, ready to be stored.
    pub types: Vec<EventType>,
    pub restart: Retry,
    pub live_max: usize,
}

struct Slot<K: Kind> {
    state: State<K>,
    waiting: VecDeque<Box<Item<K::Input>>>,
    strikes: u32,
    /// Loaded, it sends again what is not answered.
    resume: bool,
    used: bool,
    /// Whom it has sent commands to.
    receivers: BTreeSet<StreamId>,
}

enum State<K: Kind> {
    Idle,
    Loading,
    Live(Box<Live<K>>),
    Resting,
    Parked(String),
}

struct Live<K: Kind> {
    machine: K::Machine,
    /// What all events of the journal say beside their data.
    meta: Arc<Meta>,
    /// How many events of the journal are durable.
    durable: u64,
    open: Batch<K>,
    flight: Option<Batch<K>>,
    broken: Option<String>,
}

/// An input that was decided, and the answer to who asked.
type Decided<I> = (Box<Item<I>>, Result<(), Rejection>);

struct Batch<K: Kind> {
    events: Vec<NewEvent>,
    items: Vec<Decided<K::Input>>,
    outs: Vec<(Out<K::Input>, bool)>,
    bytes: usize,
    sent: u32,
}

impl<K: Kind> Batch<K> {
    const fn new() -> Self {
        Self {
            events: Vec::new(),
            items: Vec::new(),
            outs: Vec::new(),
            bytes: 0,
            sent: 0,
        }
    }
}

enum LoadError {
    Read(ReadError),
    Unreadable(String),
}

enum Done<K: Kind> {
    Loaded(StreamId, Result<(K::Machine, u64), LoadError>),
    Appended(StreamId, Result<(), AppendError>),
    Rested(StreamId),
}

enum Turn<K: Kind> {
    Done(Done<K>),
    Message(Option<Message<K>>),
    Timers,
}

/// How many messages are taken before events are sent to the log.
const MESSAGES_AT_ONCE: usize = 256;
/// Beyond this the next decision waits for the next append.
const BATCH_EVENTS_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often an append of unknown outcome is repeated before the journal is read again.
const UNKNOWN_ATTEMPTS_MAX: u32 = 8;
/// The clock that timers wait for may be set: it is looked at this often at least.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

pub struct Shard<K: Kind> {
    shared: Arc<Shared<K>>,
    slots: HashMap<StreamId, Slot<K>>,
    jobs: FuturesUnordered<BoxFuture<'static, Done<K>>>,
    eager: Vec<StreamId>,
    round: VecDeque<StreamId>,
    /// Instances that have not ended.
    open: BTreeSet<StreamId>,
    timers: BTreeMap<(Timestamp, u64), (StreamId, K::Input)>,
    timers_of: HashMap<StreamId, BTreeSet<(Timestamp, u64)>>,
    timer_count: u64,
    /// For which timer it is, and when it is over.
    sleep: Option<(Timestamp, BoxFuture<'static, ()>)>,
}

/// Takes inputs until the inbox ends, and all are durable.
pub async fn run<K: Kind>(shared: Arc<Shared<K>>, inbox: &mut mpsc::Receiver<Message<K>>) {
    let mut shard = Shard {
        shared,
        slots: HashMap::default(),
        jobs: FuturesUnordered::new(),
        eager: Vec::new(),
        round: VecDeque::new(),
        open: BTreeSet::new(),
        timers: BTreeMap::new(),
        timers_of: HashMap::default(),
        timer_count: 0,
        sleep: None,
    };
    let mut listening = true;
    while listening || shard.is_writing() {
        let mut turn = shard.turn(inbox, listening).await;
        let mut taken = 0;
        loop {
            match turn {
                Turn::Message(Some(Message::Close)) => inbox.close(),
                Turn::Message(Some(message)) => shard.receive(message),
                Turn::Message(None) => listening = false,
                Turn::Done(done) => shard.finish(done),
                Turn::Timers => shard.fire_timers(),
            }
            taken += 1;
            if taken == MESSAGES_AT_ONCE {
                break;
            }
            // What is at hand now is decided before anything is sent: larger batches.
            turn = match inbox.try_recv() {
                Ok(message) => Turn::Message(Some(message)),
                Err(_) => break,
            };
        }
        shard.send_decided();
        shard.evict();
    }
}

impl<K: Kind> Shard<K> {
    fn is_writing(&self) -> bool {
        let writing = |slot: &Slot<K>| match &slot.state {
            State::Live(live) => live.flight.is_some(),
            _ => false,
        };
        self.slots.values().any(writing)
    }

    async fn turn(&mut self, inbox: &mut mpsc::Receiver<Message<K>>, listening: bool) -> Turn<K> {
        self.set_alarm();
        poll_fn(|cx| {
            if !self.jobs.is_empty()
                && let Poll::Ready(Some(done)) = self.jobs.poll_next_unpin(cx)
            {
                return Poll::Ready(Turn::Done(done));
            }
            if let Some((_, sleep)) = &mut self.sleep
                && sleep.poll_unpin(cx).is_ready()
            {
                self.sleep = None;
                return Poll::Ready(Turn::Timers);
            }
            if listening {
                return inbox.poll_recv(cx).map(Turn::Message);
            }
            Poll::Pending
        })
        .await
    }

    // Timers.

    fn set_alarm(&mut self) {
        let Some((&(at, _), _)) = self.timers.first_key_value() else {
            self.sleep = None;
            return;
        };
        if self.sleep.as_ref().is_none_or(|(for_, _)| *for_ != at) {
            let wait = at.since(self.shared.time.now()).min(LOOK_AT_CLOCK);
            self.sleep = Some((at, self.shared.time.sleep(wait)));
        }
    }

    fn set_timer(&mut self, stream: &StreamId, at: Timestamp, input: K::Input) {
        self.timer_count += 1;
        let key = (at, self.timer_count);
        self.timers.insert(key, (stream.clone(), input));
        self.timers_of
            .entry(stream.clone())
            .or_default()
            .insert(key);
    }

    fn drop_timers(&mut self, stream: &StreamId) {
        for key in self.timers_of.remove(stream).into_iter().flatten() {
            self.timers.remove(&key);
        }
    }

    fn fire_timers(&mut self) {
        let now = self.shared.time.now();
        while let Some((&(at, n), _)) = self.timers.first_key_value()
            && at <= now
        {
            if let Some((stream, input)) = self.timers.remove(&(at, n)) {
                if let Some(keys) = self.timers_of.get_mut(&stream) {
                    keys.remove(&(at, n));
                    if keys.is_empty() {
                        self.timers_of.remove(&stream);
                    }
                }
                self.take(&stream, Item::plain(input));
            }
        }
    }

    // Inputs.

    fn receive(&mut self, message: Message<K>) {
        match message {
            Message::Input(stream, item) => self.take(&stream, item),
            Message::Resume(stream) => {
                let slot = self.slot(&stream);
                slot.resume = true;
                if matches!(slot.state, State::Idle) {
                    self.start_loading(&stream);
                }
            }
            // Nobody waits for an answer that nobody takes.
            Message::Unpark(stream, reply) => drop(reply.send(self.unpark(&stream))),
            Message::List(reply) => drop(reply.send(self.list())),
            Message::Open(reply) => {
                let mut open: BTreeSet<StreamId> = self.open.clone();
                let busy = self.slots.iter().filter(|(_, slot)| match &slot.state {
                    State::Live(live) => live.flight.is_some() || !live.open.items.is_empty(),
                    State::Idle => false,
                    State::Loading | State::Resting | State::Parked(_) => true,
                });
                open.extend(busy.map(|(stream, _)| stream.clone()));
                drop(reply.send(open.into_iter().collect()));
            }
            Message::Close => {}
        }
    }

    fn slot(&mut self, stream: &StreamId) -> &mut Slot<K> {
        let round = &mut self.round;
        self.slots.entry(stream.clone()).or_insert_with(|| {
            round.push_back(stream.clone());
            Slot {
                state: State::Idle,
                waiting: VecDeque::new(),
                strikes: 0,
                resume: false,
                used: true,
                receivers: BTreeSet::new(),
            }
        })
    }

    fn take(&mut self, stream: &StreamId, item: Box<Item<K::Input>>) {
        let slot = self.slot(stream);
        slot.used = true;
        if let State::Parked(reason) = &slot.state {
            let reason = reason.clone();
            return refuse(stream, *item, &reason);
        }
        slot.waiting.push_back(item);
        match slot.state {
            State::Idle => self.start_loading(stream),
            _ => self.decide_waiting(stream),
        }
    }

    fn unpark(&mut self, stream: &StreamId) -> bool {
        match self.slots.get_mut(stream) {
            Some(slot) if matches!(slot.state, State::Parked(_)) => {
                slot.strikes = 0;
                slot.resume = true;
                self.start_loading(stream);
                true
            }
            _ => false,
        }
    }

    fn list(&self) -> Vec<InstanceStatus> {
        let mut streams: BTreeSet<&StreamId> = self.open.iter().collect();
        streams.extend(
            self.slots.iter().filter_map(|(stream, slot)| {
                matches!(slot.state, State::Parked(_)).then_some(stream)
            }),
        );
        let status = |stream: &StreamId| {
            let state = self.slots.get(stream).map(|slot| &slot.state);
            let (parked, description) = match state {
                Some(State::Parked(reason)) => (Some(reason.clone()), None),
                Some(State::Live(live)) => (None, Some(self.shared.kind.describe(&live.machine))),
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

    // Deciding.

    fn decide_waiting(&mut self, stream: &StreamId) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let State::Live(live) = &mut slot.state else {
            return;
        };
        while live.broken.is_none()
            && live.open.events.len() < BATCH_EVENTS_MAX
            && live.open.bytes < BATCH_BYTES_MAX
            && let Some(item) = slot.waiting.pop_front()
        {
            if let Err((item, reason)) = decide(&self.shared, live, stream, item) {
                slot.waiting.push_front(item);
                live.broken = Some(reason);
            }
        }
        let has_news = !live.open.items.is_empty();
        if live.flight.is_none() && (has_news || live.broken.is_some()) {
            self.eager.push(stream.clone());
        }
    }

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
        if live.flight.is_some() {
            return;
        }
        let mut batch = std::mem::replace(&mut live.open, Batch::new());
        if batch.events.is_empty() {
            return self.confirm(stream, batch);
        }
        batch.sent = 1;
        let append = append_of(stream, live.durable, &batch);
        live.flight = Some(batch);
        self.append(stream.clone(), append, Duration::ZERO);
    }

    fn append(&self, stream: StreamId, append: Append, wait: Duration) {
        let log = self.shared.log.clone();
        let rest = (!wait.is_zero()).then(|| self.shared.time.sleep(wait));
        self.jobs.push(Box::pin(async move {
            if let Some(rest) = rest {
                rest.await;
            }
            let result = log.append(append).await;
            Done::Appended(stream, result.map(|_| ()))
        }));
    }

    fn finish(&mut self, done: Done<K>) {
        match done {
            Done::Loaded(stream, loaded) => self.loaded(&stream, loaded),
            Done::Rested(stream) => self.start_loading(&stream),
            Done::Appended(stream, result) => self.appended(&stream, result),
        }
    }

    fn appended(&mut self, stream: &StreamId, result: Result<(), AppendError>) {
        let Some(Slot {
            state: State::Live(live),
            strikes,
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        let Some(mut batch) = live.flight.take() else {
            return;
        };
        let unknown = matches!(result, Err(AppendError::Unknown { .. }));
        match result {
            Ok(()) => {
                live.durable += batch.events.len() as u64;
                *strikes = 0;
                self.confirm(stream, batch);
            }
            // Somebody else runs it too, or has: the journal says what is so.
            Err(AppendError::Conflict { .. } | AppendError::Matched { .. }) => {
                self.roll_back(stream, batch, None);
            }
            // After an attempt of unknown outcome, that the next one did nothing says nothing.
            Err(AppendError::Unknown { .. } | AppendError::Unavailable { .. })
                if (unknown || batch.sent > 1) && batch.sent < UNKNOWN_ATTEMPTS_MAX =>
            {
                let seed = self.shared.time.random();
                let wait = Retry::DEFAULT.delay_after(batch.sent, seed);
                batch.sent += 1;
                let append = append_of(stream, live.durable, &batch);
                live.flight = Some(batch);
                self.append(stream.clone(), append, wait);
            }
            Err(AppendError::Rejected(why)) => {
                let reason = format!("its journal refuses what it has decided: {why}");
                self.roll_back(stream, batch, None);
                self.park(stream, reason);
            }
            Err(error @ (AppendError::Unknown { .. } | AppendError::Unavailable { .. })) => {
                self.roll_back(stream, batch, Some(error.to_string()))
            }
        }
    }

    /// What was decided is durable: now it is sent.
    fn confirm(&mut self, stream: &StreamId, batch: Batch<K>) {
        for (item, answer) in batch.items {
            let Item {
                ticket,
                answer: waits,
                ..
            } = *item;
            if let Some(ticket) = ticket {
                ticket.done();
            }
            if let Some(waits) = waits {
                // Who no longer listens does not want the answer.
                drop(waits.send(answer.map_err(SendError::Rejected)));
            }
        }
        for (out, again) in batch.outs {
            self.send(stream, out, again);
        }
        self.decide_waiting(stream);
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let State::Live(live) = &mut slot.state else {
            return;
        };
        if live.flight.is_some() || !live.open.items.is_empty() {
            return;
        }
        if let Some(reason) = live.broken.take() {
            slot.state = State::Idle;
            return self.strike(stream, reason);
        }
        let described = self.shared.kind.is_open(&live.machine);
        if described {
            self.open.insert(stream.clone());
        } else {
            self.open.remove(stream);
            if slot.waiting.is_empty() {
                // Ended, it takes no memory.
                slot.state = State::Idle;
                slot.used = false;
                self.drop_timers(stream);
            }
        }
    }

    fn send(&mut self, stream: &StreamId, out: Out<K::Input>, again: bool) {
        let style = self.shared.kind.style();
        let courier = self.shared.courier.clone();
        match out {
            Out::Command(command) => {
                if let Some(slot) = self.slots.get_mut(stream) {
                    slot.receivers.insert(command.to.clone());
                }
                courier.command(stream.clone(), command, style);
            }
            Out::Call(call, role) => courier.call(call, role, style, again),
            Out::Timer(at, input) => self.set_timer(stream, at, input),
            Out::Reply(reply) => courier.bring(reply),
            Out::Ended => {
                if let Some(slot) = self.slots.get_mut(stream) {
                    for receiver in std::mem::take(&mut slot.receivers) {
                        courier.forget(&receiver, stream);
                    }
                }
            }
        }
    }

    /// Drops memory, because what was decided is not in the journal. The inputs are decided
    /// again after the journal was read, at once or, with a reason, after a rest.
    fn roll_back(&mut self, stream: &StreamId, batch: Batch<K>, rest: Option<String>) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let state = std::mem::replace(&mut slot.state, State::Idle);
        let mut items = batch.items;
        if let State::Live(live) = state {
            items.extend(live.open.items);
        }
        for (item, _) in items.into_iter().rev() {
            slot.resume |= item.resume;
            if !item.resume {
                slot.waiting.push_front(item);
            }
        }
        match rest {
            Some(reason) => self.rest(stream, &reason, 3),
            None => self.start_loading(stream),
        }
    }

    // Loading, resting, parking, leaving.

    fn start_loading(&mut self, stream: &StreamId) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        if matches!(slot.state, State::Loading) {
            return;
        }
        slot.state = State::Loading;
        let (shared, stream) = (self.shared.clone(), stream.clone());
        self.jobs.push(Box::pin(async move {
            let loaded = load(&shared, &stream).await;
            Done::Loaded(stream, loaded)
        }));
    }

    fn loaded(&mut self, stream: &StreamId, loaded: Result<(K::Machine, u64), LoadError>) {
        let (machine, durable) = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError::Read(error)) => return self.rest(stream, &error.to_string(), 3),
            Err(LoadError::Unreadable(reason)) => return self.park(stream, reason),
        };
        let outstanding = match contain(|| self.shared.kind.outstanding(&machine)) {
            Ok(Ok(outstanding)) => outstanding,
            Ok(Err(reason)) | Err(reason) => return self.park(stream, reason),
        };
        self.drop_timers(stream);
        let is_open = self.shared.kind.is_open(&machine);
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        let meta = Arc::new(Meta {
            source: Some(self.shared.source.clone()),
            correlation_id: Some(stream.to_string()),
            ..Meta::default()
        });
        slot.state = State::Live(Box::new(Live {
            machine,
            meta,
            durable,
            open: Batch::new(),
            flight: None,
            broken: None,
        }));
        let resume = std::mem::take(&mut slot.resume);
        if is_open {
            self.open.insert(stream.clone());
        }
        match self
            .shared
            .kind
            .recovered()
            .filter(|_| resume && durable > 0)
        {
            Some(recovered) => {
                let mut item = Item::plain(recovered);
                item.resume = true;
                if let Some(slot) = self.slots.get_mut(stream) {
                    slot.waiting.push_front(item);
                }
            }
            None => {
                for out in outstanding {
                    // What another runtime has sent it delivers itself, while it lives; the
                    // timers are for the time after.
                    if resume || matches!(out, Out::Timer(..)) {
                        self.send(stream, out, resume);
                    }
                }
            }
        }
        self.decide_waiting(stream);
    }

    /// Its code has failed: it rests, or is parked when that happens too often.
    fn strike(&mut self, stream: &StreamId, reason: String) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        slot.strikes += 1;
        let strikes = slot.strikes;
        if self.shared.restart.goes_on_after(strikes) {
            self.rest(stream, &reason, strikes);
        } else {
            self.park(stream, format!("it failed {strikes} times: {reason}"));
        }
    }

    fn rest(&mut self, stream: &StreamId, reason: &str, attempt: u32) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        slot.state = State::Resting;
        let time = &self.shared.time;
        let text = format!("{stream} rests and is tried again: {reason}");
        self.shared.notes.add(time.now(), text);
        let rest = time.sleep(self.shared.restart.delay_after(attempt, time.random()));
        let stream = stream.clone();
        self.jobs.push(Box::pin(async move {
            rest.await;
            Done::Rested(stream)
        }));
    }

    fn park(&mut self, stream: &StreamId, reason: String) {
        let text = format!("{stream} is parked: {reason}. Mend the cause, then retry it");
        self.shared.notes.add(self.shared.time.now(), text);
        let Some(slot) = self.slots.get_mut(stream) else {
            return;
        };
        for item in std::mem::take(&mut slot.waiting) {
            refuse(stream, *item, &reason);
        }
        slot.state = State::Parked(reason);
    }

    /// Lets idle instances leave beyond the most that are kept.
    fn evict(&mut self) {
        let mut looks = self.round.len() * 2;
        while self.slots.len() > self.shared.live_max && looks > 0 {
            looks -= 1;
            let Some(stream) = self.round.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get_mut(&stream) else {
                continue;
            };
            let used = std::mem::take(&mut slot.used);
            let idle = match &slot.state {
                State::Idle => true,
                State::Live(live) => {
                    live.flight.is_none() && live.open.items.is_empty() && live.broken.is_none()
                }
                _ => false,
            };
            if idle && !used && slot.waiting.is_empty() {
                self.slots.remove(&stream);
            } else {
                self.round.push_back(stream);
            }
        }
    }
}

fn refuse<I>(stream: &StreamId, item: Item<I>, reason: &str) {
    if let Some(waits) = item.answer {
        // Who no longer listens does not want the answer.
        drop(waits.send(Err(SendError::Parked {
            stream: stream.clone(),
            reason: reason.to_owned(),
        })));
    }
}

type Undecided<I> = (Box<Item<I>>, String);

fn decide<K: Kind>(
    shared: &Shared<K>,
    live: &mut Live<K>,
    stream: &StreamId,
    item: Box<Item<K::Input>>,
) -> Result<(), Undecided<K::Input>> {
    let now = shared.time.now();
    let decided = contain(|| {
        let made = shared
            .kind
            .decide(&mut live.machine, item.input.clone(), now)?;
        let again = if item.resume {
            shared.kind.outstanding(&live.machine)?
        } else {
            Vec::new()
        };
        Ok::<_, String>((made, again))
    });
    let (made, again) = match decided {
        Ok(Ok(decided)) => decided,
        Ok(Err(reason)) => return Err((item, reason)),
        Err(panic) => return Err((item, format!("its code panicked: {panic}"))),
    };
    let mut encoded = Vec::with_capacity(made.events.len());
    for event in &made.events {
        match encode(shared, stream, &live.meta, event) {
            Ok(event) => encoded.push(event),
            Err(reason) => return Err((item, reason)),
        }
    }
    let open = &mut live.open;
    open.bytes += encoded
        .iter()
        .map(|event| event.data.len() + 128)
        .sum::<usize>();
    open.events.extend(encoded);
    // What is sent again covers what the last decision sends.
    if item.resume {
        open.outs.extend(again.into_iter().map(|out| (out, true)));
        let ends = |out: &Out<K::Input>| matches!(out, Out::Reply(_) | Out::Ended);
        let ends = made.outs.into_iter().filter(ends);
        open.outs.extend(ends.map(|out| (out, false)));
    } else {
        open.outs
            .extend(made.outs.into_iter().map(|out| (out, false)));
    }
    open.items.push((item, made.answer));
    Ok(())
}

fn encode<K: Kind>(
    shared: &Shared<K>,
    stream: &StreamId,
    meta: &Arc<Meta>,
    event: &K::Event,
) -> Result<NewEvent, String> {
    let kind = event.kind();
    let mut data = Vec::new();
    event.encode(&mut data).map_err(|error| error.to_string())?;
    let known = shared.types.iter().find(|t| t.as_str() == kind.name);
    let event_type = known
        .cloned()
        .ok_or_else(|| format!("{kind} is not among the kinds that its event type declares"))?;
    let millis = shared.time.now().micros() / 1000;
    let id = EventId::v7(millis, shared.time.random());
    let mut new = NewEvent::new(id, stream.clone(), event_type, data);
    new.schema_version = kind.version;
    new.meta = Some(meta.clone());
    Ok(new)
}

fn append_of<K: Kind>(stream: &StreamId, durable: u64, batch: &Batch<K>) -> Append {
    let expect = durable.checked_sub(1).map_or(Expect::Empty, Expect::At);
    Append::events(batch.events.clone()).expect(stream.clone(), expect)
}

/// The instance as its journal has it, and how long that is.
async fn load<K: Kind>(
    shared: &Arc<Shared<K>>,
    stream: &StreamId,
) -> Result<(K::Machine, u64), LoadError> {
    load_machine(&shared.kind, &shared.log, stream).await
}

async fn load_machine<K: Kind>(
    kind: &K,
    log: &Arc<dyn Log>,
    stream: &StreamId,
) -> Result<(K::Machine, u64), LoadError> {
    let mut machine = kind.empty(stream.clone());
    let mut length = 0;
    let mut read = log.read_stream(stream, VersionRange::ALL, Order::Forward);
    while let Some(batch) = read.next_batch().await {
        for event in &batch.map_err(LoadError::Read)? {
            let event = event.map_err(|error| LoadError::Unreadable(error.to_string()))?;
            let evolved = contain(|| {
                let decoded = K::Event::decode(event.event_type, event.schema_version, event.data)
                    .map_err(|error| error.to_string())?;
                kind.evolve(&mut machine, &decoded)
            });
            if let Ok(Err(reason)) | Err(reason) = evolved {
                let place = format!("event {} of {stream}", event.version);
                return Err(LoadError::Unreadable(format!("{place}: {reason}")));
            }
            length = event.version + 1;
        }
    }
    Ok((machine, length))
}

/// The instance, for an operator, from its journal alone.
pub async fn describe<K: Kind>(shared: &Arc<Shared<K>>, stream: &StreamId) -> InstanceStatus {
    let (parked, description) = match load(shared, stream).await {
        Ok((machine, _)) => (None, Some(shared.kind.describe(&machine))),
        Err(LoadError::Unreadable(reason)) => (Some(reason), None),
        Err(LoadError::Read(error)) => (Some(error.to_string()), None),
    };
    InstanceStatus {
        stream: stream.clone(),
        parked,
        description,
    }
}
