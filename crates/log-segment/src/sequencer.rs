//! Places appends: checks their conditions, gives positions and versions, and encodes
//! frames into the open commit group, all under one short lock.
//!
//! Sequenced is not durable. Readers stop at the published position, and when a group
//! fails, [`Sequencer::roll_back`] takes everything back that came after what is durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anabranch_log::{Append, AppendError, Condition, Expect, Placed, Rejection};
use anabranch_model::{Cut, PartitionId, Position, Query, record};

use hashbrown::HashTable;

use crate::buffer::AlignedBuf;
use crate::format::{DATA_START, FrameHeader, frame_len};
use crate::group::{Group, NewSegment, Prepared, Spare, Step, write_frame};
use crate::heads::Heads;
use crate::index::{ActiveIndex, AppendKeys, Term, term_key};
use crate::part::{Part, PartIndex, Segment, segment_path};
use crate::store::Store;
use crate::sync::{Completion, lock, read, write};

pub(crate) struct Sequencer {
    store: Arc<Store>,
    /// Position of the next event.
    next: u64,
    part: Arc<Part>,
    /// Where the next frame begins in the segment, in bytes.
    offset: u64,
    /// What stands between the last multiple of `align` and `offset`.
    tail: Vec<u8>,
    /// Writes begin and end at multiples of this.
    align: usize,
    open: Option<Group>,
    /// Groups that end their segment, oldest first.
    ready: VecDeque<Group>,
    /// Parts whose index is in memory, ascending; the last one is `part`.
    unsealed: Vec<Arc<Part>>,
    /// Grows whenever a part is sealed.
    generation: u64,
    /// The greatest id in a sealed part.
    sealed_id_max: u128,
    pub heads: Heads,
    next_segment_id: u64,
    /// The next frame begins a new segment.
    must_roll: bool,
    /// Appends that wait, with the time they began to, oldest first.
    pub waiting: VecDeque<(Duration, Arc<Completion>)>,
    /// Bytes sequenced and not yet durable.
    pending_bytes: usize,
    queue_bytes_max: usize,
    /// Why nothing can be written, and when to try again.
    pub trouble: Option<(String, Duration)>,
    pub closed: bool,
    /// After a panic under the lock.
    broken: bool,
    versions: Vec<u64>,
    /// Of each event of the append at hand: the version it gets if it is its stream's
    /// first in the growing part. Unused where it repeats the stream before it.
    bases: Vec<u64>,
    /// Stream key and next version, of the streams that the append at hand writes.
    written: HashTable<(u128, u64)>,
    pool: Vec<AlignedBuf>,
    /// An emptied index: a busy log uses its memory again.
    kept_index: Option<ActiveIndex>,
}

/// Where the log's end is when it is opened.
pub(crate) struct End {
    pub next: u64,
    pub part: Arc<Part>,
    pub offset: u64,
    /// What stands between the last multiple of the alignment and `offset`.
    pub tail: Vec<u8>,
    pub unsealed: Vec<Arc<Part>>,
    pub next_segment_id: u64,
    pub must_roll: bool,
}

/// Why a log takes no appends after a panic under the sequencer's lock.
pub(crate) const BROKEN: &str = "an append made the log panic, which is a bug in it; nothing more is written, what was acknowledged is kept; close the log and open it again";

/// The size of a segment made without a file written ahead.
const SMALL_SEGMENT: u64 = 4 << 20;

