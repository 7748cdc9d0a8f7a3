//! Writes: takes commit groups from the sequencer to the disk, one flush each, publishes
//! what is durable, and answers.
//!
//! Whoever holds the committer leads: an appender that finds the log idle commits in place
//! (a hop to another thread costs more than it saves); under load a thread of the log's
//! own leads, and the next group forms while it waits for the disk.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_env::{DiskLock, File, OpenMode};
use anabranch_log::AppendError;

use crate::buffer::AlignedBuf;
use crate::catalog::MergeJob;
use crate::crew::Post;
use crate::format::{DATA_START, Live, Mark, SegmentHeader};
use crate::group::{Group, NewSegment, Spare};
use crate::index::Scratch;
use crate::options::{Background, Durability, Options, WriteMethod};
use crate::sequencer::{BROKEN, Sequencer};
use crate::store::{Counters, Store};
use crate::survey::MARK_FILE;
use crate::sync::{Completion, Outcome, WakerSet, lock};

/// How long appends are refused after a write failed, before the next attempt.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A commit that takes longer than this keeps appenders from committing in place.
const SLOW_COMMIT: Duration = Duration::from_millis(5);

/// So many appends alone, then one that looks whether it still is.
const LOOK_AROUND_EVERY: usize = 64;

pub(crate) struct Writer {
    pub store: Arc<Store>,
    pub options: Options,
    pub method: WriteMethod,
    /// Direct writes begin and end at multiples of this; 1 for buffered ones.
    pub align: usize,
    pub sequencer: Mutex<Sequencer>,
    pub committer: Mutex<Committer>,
    pub spares: Mutex<VecDeque<Spare>>,
    pub marker: Mutex<Marker>,
    pub upkeep: Mutex<Upkeep>,
    /// Where the threads of the directory are asked to work; without them the caller does.
    pub post: OnceLock<Post>,
    /// What the mark file may say.
    durable: Mutex<DurablePoint>,
    /// With `Durability::Interval`: what a sync made durable.
    synced: Mutex<DurablePoint>,
    /// Appends that wait for something else than their own group, with the time they began to.
    patience: Mutex<VecDeque<(Duration, Arc<Completion>)>>,
    pub space: WakerSet,
    last_group_appends: AtomicUsize,
    slow: AtomicBool,
    /// Appends that committed in place, each believing itself alone.
    written_alone: AtomicUsize,
    /// The log takes no more appends until it is opened again: its files are gone, or a late
    /// sync failed.
    given_up: AtomicBool,
    /// The mark file, which tells whether the directory is still the log's.
    anchor: Arc<dyn File>,
    pub lock: Mutex<Option<Box<dyn DiskLock>>>,
}

/// The end of what is durable, as position and as place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurablePoint {
    pub position: u64,
    pub segment_id: u64,
    pub offset: u64,
}

/// What only the leader of a commit touches.
pub(crate) struct Committer {
    /// The segment being written.
    pub file: Option<Arc<dyn File>>,
    pub segment_id: u64,
    pub live_file: Arc<dyn File>,
    /// The epoch of this opening.
    pub epoch: u64,
}

/// What only the keeper of the mark touches.
pub(crate) struct Marker {
    /// The mark written last.
    pub mark: Mark,
    pub mark_file: Arc<dyn File>,
    pub marked_at: Duration,
    /// With `Durability::Interval`: when it was last time to sync.
    pub synced_at: Duration,
}

/// What only the upkeep touches.
pub(crate) struct Upkeep {
    pub next_spare: u64,
    /// Bytes in all segments.
    pub log_bytes: u64,
    /// When the disk is asked again after it refused.
    pub retry_at: Duration,
    /// A merge of the catalogue on its way.
    pub merge: Option<MergeJob>,
    /// Memory that indexes were written in.
    pub scratch: Scratch,
    /// When a part was sealed last, while memory is kept from that.
    pub sealed_at: Option<Duration>,
}

/// Why a group was not written, and whether it may be on the disk all the same.
enum WriteFailure {
    NotWritten(String),
    Unknown(String),
}

