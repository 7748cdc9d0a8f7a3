//! Compares a whole log with the model.

use std::collections::BTreeMap;

use anabranch_log::Condition;
use anabranch_model::{Event, PartitionId, Version};

use crate::matching::{expect_fits, query_fits};
use crate::model::{Fate, Model};
use crate::violation::{Violation, Wrong, brief};

/// Whether appends may still be under way while the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// They may: what is not there may come.
    UnderWay,
    /// The process that they were made in has ended: what is not there never was.
    AtRest,
}

impl Model {
    /// Checks everything that the log holds, from its start to its head, and learns from it
    /// what became of the batches whose fate was open.
    pub(crate) fn check(&mut self, events: &[Event], moment: Moment) -> Result<(), Violation> {
        let mut counts: BTreeMap<&str, Version> = BTreeMap::new();
        let mut seen = vec![false; self.batches.len()];
        let mut at = 0;
        while at < events.len() {
            let (batch, index) = self.identify(&events[at])?;
            if index != 0 {
                let text = format!("{} begins with its event {index} at {at}", self.name(batch));
                return Err(Violation::new(Wrong::Torn, text));
            }
            if std::mem::replace(&mut seen[batch], true) {
                let text = format!("{} is there again at {at}", self.name(batch));
                return Err(Violation::new(Wrong::Duplicate, text));
            }
            self.check_conditions(batch, at, &counts, events)?;
            let count = self.batches[batch].append.events.len();
            for index in 0..count {
                self.check_event(batch, index, at, events, &mut counts)?;
            }
            self.batches[batch].fate = match self.batches[batch].fate {
                Fate::Placed(first) if first != at as u64 => {
                    let text = format!("{} now stands at {at}", self.name(batch));
                    return Err(Violation::new(Wrong::Reordered, text));
                }
                _ => Fate::Placed(at as u64),
            };
            at += count;
        }
        self.check_nothing_is_lost(events.len(), &seen)?;
        if moment == Moment::AtRest {
            self.missed.clear();
            for (number, (batch, seen)) in self.batches.iter_mut().zip(seen).enumerate() {
                if batch.fate == Fate::Open && !seen {
                    batch.fate = Fate::Absent;
                    self.missed.push(number);
                }
            }
        }
        Ok(())
    }

    /// Checks events that were read from a log that may be damaged: what is given must be
    /// right and in its place, from position `first` on without a gap. Whether all is
    /// given is for the caller to see.
    pub(crate) fn check_given(&self, events: &[Event], first: u64) -> Result<(), Violation> {
        for (offset, event) in (first..).zip(events) {
            let (batch, index) = self.identify(event)?;
            self.compare(batch, index, event)?;
            if event.position.offset != offset {
                let text = format!("{} was read where {offset} should be", brief(event));
                return Err(Violation::new(Wrong::Gap, text));
            }
            if let Some(known) = self.known_at(offset)
                && (known.batch, known.index, known.version) != (batch, index, event.version)
            {
                let text = format!(
                    "{} stands where event {} of {} stood",
                    brief(event),
                    known.index,
                    self.name(known.batch)
                );
                return Err(Violation::new(Wrong::Reordered, text));
            }
        }
        Ok(())
    }

    fn check_event<'e>(
        &mut self,
        batch: usize,
        index: usize,
        first: usize,
        events: &'e [Event],
        counts: &mut BTreeMap<&'e str, Version>,
    ) -> Result<(), Violation> {
        let at = first + index;
        let Some(event) = events.get(at).filter(|e| e.id == self.id(batch, index)) else {
            let text = format!(
                "{} stands at {first}, but its event {index} does not follow",
                self.name(batch)
            );
            return Err(Violation::new(Wrong::Torn, text));
        };
        if event.position.offset != at as u64 || event.position.partition != PartitionId(0) {
            let text = format!(
                "the event read as number {at} says it is at {}",
                event.position
            );
            return Err(Violation::new(Wrong::Gap, text));
        }
        let count = counts.entry(event.stream()).or_default();
        if event.version != *count {
            let text = format!("{} follows {count} events of its stream", brief(event));
            return Err(Violation::new(Wrong::Gap, text));
        }
        *count += 1;
        self.compare(batch, index, event)?;
        self.check_place_before(batch, index, at, events)?;
        self.place(
            batch,
            index,
            at as u64,
            event.version,
            Some(event.recorded_at),
        )
    }

    /// Tells an event that moved from one that is gone.
    fn check_place_before(
        &self,
        batch: usize,
        index: usize,
        at: usize,
        events: &[Event],
    ) -> Result<(), Violation> {
        let Some(known) = self.known_at(at as u64) else {
            return Ok(());
        };
        if (known.batch, known.index) == (batch, index) {
            return Ok(());
        }
        let id = self.id(known.batch, known.index);
        let now = events.iter().position(|event| event.id == id);
        let (wrong, fate) = match now {
            Some(now) => (Wrong::Reordered, format!("is now at {now}")),
            None => (Wrong::Lost, "is gone".to_owned()),
        };
        let text = format!(
            "event {} of {} stood at {at} and {fate}; {} is in its place",
            known.index,
            self.name(known.batch),
            self.name(batch)
        );
        Err(Violation::new(wrong, text))
    }

    /// A batch may only stand where its conditions held.
    fn check_conditions(
        &self,
        batch: usize,
        at: usize,
        counts: &BTreeMap<&str, Version>,
        events: &[Event],
    ) -> Result<(), Violation> {
        for condition in &self.batches[batch].append.conditions {
            let held = match condition {
                Condition::Stream(stream, expect) => {
                    let count = counts.get(stream.as_str()).copied().unwrap_or(0);
                    expect_fits(*expect, count)
                }
                Condition::NoMatch { query, after } => {
                    let from = after.get(PartitionId(0)) as usize;
                    let since = events.get(from..at).unwrap_or(&[]);
                    !since.iter().any(|event| {
                        self.identify(event)
                            .is_ok_and(|(batch, index)| query_fits(query, self.event(batch, index)))
                    })
                }
            };
            if !held {
                let text = format!("{} stands at {at}, against {condition:?}", self.name(batch));
                return Err(Violation::new(Wrong::Condition, text));
            }
        }
        Ok(())
    }

    fn check_nothing_is_lost(&self, len: usize, seen: &[bool]) -> Result<(), Violation> {
        let lost = |text: String| Err(Violation::new(Wrong::Lost, text));
        for (batch, seen) in seen.iter().enumerate() {
            if let Fate::Placed(first) = self.batches[batch].fate
                && !seen
            {
                let text = format!(
                    "{} stood at {first}; the log ends at {len}",
                    self.name(batch)
                );
                return lost(text);
            }
        }
        if (len as u64) < self.head {
            return lost(format!("the log had {} events, now {len}", self.head));
        }
        Ok(())
    }
}
