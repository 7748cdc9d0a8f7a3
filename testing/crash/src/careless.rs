//! A careless disk under a sound engine: it leaves out what the engine asked for, or keeps
//! back what went wrong. So does an engine that forgets to ask, or to look.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_env::{Disk, DiskLock, DiskStats, Env, File, OpenMode};

/// The length of a page of the mark file, in bytes; it has two slots of one page.
const PAGE: usize = 4096;

/// What is left out between the engine and its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The directory is not synced when a segment gets its name.
    NoDirSync,
    /// The directory is not synced when the log is opened.
    NoDirSyncAtOpen,
    /// A failed sync is tried again, and believed.
    RetryFsync,
    /// A failed write or sync is taken for done.
    IgnoreWriteError,
    /// A short write is not completed.
    IgnoreShortWrite,
    /// A new segment's header is not synced.
    NoHeaderSync,
    /// Files that get their names whole are not synced before.
    NoSyncBeforeRename,
    /// The mark that was found at opening is not synced before the next one is written.
    OldMarkNotSynced,
    /// Each mark is written over the one before; the first of all stands apart.
    OneMarkSlot,
    /// Each mark is written over the one before, the first of all too.
    OneMarkSlotFromTheStart,
    /// While the log is open, no mark is written.
    NoPeriodicMark,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoDirSync,
        Self::NoDirSyncAtOpen,
        Self::RetryFsync,
        Self::IgnoreWriteError,
        Self::IgnoreShortWrite,
        Self::NoHeaderSync,
        Self::NoSyncBeforeRename,
        Self::OldMarkNotSynced,
        Self::OneMarkSlot,
        Self::OneMarkSlotFromTheStart,
        Self::NoPeriodicMark,
    ];
}

/// One opening of a log on a careless disk.
pub(crate) struct Careless(Arc<State>);

struct State {
    flaw: Flaw,
    /// The last name given was a segment's.
    named_segment: AtomicBool,
    /// How often a directory was synced.
    dir_syncs: AtomicU32,
    /// How often the mark was written.
    marks: AtomicU32,
    /// The log is being closed in good order.
    closing: AtomicBool,
}

impl Careless {
    /// Puts a careless disk between the log that is opened next and the disk of `env`.
    pub(crate) fn put(env: Env, flaw: Flaw) -> (Self, Env) {
        let state = Arc::new(State {
            flaw,
            named_segment: AtomicBool::new(false),
            dir_syncs: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            closing: AtomicBool::new(false),
        });
        let disk = CarelessDisk {
            below: env.disk,
            state: state.clone(),
        };
        let env = Env {
            disk: Arc::new(disk),
            ..env
        };
        (Self(state), env)
    }

    /// The log is about to be closed.
    pub(crate) fn closes(&self) {
        self.0.closing.store(true, Ordering::SeqCst);
    }
}

struct CarelessDisk {
    below: Arc<dyn Disk>,
    state: Arc<State>,
}

/// What a file is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A segment, or a file written ahead to become one.
    Segment,
    /// A file that gets its name once it is whole.
    Unnamed,
    /// The mark, before it has its name.
    NewMark,
    Mark,
    Other,
}

fn kind(path: &Path, mode: OpenMode) -> Kind {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or("");
    match (name, extension) {
        ("mark", _) => Kind::Mark,
        ("mark.tmp", _) => Kind::NewMark,
        (_, "seg" | "pre") => Kind::Segment,
        (name, _) if name.starts_with("spare-") => Kind::Segment,
        (_, "tmp") if mode == OpenMode::Create => Kind::Unnamed,
        _ => Kind::Other,
    }
}