impl Writer {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, when a log is opened"
    )]
    pub fn new(
        store: Arc<Store>,
        options: Options,
        method: WriteMethod,
        align: usize,
        sequencer: Sequencer,
        committer: Committer,
        spares: VecDeque<Spare>,
        marker: Marker,
        upkeep: Upkeep,
        durable: DurablePoint,
        lock: Option<Box<dyn DiskLock>>,
    ) -> Self {
        Self {
            anchor: marker.mark_file.clone(),
            store,
            options,
            method,
            align,
            sequencer: Mutex::new(sequencer),
            committer: Mutex::new(committer),
            spares: Mutex::new(spares),
            marker: Mutex::new(marker),
            upkeep: Mutex::new(upkeep),
            post: OnceLock::new(),
            durable: Mutex::new(durable),
            synced: Mutex::new(durable),
            patience: Mutex::default(),
            space: WakerSet::default(),
            last_group_appends: AtomicUsize::new(0),
            slow: AtomicBool::new(false),
            written_alone: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            lock: Mutex::new(lock),
        }
    }

    pub fn durable_point(&self) -> DurablePoint {
        *lock(&self.durable)
    }

    pub fn bug(&self, bug: crate::Bug) -> bool {
        self.store.bug(bug)
    }

    /// The sequencer; breaks the log off if a panic left it in the middle of a change.
    pub fn sequencer(&self) -> MutexGuard<'_, Sequencer> {
        let mut sequencer = lock(&self.sequencer);
        if self.sequencer.is_poisoned() {
            self.sequencer.clear_poison();
            self.break_off(&mut sequencer);
        }
        sequencer
    }

    /// Drops what is not written yet, and takes no more appends.
    pub fn break_off(&self, sequencer: &mut Sequencer) {
        let dropped = sequencer.break_off();
        self.store.note(BROKEN.to_owned());
        for group in dropped {
            group.completion.finish(Outcome::NotWritten, BROKEN);
            sequencer.release(group);
        }
        self.space.wake_all();
    }

    /// Waits until `ready`, or until the time of an append is up; then gives the reason.
    pub async fn in_time(
        &self,
        ticket: &mut Option<Arc<Completion>>,
        mut ready: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<(), String> {
        let ticket = ticket.get_or_insert_with(|| {
            let ticket = Arc::new(Completion::new());
            let now = self.store.env.clock.monotonic();
            lock(&self.patience).push_back((now, ticket.clone()));
            ticket
        });
        let mut slot = None;
        poll_fn(|cx| {
            if ready(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            ticket.poll(cx, &mut slot).map(|(_, reason)| Err(reason))
        })
        .await
    }

    /// Sees to it that what is pending gets written, which is so many appends of the caller's.
    pub async fn drive(&self, appends: usize) {
        match self.options.background {
            Background::Manual => {
                // Others may join the group first.
                let_others_run().await;
                let mut committer = lock(&self.committer);
                while self.commit_one(&mut committer) {}
            }
            Background::Threads if appends > 1 => self.ring_for_commit(),
            Background::Threads => {
                let alone = self.last_group_appends.load(Ordering::Relaxed) <= 1
                    && !self.slow.load(Ordering::Relaxed);
                if alone && self.is_time_to_look_around() {
                    let_others_run().await;
                }
                if !(alone && self.try_commit_in_place()) {
                    self.ring_for_commit();
                } else if self.store.tail.is_followed() {
                    // A runtime may keep who was woken here for this thread, which the next
                    // append of a busy writer would hold up again.
                    let_others_run().await;
                }
            }
        }
    }

    /// Whether an append that believes itself alone lets others of its task join it first. The
    /// appends of one task cannot show up otherwise: each would be on the disk before the next
    /// begins, alone for ever. One look in many finds them, and costs who is alone next to nothing.
    fn is_time_to_look_around(&self) -> bool {
        let alone = self.written_alone.fetch_add(1, Ordering::Relaxed);
        alone % LOOK_AROUND_EVERY == LOOK_AROUND_EVERY - 1
    }

    fn ring_for_commit(&self) {
        if let Some(post) = self.post.get() {
            post.ring_for_commit();
        }
    }

    /// Writes one group, unless somebody else is at it.
    fn try_commit_in_place(&self) -> bool {
        let Some(in_place) = self.post.get().and_then(Post::in_place) else {
            return false;
        };
        let Ok(mut committer) = self.committer.try_lock() else {
            return false;
        };
        self.commit_one(&mut committer);
        drop(committer);
        drop(in_place);
        if lock(&self.sequencer).has_pending() {
            self.ring_for_commit();
        }
        true
    }

    /// Writes one group; false if none is waiting.
    pub fn commit_one(&self, committer: &mut Committer) -> bool {
        let Some(mut group) = self.sequencer().take_group() else {
            return false;
        };
        let started = self.store.env.clock.monotonic();
        if self.bug(crate::Bug::AckBeforeSync) {
            group.completion.finish(Outcome::Durable, "");
        }
        if self.bug(crate::Bug::PublishBeforeSync) {
            self.show(&group);
        }
        match self.write_group(committer, &mut group) {
            Ok(()) => self.publish(committer, group),
            Err(failure) => self.fail(group, failure),
        }
        let took = self.store.env.clock.monotonic().saturating_sub(started);
        self.slow.store(took > SLOW_COMMIT, Ordering::Relaxed);
        true
    }

    fn write_group(
        &self,
        committer: &mut Committer,
        group: &mut Group,
    ) -> Result<(), WriteFailure> {
        let segment = group.part.segment.clone();
        if let Some(new) = group.new_segment.take() {
            // Until its first group is synced the segment holds nothing that counts. Its being
            // there says that everything before it is on the disk.
            let before = match (&committer.file, self.options.durability) {
                (Some(file), Durability::Interval(_)) => self.sync_all(&**file),
                _ => Ok(()),
            };
            let file = before
                .and_then(|()| self.begin_segment(group, new, committer.segment_id))
                .map_err(|e| {
                    WriteFailure::NotWritten(format!(
                        "{}; nothing was written, appends resume by themselves when there is room",
                        disk_says("making a new segment", &e)
                    ))
                })?;
            committer.file = Some(file);
            committer.segment_id = segment.id;
        }
        let Some(file) = committer
            .file
            .clone()
            .filter(|_| committer.segment_id == segment.id)
        else {
            return Err(WriteFailure::NotWritten(
                "the segment is closed after an earlier error".to_owned(),
            ));
        };
        let frames_end = group.buf.len();
        group.buf.pad_to(frames_end.next_multiple_of(self.align));
        Counters::add(&self.store.counters.commits, 1);
        Counters::add(&self.store.counters.commit_bytes, group.buf.len());
        let written = self
            .write_synced(&*file, group.buf.bytes(), group.start - group.lead as u64)
            .and_then(|()| match self.options.durability {
                Durability::Sync => self.check_file(&*file, &segment.path),
                // That is looked at as often as it is synced.
                Durability::Interval(_) => Ok(()),
            });
        group.buf.truncate(frames_end);
        written.map_err(|e| {
            // These pages may be lost although the cache shows them: the file is done with.
            // What was acknowledged before goes to the disk first, or nothing more is taken.
            if matches!(self.options.durability, Durability::Interval(_)) {
                // A failure is noted, and refuses every append from now on.
                drop(self.sync_all(&*file));
            }
            committer.file = None;
            WriteFailure::Unknown(disk_says(&format!("writing {}", segment.name()), &e))
        })
    }

    /// Writes to the segment so that the bytes are durable on return.
    fn write_synced(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        self.sync(file)
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        if self.method == WriteMethod::Direct
            || matches!(self.options.durability, Durability::Interval(_))
        {
            return Ok(());
        }
        file.sync_data()
    }

    /// What is on the disk for certain, with `Durability::Interval`.
    pub fn synced_point(&self) -> DurablePoint {
        *lock(&self.synced)
    }

    /// Syncs all that was acknowledged; it is in `file`, or was synced before.
    fn sync_all(&self, file: &dyn File) -> io::Result<()> {
        let point = self.durable_point();
        if point == self.synced_point() {
            return Ok(());
        }
        self.sync_late(file)?;
        self.set_synced_point(point);
        Ok(())
    }

    pub fn set_synced_point(&self, point: DurablePoint) {
        let mut synced = lock(&self.synced);
        if synced.position <= point.position {
            *synced = point;
            self.store.set_synced(point.position);
        }
    }

    /// Syncs what was acknowledged without a sync, with `Durability::Interval`. A failure is
    /// final: a second sync of the same pages proves nothing, so the log takes no more
    /// appends until it is opened again, which writes its end anew.
    pub fn sync_late(&self, file: &dyn File) -> io::Result<()> {
        if self.has_given_up() {
            return Err(io::Error::other("an earlier sync failed"));
        }
        let synced = file.sync_data();
        if let Err(error) = &synced {
            self.give_up(disk_says(
                "syncing acknowledged events, which a power cut may take now; close the log and open it again",
                error,
            ));
        }
        synced
    }

    /// Takes no more appends until the log is opened again.
    fn give_up(&self, reason: String) {
        self.given_up.store(true, Ordering::Release);
        self.store.note(reason.clone());
        lock(&self.sequencer).trouble = Some((reason, Duration::MAX));
    }

    pub fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Why every append is refused now, if that is so.
    pub fn takes_appends(&self) -> Result<(), AppendError> {
        let unavailable = |reason, retry_after| AppendError::Unavailable {
            reason,
            retry_after,
        };
        if let Err(error) = self.check_place() {
            return Err(unavailable(error.to_string(), None));
        }
        let now = self.store.env.clock.monotonic();
        match &lock(&self.sequencer).trouble {
            Some((reason, until)) if now < *until => {
                let again = (*until != Duration::MAX).then(|| *until - now);
                Err(unavailable(reason.clone(), again))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to go on when the directory of the log was removed, moved or replaced, perhaps
    /// by another log's: nothing is to be written there.
    pub fn check_place(&self) -> io::Result<()> {
        self.check_file(&*self.anchor, &self.store.dir.join(MARK_FILE))
    }

    /// As [`Writer::check_place`], for the file that events were written to: what has no name
    /// any more is not acknowledged.
    pub fn check_file(&self, file: &dyn File, path: &Path) -> io::Result<()> {
        if file.is_at(path)? {
            return Ok(());
        }
        let reason = format!(
            "{} was removed, moved or replaced while the log was open; put it back where it was, close the log and open it again",
            path.display()
        );
        if !self.has_given_up() {
            self.give_up(reason.clone());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, reason))
    }

    /// Makes the segment file of a group: header first, then its name.
    fn begin_segment(
        &self,
        group: &Group,
        new: NewSegment,
        previous: u64,
    ) -> io::Result<Arc<dyn File>> {
        self.check_place()?;
        let disk = &self.store.env.disk;
        let segment = &group.part.segment;
        let spare = match new.spare {
            Some(spare) => spare,
            None => {
                let path = self
                    .store
                    .dir
                    .join(format!("segment-{:010}.tmp", segment.id));
                self.write_ahead(&path, segment.capacity)?;
                Spare {
                    path,
                    capacity: segment.capacity,
                }
            }
        };
        let header = SegmentHeader {
            identity: self.store.identity,
            segment_id: segment.id,
            first: group.first,
            capacity: segment.capacity,
            created_at: new.created_at,
            previous,
        };
        let mut bytes = AlignedBuf::with_capacity(DATA_START as usize);
        bytes.extend(&header.encode());
        let file = disk.open(&spare.path, self.open_mode())?;
        file.write_all_at(bytes.bytes(), 0)?;
        if self.method != WriteMethod::Direct {
            file.sync_data()?;
        }
        disk.rename(&spare.path, &segment.path)?;
        disk.sync_dir(&self.store.dir)?;
        Ok(file)
    }

    pub fn open_mode(&self) -> OpenMode {
        if self.method == WriteMethod::Direct {
            OpenMode::WriteDirect
        } else {
            OpenMode::Write
        }
    }

    /// Makes a file of zeros, all of its blocks written, so that later writes to it change
    /// no metadata. Leaves nothing behind when it fails. In small steps without flushes, synced
    /// once: a group that is written meanwhile waits for one step at most.
    pub fn write_ahead(&self, path: &Path, capacity: u64) -> io::Result<()> {
        let disk = &self.store.env.disk;
        let free = disk.free_bytes(&self.store.dir)?;
        if free < capacity.saturating_add(self.options.reserve_bytes) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the disk is full: {free} bytes are free, a new segment needs {capacity} and {} are kept in reserve",
                    self.options.reserve_bytes
                ),
            ));
        }
        if disk.exists(path)? {
            disk.remove(path)?;
        }
        let written = (|| {
            let file = disk.open(path, OpenMode::Create)?;
            file.set_len(capacity)?;
            file.sync_data()?;
            let file = disk.open(
                path,
                match self.method {
                    WriteMethod::Direct => OpenMode::WriteDirectUnsynced,
                    _ => OpenMode::Write,
                },
            )?;
            let step = (256 << 10).min(capacity as usize);
            let mut zeros = AlignedBuf::with_capacity(step);
            zeros.pad_to(step);
            let mut offset = 0;
            while offset < capacity {
                let len = (capacity - offset).min(step as u64) as usize;
                file.write_all_at(&zeros.bytes()[..len], offset)?;
                Counters::add(&self.store.counters.ahead_bytes, len);
                offset += len as u64;
            }
            file.sync_data()
        })();
        if written.is_err() {
            // Best effort: the file holds nothing, and opening removes what is left.
            let removed = disk.remove(path);
            drop(removed);
        }
        written
    }

    /// Lets readers see a group.
    fn show(&self, group: &Group) {
        if self.options.durability == Durability::Sync {
            self.store.set_synced(group.end);
        }
        self.store.set_published(group.end);
        if self.store.tail.is_followed() {
            self.store.tail.push(group.buf.bytes(), &group.entries);
        }
        self.store.tail.wake();
    }

    /// Lets readers in other processes see a group.
    fn tell_readers(&self, committer: &mut Committer, published: u64) {
        let live = Live {
            epoch: committer.epoch,
            published,
        };
        if let Err(error) = committer
            .live_file
            .write_all_at(&live.encode(self.store.identity), 0)
        {
            // They fall back to the durable marks, and see it a little later.
            self.store.note(disk_says("telling readers", &error));
        }
    }

    fn publish(&self, committer: &mut Committer, group: Group) {
        *lock(&self.durable) = DurablePoint {
            position: group.end,
            segment_id: group.part.segment.id,
            offset: group.end_offset(),
        };
        self.show(&group);
        self.tell_readers(committer, group.end);
        self.last_group_appends
            .store(group.appends, Ordering::Relaxed);
        group.completion.finish(Outcome::Durable, "");
        let (was_full, to_seal) = {
            let mut sequencer = lock(&self.sequencer);
            let was_full = sequencer.is_full();
            sequencer.release(group);
            (was_full, sequencer.part_to_seal().is_some())
        };
        if was_full {
            self.space.wake_all();
        }
        if let (true, Some(post)) = (to_seal, self.post.get()) {
            post.ring_for_upkeep();
        }
    }

    fn fail(&self, group: Group, failure: WriteFailure) {
        let (outcome, reason) = match failure {
            WriteFailure::NotWritten(reason) => (Outcome::NotWritten, reason),
            WriteFailure::Unknown(reason) => (Outcome::Unknown, reason),
        };
        self.store.note(reason.clone());
        let dropped = {
            let mut sequencer = lock(&self.sequencer);
            let dropped = sequencer.roll_back(self.store.published());
            let now = self.store.env.clock.monotonic();
            // The first append after a failed write tries a new segment at once; one that
            // could not be made is not tried again before its time.
            if outcome == Outcome::NotWritten && !self.has_given_up() {
                sequencer.trouble = Some((reason.clone(), now + RETRY_AFTER));
            }
            dropped
        };
        group.completion.finish(outcome, &reason);
        for group in &dropped {
            group.completion.finish(
                Outcome::NotWritten,
                &format!("a write before this one failed: {reason}"),
            );
        }
        {
            let mut sequencer = lock(&self.sequencer);
            for group in dropped.into_iter().chain([group]) {
                sequencer.release(group);
            }
        }
        self.space.wake_all();
    }

    /// Answers that have waited too long for the disk.
    pub fn time_out_waiting(&self) {
        let now = self.store.env.clock.monotonic();
        let limit = self.options.append_timeout;
        let mut late: Vec<_> = {
            let sequencer = lock(&self.sequencer);
            sequencer
                .waiting
                .iter()
                .take_while(|(since, _)| now.saturating_sub(*since) > limit)
                .map(|(_, completion)| completion.clone())
                .collect()
        };
        {
            let mut patience = lock(&self.patience);
            // Those that nobody waits for any more.
            patience.retain(|(_, ticket)| Arc::strong_count(ticket) > 1);
            let waited = |since: &Duration| now.saturating_sub(*since) > limit;
            late.extend(
                patience
                    .iter()
                    .filter(|(since, _)| waited(since))
                    .map(|(_, ticket)| ticket.clone()),
            );
        }
        for completion in late {
            completion.finish(
                Outcome::TimedOut,
                &format!("the disk has not answered for {} s", limit.as_secs()),
            );
        }
    }

    /// A path for the next spare file.
    pub fn spare_path(&self, number: u64) -> PathBuf {
        self.store.dir.join(format!("spare-{number:06}.tmp"))
    }
}

/// Lets other tasks of this thread run first.
async fn let_others_run() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// What the disk said, for people.
pub(crate) fn disk_says(doing: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("{doing}: disk full ({error}); make room")
        }
        io::ErrorKind::FileTooLarge => {
            format!(
                "{doing}: this process may not write files as large ({error}); raise its limit (`ulimit -f`, `LimitFSIZE`)"
            )
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{doing}: the disk is mounted read-only ({error}); remount it for writing")
        }
        _ => format!("{doing}: {error}"),
    }
}
