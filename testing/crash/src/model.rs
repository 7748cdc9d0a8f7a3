use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_log::{Append, AppendError, Appended, Condition, Rejection};
use anabranch_model::{Event, EventId, NewEvent, StreamId, Version};

use crate::matching::{expect_fits, query_fits};
use crate::violation::{Violation, Wrong, brief};

/// What clients were told: which events are there and where, which may be, which are not.
///
/// Cheap to clone, so that one history can be checked against many crash states.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub(crate) batches: Vec<Batch>,
    /// What is known to stand at each position.
    pub(crate) places: Vec<Option<Place>>,
    /// Events of each stream that are known to be there: a lower bound.
    pub(crate) tips: BTreeMap<StreamId, Version>,
    /// The highest head anyone was told, or can infer.
    pub(crate) head: u64,
    /// Batches of unknown fate that the last recovery did not find, in the order they were
    /// submitted: their clients will try again.
    pub(crate) missed: Vec<usize>,
}

/// A batch that was submitted, once or several times.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) append: Arc<Append>,
    pub(crate) fate: Fate,
    /// How often it was submitted.
    attempts: u32,
    /// Attempts whose answer is still to come.
    waiting: u32,
}

/// What is known about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be there or not.
    Open,
    /// It is there for ever; its first event stands here.
    Placed(u64),
    /// It is not there, and only a new attempt can bring it there.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: usize,
    pub(crate) index: usize,
    pub(crate) version: Version,
    /// Known once it was read.
    pub(crate) recorded_at: Option<u64>,
}

/// One submission of a batch, with what was known when it was made.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) batch: usize,
    was_placed: bool,
    is_first: bool,
    /// The tips of the streams that its conditions name.
    floors: Vec<(StreamId, Version)>,
}

/// Bits of an event id that say which event of which batch it is.
const INDEX_BITS: u32 = 16;
const BATCH_BITS: u32 = 24;

/// An event id from which [`Model`] finds the event: the other bits are free.
pub(crate) fn event_id(batch: usize, index: usize, free: u128) -> u128 {
    let low = (batch as u128) << INDEX_BITS | index as u128;
    let bits = INDEX_BITS + BATCH_BITS;
    (free >> bits << bits) | low
}

impl Model {
    /// A model of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events are known to be there.
    pub fn events_known(&self) -> u64 {
        self.head
    }

    /// The number the next new batch will have.
    pub(crate) fn next_batch(&self) -> usize {
        self.batches.len()
    }

    /// Notes that a new batch is submitted.
    pub(crate) fn submit(&mut self, append: Append) -> Attempt {
        self.batches.push(Batch {
            append: Arc::new(append),
            fate: Fate::Open,
            attempts: 0,
            waiting: 0,
        });
        self.submit_again(self.batches.len() - 1)
    }

    /// Notes that a batch is submitted once more.
    pub(crate) fn submit_again(&mut self, batch: usize) -> Attempt {
        let known = &mut self.batches[batch];
        if known.fate == Fate::Absent {
            known.fate = Fate::Open;
            if known.waiting == 0 {
                known.attempts = 0;
            }
        }
        known.attempts += 1;
        known.waiting += 1;
        let floors = known.append.conditions.iter().filter_map(|c| match c {
            Condition::Stream(stream, _) => {
                let tip = self.tips.get(stream).copied().unwrap_or(0);
                Some((stream.clone(), tip))
            }
            Condition::NoMatch { .. } => None,
        });
        Attempt {
            batch,
            was_placed: matches!(known.fate, Fate::Placed(_)),
            is_first: known.attempts == 1,
            floors: floors.collect(),
        }
    }

    /// Notes that an attempt's answer will never come: its future was dropped.
    pub(crate) fn abandoned(&mut self, attempt: &Attempt) {
        let known = &mut self.batches[attempt.batch];
        known.waiting = known.waiting.saturating_sub(1);
    }

