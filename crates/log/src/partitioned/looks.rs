//! What an append looks at in other partitions than the one that it writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_model::{
    Cut, EventId, Filter, NewEvent, PartitionId, Position, Query, StreamId, Version,
};

use super::causes::to_cut;
use super::errors::{placed, unavailable};
use super::held::{Found, Held, Hold, Lost, Taking, Wants};
use super::shared::Shared;
use super::together::{Part, Together};
use crate::contract::{Append, Condition, Log, Order, ReadMode, VersionRange};
use crate::error::{AppendError, Rejection};
use crate::expect::Expect;
use crate::layout::{Layout, stream_hash};

/// See the module's text.
pub(super) struct Looks {
    layout: Layout,
    parts: Vec<Arc<dyn Log>>,
    held: Held,
}

impl Looks {
    pub fn new(layout: Layout, parts: Vec<Arc<dyn Log>>) -> Self {
        Self {
            held: Held::new(parts.len()),
            layout,
            parts,
        }
    }

    /// What an append writes and looks at, and those of its conditions that its own partition
    /// cannot check. The others stay in it.
    pub fn split(&self, home: PartitionId, append: &mut Append) -> (Wants, Vec<Condition>) {
        let home_index = home.0 as usize;
        let last = append.events.last().map(|event| event.id);
        let mut wants = Wants::new(home_index, last.unwrap_or(EventId::from_u128(0)));
        let mut before: Option<&StreamId> = None;
        for stream in append.events.iter().map(|event| &event.stream) {
            if before.replace(stream) != Some(stream) {
                wants.write(stream_hash(stream));
            }
        }
        let mut looks = Vec::new();
        append.conditions.retain_mut(|condition| match condition {
            Condition::Stream(stream, expect) => {
                let partition = self.layout.partition_of(stream);
                if partition != home && *expect != Expect::Any {
                    wants.look(partition.0 as usize, Some(stream_hash(stream)));
                    looks.push(condition.clone());
                }
                partition == home
            }
            Condition::NoMatch { after, .. } => {
                for partition in (0..self.parts.len()).filter(|&p| p != home_index) {
                    wants.look(partition, None);
                }
                let own = Cut::at(after.get(home));
                looks.push(condition.clone());
                if let Condition::NoMatch { after, .. } = condition {
                    *after = own;
                }
                true
            }
        });
        (wants, looks)
    }

