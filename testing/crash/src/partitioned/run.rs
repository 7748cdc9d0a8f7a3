//! A run over several partitions, from one seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::SplitMix64;
use anabranch_env::sim::{self, Calls, Fault, FaultKind, SimClock, SimDisk, Survival};
use anabranch_log::{
    Append, AppendError, Appended, Condition, Expect, Layout, Log, OpenError, ReadMode,
};
use anabranch_log_segment::{Background, Bug, EmbeddedLog, Options, WriteMethod, create};
use anabranch_model::{Cut, Event, Filter, NewEvent, StreamId};

use super::told::{Told, event_id};
use crate::poll::Bell;
use crate::violation::{Violation, Wrong};

/// Where the log is, on the simulated disk.
const DIR: &str = "log";
const CLIENTS: usize = 4;
const CATEGORIES: [&str; 4] = ["order", "payment", "stock", "price"];

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The disk: power cuts, killed processes, syncs that fail.
    Cuts,
    /// The network too: messages to the log and its answers are lost, late and doubled.
    Hostile,
}

/// What runs did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// States of the disk after a power cut or the end of a process, each opened and checked.
    pub states: u64,
    /// Appends that clients made.
    pub appends: u64,
    /// Appends that clients were told to be written.
    pub acknowledged: u64,
    /// Appends that the log has refused, as their conditions did not hold.
    pub refused: u64,
    /// Answers that did not come to their client, and messages that did not come to the log.
    pub lost: u64,
    /// Messages that came twice.
    pub doubled: u64,
    /// Messages that came after others that were sent later.
    pub late: u64,
    /// Appends that were sent again and were there already.
    pub repeated: u64,
}

impl Counts {
    /// Adds those of other runs.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.runs, other.runs),
            (&mut self.states, other.states),
            (&mut self.appends, other.appends),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.refused, other.refused),
            (&mut self.lost, other.lost),
            (&mut self.doubled, other.doubled),
            (&mut self.late, other.late),
            (&mut self.repeated, other.repeated),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
    }
}

/// Runs a log with several partitions from one seed, with a planted bug or sound. Fails with the
/// first violation.
pub fn run_partitioned(
    seed: u64,
    trouble: Trouble,
    bug: Option<Bug>,
) -> (Counts, Result<(), Violation>) {
    let mut world = World::new(seed, trouble, bug);
    let lived = catch_unwind(AssertUnwindSafe(|| world.lives()));
    let outcome = lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let text = text.unwrap_or_else(|| "for a reason that is no text".to_owned());
        Err(Violation::new(Wrong::Panic, text))
    });
    world.counts.runs = 1;
    (world.counts, outcome)
}

type Answer = Result<Appended, AppendError>;

struct World {
    rng: SplitMix64,
    disk: SimDisk,
    clock: Arc<SimClock>,
    layout: Layout,
    trouble: Trouble,
    bug: Option<Bug>,
    told: Told,
    /// Appends on their way to the log, in the order in which they were sent.
    on_the_way: Vec<usize>,
    /// What each client has been told of: its next append depends on it.
    clients: Vec<Cut>,
    /// A sync has failed or the disk was struck.
    in_trouble: bool,
    counts: Counts,
}

impl World {
    fn new(seed: u64, trouble: Trouble, bug: Option<Bug>) -> Self {
        let (_, disk, clock) = sim::env(seed);
        let mut rng = SplitMix64::new(seed);
        let mut count = || 1 + rng.below(3);
        let groups = [
            format!("trade=order,payment:{}", count()),
            format!("stock=stock:{}", count()),
        ];
        let groups = groups.map(|group| group.parse().expect("a group"));
        let layout = Layout::new(groups.into(), count() as u32).expect("a layout");
        Self {
            rng,
            disk,
            clock,
            layout,
            trouble,
            bug,
            told: Told::default(),
            on_the_way: Vec::new(),
            clients: vec![Cut::start(); CLIENTS],
            in_trouble: false,
            counts: Counts::default(),
        }
    }