    /// Notes an answer. `in_trouble` says whether the disk failed or was struck since the
    /// attempt was made; without trouble a log has no reason to be unavailable.
    pub(crate) fn answered(
        &mut self,
        attempt: &Attempt,
        answer: &Result<Appended, AppendError>,
        in_trouble: bool,
    ) -> Result<(), Violation> {
        let known = &mut self.batches[attempt.batch];
        known.waiting = known.waiting.saturating_sub(1);
        let only = attempt.is_first && known.attempts == 1;
        match answer {
            Ok(appended) => self.acknowledged(attempt, appended),
            Err(AppendError::Unknown { .. } | AppendError::Unavailable { .. }) if !in_trouble => {
                let text = format!(
                    "{} was answered without cause: {answer:?}",
                    self.name(attempt.batch)
                );
                Err(Violation::new(Wrong::Unavailable, text))
            }
            Err(AppendError::Unknown { .. }) => Ok(()),
            Err(AppendError::Unavailable { .. } | AppendError::Rejected(Rejection::ReadOnly)) => {
                match known.fate {
                    Fate::Placed(first) if only => {
                        let text = format!(
                            "{} was seen at {first}, but answered as not written",
                            self.name(attempt.batch)
                        );
                        return Err(Violation::new(Wrong::Answer, text));
                    }
                    Fate::Open if only => known.fate = Fate::Absent,
                    _ => {}
                }
                Ok(())
            }
            Err(error) => self.declined(attempt, error),
        }
    }

    fn acknowledged(&mut self, attempt: &Attempt, appended: &Appended) -> Result<(), Violation> {
        let batch = attempt.batch;
        let append = self.batches[batch].append.clone();
        let wrong = |text: String| Err(Violation::new(Wrong::Answer, text));
        if appended.places.len() != append.events.len() {
            return wrong(format!("{} got {appended:?}", self.name(batch)));
        }
        if appended.repeated && attempt.is_first && self.batches[batch].attempts == 1 {
            return wrong(format!(
                "{} is new, but was answered as repeated",
                self.name(batch)
            ));
        }
        if !appended.repeated && attempt.was_placed {
            return wrong(format!(
                "{} was there before, but was answered as new",
                self.name(batch)
            ));
        }
        let first = appended.places[0].position.offset;
        for (index, placed) in appended.places.iter().enumerate() {
            let expected = first + index as u64;
            if placed.position.offset != expected || placed.position.partition.0 != 0 {
                return wrong(format!(
                    "{} is not contiguous: {appended:?}",
                    self.name(batch)
                ));
            }
            self.place(batch, index, expected, placed.version, None)?;
        }
        self.placed(batch, first)
    }

    /// A definite "no" that gives a reason.
    fn declined(&mut self, attempt: &Attempt, error: &AppendError) -> Result<(), Violation> {
        let batch = attempt.batch;
        if attempt.was_placed {
            let text = format!(
                "{} is there, but repeating it gave: {error}",
                self.name(batch)
            );
            return Err(Violation::new(Wrong::Answer, text));
        }
        let justified = match error {
            AppendError::Conflict {
                stream,
                expected,
                actual,
            } => {
                let count = actual.map_or(0, |version| version + 1);
                let floor = attempt.floors.iter().find(|(s, _)| s == stream);
                let asked = Condition::Stream(stream.clone(), *expected);
                self.batches[batch].append.conditions.contains(&asked)
                    && !expect_fits(*expected, count)
                    && floor.is_some_and(|(_, floor)| *floor <= count)
                    && count <= self.tip_max(stream, batch)
            }
            AppendError::Matched { position } => self.may_match(batch, position.offset),
            _ => false,
        };
        if !justified {
            let text = format!("{} was declined for no reason: {error:?}", self.name(batch));
            return Err(Violation::new(Wrong::Condition, text));
        }
        if let Fate::Placed(first) = self.batches[batch].fate {
            let text = format!(
                "{} was seen at {first}, but declined: {error}",
                self.name(batch)
            );
            return Err(Violation::new(Wrong::Answer, text));
        }
        let known = &mut self.batches[batch];
        if known.waiting == 0 {
            known.fate = Fate::Absent;
        }
        Ok(())
    }

