//! One shard: the task that owns the instances of its keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anabranch_domain::{Event as _, Rejection, Retry, StreamId, Timestamp};
use anabranch_log::{Append, AppendError, BoxFuture, Expect};
use anabranch_model::{EventId, Meta, NewEvent};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::load::{LoadError, Loaded, load};
use super::message::{Item, Known, Message, Shared, Touched};
use super::{InstanceStatus, Kind, Out, Style};
use crate::hash::HashMap;
use crate::panics::contain;
use crate::send_error::SendError;
use crate::snapshot::Snapshot;

struct Slot<K: Kind> {
    state: State<K>,
    waiting: VecDeque<Box<Item<K::Input>>>,
    strikes: u32,
    /// Loaded, it sends again what is not answered.
    resume: bool,
    used: bool,
    /// Whom it has sent commands to.
    receivers: BTreeSet<StreamId>,
    /// Events that were handed out in an earlier round of the feed come too early: it has
    /// missed others before them.
    from_round: u64,
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
    /// The last of them.
    last_event: Option<EventId>,
    /// How many events the newest snapshot includes.
    snapshot_at: u64,
    open: Batch<K>,
    flight: Option<Batch<K>>,
    broken: Option<String>,
}

impl<K: Kind> Live<K> {
    fn is_idle(&self) -> bool {
        self.flight.is_none() && self.open.items.is_empty() && self.broken.is_none()
    }
}

/// An input that was decided, and the answer to who asked.
type Decided<I> = (Box<Item<I>>, Result<(), Rejection>);

struct Batch<K: Kind> {
    events: Vec<NewEvent>,
    items: Vec<Decided<K::Input>>,
    outs: Vec<(Out<K::Input>, bool)>,
    bytes: usize,
    sent: u32,
    /// The instance after it, if a snapshot is due.
    snapshot: Option<Vec<u8>>,
}

impl<K: Kind> Batch<K> {
    fn takes(&self, next: &Item<K::Input>) -> bool {
        let mut items = self.items.iter();
        self.items.is_empty() || !next.alone && !items.any(|(item, _)| item.alone)
    }

    const fn new() -> Self {
        Self {
            events: Vec::new(),
            items: Vec::new(),
            outs: Vec::new(),
            bytes: 0,
            sent: 0,
            snapshot: None,
        }
    }
}

enum Done<K: Kind> {
    Loaded(StreamId, Result<Loaded<K>, LoadError>),
    Appended(StreamId, Result<(), AppendError>),
    Rested(StreamId),
    Nothing,
}

enum Turn<K: Kind> {
    Done(Done<K>),
    Message(Option<Message<K>>),
    Timers,
}

/// An instance that leaves memory is kept in a snapshot if its journal has this many events
/// behind its newest one.
const PASSIVATION_EVENTS_MIN: u64 = 32;
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
    open: BTreeMap<StreamId, Known>,
    /// What is handed out in an earlier round of the feed was meant for a shard that is gone.
    from_round: u64,
    timers: BTreeMap<(Timestamp, u64), (StreamId, K::Input)>,
    timers_of: HashMap<StreamId, BTreeSet<(Timestamp, u64)>>,
    timer_count: u64,
    /// For which timer it is, and when it is over.
    sleep: Option<(Timestamp, BoxFuture<'static, ()>)>,
}

