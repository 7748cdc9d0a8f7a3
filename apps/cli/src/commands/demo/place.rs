//! Where the demo keeps what it has beside its log.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anabranch::Address;

use crate::context::Context;
use crate::failure::Failure;
use crate::logs;
use crate::output::note;
use crate::remote::{DEMO, DEMO_LOG};

/// Where the demo keeps what it has beside the log.
pub enum Place {
    Directory(PathBuf),
    /// The log is in memory or elsewhere; what must be files here goes when the demo ends.
    Memory(PathBuf),
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is about directories of the demo itself"
)]
impl Place {
    /// Beside the log that the user names. If none is named, a directory of the demo, made new.
    pub fn choose(context: &mut Context) -> Result<Self, Failure> {
        let failed = |dir: &Path, error: std::io::Error| {
            Failure::file("make", &dir.display().to_string(), &error)
        };
        let place = match &context.settings.log {
            Address::Memory | Address::Server(_) | Address::Database(_) => {
                let name = format!("anabranch-{:032x}", context.env.rng.next_u128());
                let dir = std::env::temp_dir().join(name);
                // Others may write there too: this must be new, and ours alone.
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .create(&dir)
                    .map_err(|error| failed(&dir, error))?;
                Self::Memory(dir)
            }
            Address::Directory(dir) if context.settings.log_is_named() => {
                let mut beside = dir.clone().into_os_string();
                beside.push(".demo");
                Self::Directory(beside.into())
            }
            Address::Directory(_) => {
                let dir = PathBuf::from(DEMO);
                context.settings.log = Address::Directory(PathBuf::from(DEMO_LOG));
                if dir.exists() {
                    // Refuses while another demo is at work there.
                    logs::open_here(context)?.close()?;
                    std::fs::remove_dir_all(&dir).map_err(|error| failed(&dir, error))?;
                }
                Self::Directory(dir)
            }
        };
        let dir = place.dir();
        let made = context.env.disk.create_dir(dir);
        made.map_err(|error| failed(dir, error))?;
        Ok(place)
    }

    pub fn dir(&self) -> &Path {
        match self {
            Self::Directory(dir) | Self::Memory(dir) => dir,
        }
    }
}

/// Takes away what nobody needs any more, however the demo ends.
impl Drop for Place {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is about a directory of the demo itself"
    )]
    fn drop(&mut self) {
        if let Self::Memory(dir) = &*self
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            note(&format!("note: {} stays: {error}", dir.display()));
        }
    }
}
