//! A machine and what its log was told to hold: opening it, and comparing the two.

use std::sync::Arc;

use anabranch_env::SplitMix64;
use anabranch_env::sim::{self, Calls, Fault, FaultKind, SimDisk, Survival, Tally};
use anabranch_log::{Log, OpenError, ReadError, ReadMode};
use anabranch_model::{Cut, Event, Filter, PartitionId};
use futures_core::Stream as _;
use std::pin::Pin;

use crate::check::Moment;
use crate::engine::{Engine, Machine};
use crate::follower::Account;
use crate::model::Model;
use crate::poll::{Bell, drive, drive_poll};
use crate::violation::{Violation, Wrong};

/// How much one run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How often the process is ended and started again.
    pub lives: u32,
    /// From how many other crash states of the same moment the log is opened, too.
    pub forks: u32,
    /// How many recoveries in a row may be cut short.
    pub nested_max: u32,
    /// How many damaged copies of the last state are looked at.
    pub damages: u32,
    /// Whether to keep a journal of what was done, line by line.
    pub journal: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lives: 5,
            forks: 12,
            nested_max: 5,
            damages: 24,
            journal: false,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Crash states from which the log was opened and compared with the model.
    pub states: u64,
    /// Recoveries that were cut short themselves.
    pub recoveries_cut: u64,
    /// Appends and reads that were started.
    pub operations: u64,
    /// Of these, how many did what was asked.
    pub succeeded: u64,
    /// Of these, appends that were declined with a reason: a condition did not hold.
    pub declined: u64,
    /// Damaged copies of a log that were looked at: each was either read whole, or the
    /// damage was told and everything else read.
    pub damaged: u64,
    /// Of these, how many were told.
    pub damage_told: u64,
    /// Crash states of disks that lied: a sync did nothing, or bytes went astray.
    pub lying: u64,
    /// Of these, how many lost acknowledged events and said so.
    pub lying_told: u64,
    /// Of these, how many lost acknowledged events and could not know.
    pub lying_silent: u64,
    /// What happened to the disks.
    pub tally: Tally,
    /// A hash of everything that was done and answered.
    pub trace: u64,
    /// What was done, if a journal was kept.
    pub journal: Vec<String>,
}

impl Report {
    /// Adds what another run did. The journal is left out.
    pub fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.recoveries_cut += other.recoveries_cut;
        self.operations += other.operations;
        self.succeeded += other.succeeded;
        self.declined += other.declined;
        self.damaged += other.damaged;
        self.damage_told += other.damage_told;
        self.lying += other.lying;
        self.lying_told += other.lying_told;
        self.lying_silent += other.lying_silent;
        self.tally.add(&other.tally);
        self.trace = mix(self.trace, other.trace);
    }
}

fn mix(a: u64, b: u64) -> u64 {
    SplitMix64::new(a ^ b.rotate_left(23)).next_u64()
}

/// A machine, the model of what its log was told to hold, and the dice.
pub(crate) struct World<'e> {
    pub(crate) engine: &'e dyn Engine,
    pub(crate) settings: Settings,
    pub(crate) disk: SimDisk,
    pub(crate) model: Model,
    pub(crate) rng: SplitMix64,
    pub(crate) report: Report,
    /// Readers whose events are still to be compared with a whole log.
    pub(crate) readers: Vec<Account>,
}

impl<'e> World<'e> {
    pub(crate) fn new(engine: &'e dyn Engine, seed: u64, settings: Settings) -> Self {
        let (_, disk, _) = sim::env(seed);
        let mut rng = SplitMix64::new(seed);
        disk.set_stale_bytes(rng.one_in(2));
        if settings.journal {
            disk.keep_journal();
        }
        Self {
            engine,
            settings,
            disk,
            model: Model::new(),
            rng,
            report: Report::default(),
            readers: Vec::new(),
        }
    }