/// Takes inputs until the inbox ends, and all are durable.
pub async fn run<K: Kind>(
    shared: Arc<Shared<K>>,
    inbox: &mut mpsc::Receiver<Message<K>>,
    from_round: u64,
) {
    let mut shard = Shard {
        shared,
        from_round,
        slots: HashMap::default(),
        jobs: FuturesUnordered::new(),
        eager: Vec::new(),
        round: VecDeque::new(),
        open: BTreeMap::new(),
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
                match &slot.state {
                    State::Idle => self.start_loading(&stream),
                    // Busy, it is loaded again as soon as what it has decided is durable.
                    State::Live(live) if live.is_idle() => self.start_loading(&stream),
                    _ => {}
                }
            }
            Message::Idle(stream) => {
                let known = Known {
                    length: 0,
                    waiting: false,
                };
                self.open.entry(stream).or_insert(known);
            }
            // Nobody waits for an answer that nobody takes.
            Message::Unpark(stream, reply) => drop(reply.send(self.unpark(&stream))),
            Message::List(reply) => drop(reply.send(self.list())),
            Message::Touched(stream, touched) => self.learn(&stream, touched),
            Message::Open(reply) => drop(reply.send(self.known())),
            Message::Close => {}
        }
    }

    /// Another runtime may have taken an instance further than is known here.
    fn learn(&mut self, stream: &StreamId, touched: Touched) {
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
            return;
        }
        // Unknown, or ended here in the meantime: its journal tells.
        let slot = self.slot(stream);
        if matches!(slot.state, State::Idle) {
            self.start_loading(stream);
        }
    }

    /// The instances that have not ended, or may not have.
    fn known(&self) -> Vec<(StreamId, Known)> {
        let busy = |slot: &Slot<K>| match &slot.state {
            State::Live(live) => !live.is_idle(),
            State::Idle => false,
            State::Loading | State::Resting | State::Parked(_) => true,
        };
        let mut known = self.open.clone();
        for (stream, slot) in &self.slots {
            if busy(slot) {
                let entry = known.entry(stream.clone());
                let known = entry.or_insert(Known {
                    length: 0,
                    waiting: true,
                });
                known.waiting = true;
            }
        }
        known.into_iter().collect()
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
                from_round: 0,
            }
        })
    }

    fn take(&mut self, stream: &StreamId, item: Box<Item<K::Input>>) {
        let shard_from = self.from_round;
        let slot = self.slot(stream);
        slot.used = true;
        let from_round = slot.from_round.max(shard_from);
        if item.ticket.as_ref().is_some_and(|t| t.round() < from_round) {
            // Dropped, the event is given back, and comes again in its place.
            return;
        }
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
                slot.from_round = self.shared.ledger.round() + 1;
                self.start_loading(stream);
                true
            }
            _ => false,
        }
    }

    fn list(&self) -> Vec<InstanceStatus> {
        let mut streams: BTreeSet<&StreamId> = self.open.keys().collect();
        streams.extend(
            self.slots.iter().filter_map(|(stream, slot)| {
                matches!(slot.state, State::Parked(_)).then_some(stream)
            }),
        );
        let status = |stream: &StreamId| {
            let state = self.slots.get(stream).map(|slot| &slot.state);
            let (parked, description) = match state {
                Some(State::Parked(reason)) => (Some(reason.clone()), None),
                Some(State::Live(live)) => (
                    None,
                    contain(|| self.shared.kind.describe(&live.machine)).ok(),
                ),
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
            && slot
                .waiting
                .front()
                .is_some_and(|next| live.open.takes(next))
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
        let (every, kind) = (self.shared.snapshot_every, &self.shared.kind);
        let length = live.durable + batch.events.len() as u64;
        if live.broken.is_none() && every > 0 && length - live.snapshot_at >= every {
            batch.snapshot = contain(|| kind.freeze(&live.machine)).ok().flatten();
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
            Done::Rested(stream) => {
                let state = self.slots.get(&stream).map(|slot| &slot.state);
                if matches!(state, Some(State::Resting)) {
                    self.start_loading(&stream);
                }
            }
            Done::Appended(stream, result) => self.appended(&stream, result),
            Done::Nothing => {}
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
                live.last_event = batch.events.last().map(|event| event.id);
                *strikes = 0;
                if let (Some(state), Some(last)) = (batch.snapshot.take(), live.last_event) {
                    live.snapshot_at = live.durable;
                    let length = live.durable;
                    self.keep_snapshot(stream, length, last, state);
                }
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
            Err(AppendError::Rejected(why)) => self.refused(stream, batch, &why.to_string()),
            Err(error @ (AppendError::Unknown { .. } | AppendError::Unavailable { .. })) => {
                // It may have been written after all, and then nobody else sends what follows.
                if batch.sent > 1
                    && let Some(slot) = self.slots.get_mut(stream)
                {
                    slot.resume = true;
                }
                self.roll_back(stream, batch, Some(error.to_string()))
            }
        }
    }

    /// The log cannot take what was decided, for example because it is too much at once: which
    /// input that was is found out, and only that one is refused.
    fn refused(&mut self, stream: &StreamId, mut batch: Batch<K>, why: &str) {
        if batch.items.len() > 1 {
            for (item, _) in &mut batch.items {
                item.alone = true;
            }
            return self.roll_back(stream, batch, None);
        }
        let reason = format!("its journal refuses what it has decided: {why}");
        let asked = batch.items.first_mut();
        match asked.and_then(|(item, _)| item.answer.take()) {
            Some(waits) => {
                batch.items.clear();
                // Who no longer listens does not want the answer.
                drop(waits.send(Err(SendError::Invalid(reason))));
                self.roll_back(stream, batch, None);
            }
            // Nobody can be told, and what it has consumed must not be passed over.
            None => {
                self.roll_back(stream, batch, None);
                self.park(stream, reason);
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
        let (kind, machine) = (&self.shared.kind, &live.machine);
        if kind.is_open(machine) {
            let known = Known {
                length: live.durable,
                waiting: kind.is_waiting(machine),
            };
            self.open.insert(stream.clone(), known);
            if slot.resume {
                // Somebody wants everything that is not answered to be sent again.
                self.start_loading(stream);
            }
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

    fn keep_snapshot(&self, stream: &StreamId, length: u64, last: EventId, state: Vec<u8>) {
        let snapshot = Snapshot {
            fingerprint: self.shared.fingerprint,
            version: length.saturating_sub(1),
            last_event: last,
            state,
        };
        let (shared, stream) = (self.shared.clone(), stream.clone());
        self.jobs.push(Box::pin(async move {
            if let Err(error) = shared.snapshots.save(&stream, snapshot).await {
                shared.diagnostics.add(shared.time.now(), error.to_string());
            }
            Done::Nothing
        }));
    }

    fn send(&mut self, stream: &StreamId, out: Out<K::Input>, again: bool) {
        let style = self.shared.kind.style();
        let dispatcher = self.shared.dispatcher.clone();
        match out {
            Out::Command(command) => {
                if let Some(slot) = self.slots.get_mut(stream) {
                    slot.receivers.insert(command.to.clone());
                }
                dispatcher.command(stream.clone(), command, style);
            }
            Out::Call(call, role) => dispatcher.call(call, role, style, again),
            Out::Timer(at, input) => self.set_timer(stream, at, input),
            Out::Reply(reply) => dispatcher.bring(reply),
            Out::Ended => {
                if let Some(slot) = self.slots.get_mut(stream) {
                    for receiver in std::mem::take(&mut slot.receivers) {
                        dispatcher.forget(&receiver, stream);
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

    fn loaded(&mut self, stream: &StreamId, loaded: Result<Loaded<K>, LoadError>) {
        let state = self.slots.get(stream).map(|slot| &slot.state);
        if !matches!(state, Some(State::Loading)) {
            // Parked in the meantime.
            return;
        }
        let Loaded {
            machine,
            length: durable,
            last_event,
            snapshot_at,
        } = match loaded {
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
        let known = Known {
            length: durable,
            waiting: self.shared.kind.is_waiting(&machine),
        };
        let insists = self.shared.kind.style() == Style::Insist;
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
            last_event,
            snapshot_at,
            open: Batch::new(),
            flight: None,
            broken: None,
        }));
        let resume = std::mem::take(&mut slot.resume);
        if is_open {
            self.open.insert(stream.clone(), known);
        } else {
            self.open.remove(stream);
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
                    let sent = match &out {
                        Out::Timer(..) => true,
                        // Another runtime may have sent it; but what this one sends to the same
                        // receiver must not overtake it, and what comes twice is known there.
                        Out::Command(_) => resume || insists,
                        // What another runtime has called it calls itself, while it lives.
                        _ => resume,
                    };
                    if sent {
                        self.send(stream, out, resume);
                    }
                }
            }
        }
        self.decide_waiting(stream);
        if !is_open
            && let Some(slot) = self.slots.get_mut(stream)
            && let State::Live(live) = &slot.state
            && live.is_idle()
            && slot.waiting.is_empty()
        {
            // Ended, it takes no memory.
            slot.state = State::Idle;
            slot.used = false;
        }
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
        self.shared.diagnostics.add(time.now(), text);
        let rest = time.sleep(self.shared.restart.delay_after(attempt, time.random()));
        let stream = stream.clone();
        self.jobs.push(Box::pin(async move {
            rest.await;
            Done::Rested(stream)
        }));
    }

    fn park(&mut self, stream: &StreamId, reason: String) {
        let text = format!("{stream} is parked: {reason}. Mend the cause, then retry it");
        self.shared.diagnostics.add(self.shared.time.now(), text);
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
                State::Live(live) => live.is_idle(),
                _ => false,
            };
            if idle && !used && slot.waiting.is_empty() {
                let slot = self.slots.remove(&stream);
                if let Some(State::Live(live)) = slot.map(|slot| slot.state)
                    && self.shared.snapshot_every > 0
                    && live.durable - live.snapshot_at >= PASSIVATION_EVENTS_MIN
                    && let Some(last) = live.last_event
                    && let Ok(Some(state)) = contain(|| self.shared.kind.freeze(&live.machine))
                {
                    self.keep_snapshot(&stream, live.durable, last, state);
                }
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
