//! The real machine.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that touches files, reads the clock"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Clock, Disk, DiskLock, DiskStats, File, OpenMode, Rng};

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
    /// Device and number of the file, once somebody has asked.
    inode: OnceLock<(u64, u64)>,
    direct: bool,
    counters: Arc<Counters>,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        // A pipe in the place of a file would keep whoever opens it waiting for ever.
        options
            .read(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK);
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
                    .custom_flags(libc::O_DIRECT | libc::O_DSYNC | libc::O_NONBLOCK);
            }
            OpenMode::WriteDirectUnsynced => {
                options
                    .write(true)
                    .custom_flags(libc::O_DIRECT | libc::O_NONBLOCK);
            }
        }
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            let what = format!("{} is not a file of bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Arc::new(OsFile {
            file,
            inode: OnceLock::new(),
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
        let dir = fs::File::open(parent(path))?;
        let dir_taken = match try_patiently(&dir) {
            Err(fs::TryLockError::Error(error)) if locks_no_directories(&error) => Ok(()),
            tried => tried,
        };
        let taken = dir_taken.and_then(|()| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(fs::TryLockError::Error)?;
            try_patiently(&file).map(|()| file)
        });
        match taken {
            Ok(mut file) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(note.as_bytes())?;
                Ok(Ok(Box::new(OsLock {
                    _file: file,
                    _dir: dir,
                })))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                match fs::File::open(path) {
                    Ok(file) => file.take(256).read_to_string(&mut holder)?,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                    Err(e) => return Err(e),
                };
                if holder.is_empty() {
                    "its lock file was removed".clone_into(&mut holder);
                }
                Ok(Err(holder))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(is_held(path)? || is_held(parent(path))?)
    }

    fn is_world_writable(&self, dir: &Path) -> io::Result<bool> {
        Ok(fs::metadata(dir)?.permissions().mode() & 0o002 != 0)
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

/// The directory that a file lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Takes the lock of an open file or directory, if nobody holds it for longer than it takes
/// to look whether somebody does.
fn try_patiently(file: &fs::File) -> Result<(), fs::TryLockError> {
    const TRIES: u32 = 100;
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            tried => return tried,
        }
    }
    file.try_lock()
}

/// Whether the file system, such as one on a network, has no locks for directories.
fn locks_no_directories(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(
        code,
        Some(libc::EBADF | libc::EINVAL | libc::EISDIR | libc::ENOLCK | libc::EOPNOTSUPP)
    )
}