    /// Tries something out on a copy of the world.
    pub(crate) fn in_fork(
        &mut self,
        what: &str,
        check: impl FnOnce(&mut World<'e>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut fork = World {
            engine: self.engine,
            settings: self.settings,
            disk: self.disk.fork(),
            model: self.model.clone(),
            rng: SplitMix64::new(self.rng.next_u64()),
            report: Report::default(),
            readers: Vec::new(),
        };
        fork.say(|| format!("== fork: {what}"));
        let checked = check(&mut fork);
        fork.take_disk_journal();
        fork.report.tally.add(&fork.disk.tally());
        fork.trace(fork.disk.trace());
        self.report.add(&fork.report);
        if checked.is_err() {
            self.take_disk_journal();
            self.report.journal.append(&mut fork.report.journal);
        }
        checked
    }

    /// Cuts the power, or kills the process.
    pub(crate) fn end_process(&mut self) {
        if self.rng.one_in(8) {
            self.disk.kill();
        } else {
            let seed = self.rng.next_u64();
            self.disk.crash(Survival::Any(seed));
        }
    }

    /// Opens the log, perhaps after recoveries that were cut short, and compares it with
    /// the model.
    pub(crate) fn recover(&mut self) -> Result<Box<dyn Machine>, Violation> {
        let machine = self.open()?;
        let events = self.read_all(machine.as_ref())?;
        self.say(|| format!("recovered {} events", events.len()));
        self.model.check(&events, Moment::AtRest)?;
        for reader in std::mem::take(&mut self.readers) {
            reader.settle(&self.model)?;
        }
        self.check_head(machine.as_ref(), events.len() as u64)?;
        self.check_other_reads(machine.as_ref(), &events)?;
        self.check_repeat(machine.as_ref())?;
        self.report.states += 1;
        self.trace(events.len() as u64);
        Ok(machine)
    }

    fn open(&mut self) -> Result<Box<dyn Machine>, Violation> {
        let mut cut = 0;
        loop {
            if cut < self.settings.nested_max && self.rng.one_in(3) {
                self.disk.strike_at(1 + self.rng.below(40));
            }
            let faulty = self.rng.one_in(10);
            let mut unreadable = false;
            if faulty {
                let fault = opening_fault(&mut self.rng);
                unreadable = fault.calls.meets(Calls::READ);
                self.say(|| format!("fault while opening: {fault:?}"));
                self.disk.inject(fault);
            }
            let env = self.disk.env(self.rng.next_u64());
            let opened = self.engine.open(env, self.rng.next_u64());
            let struck = self.disk.is_struck();
            self.disk.clear_faults();
            self.disk.call_off();
            match opened {
                Ok(machine) if !struck => return Ok(machine),
                Err(OpenError::Damaged { file, what }) if !unreadable => {
                    let text = format!("damage reported after an honest end: {file}: {what}");
                    return Err(Violation::new(Wrong::Unavailable, text));
                }
                Err(error) if !struck && !faulty => {
                    let text = format!("the log does not open: {error}");
                    return Err(Violation::new(Wrong::Unavailable, text));
                }
                _ => {}
            }
            if struck {
                cut += 1;
                self.report.recoveries_cut += 1;
            }
            self.end_process();
        }
    }

    /// All events from the start to the head, one by one or in batches.
    pub(crate) fn read_all(&mut self, machine: &dyn Machine) -> Result<Vec<Event>, Violation> {
        let read = self.try_read(machine, 0, Filter::all(), ReadMode::ToHead)?;
        read.map_err(|error| {
            let text = format!("reading from the start: {error}");
            Violation::new(Wrong::Unavailable, text)
        })
    }

    /// The events of one read that ends.
    pub(crate) fn try_read(
        &mut self,
        machine: &dyn Machine,
        from: u64,
        filter: Filter,
        mode: ReadMode,
    ) -> Result<Result<Vec<Event>, ReadError>, Violation> {
        let mut events = Vec::new();
        let read = self.read_into(machine, from, filter, mode, &mut events)?;
        Ok(read.map(|()| events))
    }

