use std::ops::Range;

use hashbrown::{HashMap, HashTable};

use anabranch_model::{Block, EventRef, NewEvent};

use crate::lost::lost_version;
use crate::sabotage::Planted;

use super::{FramePlace, Lookup, NONE, StreamSpan, Term, id_key, term_key};

/// The index of the log's end, in memory.
///
/// Grows by whole frames as they are sequenced, so it may hold events that are not durable
/// yet: readers stop at the published position, and a failed write takes them back with
/// [`ActiveIndex::truncate`].
pub(crate) struct ActiveIndex {
    first: u64,
    hash_key: u64,
    frames: Vec<FramePlace>,
    /// Of each event: its id.
    ids: Vec<u128>,
    id_table: HashTable<u32>,
    /// Of each event: the one before it in its stream, or [`NONE`].
    previous: Vec<u32>,
    /// Of each event: its version.
    versions: Vec<u64>,
    streams: HashTable<StreamEntry>,
    terms: HashMap<u64, Vec<u32>, Identity>,
    /// Versions of lost events, which are not given again: the event that tells of it, the
    /// stream, and the version after.
    lost: Vec<(u32, u128, u64)>,
    /// Where the last frame ends, in bytes.
    end_offset: u64,
}

/// What the index needs to know of an append, of each of its events.
#[derive(Clone, Copy)]
pub(crate) struct AppendKeys<'a> {
    pub streams: &'a [u128],
    pub ids: &'a [u64],
    pub versions: &'a [u64],
}

pub(crate) struct StreamEntry {
    pub key: u128,
    pub first_version: u64,
    pub next_version: u64,
    pub last: u32,
    pub count: u32,
}

/// Term keys are hashes already.
#[derive(Clone, Copy, Default)]
pub(crate) struct Identity;

pub(crate) struct IdentityHasher(u64);

impl std::hash::BuildHasher for Identity {
    type Hasher = IdentityHasher;
    fn build_hasher(&self) -> IdentityHasher {
        IdentityHasher(0)
    }
}

impl std::hash::Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl ActiveIndex {
    /// An empty index whose first event will stand at `first`, in a frame at `offset`.
    pub fn new(first: u64, hash_key: u64, offset: u64) -> Self {
        Self {
            first,
            hash_key,
            frames: Vec::new(),
            ids: Vec::new(),
            id_table: HashTable::new(),
            previous: Vec::new(),
            versions: Vec::new(),
            streams: HashTable::new(),
            terms: HashMap::default(),
            lost: Vec::new(),
            end_offset: offset,
        }
    }

    /// As [`ActiveIndex::new`], with room for what comes if `bytes` bytes of events are like those
    /// that `before` holds: growing would copy everything while appends wait.
    pub fn new_after(before: &Self, first: u64, offset: u64, bytes: u64) -> Self {
        /// Where more come after all, it grows.
        const EVENTS_MAX: u64 = 1 << 20;
        let begun = before.frames.first().map_or(0, |f| u64::from(f.offset));
        let held = (before.end_offset - begun).max(1);
        let scaled = |count: usize| {
            let count = count as u64;
            let more = (count * bytes / held).min(2 * count);
            (more + more / 16).min(EVENTS_MAX) as usize
        };
        let events = scaled(before.ids.len());
        Self {
            frames: Vec::with_capacity(scaled(before.frames.len())),
            ids: Vec::with_capacity(events),
            id_table: HashTable::with_capacity(events),
            previous: Vec::with_capacity(events),
            versions: Vec::with_capacity(events),
            streams: HashTable::with_capacity(scaled(before.streams.len())),
            ..Self::new(first, before.hash_key, offset)
        }
    }

    /// Forgets all events, but keeps the memory for as many.
    pub fn emptied(mut self) -> Self {
        // Lists of the terms that most events have; there are few.
        let long = (self.count() / 8).max(1024) as usize;
        self.terms.retain(|_, rels| {
            let keep = rels.len() >= long;
            rels.clear();
            keep
        });
        self.frames.clear();
        self.ids.clear();
        self.id_table.clear();
        self.previous.clear();
        self.versions.clear();
        self.streams.clear();
        self.lost.clear();
        self
    }

