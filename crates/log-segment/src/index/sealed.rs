use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_env::File;

use super::active::ActiveIndex;
use super::bloom::{Bloom, LazyBloom};
use super::error::{IndexError, damaged};
use super::pages::{Array, PageReader, PageWriter};
use super::{FramePlace, Lookup, StreamSpan, id_key};
use crate::files::{Files, Slot};
use crate::format::{FORMAT_VERSION, LogIdentity, PAGE, get};

const MAGIC: &[u8; 8] = b"ANABIDX\0";
const FRAME_SIZE: usize = 8;
const STREAM_SIZE: usize = 40;
const ID_SIZE: usize = 12;
const TERM_SIZE: usize = 20;
/// How long the entries of the arrays are, in bytes.
#[cfg(test)]
pub(crate) const ENTRY_SIZES: [usize; 4] = [FRAME_SIZE, STREAM_SIZE, ID_SIZE, TERM_SIZE];

/// The index of a part of a segment, in a file.
pub(crate) struct SealedIndex {
    file: IndexFile,
    pub header: IndexHeader,
    stream_filter: LazyBloom,
    id_filter: LazyBloom,
}

/// The file of an index.
enum IndexFile {
    /// Open for as long as it is needed.
    Open(Arc<dyn File>),
    /// Opened when it is read.
    Named {
        files: Arc<Files>,
        slot: Arc<Slot>,
        path: PathBuf,
    },
}

impl IndexFile {
    fn get(&self) -> io::Result<Arc<dyn File>> {
        match self {
            Self::Open(file) => Ok(file.clone()),
            Self::Named { files, slot, path } => files.get(slot, path),
        }
    }
}

/// What an index file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    pub identity: LogIdentity,
    pub segment_id: u64,
    /// Position of the first event.
    pub first: u64,
    /// Position after the last event.
    pub end: u64,
    /// Where the first frame begins in the segment, in bytes.
    pub start_offset: u64,
    /// Where the last frame ends in the segment, in bytes.
    pub end_offset: u64,
    pub id_min: u128,
    pub id_max: u128,
    frames: Array,
    streams: Array,
    ids: Array,
    terms: Array,
    stream_postings: (u32, u32),
    term_postings: (u32, u32),
    stream_bloom: (u32, u32),
    id_bloom: (u32, u32),
}

impl IndexHeader {
    /// Whether it is the index of the part that begins there, with at least one event.
    pub fn fits(&self, identity: LogIdentity, segment_id: u64, first: u64, offset: u64) -> bool {
        self.identity == identity
            && self.segment_id == segment_id
            && self.first == first
            && self.start_offset == offset
            && self.end > first
    }

    fn salt(&self) -> u32 {
        salt(self.identity, self.segment_id, self.first)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.identity.log_id.to_le_bytes());
        out.extend_from_slice(&self.identity.hash_key.to_le_bytes());
        for number in [
            self.segment_id,
            self.first,
            self.end,
            self.start_offset,
            self.end_offset,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.id_min.to_le_bytes());
        out.extend_from_slice(&self.id_max.to_le_bytes());
        for array in [self.frames, self.streams, self.ids, self.terms] {
            out.extend_from_slice(&array.start.to_le_bytes());
            out.extend_from_slice(&array.count.to_le_bytes());
        }
        for (start, len) in [
            self.stream_postings,
            self.term_postings,
            self.stream_bloom,
            self.id_bloom,
        ] {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        out
    }

    fn decode(page: &[u8]) -> Result<Self, IndexError> {
        if &page[..8] != MAGIC {
            return damaged("the index has no magic number");
        }
        let array = |at: usize, size: usize| Array {
            start: get!(u32, page, at),
            count: get!(u32, page, at + 4),
            size: size as u32,
        };
        let run = |at: usize| (get!(u32, page, at), get!(u32, page, at + 4));
        Ok(Self {
            identity: LogIdentity::decode(page),
            segment_id: get!(u64, page, 40),
            first: get!(u64, page, 48),
            end: get!(u64, page, 56),
            start_offset: get!(u64, page, 64),
            end_offset: get!(u64, page, 72),
            id_min: get!(u128, page, 80),
            id_max: get!(u128, page, 96),
            frames: array(112, FRAME_SIZE),
            streams: array(120, STREAM_SIZE),
            ids: array(128, ID_SIZE),
            terms: array(136, TERM_SIZE),
            stream_postings: run(144),
            term_postings: run(152),
            stream_bloom: run(160),
            id_bloom: run(168),
        })
    }
}

