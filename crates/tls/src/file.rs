//! Files that hold certificates and keys.

use std::io;
use std::path::Path;

use anabranch_env::{Disk, OpenMode};

/// No file of certificates is longer, in bytes: all that a machine believes fits in.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The whole of a file.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long to hold certificates"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
