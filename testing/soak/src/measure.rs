//! What this process takes of the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "this looks at the process and its files from outside"
)]

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// What the process takes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Memory in RAM, in bytes.
    pub memory_bytes: u64,
    /// Files, sockets and the like that are open.
    pub open_files: u64,
    /// What the log has on the disk, in bytes.
    pub log_bytes: u64,
    /// What stands beside the log: snapshots and views, in bytes.
    pub beside_bytes: u64,
}

impl Taken {
    /// Measures this process, whose log and other files are in these directories.
    pub fn now(log: &Path, beside: &Path) -> io::Result<Self> {
        Ok(Self {
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/self/status")?)?,
            open_files: fs::read_dir("/proc/self/fd")?.count() as u64,
            log_bytes: size_of(log)?,
            beside_bytes: size_of(beside)?,
        })
    }
}

/// The line `VmRSS:  123 kB` of a process's status.
fn memory_bytes(status: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kibibytes = number.and_then(|number| number.parse::<u64>().ok());
    let none = || io::Error::other("the system does not say how much memory this takes");
    Ok(kibibytes.ok_or_else(none)? * 1024)
}

/// All files below a directory. What goes away meanwhile counts nothing.
fn size_of(dir: &Path) -> io::Result<u64> {
    let mut size = 0;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size += size_of(&entry.path())?,
            Ok(metadata) => size += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_system_says() {
        let status = "Name:\tsoak\nVmPeak:\t  9 kB\nVmRSS:\t   123 kB\n";
        assert_eq!(memory_bytes(status).unwrap(), 123 * 1024);
        assert!(memory_bytes("Name:\tsoak\n").is_err());
    }
}
