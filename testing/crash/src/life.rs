//! One life of a process: clients append, read and follow until it is struck or has had
//! enough.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anabranch_env::sim::{Calls, Fault, FaultKind};
use anabranch_log::{Append, AppendError, Condition, Log, ReadError, ReadMode, Rejection};
use anabranch_model::{Cut, EventId, Filter, LimitError, NewEvent, PartitionId, Query};

use crate::check::Moment;
use crate::clients::{Answer, Pending};
use crate::engine::Machine;
use crate::follower::{Account, Follower};
use crate::model::{Attempt, event_id};
use crate::poll::drive;
use crate::violation::{Violation, Wrong, brief};
use crate::workload;
use crate::world::World;

pub(crate) struct Life<'w, 'e> {
    world: &'w mut World<'e>,
    machine: Box<dyn Machine>,
    log: Arc<dyn Log>,
    pending: Vec<Pending>,
    followers: Vec<Follower>,
    clients_max: usize,
    /// A batch of unknown outcome whose client will send something else instead.
    given_up: Option<usize>,
    /// Faults were planned, or time has run out: errors have a cause.
    in_trouble: bool,
    /// The trouble is a full disk, and nothing else.
    full: bool,
    /// Reads from the disk fail: what they would have given may be called damaged.
    reads_fail: bool,
}

impl<'w, 'e> Life<'w, 'e> {
    pub(crate) fn new(world: &'w mut World<'e>, machine: Box<dyn Machine>) -> Self {
        let clients_max = 1 + world.rng.below(8) as usize;
        Self {
            log: machine.log(),
            world,
            machine,
            pending: Vec::new(),
            followers: Vec::new(),
            clients_max,
            given_up: None,
            in_trouble: false,
            full: false,
            reads_fail: false,
        }
    }

    /// Lives until the strike comes, or its time is over. The process is then dead: its
    /// disk waits for `crash` or `kill`.
    pub(crate) fn live(mut self) -> Result<(), Violation> {
        if !self.world.rng.one_in(4) {
            let calls = 1 + self.world.rng.below(80);
            self.world.disk.strike_at(calls);
        }
        if self.world.rng.one_in(3) {
            self.plan_faults();
        }
        self.retry_what_was_missed()?;
        let actions = 20 + self.world.rng.below(160);
        self.act_until_struck(actions)
    }

    /// Lives on a disk that lies, for a short while. What it loses is not the log's fault.
    pub(crate) fn live_with(mut self, fault: Fault) -> Result<(), Violation> {
        self.world.say(|| format!("fault: {fault:?}"));
        self.world.disk.inject(fault);
        (self.in_trouble, self.reads_fail) = (true, true);
        let actions = 10 + self.world.rng.below(40);
        self.act_until_struck(actions)
    }

    /// Lives only until the first client whose answer never came has tried again.
    pub(crate) fn live_for_one_retry(mut self) -> Result<(), Violation> {
        if let Some(&batch) = self.world.model.missed.first() {
            self.submit_again(batch)?;
            self.come_to_rest()?;
        }
        self.see_the_end()
    }

    /// An append fails, its client sends another of the same shape, and the log is closed in
    /// good order: what the first left behind lies beside what counts.
    pub(crate) fn live_for_a_twin(mut self) -> Result<(), Violation> {
        self.in_trouble = true;
        let calls = Calls::SYNC | Calls::DIRECT;
        self.world.disk.inject(Fault::nth(1, calls, FaultKind::Io));
        for twin in [false, true] {
            let (rng, model) = (&mut self.world.rng, &self.world.model);
            let append = match model.batches.len().checked_sub(1) {
                Some(last) if twin => workload::twin(rng, model, last),
                _ => workload::append(rng, model),
            };
            self.world.say(|| describe(&append));
            let attempt = self.world.model.submit(append.clone());
            self.start(attempt, append)?;
            self.come_to_rest()?;
        }
        self.world.disk.clear_faults();
        for pending in self.pending.drain(..) {
            self.world.model.abandoned(&pending.attempt);
        }
        self.followers.clear();
        let closed = self.machine.close();
        self.world.say(|| format!("closed: {closed:?}"));
        Ok(())
    }

