//! The catalogue: the heads of all streams of many sealed parts in few sorted files, so
//! that finding the head of a stream does not take a look at every part.
//!
//! A *run* covers a range of positions. New runs are merged from parts, larger ones from
//! runs; each merge keeps the newest head of a stream. Runs can be made again from the
//! parts at any time.

use std::io;
use std::sync::Arc;

use anabranch_env::File;

use super::bloom::{Bloom, LazyBloom};
use super::error::IndexError;
use super::pages::{Array, ArrayCursor, PageReader, PageStream};
use super::sealed::{SealedIndex, guess, salt};
use crate::format::{FORMAT_VERSION, LogIdentity, PAGE, get};

const MAGIC: &[u8; 8] = b"ANABCAT\0";
const ENTRY_SIZE: usize = 24;

/// Marks the salt of a run, which has no segment, as different from any index file's.
const RUN: u64 = u64::MAX;

/// A sorted file of stream heads.
pub(crate) struct Run {
    file: Arc<dyn File>,
    identity: LogIdentity,
    /// Position of the first event covered.
    pub first: u64,
    /// Position after the last event covered.
    pub end: u64,
    /// How often its entries were merged.
    pub level: u32,
    entries: Array,
    filter_at: (u32, u32),
    filter: LazyBloom,
}

impl Run {
    /// Opens a run; reads and checks its header only.
    pub fn open(file: Arc<dyn File>, identity: LogIdentity) -> Result<Self, IndexError> {
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, 0)?;
        let damaged = |what| IndexError::Damaged { offset: 0, what };
        if &page[..8] != MAGIC {
            return Err(damaged("the run has no magic number"));
        }
        let run = Self {
            identity,
            first: get!(u64, page, 40),
            end: get!(u64, page, 48),
            level: get!(u32, page, 56),
            entries: Array {
                start: get!(u32, page, 60),
                count: get!(u32, page, 64),
                size: ENTRY_SIZE as u32,
            },
            filter_at: (get!(u32, page, 68), get!(u32, page, 72)),
            filter: LazyBloom::default(),
            file,
        };
        run.pages().page(0, &mut page)?;
        let found = get!(u32, page, 8);
        if found > FORMAT_VERSION {
            return Err(IndexError::Newer { found });
        }
        if LogIdentity::decode(&page) != identity {
            return Err(damaged("the run belongs to another log"));
        }
        Ok(run)
    }

    fn pages(&self) -> PageReader {
        PageReader {
            file: self.file.clone(),
            salt: salt(self.identity, RUN ^ self.end, self.first),
        }
    }

    /// Bytes of the filter held in memory.
    pub fn memory(&self) -> usize {
        self.filter.memory()
    }

    /// Does without its filter from now on.
    pub fn give_up_filter(&self) {
        self.filter.give_up();
    }

    /// The version the next event of a stream gets, as far as this run covers.
    pub fn next_version(&self, key: u128) -> Result<Option<u64>, IndexError> {
        let high = (key >> 64) as u64;
        let (start, len) = self.filter_at;
        let load = || self.pages().blob(start, 0, len as usize);
        if !self.filter.may_contain(high, load)? {
            return Ok(None);
        }
        let mut cursor = self.entries.cursor(self.pages());
        let near = guess(high, self.entries.count);
        let at = cursor.partition_point(near, |e| get!(u128, e, 0) < key)?;
        if at >= self.entries.count {
            return Ok(None);
        }
        let entry = cursor.get(at)?;
        Ok((get!(u128, entry, 0) == key).then(|| get!(u64, entry, 16)))
    }

    /// Gives every entry: a stream's key and the version its next event gets.
    pub fn for_each(&self, mut see: impl FnMut(u128, u64)) -> Result<(), IndexError> {
        let mut cursor = self.entries.cursor(self.pages());
        for at in 0..self.entries.count {
            let entry = cursor.get(at)?;
            see(get!(u128, entry, 0), get!(u64, entry, 16));
        }
        Ok(())
    }

    /// Reads every page and checks the order of the entries.
    pub fn verify(&self) -> Result<(), IndexError> {
        let mut cursor = self.entries.cursor(self.pages());
        let mut before = None;
        for at in 0..self.entries.count {
            let key = get!(u128, cursor.get(at)?, 0);
            if before.is_some_and(|before| before >= key) {
                return Err(IndexError::Damaged {
                    offset: 0,
                    what: "the entries of a run are out of order",
                });
            }
            before = Some(key);
        }
        let (start, len) = self.filter_at;
        self.pages().blob(start, 0, len as usize).map(|_| ())
    }
}

