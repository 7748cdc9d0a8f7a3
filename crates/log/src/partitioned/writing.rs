//! How an append to several partitions is made, and finished by whoever comes next.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{Cut, EventId, LimitError, NewEvent, PartitionId, Position};

use super::causes::to_cut;
use super::deltas::Known;
use super::errors::{append_error, placed, unavailable};
use super::held::{Hold, Lost, Taken, Wants};
use super::shared::Shared;
use super::together::{Part, Together};
use super::{PartitionedLog, causes_of, store};
use crate::contract::{Append, Appended, Log, Placed};
use crate::error::{AppendError, Rejection};
use crate::stream::all_of;

/// The events of an append in each of its partitions, and which of the append's they are.
struct Split {
    partition: PartitionId,
    events: Vec<NewEvent>,
    numbers: Vec<usize>,
}

impl PartitionedLog {
    /// Waits for what an append needs. What was decided on before is written first.
    pub(super) async fn take(&self, wants: Wants) -> Result<Hold<'_>, AppendError> {
        let mut taking = self.looks.take(wants);
        loop {
            match (&mut taking).await {
                Taken::Hold(hold) => return Ok(hold),
                Taken::Lost(lost) => {
                    for lost in lost {
                        self.settle(lost).await?;
                    }
                }
            }
        }
    }

    /// Finds out what became of an append that nobody waits for any more; of one that was decided
    /// on, sees to it.
    async fn settle(&self, lost: Lost) -> Result<(), AppendError> {
        match &lost.decided {
            // Waits for what becomes of it.
            None => {
                let found = self.parts[lost.home].find(lost.last).await;
                found.map_err(unavailable)?;
            }
            Some(together) => {
                let written = self.write_decided(together).await;
                written.map_err(|(Undecided::Decision(error) | Undecided::Part(error))| {
                    AppendError::Unavailable {
                        reason: format!(
                            "an append to several partitions has to be finished first, and cannot be: {error}"
                        ),
                        retry_after: None,
                    }
                })?;
            }
        }
        self.looks.is_over(&lost);
        Ok(())
    }

    /// Writes what was decided on and nobody writes.
    pub(super) async fn finish(&self) -> Result<(), AppendError> {
        if self.parts[0].takes_appends().is_err() {
            return Ok(());
        }
        for lost in self.looks.undone() {
            self.settle(lost).await?;
        }
        Ok(())
    }

    async fn write_decided(&self, together: &Together) -> Result<Vec<Appended>, Undecided> {
        let decisions = self.decisions.as_deref();
        write_parts(together, &self.shared, &self.parts, decisions).await
    }

    /// Writes an append to these partitions, ascending.
    pub(super) async fn write_together(
        &self,
        mut append: Append,
        homes: &[PartitionId],
    ) -> Result<Appended, AppendError> {
        let mut ids = BTreeMap::new();
        for (second, event) in append.events.iter().enumerate() {
            if let Some(first) = ids.insert(event.id, second) {
                return Err(Rejection::from(LimitError::RepeatedId { first, second }).into());
            }
        }
        let (wants, looks) = self.looks.split_together(homes, &mut append);
        let mut hold = match self.looks.try_hold(wants) {
            Ok(hold) => hold,
            Err(wants) => self.take(wants).await?,
        };
        let mut causes = causes_of(&append);
        let count = append.events.len();
        let splits = self.by_partition(append, homes);
        if let Some(answer) = self.written_before(&splits, count).await? {
            return Ok(answer);
        }
        causes.join(&self.looks.look_everywhere(&self.shared, looks).await?);
        self.check_causes(&causes).await?;
        for part in &self.parts {
            part.takes_appends()?;
        }
        let numbers: Vec<Vec<usize>> = splits.iter().map(|split| split.numbers.clone()).collect();
        let together = Arc::new(self.decide(causes, splits).await?);
        // What a part refuses has to be refused before anything is decided.
        let limits = &self.capabilities.limits;
        let mut parts = together.parts.iter();
        if let Err(error) = parts.try_for_each(|part| limits.check(&part.events)) {
            self.is_off(&together);
            hold.answered(true);
            return Err(Rejection::from(error).into());
        }
        hold.is_decided(together.clone());
        match self.write_decided(&together).await {
            Ok(written) => {
                hold.answered(true);
                let parts = homes.iter().copied().zip(numbers).zip(written);
                Ok(self.whole(parts, count, &together.closure, false))
            }
            Err(Undecided::Decision(error)) if error.did_not_happen() => {
                self.is_off(&together);
                hold.answered(true);
                Err(error)
            }
            Err(Undecided::Decision(error) | Undecided::Part(error)) => {
                hold.answered(false);
                Err(AppendError::Unknown {
                    reason: error.to_string(),
                })
            }
        }
    }

    /// Nothing of it was written, or will be.
    fn is_off(&self, together: &Together) {
        let mut causes = self.shared.causes();
        for part in &together.parts {
            causes.ends_together(part.partition, part.start);
        }
    }

    fn by_partition(&self, append: Append, homes: &[PartitionId]) -> Vec<Split> {
        let split = |&partition| Split {
            partition,
            events: Vec::new(),
            numbers: Vec::new(),
        };
        let mut splits: Vec<Split> = homes.iter().map(split).collect();
        for (number, event) in append.events.into_iter().enumerate() {
            let partition = self.layout.partition_of(&event.stream);
            if let Some(split) = splits.iter_mut().find(|split| split.partition == partition) {
                split.events.push(event);
                split.numbers.push(number);
            }
        }
        splits
    }

    /// The answer to an append that was written before. One whose events are partly there is refused.
    async fn written_before(
        &self,
        splits: &[Split],
        count: usize,
    ) -> Result<Option<Appended>, AppendError> {
        let mut first_found = None::<(usize, EventId, Position)>;
        let mut repeats = Vec::new();
        for split in splits {
            let part = &self.parts[split.partition.0 as usize];
            let mut is_there = false;
            for (event, &number) in split.events.iter().zip(&split.numbers) {
                let found = part.find(event.id).await.map_err(unavailable)?;
                if let Some(found) = found {
                    is_there = true;
                    let position = placed(found.position, split.partition);
                    if first_found.is_none_or(|(first, ..)| number < first) {
                        first_found = Some((number, event.id, position));
                    }
                }
            }
            if is_there {
                // Its partition compares them, and writes nothing where any is there.
                match part.append(Append::events(split.events.clone())).await {
                    Ok(again) => repeats.push(((split.partition, split.numbers.clone()), again)),
                    Err(AppendError::Rejected(Rejection::PartlyWritten { .. })) => {}
                    Err(error) => return Err(append_error(error, split.partition)),
                }
            }
        }
        let Some((_, id, position)) = first_found else {
            return Ok(None);
        };
        if repeats.len() < splits.len() {
            return Err(Rejection::PartlyWritten { id, position }.into());
        }
        let nothing = Cut::start();
        Ok(Some(self.whole(repeats, count, &nothing, true)))
    }

    /// What will be written where, and what it depends on: the caller has the partitions for itself.
    async fn decide(&self, mut causes: Cut, splits: Vec<Split>) -> Result<Together, AppendError> {
        let mut starts = Vec::new();
        for split in &splits {
            let p = split.partition.0 as usize;
            self.shared.ask_end(p).await.map_err(unavailable)?;
            let start = self.shared.causes().ends()[p];
            causes.set(split.partition, start.max(causes.get(split.partition)));
            starts.push(start);
        }
        // A cause brings what it depends on itself.
        for (q, count) in causes.clone().iter() {
            let before = self
                .shared
                .with_deltas(q.0 as usize, count, |deltas| deltas.before(count));
            causes.join(&to_cut(&before.map_err(unavailable)?));
        }
        for (split, start) in splits.iter().zip(&starts) {
            causes.set(split.partition, start + split.events.len() as u64);
        }
        let mut known = self.shared.causes();
        let part = |(split, start): (Split, u64)| {
            let partition = split.partition.0 as usize;
            let delta = known.send_part(partition, &causes);
            known.begins_together(partition, start);
            let mut events = split.events;
            store(&mut events, &delta);
            Part {
                partition,
                start,
                delta,
                events,
            }
        };
        let parts = splits.into_iter().zip(starts).map(part).collect();
        drop(known);
        Ok(Together {
            parts,
            closure: causes,
        })
    }

    /// The answer to the whole append, from those to its parts.
    fn whole(
        &self,
        parts: impl IntoIterator<Item = ((PartitionId, Vec<usize>), Appended)>,
        count: usize,
        closure: &Cut,
        repeated: bool,
    ) -> Appended {
        let mut places: Vec<Option<Placed>> = vec![None; count];
        let mut closure = closure.clone();
        for ((partition, numbers), appended) in parts {
            let end = appended.cut().get(PartitionId(0));
            let own = self
                .shared
                .causes()
                .closure(partition.0 as usize, &Cut::start(), end);
            closure.join(&own);
            for (number, place) in numbers.into_iter().zip(appended.places) {
                places[number] = Some(Placed {
                    position: placed(place.position, partition),
                    ..place
                });
            }
        }
        Appended {
            places: places.into_iter().flatten().collect(),
            repeated,
            closure,
        }
    }
}