    /// Lives just long enough to add something to what was recovered.
    pub(crate) fn live_shortly(mut self) -> Result<(), Violation> {
        if self.world.rng.one_in(2) {
            let calls = 1 + self.world.rng.below(12);
            self.world.disk.strike_at(calls);
        }
        self.retry_what_was_missed()?;
        let actions = 5 + self.world.rng.below(15);
        self.act_until_struck(actions)
    }

    /// Clients whose answer never came try again first thing, as they should.
    fn retry_what_was_missed(&mut self) -> Result<(), Violation> {
        if self.world.rng.one_in(3) {
            return Ok(());
        }
        for batch in std::mem::take(&mut self.world.model.missed) {
            if self.world.disk.is_struck() || self.pending.len() >= self.clients_max {
                break;
            }
            self.submit_again(batch)?;
            while !self.world.rng.one_in(3) && self.machine.step() {}
            if self.world.rng.one_in(3) {
                break;
            }
        }
        Ok(())
    }

    fn act_until_struck(&mut self, actions: u64) -> Result<(), Violation> {
        for _ in 0..actions {
            self.act()?;
            if self.world.disk.is_struck() {
                return self.see_the_end();
            }
        }
        if self.world.rng.one_in(2) {
            self.come_to_rest()?;
        }
        if self.full && !self.world.disk.is_struck() {
            self.make_room()?;
        }
        self.world.disk.call_off();
        self.see_the_end()
    }

    fn act(&mut self) -> Result<(), Violation> {
        match self.world.rng.below(100) {
            0..28 => self.append_new(),
            28..33 => self.append_again(),
            33..36 => self.append_wrong(),
            36..58 => self.poll_one(),
            58..61 => {
                self.drop_one();
                Ok(())
            }
            61..78 => {
                let worked = self.machine.step();
                self.world.trace(u64::from(worked));
                Ok(())
            }
            78..87 => self.follow(),
            87..94 => self.read(),
            94 => {
                self.machine.upkeep();
                Ok(())
            }
            _ => {
                self.pass_time();
                Ok(())
            }
        }
    }

    fn is_excused(&self) -> bool {
        self.in_trouble || self.world.disk.is_struck()
    }

    // Appends.

    fn append_new(&mut self) -> Result<(), Violation> {
        if self.pending.len() >= self.clients_max {
            return self.poll_one();
        }
        let twin = self.given_up.take();
        let (rng, model) = (&mut self.world.rng, &self.world.model);
        let append = match twin {
            Some(batch) => workload::twin(rng, model, batch),
            None => workload::append(rng, model),
        };
        self.world.say(|| describe(&append));
        let attempt = self.world.model.submit(append.clone());
        self.start(attempt, append)
    }

    /// Submits a batch once more: one of unknown fate, or one that is there.
    fn append_again(&mut self) -> Result<(), Violation> {
        if self.pending.len() >= self.clients_max {
            return self.poll_one();
        }
        let model = &self.world.model;
        let open: Vec<usize> = model.open_batches().collect();
        let waiting = self.pending.first().map(|pending| pending.attempt.batch);
        let chosen = match self.world.rng.below(4) {
            0 | 1 if !open.is_empty() => {
                Some(open[self.world.rng.below(open.len() as u64) as usize])
            }
            2 if waiting.is_some() => waiting,
            _ => self.world.any_placed(),
        };
        let Some(batch) = chosen else {
            return Ok(());
        };
        self.submit_again(batch)
    }

    fn submit_again(&mut self, batch: usize) -> Result<(), Violation> {
        self.world.say(|| format!("append batch {batch} again"));
        let append = (*self.world.model.batches[batch].append).clone();
        let attempt = self.world.model.submit_again(batch);
        self.start(attempt, append)
    }