/// What a run is merged from, oldest first.
pub(crate) enum Source {
    Part(Arc<SealedIndex>),
    Run(Arc<Run>),
}

struct Cursor {
    entries: ArrayCursor,
    count: u32,
    next: u32,
    /// Where the next version stands in an entry.
    version_at: usize,
    /// The entry to be merged next.
    head: Option<(u128, u64)>,
}

impl Cursor {
    fn advance(&mut self) -> Result<(), IndexError> {
        self.head = if self.next < self.count {
            let at = self.version_at;
            let entry = self.entries.get(self.next)?;
            Some((get!(u128, entry, 0), get!(u64, entry, at)))
        } else {
            None
        };
        self.next += 1;
        Ok(())
    }
}

/// A merge on its way.
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    out: PageStream,
    filter: Bloom,
    count: u32,
    start: u32,
    identity: LogIdentity,
    pub first: u64,
    pub end: u64,
    level: u32,
}

impl Merge {
    /// Begins to merge `sources`, which cover `first..end`, into the empty `file`.
    pub fn begin(
        sources: &[Source],
        file: Arc<dyn File>,
        identity: LogIdentity,
        (first, end): (u64, u64),
        level: u32,
    ) -> Result<Self, IndexError> {
        let mut cursors = Vec::with_capacity(sources.len());
        let mut keys = 0;
        for source in sources {
            let (array, pages, version_at) = match source {
                Source::Part(index) => {
                    let (array, pages) = index.stream_heads()?;
                    (array, pages, 24)
                }
                Source::Run(run) => (run.entries, run.pages(), 16),
            };
            keys += array.count as usize;
            let mut cursor = Cursor {
                entries: array.cursor(pages),
                count: array.count,
                next: 0,
                version_at,
                head: None,
            };
            cursor.advance()?;
            cursors.push(cursor);
        }
        let out = PageStream::new(file, salt(identity, RUN ^ end, first));
        Ok(Self {
            cursors,
            start: out.next_page(),
            out,
            filter: Bloom::with_keys(keys),
            count: 0,
            identity,
            first,
            end,
            level,
        })
    }

    /// Merges up to `steps` entries; true when all are done.
    pub fn step(&mut self, steps: usize) -> Result<bool, IndexError> {
        for _ in 0..steps {
            let Some(key) = self
                .cursors
                .iter()
                .filter_map(|c| c.head.map(|(key, _)| key))
                .min()
            else {
                return Ok(true);
            };
            let mut next_version = 0;
            for cursor in &mut self.cursors {
                if let Some((own, version)) = cursor.head
                    && own == key
                {
                    next_version = next_version.max(version);
                    cursor.advance()?;
                }
            }
            let mut entry = [0; ENTRY_SIZE];
            entry[..16].copy_from_slice(&key.to_le_bytes());
            entry[16..].copy_from_slice(&next_version.to_le_bytes());
            self.out.entry(&entry)?;
            self.filter.insert((key >> 64) as u64);
            self.count += 1;
        }
        Ok(false)
    }

    /// Makes the run durable. Its file still has its temporary name.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.end_section()?;
        let filter = self.filter.to_bytes();
        let filter_start = self.out.next_page();
        self.out.blob(&filter)?;
        let mut header = Vec::with_capacity(80);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&self.identity.log_id.to_le_bytes());
        header.extend_from_slice(&self.identity.hash_key.to_le_bytes());
        header.extend_from_slice(&self.first.to_le_bytes());
        header.extend_from_slice(&self.end.to_le_bytes());
        for number in [
            self.level,
            self.start,
            self.count,
            filter_start,
            filter.len() as u32,
        ] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        self.out.finish(&header)
    }
}