    /// Adds the events of one read that ends, also those before an error.
    pub(crate) fn read_into(
        &mut self,
        machine: &dyn Machine,
        from: u64,
        filter: Filter,
        mode: ReadMode,
        events: &mut Vec<Event>,
    ) -> Result<Result<(), ReadError>, Violation> {
        let stream = machine.log().read(&Cut::at(from), filter, mode);
        self.collect_into(machine, stream, events)
    }

    pub(crate) fn collect(
        &mut self,
        machine: &dyn Machine,
        stream: anabranch_log::EventStream,
    ) -> Result<Result<Vec<Event>, ReadError>, Violation> {
        let mut events = Vec::new();
        let read = self.collect_into(machine, stream, &mut events)?;
        Ok(read.map(|()| events))
    }

    fn collect_into(
        &mut self,
        machine: &dyn Machine,
        mut stream: anabranch_log::EventStream,
        events: &mut Vec<Event>,
    ) -> Result<Result<(), ReadError>, Violation> {
        let in_batches = self.rng.one_in(2);
        let bell = Bell::new();
        loop {
            if in_batches {
                match drive(machine, "a read", stream.next_batch())? {
                    None => return Ok(Ok(())),
                    Some(Err(error)) => return Ok(Err(error)),
                    Some(Ok(batch)) => {
                        for event in &batch {
                            match event {
                                Ok(event) => events.push(event.to_event()),
                                Err(error) => {
                                    let text = format!("a stored event is malformed: {error}");
                                    return Err(Violation::new(Wrong::Changed, text));
                                }
                            }
                        }
                    }
                }
            } else {
                let next = drive_poll(machine, "a read", &bell, |cx| {
                    Pin::new(&mut stream).poll_next(cx)
                })?;
                match next {
                    None => return Ok(Ok(())),
                    Some(Err(error)) => return Ok(Err(error)),
                    Some(Ok(event)) => events.push(event),
                }
            }
        }
    }

    fn check_head(&mut self, machine: &dyn Machine, len: u64) -> Result<(), Violation> {
        let log = machine.log();
        let head = drive(machine, "the head", log.head())?;
        match head {
            Ok(head) if head.get(PartitionId(0)) == len => Ok(()),
            other => {
                let text = format!("{len} events were read, but the head is {other:?}");
                Err(Violation::new(Wrong::Read, text))
            }
        }
    }

    /// Reads in other ways, which must give the same events.
    fn check_other_reads(
        &mut self,
        machine: &dyn Machine,
        events: &[Event],
    ) -> Result<(), Violation> {
        let len = events.len() as u64;
        let filter = crate::workload::filter(&mut self.rng);
        let from = self.rng.below(len + 1);
        let fits = |model: &Model, event: &Event| {
            let found = model.identify(event);
            found.is_ok_and(|(b, i)| crate::matching::filter_fits(&filter, model.event(b, i)))
        };
        let (what, got, expected): (_, _, Vec<&Event>) = match self.rng.below(4) {
            0 => {
                let got = self.try_read(machine, from, filter.clone(), ReadMode::ToHead)?;
                let expected = events.iter().skip(from as usize);
                let expected = expected.filter(|e| fits(&self.model, e));
                (format!("{filter:?} from {from}"), got, expected.collect())
            }
            1 => {
                let got = self.try_read(machine, from, filter.clone(), ReadMode::Backward)?;
                let expected = events.iter().take(from as usize).rev();
                let expected = expected.filter(|e| fits(&self.model, e));
                (
                    format!("{filter:?} back from {from}"),
                    got,
                    expected.collect(),
                )
            }
            _ => {
                let Some(any) = events.get(from as usize) else {
                    return Ok(());
                };
                let (range, order) = self.stream_range();
                let what = format!("{} {range:?} {order:?}", any.stream());
                let stream = machine
                    .log()
                    .read_stream(&any.stream_id(), range.clone(), order);
                let got = self.collect(machine, stream)?;
                let expected = events.iter();
                let expected =
                    expected.filter(|e| e.stream() == any.stream() && range.0.contains(&e.version));
                let mut expected: Vec<&Event> = expected.collect();
                if order == anabranch_log::Order::Backward {
                    expected.reverse();
                }
                (what, got, expected)
            }
        };
        let got = got.map_err(|error| {
            let text = format!("reading {what}: {error}");
            Violation::new(Wrong::Unavailable, text)
        })?;
        if got.iter().collect::<Vec<_>>() == expected {
            return Ok(());
        }
        let list = |events: &mut dyn Iterator<Item = &Event>| {
            events.map(|e| e.position.offset).collect::<Vec<_>>()
        };
        let text = format!(
            "reading {what} gave {:?}, not {:?}",
            list(&mut got.iter()),
            list(&mut expected.iter().copied())
        );
        Err(Violation::new(Wrong::Read, text))
    }