    fn lives(&mut self) -> Result<(), Violation> {
        let env = self.disk.env(self.rng.next_u64());
        create(&env, DIR, &self.layout)
            .map_err(|error| Violation::new(Wrong::Unavailable, error.to_string()))?;
        let mut log = self.recover()?;
        for _ in 0..3 {
            self.live(&log)?;
            for _ in 0..2 {
                self.check_fork()?;
            }
            self.end_process(log);
            log = self.recover()?;
        }
        self.come_to_rest(&log)
    }

    fn options(&mut self) -> Options {
        let direct = self.rng.below(2) == 0;
        Options {
            background: Background::Manual,
            write_method: if direct {
                WriteMethod::Direct
            } else {
                WriteMethod::Buffered
            },
            segment_bytes: 64 << 10,
            first_segment_bytes: Some(16 << 10),
            spare_segments: 0,
            index_memory: 64 << 10,
            reserve_bytes: 0,
            sabotage: self.bug,
            ..Options::default()
        }
    }

    /// Opens the log, perhaps after recoveries that were cut short, and checks what it has.
    fn recover(&mut self) -> Result<EmbeddedLog, Violation> {
        self.disk.clear_faults();
        self.in_trouble = false;
        loop {
            if self.rng.one_in(3) {
                self.disk.strike_at(1 + self.rng.below(60));
            }
            let options = self.options();
            let env = self.disk.env(self.rng.next_u64());
            let opened = EmbeddedLog::open(env, Path::new(DIR), options);
            let is_struck = self.disk.is_struck();
            self.disk.call_off();
            match opened {
                Ok(log) if !is_struck => {
                    let events = self.read(&log)?;
                    self.told.settled(&events);
                    self.counts.states += 1;
                    return Ok(log);
                }
                Err(error) if !is_struck => return Err(refused(&error)),
                _ => self.cut(),
            }
        }
    }

    /// Cuts the power, or kills the process.
    fn cut(&mut self) {
        match self.rng.one_in(6) {
            true => self.disk.kill(),
            false => self.disk.crash(Survival::Any(self.rng.next_u64())),
        }
    }

    fn end_process(&mut self, log: EmbeddedLog) {
        self.disk.call_off();
        self.disk.clear_faults();
        self.cut();
        drop(log);
    }

    /// Opens what another end of the process would have left at this moment.
    fn check_fork(&mut self) -> Result<(), Violation> {
        let mut fork = Self {
            rng: SplitMix64::new(self.rng.next_u64()),
            disk: self.disk.fork(),
            clock: self.clock.clone(),
            layout: self.layout.clone(),
            told: self.told.clone(),
            on_the_way: Vec::new(),
            clients: Vec::new(),
            counts: Counts::default(),
            ..*self
        };
        fork.disk.call_off();
        fork.cut();
        let checked = fork.recover().map(drop);
        self.counts.states += fork.counts.states;
        checked
    }

    fn live(&mut self, log: &EmbeddedLog) -> Result<(), Violation> {
        if self.rng.below(4) > 0 {
            self.disk.strike_at(1 + self.rng.below(200));
        }
        if self.rng.one_in(4) {
            let nth = 1 + self.rng.below(12);
            self.disk
                .inject(Fault::nth(nth, Calls::SYNC | Calls::DIRECT, FaultKind::Io));
            self.in_trouble = true;
        }
        for _ in 0..20 + self.rng.below(60) {
            self.clock.advance(Duration::from_micros(self.rng.below(3)));
            match self.rng.below(10) {
                0..4 => self.send_new(),
                4..5 => self.send_again(),
                5..9 => self.deliver_some(log)?,
                _ if self.disk.is_struck() => {}
                _ => drop(self.read(log)?),
            }
            if self.disk.is_struck() {
                break;
            }
        }
        Ok(())
    }

