//! Stored states, so that not every event has to be read again. Rebuildable: a snapshot that
//! is lost, stale or damaged costs time and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_env::{Disk, OpenMode};
use anabranch_log::BoxFuture;
use anabranch_model::{EventId, StreamId, Version, content_hash};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Semaphore;

/// The state of a stream's owner after one of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Names the shape of the state and the program that made it. Of another shape, it is
    /// dropped.
    pub fingerprint: u128,
    /// The version of the last event that the state includes.
    pub version: Version,
    /// The id of that event: the stream must still have it at that version.
    pub last_event: EventId,
    /// The state, as JSON.
    pub state: Vec<u8>,
}

/// Why a snapshot was not stored or loaded. Nothing is lost by it.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("snapshot of {stream}: {reason}; its events are read instead")]
pub struct SnapshotError {
    /// Whose snapshot.
    pub stream: StreamId,
    /// What is the matter.
    pub reason: String,
}

anabranch_model::debug_is_words!(SnapshotError);

/// Keeps the newest snapshot of each stream. Must not block the thread that calls it.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The snapshot of this stream, if there is one.
    fn load(&self, stream: &StreamId) -> BoxFuture<'_, Result<Option<Snapshot>, SnapshotError>>;

    /// Keeps this snapshot in place of the one before.
    fn save(
        &self,
        stream: &StreamId,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<(), SnapshotError>>;
}

/// Snapshots in memory: they survive passivation, not the end of the process.
#[derive(Debug, Default)]
pub struct MemorySnapshots(Mutex<BTreeMap<StreamId, Snapshot>>);

impl MemorySnapshots {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl SnapshotStore for MemorySnapshots {
    fn load(&self, stream: &StreamId) -> BoxFuture<'_, Result<Option<Snapshot>, SnapshotError>> {
        let snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = snapshots.get(stream).cloned();
        Box::pin(async { Ok(found) })
    }

    fn save(
        &self,
        stream: &StreamId,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<(), SnapshotError>> {
        let mut snapshots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = snapshots.insert(stream.clone(), snapshot);
        drop(snapshots);
        drop(before);
        Box::pin(async { Ok(()) })
    }
}

/// Snapshots in files of one directory, one for each stream.
///
/// A file is one line of JSON that says what it holds, and then the state. Its name is a hash
/// of the stream's name, which the file repeats; a hash over all of it finds damage. Files are
/// not synced: what a power cut takes away, or tears, is made again. Which files there are is
/// looked up once, at the opening: most entities have none, and must not wait for the disk to
/// say so.
pub struct DiskSnapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The names of the files, without the ending.
    known: Arc<Mutex<BTreeSet<u128>>>,
    /// Few threads block on the disk at once.
    permits: Arc<Semaphore>,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    anabranch_snapshot: u32,
    stream: StreamId,
    version: Version,
    last_event: EventId,
    /// In hexadecimal, as is the check.
    fingerprint: String,
    check: String,
}

/// The version of the files' form; files of others are dropped.
const FORM: u32 = 1;
/// How many threads may block on the disk.
const AT_ONCE_MAX: usize = 4;

impl DiskSnapshots {
    /// Snapshots in `dir`, which is made if need be.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let made = disk.create_dir(&dir);
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        let known = disk.list(&dir)?;
        let hash = |name: &String| {
            let hash = name.strip_suffix(".snapshot")?;
            u128::from_str_radix(hash, 16).ok()
        };
        let known = known.iter().filter_map(hash).collect();
        Ok(Self {
            disk,
            dir,
            known: Arc::new(Mutex::new(known)),
            permits: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        })
    }

    fn path(&self, hash: u128) -> PathBuf {
        self.dir.join(format!("{hash:032x}.snapshot"))
    }

    /// Runs `code` on a thread that may block.
    fn blocking<T: Send + 'static>(
        &self,
        stream: &StreamId,
        code: impl FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, SnapshotError>> {
        let (disk, permits) = (self.disk.clone(), self.permits.clone());
        let stream = stream.clone();
        Box::pin(async move {
            let failed = |reason: String| SnapshotError { stream, reason };
            // Nobody closes the semaphore.
            let _permit = permits.acquire().await.ok();
            match tokio::task::spawn_blocking(move || code(&*disk)).await {
                Ok(done) => done.map_err(|error| failed(error.to_string())),
                Err(error) => Err(failed(error.to_string())),
            }
        })
    }
}

impl SnapshotStore for DiskSnapshots {
    fn load(&self, stream: &StreamId) -> BoxFuture<'_, Result<Option<Snapshot>, SnapshotError>> {
        let hash = hash_of(stream);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&hash) {
            return Box::pin(async { Ok(None) });
        }
        drop(known);
        let (path, wanted) = (self.path(hash), stream.clone());
        self.blocking(stream, move |disk| {
            let bytes = read_all(disk, &path)?;
            Ok(bytes.and_then(|bytes| decode(&wanted, &bytes)))
        })
    }

    fn save(
        &self,
        stream: &StreamId,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, Result<(), SnapshotError>> {
        let hash = hash_of(stream);
        let (path, of, known) = (self.path(hash), stream.clone(), self.known.clone());
        self.blocking(stream, move |disk| {
            let bytes = encode(&of, &snapshot)?;
            // Under another name first: whoever loads finds the old one or the new one.
            let draft = path.with_extension("draft");
            if disk.exists(&draft)? {
                disk.remove(&draft)?;
            }
            disk.open(&draft, OpenMode::Create)?
                .write_all_at(&bytes, 0)?;
            disk.rename(&draft, &path)?;
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(hash);
            Ok(())
        })
    }
}