    /// Begins an index that is empty: its first event will stand at `first`, in a frame at `offset`.
    pub fn begin(&mut self, first: u64, offset: u64) {
        debug_assert!(self.ids.is_empty() && self.streams.is_empty());
        self.first = first;
        self.end_offset = offset;
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The position after the last event.
    pub fn end(&self) -> u64 {
        self.first + self.ids.len() as u64
    }

    pub fn end_offset(&self) -> u64 {
        self.end_offset
    }

    pub fn count(&self) -> u32 {
        self.ids.len() as u32
    }

    #[cfg(test)]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Begins a frame at `offset` that ends at `end_offset`; its events follow.
    pub fn begin_frame(&mut self, offset: u64, end_offset: u64) {
        self.frames.push(FramePlace {
            rel: self.count(),
            offset: u32::try_from(offset).expect("segments are smaller than 4 GiB"),
        });
        self.end_offset = end_offset;
    }

    /// The frame begun last ends at `end_offset`.
    pub fn end_frame(&mut self, end_offset: u64) {
        self.end_offset = end_offset;
    }

    /// The frame begun last has one event; another one begins at `offset`.
    #[cfg(feature = "sabotage")]
    pub fn split_frame(&mut self, offset: u64) {
        self.frames.push(FramePlace {
            rel: self.frames.last().map_or(0, |f| f.rel + 1),
            offset: u32::try_from(offset).expect("segments are smaller than 4 GiB"),
        });
    }

    /// Adds one event of the frame begun last.
    #[inline]
    pub fn push<'a>(
        &mut self,
        id: u128,
        key: u128,
        version: u64,
        category: &str,
        event_type: &str,
        tags: impl Iterator<Item = &'a str>,
    ) {
        let rel = self.count();
        self.push_id(id, id_key(self.hash_key, id));
        self.push_versions(rel, key, &[version]);
        self.push_terms(rel..rel + 1, category, event_type);
        for tag in tags {
            self.push_term(Term::Tag(tag), rel..rel + 1);
        }
    }

    /// Adds the events of an append to the frame begun last. Events of one stream and type that
    /// follow one another are entered together.
    pub fn push_append(&mut self, events: &[NewEvent], of: &AppendKeys<'_>) {
        let mut from = 0;
        while from < events.len() {
            let first = &events[from];
            let untagged = |event: &NewEvent| event.meta.as_ref().is_none_or(|m| m.tags.is_empty());
            let alike = |&at: &usize| {
                of.streams[at] == of.streams[from]
                    && events[at].event_type == first.event_type
                    && untagged(&events[at])
            };
            let to = match untagged(first) {
                true => (from + 1..events.len())
                    .find(|at| !alike(at))
                    .unwrap_or(events.len()),
                false => from + 1,
            };
            let rel = self.count();
            for (event, &key) in events[from..to].iter().zip(&of.ids[from..to]) {
                self.push_id(event.id.as_u128(), key);
            }
            self.push_versions(rel, of.streams[from], &of.versions[from..to]);
            let rels = rel..self.count();
            let (category, event_type) = (first.stream.category(), first.event_type.as_str());
            self.push_terms(rels.clone(), category, event_type);
            for tag in first.meta.iter().flat_map(|meta| &meta.tags) {
                self.push_term(Term::Tag(tag), rels.clone());
            }
            from = to;
        }
    }

    #[inline]
    fn push_id(&mut self, id: u128, id_key_of_it: u64) {
        let rel = self.count();
        self.ids.push(id);
        let (ids, hash_key) = (&self.ids, self.hash_key);
        self.id_table
            .insert_unique(id_key_of_it, rel, |&r| id_key(hash_key, ids[r as usize]));
    }

