//! Where readers of the log keep how far they are, between one run of a program and the next.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_env::{Disk, OpenMode};
use anabranch_log::BoxFuture;
use anabranch_model::content_hash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a reader of the log keeps: its place, in a form of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the shape of the data and what it depends on. Of another shape, it is of no use.
    pub fingerprint: u128,
    /// The place, as JSON.
    pub data: Vec<u8>,
}

/// Why a checkpoint was not kept or found. What was kept before is as it was.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("checkpoint {name:?}: {reason}")]
pub struct CheckpointError {
    /// The reader's name.
    pub name: String,
    /// What is the matter, and what to do.
    pub reason: String,
}

anabranch_model::debug_is_words!(CheckpointError);

/// Keeps the newest checkpoint of each reader, by name. Must not block the thread that calls
/// it.
///
/// Unlike a snapshot, a checkpoint cannot be made again: what [`Checkpoints::save`] has answered
/// survives a power cut, and one that is damaged is an error, never a missing one.
pub trait Checkpoints: Send + Sync + 'static {
    /// The checkpoint of this reader, if there is one.
    fn load(&self, name: &str) -> BoxFuture<'_, Result<Option<Checkpoint>, CheckpointError>>;

    /// Keeps this checkpoint in place of the one before.
    fn save(
        &self,
        name: &str,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), CheckpointError>>;
}

/// Checkpoints in memory: gone with the program.
#[derive(Debug, Default)]
pub struct MemoryCheckpoints(Mutex<BTreeMap<String, Checkpoint>>);

impl MemoryCheckpoints {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Checkpoints for MemoryCheckpoints {
    fn load(&self, name: &str) -> BoxFuture<'_, Result<Option<Checkpoint>, CheckpointError>> {
        let checkpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = checkpoints.get(name).cloned();
        Box::pin(async { Ok(found) })
    }

    fn save(
        &self,
        name: &str,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), CheckpointError>> {
        let mut checkpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoints.insert(name.to_owned(), checkpoint);
        Box::pin(async { Ok(()) })
    }
}

/// Checkpoints in files of one directory, one for each reader.
///
/// A file is one line of JSON that says what it holds, and then the data. Its name is a hash of
/// the reader's name, which the file repeats; a hash over all of it finds damage. A file is
/// written under another name, synced, and renamed.
#[derive(Clone)]
pub struct DiskCheckpoints {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// One at a time: a file is written under one other name.
    writing: Arc<Mutex<()>>,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    anabranch_checkpoint: u32,
    name: String,
    /// In hexadecimal, as is the check.
    fingerprint: String,
    check: String,
}

/// The version of the files' form.
const FORM: u32 = 1;

impl DiskCheckpoints {
    /// Checkpoints in `dir`, which is made if need be.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let made = disk.create_dir(&dir);
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        Ok(Self {
            disk,
            dir,
            writing: Arc::default(),
        })
    }

    /// Runs `code` on a thread that may block.
    fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        code: impl FnOnce(&Self, &str) -> Result<T, String> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CheckpointError>> {
        let (this, name) = (self.clone(), name.to_owned());
        Box::pin(async move {
            let of = name.clone();
            let ran = tokio::task::spawn_blocking(move || code(&this, &of)).await;
            let ran = ran.unwrap_or_else(|error| Err(error.to_string()));
            ran.map_err(|reason| CheckpointError { name, reason })
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        let hash = content_hash([name.as_bytes()]);
        self.dir.join(format!("{hash:032x}.checkpoint"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let draft = path.with_extension("draft");
        if self.disk.exists(&draft)? {
            self.disk.remove(&draft)?;
        }
        let file = self.disk.open(&draft, OpenMode::Create)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        self.disk.rename(&draft, path)?;
        self.disk.sync_dir(&self.dir)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if !self.disk.exists(path)? {
            return Ok(None);
        }
        let file = self.disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }
}

impl Checkpoints for DiskCheckpoints {
    fn load(&self, name: &str) -> BoxFuture<'_, Result<Option<Checkpoint>, CheckpointError>> {
        self.blocking(name, |this, name| {
            let path = this.path(name);
            let bytes = this.read(&path).map_err(|error| error.to_string())?;
            let Some(bytes) = bytes else { return Ok(None) };
            let whole = decode(name, &bytes).ok_or_else(|| {
                format!(
                    "{} is damaged: where its reader stood is not known. Put the file back from \
                     a backup; or remove it and say anew from where to begin",
                    path.display()
                )
            });
            whole.map(Some)
        })
    }

    fn save(
        &self,
        name: &str,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), CheckpointError>> {
        self.blocking(name, move |this, name| {
            let bytes = encode(name, &checkpoint).map_err(|error| error.to_string())?;
            let written = this.write(&this.path(name), &bytes);
            written.map_err(|error| error.to_string())
        })
    }
}

fn check(name: &str, checkpoint: &Checkpoint) -> String {
    let fingerprint = checkpoint.fingerprint.to_be_bytes();
    let hash = content_hash([name.as_bytes(), &fingerprint, &checkpoint.data]);
    format!("{hash:032x}")
}

fn encode(name: &str, checkpoint: &Checkpoint) -> io::Result<Vec<u8>> {
    let header = Header {
        anabranch_checkpoint: FORM,
        name: name.to_owned(),
        fingerprint: format!("{:032x}", checkpoint.fingerprint),
        check: check(name, checkpoint),
    };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&checkpoint.data);
    Ok(bytes)
}

/// What a file holds, if it is whole and of this reader.
fn decode(name: &str, bytes: &[u8]) -> Option<Checkpoint> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let checkpoint = Checkpoint {
        fingerprint: u128::from_str_radix(&header.fingerprint, 16).ok()?,
        data: bytes[end + 1..].to_vec(),
    };
    let is_whole = header.anabranch_checkpoint == FORM
        && header.name == name
        && header.check == check(name, &checkpoint);
    is_whole.then_some(checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(n: u8) -> Checkpoint {
        Checkpoint {
            fingerprint: 7 << 100,
            data: format!("{{\"n\":\n{n}}}").into_bytes(),
        }
    }

    #[tokio::test]
    async fn a_checkpoint_on_disk_is_replaced_and_found_again() {
        let (env, _, _) = anabranch_env::sim::env(1);
        let open = || DiskCheckpoints::open(env.disk.clone(), "/places").unwrap();
        assert_eq!(open().load("mailer").await.unwrap(), None);
        open().save("mailer", checkpoint(1)).await.unwrap();
        open().save("mailer", checkpoint(2)).await.unwrap();
        assert_eq!(open().load("mailer").await.unwrap(), Some(checkpoint(2)));
        assert_eq!(open().load("other").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_damaged_checkpoint_is_an_error_and_not_a_missing_one() {
        let (env, disk, _) = anabranch_env::sim::env(1);
        let store = DiskCheckpoints::open(env.disk.clone(), "/places").unwrap();
        store.save("mailer", checkpoint(1)).await.unwrap();
        let files = disk.files();
        let (path, len) = files.first().unwrap();
        for at in 0..*len {
            disk.flip_bit(path, at, 0).unwrap();
            let error = store.load("mailer").await.unwrap_err().to_string();
            assert!(error.contains("is damaged"), "bit 0 of byte {at}: {error}");
            disk.flip_bit(path, at, 0).unwrap();
        }
        disk.truncate(path, len - 1).unwrap();
        assert!(store.load("mailer").await.is_err());
    }
}