impl Sequencer {
    pub fn new(
        store: Arc<Store>,
        end: End,
        heads: Heads,
        sealed_id_max: u128,
        align: usize,
        queue_bytes_max: usize,
    ) -> Self {
        Self {
            store,
            next: end.next,
            part: end.part,
            offset: end.offset,
            tail: end.tail,
            align,
            open: None,
            ready: VecDeque::new(),
            unsealed: end.unsealed,
            generation: 0,
            sealed_id_max,
            heads,
            next_segment_id: end.next_segment_id,
            must_roll: end.must_roll,
            waiting: VecDeque::new(),
            pending_bytes: 0,
            queue_bytes_max,
            trouble: None,
            closed: false,
            broken: false,
            versions: Vec::new(),
            bases: Vec::new(),
            written: HashTable::new(),
            pool: Vec::new(),
            kept_index: None,
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The parts whose ids and heads the sequencer looks up itself, and the generation of
    /// that answer.
    pub fn unsealed(&self) -> (u64, Vec<Arc<Part>>) {
        (self.generation, self.unsealed.clone())
    }

    /// Position the next event gets.
    #[cfg(feature = "sabotage")]
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn has_pending(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.pending_bytes > self.queue_bytes_max
    }

    /// What must be waited for before it is known whether an event with this id was
    /// written, if anything.
    pub fn pending_id(&self, id: u128) -> Option<Arc<Completion>> {
        let published = self.store.published();
        for part in &self.unsealed {
            if let PartIndex::Active(index) = &*read(&part.index)
                && let Some(rel) = index.find_id(id)
                && part.first + u64::from(rel) >= published
            {
                return self.last_completion().filter(|c| !c.is_settled());
            }
        }
        None
    }

    /// Gives up after a panic under the lock: what is in memory may be half of a change.
    /// Everything that is not durable is dropped, and the log takes no more appends.
    pub fn break_off(&mut self) -> Vec<Group> {
        // A group that is being written goes on to its end.
        let group = self.ready.front().or(self.open.as_ref());
        let whole = group.map_or(self.next, |group| group.first);
        self.broken = true;
        self.roll_back(whole)
    }

    /// Tries to place an append at the end of the log.
    pub fn sequence(
        &mut self,
        append: &Append,
        prepared: &mut Prepared,
        spares: &std::sync::Mutex<VecDeque<Spare>>,
    ) -> Step {
        if self.closed {
            return Step::Refused(AppendError::Unavailable {
                reason: "the log is closed".to_owned(),
                retry_after: None,
            });
        }
        if self.broken {
            return Step::Refused(AppendError::Unavailable {
                reason: BROKEN.to_owned(),
                retry_after: None,
            });
        }
        if let Some((reason, retry_at)) = &self.trouble {
            let now = self.store.env.clock.monotonic();
            if now < *retry_at {
                return Step::Refused(AppendError::Unavailable {
                    reason: reason.clone(),
                    retry_after: (*retry_at < Duration::MAX).then(|| *retry_at - now),
                });
            }
            self.trouble = None;
        }
        if self.is_full() {
            return Step::Full;
        }
        if prepared
            .sealed
            .as_ref()
            .is_some_and(|s| s.generation != self.generation)
        {
            prepared.sealed = None;
        }
        if let Some(step) = self.check_ids(append, prepared) {
            return step;
        }
        if let Some(step) = self.check_conditions(append, prepared) {
            return step;
        }
        // Nothing may fail from here on, but for heads that only the sealed indexes know.
        self.bases.clear();
        for (i, &key) in prepared.keys.iter().enumerate() {
            let base = if i > 0 && prepared.keys[i - 1] == key {
                0
            } else {
                match self.head(key, prepared) {
                    Some(base) => base,
                    None => return Step::Lookup,
                }
            };
            self.bases.push(base);
        }
        self.place(append, prepared, spares)
    }

    fn last_completion(&self) -> Option<Arc<Completion>> {
        let group = self.open.as_ref().or_else(|| self.ready.back());
        group
            .map(|g| g.completion.clone())
            .or_else(|| self.waiting.back().map(|(_, c)| c.clone()))
    }

    /// Waits for what is pending, or goes on if nothing is.
    fn wait_for_pending(&self) -> Option<Step> {
        self.last_completion()
            .filter(|completion| !completion.is_settled())
            .map(Step::WaitFor)
    }

    /// Looks whether the ids were written before.
    fn check_ids(&mut self, append: &Append, prepared: &Prepared) -> Option<Step> {
        if let Some((first, second)) = prepared.repeated_id {
            let error = anabranch_model::LimitError::RepeatedId { first, second };
            return Some(Step::Refused(Rejection::from(error).into()));
        }
        let mut found: Vec<(usize, u64)> = Vec::new();
        for part in &self.unsealed {
            if let PartIndex::Active(index) = &*read(&part.index) {
                for (i, (event, &key)) in append.events.iter().zip(&prepared.id_keys).enumerate() {
                    if let Some(rel) = index.find_id_by(key, event.id.as_u128()) {
                        found.push((i, part.first + u64::from(rel)));
                    }
                }
            }
        }
        if let Some(sealed) = &prepared.sealed {
            found.extend(sealed.ids.iter().map(|(&i, &position)| (i, position)));
        } else if append
            .events
            .iter()
            .any(|e| e.id.as_u128() <= self.sealed_id_max)
        {
            return Some(Step::Lookup);
        }
        if found.is_empty() {
            return None;
        }
        let published = self.store.published();
        if found.iter().any(|&(_, position)| position >= published)
            && !self.store.bug(crate::Bug::RepeatDoesNotWait)
            && let Some(step) = self.wait_for_pending()
        {
            return Some(step);
        }
        found.sort_unstable();
        found.dedup_by_key(|&mut (i, _)| i);
        if found.len() == append.events.len() {
            return Some(Step::Repeated(
                found.into_iter().map(|(_, position)| position).collect(),
            ));
        }
        Some(Step::PartlyWritten(found))
    }

    /// The version the next event of a stream gets; `None`: ask the sealed indexes.
    fn head(&mut self, key: u128, prepared: &Prepared) -> Option<u64> {
        for part in self.unsealed.iter().rev() {
            if let PartIndex::Active(index) = &*read(&part.index)
                && let Some(span) = index.stream(key)
            {
                return Some(span.next_version);
            }
        }
        if let Some(known) = self.heads.get(key) {
            return Some(known.unwrap_or(0));
        }
        prepared
            .sealed
            .as_ref()
            .and_then(|s| s.heads.get(&key))
            .copied()
    }

    /// As [`Sequencer::head`], of durable events only.
    fn durable_head(&mut self, key: u128, prepared: &Prepared) -> Option<u64> {
        let published = self.store.published();
        for part in self.unsealed.iter().rev() {
            if let PartIndex::Active(index) = &*read(&part.index)
                && let Some(next) = index.next_version_before(key, published)
            {
                return Some(next);
            }
        }
        if let Some(known) = self.heads.get(key) {
            return Some(known.unwrap_or(0));
        }
        prepared
            .sealed
            .as_ref()
            .and_then(|s| s.heads.get(&key))
            .copied()
    }

    fn check_conditions(&mut self, append: &Append, prepared: &Prepared) -> Option<Step> {
        for (i, condition) in append.conditions.iter().enumerate() {
            let step = match condition {
                Condition::Stream(_, Expect::Any) => None,
                Condition::Stream(stream, expected) => {
                    let key = prepared.condition_keys[i];
                    let Some(next) = self.condition_head(key, prepared) else {
                        return Some(Step::Lookup);
                    };
                    if expected.holds(next.checked_sub(1)) {
                        continue;
                    }
                    // It fails; but on account of events that may yet be taken back?
                    let Some(durable) = self.durable_head(key, prepared) else {
                        return Some(Step::Lookup);
                    };
                    let waits = durable != next && !self.store.bug(crate::Bug::ConflictDoesNotWait);
                    let wait = waits.then(|| self.wait_for_pending()).flatten();
                    Some(wait.unwrap_or(Step::Refused(AppendError::Conflict {
                        stream: stream.clone(),
                        expected: *expected,
                        actual: next.checked_sub(1),
                    })))
                }
                Condition::NoMatch { query, after } => self.check_no_match(query, after, prepared),
            };
            if step.is_some() {
                return step;
            }
        }
        None
    }

    fn condition_head(&mut self, key: u128, prepared: &Prepared) -> Option<u64> {
        if self.store.bug(crate::Bug::ConditionsIgnorePending) {
            return self.durable_head(key, prepared);
        }
        self.head(key, prepared)
    }

    fn check_no_match(&self, query: &Query, after: &Cut, prepared: &Prepared) -> Option<Step> {
        let published = self.store.published();
        let after_count = after.get(PartitionId(0));
        if after_count > published || after.iter().any(|(p, _)| p != PartitionId(0)) {
            return Some(Step::Refused(
                Rejection::CutBeyondHead {
                    after: after.clone(),
                    head: Cut::at(published),
                }
                .into(),
            ));
        }
        if let Some(position) = prepared.matched {
            return Some(Step::Refused(AppendError::Matched {
                position: Position::at(position),
            }));
        }
        let from = prepared.unmatched_before.max(after_count);
        let in_memory = self.unsealed.first().map_or(self.next, |part| part.first);
        if from < in_memory {
            return Some(Step::Lookup);
        }
        for part in &self.unsealed {
            if let PartIndex::Active(index) = &*read(&part.index)
                && let Some(position) =
                    match_in_memory(index, query, from, self.store.identity.hash_key)
            {
                let wait = (position >= published)
                    .then(|| self.wait_for_pending())
                    .flatten();
                return Some(wait.unwrap_or(Step::Refused(AppendError::Matched {
                    position: Position::at(position),
                })));
            }
        }
        None
    }

    fn place(
        &mut self,
        append: &Append,
        prepared: &Prepared,
        spares: &std::sync::Mutex<VecDeque<Spare>>,
    ) -> Step {
        let events = &append.events;
        let body_max = record::encoded_len_max(events);
        let frame_max = frame_len(body_max) as u64;
        if self.must_roll || self.offset + frame_max > self.part.segment.capacity {
            self.roll(frame_max, spares);
        }
        self.open_group();
        let recorded_at = self.store.env.clock.wall_micros();

        let (first, offset) = (self.next, self.offset);
        let hash_key = self.store.identity.hash_key;
        self.count_versions(&prepared.keys);
        let Some(group) = &mut self.open else {
            unreachable!("a group was opened above");
        };
        #[cfg(feature = "sabotage")]
        let per_frame = if self.store.bug(crate::Bug::SplitBatch) {
            1
        } else {
            events.len()
        };
        #[cfg(not(feature = "sabotage"))]
        let per_frame = events.len();
        // Encoded first: what the encoder refuses must not be in the index.
        let mut at = offset;
        #[cfg(feature = "sabotage")]
        let mut splits = Vec::new();
        for from in (0..events.len()).step_by(per_frame) {
            let range = from..from + per_frame;
            let header = FrameHeader {
                segment_id: self.part.segment.id,
                first: first + range.start as u64,
                count: range.len() as u16,
                body_len: 0,
                durable: self.store.synced(),
                recorded_at,
                fields_len: 0,
            };
            #[cfg(feature = "sabotage")]
            splits.push(at);
            let (events, versions) = (&events[range.clone()], &self.versions[range]);
            at += write_frame(group, header, events, versions, body_max, hash_key);
        }
        {
            let mut index = write(&self.part.index);
            let PartIndex::Active(index) = &mut *index else {
                unreachable!("the growing part is indexed in memory");
            };
            index.begin_frame(offset, offset);
            index.push_append(
                events,
                &AppendKeys {
                    streams: &prepared.keys,
                    ids: &prepared.id_keys,
                    versions: &self.versions,
                },
            );
            #[cfg(feature = "sabotage")]
            for &split in splits.iter().skip(1) {
                index.split_frame(split);
            }
            index.end_frame(at);
        }
        self.offset = at;
        group.end = first + events.len() as u64;
        group.appends += 1;
        self.next += events.len() as u64;
        let taken = (self.offset - offset) as usize;
        self.pending_bytes += taken;
        let places = self
            .versions
            .iter()
            .zip(first..)
            .map(|(&version, offset)| Placed {
                position: Position::at(offset),
                version,
            })
            .collect();
        Step::Placed {
            completion: self
                .open
                .as_ref()
                .map(|g| g.completion.clone())
                .unwrap_or_else(|| unreachable!("a group was opened above")),
            places,
        }
    }

    /// Gives the events of the append at hand their versions.
    fn count_versions(&mut self, keys: &[u128]) {
        self.versions.clear();
        let one_stream = keys.iter().all(|&key| key == keys[0]);
        self.written.clear();
        for (i, (&key, &base)) in keys.iter().zip(&self.bases).enumerate() {
            let version = if i > 0 && keys[i - 1] == key {
                self.versions[i - 1] + 1
            } else if one_stream {
                base
            } else {
                let known = self.written.find(key as u64, |&(k, _)| k == key);
                known.map_or(base, |&(_, next)| next)
            };
            self.versions.push(version);
            if !one_stream {
                match self.written.find_mut(key as u64, |&(k, _)| k == key) {
                    Some(entry) => entry.1 = version + 1,
                    None => {
                        self.written
                            .insert_unique(key as u64, (key, version + 1), |&(k, _)| k as u64);
                    }
                }
            }
        }
    }

    fn open_group(&mut self) {
        if self.open.is_some() {
            return;
        }
        let mut buf = self
            .pool
            .pop()
            .unwrap_or_else(|| AlignedBuf::with_capacity(64 << 10));
        buf.clear();
        buf.extend(&self.tail);
        let completion = Arc::new(Completion::new());
        let now = self.store.env.clock.monotonic();
        while self.waiting.front().is_some_and(|(_, c)| c.is_settled()) {
            self.waiting.pop_front();
        }
        self.waiting.push_back((now, completion.clone()));
        self.open = Some(Group {
            part: self.part.clone(),
            new_segment: None,
            start: self.offset,
            lead: self.tail.len(),
            buf,
            first: self.next,
            end: self.next,
            entries: Vec::new(),
            completion,
            appends: 0,
        });
    }

    /// Ends the segment and plans the next one.
    fn roll(&mut self, frame_max: u64, spares: &std::sync::Mutex<VecDeque<Spare>>) {
        if let Some(group) = self.open.take() {
            self.ready.push_back(group);
        }
        self.part.set_end(self.next);
        let needed = DATA_START + frame_max;
        let spare = {
            let mut spares = lock(spares);
            let fits = spares.iter().position(|s| s.capacity >= needed);
            fits.and_then(|at| spares.remove(at))
        };
        let capacity = spare.as_ref().map_or_else(
            || SMALL_SEGMENT.max(needed.next_multiple_of(4096)),
            |spare| spare.capacity,
        );
        let id = self.next_segment_id;
        self.next_segment_id += 1;
        let segment = Arc::new(Segment::new(
            id,
            segment_path(&self.store.dir, id),
            capacity,
        ));
        let index = self.next_index(capacity);
        let part = Arc::new(Part::growing(segment, DATA_START, index));
        self.unsealed.push(part.clone());
        self.store.change_parts(|parts| parts.push(part.clone()));
        self.part = part;
        self.offset = DATA_START;
        self.tail.clear();
        self.must_roll = false;
        let created_at = self.store.env.clock.wall_micros();
        self.open_group();
        if let Some(group) = &mut self.open {
            group.new_segment = Some(NewSegment { spare, created_at });
        }
    }

    /// An empty index for a part of `bytes` bytes that begins here.
    fn next_index(&mut self, bytes: u64) -> ActiveIndex {
        if let Some(mut kept) = self.kept_index.take() {
            kept.begin(self.next, DATA_START);
            return kept;
        }
        match &*read(&self.part.index) {
            PartIndex::Active(before) => {
                ActiveIndex::new_after(before, self.next, DATA_START, bytes)
            }
            PartIndex::Sealed(_) => {
                ActiveIndex::new(self.next, self.store.identity.hash_key, DATA_START)
            }
        }
    }

    /// Keeps an emptied index for the next part, or gives up the one kept; gives what is to be
    /// dropped, outside the lock.
    pub fn keep_index(&mut self, index: Option<ActiveIndex>) -> Option<ActiveIndex> {
        std::mem::replace(&mut self.kept_index, index)
    }

    /// The next group to write, closed.
    pub fn take_group(&mut self) -> Option<Group> {
        if let Some(group) = self.ready.pop_front() {
            return Some(group);
        }
        let group = self.open.take()?;
        let end = group.buf.len();
        let rest = (self.offset % self.align as u64) as usize;
        self.tail.clear();
        self.tail
            .extend_from_slice(&group.buf.bytes()[end - rest..]);
        Some(group)
    }

    /// The group is done with, one way or the other.
    pub fn release(&mut self, group: Group) {
        self.pending_bytes = self.pending_bytes.saturating_sub(group.frame_bytes());
        if self.pool.len() < 4 && group.buf.len() <= self.queue_bytes_max / 8 {
            self.pool.push(group.buf);
        }
    }

    /// Takes back everything that is not durable; gives the groups that were waiting.
    /// The next append begins a new segment.
    pub fn roll_back(&mut self, durable: u64) -> Vec<Group> {
        let mut dropped: Vec<Group> = self.ready.drain(..).collect();
        dropped.extend(self.open.take());
        self.must_roll = true;
        if self.store.bug(crate::Bug::NoRollback) {
            return dropped;
        }
        while self.unsealed.len() > 1 && self.unsealed.last().is_some_and(|p| p.first >= durable) {
            self.unsealed.pop();
        }
        if let Some(part) = self.unsealed.last() {
            self.part = part.clone();
        }
        self.store.change_parts(|parts| {
            parts.retain(|p| p.first < durable || Arc::ptr_eq(p, &self.part))
        });
        if let PartIndex::Active(index) = &mut *write(&self.part.index) {
            index.truncate_with(durable, self.store.planted);
        }
        self.part.set_end(durable.max(self.part.first));
        self.next = durable;
        self.heads.clear();
        dropped
    }

    /// The oldest part that no longer grows and whose events are all durable, if any.
    pub fn part_to_seal(&self) -> Option<Arc<Part>> {
        let oldest = self.unsealed.first()?;
        (self.unsealed.len() > 1 && oldest.end() <= self.store.synced()).then(|| oldest.clone())
    }

    /// The growing part, if all its events are durable.
    pub fn part_to_close(&self) -> Option<Arc<Part>> {
        (self.unsealed.len() == 1 && self.next == self.store.published()).then(|| self.part.clone())
    }

    /// The oldest part in memory is sealed: `id_max` is the greatest id in it.
    pub fn sealed(&mut self, part: &Arc<Part>, id_max: u128) {
        self.unsealed.retain(|p| !Arc::ptr_eq(p, part));
        self.sealed_id_max = self.sealed_id_max.max(id_max);
        self.generation += 1;
    }
}

/// Position of the first event from `from` on, durable or not, that matches. By term keys:
/// a collision of 64-bit keyed hashes would refuse an append that could be written.
fn match_in_memory(index: &ActiveIndex, query: &Query, from: u64, hash_key: u64) -> Option<u64> {
    let from = from.saturating_sub(index.first()).min(u64::from(u32::MAX)) as u32;
    let rels = |term| index.term_rels(term_key(hash_key, term), from);
    let has = |rels: &[u32], rel: u32| rels.binary_search(&rel).is_ok();
    let mut best: Option<u32> = None;
    for item in &query.items {
        let types: Vec<_> = item
            .types
            .iter()
            .map(|t| rels(Term::Type(t.as_str())))
            .collect();
        let tags: Vec<_> = item.tags.iter().map(|t| rels(Term::Tag(t))).collect();
        let fits = |rel: u32| {
            (types.is_empty() || types.iter().any(|list| has(list, rel)))
                && tags.iter().all(|list| has(list, rel))
        };
        let first = if let Some(shortest) = tags.iter().min_by_key(|list| list.len()) {
            shortest.iter().copied().find(|&rel| fits(rel))
        } else if types.is_empty() {
            (from < index.count()).then_some(from)
        } else {
            types.iter().filter_map(|list| list.first()).min().copied()
        };
        best = match (best, first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    best.map(|rel| index.first() + u64::from(rel))
}
