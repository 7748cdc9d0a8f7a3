//! Writes: takes commit groups from the sequencer to the disk, one flush each, publishes
//! what is durable, and answers.
//!
//! Whoever holds the committer leads: an appender that finds the log idle commits in place
//! (a hop to another thread costs more than it saves); under load a thread of the log's
//! own leads, and the next group forms while it waits for the disk.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use anabranch_env::{DiskLock, File, OpenMode};
use anabranch_log::{Append, AppendError, Appended, Condition, Placed, ReadError, Rejection};
use anabranch_model::{PartitionId, Position, Query};

use crate::buffer::AlignedBuf;
use crate::catalog::MergeJob;
use crate::format::{DATA_START, Live, Mark, SegmentHeader};
use crate::index::{Lookup, Term, term_key};
use crate::options::{Background, Durability, Options, WriteMethod};
use crate::sequencer::{Group, NewSegment, Prepared, SealedAnswers, Sequencer, Spare, Step};
use crate::store::{Counters, PartIndex, Store};
use crate::sync::{Outcome, Signal, WakerSet, lock, read};

/// How long appends are refused after a write failed, before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A commit that takes longer than this keeps appenders from committing in place.
const SLOW_COMMIT: Duration = Duration::from_millis(5);

pub(crate) struct Writer {
    pub store: Arc<Store>,
    pub options: Options,
    pub method: WriteMethod,
    /// Direct writes begin and end at multiples of this; 1 for buffered ones.
    pub align: usize,
    pub sequencer: Mutex<Sequencer>,
    pub committer: Mutex<Committer>,
    pub spares: Mutex<VecDeque<Spare>>,
    pub upkeep: Mutex<Upkeep>,
    pub commit_bell: Signal,
    pub upkeep_bell: Signal,
    /// What the mark file may say.
    durable: Mutex<DurablePoint>,
    space: WakerSet,
    last_group_appends: AtomicUsize,
    slow: AtomicBool,
    /// With `Durability::Interval`: a sync failed, and nothing after it can be trusted.
    sync_failed: AtomicBool,
    pub closing: AtomicBool,
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

/// What only the upkeep touches.
pub(crate) struct Upkeep {
    /// The mark written last.
    pub mark: Mark,
    pub mark_file: Arc<dyn File>,
    pub next_spare: u64,
    /// Bytes in all segments.
    pub log_bytes: u64,
    /// When the disk is asked again after it refused.
    pub retry_at: Duration,
    pub marked_at: Duration,
    /// With `Durability::Interval`: what the last sync made durable, and when.
    pub synced: DurablePoint,
    pub synced_at: Duration,
    /// A merge of the catalogue on its way.
    pub merge: Option<MergeJob>,
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
        upkeep: Upkeep,
        durable: DurablePoint,
        lock: Option<Box<dyn DiskLock>>,
    ) -> Self {
        Self {
            store,
            options,
            method,
            align,
            sequencer: Mutex::new(sequencer),
            committer: Mutex::new(committer),
            spares: Mutex::new(spares),
            upkeep: Mutex::new(upkeep),
            commit_bell: Signal::default(),
            upkeep_bell: Signal::default(),
            durable: Mutex::new(durable),
            space: WakerSet::default(),
            last_group_appends: AtomicUsize::new(0),
            slow: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            lock: Mutex::new(lock),
        }
    }

    pub fn durable_point(&self) -> DurablePoint {
        *lock(&self.durable)
    }