    fn start(&mut self, attempt: Attempt, append: Append) -> Result<(), Violation> {
        self.world.report.operations += 1;
        let log = self.log.clone();
        self.pending.push(Pending::new(log, attempt, append));
        self.poll_at(self.pending.len() - 1)
    }

    /// Polls one that was woken; now and then one that was not, which must do no harm.
    fn poll_one(&mut self) -> Result<(), Violation> {
        let needless = self.world.rng.one_in(8);
        let ready = self.pending.iter().enumerate();
        let ready = ready.filter(|(_, pending)| needless || pending.is_woken());
        let ready: Vec<usize> = ready.map(|(i, _)| i).collect();
        if ready.is_empty() {
            return Ok(());
        }
        let chosen = ready[self.world.rng.below(ready.len() as u64) as usize];
        self.poll_at(chosen)
    }

    fn poll_at(&mut self, i: usize) -> Result<(), Violation> {
        let Poll::Ready(answer) = self.pending[i].poll() else {
            return Ok(());
        };
        let pending = self.pending.swap_remove(i);
        self.answered(&pending.attempt, &answer)
    }

    fn answered(&mut self, attempt: &Attempt, answer: &Answer) -> Result<(), Violation> {
        let batch = attempt.batch;
        self.world
            .say(|| format!("batch {batch}: {}", short(answer)));
        self.world.trace(code(answer));
        match answer {
            Ok(_) => self.world.report.succeeded += 1,
            Err(AppendError::Conflict { .. } | AppendError::Matched { .. }) => {
                self.world.report.declined += 1;
            }
            Err(AppendError::Unknown { .. }) if self.world.rng.one_in(2) => {
                self.given_up.get_or_insert(batch);
            }
            Err(_) => {}
        }
        let excused = self.is_excused();
        self.world.model.answered(attempt, answer, excused)
    }

    fn drop_one(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let chosen = self.world.rng.below(self.pending.len() as u64) as usize;
        let pending = self.pending.swap_remove(chosen);
        // Not waiting for an answer is no failure of the log.
        self.world.report.operations -= 1;
        let batch = pending.attempt.batch;
        self.world
            .say(|| format!("batch {batch}: no longer waited for"));
        self.world.model.abandoned(&pending.attempt);
    }

    /// Appends what must be refused, whatever else happens.
    fn append_wrong(&mut self) -> Result<(), Violation> {
        let known = self.world.any_placed();
        let known = known.map(|batch| self.world.model.batches[batch].append.events[0].clone());
        let stranger = |event: &NewEvent| {
            // An id that stands for no batch: if it is ever read, it is a phantom.
            let free = event_id((1 << 24) - 1, 0, event.id.as_u128());
            NewEvent {
                id: EventId::from_u128(free),
                ..event.clone()
            }
        };
        let (append, expected): (Append, fn(&Rejection) -> bool) =
            match (self.world.rng.below(5), known) {
                (0, Some(event)) => {
                    let mut other = event;
                    other.data = [&other.data[..], b"!"].concat().into();
                    // Bytes that need not be JSON.
                    other.meta_mut().content_type = Some("text/plain".to_owned());
                    let refused = |r: &Rejection| matches!(r, Rejection::IdTaken { .. });
                    (Append::event(other), refused)
                }
                (1, Some(event)) if self.is_alone(&event) => {
                    let both = vec![stranger(&event), event];
                    let refused = |r: &Rejection| matches!(r, Rejection::PartlyWritten { .. });
                    (Append::events(both), refused)
                }
                (2, Some(event)) => {
                    let twin = stranger(&event);
                    let twins = Append::events(vec![twin.clone(), twin]);
                    let refused = |r: &Rejection| {
                        matches!(r, Rejection::Limit(LimitError::RepeatedId { .. }))
                    };
                    (twins, refused)
                }
                (3, Some(event)) => {
                    let beyond = Cut::at(self.world.model.bound() + 1);
                    let query = Query::tags(["no such tag"]);
                    let append = Append::event(stranger(&event)).unless(query, beyond);
                    let refused = |r: &Rejection| matches!(r, Rejection::CutBeyondHead { .. });
                    (append, refused)
                }
                _ => {
                    let refused =
                        |r: &Rejection| matches!(r, Rejection::Limit(LimitError::EmptyBatch));
                    (Append::default(), refused)
                }
            };
        self.world
            .say(|| format!("wrong on purpose: {}", describe(&append)));
        let log = self.log.clone();
        let answer = drive(
            self.machine.as_ref(),
            "a wrong append",
            log.append(append.clone()),
        )?;
        match &answer {
            Err(AppendError::Rejected(rejection)) if expected(rejection) => Ok(()),
            Err(AppendError::Unavailable { .. } | AppendError::Unknown { .. })
            | Err(AppendError::Rejected(Rejection::ReadOnly))
                if self.is_excused() =>
            {
                Ok(())
            }
            _ => {
                let text = format!("{} got {answer:?}", describe(&append));
                Err(Violation::new(Wrong::Answer, text))
            }
        }
    }

