//! Segment files, and the parts of them that have an index each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use anabranch_env::{Env, File, OpenMode};

use crate::files::{Files, Slot};
use crate::index::{ActiveIndex, SealedIndex};

/// A segment file.
pub(crate) struct Segment {
    pub id: u64,
    pub path: PathBuf,
    /// Length of the file, in bytes.
    pub capacity: u64,
    slot: Arc<Slot>,
}

impl Segment {
    pub fn new(id: u64, path: PathBuf, capacity: u64) -> Self {
        Self {
            id,
            path,
            capacity,
            slot: Arc::default(),
        }
    }

    /// The file, open for reading.
    pub fn file(&self, files: &Files) -> io::Result<Arc<dyn File>> {
        files.get(&self.slot, &self.path)
    }

    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// The file that holds the index of the part that begins at position `first`.
    pub fn index_path(&self, first: u64) -> PathBuf {
        let name = format!("{:010}-{first:020}.idx", self.id);
        self.path.with_file_name(name)
    }
}

/// A run of a segment's frames with an index of their own.
pub(crate) struct Part {
    pub segment: Arc<Segment>,
    /// Position of its first event.
    pub first: u64,
    /// Where its first frame begins in the segment, in bytes.
    pub start_offset: u64,
    /// Position after its last event; `u64::MAX` while it grows.
    end: AtomicU64,
    pub index: RwLock<PartIndex>,
}

pub(crate) enum PartIndex {
    Active(Box<ActiveIndex>),
    Sealed(Arc<SealedIndex>),
}

impl Part {
    pub fn growing(segment: Arc<Segment>, start_offset: u64, index: ActiveIndex) -> Self {
        Self {
            segment,
            first: index.first(),
            start_offset,
            end: AtomicU64::new(u64::MAX),
            index: RwLock::new(PartIndex::Active(Box::new(index))),
        }
    }

    pub fn sealed(segment: Arc<Segment>, index: SealedIndex) -> Self {
        Self {
            segment,
            first: index.header.first,
            start_offset: index.header.start_offset,
            end: AtomicU64::new(index.header.end),
            index: RwLock::new(PartIndex::Sealed(Arc::new(index))),
        }
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// The file that holds the part's index once it is sealed.
    pub fn index_path(&self) -> PathBuf {
        self.segment.index_path(self.first)
    }
}

/// The name of a segment file.
pub(crate) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:010}.seg"))
}

/// Writes `bytes` to a new file at `path`, whole or not at all.
pub(crate) fn write_file(env: &Env, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    if env.disk.exists(&temporary)? {
        env.disk.remove(&temporary)?;
    }
    let file = env.disk.open(&temporary, OpenMode::Create)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    env.disk.rename(&temporary, path)?;
    env.disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
