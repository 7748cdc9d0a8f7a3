//! Faults that chance hardly ever brings about, each led to on purpose: on an empty disk,
//! with a few appends, and the strike where it hurts.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use anabranch_env::sim::{self, Calls, Fault, FaultKind, SimDisk, Survival};
use anabranch_log::{Append, AppendError, Expect, OpenError, ReadMode};
use anabranch_model::{Cut, EventId, EventType, Filter, NewEvent, Query, QueryItem, StreamId};

use crate::clients::Answer;
use crate::engine::{Engine, Machine};
use crate::poll::{Bell, drive};
use crate::violation::{Violation, Wrong};

/// Work that is done at most while waiting for something that may never come.
const STEPS_MAX: usize = 200;

type Checked = Result<(), Violation>;

/// Runs an engine through every case, with several write methods. Fails with the first
/// violation.
pub fn directed(engine: &dyn Engine) -> Checked {
    for tuning in 0..6 {
        let case = |seed| Case::new(engine, seed, tuning);
        case(1).a_conflict_waits_for_what_may_be_taken_back()?;
        case(2).what_was_taken_back_matches_nothing()?;
        case(3).a_segment_without_a_durable_name_is_not_built_on()?;
        case(4).damage_below_the_periodic_mark_is_told()?;
        // Marks are written in one way, whatever the segments are.
        if tuning % 3 == 0 {
            case(5).a_torn_mark_leaves_the_one_before_it()?;
            case(6).a_mark_that_was_not_synced_leaves_one_that_can_be_read()?;
        }
    }
    Ok(())
}

/// An engine and its machine.
struct Case<'e> {
    engine: &'e dyn Engine,
    disk: SimDisk,
    tuning: u64,
}

impl<'e> Case<'e> {
    fn new(engine: &'e dyn Engine, seed: u64, tuning: u64) -> Self {
        let (_, disk, _) = sim::env(seed);
        Self {
            engine,
            disk,
            tuning,
        }
    }

    fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            ..*self
        }
    }

    fn try_open(&self) -> Result<Box<dyn Machine>, OpenError> {
        self.engine.open(self.disk.env(1), self.tuning)
    }

    fn open(&self) -> Result<Box<dyn Machine>, Violation> {
        self.try_open().map_err(|error| {
            let text = format!("the log does not open: {error}");
            Violation::new(Wrong::Unavailable, text)
        })
    }

    /// Time passes, and the work that waits is done.
    fn rest(&self, machine: &dyn Machine) {
        for _ in 0..3 {
            self.disk.clock().advance(Duration::from_secs(1));
            for _ in 0..STEPS_MAX {
                if !machine.step() {
                    break;
                }
            }
            machine.upkeep();
        }
    }

    /// Appends one event; what the log says when the disk is sound.
    fn append(&self, machine: &dyn Machine, number: u128) -> Checked {
        match drive(
            machine,
            "an append",
            machine.log().append(Append::event(event(number))),
        )? {
            Ok(_) => Ok(()),
            Err(error) => Err(Violation::new(
                Wrong::Unavailable,
                format!("appending event {number}: {error}"),
            )),
        }
    }

    /// Flips a bit in the frame at the end of the log.
    fn damage_the_end(&self) -> Checked {
        let damaged = self.last_written().map(|(path, offset)| {
            let flipped = self.disk.flip_bit(&path, offset, 0);
            flipped.map_err(|error| Violation::new(Wrong::Unavailable, error.to_string()))
        });
        damaged.unwrap_or_else(|| Err(Violation::new(Wrong::Lost, "no segment holds anything")))
    }

    /// The last byte of the log that is not zero.
    fn last_written(&self) -> Option<(PathBuf, u64)> {
        let files = self.disk.files().into_iter().map(|(path, _)| path);
        let segments = files.filter(|path| path.extension().is_some_and(|e| e == "seg"));
        let path = segments.max()?;
        let content = self.disk.content(&path).ok()?;
        let offset = content.iter().rposition(|&byte| byte != 0)?;
        Some((path, offset as u64))
    }

    fn a_conflict_waits_for_what_may_be_taken_back(self) -> Checked {
        let machine = self.open()?;
        self.append(machine.as_ref(), 0)?;
        let every = Fault::every(Calls::SYNC | Calls::DIRECT, FaultKind::Io);
        self.disk.inject(every);
        let first = Waiting::start(machine.as_ref(), Append::event(event(1)));
        let second = Append::event(event(2)).expect(stream(), Expect::At(0));
        let second = Waiting::start(machine.as_ref(), second);
        let first = first.end(machine.as_ref())?;
        let second = second.end(machine.as_ref())?;
        if first.is_err() && matches!(second, Err(AppendError::Conflict { .. })) {
            let text = "a conflict was answered on account of an event that was taken back";
            return Err(Violation::new(Wrong::Condition, text));
        }
        Ok(())
    }

    fn what_was_taken_back_matches_nothing(self) -> Checked {
        let machine = self.open()?;
        self.append(machine.as_ref(), 0)?;
        let every = Fault::every(Calls::SYNC | Calls::DIRECT, FaultKind::Io);
        self.disk.inject(every);
        let tagged = Append::event(event(1).with_tag("sku:1"));
        let failed = Waiting::start(machine.as_ref(), tagged).end(machine.as_ref())?;
        self.disk.clear_faults();
        if failed.is_ok() {
            return Err(Violation::new(
                Wrong::Lost,
                "a failed sync was taken for done",
            ));
        }
        self.rest(machine.as_ref());
        let mut filter = Filter::all();
        filter.tags = vec!["sku:1".to_owned()];
        let item = QueryItem {
            types: Vec::new(),
            tags: filter.tags.clone(),
        };
        // Twice: the position that was taken back is somebody else's by the second time.
        for number in [2, 3] {
            let query = Query {
                items: vec![item.clone()],
            };
            let append = Append::event(event(number)).unless(query, Cut::at(0));
            let log = machine.log();
            if let Err(error) = drive(machine.as_ref(), "an append", log.append(append))? {
                let text = format!("nothing matches the query, but: {error}");
                return Err(Violation::new(Wrong::Condition, text));
            }
            if read(machine.as_ref(), filter.clone())? > 0 {
                let text = "an event is read for a tag of one that was taken back";
                return Err(Violation::new(Wrong::Read, text));
            }
        }
        Ok(())
    }

    /// A process is killed at each call in turn while a log begins; the next one builds on
    /// what it left, is answered, and the power is cut.
    fn a_segment_without_a_durable_name_is_not_built_on(self) -> Checked {
        for calls in 1..60 {
            let case = self.fork();
            case.disk.strike_at(calls);
            if let Ok(machine) = case.try_open() {
                let append = Append::event(event(0));
                let answer = Waiting::start(machine.as_ref(), append).end(machine.as_ref())?;
                if answer.is_ok() && !case.disk.is_struck() {
                    return Ok(());
                }
            }
            case.disk.kill();
            let machine = case.open()?;
            case.append(machine.as_ref(), 1)?;
            drop(machine);
            case.disk.crash(Survival::Nothing);
            let machine = case.open()?;
            if read(machine.as_ref(), Filter::all())? == 0 {
                let text = format!(
                    "an event acknowledged after a kill at call {calls} went with its file's name"
                );
                return Err(Violation::new(Wrong::Lost, text));
            }
        }
        Ok(())
    }

    fn damage_below_the_periodic_mark_is_told(self) -> Checked {
        let machine = self.open()?;
        for number in 0..3 {
            self.append(machine.as_ref(), number)?;
        }
        self.rest(machine.as_ref());
        drop(machine);
        self.disk.crash(Survival::Nothing);
        self.tells_damage_at_the_end("a second of rest")
    }

    /// The power is cut at each call in turn while a second mark is written. The first one
    /// still tells that what it covers was there: also when everything behind is damaged too.
    fn a_torn_mark_leaves_the_one_before_it(self) -> Checked {
        let machine = self.open()?;
        for number in 0..3 {
            self.append(machine.as_ref(), number)?;
        }
        self.rest(machine.as_ref());
        let covered = self.last_written();
        drop(machine);
        self.disk.crash(Survival::Nothing);
        for calls in 1..40 {
            for seed in 0..3 {
                let case = self.fork();
                let machine = case.open()?;
                case.append(machine.as_ref(), 3)?;
                case.disk.strike_at(calls);
                case.rest(machine.as_ref());
                if !case.disk.is_struck() {
                    return Ok(());
                }
                drop(machine);
                case.disk.crash(Survival::Any(seed));
                if let Some((path, offset)) = &covered {
                    let flipped = case.disk.flip_bit(path, *offset, 0);
                    flipped.map_err(|e| Violation::new(Wrong::Unavailable, e.to_string()))?;
                }
                case.tells_damage_at_the_end("a cut while the next mark was written")?;
            }
        }
        Ok(())
    }

    /// A process is killed before it has synced a mark; then the power is cut at each call of
    /// the next opening in turn. One of the two slots can be read.
    fn a_mark_that_was_not_synced_leaves_one_that_can_be_read(self) -> Checked {
        let machine = self.open()?;
        self.append(machine.as_ref(), 0)?;
        self.rest(machine.as_ref());
        self.append(machine.as_ref(), 1)?;
        self.disk.clock().advance(Duration::from_secs(1));
        // The mark is written, and not synced.
        self.disk.strike_at(2);
        machine.step();
        drop(machine);
        self.disk.kill();
        for call in 1..100 {
            for seed in 0..6 {
                let case = self.fork();
                case.disk.strike_at(call);
                drop(case.try_open());
                if !case.disk.is_struck() {
                    return Ok(());
                }
                case.disk.crash(Survival::Any(seed));
                drop(case.open()?);
            }
        }
        Ok(())
    }

    /// Damages the last event, which was acknowledged and which a mark covers.
    fn tells_damage_at_the_end(&self, after: &str) -> Checked {
        self.damage_the_end()?;
        match self.try_open() {
            Err(OpenError::Damaged { .. }) => Ok(()),
            Err(error) => Err(Violation::new(
                Wrong::Unavailable,
                format!("after {after}, damage is told as: {error}"),
            )),
            Ok(_) => Err(Violation::new(
                Wrong::Lost,
                format!("after {after}, damage to the last event was cut off without a word"),
            )),
        }
    }
}