    fn is_alone(&self, event: &NewEvent) -> bool {
        let model = &self.world.model;
        let batch = (event.id.as_u128() >> 16 & 0xff_ffff) as usize;
        model.batches[batch].append.events.len() == 1
    }

    // Reads.

    fn follow(&mut self) -> Result<(), Violation> {
        const FOLLOWERS_MAX: usize = 3;
        let rng = &mut self.world.rng;
        if self.followers.len() < FOLLOWERS_MAX && rng.one_in(4) {
            let filter = workload::filter(rng);
            let from = rng.below(self.world.model.head + 1);
            let stream = self
                .log
                .read(&Cut::at(from), filter.clone(), ReadMode::Follow);
            self.world.say(|| format!("follow {filter:?} from {from}"));
            self.followers.push(Follower::new(stream, filter, from));
        }
        if self.followers.is_empty() {
            return Ok(());
        }
        let rng = &mut self.world.rng;
        let chosen = rng.below(self.followers.len() as u64) as usize;
        let (needless, stop, count) = (rng.one_in(4), rng.one_in(30), rng.below(20));
        let follower = &mut self.followers[chosen];
        let mut failed = None;
        if needless || follower.is_woken() || !follower.waits {
            failed = follower.take(&mut self.world.model, count)?;
            let next = follower.account.next;
            self.world.trace(next);
            self.world.say(|| format!("follower {chosen} is at {next}"));
        }
        if stop || failed.is_some() {
            let follower = self.followers.swap_remove(chosen);
            self.world.readers.push(follower.account);
        }
        match failed {
            Some(error) => self.read_failed("a follower", &error),
            None => Ok(()),
        }
    }

    fn read(&mut self) -> Result<(), Violation> {
        self.world.report.operations += 1;
        let failed = match self.world.rng.below(4) {
            0 => self.read_everything()?,
            1 => self.read_some()?,
            2 => self.read_head()?,
            _ => self.read_one_stream()?,
        };
        match failed {
            None => {
                self.world.report.succeeded += 1;
                Ok(())
            }
            Some(error) => self.read_failed("a read", &error),
        }
    }

    fn read_failed(&mut self, what: &str, error: &ReadError) -> Result<(), Violation> {
        self.world.say(|| format!("{what} failed: {error}"));
        self.world.trace(77);
        match error {
            ReadError::Io { .. } | ReadError::Unavailable(_) | ReadError::Closed
                if self.is_excused() =>
            {
                Ok(())
            }
            ReadError::Damaged { .. } if self.reads_fail || self.world.disk.is_struck() => Ok(()),
            _ => {
                let text = format!("{what} failed without cause: {error}");
                Err(Violation::new(Wrong::Unavailable, text))
            }
        }
    }

