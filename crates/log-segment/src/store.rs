//! What is on the disk, as readers see it: parts of segments, and blocks of frames.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use anabranch_env::{Env, File, is_out_of_files};
use anabranch_log::ReadError;
use anabranch_model::record::RecordError;
use anabranch_model::{Block, BlockEntry, Event, EventBatch, EventId, PartitionId, Position};
use bytes::BytesMut;

use crate::files::Files;
use crate::format::{FrameAt, LogIdentity, PAGE, Spot, find_frame_magic, frame_at};
use crate::index::{
    ActiveIndex, FramePlace, IndexError, Lookup, Run, SealedIndex, StreamSpan, id_key, stream_key,
    write_index,
};
use crate::part::{Part, PartIndex, Segment, write_file};
use crate::reading::{io_error, read_frame, read_readable};
use crate::sync::{lock, read, write};
use crate::tail::Tail;

/// How much is read at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// How many events of a stream are looked at while appends wait.
const WALK_STEPS: usize = 4096;

/// Everything that reading needs, shared by the log, its readers and its upkeep.
pub(crate) struct Store {
    pub env: Env,
    pub dir: PathBuf,
    pub identity: LogIdentity,
    /// Ascending. The last one grows.
    parts: RwLock<Arc<Vec<Arc<Part>>>>,
    /// The catalogue of stream heads, ascending; it covers the oldest parts.
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
    /// Every event before this position is durable and may be read.
    published: AtomicU64,
    /// Every event before this position is on the disk. Behind `published` only with
    /// `Durability::Interval`.
    synced: AtomicU64,
    pub tail: Tail,
    closed: AtomicBool,
    /// Events that cannot be read, ascending.
    gaps: RwLock<Vec<Gap>>,
    /// Segment and index files that are open for reading.
    pub files: Arc<Files>,
    pub read_only: bool,
    pub counters: Counters,
    /// What went wrong and was mended, for `info`.
    /// Each with how often it was said: a full disk says the same each second.
    notes: Mutex<Vec<(String, u64)>>,
    /// The bug planted to test the tests; none but in a test build.
    pub planted: crate::sabotage::Planted,
}

/// Counts for [`crate::Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub commits: AtomicU64,
    pub commit_bytes: AtomicU64,
    pub index_bytes: AtomicU64,
    pub ahead_bytes: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Events that are damaged on the disk and in no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub file: String,
    pub offset: u64,
    pub what: String,
    pub first: u64,
    /// Position after the last event.
    pub end: u64,
}

impl Gap {
    pub fn error(&self) -> ReadError {
        ReadError::Damaged {
            file: self.file.clone(),
            offset: self.offset,
            what: self.what.clone(),
            first: Position::at(self.first),
            last: Position::at(self.end - 1),
        }
    }
}

/// A run of frames as read from a segment.
pub(crate) struct Scanned {
    pub block: Block,
    /// Where the frame after the last one begins, in bytes.
    pub next_offset: u64,
    /// Position after the last event.
    pub end: u64,
}

impl Store {
    pub fn new(env: Env, dir: PathBuf, identity: LogIdentity, read_only: bool) -> Self {
        Self {
            files: Arc::new(Files::new(env.disk.clone())),
            env,
            dir,
            identity,
            parts: RwLock::default(),
            runs: RwLock::default(),
            published: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            tail: Tail::default(),
            closed: AtomicBool::new(false),
            gaps: RwLock::default(),
            read_only,
            counters: Counters::default(),
            notes: Mutex::default(),
            planted: crate::sabotage::Planted::default(),
        }
    }

    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub fn set_published(&self, position: u64) {
        self.published.store(position, Ordering::Release);
    }

    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub fn set_synced(&self, position: u64) {
        self.synced.store(position, Ordering::Release);
    }

