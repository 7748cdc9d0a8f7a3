//! Copies of a log: taken while it is written, and made into a log again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_env::{Env, File, OpenMode};
use anabranch_log::OpenError;
use anabranch_model::Position;
use xxhash_rust::xxh3::Xxh3;

use super::layout::{Layout, Place};
use super::manifest::{Entry, MANIFEST_FILE, Manifest};
use super::report::Progress;
use super::verify::decode;
use super::walk::{Frames, Look};
use crate::beside::open_reader;
use crate::format::{DATA_START, FrameHeader, Live, Mark, PAGE, SegmentHeader};
use crate::index::{ActiveIndex, stream_key, write_index};
use crate::open::{MARK_FILE_BYTES, make_dir};
use crate::part::{segment_path, write_file};
use crate::survey::{LIVE_FILE, MARK_FILE, io_open};

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// The log.
    pub log_id: u128,
    /// How many events it has, from the first one on.
    pub events: u64,
    /// How many segments hold them.
    pub segments: u64,
    /// How many of them were copied now.
    pub segments_copied: u64,
    /// How long all of them are, in bytes.
    pub bytes: u64,
    /// How many bytes were copied now.
    pub bytes_copied: u64,
}

/// As [`backup`](super::backup), of the files of one partition; with `until`, no event from that
/// offset on.
pub(super) fn backup_one(
    env: Env,
    from: &Path,
    to: &Path,
    until: Option<u64>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, OpenError> {
    // Before the files are listed: what is durable by then stands in files of the list.
    let published = open_reader(env.clone(), from)?.published();
    let mut layout = Layout::take(&env, from)?;
    if layout.written {
        layout.durable = layout.durable.max(published);
    }
    if let Some(until) = until {
        layout.end_at(until)?;
    }
    make_dir(&env, to).map_err(|e| io_open(format!("making the directory {}", to.display()), e))?;
    let before = Manifest::read(&env, to)?;
    if before
        .as_ref()
        .is_some_and(|m| m.identity != layout.identity)
    {
        return Err(OpenError::Invalid(format!(
            "{} holds the backup of another log; choose another directory",
            to.display()
        )));
    }
    let total = layout.places.iter().map(|p| p.segment.capacity).sum();
    if before.is_none() {
        refuse_others(&env, to)?;
    }
    let mut copy = Copier::new(&env, total, on_progress);
    let mut report = BackupReport {
        log_id: layout.identity.log_id,
        ..BackupReport::default()
    };
    let mut segments = Vec::new();
    let mut next = 0;
    for place in &layout.places {
        if place.header.first != next {
            return Err(OpenError::Damaged {
                file: place.segment.name(),
                what: format!(
                    "the events {next}..{} before it are missing",
                    place.header.first
                ),
            });
        }
        if place.limit == Some(next) {
            continue;
        }
        let kept = kept_entry(&env, to, place, before.as_ref());
        let entry = match kept {
            Some(entry) => entry,
            None => {
                let entry = copy.segment(&layout, place, to)?;
                report.segments_copied += 1;
                report.bytes_copied += entry.bytes;
                entry
            }
        };
        next = entry.end;
        report.segments += 1;
        report.bytes += entry.bytes;
        segments.push(entry);
    }
    if next < layout.durable {
        return Err(OpenError::Damaged {
            file: MARK_FILE.to_owned(),
            what: format!(
                "events {next}..{} were acknowledged and are gone",
                layout.durable
            ),
        });
    }
    report.events = next;
    let manifest = Manifest {
        identity: layout.identity,
        epoch: layout.survey.mark.map_or(0, |mark| mark.epoch),
        end: next,
        segments,
    };
    manifest.write(&env, to)?;
    remove_old(&env, to, &manifest)?;
    Ok(report)
}

/// The copy of a full segment that an earlier backup made.
fn kept_entry(env: &Env, to: &Path, place: &Place, before: Option<&Manifest>) -> Option<Entry> {
    let entry = before?.segments.iter().find(|entry| {
        entry.id == place.segment.id
            && entry.first == place.header.first
            && entry.created_at == place.header.created_at
            && Some(entry.end) == place.limit
    })?;
    let file = env.disk.open(&entry.path(to), OpenMode::Read).ok()?;
    (file.len().ok()? == entry.bytes).then_some(*entry)
}

/// Whether a backup makes files of such names.
fn is_ours(name: &str) -> bool {
    (name.ends_with(".seg") && name.len() == 47) || name.ends_with(".tmp")
}

/// Refuses a directory without a backup that holds what is not left of one: what stands there
/// is somebody's, and a later backup would tidy up among it.
fn refuse_others(env: &Env, dir: &Path) -> Result<(), OpenError> {
    let names = env.disk.list(dir);
    let names = names.map_err(|e| io_open(format!("listing {}", dir.display()), e))?;
    match names.iter().find(|name| !is_ours(name)) {
        Some(name) => Err(OpenError::Invalid(format!(
            "{} holds no backup and is not empty ({name}); choose an empty directory",
            dir.display()
        ))),
        None => Ok(()),
    }
}

/// Removes what earlier backups left and this one does not need.
fn remove_old(env: &Env, dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let failed = |e| io_open(format!("tidying up {}", dir.display()), e);
    let needed: Vec<PathBuf> = manifest.segments.iter().map(|s| s.path(dir)).collect();
    for name in env.disk.list(dir).map_err(failed)? {
        let path = dir.join(&name);
        if is_ours(&name) && !needed.contains(&path) {
            env.disk.remove(&path).map_err(failed)?;
        }
    }
    env.disk.sync_dir(dir).map_err(failed)
}

/// As [`restore`](super::restore), of the files of one partition.
pub(super) fn restore_one(
    env: Env,
    from: &Path,
    to: &Path,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, OpenError> {
    let exists = |path: &Path| {
        let exists = env.disk.exists(path);
        exists.map_err(|e| io_open(format!("looking for {}", path.display()), e))
    };
    let manifest = match exists(from)? {
        true => Manifest::read(&env, from)?,
        false => None,
    };
    let manifest = manifest.ok_or_else(|| {
        OpenError::Invalid(format!(
            "{} holds no complete backup: {MANIFEST_FILE}, which is written last, is missing",
            from.display()
        ))
    })?;
    let failed = |e| io_open(format!("making {}", to.display()), e);
    if exists(to)? {
        let names = env.disk.list(to).map_err(failed)?;
        // An interrupted restore leaves such files and no others.
        if let Some(name) = names.iter().find(|name| !name.ends_with(".restored.tmp")) {
            return Err(OpenError::Invalid(format!(
                "{} is not empty ({name}); restore into an empty directory",
                to.display()
            )));
        }
        for name in names {
            env.disk.remove(&to.join(name)).map_err(failed)?;
        }
    }
    make_dir(&env, to).map_err(failed)?;
    let total = manifest.segments.iter().map(|s| s.bytes).sum();
    let mut copy = Copier::new(&env, total, on_progress);
    let mut ready = Vec::new();
    let mut end_offset = DATA_START;
    for (at, entry) in manifest.segments.iter().enumerate() {
        let is_last = at + 1 == manifest.segments.len();
        ready.extend(copy.back(&manifest, entry, from, to, is_last)?);
        end_offset = entry.bytes;
    }
    // All of it is sound: let it appear, and say last that it is whole.
    for (temporary, path) in ready {
        env.disk.rename(&temporary, &path).map_err(failed)?;
    }
    env.disk.sync_dir(to).map_err(failed)?;
    let mark = Mark {
        identity: manifest.identity,
        sequence: 1,
        epoch: manifest.epoch,
        durable: manifest.end,
        segment_id: manifest.segments.last().map_or(0, |s| s.id),
        offset: end_offset,
        clean: true,
    };
    let mut bytes = vec![0; PAGE];
    bytes.extend_from_slice(&mark.encode());
    bytes.resize(MARK_FILE_BYTES, 0);
    let live = Live {
        epoch: mark.epoch,
        published: mark.durable,
    };
    write_file(&env, &to.join(LIVE_FILE), &live.encode(mark.identity)).map_err(failed)?;
    write_file(&env, &to.join(MARK_FILE), &bytes).map_err(failed)?;
    Ok(BackupReport {
        log_id: manifest.identity.log_id,
        events: manifest.end,
        segments: manifest.segments.len() as u64,
        segments_copied: manifest.segments.len() as u64,
        bytes: total,
        bytes_copied: total,
    })
}

struct Copier<'a> {
    env: &'a Env,
    bytes_done: u64,
    bytes_total: u64,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Copier<'a> {
    fn new(env: &'a Env, bytes_total: u64, on_progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            env,
            bytes_done: 0,
            bytes_total,
            on_progress,
        }
    }

    fn progress(&mut self, file: &str, bytes: u64) {
        self.bytes_done += bytes;
        (self.on_progress)(Progress {
            file: file.to_owned(),
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total.max(self.bytes_done),
        });
    }

    /// Copies the events of a segment into a backup.
    fn segment(&mut self, layout: &Layout, place: &Place, to: &Path) -> Result<Entry, OpenError> {
        let name = place.segment.name();
        let source = open(self.env, &place.segment.path)?;
        let temporary = to.join(format!("{name}.tmp"));
        let mut target = Target::new(self.env, &temporary)?;
        target.put(&place.header.encode())?;
        let mut next = place.header.first;
        let limit = place.limit.unwrap_or(u64::MAX);
        let mut frames = Frames::new(
            &*source,
            place.segment.id,
            place.header.identity.hash_key,
            place.segment.capacity,
        );
        let mut told = 0;
        // Beside a writer, what came after the beginning is left for the next backup.
        let end = match (place.limit, layout.written) {
            (None, true) => layout.durable,
            _ => limit,
        };
        while next < end {
            match frame(&mut frames, target.len, next, limit) {
                Ok((header, bytes)) => {
                    target.put_frame(&header, bytes)?;
                    next = header.end();
                }
                // The last segment ends where its frames end.
                Err(_) if place.limit.is_none() && next >= layout.durable => break,
                Err(what) => {
                    return Err(OpenError::Damaged {
                        file: name,
                        what: format!("byte {}, event {next}: {what}", target.len),
                    });
                }
            }
            if target.len - told > 4 << 20 {
                self.progress(&name, target.len - told);
                told = target.len;
            }
        }
        self.progress(&name, target.len - told);
        let (bytes, hash) = target.finish()?;
        let entry = Entry {
            id: place.segment.id,
            first: place.header.first,
            end: next,
            created_at: place.header.created_at,
            bytes,
            hash,
        };
        self.env
            .disk
            .rename(&temporary, &entry.path(to))
            .and_then(|()| self.env.disk.sync_dir(to))
            .map_err(|e| io_open(format!("naming the copy of {name}"), e))?;
        Ok(entry)
    }

    /// Copies a segment out of a backup, under a name of no account yet, with its index.
    /// Gives the names now and then.
    fn back(
        &mut self,
        manifest: &Manifest,
        entry: &Entry,
        from: &Path,
        to: &Path,
        is_last: bool,
    ) -> Result<Vec<(PathBuf, PathBuf)>, OpenError> {
        let path = entry.path(from);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let damaged = |what: String| {
            OpenError::Invalid(format!(
                "{name} in the backup is damaged: {what}; nothing was restored, use another backup"
            ))
        };
        let source = self
            .env
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => damaged("the file is missing".to_owned()),
                _ => io_open(format!("opening {name}"), e),
            })?;
        let length = source
            .len()
            .map_err(|e| io_open(format!("reading {name}"), e))?;
        if length != entry.bytes || length < DATA_START {
            return Err(damaged(format!(
                "it has {length} bytes, not {}",
                entry.bytes
            )));
        }
        let mut pages = vec![0; DATA_START as usize];
        source
            .read_exact_at(&mut pages, 0)
            .map_err(|e| damaged(format!("the disk says: {e}")))?;
        let header = SegmentHeader::decode(&pages[..PAGE]).map_err(|e| damaged(e.to_string()))?;
        let fits = header.identity == manifest.identity
            && (header.segment_id, header.first) == (entry.id, entry.first)
            && header.capacity >= entry.bytes;
        if !fits {
            return Err(damaged("its header is not that of the segment".to_owned()));
        }
        let right = segment_path(to, entry.id);
        let temporary = right.with_extension("seg.restored.tmp");
        let mut target = Target::new(self.env, &temporary)?;
        target.put(&pages)?;
        let mut index = ActiveIndex::new(entry.first, manifest.identity.hash_key, DATA_START);
        let mut frames = Frames::new(&*source, entry.id, manifest.identity.hash_key, length);
        while target.len < length {
            let at = target.len;
            let (frame, bytes) = frame(&mut frames, at, index.end(), entry.end)
                .map_err(|what| damaged(format!("byte {at}: {what}")))?;
            let events = decode(&frame, frame.body(bytes)).map_err(damaged)?;
            let key = |stream: &str| stream_key(manifest.identity.hash_key, stream);
            index.push_frame(at, at + frame.frame_len() as u64, key, events.into_iter());
            target.put_frame(&frame, bytes)?;
        }
        if index.end() != entry.end {
            return Err(damaged(format!(
                "it ends at event {}",
                Position::at(index.end())
            )));
        }
        target.extend(header.capacity)?;
        let (_, hash) = target.finish()?;
        if hash != entry.hash {
            return Err(damaged("its hash is not that of the manifest".to_owned()));
        }
        self.progress(&name, entry.bytes);
        let mut ready = vec![(temporary, right)];
        if !is_last {
            let path = to.join(format!("{:010}-{:020}.idx", entry.id, entry.first));
            let temporary = path.with_extension("idx.restored.tmp");
            let bytes = write_index(&index, manifest.identity, entry.id, DATA_START);
            let mut target = Target::new(self.env, &temporary)?;
            target.put(&bytes)?;
            target.finish()?;
            ready.push((temporary, path));
        }
        Ok(ready)
    }
}