    #[cfg(feature = "sabotage")]
    fn bug(&self, bug: crate::Bug) -> bool {
        self.store.bug(bug)
    }

    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        append
            .check(&self.options.limits)
            .map_err(Rejection::from)?;
        let mut prepared = Prepared::new(&self.store, &append);
        loop {
            let step = lock(&self.sequencer).sequence(&append, &mut prepared, &self.spares);
            match step {
                Step::Placed { completion, places } => {
                    self.drive().await;
                    let (outcome, reason) = completion.wait().await;
                    return match outcome {
                        Outcome::Durable => Ok(Appended {
                            places,
                            repeated: false,
                        }),
                        Outcome::NotWritten => Err(AppendError::Unavailable {
                            reason,
                            retry_after: Some(RETRY_AFTER),
                        }),
                        Outcome::Unknown | Outcome::TimedOut => {
                            Err(AppendError::Unknown { reason })
                        }
                    };
                }
                Step::Repeated(positions) => {
                    let found = positions.into_iter().enumerate().collect::<Vec<_>>();
                    return Ok(Appended {
                        places: self.confirm_written(&append, &found)?,
                        repeated: true,
                    });
                }
                Step::PartlyWritten(found) => {
                    self.confirm_written(&append, &found)?;
                    let (i, position) = found[0];
                    return Err(Rejection::PartlyWritten {
                        id: append.events[i].id,
                        position: Position::at(position),
                    }
                    .into());
                }
                Step::Lookup => self.ask_sealed(&append, &mut prepared)?,
                Step::WaitFor(completion) => {
                    self.drive().await;
                    completion.wait().await;
                }
                Step::Full => {
                    self.drive().await;
                    poll_fn(|cx| {
                        self.space.register(cx);
                        if lock(&self.sequencer).is_full() {
                            Poll::Pending
                        } else {
                            Poll::Ready(())
                        }
                    })
                    .await;
                }
                Step::Refused(error) => return Err(error),
            }
        }
    }

    /// Sees to it that what is pending gets written.
    async fn drive(&self) {
        match self.options.background {
            Background::Manual => {
                // Others may join the group first.
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
                let mut committer = lock(&self.committer);
                while self.commit_one(&mut committer) {}
            }
            Background::Threads => {
                let alone = self.last_group_appends.load(Ordering::Relaxed) <= 1
                    && !self.slow.load(Ordering::Relaxed);
                if alone && let Ok(mut committer) = self.committer.try_lock() {
                    self.commit_one(&mut committer);
                    drop(committer);
                    if lock(&self.sequencer).has_pending() {
                        self.commit_bell.ring();
                    }
                } else {
                    self.commit_bell.ring();
                }
            }
        }
    }

    /// The life of the commit thread.
    pub fn commit_until_closed(&self) {
        while !self.closing.load(Ordering::Acquire) {
            self.commit_bell.wait(Duration::from_secs(1));
            let mut committer = lock(&self.committer);
            while self.commit_one(&mut committer) {}
        }
    }

    /// Writes one group; false if none is waiting.
    pub fn commit_one(&self, committer: &mut Committer) -> bool {
        let Some(mut group) = lock(&self.sequencer).take_group() else {
            return false;
        };
        let started = self.store.env.clock.monotonic();
        #[cfg(feature = "sabotage")]
        {
            if self.bug(crate::Bug::AckBeforeSync) {
                group.completion.finish(Outcome::Durable, "");
            }
            if self.bug(crate::Bug::PublishBeforeSync) {
                self.show(&group);
            }
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
                (Some(file), Durability::Interval(_)) => self.sync_late(&**file),
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
        let written = self.write_synced(&*file, group.buf.bytes(), group.start - group.lead as u64);
        group.buf.truncate(frames_end);
        written.map_err(|e| {
            // These pages may be lost although the cache shows them: the file is done with.
            committer.file = None;
            WriteFailure::Unknown(disk_says(&format!("writing {}", segment.name()), &e))
        })
    }

    /// Writes to the segment so that the bytes are durable on return.
    fn write_synced(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(feature = "sabotage")]
        {
            if self.bug(crate::Bug::IgnoreShortWrite) {
                file.write_at(bytes, offset)?;
                return self.sync(file);
            }
            if self.bug(crate::Bug::IgnoreWriteError) {
                let written = file.write_all_at(bytes, offset);
                let synced = self.sync(file);
                return written.and(synced).or(Ok(()));
            }
        }
        file.write_all_at(bytes, offset)?;
        self.sync(file)
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        if self.method == WriteMethod::Direct
            || matches!(self.options.durability, Durability::Interval(_))
        {
            return Ok(());
        }
        let synced = file.sync_data();
        #[cfg(feature = "sabotage")]
        if synced.is_err() && self.bug(crate::Bug::RetryFsync) {
            return file.sync_data();
        }
        synced
    }

    /// Syncs what was acknowledged without a sync, with `Durability::Interval`. A failure is
    /// final: a second sync of the same pages proves nothing, so the log takes no more
    /// appends until it is opened again, which writes its end anew.
    pub fn sync_late(&self, file: &dyn File) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        let synced = file.sync_data();
        if let Err(error) = &synced {
            self.sync_failed.store(true, Ordering::Release);
            let reason = disk_says(
                "syncing acknowledged events, which a power cut may take now; close the log and open it again",
                error,
            );
            self.store.note(reason.clone());
            lock(&self.sequencer).trouble = Some((reason, Duration::MAX));
        }
        synced
    }

    /// Makes the segment file of a group: header first, then its name.
    fn begin_segment(
        &self,
        group: &Group,
        new: NewSegment,
        previous: u64,
    ) -> io::Result<Arc<dyn File>> {
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
        #[cfg(feature = "sabotage")]
        let sync_header = !self.bug(crate::Bug::NoHeaderSync);
        #[cfg(not(feature = "sabotage"))]
        let sync_header = true;
        if self.method != WriteMethod::Direct && sync_header {
            file.sync_data()?;
        }
        disk.rename(&spare.path, &segment.path)?;
        #[cfg(feature = "sabotage")]
        if self.bug(crate::Bug::NoDirSync) {
            return Ok(file);
        }
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
    /// no metadata. Leaves nothing behind when it fails.
    pub fn write_ahead(&self, path: &std::path::Path, capacity: u64) -> io::Result<()> {
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
            let file = disk.open(path, self.open_mode())?;
            let step = (1 << 20).min(capacity as usize);
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
        if to_seal {
            self.upkeep_bell.ring();
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
            if outcome == Outcome::NotWritten && !self.sync_failed.load(Ordering::Acquire) {
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
        let late: Vec<_> = {
            let sequencer = lock(&self.sequencer);
            sequencer
                .waiting
                .iter()
                .take_while(|(since, _)| now.saturating_sub(*since) > limit)
                .map(|(_, completion)| completion.clone())
                .collect()
        };
        for completion in late {
            completion.finish(
                Outcome::TimedOut,
                &format!("the disk has not answered for {} s", limit.as_secs()),
            );
        }
    }

    /// Asks the sealed indexes what an append needs to know. Outside the sequencer's lock:
    /// sealed parts do not change.
    fn ask_sealed(&self, append: &Append, prepared: &mut Prepared) -> Result<(), AppendError> {
        let unavailable = |error: ReadError| AppendError::Unavailable {
            reason: format!("the index cannot be read: {error}"),
            retry_after: Some(RETRY_AFTER),
        };
        let (generation, unsealed) = lock(&self.sequencer).unsealed();
        let parts = self.store.parts();
        let mut answers = SealedAnswers {
            generation,
            ..SealedAnswers::default()
        };
        // With the range of their ids. A sealed part whose index file cannot be read has
        // its index in memory again, and may hold any.
        let sealed: Vec<_> = parts
            .iter()
            .filter(|part| !unsealed.iter().any(|p| Arc::ptr_eq(p, part)))
            .map(|part| match &*read(&part.index) {
                PartIndex::Sealed(index) => (part, index.header.id_min..=index.header.id_max),
                PartIndex::Active(_) => (part, 0..=u128::MAX),
            })
            .collect();
        #[cfg(feature = "sabotage")]
        let forget = self.bug(crate::Bug::ForgetIds);
        #[cfg(not(feature = "sabotage"))]
        let forget = false;
        // Where an index says that an id may be: an index knows a part of its hash only.
        let mut candidates: Vec<(u64, usize)> = Vec::new();
        for (i, event) in append.events.iter().enumerate() {
            let id = event.id.as_u128();
            for (part, ids) in sealed.iter().rev() {
                if forget || !ids.contains(&id) {
                    continue;
                }
                let found = self
                    .store
                    .with_index(
                        part,
                        |a| a.find_id(id).into_iter().collect(),
                        |s| s.find_id(id),
                    )
                    .map_err(unavailable)?;
                let positions = found.into_iter().map(|rel| part.first + u64::from(rel));
                candidates.extend(positions.map(|position| (position, i)));
            }
        }
        candidates.sort_unstable();
        let positions = candidates.iter().map(|&(position, _)| position);
        let failed = self.store.look_at(positions, |index, stored| {
            let (position, i) = candidates[index];
            match stored {
                Ok(stored) if stored.id == append.events[i].id => {
                    answers.ids.insert(i, position);
                    None
                }
                Ok(_) => None,
                Err(error) => Some(unavailable(error)),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let mut unknown = Vec::new();
        {
            let mut sequencer = lock(&self.sequencer);
            for key in prepared.all_keys(append) {
                match sequencer.heads.get(key) {
                    Some(next) => {
                        answers.heads.insert(key, next.unwrap_or(0));
                    }
                    None => unknown.push(key),
                }
            }
        }
        let before = unsealed.first().map_or(u64::MAX, |part| part.first);
        for &key in &unknown {
            let next = self.store.sealed_head(key, before).map_err(unavailable)?;
            answers.heads.insert(key, next.unwrap_or(0));
        }
        let published = self.store.published();
        for condition in &append.conditions {
            let Condition::NoMatch { query, after } = condition else {
                continue;
            };
            let from = prepared.unmatched_before.max(after.get(PartitionId(0)));
            prepared.matched = self
                .find_match(query, from, published)
                .map_err(unavailable)?;
            if prepared.matched.is_some() {
                break;
            }
        }
        prepared.unmatched_before = prepared.unmatched_before.max(published);
        let mut sequencer = lock(&self.sequencer);
        if sequencer.generation() == generation {
            for &key in &unknown {
                if let Some(&next) = answers.heads.get(&key).filter(|&&next| next > 0) {
                    sequencer.heads.insert(key, next);
                }
            }
            prepared.sealed = Some(answers);
        }
        Ok(())
    }

    /// Position of the first durable event in `from..to` that matches.
    fn find_match(&self, query: &Query, from: u64, to: u64) -> Result<Option<u64>, ReadError> {
        let hash_key = self.store.identity.hash_key;
        for part in self.store.parts().iter() {
            let (low, high) = (part.first.max(from), part.end().min(to));
            if low >= high {
                continue;
            }
            let mut candidates: Vec<u32> = Vec::new();
            for item in &query.items {
                let rels = if let Some(tag) = item.tags.first() {
                    let key = term_key(hash_key, Term::Tag(tag));
                    self.store.lookup_in(part, &Lookup::Terms(vec![key]))?
                } else if item.types.is_empty() {
                    return Ok(Some(low));
                } else {
                    let key =
                        |t: &anabranch_model::EventType| term_key(hash_key, Term::Type(t.as_str()));
                    let keys = item.types.iter().map(key).collect();
                    self.store.lookup_in(part, &Lookup::Terms(keys))?
                };
                candidates.extend(rels);
            }
            candidates.sort_unstable();
            candidates.dedup();
            for rel in candidates {
                let position = part.first + u64::from(rel);
                if (low..high).contains(&position)
                    && query.matches(&self.store.event_at(position)?.as_ref())
                {
                    return Ok(Some(position));
                }
            }
        }
        Ok(None)
    }

    /// The places of events of a batch whose ids were written before, by index in the
    /// batch; refuses ids that were written with another event.
    fn confirm_written(
        &self,
        append: &Append,
        found: &[(usize, u64)],
    ) -> Result<Vec<Placed>, AppendError> {
        let mut places = Vec::with_capacity(found.len());
        let offsets = found.iter().map(|&(_, offset)| offset);
        let refused = self.store.look_at(offsets, |index, stored| {
            let (i, offset) = found[index];
            let (event, position) = (&append.events[i], Position::at(offset));
            let id = event.id;
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    return Some(AppendError::Unavailable {
                        reason: format!(
                            "event {id} was written before, at {position}, but cannot be read: {error}"
                        ),
                        retry_after: None,
                    });
                }
            };
            let same = stored.stream() == event.stream.as_str()
                && stored.event_type() == event.event_type.as_str()
                && stored.schema_version == event.schema_version
                && stored.data() == event.data;
            if !same {
                return Some(Rejection::IdTaken { id, position }.into());
            }
            places.push(Placed {
                position,
                version: stored.version,
            });
            None
        });
        refused.map_or(Ok(places), Err)
    }

    /// A path for the next spare file.
    pub fn spare_path(&self, number: u64) -> PathBuf {
        self.store.dir.join(format!("spare-{number:06}.tmp"))
    }
}

/// What the disk said, for people.
pub(crate) fn disk_says(doing: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            format!("{doing}: disk full ({error}); make room")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{doing}: the disk is mounted read-only ({error}); remount it for writing")
        }
        _ => format!("{doing}: {error}"),
    }
}