    /// A client appends: behind all that it was told, often under a condition.
    fn send_new(&mut self) {
        let client = self.rng.below(CLIENTS as u64) as usize;
        if self.rng.one_in(3) {
            let other = self.clients[self.rng.below(CLIENTS as u64) as usize].clone();
            self.clients[client].join(&other);
        }
        let key = self.rng.below(5).to_string();
        let number = self.told.sent.len();
        let first = CATEGORIES[self.rng.below(4) as usize];
        let mut events: Vec<NewEvent> = (0..1 + self.rng.below(3) as usize)
            .map(|index| {
                // Orders and payments of one key stand together.
                let both = index > 0 && first == "order" && self.rng.one_in(2);
                let category = if both { "payment" } else { first };
                let stream = StreamId::of(category, &key).expect("a stream");
                let kind = "Happened".parse().expect("a type");
                let data = format!("[{}]", self.rng.below(1_000_000));
                NewEvent::new(event_id(number, index), stream, kind, data)
            })
            .collect();
        if self.rng.below(5) > 0 {
            events[0].meta_mut().causes = self.clients[client].clone();
        }
        let mut append = Append::events(events);
        if self.rng.one_in(3) {
            let stream = append.events[0].stream.clone();
            let expect = match self.rng.below(3) {
                0 => Expect::Empty,
                _ => Expect::At(self.rng.below(6)),
            };
            append.conditions.push(Condition::Stream(stream, expect));
        }
        self.counts.appends += 1;
        self.told.send(append);
        self.put_on_the_way(number);
    }

    fn put_on_the_way(&mut self, number: usize) {
        self.told.sent[number].on_the_way += 1;
        self.on_the_way.push(number);
    }

    /// A client that has no answer asks again.
    fn send_again(&mut self) {
        let waits = |number: &usize| {
            let sent = &self.told.sent[*number];
            !sent.is_told && !sent.is_refused
        };
        let waiting: Vec<usize> = (0..self.told.sent.len()).filter(waits).collect();
        if !waiting.is_empty() {
            let chosen = waiting[self.rng.below(waiting.len() as u64) as usize];
            self.put_on_the_way(chosen);
        }
    }

    /// Some of what is on its way comes to the log, at the same time.
    fn deliver_some(&mut self, log: &EmbeddedLog) -> Result<(), Violation> {
        let is_hostile = self.trouble == Trouble::Hostile;
        let mut come = Vec::new();
        for number in std::mem::take(&mut self.on_the_way) {
            match self.rng.below(12) {
                0 if is_hostile => self.counts.lost += 1,
                1 | 2 if is_hostile => {
                    self.counts.late += 1;
                    self.on_the_way.push(number);
                    continue;
                }
                3 if is_hostile => {
                    self.counts.doubled += 1;
                    self.on_the_way.push(number);
                    self.told.sent[number].on_the_way += 1;
                    come.push(number);
                }
                _ => come.push(number),
            }
            self.told.sent[number].on_the_way -= 1;
        }
        self.deliver(log, come)
    }

    fn deliver(&mut self, log: &EmbeddedLog, come: Vec<usize>) -> Result<(), Violation> {
        let mut answers = self.append_together(log, &come)?;
        // Of two at once one may be refused before the other is written, and either may be answered
        // as the repeat.
        answers.sort_by_key(|(_, answer)| match answer {
            Some(Err(_)) => 0,
            None => 1,
            Some(Ok(written)) => 2 + u8::from(written.repeated),
        });
        for (number, answer) in answers {
            let Some(answer) = answer else {
                // Nobody waits for it any more.
                self.told.sent[number].is_open = true;
                self.told.sent[number].is_refused = false;
                continue;
            };
            let in_trouble = self.in_trouble || self.disk.is_struck();
            self.told.answered(number, &answer, in_trouble)?;
            if self.trouble == Trouble::Hostile && self.rng.one_in(4) {
                self.counts.lost += 1;
                continue;
            }
            self.told_client(number, &answer);
        }
        Ok(())
    }