/// The good frame at `offset` that holds the event at `position`.
fn frame<'b>(
    frames: &'b mut Frames<'_>,
    offset: u64,
    position: u64,
    limit: u64,
) -> Result<(FrameHeader, &'b [u8]), String> {
    match frames.look(offset) {
        Look::Frame(header, bytes, _) if header.first == position && header.end() <= limit => {
            decode(&header, header.body(bytes))?;
            Ok((header, bytes))
        }
        Look::Frame(..) => Err("the frame belongs to another position".to_owned()),
        Look::Bad(why) => Err(why),
    }
}

fn open(env: &Env, path: &Path) -> Result<Arc<dyn File>, OpenError> {
    env.disk
        .open(path, OpenMode::Read)
        .map_err(|e| io_open(format!("opening {}", path.display()), e))
}

/// A file being written, and the hash of what was.
struct Target {
    file: Arc<dyn File>,
    path: PathBuf,
    hash: Xxh3,
    /// Bytes put so far.
    len: u64,
    waiting: Vec<u8>,
}

impl Target {
    fn new(env: &Env, path: &Path) -> Result<Self, OpenError> {
        let made = (|| {
            if env.disk.exists(path)? {
                env.disk.remove(path)?;
            }
            env.disk.open(path, OpenMode::Create)
        })();
        Ok(Self {
            file: made.map_err(|e| io_open(format!("making {}", path.display()), e))?,
            path: path.to_owned(),
            hash: Xxh3::new(),
            len: 0,
            waiting: Vec::new(),
        })
    }

    fn failed(&self, error: io::Error) -> OpenError {
        io_open(format!("writing {}", self.path.display()), error)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        self.hash.update(bytes);
        self.waiting.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
        if self.waiting.len() >= 1 << 20 {
            self.flush()?;
        }
        Ok(())
    }

    /// Puts a frame with its padding.
    fn put_frame(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<(), OpenError> {
        self.put(bytes)?;
        let padding = [0; crate::format::FRAME_ALIGN];
        self.put(&padding[..header.frame_len() - bytes.len()])
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        let at = self.len - self.waiting.len() as u64;
        let written = self.file.write_all_at(&self.waiting, at);
        written.map_err(|e| self.failed(e))?;
        self.waiting.clear();
        Ok(())
    }

    /// Makes the file this long; the hash is of what was put.
    fn extend(&mut self, length: u64) -> Result<(), OpenError> {
        self.flush()?;
        self.file.set_len(length).map_err(|e| self.failed(e))
    }

    /// Makes it durable; gives its bytes and their hash.
    fn finish(mut self) -> Result<(u64, u128), OpenError> {
        self.flush()?;
        self.file.sync_data().map_err(|e| self.failed(e))?;
        Ok((self.len, self.hash.digest128()))
    }
}
