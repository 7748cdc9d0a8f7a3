use std::io;
use std::path::Path;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only; the file exists.
    Read,
    /// Read and write; the file exists.
    Write,
    /// Read and write; the file is made and must not exist yet. Private to the owner
    /// (mode 0600).
    Create,
    /// Write past the page cache, each write durable when it returns (`O_DIRECT` and
    /// `O_DSYNC`). The file exists; offset, length and memory of every write are multiples
    /// of the disk's block: 4,096 bytes always do, 512 on many disks.
    WriteDirect,
    /// As [`OpenMode::WriteDirect`], but what is written is durable after [`File::sync_data`]
    /// only (`O_DIRECT`): for much at a time, without a flush of the device for each write.
    WriteDirectUnsynced,
}

/// Files and directories. All calls block. A path is always below a directory that the
/// caller owns.
pub trait Disk: Send + Sync + 'static {
    /// Opens or makes a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Makes a directory and its parents, private to the owner (mode 0700). Done if it
    /// exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted. Sub-directories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Renames a file, replacing what was there. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable: files made, renamed and removed in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file at `path` for this process and writes `note` into it, or tells
    /// what the holder wrote: `Ok(Err(note))`. The lock ends with its value or its process,
    /// and not with its file: removing that lets nobody in. One lock for each directory.
    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>>;

    /// Whether another value or process holds the lock file at `path`. Changes nothing.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;

    /// Whether anybody on the machine may write to this directory.
    fn is_world_writable(&self, dir: &Path) -> io::Result<bool>;

    /// Bytes that may still be written below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// What was written so far.
    fn stats(&self) -> DiskStats;
}

/// A held lock; dropping it releases it.
pub trait DiskLock: Send + Sync {}

/// An open file. Calls may come from several threads at once.
pub trait File: Send + Sync {
    /// Reads at `offset` into `buf`; returns how many bytes, 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `buf` at `offset`; returns how many bytes were taken, perhaps fewer than given.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes written data durable (`fdatasync`). An error means that data may be lost for
    /// ever: calling again proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// The length, in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Whether `path` still names this file: it was not removed, moved or replaced, nor any
    /// directory above it.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// Cuts or extends (with zeros) to this length.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reads exactly `buf.len()` bytes, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf`, completing short writes.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    buf = &buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Counts of what went to a disk since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStats {
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Writes.
    pub writes: u64,
    /// Device flushes asked for: syncs of files and directories, and direct writes.
    pub syncs: u64,
}

/// Whether the process or the machine may open no more files just now (`EMFILE`, `ENFILE`):
/// nothing is wrong with the file.
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