    /// Enters events of one stream, the first of which is `rel`.
    #[inline]
    fn push_versions(&mut self, rel: u32, key: u128, versions: &[u64]) {
        let (first_version, next_version) = (versions[0], versions[versions.len() - 1] + 1);
        let (last, count) = (rel + versions.len() as u32 - 1, versions.len() as u32);
        let before = match self.streams.find_mut(key as u64, |e| e.key == key) {
            Some(entry) => {
                entry.count += count;
                entry.next_version = next_version;
                std::mem::replace(&mut entry.last, last)
            }
            None => {
                let entry = StreamEntry {
                    key,
                    first_version,
                    next_version,
                    last,
                    count,
                };
                self.streams
                    .insert_unique(key as u64, entry, |e| e.key as u64);
                NONE
            }
        };
        self.previous.push(before);
        self.previous.extend(rel..last);
        self.versions.extend_from_slice(versions);
    }

    /// Enters the category and the type of some events that have the same.
    fn push_terms(&mut self, rels: Range<u32>, category: &str, event_type: &str) {
        let category = Term::Category(category);
        let event_type = Term::Type(event_type);
        // Each list is in order, even if two terms should share one.
        if term_key(self.hash_key, category) == term_key(self.hash_key, event_type) {
            for rel in rels {
                self.push_term(category, rel..rel + 1);
                self.push_term(event_type, rel..rel + 1);
            }
        } else {
            self.push_term(category, rels.clone());
            self.push_term(event_type, rels);
        }
    }

    #[inline]
    fn push_term(&mut self, term: Term<'_>, rels: Range<u32>) {
        let key = term_key(self.hash_key, term);
        self.terms.entry(key).or_default().extend(rels);
    }