    /// As [`Held::try_take`].
    pub fn try_hold(&self, wants: Wants) -> Result<Hold<'_>, Wants> {
        self.held.try_take(wants)
    }

    /// Waits for what an append needs.
    pub fn take(&self, wants: Wants) -> Taking<'_> {
        self.held.take(wants)
    }

    /// It is known what became of an append.
    pub fn is_over(&self, lost: &Lost) {
        self.held.is_over(lost.home, lost.last);
    }

    /// An append to several partitions was decided on before the log was opened.
    pub fn is_decided(&self, together: Arc<Together>) {
        let last = together.parts.first().map(Part::last);
        let last = last.unwrap_or(EventId::from_u128(0));
        let wants = Wants::decided(together.partitions(), last, together);
        self.held.is_decided(wants);
    }

    /// Whether this event is of what was decided on and nobody writes.
    pub fn is_undone(&self, id: EventId) -> bool {
        let undone = self.held.undone();
        let decided = undone.iter().filter_map(|lost| lost.decided.as_ref());
        let mut parts = decided.flat_map(|together| &together.parts);
        parts.any(|part| part.events.iter().any(|event| event.id == id))
    }

    /// What was decided on and nobody writes.
    pub fn undone(&self) -> Vec<Lost> {
        self.held.undone()
    }

    /// As [`Looks::split`] for an append to several partitions: none of them can check its
    /// conditions itself, because they have to hold before it is decided on.
    pub fn split_together(
        &self,
        homes: &[PartitionId],
        append: &mut Append,
    ) -> (Wants, Vec<Condition>) {
        let alone: Vec<usize> = homes.iter().map(|home| home.0 as usize).collect();
        // The name that it goes by is that of its first part.
        let first = |event: &&NewEvent| self.layout.partition_of(&event.stream) == homes[0];
        let last = append.events.iter().rfind(first).map(|event| event.id);
        let mut wants = Wants::new(alone[0], last.unwrap_or(EventId::from_u128(0)));
        for condition in &append.conditions {
            match condition {
                Condition::Stream(_, Expect::Any) => {}
                Condition::Stream(stream, _) => {
                    let partition = self.layout.partition_of(stream).0 as usize;
                    if !alone.contains(&partition) {
                        wants.look(partition, Some(stream_hash(stream)));
                    }
                }
                Condition::NoMatch { .. } => {
                    for partition in (0..self.parts.len()).filter(|p| !alone.contains(p)) {
                        wants.look(partition, None);
                    }
                }
            }
        }
        wants.alone = alone;
        (wants, std::mem::take(&mut append.conditions))
    }

    /// As [`Looks::look`] for an append to several partitions.
    pub async fn look_everywhere(
        &self,
        shared: &Shared,
        looks: Vec<Condition>,
    ) -> Result<Cut, AppendError> {
        let mut looked_at = Cut::start();
        for condition in looks {
            match &condition {
                Condition::Stream(_, Expect::Any) => Ok(()),
                Condition::Stream(stream, expect) => {
                    self.check_stream(stream, *expect, &mut looked_at).await?
                }
                Condition::NoMatch { query, after } => {
                    self.check_query(shared, None, query, after).await?
                }
            }?;
        }
        Ok(looked_at)
    }

    /// Checks what an append looks at, which it holds. Gives where that stands: what is written
    /// then depends on it.
    pub async fn look(
        &self,
        shared: &Shared,
        home: PartitionId,
        append: &Append,
        looks: Vec<Condition>,
    ) -> Result<Cut, AppendError> {
        let mut looked_at = Cut::start();
        for condition in looks {
            let checked = match &condition {
                Condition::Stream(stream, expect) => {
                    self.check_stream(stream, *expect, &mut looked_at).await?
                }
                Condition::NoMatch { query, after } => {
                    self.check_query(shared, Some(home), query, after).await?
                }
            };
            if let Err(error) = checked {
                return match self.may_be_new(home, append).await? {
                    true => Err(error),
                    // Its partition says what there is of it; nothing is written.
                    false => Ok(Cut::start()),
                };
            }
        }
        Ok(looked_at)
    }

    async fn check_stream(
        &self,
        stream: &StreamId,
        expected: Expect,
        looked_at: &mut Cut,
    ) -> Result<Result<(), AppendError>, AppendError> {
        let partition = self.layout.partition_of(stream);
        let last = self.last(partition.0 as usize, stream).await?;
        let actual = last.map(|(version, _)| version);
        if !expected.holds(actual) {
            return Ok(Err(AppendError::Conflict {
                stream: stream.clone(),
                expected,
                actual,
            }));
        }
        if let Some((_, offset)) = last {
            let position = Position { partition, offset };
            looked_at.join(&Cut::including(position));
        }
        Ok(Ok(()))
    }

    /// Version and offset of a stream's last event.
    async fn last(
        &self,
        partition: usize,
        stream: &StreamId,
    ) -> Result<Option<(Version, u64)>, AppendError> {
        let hash = stream_hash(stream);
        if let Some(found) = self.held.found(partition, hash, stream) {
            return Ok(found.last);
        }
        let part = &self.parts[partition];
        let mut events = part.read_stream(stream, VersionRange::ALL, Order::Backward);
        let last = match events.next().await {
            None => None,
            Some(Ok(event)) => Some((event.version, event.position.offset)),
            Some(Err(error)) => return Err(unavailable(error)),
        };
        let stream = stream.clone();
        self.held.remember(partition, hash, Found { stream, last });
        Ok(last)
    }

    async fn check_query(
        &self,
        shared: &Shared,
        home: Option<PartitionId>,
        query: &Query,
        after: &Cut,
    ) -> Result<Result<(), AppendError>, AppendError> {
        let mut head = to_cut(&shared.causes().ends());
        if !head.covers(after) {
            head = to_cut(&shared.ask_ends().await.map_err(unavailable)?);
        }
        if !head.covers(after) {
            let after = after.clone();
            return Ok(Err(Rejection::CutBeyondHead { after, head }.into()));
        }
        for partition in self.layout.ids().filter(|&id| Some(id) != home) {
            let part = &self.parts[partition.0 as usize];
            let from = Cut::at(after.get(partition));
            let mut events = part.read(&from, narrowed(query), ReadMode::ToHead);
            while let Some(event) = events.next().await {
                let event = event.map_err(unavailable)?;
                if query.matches(&event.as_ref()) {
                    let position = placed(event.position, partition);
                    return Ok(Err(AppendError::Matched { position }));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whether no event of an append was written before, and its ids differ: otherwise it is no
    /// matter of conditions.
    async fn may_be_new(&self, home: PartitionId, append: &Append) -> Result<bool, AppendError> {
        let mut ids = BTreeSet::new();
        for event in &append.events {
            let found = self.parts[home.0 as usize].find(event.id).await;
            if !ids.insert(event.id) || found.map_err(unavailable)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A filter that lets through whatever matches `query`, and perhaps more.
fn narrowed(query: &Query) -> Filter {
    match query.items.as_slice() {
        [one] => Filter {
            types: one.types.clone(),
            tags: one.tags.clone(),
            ..Filter::all()
        },
        _ => Filter::all(),
    }
}