fn hash_of(stream: &StreamId) -> u128 {
    content_hash([stream.as_str().as_bytes()])
}

fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(path)? {
        return Ok(None);
    }
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

fn check(stream: &StreamId, snapshot: &Snapshot) -> String {
    let hash = content_hash([
        stream.as_str().as_bytes(),
        &snapshot.fingerprint.to_be_bytes(),
        &snapshot.version.to_be_bytes(),
        &snapshot.last_event.as_u128().to_be_bytes(),
        &snapshot.state,
    ]);
    format!("{hash:032x}")
}

fn encode(stream: &StreamId, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let header = Header {
        anabranch_snapshot: FORM,
        stream: stream.clone(),
        version: snapshot.version,
        last_event: snapshot.last_event,
        fingerprint: format!("{:032x}", snapshot.fingerprint),
        check: check(stream, snapshot),
    };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&snapshot.state);
    Ok(bytes)
}

/// What a file holds, if it is whole and of this stream.
fn decode(stream: &StreamId, bytes: &[u8]) -> Option<Snapshot> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let snapshot = Snapshot {
        fingerprint: u128::from_str_radix(&header.fingerprint, 16).ok()?,
        version: header.version,
        last_event: header.last_event,
        state: bytes[end + 1..].to_vec(),
    };
    let is_whole = header.anabranch_snapshot == FORM
        && header.stream == *stream
        && header.check == check(stream, &snapshot);
    is_whole.then_some(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: Version) -> Snapshot {
        Snapshot {
            fingerprint: 7 << 100,
            version,
            last_event: EventId::from_u128(9),
            state: b"{\"sum\":\n5}".to_vec(),
        }
    }

    #[tokio::test]
    async fn a_snapshot_on_disk_is_replaced_and_found_again() {
        let (env, _, _) = anabranch_env::sim::env(1);
        let open = || DiskSnapshots::open(env.disk.clone(), "/snapshots").unwrap();
        let stream = StreamId::new("a/1").unwrap();
        let store = open();
        assert_eq!(store.load(&stream).await.unwrap(), None);
        store.save(&stream, snapshot(1)).await.unwrap();
        store.save(&stream, snapshot(2)).await.unwrap();
        assert_eq!(open().load(&stream).await.unwrap(), Some(snapshot(2)));
        let other = StreamId::new("a/2").unwrap();
        assert_eq!(store.load(&other).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_damaged_snapshot_is_no_snapshot() {
        let (env, disk, _) = anabranch_env::sim::env(1);
        let store = DiskSnapshots::open(env.disk.clone(), "/snapshots").unwrap();
        let stream = StreamId::new("a/1").unwrap();
        store.save(&stream, snapshot(1)).await.unwrap();
        let files = disk.files();
        let (path, len) = files.first().unwrap();
        for at in 0..*len {
            disk.flip_bit(path, at, 0).unwrap();
            let loaded = store.load(&stream).await.unwrap();
            assert_eq!(loaded, None, "bit 0 of byte {at}");
            disk.flip_bit(path, at, 0).unwrap();
        }
        assert_eq!(store.load(&stream).await.unwrap(), Some(snapshot(1)));
        disk.truncate(path, len - 1).unwrap();
        assert_eq!(store.load(&stream).await.unwrap(), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..proptest::prelude::ProptestConfig::default()
        })]

        #[test]
        fn any_snapshot_reads_back_and_a_changed_byte_is_seen(
            (fingerprint, version, last_event) in proptest::prelude::any::<(u128, u64, u128)>(),
            state in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            key in "[a-z0-9 ß]{1,5}",
            at in proptest::prelude::any::<proptest::sample::Index>(),
            by in 1..=u8::MAX,
        ) {
            let stream = StreamId::of("a", &key).unwrap();
            let last_event = EventId::from_u128(last_event);
            let snapshot = Snapshot { fingerprint, version, last_event, state };
            let bytes = encode(&stream, &snapshot).unwrap();
            let whole = decode(&stream, &bytes);
            proptest::prop_assert_eq!(whole.as_ref(), Some(&snapshot));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= by;
            // Letters of a number may be large or small.
            let read = decode(&stream, &changed);
            proptest::prop_assert!(read.is_none() || read.as_ref() == Some(&snapshot));
            proptest::prop_assert_eq!(decode(&stream, &bytes[..at.index(bytes.len())]), None);
            let other = StreamId::of("b", &key).unwrap();
            proptest::prop_assert_eq!(decode(&other, &bytes), None);
        }
    }
}