/// Why an append to several partitions is not written yet.
enum Undecided {
    /// Of the decision.
    Decision(AppendError),
    /// Of a part, after the decision.
    Part(AppendError),
}

/// Writes what is not written yet. Gives the places, part by part. After an error it may have to
/// be called again, unless it says that nothing was decided.
async fn write_parts(
    together: &Together,
    shared: &Shared,
    parts: &[Arc<dyn Log>],
    decisions: Option<&dyn Log>,
) -> Result<Vec<Appended>, Undecided> {
    if let Some(decisions) = decisions {
        let max = decisions.capabilities().limits.data_bytes_max;
        // There are parts.
        if let Some(decision) = together.decision(max) {
            let decided = decisions.append(decision).await;
            decided.map_err(Undecided::Decision)?;
        }
    }
    let writing = together.parts.iter().map(|part| {
        let append = Append::events(part.events.clone());
        parts[part.partition].append(append)
    });
    let mut written = Vec::new();
    for (part, answer) in together.parts.iter().zip(all_of(writing).await) {
        let partition = PartitionId(part.partition as u32);
        let appended = answer.map_err(|error| Undecided::Part(append_error(error, partition)))?;
        let first = appended.places.first().map(|place| place.position.offset);
        if first != Some(part.start) {
            let reason = format!(
                "a part of an append to several partitions does not stand at {}:{}, \
                 where it was decided on, but at {first:?}: somebody else writes to this log",
                part.partition, part.start
            );
            return Err(Undecided::Part(AppendError::Unknown { reason }));
        }
        written.push(appended);
    }
    let mut causes = shared.causes();
    for part in &together.parts {
        causes.ends_together(part.partition, part.start);
        causes.stored(part.partition, &part.delta, part.end());
    }
    drop(causes);
    for part in &together.parts {
        let known = Known {
            end: part.end(),
            delta: part.delta.clone(),
            last: part.last(),
        };
        shared.deltas(part.partition).learn(part.start, known);
    }
    Ok(written)
}