    /// The most events that `stream` may have, not counting those of `but`.
    fn tip_max(&self, stream: &StreamId, but: usize) -> Version {
        let others = self.batches.iter().enumerate().filter(|(i, _)| *i != but);
        let unseen = |batch: &Batch, index: usize| match batch.fate {
            Fate::Absent => false,
            Fate::Open => true,
            Fate::Placed(first) => self.known_at(first + index as u64).is_none(),
        };
        let more = others.map(|(_, batch)| {
            let events = batch.append.events.iter().enumerate();
            let own = events.filter(|(i, event)| event.stream == *stream && unseen(batch, *i));
            own.count() as u64
        });
        self.tips.get(stream).copied().unwrap_or(0) + more.sum::<u64>()
    }

    pub(crate) fn known_at(&self, offset: u64) -> Option<Place> {
        self.places.get(offset as usize).copied().flatten()
    }

    /// Whether an event at `offset` may forbid the batch.
    fn may_match(&self, batch: usize, offset: u64) -> bool {
        self.batches[batch]
            .append
            .conditions
            .iter()
            .any(|condition| {
                let Condition::NoMatch { query, after } = condition else {
                    return false;
                };
                let fits = match self.known_at(offset) {
                    Some(place) => query_fits(query, self.event(place.batch, place.index)),
                    None => self.batches.iter().any(|other| {
                        other.fate != Fate::Absent
                            && other.append.events.iter().any(|e| query_fits(query, e))
                    }),
                };
                fits && offset >= after.get(anabranch_model::PartitionId(0))
            })
    }

    /// Notes that a reader saw an event: it must be there for ever.
    pub(crate) fn saw(&mut self, event: &Event) -> Result<(), Violation> {
        let offset = event.position.offset;
        let (batch, index) = self.identify(event)?;
        self.compare(batch, index, event)?;
        self.place(batch, index, offset, event.version, Some(event.recorded_at))?;
        match offset.checked_sub(index as u64) {
            Some(first) => self.placed(batch, first),
            None => {
                let text = format!("{} has no room before {offset}", self.name(batch));
                Err(Violation::new(Wrong::Torn, text))
            }
        }
    }