    fn read_everything(&mut self) -> Result<Option<ReadError>, Violation> {
        let all = Filter::all();
        let machine = self.machine.as_ref();
        let read = self.world.try_read(machine, 0, all, ReadMode::ToHead)?;
        let events = match read {
            Ok(events) => events,
            Err(error) => return Ok(Some(error)),
        };
        self.world
            .say(|| format!("read all {} events", events.len()));
        self.world.trace(events.len() as u64);
        self.world.model.check(&events, Moment::UnderWay)?;
        for follower in &self.followers {
            follower.account.settle(&self.world.model)?;
        }
        for reader in std::mem::take(&mut self.world.readers) {
            reader.settle(&self.world.model)?;
        }
        Ok(None)
    }

    fn read_head(&mut self) -> Result<Option<ReadError>, Violation> {
        let known = self.world.model.head;
        let head = match drive(self.machine.as_ref(), "the head", self.log.head())? {
            Ok(head) => head.get(PartitionId(0)),
            Err(error) => return Ok(Some(error)),
        };
        if head < known {
            let text = format!("the head is {head}, but {known} events are known");
            return Err(Violation::new(Wrong::Read, text));
        }
        self.world.trace(head);
        self.world.model.saw_head(head);
        Ok(None)
    }

    fn read_some(&mut self) -> Result<Option<ReadError>, Violation> {
        let head = self.world.model.head;
        let filter = workload::filter(&mut self.world.rng);
        let from = self.world.rng.below(head + 1);
        let machine = self.machine.as_ref();
        let read = self
            .world
            .try_read(machine, from, filter.clone(), ReadMode::ToHead)?;
        let events = match read {
            Ok(events) => events,
            Err(error) => return Ok(Some(error)),
        };
        let mut account = Account::new(filter, from);
        for event in &events {
            account.give(&mut self.world.model, event)?;
        }
        account.passed(head);
        self.world.trace(events.len() as u64);
        self.world.readers.push(account);
        Ok(None)
    }

    /// Streams are read whole; what is known of the stream must be there.
    fn read_one_stream(&mut self) -> Result<Option<ReadError>, Violation> {
        let stream = workload::stream(&mut self.world.rng);
        let known = self.world.model.tips.get(&stream).copied().unwrap_or(0);
        let (range, order) = self.world.stream_range();
        let source = self.log.read_stream(&stream, range.clone(), order);
        let machine = self.machine.as_ref();
        let read = self.world.collect(machine, source)?;
        let mut events = match read {
            Ok(events) => events,
            Err(error) => return Ok(Some(error)),
        };
        if order == anabranch_log::Order::Backward {
            events.reverse();
        }
        let mut next = range.0.start;
        for event in &events {
            if event.stream() != stream.as_str() || event.version != next {
                let text = format!(
                    "reading {stream} {range:?}: wanted {next}, got {}",
                    brief(event)
                );
                return Err(Violation::new(Wrong::Read, text));
            }
            self.world.model.saw(event)?;
            next += 1;
        }
        if next < known.min(range.0.end) {
            let text = format!("reading {stream} {range:?} ended at {next}, {known} are known");
            return Err(Violation::new(Wrong::Read, text));
        }
        self.world.trace(events.len() as u64);
        Ok(None)
    }

    // Time and trouble.

    fn pass_time(&mut self) {
        let rng = &mut self.world.rng;
        let by = match rng.below(40) {
            0 if self.pending.is_empty() => Duration::from_secs(3600),
            1..10 => Duration::from_micros(rng.below(1_000_000)),
            _ => Duration::from_micros(rng.below(2_000)),
        };
        self.world.disk.clock().advance(by);
        if self.world.rng.one_in(10) {
            // The wall clock may show anything: nothing may depend on it.
            let wall = self.world.rng.below(4_000_000_000_000_000);
            self.world.disk.clock().set_wall_micros(wall);
        }
    }

