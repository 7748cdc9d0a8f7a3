use std::ops::Range;

use hashbrown::{HashMap, HashTable};

use anabranch_model::{Block, EventRef};

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
        self.push_next(id, key, |_| version, category, event_type, tags);
    }

    /// As [`ActiveIndex::push`]; `version` is told the version that follows the stream's
    /// last event here, if there is one, and decides. Returns what it decided.
    #[inline]
    pub fn push_next<'a>(
        &mut self,
        id: u128,
        key: u128,
        version: impl FnOnce(Option<u64>) -> u64,
        category: &str,
        event_type: &str,
        tags: impl Iterator<Item = &'a str>,
    ) -> u64 {
        let rel = self.count();
        self.ids.push(id);
        let (ids, hash_key) = (&self.ids, self.hash_key);
        self.id_table
            .insert_unique(id_key(hash_key, id), rel, |&r| {
                id_key(hash_key, ids[r as usize])
            });
        let version = match self.streams.find_mut(key as u64, |e| e.key == key) {
            Some(entry) => {
                let version = version(Some(entry.next_version));
                self.previous.push(entry.last);
                entry.last = rel;
                entry.count += 1;
                entry.next_version = version + 1;
                version
            }
            None => {
                let version = version(None);
                self.previous.push(NONE);
                let entry = StreamEntry {
                    key,
                    first_version: version,
                    next_version: version + 1,
                    last: rel,
                    count: 1,
                };
                self.streams
                    .insert_unique(key as u64, entry, |e| e.key as u64);
                version
            }
        };
        self.versions.push(version);
        let hash_key = self.hash_key;
        let mut term = |t| {
            self.terms
                .entry(term_key(hash_key, t))
                .or_default()
                .push(rel);
        };
        term(Term::Category(category));
        term(Term::Type(event_type));
        for tag in tags {
            term(Term::Tag(tag));
        }
        version
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
        self.id_table
            .find(id_key(self.hash_key, id), |&rel| {
                self.ids[rel as usize] == id
            })
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

    /// The frames, in order.
    pub fn frames(&self) -> &[FramePlace] {
        &self.frames
    }

    /// The ids, in order of position.
    pub fn ids(&self) -> &[u128] {
        &self.ids
    }

    /// The streams, in no order.
    pub fn streams(&self) -> impl Iterator<Item = &StreamEntry> {
        self.streams.iter()
    }

    /// The terms with their events, in no order.
    pub fn terms(&self) -> impl Iterator<Item = (u64, &[u32])> {
        self.terms.iter().map(|(&key, rels)| (key, rels.as_slice()))
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