    /// Notes that a head was told: every event below it must be there for ever.
    pub(crate) fn saw_head(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// Notes that the process has ended: no answer will come any more.
    pub(crate) fn process_ended(&mut self) {
        for batch in &mut self.batches {
            batch.waiting = 0;
        }
    }

    /// Which event of which batch this is, by its id.
    pub(crate) fn identify(&self, event: &Event) -> Result<(usize, usize), Violation> {
        let bits = event.id.as_u128();
        let index = (bits & ((1 << INDEX_BITS) - 1)) as usize;
        let batch = (bits >> INDEX_BITS & ((1 << BATCH_BITS) - 1)) as usize;
        let submitted = self.batches.get(batch);
        let submitted = submitted.and_then(|batch| batch.append.events.get(index));
        if submitted.is_none_or(|submitted| submitted.id != event.id) {
            let text = format!("{} was never submitted", brief(event));
            return Err(Violation::new(Wrong::Phantom, text));
        }
        if self.batches[batch].fate == Fate::Absent {
            let text = format!(
                "{} of {} was refused, or found missing before",
                brief(event),
                self.name(batch)
            );
            return Err(Violation::new(Wrong::Phantom, text));
        }
        Ok((batch, index))
    }

    /// Whether a stored event is what was submitted, byte for byte.
    pub(crate) fn compare(
        &self,
        batch: usize,
        index: usize,
        event: &Event,
    ) -> Result<(), Violation> {
        let submitted = self.event(batch, index);
        let same_meta = || match (&submitted.meta, event.meta().is_empty()) {
            (None, empty) => empty,
            (Some(meta), _) => event.meta().decode().is_ok_and(|stored| stored == **meta),
        };
        let differs = if event.stream() != submitted.stream.as_str() {
            "stream"
        } else if event.event_type() != submitted.event_type.as_str() {
            "type"
        } else if event.schema_version != submitted.schema_version {
            "schema version"
        } else if event.data() != &submitted.data[..] {
            "data"
        } else if !same_meta() {
            "metadata"
        } else {
            return Ok(());
        };
        let text = format!(
            "{} has another {differs} than event {index} of {}",
            brief(event),
            self.name(batch)
        );
        Err(Violation::new(Wrong::Changed, text))
    }

    pub(crate) fn event(&self, batch: usize, index: usize) -> &NewEvent {
        &self.batches[batch].append.events[index]
    }

    /// Notes where an event stands, and that nothing else stands there.
    pub(crate) fn place(
        &mut self,
        batch: usize,
        index: usize,
        offset: u64,
        version: Version,
        recorded_at: Option<u64>,
    ) -> Result<(), Violation> {
        let at = offset as usize;
        if offset > self.bound() {
            let text = format!("position {offset} of {} is beyond all", self.name(batch));
            return Err(Violation::new(Wrong::Gap, text));
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, None);
        }
        let mut place = Place {
            batch,
            index,
            version,
            recorded_at,
        };
        if let Some(known) = self.places[at] {
            if (known.batch, known.index) != (batch, index) {
                let text = format!(
                    "position {offset} held event {} of {}, now it holds event {index} of {}",
                    known.index,
                    self.name(known.batch),
                    self.name(batch)
                );
                return Err(Violation::new(Wrong::Reordered, text));
            }
            if known.version != version {
                let text = format!(
                    "event {index} of {} had version {}, now {version}",
                    self.name(batch),
                    known.version
                );
                return Err(Violation::new(Wrong::Reordered, text));
            }
            if known
                .recorded_at
                .is_some_and(|t| recorded_at.is_some_and(|now| now != t))
            {
                let text = format!("the time of event {index} of {} changed", self.name(batch));
                return Err(Violation::new(Wrong::Changed, text));
            }
            place.recorded_at = recorded_at.or(known.recorded_at);
        }
        self.places[at] = Some(place);
        let stream = self.event(batch, index).stream.clone();
        let tip = self.tips.entry(stream).or_default();
        *tip = (*tip).max(version + 1);
        self.head = self.head.max(offset + 1);
        Ok(())
    }

    /// No position can reach this: as many events were submitted at all.
    pub(crate) fn bound(&self) -> u64 {
        const BATCH_EVENTS: u64 = 1 << INDEX_BITS;
        self.batches.len() as u64 * BATCH_EVENTS
    }

    fn placed(&mut self, batch: usize, first: u64) -> Result<(), Violation> {
        if let Fate::Placed(before) = self.batches[batch].fate
            && before != first
        {
            let text = format!("{} stood at {before}, now at {first}", self.name(batch));
            return Err(Violation::new(Wrong::Reordered, text));
        }
        self.batches[batch].fate = Fate::Placed(first);
        Ok(())
    }

    /// The batch, in words.
    pub(crate) fn name(&self, batch: usize) -> String {
        let known = &self.batches[batch];
        let events = &known.append.events;
        format!(
            "batch {batch} ({} events, first {} of {}, {:?}, {} attempts)",
            events.len(),
            events[0].id,
            events[0].stream,
            known.fate,
            known.attempts
        )
    }

    /// Batches that are known to be there.
    pub(crate) fn placed_batches(&self) -> impl Iterator<Item = usize> + '_ {
        let batches = self.batches.iter().enumerate();
        batches.filter_map(|(i, b)| matches!(b.fate, Fate::Placed(_)).then_some(i))
    }

    /// Batches that may be there or not and that nobody waits for.
    pub(crate) fn open_batches(&self) -> impl Iterator<Item = usize> + '_ {
        let batches = self.batches.iter().enumerate();
        batches.filter_map(|(i, b)| (b.fate == Fate::Open && b.waiting == 0).then_some(i))
    }

    /// The id of an event.
    pub(crate) fn id(&self, batch: usize, index: usize) -> EventId {
        self.event(batch, index).id
    }
}