    fn plan_faults(&mut self) {
        let rng = &mut self.world.rng;
        let nth = 1 + rng.below(30);
        let soon = 1 + rng.below(10);
        let write = Calls::WRITE | Calls::DIRECT;
        let any_sync = Calls::SYNC | Calls::DIRECT | Calls::SYNC_DIR;
        let fault = match rng.below(24) {
            // What a log must bear without a word.
            0..3 => Fault::one_in(3, write | Calls::READ, FaultKind::Short),
            3..5 => Fault::one_in(4, write | Calls::READ, FaultKind::Interrupted),
            5 => {
                let long = Duration::from_millis(rng.below(900));
                Fault::one_in(8, Calls::ANY, FaultKind::Slow(long))
            }
            // What it must answer for.
            6..8 => Fault::nth(soon, Calls::SYNC, FaultKind::LostPages),
            8 => Fault::nth(soon, any_sync, FaultKind::Io),
            9 => Fault {
                when: anabranch_env::sim::When::From(nth),
                ..Fault::every(any_sync, FaultKind::Io)
            },
            10 => Fault::nth(nth, write, FaultKind::Io),
            11 => Fault::nth(nth, Calls::CHANGE, FaultKind::Io),
            12 => Fault::nth(
                1 + rng.below(4),
                Calls::RENAME | Calls::CREATE | Calls::SYNC_DIR,
                FaultKind::Io,
            ),
            13 => Fault::one_in(5, Calls::OPEN | Calls::CREATE, FaultKind::TooManyFiles),
            14 => Fault::one_in(6, Calls::READ, FaultKind::Io),
            15 => Fault {
                when: anabranch_env::sim::When::From(nth),
                ..Fault::every(Calls::CHANGE | Calls::SYNC, FaultKind::ReadOnly)
            },
            16 => Fault::nth(nth, Calls::CHANGE, FaultKind::NoSpace),
            18..22 => Fault::nth(soon, Calls::SYNC | Calls::DIRECT, FaultKind::Io),
            17 => Fault::nth(
                nth,
                Calls::SYNC | Calls::DIRECT,
                FaultKind::Slow(Duration::from_secs(60)),
            ),
            _ => {
                let room = rng.below(200_000);
                let used = self.world.disk.used_bytes();
                self.world
                    .say(|| format!("the disk has room for {room} bytes"));
                self.world.disk.set_capacity(Some(used + room));
                (self.in_trouble, self.full) = (true, true);
                return;
            }
        };
        self.in_trouble = !matches!(
            fault.kind,
            FaultKind::Short | FaultKind::Interrupted | FaultKind::Slow(Duration::ZERO)
        ) && !matches!(fault.kind, FaultKind::Slow(by) if by < Duration::from_secs(1));
        self.reads_fail = fault.calls.meets(Calls::READ) && fault.kind == FaultKind::Io;
        self.world.say(|| format!("fault: {fault:?}"));
        self.world.disk.inject(fault);
    }

    /// Once there is room, the log must take appends again, by itself.
    fn make_room(&mut self) -> Result<(), Violation> {
        self.come_to_rest()?;
        if self.world.disk.is_struck() {
            return Ok(());
        }
        self.world.say(|| "there is room again".to_owned());
        self.world.disk.call_off();
        self.world.disk.set_capacity(None);
        const TRIES: u32 = 5;
        for _ in 0..TRIES {
            self.world.disk.clock().advance(Duration::from_secs(2));
            while self.machine.step() {}
            let mut append = workload::append(&mut self.world.rng, &self.world.model);
            append.conditions.clear();
            let attempt = self.world.model.submit(append.clone());
            self.world.report.operations += 1;
            let log = self.log.clone();
            let answer = drive(self.machine.as_ref(), "an append", log.append(append))?;
            self.answered(&attempt, &answer)?;
            if answer.is_ok() {
                return Ok(());
            }
        }
        let text = format!("{TRIES} appends failed after there was room again");
        Err(Violation::new(Wrong::Unavailable, text))
    }

