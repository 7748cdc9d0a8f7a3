use std::path::{Path, PathBuf};

use anabranch_env::Env;

/// A directory that goes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    /// The name of a directory that does not exist yet.
    pub fn new() -> Self {
        let name = format!("anabranch-copier-{:032x}", Env::os().rng.next_u128());
        Self(std::env::temp_dir().join(name))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    #[expect(clippy::disallowed_methods, reason = "the run made these files")]
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
