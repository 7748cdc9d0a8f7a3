//! The file in a partition's folder that keeps what its events depend on, so that opening reads no
//! history. The log fills it; here it is opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anabranch_env::{Env, File, OpenMode};

use crate::survey::CAUSES_FILE;

/// Opens the file of a partition, and makes it if there is none. A reader gets what is there, and
/// what it has to say itself is not kept: the file is its writer's.
pub(crate) fn open(env: &Env, folder: &Path, writes: bool) -> io::Result<Arc<dyn File>> {
    let path = folder.join(CAUSES_FILE);
    let mode = match writes {
        true => OpenMode::Write,
        false => OpenMode::Read,
    };
    let opened = match env.disk.open(&path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match writes {
            true => Some(env.disk.open(&path, OpenMode::Create)?),
            false => None,
        },
        opened => Some(opened?),
    };
    Ok(match (opened, writes) {
        (Some(file), true) => file,
        (file, _) => Arc::new(Seen(file)),
    })
}

/// A file that is only read; if it is not there, an empty one.
struct Seen(Option<Arc<dyn File>>);

impl File for Seen {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0
            .as_ref()
            .map_or(Ok(0), |file| file.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], _: u64) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.as_ref().map_or(Ok(0), |file| file.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.0.as_ref().map_or(Ok(false), |file| file.is_at(path))
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}