    /// Adds the events of a frame that was read back.
    pub fn push_frame<'a>(
        &mut self,
        offset: u64,
        end_offset: u64,
        key_of: impl Fn(&str) -> u128,
        events: impl Iterator<Item = EventRef<'a>>,
    ) {
        self.begin_frame(offset, end_offset);
        for event in events {
            self.push(
                event.id.as_u128(),
                key_of(event.stream),
                event.version,
                event.category(),
                event.event_type,
                event.meta.tags(),
            );
            if let Some((key, version)) = lost_version(&event) {
                self.lost.push((self.count() - 1, key, version + 1));
                self.pass_over(key, version + 1);
            }
        }
    }

    /// Makes the next event of a stream get at least the version `next`.
    fn pass_over(&mut self, key: u128, next: u64) {
        match self.streams.find_mut(key as u64, |e| e.key == key) {
            Some(entry) => entry.next_version = entry.next_version.max(next),
            None => {
                let entry = StreamEntry {
                    key,
                    first_version: next,
                    next_version: next,
                    last: NONE,
                    count: 0,
                };
                self.streams
                    .insert_unique(key as u64, entry, |e| e.key as u64);
            }
        }
    }

    /// Takes back every event from position `end` on. `end` begins a frame.
    pub fn truncate(&mut self, end: u64) {
        self.truncate_with(end, Planted::default());
    }

    /// As [`ActiveIndex::truncate`], with the bug that is planted.
    pub fn truncate_with(&mut self, end: u64, planted: Planted) {
        let keep = end.saturating_sub(self.first).min(self.ids.len() as u64) as u32;
        for rel in (keep..self.count()).rev() {
            let id = self.ids[rel as usize];
            if let Ok(entry) = self
                .id_table
                .find_entry(id_key(self.hash_key, id), |&r| r == rel)
            {
                entry.remove();
            }
        }
        let (previous, versions) = (&self.previous, &self.versions);
        self.streams.retain(|entry| {
            while entry.last != NONE && entry.last >= keep {
                entry.last = previous[entry.last as usize];
                entry.count -= 1;
            }
            if entry.last != NONE {
                entry.next_version = versions[entry.last as usize] + 1;
            }
            entry.last != NONE
        });
        self.lost.retain(|&(rel, ..)| rel < keep);
        for (_, key, next) in self.lost.clone() {
            self.pass_over(key, next);
        }
        self.terms.retain(|_, rels| {
            if !planted.is(crate::Bug::RollbackKeepsTerms) {
                rels.truncate(rels.partition_point(|&rel| rel < keep));
            }
            !rels.is_empty()
        });
        self.ids.truncate(keep as usize);
        self.previous.truncate(keep as usize);
        self.versions.truncate(keep as usize);
        let frames = self.frames.partition_point(|f| f.rel < keep);
        if let Some(cut) = self.frames.get(frames) {
            self.end_offset = u64::from(cut.offset);
        }
        self.frames.truncate(frames);
    }

    /// The event that has this id.
    #[inline]
    pub fn find_id(&self, id: u128) -> Option<u32> {
        self.find_id_by(id_key(self.hash_key, id), id)
    }

    /// As [`ActiveIndex::find_id`], of an id whose key is known.
    #[inline]
    pub fn find_id_by(&self, key: u64, id: u128) -> Option<u32> {
        self.id_table
            .find(key, |&rel| self.ids[rel as usize] == id)
            .copied()
    }

    /// What is known of a stream.
    #[inline]
    pub fn stream(&self, key: u128) -> Option<StreamSpan> {
        self.streams
            .find(key as u64, |e| e.key == key)
            .map(|e| StreamSpan {
                first_version: e.first_version,
                next_version: e.next_version,
                count: e.count,
            })
    }

    /// The version after the last event of a stream that stands before position `end`.
    pub fn next_version_before(&self, key: u128, end: u64) -> Option<u64> {
        let entry = self.streams.find(key as u64, |e| e.key == key)?;
        let mut rel = entry.last;
        while rel != NONE && self.first + u64::from(rel) >= end {
            rel = self.previous[rel as usize];
        }
        (rel != NONE).then(|| self.versions[rel as usize] + 1)
    }

    /// The events of a stream, oldest first.
    pub fn stream_rels(&self, key: u128) -> Vec<u32> {
        let mut rels = Vec::new();
        if let Some(entry) = self.streams.find(key as u64, |e| e.key == key) {
            self.rels_of(entry, &mut rels);
        }
        rels
    }

    /// Goes back through a stream's events, from the one at `from`, or else from its last.
    /// Puts those before event `end` with versions in `versions` into `rels`, newest first.
    /// Looks at no more than `steps` events; gives the one to go on from, if there may be more.
    pub fn walk_back(
        &self,
        key: u128,
        from: Option<u32>,
        (end, versions): (u32, &Range<u64>),
        steps: usize,
        rels: &mut Vec<u32>,
    ) -> Option<u32> {
        let last = || {
            self.streams
                .find(key as u64, |e| e.key == key)
                .map(|e| e.last)
        };
        let mut rel = from.or_else(last)?;
        // Those that may be taken back are no place to stop at, and few.
        while rel != NONE && rel >= end {
            rel = self.previous[rel as usize];
        }
        for _ in 0..steps {
            if rel == NONE || self.versions[rel as usize] < versions.start {
                return None;
            }
            if self.versions[rel as usize] < versions.end {
                rels.push(rel);
            }
            rel = self.previous[rel as usize];
        }
        (rel != NONE).then_some(rel)
    }

    /// Puts the events of a stream, oldest first, into `rels`.
    pub fn rels_of(&self, entry: &StreamEntry, rels: &mut Vec<u32>) {
        rels.clear();
        rels.reserve(entry.count as usize);
        let mut rel = entry.last;
        while rel != NONE {
            rels.push(rel);
            rel = self.previous[rel as usize];
        }
        rels.reverse();
    }

    /// How many events a lookup would give.
    pub fn lookup_count(&self, lookup: &Lookup) -> u64 {
        match lookup {
            Lookup::Streams(keys) => keys
                .iter()
                .filter_map(|&key| self.stream(key))
                .map(|span| u64::from(span.count))
                .sum(),
            Lookup::Terms(keys) => keys
                .iter()
                .filter_map(|key| self.terms.get(key))
                .map(|rels| rels.len() as u64)
                .sum(),
        }
    }

    /// The events in `range` that a lookup gives, ascending. Costs what lies behind the
    /// beginning of the range, at most.
    pub fn lookup(&self, lookup: &Lookup, range: &Range<u32>) -> Vec<u32> {
        let mut rels: Vec<u32> = Vec::new();
        match lookup {
            Lookup::Streams(keys) => {
                for &key in keys {
                    let entry = self.streams.find(key as u64, |e| e.key == key);
                    let mut rel = entry.map_or(NONE, |e| e.last);
                    while rel != NONE && rel >= range.start {
                        if rel < range.end {
                            rels.push(rel);
                        }
                        rel = self.previous[rel as usize];
                    }
                }
            }
            Lookup::Terms(keys) => {
                for &key in keys {
                    let from = self.term_rels(key, range.start);
                    let count = from.partition_point(|&rel| rel < range.end);
                    rels.extend_from_slice(&from[..count]);
                }
            }
        }
        rels.sort_unstable();
        rels
    }

    /// The events from `from` on that have this term.
    pub fn term_rels(&self, key: u64, from: u32) -> &[u32] {
        self.terms
            .get(&key)
            .map_or(&[], |rels| &rels[rels.partition_point(|&rel| rel < from)..])
    }

    /// The frame that holds an event.
    pub fn frame_of(&self, rel: u32) -> Option<FramePlace> {
        let after = self.frames.partition_point(|f| f.rel <= rel);
        self.frames.get(after.checked_sub(1)?).copied()
    }

    /// The frames that hold the events `rels`, ascending, each frame once.
    pub fn frames_of(&self, rels: &[u32]) -> Vec<FramePlace> {
        let mut found: Vec<FramePlace> = Vec::new();
        // How many frames begin at or before the event looked at last.
        let mut after = 0;
        for &rel in rels {
            // In growing steps from there: the next one is not far.
            let (mut from, mut step) = (after, 1);
            while self.frames.get(from + step).is_some_and(|f| f.rel <= rel) {
                from += step;
                step *= 2;
            }
            let to = (from + step).min(self.frames.len());
            after = from + self.frames[from..to].partition_point(|f| f.rel <= rel);
            let frame = after.checked_sub(1).map(|at| self.frames[at]);
            if let Some(frame) = frame.filter(|frame| found.last() != Some(frame)) {
                found.push(frame);
            }
        }
        found
    }

    /// The frames, in order.
    pub fn frames(&self) -> &[FramePlace] {
        &self.frames
    }

    /// The ids, in order of position.
    pub fn ids(&self) -> &[u128] {
        &self.ids
    }

    /// The streams, in no order.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = &StreamEntry> {
        self.streams.iter()
    }

    /// The terms with their events, in no order.
    pub fn terms(&self) -> impl Iterator<Item = (u64, &[u32])> {
        let lists = self.terms.iter().filter(|(_, rels)| !rels.is_empty());
        lists.map(|(&key, rels)| (key, rels.as_slice()))
    }
}

