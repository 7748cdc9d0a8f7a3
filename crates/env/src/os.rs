//! The real machine.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the one place that touches files, reads the clock and draws a seed"
)]

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Clock, Disk, DiskLock, DiskStats, File, OpenMode, Rng, SplitMix64};

#[derive(Default)]
struct Counters {
    bytes_written: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
}

/// The machine's file system.
#[derive(Clone, Default)]
pub struct OsDisk {
    counters: Arc<Counters>,
}

impl OsDisk {
    /// The file system, with counts at zero.
    pub fn new() -> Self {
        Self::default()
    }
}

struct OsFile {
    file: fs::File,
    direct: bool,
    counters: Arc<Counters>,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create_new(true);
            }
            OpenMode::WriteDirect => {
                options
                    .write(true)
                    .custom_flags(libc::O_DIRECT | libc::O_DSYNC);
            }
        }
        Ok(Arc::new(OsFile {
            file: options.open(path)?,
            direct: mode == OpenMode::WriteDirect,
            counters: self.counters.clone(),
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(note.as_bytes())?;
                Ok(Ok(Box::new(OsLock { _file: file })))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(256).read_to_string(&mut holder)?;
                Ok(Err(holder))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn stats(&self) -> DiskStats {
        DiskStats {
            bytes_written: self.counters.bytes_written.load(Ordering::Relaxed),
            writes: self.counters.writes.load(Ordering::Relaxed),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
        }
    }
}

/// The kernel drops the lock when the file closes.
struct OsLock {
    _file: fs::File,
}

impl DiskLock for OsLock {}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.file.write_at(buf, offset)?;
        let counters = &self.counters;
        counters
            .bytes_written
            .fetch_add(written as u64, Ordering::Relaxed);
        counters.writes.fetch_add(1, Ordering::Relaxed);
        if self.direct {
            counters.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// The machine's clocks.
pub struct OsClock {
    start: Instant,
}

impl OsClock {
    /// Clocks whose monotonic time starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn wall_micros(&self) -> u64 {
        // A clock before 1970 reads as 1970: the time is information only.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_micros() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Randomness seeded by the operating system. Good for ids and jitter, not for secrets.
pub struct OsRng(Mutex<SplitMix64>);

impl OsRng {
    /// A generator with a fresh seed.
    pub fn new() -> Self {
        let seed = RandomState::new().hash_one(std::process::id());
        Self(Mutex::new(SplitMix64::new(seed)))
    }
}

impl Default for OsRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }
}