/// Binds pages to their log, segment and part.
pub(super) fn salt(identity: LogIdentity, segment_id: u64, first: u64) -> u32 {
    let id = identity.log_id;
    let mixed = (id as u64 ^ (id >> 64) as u64)
        .wrapping_add(segment_id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(first.wrapping_mul(0xd6e8_feb8_6659_fd93));
    (mixed ^ (mixed >> 32)) as u32
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Ascending numbers as varints of their differences.
fn put_postings(out: &mut Vec<u8>, rels: impl Iterator<Item = u32>) {
    let mut before = 0;
    for rel in rels {
        put_varint(out, rel - before);
        before = rel;
    }
}

fn take_postings(bytes: &[u8], count: u32) -> Result<Vec<u32>, IndexError> {
    let mut rels = Vec::with_capacity(count.min(1 << 20) as usize);
    let mut at = 0;
    let mut rel = 0_u32;
    for _ in 0..count {
        let mut step = 0_u32;
        let mut shift = 0;
        loop {
            let Some(&byte) = bytes.get(at) else {
                return damaged("postings end early");
            };
            at += 1;
            step |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return damaged("a posting is too long");
            }
        }
        rel = rel.wrapping_add(step);
        rels.push(rel);
    }
    Ok(rels)
}

/// Memory that indexes are written in, one after another.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Of the file written last.
    pub bytes: Vec<u8>,
    ids: Vec<(u64, u32)>,
}

/// The bytes of the index file for all that `active` holds. The same events give the same
/// bytes, always.
pub(crate) fn write_index(
    active: &ActiveIndex,
    identity: LogIdentity,
    segment_id: u64,
    start_offset: u64,
) -> Vec<u8> {
    let mut scratch = Scratch::default();
    write_index_in(&mut scratch, active, identity, segment_id, start_offset);
    scratch.bytes
}

/// As [`write_index`], into memory that was used before.
pub(crate) fn write_index_in(
    scratch: &mut Scratch,
    active: &ActiveIndex,
    identity: LogIdentity,
    segment_id: u64,
    start_offset: u64,
) {
    let first = active.first();
    let salt = salt(identity, segment_id, first);
    let used = std::mem::take(&mut scratch.bytes);
    let mut pages = PageWriter::with_room(salt, room_of(active), used);

    let mut bytes = Vec::with_capacity(active.frames().len() * FRAME_SIZE);
    for frame in active.frames() {
        bytes.extend_from_slice(&frame.rel.to_le_bytes());
        bytes.extend_from_slice(&frame.offset.to_le_bytes());
    }
    let frames = array(&mut pages, &bytes, FRAME_SIZE);

    let mut streams: Vec<_> = active.streams().collect();
    streams.sort_unstable_by_key(|entry| entry.key);
    let mut bloom = Bloom::with_keys(streams.len());
    let mut postings = Vec::new();
    let mut rels = Vec::new();
    bytes.clear();
    for entry in streams {
        bloom.insert((entry.key >> 64) as u64);
        bytes.extend_from_slice(&entry.key.to_le_bytes());
        bytes.extend_from_slice(&entry.first_version.to_le_bytes());
        bytes.extend_from_slice(&entry.next_version.to_le_bytes());
        bytes.extend_from_slice(&entry.count.to_le_bytes());
        bytes.extend_from_slice(&(postings.len() as u32).to_le_bytes());
        active.rels_of(entry, &mut rels);
        put_postings(&mut postings, rels.iter().copied());
    }
    let streams = array(&mut pages, &bytes, STREAM_SIZE);
    let stream_postings = (pages.blob(&postings), postings.len() as u32);
    let bloom = bloom.to_bytes();
    let stream_bloom = (pages.blob(&bloom), bloom.len() as u32);

    let ids = &mut scratch.ids;
    ids.clear();
    let keyed = active.ids().iter().enumerate();
    ids.extend(keyed.map(|(rel, &id)| (id_key(identity.hash_key, id), rel as u32)));
    ids.sort_unstable();
    let mut bloom = Bloom::with_keys(ids.len());
    let count = ids.len() as u32;
    let start = pages.entries(ids.iter().map(|&(key, rel)| {
        bloom.insert(key);
        let mut entry = [0; ID_SIZE];
        entry[..8].copy_from_slice(&key.to_le_bytes());
        entry[8..].copy_from_slice(&rel.to_le_bytes());
        entry
    }));
    let ids = Array {
        start,
        count,
        size: ID_SIZE as u32,
    };
    let bloom = bloom.to_bytes();
    let id_bloom = (pages.blob(&bloom), bloom.len() as u32);

    let mut terms: Vec<_> = active.terms().collect();
    terms.sort_unstable_by_key(|&(key, _)| key);
    postings.clear();
    bytes.clear();
    for (key, rels) in terms {
        let start = postings.len() as u32;
        put_postings(&mut postings, rels.iter().copied());
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&(rels.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&(postings.len() as u32 - start).to_le_bytes());
    }
    let terms = array(&mut pages, &bytes, TERM_SIZE);
    let term_postings = (pages.blob(&postings), postings.len() as u32);

    let header = IndexHeader {
        identity,
        segment_id,
        first,
        end: active.end(),
        start_offset,
        end_offset: active.end_offset(),
        id_min: active.ids().iter().copied().min().unwrap_or(u128::MAX),
        id_max: active.ids().iter().copied().max().unwrap_or(0),
        frames,
        streams,
        ids,
        terms,
        stream_postings,
        term_postings,
        stream_bloom,
        id_bloom,
    };
    scratch.bytes = pages.finish(&header.encode());
}