impl Disk for CarelessDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = CarelessFile {
            below: self.below.open(path, mode)?,
            kind: kind(path, mode),
            state: self.state.clone(),
            has_header: Mutex::new(false),
        };
        Ok(Arc::new(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.below.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.below.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.below.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_segment = to.extension() == Some(OsStr::new("seg"));
        self.state.named_segment.store(is_segment, Ordering::SeqCst);
        self.below.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.below.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let left_out = match self.state.flaw {
            Flaw::NoDirSync => self.state.named_segment.swap(false, Ordering::SeqCst),
            // A new log syncs what its directory lies in first: that stays.
            Flaw::NoDirSyncAtOpen => {
                dir.file_name().is_some()
                    && self.state.dir_syncs.fetch_add(1, Ordering::SeqCst) == 0
            }
            _ => false,
        };
        if left_out {
            return Ok(());
        }
        self.below.sync_dir(dir)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        self.below.lock(path, note)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.below.is_locked(path)
    }

    fn is_world_writable(&self, dir: &Path) -> io::Result<bool> {
        self.below.is_world_writable(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.below.free_bytes(dir)
    }

    fn stats(&self) -> DiskStats {
        self.below.stats()
    }
}

struct CarelessFile {
    below: Arc<dyn File>,
    kind: Kind,
    state: Arc<State>,
    /// A header was written, and not synced yet.
    has_header: Mutex<bool>,
}

impl CarelessFile {
    fn has(&self, flaw: Flaw, kind: Kind) -> bool {
        self.state.flaw == flaw && self.kind == kind
    }

    /// Whether the mark written last by this opening is one of those left out.
    fn leaves_out_the_mark(&self, marks: u32) -> bool {
        match self.state.flaw {
            Flaw::OldMarkNotSynced => marks == 1,
            Flaw::NoPeriodicMark => marks > 2 && !self.state.closing.load(Ordering::SeqCst),
            _ => false,
        }
    }

    fn write_mark(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let marks = self.state.marks.fetch_add(1, Ordering::SeqCst) + 1;
        if self.leaves_out_the_mark(marks) {
            return Ok(buf.len());
        }
        let one_slot = matches!(
            self.state.flaw,
            Flaw::OneMarkSlot | Flaw::OneMarkSlotFromTheStart
        );
        self.below.write_at(buf, if one_slot { 0 } else { offset })
    }
}

impl File for CarelessFile {
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.below.is_at(path)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.below.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        // Behind its slots the file has room to try out the disk.
        if self.kind == Kind::Mark && offset < 2 * PAGE as u64 {
            return self.write_mark(buf, offset);
        }
        if self.has(Flaw::OneMarkSlotFromTheStart, Kind::NewMark) && buf.len() >= 2 * PAGE {
            let mut turned = buf.to_vec();
            turned.copy_within(PAGE..2 * PAGE, 0);
            turned[PAGE..2 * PAGE].fill(0);
            return self.below.write_at(&turned, offset);
        }
        if offset == 0 && buf.iter().any(|&byte| byte != 0) {
            *self
                .has_header
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
        }
        let written = self.below.write_at(buf, offset);
        match written {
            Ok(_) if self.has(Flaw::IgnoreShortWrite, Kind::Segment) => Ok(buf.len()),
            Err(_) if self.has(Flaw::IgnoreWriteError, Kind::Segment) => Ok(buf.len()),
            written => written,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let had_header = std::mem::take(
            &mut *self
                .has_header
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let left_out = match (self.state.flaw, self.kind) {
            (Flaw::NoHeaderSync, Kind::Segment) => had_header,
            (Flaw::NoSyncBeforeRename, Kind::Unnamed | Kind::NewMark) => true,
            (_, Kind::Mark) => self.leaves_out_the_mark(self.state.marks.load(Ordering::SeqCst)),
            _ => false,
        };
        if left_out {
            return Ok(());
        }
        let synced = self.below.sync_data();
        match (self.state.flaw, self.kind, synced) {
            (Flaw::RetryFsync, Kind::Segment, Err(_)) => self.below.sync_data(),
            (Flaw::IgnoreWriteError, Kind::Segment, Err(_)) => Ok(()),
            (_, _, synced) => synced,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.below.set_len(len)
    }
}