/// An append that was begun.
struct Waiting {
    future: Pin<Box<dyn Future<Output = Answer> + Send>>,
    bell: Bell,
    answer: Option<Answer>,
}

impl Waiting {
    fn start(machine: &dyn Machine, append: Append) -> Self {
        let log = machine.log();
        let mut future: Pin<Box<dyn Future<Output = Answer> + Send>> =
            Box::pin(async move { log.append(append).await });
        let bell = Bell::new();
        let answer = match bell.poll(|cx| future.as_mut().poll(cx)) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        };
        Self {
            future,
            bell,
            answer,
        }
    }

    fn end(mut self, machine: &dyn Machine) -> Result<Answer, Violation> {
        if let Some(answer) = self.answer {
            return Ok(answer);
        }
        for _ in 0..STEPS_MAX {
            if let Poll::Ready(answer) = self.bell.poll(|cx| self.future.as_mut().poll(cx)) {
                return Ok(answer);
            }
            machine.step();
        }
        let reason = "no answer while the disk fails".to_owned();
        Ok(Err(AppendError::Unknown { reason }))
    }
}

fn stream() -> StreamId {
    StreamId::of("order", "1").expect("a valid stream id")
}

fn event(number: u128) -> NewEvent {
    let event_type = EventType::new("Placed").expect("a valid event type");
    let id = EventId::v7(1_767_225_600_000, number);
    NewEvent::new(id, stream(), event_type, format!("\"event {number}\""))
}

/// How many events there are for a filter.
fn read(machine: &dyn Machine, filter: Filter) -> Result<usize, Violation> {
    let log = machine.log();
    let mut stream = log.read(&Cut::at(0), filter, ReadMode::ToHead);
    let mut count = 0;
    while let Some(batch) = drive(machine, "a read", stream.next_batch())? {
        match batch {
            Ok(batch) => count += (&batch).into_iter().count(),
            Err(error) => {
                return Err(Violation::new(Wrong::Unavailable, error.to_string()));
            }
        }
    }
    Ok(count)
}