    fn told_client(&mut self, number: usize, answer: &Answer) {
        let sent = &mut self.told.sent[number];
        match answer {
            Ok(appended) if !sent.is_told => {
                sent.is_told = true;
                self.counts.acknowledged += 1;
                self.counts.repeated += u64::from(appended.repeated);
                self.clients[number % CLIENTS].join(&appended.closure);
            }
            Err(AppendError::Conflict { .. }) if sent.is_refused => self.counts.refused += 1,
            _ => {}
        }
    }

    /// Makes appends side by side, each of which may be given up before its answer.
    fn append_together(
        &mut self,
        log: &EmbeddedLog,
        numbers: &[usize],
    ) -> Result<Vec<(usize, Option<Answer>)>, Violation> {
        let mut answers = Vec::new();
        let mut waiting: Vec<_> = numbers
            .iter()
            .map(|&number| {
                (
                    number,
                    log.append(self.told.sent[number].append.clone()),
                    Bell::new(),
                )
            })
            .collect();
        let mut tries = 0;
        while !waiting.is_empty() {
            let mut moved = false;
            let mut at = 0;
            while at < waiting.len() {
                let (number, future, bell) = &mut waiting[at];
                if !bell.has_rung() {
                    at += 1;
                    continue;
                }
                moved = true;
                if let std::task::Poll::Ready(answer) =
                    bell.poll(|cx| Pin::new(&mut *future).poll(cx))
                {
                    answers.push((*number, Some(answer)));
                    drop(waiting.swap_remove(at));
                } else if self.rng.one_in(25) {
                    answers.push((*number, None));
                    drop(waiting.swap_remove(at));
                } else {
                    at += 1;
                }
            }
            tries += 1;
            if (!moved && !log.step()) || tries > 100_000 {
                let text = "appends wait, no work is left, and nothing wakes them";
                return Err(Violation::new(Wrong::Stuck, text));
            }
        }
        Ok(answers)
    }

    /// Reads everything and asks whether it may look so.
    fn read(&mut self, log: &EmbeddedLog) -> Result<Vec<Event>, Violation> {
        let failed = |what: &str, text: String| {
            Violation::new(Wrong::Unavailable, format!("{what}: {text}"))
        };
        let head = at_once(log.head()).map_err(|error| failed("the head", error.to_string()))?;
        let mut all = Vec::new();
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        while let Some(event) = at_once(events.next()) {
            all.push(event.map_err(|error| failed("a read", error.to_string()))?);
        }
        self.told.check(&self.layout, &all, &head)?;
        Ok(all)
    }

    /// Everybody asks until there is an answer; then each acknowledged append is there once.
    fn come_to_rest(&mut self, log: &EmbeddedLog) -> Result<(), Violation> {
        self.trouble = Trouble::Cuts;
        let rest = std::mem::take(&mut self.on_the_way);
        for &number in &rest {
            self.told.sent[number].on_the_way -= 1;
        }
        self.deliver(log, rest)?;
        for _ in 0..50 {
            let waits = |number: &usize| {
                let sent = &self.told.sent[*number];
                !sent.is_told && !sent.is_refused
            };
            let waiting: Vec<usize> = (0..self.told.sent.len()).filter(waits).collect();
            if waiting.is_empty() {
                return self.read(log).map(drop);
            }
            self.deliver(log, waiting)?;
        }
        Err(Violation::new(
            Wrong::Stuck,
            "an append gets no answer on a disk that is well",
        ))
    }
}

fn refused(error: &OpenError) -> Violation {
    Violation::new(
        Wrong::Unavailable,
        format!("the log does not open: {error}"),
    )
}

/// The value of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let bell = Bell::new();
    loop {
        if let std::task::Poll::Ready(value) = bell.poll(|cx| future.as_mut().poll(cx)) {
            return value;
        }
        assert!(bell.has_rung(), "a read waits, and nothing wakes it");
    }
}