/// About how many bytes the index of all that `active` holds takes; memory that is reserved and
/// not used costs nothing, memory that grows is copied and cleared.
fn room_of(active: &ActiveIndex) -> usize {
    let events = active.ids().len();
    let streams = active.streams().len();
    let postings: usize = active.terms().map(|(_, rels)| rels.len() + TERM_SIZE).sum();
    active.frames().len() * FRAME_SIZE
        + streams * (STREAM_SIZE + 2)
        + events * (ID_SIZE + 2)
        + (events + postings) * 5 / 4
}

fn array(pages: &mut PageWriter, bytes: &[u8], size: usize) -> Array {
    Array {
        start: pages.array(bytes, size),
        count: (bytes.len() / size) as u32,
        size: size as u32,
    }
}

/// Where the `index`-th of `count` evenly spread keys is expected.
pub(super) fn guess(key: u64, count: u32) -> u32 {
    ((u128::from(key) * u128::from(count)) >> 64) as u32
}

impl SealedIndex {
    /// Opens an index file; reads and checks its header only.
    pub fn open(file: Arc<dyn File>) -> Result<Self, IndexError> {
        Self::of(IndexFile::Open(file))
    }

    /// As [`SealedIndex::open`]; keeps the file open only while it is in use.
    pub fn open_at(files: Arc<Files>, path: PathBuf) -> Result<Self, IndexError> {
        let slot = Arc::default();
        Self::of(IndexFile::Named { files, slot, path })
    }