    /// A part of a stream, and a direction.
    pub(crate) fn stream_range(&mut self) -> (anabranch_log::VersionRange, anabranch_log::Order) {
        use anabranch_log::{Order, VersionRange};
        let range = match self.rng.below(4) {
            0 => VersionRange::from(self.rng.below(6)),
            1 => VersionRange::before(self.rng.below(6)),
            _ => VersionRange::ALL,
        };
        let order = match self.rng.below(2) {
            0 => Order::Forward,
            _ => Order::Backward,
        };
        (range, order)
    }

    /// Repeats a batch that is there: the answer must be its places.
    fn check_repeat(&mut self, machine: &dyn Machine) -> Result<(), Violation> {
        let Some(batch) = self.any_placed() else {
            return Ok(());
        };
        let attempt = self.model.submit_again(batch);
        let append = (*self.model.batches[batch].append).clone();
        let log: Arc<dyn Log> = machine.log();
        let answer = drive(machine, "a repeated append", log.append(append))?;
        self.model.answered(&attempt, &answer, false)?;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => {
                let text = format!("repeating {} gave: {error}", self.model.name(batch));
                Err(Violation::new(Wrong::Answer, text))
            }
        }
    }

    /// One of the batches that are there.
    pub(crate) fn any_placed(&mut self) -> Option<usize> {
        let count = self.model.placed_batches().count() as u64;
        let chosen = self.rng.below(count) as usize;
        self.model.placed_batches().nth(chosen)
    }

    /// Adds a number to the trace.
    pub(crate) fn trace(&mut self, n: u64) {
        self.report.trace = mix(self.report.trace, n);
    }

    /// Adds a line to the journal, after what the disk did before it.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.settings.journal {
            self.take_disk_journal();
            self.report.journal.push(line());
        }
    }

    pub(crate) fn take_disk_journal(&mut self) {
        let lines = self.disk.take_journal();
        let lines = lines.into_iter().map(|line| format!("      {line}"));
        self.report.journal.extend(lines);
    }
}

/// One thing that fails while the log is opened: it may say so, but must not be harmed.
fn opening_fault(rng: &mut SplitMix64) -> Fault {
    let nth = 1 + rng.below(12);
    match rng.below(6) {
        0 => Fault::nth(nth, Calls::CHANGE, FaultKind::Io),
        1 => Fault::nth(nth, Calls::SYNC | Calls::SYNC_DIR, FaultKind::LostPages),
        2 => Fault::nth(nth, Calls::OPEN | Calls::CREATE, FaultKind::TooManyFiles),
        3 => Fault::nth(nth, Calls::CHANGE, FaultKind::NoSpace),
        4 => Fault::nth(nth, Calls::READ, FaultKind::Io),
        _ => Fault::every(Calls::CHANGE | Calls::SYNC, FaultKind::ReadOnly),
    }
}