/// Adds every frame of `block`, whose bytes stand at `base` in the segment, to `index`.
pub(crate) fn index_block(
    index: &mut ActiveIndex,
    block: &Block,
    base: u64,
    key_of: impl Fn(&str) -> u128,
) -> Result<(), anabranch_model::record::RecordError> {
    use crate::format::{FRAME_HEADER, frame_len};
    for entry in &block.entries {
        let offset = base + u64::from(entry.start) - FRAME_HEADER as u64;
        let end = offset + frame_len(entry.len as usize) as u64;
        let body = &block.bytes[entry.start as usize..(entry.start + entry.len) as usize];
        let records = anabranch_model::record::Records::new(
            body,
            anabranch_model::Position::at(entry.first),
            entry.recorded_at,
        );
        let mut failed = None;
        index.push_frame(
            offset,
            end,
            &key_of,
            records.map_while(|r| r.map_err(|e| failed = Some(e)).ok()),
        );
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(index: &mut ActiveIndex, id: u128, key: u128, version: u64, tag: &str) {
        let offset = index.end_offset();
        index.begin_frame(offset, offset + 64);
        index.push(id, key, version, "order", "Placed", [tag].into_iter());
    }

    fn filled() -> ActiveIndex {
        let mut index = ActiveIndex::new(100, 1, 8192);
        push(&mut index, 11, 1, 0, "a");
        push(&mut index, 12, 2, 5, "b");
        push(&mut index, 13, 1, 1, "a");
        index
    }

    #[test]
    fn events_are_found_by_id_stream_and_term() {
        let index = filled();
        assert_eq!(index.find_id(12), Some(1));
        assert_eq!(index.find_id(99), None);
        assert_eq!(index.stream_rels(1), [0, 2]);
        let a = term_key(1, Term::Tag("a"));
        let terms = Lookup::Terms(vec![a]);
        assert_eq!(index.lookup(&terms, &(0..u32::MAX)), [0, 2]);
        assert_eq!(index.lookup(&terms, &(1..3)), [2]);
        assert_eq!(index.lookup(&terms, &(0..2)), [0]);
        let streams = Lookup::Streams(vec![1, 2]);
        assert_eq!(index.lookup(&streams, &(0..u32::MAX)), [0, 1, 2]);
        assert_eq!(index.lookup(&streams, &(1..2)), [1]);
        assert_eq!(index.term_rels(a, 1), [2]);
        assert_eq!(index.frame_of(2).unwrap().offset, 8192 + 128);
    }

    #[test]
    fn the_frames_of_many_events_are_those_of_each() {
        let mut index = ActiveIndex::new(0, 1, 8192);
        for frame in 0..40_u128 {
            let offset = index.end_offset();
            index.begin_frame(offset, offset + 64);
            for event in 0..=frame % 3 {
                index.push(frame * 8 + event, 1, 0, "order", "Placed", [].into_iter());
            }
        }
        for every in [1, 2, 3, 7, 50] {
            let rels: Vec<u32> = (0..index.count()).step_by(every).collect();
            let mut each: Vec<_> = rels.iter().filter_map(|&r| index.frame_of(r)).collect();
            each.dedup();
            assert_eq!(index.frames_of(&rels), each, "every {every}");
        }
    }

    #[test]
    fn an_index_that_was_emptied_is_as_a_new_one() {
        let mut old = ActiveIndex::new(0, 1, 8192);
        for i in 0..3_000 {
            push(&mut old, i, i % 7, i as u64, "a");
        }
        let mut again = old.emptied();
        again.begin(100, 8192);
        assert_eq!(again.find_id(12), None);
        assert_eq!(again.terms().count(), 0);
        for (id, key, version, tag) in [(11, 1, 0, "a"), (12, 2, 5, "b"), (13, 1, 1, "a")] {
            push(&mut again, id, key, version, tag);
        }
        let identity = crate::format::LogIdentity {
            log_id: 7,
            hash_key: 1,
        };
        let file = |index: &ActiveIndex| super::super::write_index(index, identity, 3, 8192);
        assert_eq!(file(&again), file(&filled()));
    }

    #[test]
    fn an_append_is_entered_as_its_events_would_be_one_by_one() {
        use anabranch_model::{EventId, EventType, StreamId};
        let event = |id: u128, stream: &str, kind: &str, tag: Option<&str>| {
            let stream = StreamId::new(stream).unwrap();
            let id = EventId::from_u128(id);
            let event = NewEvent::new(id, stream, EventType::new(kind).unwrap(), "1");
            tag.map_or(event.clone(), |tag| event.with_tag(tag))
        };
        let events = [
            event(9, "a/1", "X", None),
            event(7, "a/1", "X", None),
            event(8, "a/1", "Y", None),
            event(3, "a/1", "Y", Some("t")),
            event(4, "a/1", "Y", Some("t")),
            event(5, "b/1", "Y", None),
            event(6, "a/1", "X", None),
        ];
        let versions = [4, 5, 6, 7, 8, 0, 9];
        let key = |event: &NewEvent| super::super::stream_key(1, event.stream.as_str());
        let streams: Vec<u128> = events.iter().map(key).collect();
        let ids: Vec<u64> = events.iter().map(|e| id_key(1, e.id.as_u128())).collect();
        let (mut together, mut one_by_one) = (filled(), filled());
        let offset = together.end_offset();
        for index in [&mut together, &mut one_by_one] {
            index.begin_frame(offset, offset + 64);
        }
        together.push_append(
            &events,
            &AppendKeys {
                streams: &streams,
                ids: &ids,
                versions: &versions,
            },
        );
        for ((event, &key), version) in events.iter().zip(&streams).zip(versions) {
            let (category, kind) = (event.stream.category(), event.event_type.as_str());
            let tags = event.meta.iter().flat_map(|m| &m.tags).map(String::as_str);
            one_by_one.push(event.id.as_u128(), key, version, category, kind, tags);
        }
        let identity = crate::format::LogIdentity {
            log_id: 7,
            hash_key: 1,
        };
        let file = |index: &ActiveIndex| super::super::write_index(index, identity, 3, 8192);
        assert_eq!(file(&together), file(&one_by_one));
        assert_eq!(together.versions, one_by_one.versions);
        assert_eq!(together.previous, one_by_one.previous);
        assert!(ids.iter().zip(&events).all(|(&key, event)| {
            let id = event.id.as_u128();
            together.find_id_by(key, id) == one_by_one.find_id(id)
        }));
    }

    #[test]
    fn the_last_events_of_a_stream_cost_no_more_than_themselves() {
        let mut index = ActiveIndex::new(0, 1, 8192);
        for version in 0..1_000 {
            push(&mut index, u128::from(version), 7, version, "a");
        }
        let mut rels = Vec::new();
        // Eleven steps: the eleventh finds that the range is over.
        let more = index.walk_back(7, None, (u32::MAX, &(990..u64::MAX)), 11, &mut rels);
        assert_eq!((more, rels.len(), rels[0]), (None, 10, 999));
        rels.clear();
        let mut from = index.walk_back(7, None, (500, &(0..400)), 64, &mut rels);
        while from.is_some() {
            from = index.walk_back(7, from, (500, &(0..400)), 64, &mut rels);
        }
        assert_eq!(rels, (0..400).rev().collect::<Vec<u32>>());
        assert_eq!(index.walk_back(8, None, (9, &(0..9)), 64, &mut rels), None);
    }

    #[test]
    fn truncating_leaves_what_was_there_before() {
        let mut index = filled();
        push(&mut index, 14, 3, 0, "c");
        push(&mut index, 15, 1, 2, "a");
        index.truncate(103);
        assert_eq!(index.end(), 103);
        assert_eq!(index.end_offset(), 8192 + 192);
        assert_eq!((index.find_id(14), index.find_id(15)), (None, None));
        assert_eq!(index.stream(3), None);
        assert_eq!(index.stream(1).unwrap().next_version, 2);
        assert_eq!(index.term_rels(term_key(1, Term::Tag("c")), 0), [0; 0]);
        index.truncate(100);
        assert_eq!((index.count(), index.stream_count()), (0, 0));
        assert_eq!(index.end_offset(), 8192);
    }

    #[test]
    fn the_version_before_a_position_leaves_out_what_is_pending() {
        let index = filled();
        assert_eq!(index.next_version_before(1, 103), Some(2));
        assert_eq!(index.next_version_before(1, 102), Some(1));
        assert_eq!(index.next_version_before(1, 100), None);
    }
}
