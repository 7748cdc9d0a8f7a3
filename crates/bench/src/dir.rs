#![expect(
    clippy::disallowed_methods,
    reason = "it removes what the measurement and the servers it started have written"
)]

use std::path::{Path, PathBuf};

use anabranch_env::{Disk, Env};

use crate::error::BenchError;

/// A new directory of the measurement's own, removed at the end unless it shall be
/// kept. Nothing that was there before is touched.
pub struct BenchDir {
    path: PathBuf,
    keep: bool,
}

impl BenchDir {
    /// Makes a directory with a name of its own below `parent`, which is made if need be.
    pub fn below(parent: &Path, keep: bool) -> Result<Self, BenchError> {
        let env = Env::os();
        let name = format!("run-{}-{}", env.clock.wall_micros(), std::process::id());
        let path = parent.join(name);
        env.disk
            .create_dir(&path)
            .map_err(BenchError::io(format!("making {}", path.display())))?;
        // Servers that are measured run elsewhere and need to know where it is.
        let path = std::path::absolute(&path)
            .map_err(BenchError::io(format!("resolving {}", path.display())))?;
        Ok(Self { path, keep })
    }

    /// Makes a directory in it and gives its absolute path.
    pub fn sub(&self, name: &str) -> Result<PathBuf, BenchError> {
        let path = self.path.join(name);
        Env::os()
            .disk
            .create_dir(&path)
            .map_err(BenchError::io(format!("making {}", path.display())))?;
        Ok(path)
    }

    /// Removes a directory made by [`BenchDir::sub`], unless all shall be kept.
    pub fn done_with(&self, name: &str) -> Result<(), BenchError> {
        if self.keep {
            return Ok(());
        }
        let path = self.path.join(name);
        remove(&path).map_err(BenchError::io(format!("removing {}", path.display())))
    }

    /// Removes it all, unless it shall be kept.
    pub fn finish(mut self) -> Result<(), BenchError> {
        if self.keep {
            return Ok(());
        }
        self.keep = true;
        remove(&self.path).map_err(BenchError::io(format!("removing {}", self.path.display())))
    }

    /// Refuses to go on if fewer than `bytes` may be written here.
    pub fn need(&self, bytes: u64) -> Result<(), BenchError> {
        need(&*Env::os().disk, &self.path, bytes)
    }
}

fn need(disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<(), BenchError> {
    let free = disk.free_bytes(dir).map_err(BenchError::io(format!(
        "looking for room below {}",
        dir.display()
    )))?;
    if free >= bytes {
        return Ok(());
    }
    Err(BenchError::NoRoom {
        dir: dir.to_owned(),
        free_mib: free >> 20,
        needed_mib: bytes >> 20,
    })
}

fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path)
}

impl Drop for BenchDir {
    fn drop(&mut self) {
        if !self.keep {
            // Another error is on its way to the caller, and it counts more than this one.
            let _ = remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_its_value_and_what_was_beside_it_stays() {
        let parent = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let beside = parent.sub("beside").unwrap();
        let run = BenchDir::below(&parent.path, false).unwrap();
        let inside = run.sub("log").unwrap();
        assert!(inside.exists());
        drop(run);
        assert!(!inside.exists() && beside.exists());
    }

    #[test]
    fn a_directory_that_shall_be_kept_is_kept() {
        let parent = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let run = BenchDir::below(&parent.path, true).unwrap();
        let path = run.sub("log").unwrap();
        run.done_with("log").unwrap();
        drop(run);
        assert!(path.exists());
    }

    #[test]
    fn a_disk_without_room_is_refused_with_what_it_would_take() {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let refused = dir.need(1 << 60).unwrap_err().to_string();
        assert!(refused.contains("1099511627776 MiB"), "{refused}");
        dir.need(1).unwrap();
    }
}