    /// Lets followers end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.tail.wake();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn set_gaps(&self, gaps: Vec<Gap>) {
        *write(&self.gaps) = gaps;
    }

    /// Position after the last event found, or known to be lost.
    pub fn end(&self) -> u64 {
        let found = self.parts().last().map_or(0, |part| {
            let indexed = match &*read(&part.index) {
                PartIndex::Active(index) => index.end(),
                PartIndex::Sealed(index) => index.header.end,
            };
            indexed.min(part.end())
        });
        read(&self.gaps)
            .last()
            .map_or(found, |gap| found.max(gap.end))
    }

    /// Does without the filters of old parts when all of them take more than `budget` bytes
    /// of memory.
    pub fn limit_filters(&self, budget: usize) {
        let mut used = 0;
        for run in self.runs().iter().rev() {
            used += run.memory();
            if used > budget {
                run.give_up_filter();
            }
        }
        for part in self.parts().iter().rev() {
            if let PartIndex::Sealed(index) = &*read(&part.index) {
                used += index.memory();
                if used > budget {
                    index.give_up_filters();
                }
            }
        }
    }

    pub fn parts(&self) -> Arc<Vec<Arc<Part>>> {
        read(&self.parts).clone()
    }

    pub fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        read(&self.runs).clone()
    }

    pub fn set_runs(&self, runs: Vec<Arc<Run>>) {
        *write(&self.runs) = Arc::new(runs);
    }

    pub fn change_parts(&self, change: impl FnOnce(&mut Vec<Arc<Part>>)) {
        let mut parts = write(&self.parts);
        let mut changed = Vec::clone(&parts);
        change(&mut changed);
        *parts = Arc::new(changed);
    }

    pub fn note(&self, note: String) {
        let mut notes = lock(&self.notes);
        if let Some((_, times)) = notes.iter_mut().find(|(said, _)| *said == note) {
            *times += 1;
        } else if notes.len() < 100 {
            notes.push((note, 1));
        }
    }

    pub fn notes(&self) -> Vec<String> {
        let notes = lock(&self.notes);
        let told = notes.iter().map(|(note, times)| match times {
            1 => note.clone(),
            times => format!("{note} ({times} times)"),
        });
        told.collect()
    }

    pub fn key(&self, stream: &str) -> u128 {
        stream_key(self.identity.hash_key, stream)
    }

    pub fn id_key(&self, id: EventId) -> u64 {
        id_key(self.identity.hash_key, id.as_u128())
    }

    /// The part that holds `position`, as an index into `parts`.
    pub fn part_at(parts: &[Arc<Part>], position: u64) -> Option<usize> {
        parts
            .partition_point(|part| part.first <= position)
            .checked_sub(1)
    }

    /// The segment's file, open for reading.
    pub fn file(&self, segment: &Segment) -> Result<Arc<dyn File>, ReadError> {
        segment
            .file(&self.files)
            .map_err(|e| io_error(&segment.path, &e))
    }

    /// Reads frames of `part` from byte `offset`, whose first event must stand at
    /// `position`, up to position `until`. At least one frame, unless `position` is
    /// `until`; damage after some good frames is left for the next call.
    pub fn scan(
        &self,
        part: &Part,
        offset: u64,
        position: u64,
        until: u64,
        mut buf: BytesMut,
    ) -> Result<Scanned, ReadError> {
        let until = until.min(part.end());
        let file = self.file(&part.segment)?;
        let mut want = CHUNK;
        loop {
            // Who reads at the end of a part that grows needs no more memory than there are events.
            let end = match &*read(&part.index) {
                PartIndex::Active(index) if index.end_offset() > offset => {
                    index.end_offset().next_multiple_of(PAGE as u64)
                }
                _ => u64::MAX,
            };
            let room = part.segment.capacity.min(end).saturating_sub(offset);
            buf.resize(want.min(usize::try_from(room).unwrap_or(usize::MAX)), 0);
            let (len, refused) = read_readable(&*file, &mut buf, offset);
            buf.truncate(len);
            let mut entries: Vec<BlockEntry> = Vec::new();
            let (mut at, mut next) = (0, position);
            let problem = loop {
                if next >= until {
                    break None;
                }
                let rest = &buf[at.min(buf.len())..];
                // The padding of the last frame may be cut off.
                let room = room.saturating_sub(at as u64);
                match frame_at(
                    rest,
                    room,
                    self.spot(part, rest, offset + at as u64),
                    self.checks(),
                ) {
                    FrameAt::Frame(header) if header.first == next => {
                        entries.push(header.entry(at));
                        next = header.end();
                        at += header.frame_len();
                    }
                    FrameAt::Frame(_) => break Some("the frame belongs to another position"),
                    FrameAt::Short(_) if !entries.is_empty() => break None,
                    FrameAt::Short(needed) if len >= buf.len().min(want) && want < needed => {
                        want = needed;
                        break Some("");
                    }
                    FrameAt::Short(_) => break Some("the file ends inside a frame"),
                    FrameAt::Bad(why) => break Some(why),
                }
            };
            match problem {
                Some("") => continue,
                Some(why) if entries.is_empty() => {
                    return Err(match refused {
                        Some(error) => self.unreadable(part, offset, position, &error),
                        None => self.damage(part, offset, position, why),
                    });
                }
                _ => {}
            }
            return Ok(Scanned {
                next_offset: offset + at as u64,
                end: next,
                block: Block {
                    bytes: buf.freeze(),
                    entries,
                    partition: PartitionId(0),
                },
            });
        }
    }

    /// Whether this bug is planted. Never, and decided while compiling, but in a test build.
    #[inline]
    pub fn bug(&self, bug: crate::Bug) -> bool {
        self.planted.is(bug)
    }

    /// Whether checksums are checked. Always, but for a planted bug.
    fn checks(&self) -> bool {
        !self.bug(crate::Bug::SkipCrc)
    }

    /// Where a frame of this part must say that it stands.
    fn spot(&self, part: &Part, frame: &[u8], offset: u64) -> Spot {
        Spot {
            segment_id: self.frame_id(part, frame),
            offset,
            hash_key: self.identity.hash_key,
        }
    }

    /// The segment that a frame of this part must say it belongs to.
    fn frame_id(&self, part: &Part, frame: &[u8]) -> u64 {
        if self.bug(crate::Bug::AcceptRecycledFrame) && frame.len() >= crate::format::FRAME_HEADER {
            return u64::from(crate::format::get!(u32, frame, 12));
        }
        part.segment.id
    }

    fn unreadable(&self, part: &Part, offset: u64, position: u64, error: &io::Error) -> ReadError {
        self.damage(part, offset, position, &format!("the disk says: {error}"))
    }

    /// The error for frames that cannot be read from `offset` on, where the event at
    /// `position` should be: names the last event lost, too.
    fn damage(&self, part: &Part, offset: u64, position: u64, why: &str) -> ReadError {
        let next = self.next_good_frame(part, offset, position);
        let end = next.unwrap_or_else(|| part.end().min(self.published()));
        ReadError::Damaged {
            file: part.segment.name(),
            offset,
            what: why.to_owned(),
            first: Position::at(position),
            last: Position::at(end.max(position + 1) - 1),
        }
    }

    /// Position of the first good frame after a damaged one at `offset`.
    fn next_good_frame(&self, part: &Part, offset: u64, position: u64) -> Option<u64> {
        let file = self.file(&part.segment).ok()?;
        let mut offset = offset;
        let candidates: Option<Vec<u64>> = match &*read(&part.index) {
            PartIndex::Active(index) => Some(
                index
                    .frames()
                    .iter()
                    .map(|f| u64::from(f.offset))
                    .filter(|&o| o > offset)
                    .take(1000)
                    .collect(),
            ),
            PartIndex::Sealed(index) => {
                let mut found = Vec::new();
                let mut at = offset;
                while let Ok(Some(frame)) = index.frame_after(at) {
                    at = u64::from(frame.offset);
                    found.push(at);
                    if found.len() >= 1000 {
                        break;
                    }
                }
                (!found.is_empty()).then_some(found)
            }
        };
        let check = |at: u64, position: u64| -> Option<u64> {
            let header = read_frame(&*file, part.segment.capacity, self.spot(part, &[], at))?;
            (header.first > position && header.end() <= part.end()).then_some(header.first)
        };
        if let Some(candidates) = candidates {
            return candidates.into_iter().find_map(|at| check(at, position));
        }
        // Without an index: look for a frame header, byte by byte.
        let mut buf = vec![0; CHUNK];
        loop {
            offset = (offset + 8).next_multiple_of(8);
            if offset >= part.segment.capacity {
                return None;
            }
            let (len, _) = read_readable(&*file, &mut buf, offset);
            if len < crate::format::FRAME_HEADER {
                // The end, or a page that cannot be read.
                offset = (offset + 1).next_multiple_of(4096) - 8;
                continue;
            }
            let mut from = 0;
            while let Some(found) = find_frame_magic(&buf[from..len]) {
                let at = offset + (from + found) as u64;
                if let Some(first) = check(at, position) {
                    return Some(first);
                }
                from += found + 8;
            }
            offset += (len & !7) as u64 - 8;
        }
    }

    /// The part that holds `position`, or why it cannot be read.
    pub fn part_for(&self, position: u64) -> Result<Arc<Part>, ReadError> {
        let parts = self.parts();
        let part = Self::part_at(&parts, position).map(|at| &parts[at]);
        match part {
            Some(part) if position < part.end() => Ok(part.clone()),
            _ => Err(read(&self.gaps)
                .iter()
                .find(|gap| (gap.first..gap.end).contains(&position))
                .map_or_else(
                    || ReadError::Invalid(format!("there is no event at position {position}")),
                    Gap::error,
                )),
        }
    }

    /// Where the frame that holds `position` begins.
    pub fn locate(&self, part: &Arc<Part>, position: u64) -> Result<FramePlace, ReadError> {
        if position == part.first {
            return Ok(FramePlace {
                rel: 0,
                offset: part.start_offset as u32,
            });
        }
        let rel = (position - part.first) as u32;
        let found = self.with_index(
            part,
            |active| active.frame_of(rel).into_iter().collect(),
            |sealed| sealed.frames_of(&[rel]),
        )?;
        found.first().copied().ok_or_else(|| {
            ReadError::Invalid(format!(
                "position {position} is not in the index of {}",
                part.segment.name()
            ))
        })
    }

    /// Asks a part's index. An index file that is damaged is built again from the segment.
    pub fn with_index<T>(
        &self,
        part: &Arc<Part>,
        active: impl Fn(&ActiveIndex) -> T,
        sealed: impl Fn(&SealedIndex) -> Result<T, IndexError>,
    ) -> Result<T, ReadError> {
        let index = match &*read(&part.index) {
            PartIndex::Active(index) => return Ok(active(index)),
            PartIndex::Sealed(index) => index.clone(),
        };
        match sealed(&index) {
            Ok(answer) => Ok(answer),
            // The file is whole: it would only be built again in vain.
            Err(IndexError::Io(error)) if is_out_of_files(&error) => {
                Err(io_error(&part.index_path(), &error))
            }
            Err(error) => {
                self.note(format!(
                    "{}: {error}; it was built again from {}",
                    part.index_path().display(),
                    part.segment.name()
                ));
                let rebuilt = self.build_index(part)?;
                let answer = active(&rebuilt);
                self.replace_index(part, rebuilt);
                Ok(answer)
            }
        }
    }

    /// Builds the index of a part that no longer grows from its segment.
    pub fn build_index(&self, part: &Part) -> Result<ActiveIndex, ReadError> {
        let mut index = ActiveIndex::new(part.first, self.identity.hash_key, part.start_offset);
        let (mut offset, mut position) = (part.start_offset, part.first);
        let mut buf = BytesMut::new();
        while position < part.end() {
            let scanned = self.scan(part, offset, position, u64::MAX, buf)?;
            self.add_block(&mut index, &scanned.block, offset)?;
            (offset, position) = (scanned.next_offset, scanned.end);
            buf = scanned.block.bytes.try_into_mut().unwrap_or_default();
        }
        Ok(index)
    }

    /// Adds the frames of a block read at byte `base` of its segment.
    pub fn add_block(
        &self,
        index: &mut ActiveIndex,
        block: &Block,
        base: u64,
    ) -> Result<(), ReadError> {
        crate::index::index_block(index, block, base, |stream| self.key(stream)).map_err(|e| {
            ReadError::Io {
                what: "decoding stored events".to_owned(),
                reason: e.to_string(),
            }
        })
    }

    /// Puts a part's index into a file and uses that; keeps it in memory where the disk
    /// does not take it.
    pub fn replace_index(&self, part: &Arc<Part>, index: ActiveIndex) {
        let sealed = if self.read_only {
            None
        } else {
            let bytes = write_index(&index, self.identity, part.segment.id, part.start_offset);
            let path = part.index_path();
            write_file(&self.env, &path, &bytes)
                .ok()
                .and_then(|()| SealedIndex::open_at(self.files.clone(), path).ok())
        };
        let replaced = match sealed {
            Some(sealed) => PartIndex::Sealed(Arc::new(sealed)),
            None => PartIndex::Active(Box::new(index)),
        };
        *write(&part.index) = replaced;
    }

    /// What a part knows of a stream.
    pub fn stream_in(&self, part: &Arc<Part>, key: u128) -> Result<Option<StreamSpan>, ReadError> {
        self.with_index(part, |a| a.stream(key), |s| s.stream(key))
    }

    /// How many events of a part a lookup would give.
    pub fn count_in(&self, part: &Arc<Part>, lookup: &Lookup) -> Result<u64, ReadError> {
        self.with_index(part, |a| a.lookup_count(lookup), |s| s.lookup_count(lookup))
    }

    /// The events of a part in `range` that a lookup gives, ascending.
    pub fn lookup_in(
        &self,
        part: &Arc<Part>,
        lookup: &Lookup,
        range: &Range<u32>,
    ) -> Result<Vec<u32>, ReadError> {
        self.with_index(
            part,
            |a| a.lookup(lookup, range),
            |s| {
                let mut rels = s.lookup(lookup)?;
                rels.retain(|rel| range.contains(rel));
                Ok(rels)
            },
        )
    }

    /// Goes back through the events of a stream in a part that grows, as
    /// [`ActiveIndex::walk_back`] does. `None`: the part is sealed.
    pub fn walk_back(
        part: &Part,
        key: u128,
        from: Option<u32>,
        range: (u32, &Range<u64>),
        steps: usize,
        rels: &mut Vec<u32>,
    ) -> Option<Option<u32>> {
        match &*read(&part.index) {
            PartIndex::Active(index) => Some(index.walk_back(key, from, range, steps, rels)),
            PartIndex::Sealed(_) => None,
        }
    }

    /// The events of a part that belong to a stream and stand before event `end`, oldest
    /// first: all with versions in `versions`, and perhaps others.
    pub fn stream_rels(
        &self,
        part: &Arc<Part>,
        key: u128,
        (end, versions): (u32, &Range<u64>),
    ) -> Result<Vec<u32>, ReadError> {
        let mut rels = Vec::new();
        let mut from = None;
        // In steps: whoever appends to the part waits meanwhile.
        while let Some(more) =
            Self::walk_back(part, key, from, (end, versions), WALK_STEPS, &mut rels)
        {
            if more.is_none() {
                rels.reverse();
                return Ok(rels);
            }
            from = more;
        }
        let mut rels = self.with_index(part, |a| a.stream_rels(key), |s| s.stream_rels(key))?;
        rels.retain(|&rel| rel < end);
        Ok(rels)
    }

    /// The frames that hold these events of a part.
    pub fn frames_in(&self, part: &Arc<Part>, rels: &[u32]) -> Result<Vec<FramePlace>, ReadError> {
        self.with_index(part, |a| a.frames_of(rels), |s| s.frames_of(rels))
    }

    /// Reads the frames at these places, as many as fit one block; returns how many.
    pub fn read_frames(
        &self,
        part: &Part,
        places: &[FramePlace],
        mut buf: BytesMut,
    ) -> Result<(Block, usize), ReadError> {
        /// Frames nearer than this are read at one go.
        const GAP: u64 = 4096;
        const GUESS_MIN: usize = 1024;
        // How long the next frame may be: a little longer than the one before, since a guess
        // that is too short costs a second read.
        let mut guess = GUESS_MIN;
        let file = self.file(&part.segment)?;
        let mut entries = Vec::with_capacity(places.len().min(1024));
        buf.clear();
        let mut done = 0;
        'runs: while done < places.len() && (done == 0 || buf.len() < CHUNK) {
            // A run of frames that stand close together.
            let start = u64::from(places[done].offset);
            let mut last = done;
            while last + 1 < places.len()
                && u64::from(places[last + 1].offset) - u64::from(places[last].offset) <= GAP
                && u64::from(places[last].offset) - start < CHUNK as u64 / 2
            {
                last += 1;
            }
            let base = buf.len();
            let mut want = (u64::from(places[last].offset) - start) as usize + guess;
            let room = part.segment.capacity.saturating_sub(start);
            'read: loop {
                buf.resize(base + want.min(room as usize), 0);
                let (len, refused) = read_readable(&*file, &mut buf[base..], start);
                buf.truncate(base + len);
                let run_start = entries.len();
                for place in &places[done..=last] {
                    let at = (u64::from(place.offset) - start) as usize;
                    let position = part.first + u64::from(place.rel);
                    let bytes = &buf[base + at.min(len)..];
                    let spot = self.spot(part, bytes, u64::from(place.offset));
                    let header = match frame_at(bytes, room - at as u64, spot, self.checks()) {
                        FrameAt::Frame(header) if header.first == position => header,
                        FrameAt::Short(needed) if at + needed > want && refused.is_none() => {
                            want = at + needed;
                            entries.truncate(run_start);
                            continue 'read;
                        }
                        // What is good before it is given first.
                        _ if !entries.is_empty() => {
                            done = entries.len();
                            break 'runs;
                        }
                        bad => {
                            let why = match (bad, refused) {
                                (FrameAt::Bad(why), _) => why.to_owned(),
                                (FrameAt::Frame(_), _) => {
                                    "the frame belongs to another position".to_owned()
                                }
                                (_, Some(error)) => format!("the disk says: {error}"),
                                _ => "the file ends inside a frame".to_owned(),
                            };
                            let offset = u64::from(place.offset);
                            return Err(self.damage(part, offset, position, &why));
                        }
                    };
                    let len = header.unpadded_len();
                    guess = (len + len / 8).max(GUESS_MIN);
                    entries.push(header.entry(base + at));
                }
                break;
            }
            done = last + 1;
        }
        let block = Block {
            bytes: buf.freeze(),
            entries,
            partition: PartitionId(0),
        };
        Ok((block, done))
    }

    /// One event, by its position.
    pub fn event_at(&self, position: u64) -> Result<Event, ReadError> {
        match self.frame_from(position)?.iter().next() {
            Some(Ok(event)) => Ok(event.to_event()),
            Some(Err(error)) => Err(malformed(error)),
            None => Err(no_event(position)),
        }
    }

    /// Passes the events at these positions to `see`, in their order, with their index, until
    /// it answers `Some`. Events that stand side by side in one frame are read at one go.
    pub fn look_at<T>(
        &self,
        positions: impl Iterator<Item = u64>,
        mut see: impl FnMut(usize, Result<Event, ReadError>) -> Option<T>,
    ) -> Option<T> {
        let mut frame = EventBatch::from(Vec::new()).into_iter();
        let mut before = None;
        for (index, position) in positions.enumerate() {
            let follows = before.is_some_and(|before| position == before + 1);
            before = Some(position);
            let event = match frame.next().filter(|_| follows) {
                Some(event) => event.map_err(malformed),
                None => self.frame_from(position).and_then(|events| {
                    frame = events.into_iter();
                    let first = frame.next().ok_or_else(|| no_event(position))?;
                    first.map_err(malformed)
                }),
            };
            if let Some(answer) = see(index, event) {
                return Some(answer);
            }
        }
        None
    }

    /// The events of the frame that holds `position`, from there on.
    fn frame_from(&self, position: u64) -> Result<EventBatch, ReadError> {
        let part = self.part_for(position)?;
        let place = self.locate(&part, position)?;
        let (block, _) = self.read_frames(&part, &[place], BytesMut::new())?;
        let block = Arc::new(block);
        Ok(EventBatch::of_block(block, position, u64::MAX, None))
    }
}

fn no_event(position: u64) -> ReadError {
    ReadError::Invalid(format!("there is no event at position {position}"))
}

fn malformed(error: RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}