/// Whether somebody holds the lock of the file or directory at `path`.
fn is_held(path: &Path) -> io::Result<bool> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) if locks_no_directories(&error) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The kernel drops the locks when the files close. The directory is locked with the file, so
/// that who removes the file lets nobody in.
struct OsLock {
    _file: fs::File,
    _dir: fs::File,
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

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = match self.inode.get() {
            Some(own) => *own,
            None => {
                let own = self.file.metadata()?;
                *self.inode.get_or_init(|| (own.dev(), own.ino()))
            }
        };
        match inode_at(path) {
            Ok(found) => Ok(found == own),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// The device and the inode of the file at a path. Its times are not asked for: once they were,
/// the next write to it has to note a finer one, which made a durable write of a few hundred bytes
/// half as long again (Linux since 6.13, ext4).
fn inode_at(path: &Path) -> io::Result<(u64, u64)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(found) => {
            let dev = makedev(found.stx_dev_major, found.stx_dev_minor);
            Ok((dev, found.stx_ino))
        }
        // A kernel or a sandbox without this call.
        Err(rustix::io::Errno::NOSYS) => {
            let found = fs::metadata(path)?;
            Ok((found.dev(), found.ino()))
        }
        Err(error) => Err(error.into()),
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

/// The randomness of the operating system. Good for secrets too: who sees some of its numbers, as
/// everybody sees ids, learns nothing of the others.
pub struct OsRng(Mutex<Drawn>);

/// Bytes from the operating system, many at a time: asking takes longer than what is asked for.
struct Drawn {
    bytes: [u8; 512],
    used: usize,
}

impl OsRng {
    /// A generator.
    pub fn new() -> Self {
        let bytes = [0; 512];
        let used = bytes.len();
        Self(Mutex::new(Drawn { bytes, used }))
    }
}

impl Drawn {
    fn next_u64(&mut self) -> u64 {
        if self.used == self.bytes.len() {
            // Going on without would be worse than not to: ids would repeat, and secrets be known.
            getrandom::fill(&mut self.bytes).expect("the operating system gives random numbers");
            self.used = 0;
        }
        let drawn = &mut self.bytes[self.used..self.used + 8];
        self.used += 8;
        let number = drawn
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte));
        // What was given is kept nowhere.
        drawn.fill(0);
        number
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::SplitMix64;

    /// What was mixed into this, by [`SplitMix64`].
    fn unmixed(z: u64) -> u64 {
        // Newton's method doubles the bits that are right.
        let inverse = |odd: u64| {
            (0..6).fold(odd, |x, _| {
                x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)))
            })
        };
        let unshifted = |z: u64, by: u32| z ^ (z >> by) ^ (z >> (2 * by));
        let z = unshifted(z, 31).wrapping_mul(inverse(0x94d0_49bb_1331_11eb));
        let z = unshifted(z, 27).wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9));
        unshifted(z, 30)
    }

    #[test]
    fn who_has_seen_one_number_does_not_know_the_next() {
        let mut small = SplitMix64::new(7);
        let guessed = SplitMix64::new(unmixed(small.next_u64())).next_u64();
        assert_eq!(guessed, small.next_u64(), "a small generator is found out");
        let rng = OsRng::new();
        for _ in 0..1000 {
            let guessed = SplitMix64::new(unmixed(rng.next_u64())).next_u64();
            assert_ne!(guessed, rng.next_u64());
        }
    }

    /// A directory of the test's own, removed at its end.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new() -> Self {
            let name = format!("anabranch-env-{:032x}", OsRng::new().next_u128());
            let path = std::env::temp_dir().join(name);
            OsDisk::new().create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            if let Err(error) = fs::remove_dir_all(&self.0) {
                eprintln!("{}: {error}", self.0.display());
            }
        }
    }

    fn create(dir: &TempDir, name: &str) -> Arc<dyn File> {
        OsDisk::new()
            .open(&dir.path(name), OpenMode::Create)
            .unwrap()
    }

    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = TempDir::new();
        let file = create(&dir, "x");
        file.write_all_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut back = [9; 8];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"\0\0\0hello");
        assert_eq!(file.read_at(&mut back, 8).unwrap(), 0);
        let beyond = file.read_exact_at(&mut back, 1).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_is_cut_and_extended_with_zeros() {
        let dir = TempDir::new();
        let file = create(&dir, "x");
        assert!(file.is_empty().unwrap());
        file.write_all_at(b"hello", 0).unwrap();
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        let mut back = [9; 4];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"he\0\0");
    }

    #[test]
    fn files_and_directories_are_private_to_the_owner() {
        let dir = TempDir::new();
        create(&dir, "x");
        assert_eq!(mode(&dir.0), 0o700);
        assert_eq!(mode(&dir.path("x")), 0o600);
        let _lock = OsDisk::new().lock(&dir.path("lock"), "").unwrap().ok();
        assert_eq!(mode(&dir.path("lock")), 0o600);
    }

    #[test]
    fn each_mode_opens_what_it_should() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        let open = |mode| disk.open(&dir.path("x"), mode).map_err(|e| e.kind());
        let missing = Some(io::ErrorKind::NotFound);
        assert_eq!(open(OpenMode::Read).err(), missing);
        assert_eq!(open(OpenMode::Write).err(), missing);
        assert_eq!(open(OpenMode::Create).err(), None);
        let taken = Some(io::ErrorKind::AlreadyExists);
        assert_eq!(open(OpenMode::Create).err(), taken);
        let read_only = open(OpenMode::Read).unwrap();
        assert!(read_only.write_at(b"x", 0).is_err());
        open(OpenMode::Write)
            .unwrap()
            .write_all_at(b"x", 0)
            .unwrap();
    }

    #[test]
    fn a_direct_write_is_seen_by_other_readers() {
        let dir = TempDir::new();
        let buffered = create(&dir, "x");
        buffered.set_len(8192).unwrap();
        let disk = OsDisk::new();
        let direct = match disk.open(&dir.path("x"), OpenMode::WriteDirect) {
            Ok(file) => file,
            // Some file systems have no direct writes; the engine writes buffered there.
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
        };
        let memory = vec![7; 8192];
        let aligned = memory.as_ptr().align_offset(4096);
        direct
            .write_all_at(&memory[aligned..aligned + 4096], 4096)
            .unwrap();
        let mut back = [0; 4096];
        buffered.read_exact_at(&mut back, 4096).unwrap();
        assert_eq!(back, [7; 4096]);
        let stats = disk.stats();
        assert_eq!((stats.writes, stats.syncs), (1, 1));
        assert_eq!(stats.bytes_written, 4096);
    }

    #[test]
    fn listing_names_files_in_order_and_leaves_directories_out() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        disk.create_dir(&dir.path("sub/below")).unwrap();
        disk.create_dir(&dir.path("sub/below")).unwrap();
        create(&dir, "b");
        create(&dir, "a");
        assert_eq!(disk.list(&dir.0).unwrap(), ["a", "b"]);
        assert!(disk.exists(&dir.path("sub")).unwrap());
        assert!(!disk.exists(&dir.path("c")).unwrap());
    }

    #[test]
    fn a_pipe_or_a_directory_in_the_place_of_a_file_is_refused_at_once() {
        let dir = TempDir::new();
        let pipe = dir.path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let disk = OsDisk::new();
        for mode in [OpenMode::Read, OpenMode::Write] {
            let Err(error) = disk.open(&pipe, mode) else {
                panic!("a pipe was opened: {mode:?}");
            };
            assert!(error.to_string().contains("not a file of bytes"), "{error}");
        }
        assert!(disk.open(&dir.0, OpenMode::Read).is_err());
    }

    #[test]
    fn files_are_renamed_over_others_and_removed() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        create(&dir, "a").write_all_at(b"a", 0).unwrap();
        create(&dir, "b").write_all_at(b"bb", 0).unwrap();
        disk.rename(&dir.path("a"), &dir.path("b")).unwrap();
        disk.sync_dir(&dir.0).unwrap();
        assert_eq!(disk.list(&dir.0).unwrap(), ["b"]);
        let kept = disk.open(&dir.path("b"), OpenMode::Read).unwrap();
        assert_eq!(kept.len().unwrap(), 1);
        disk.remove(&dir.path("b")).unwrap();
        assert!(disk.list(&dir.0).unwrap().is_empty());
        assert_eq!(disk.stats().syncs, 1);
    }

    #[test]
    fn a_file_knows_whether_it_is_where_it_was() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        disk.create_dir(&dir.path("d")).unwrap();
        let path = dir.path("d/x");
        let file = create(&dir, "d/x");
        assert!(file.is_at(&path).unwrap());
        disk.rename(&path, &dir.path("d/y")).unwrap();
        assert!(!file.is_at(&path).unwrap());
        assert!(file.is_at(&dir.path("d/y")).unwrap());
        create(&dir, "d/x");
        assert!(!file.is_at(&path).unwrap(), "another file has its name");
        fs::rename(dir.path("d"), dir.path("e")).unwrap();
        assert!(!file.is_at(&dir.path("d/y")).unwrap());
        fs::remove_dir_all(dir.path("e")).unwrap();
        assert!(!file.is_at(&dir.path("e/y")).unwrap());
    }

    #[test]
    fn a_lock_is_refused_with_the_holders_note_and_free_after() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        let path = dir.path("lock");
        let held = disk.lock(&path, "pid 17, a long note").unwrap().ok();
        let refused = disk.lock(&path, "pid 18").unwrap();
        assert_eq!(refused.err().as_deref(), Some("pid 17, a long note"));
        drop(held);
        let _held = disk.lock(&path, "pid 18").unwrap().ok().unwrap();
        let refused = disk.lock(&path, "pid 19").unwrap();
        assert_eq!(refused.err().as_deref(), Some("pid 18"));
    }

    #[test]
    fn a_lock_holds_although_its_file_was_removed() {
        let dir = TempDir::new();
        let disk = OsDisk::new();
        let path = dir.path("lock");
        let held = disk.lock(&path, "pid 17").unwrap().ok().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(disk.is_locked(&path).unwrap());
        let refused = disk.lock(&path, "pid 18").unwrap();
        assert_eq!(refused.err().as_deref(), Some("its lock file was removed"));
        drop(held);
        assert!(!disk.is_locked(&path).unwrap());
        assert!(disk.lock(&path, "pid 18").unwrap().is_ok());
    }

    #[test]
    fn who_looks_whether_a_lock_is_held_keeps_nobody_from_taking_it() {
        let dir = TempDir::new();
        let path = dir.path("lock");
        drop(OsDisk::new().lock(&path, "").unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        OsDisk::new().is_locked(&path).unwrap();
                    }
                });
            }
            let taken = (0..1000).filter(|_| OsDisk::new().lock(&path, "").unwrap().is_ok());
            let taken = taken.count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(taken, 1000);
        });
    }

    #[test]
    fn the_disk_tells_its_free_space() {
        let dir = TempDir::new();
        assert!(OsDisk::new().free_bytes(&dir.0).unwrap() > 0);
    }
}
