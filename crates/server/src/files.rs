//! The files of a log, for operators who look at it, check it and copy it from elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_env::{Disk, File, OpenMode};
use anabranch_wire as wire;

/// How many files are kept open for those who read on.
const OPEN_MAX: usize = 256;

/// The most bytes of one answer.
pub const READ_BYTES_MAX: u64 = 4 << 20;

/// The files of the log that a server has, and which of its directory's they are.
pub struct LogFiles {
    /// Where they are.
    pub disk: Arc<dyn Disk>,
    /// In which directory.
    pub dir: PathBuf,
    /// The folders in it that have files of the log too: those of its partitions, if it has several.
    pub folders: Vec<String>,
    /// The file that the log's writer locks.
    pub lock: &'static str,
    /// Whether a file of this name belongs to the log. Others, such as secrets, are shown to nobody.
    pub is_of_log: fn(&str) -> bool,
}

/// Those that are being read.
pub struct Files {
    of: LogFiles,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// How often one was asked for.
    asked: u64,
    /// When each was asked for last, its name, and the file.
    files: BTreeMap<u64, (u64, String, Arc<dyn File>)>,
}

/// A part of a file.
pub struct Part {
    pub bytes: Vec<u8>,
    /// By which the same file is read on.
    pub handle: u64,
    /// How long the file is now.
    pub length: u64,
}

impl Files {
    pub fn new(of: LogFiles) -> Self {
        Self {
            of,
            open: Mutex::default(),
        }
    }

    /// Their names.
    pub fn list(&self) -> io::Result<wire::LogFiles> {
        let LogFiles { disk, dir, .. } = &self.of;
        let mut files = disk.list(dir)?;
        for folder in &self.of.folders {
            let names = disk.list(&dir.join(folder))?;
            files.extend(names.iter().map(|name| format!("{folder}/{name}")));
        }
        files.retain(|name| (self.of.is_of_log)(name));
        Ok(wire::LogFiles {
            files,
            written: disk.is_locked(&dir.join(self.of.lock))?,
        })
    }

    /// So many bytes from a place on, fewer at the end; of the file that has this name now or, by its
    /// handle, had it when it was opened.
    pub fn read(
        &self,
        name: &str,
        handle: Option<u64>,
        from: u64,
        length: u64,
    ) -> io::Result<Part> {
        let (handle, file) = match handle {
            Some(handle) => (handle, self.opened(name, handle)?),
            None => self.open(name)?,
        };
        let mut bytes = vec![0; length.min(READ_BYTES_MAX) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], from.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(Part {
            bytes,
            handle,
            length: file.len()?,
        })
    }

    fn opened(&self, name: &str, handle: u64) -> io::Result<Arc<dyn File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.asked += 1;
        let asked = open.asked;
        match open.files.get_mut(&handle) {
            Some((last, of, file)) if of == name => {
                *last = asked;
                Ok(file.clone())
            }
            _ => Err(io::Error::other("this file is not open any more")),
        }
    }

    fn open(&self, name: &str) -> io::Result<(u64, Arc<dyn File>)> {
        // What stands in another folder is none of the log's.
        let is_outside = |(folder, name): (&str, &str)| {
            name.contains('/') || !self.of.folders.iter().any(|known| known == folder)
        };
        if name.split_once('/').is_some_and(is_outside) || !(self.of.is_of_log)(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.of.disk.open(&self.of.dir.join(name), OpenMode::Read)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.files.len() >= OPEN_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (last, ..))| *last);
            if let Some(oldest) = oldest.map(|(handle, _)| *handle) {
                open.files.remove(&oldest);
            }
        }
        open.asked += 1;
        let handle = open.asked;
        open.files
            .insert(handle, (handle, name.to_owned(), file.clone()));
        Ok((handle, file))
    }
}