    fn of(source: IndexFile) -> Result<Self, IndexError> {
        let file = source.get()?;
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, 0)?;
        let header = IndexHeader::decode(&page)?;
        let pages = PageReader {
            file,
            salt: header.salt(),
        };
        pages.page(0, &mut page)?;
        let found = get!(u32, page, 8);
        if found > FORMAT_VERSION {
            return Err(IndexError::Newer { found });
        }
        Ok(Self {
            file: source,
            header,
            stream_filter: LazyBloom::default(),
            id_filter: LazyBloom::default(),
        })
    }

    fn pages(&self) -> Result<PageReader, IndexError> {
        Ok(PageReader {
            file: self.file.get()?,
            salt: self.header.salt(),
        })
    }

    /// Bytes of filters held in memory.
    pub fn memory(&self) -> usize {
        self.stream_filter.memory() + self.id_filter.memory()
    }

    /// Does without filters from now on; look-ups read pages instead.
    pub fn give_up_filters(&self) {
        self.stream_filter.give_up();
        self.id_filter.give_up();
    }

    /// The streams, ascending by key, and where to read them.
    pub fn stream_heads(&self) -> Result<(Array, PageReader), IndexError> {
        Ok((self.header.streams, self.pages()?))
    }

    /// The events whose id may be `id`. The caller looks at them to be sure.
    pub fn find_id(&self, id: u128) -> Result<Vec<u32>, IndexError> {
        if id < self.header.id_min || id > self.header.id_max {
            return Ok(Vec::new());
        }
        let key = id_key(self.header.identity.hash_key, id);
        let (start, len) = self.header.id_bloom;
        let load = || self.pages()?.blob(start, 0, len as usize);
        if !self.id_filter.may_contain(key, load)? {
            return Ok(Vec::new());
        }
        let ids = self.header.ids;
        let mut cursor = ids.cursor(self.pages()?);
        let mut at = cursor.partition_point(guess(key, ids.count), |e| get!(u64, e, 0) < key)?;
        let mut rels = Vec::new();
        while at < ids.count {
            let entry = cursor.get(at)?;
            if get!(u64, entry, 0) != key {
                break;
            }
            rels.push(get!(u32, entry, 8));
            at += 1;
        }
        Ok(rels)
    }

    fn stream_entry(&self, key: u128) -> Result<Option<(StreamSpan, u32)>, IndexError> {
        let high = (key >> 64) as u64;
        let (start, len) = self.header.stream_bloom;
        let load = || self.pages()?.blob(start, 0, len as usize);
        if !self.stream_filter.may_contain(high, load)? {
            return Ok(None);
        }
        let streams = self.header.streams;
        let mut cursor = streams.cursor(self.pages()?);
        let at = cursor.partition_point(guess(high, streams.count), |e| get!(u128, e, 0) < key)?;
        if at >= streams.count {
            return Ok(None);
        }
        let entry = cursor.get(at)?;
        if get!(u128, entry, 0) != key {
            return Ok(None);
        }
        let span = StreamSpan {
            first_version: get!(u64, entry, 16),
            next_version: get!(u64, entry, 24),
            count: get!(u32, entry, 32),
        };
        Ok(Some((span, get!(u32, entry, 36))))
    }

    /// What is known of a stream.
    pub fn stream(&self, key: u128) -> Result<Option<StreamSpan>, IndexError> {
        Ok(self.stream_entry(key)?.map(|(span, _)| span))
    }

    /// The events of a stream, oldest first.
    pub fn stream_rels(&self, key: u128) -> Result<Vec<u32>, IndexError> {
        let Some((span, start)) = self.stream_entry(key)? else {
            return Ok(Vec::new());
        };
        let (page, len) = self.header.stream_postings;
        let bytes_max = (span.count as usize * 5).min(len.saturating_sub(start) as usize);
        let bytes = self.pages()?.blob(page, start as usize, bytes_max)?;
        take_postings(&bytes, span.count)
    }

    fn term_entry(&self, key: u64) -> Result<Option<(u32, u32, u32)>, IndexError> {
        let terms = self.header.terms;
        let mut cursor = terms.cursor(self.pages()?);
        let at = cursor.partition_point(guess(key, terms.count), |e| get!(u64, e, 0) < key)?;
        if at >= terms.count {
            return Ok(None);
        }
        let entry = cursor.get(at)?;
        if get!(u64, entry, 0) != key {
            return Ok(None);
        }
        Ok(Some((
            get!(u32, entry, 8),
            get!(u32, entry, 12),
            get!(u32, entry, 16),
        )))
    }

    /// The events that have this term, ascending.
    pub fn term_rels(&self, key: u64) -> Result<Vec<u32>, IndexError> {
        let Some((count, start, len)) = self.term_entry(key)? else {
            return Ok(Vec::new());
        };
        let bytes =
            self.pages()?
                .blob(self.header.term_postings.0, start as usize, len as usize)?;
        take_postings(&bytes, count)
    }

    /// How many events a lookup would give.
    pub fn lookup_count(&self, lookup: &Lookup) -> Result<u64, IndexError> {
        let mut sum = 0;
        match lookup {
            Lookup::Streams(keys) => {
                for &key in keys {
                    sum += self.stream(key)?.map_or(0, |span| u64::from(span.count));
                }
            }
            Lookup::Terms(keys) => {
                for &key in keys {
                    sum += self
                        .term_entry(key)?
                        .map_or(0, |(count, ..)| u64::from(count));
                }
            }
        }
        Ok(sum)
    }

    /// The events a lookup gives, ascending.
    pub fn lookup(&self, lookup: &Lookup) -> Result<Vec<u32>, IndexError> {
        let mut rels = Vec::new();
        match lookup {
            Lookup::Streams(keys) => {
                for &key in keys {
                    rels.extend(self.stream_rels(key)?);
                }
            }
            Lookup::Terms(keys) => {
                for &key in keys {
                    rels.extend(self.term_rels(key)?);
                }
            }
        }
        rels.sort_unstable();
        Ok(rels)
    }

    /// The frames that hold the events `rels`, ascending, each frame once.
    pub fn frames_of(&self, rels: &[u32]) -> Result<Vec<FramePlace>, IndexError> {
        let frames = self.header.frames;
        let events = (self.header.end - self.header.first).max(1);
        let mut cursor = frames.cursor(self.pages()?);
        let mut found: Vec<FramePlace> = Vec::new();
        // The frame after the last one found, by its number.
        let mut after = 0;
        // Where that begins, once known: events before it share the last frame.
        let mut next_rel = 0;
        for &rel in rels {
            if !found.is_empty() && rel < next_rel {
                continue;
            }
            let further = u64::from(rel - next_rel) * u64::from(frames.count) / events;
            let guess = (u64::from(after) + further).min(u64::from(u32::MAX)) as u32;
            after = cursor.partition_point(guess, |e| get!(u32, e, 0) <= rel)?;
            let Some(at) = after.checked_sub(1) else {
                return damaged("an event has no frame");
            };
            let entry = cursor.get(at)?;
            found.push(FramePlace {
                rel: get!(u32, entry, 0),
                offset: get!(u32, entry, 4),
            });
            next_rel = if after < frames.count {
                get!(u32, cursor.get(after)?, 0)
            } else {
                u32::MAX
            };
        }
        Ok(found)
    }

    /// Of each event whose version is sure: its rel, its stream's key, its version.
    pub fn versions(&self) -> Result<Vec<(u32, u128, u64)>, IndexError> {
        let streams = self.header.streams;
        let mut cursor = streams.cursor(self.pages()?);
        let mut versions = Vec::new();
        for at in 0..streams.count {
            let key = get!(u128, cursor.get(at)?, 0);
            let Some((span, _)) = self.stream_entry(key)? else {
                return damaged("a stream is not found by its key");
            };
            if u64::from(span.count) == span.next_version - span.first_version {
                let rels = self.stream_rels(key)?;
                let numbered = rels.into_iter().zip(span.first_version..);
                versions.extend(numbered.map(|(rel, version)| (rel, key, version)));
            }
        }
        Ok(versions)
    }

    /// Reads every page of a file of `length` bytes and checks it.
    pub fn check_pages(&self, length: u64) -> Result<(), IndexError> {
        if !length.is_multiple_of(PAGE as u64) {
            return Err(IndexError::Damaged {
                offset: length / PAGE as u64 * PAGE as u64,
                what: "the index ends inside a page",
            });
        }
        let mut page = [0; PAGE];
        for number in 0..(length / PAGE as u64) as u32 {
            self.pages()?.page(number, &mut page)?;
        }
        Ok(())
    }

    /// The first frame that begins after byte `offset` of the segment, if any.
    pub fn frame_after(&self, offset: u64) -> Result<Option<FramePlace>, IndexError> {
        let frames = self.header.frames;
        let span = (self.header.end_offset - self.header.start_offset).max(1);
        let guess =
            offset.saturating_sub(self.header.start_offset) * u64::from(frames.count) / span;
        let mut cursor = frames.cursor(self.pages()?);
        let at = cursor.partition_point(guess.min(u64::from(u32::MAX)) as u32, |e| {
            u64::from(get!(u32, e, 4)) <= offset
        })?;
        if at >= frames.count {
            return Ok(None);
        }
        let entry = cursor.get(at)?;
        Ok(Some(FramePlace {
            rel: get!(u32, entry, 0),
            offset: get!(u32, entry, 4),
        }))
    }
}