    // The end.

    /// Does all work there is. Then nothing may be left waiting that could go on.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        loop {
            while let Some(i) = self.pending.iter().position(Pending::is_woken) {
                self.poll_at(i)?;
            }
            if self.world.disk.is_struck() {
                return Ok(());
            }
            let woken = self.pending.iter().any(Pending::is_woken);
            if !self.machine.step() && !woken && !self.pending.iter().any(Pending::is_woken) {
                break;
            }
        }
        if let Some(pending) = self.pending.first()
            && !self.is_excused()
        {
            let name = self.world.model.name(pending.attempt.batch);
            let text = format!("{name} waits, no work is left, and nothing woke it");
            return Err(Violation::new(Wrong::Stuck, text));
        }
        self.followers_come_to_rest()
    }

    fn followers_come_to_rest(&mut self) -> Result<(), Violation> {
        for i in 0..self.followers.len() {
            let follower = &mut self.followers[i];
            if follower.waits && !follower.is_woken() {
                // It said there was nothing more; nobody has told it otherwise.
                let model = &self.world.model;
                follower.account.passed(model.head);
                follower.account.settle(model).map_err(|violation| {
                    let text = format!("a waiting follower was not woken: {}", violation.text);
                    Violation::new(Wrong::Stuck, text)
                })?;
                continue;
            }
            if let Some(error) = follower.take(&mut self.world.model, u64::MAX)? {
                self.read_failed("a follower", &error)?;
            }
        }
        Ok(())
    }

    /// What can still be seen of a dying process counts: an answer that came just before
    /// the end is an answer.
    fn see_the_end(&mut self) -> Result<(), Violation> {
        self.in_trouble = true;
        while let Some(i) = self.pending.iter().position(Pending::is_woken) {
            self.poll_at(i)?;
        }
        for follower in &mut self.followers {
            follower.take(&mut self.world.model, 50)?;
        }
        if self.world.disk.is_struck() && self.world.rng.one_in(4) {
            let head = self.world.model.head.saturating_sub(20);
            let machine = self.machine.as_ref();
            let read = self
                .world
                .try_read(machine, head, Filter::all(), ReadMode::ToHead)?;
            for event in read.iter().flatten() {
                self.world.model.saw(event)?;
            }
        }
        for pending in self.pending.drain(..) {
            self.world.model.abandoned(&pending.attempt);
        }
        for follower in self.followers.drain(..) {
            self.world.readers.push(follower.account);
        }
        self.world.say(|| "the end".to_owned());
        Ok(())
    }
}

fn describe(append: &Append) -> String {
    let conditions: Vec<String> = append
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::Stream(stream, expect) => format!("{stream} {expect:?}"),
            Condition::NoMatch { after, .. } => format!("no match after {after}"),
        })
        .collect();
    let events: Vec<String> = append
        .events
        .iter()
        .map(|event| format!("{}+{}", event.stream, event.data.len()))
        .collect();
    let first = append.events.first().map(|event| event.id.as_u128());
    let batch = first.map(|id| id >> 16 & 0xff_ffff);
    format!("append batch {batch:?}: {events:?} if {conditions:?}")
}

fn short(answer: &Answer) -> String {
    match answer {
        Ok(appended) => {
            let repeated = if appended.repeated { ", repeated" } else { "" };
            let first = appended.places.first().map(|placed| placed.position);
            format!("at {first:?}{repeated}")
        }
        Err(error) => error.to_string(),
    }
}

fn code(answer: &Answer) -> u64 {
    match answer {
        Ok(appended) => appended.places.first().map_or(0, |p| p.position.offset),
        Err(error) => error.code().bytes().map(u64::from).sum::<u64>() << 32,
    }
}
