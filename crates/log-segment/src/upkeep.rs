//! Work that no append waits for: sealing full parts, writing segments ahead, keeping the
//! mark, answering appends that waited too long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::MergeJob;
use crate::crew::{Crew, Member, Post, Round};
use crate::format::Mark;
use crate::group::Spare;
use crate::index::{IndexError, Scratch, SealedIndex, write_index, write_index_in};
use crate::options::{Background, Durability, Options};
use crate::part::{Part, PartIndex, segment_path, write_file};
use crate::store::Counters;
use crate::sync::{lock, read, write};
use crate::writer::{Marker, Upkeep, Writer, disk_says};

/// How far the mark file may stay behind what is durable.
const MARK_EVERY: Duration = Duration::from_millis(50);
/// How long after a failure the disk is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long after a seal its memory is kept for the next one.
const KEEP_MEMORY: Duration = Duration::from_secs(5);
/// No memory is kept of parts with more events than this.
const KEEP_EVENTS_MAX: u32 = 1 << 20;
/// The size of a log's first segment; later ones grow with the log.
const FIRST_SEGMENT: u64 = 4 << 20;
/// A part at the end is given an index file on closing if it is at least this long.
const CLOSE_PART_BYTES: u64 = 4 << 20;

/// The size of the next segment of a log that has `log_bytes`.
pub(crate) fn next_segment_bytes(options: &Options, log_bytes: u64) -> u64 {
    let floor = options.first_segment_bytes.unwrap_or(FIRST_SEGMENT);
    log_bytes
        .max(1)
        .next_power_of_two()
        .clamp(floor.min(options.segment_bytes), options.segment_bytes)
        .next_multiple_of(4096)
}

/// The threads that work for the writers of a directory, `several` or one.
pub(crate) fn crew_of_writers(options: &Options, committers: usize, several: bool) -> Arc<Crew> {
    let step = options.append_timeout / 8;
    let round = |name, every, work| Round { name, every, work };
    let rounds = [
        round("anabranch-mark", MARK_EVERY, |member| {
            member.keep_marks();
            false
        }),
        round(
            "anabranch-time",
            step.clamp(Duration::from_millis(5), Duration::from_millis(250)),
            |member| {
                member.keep_time();
                false
            },
        ),
        round("anabranch-upkeep", MARK_EVERY, |member| member.keep_up()),
    ];
    Crew::new(&rounds, committers, several)
}

impl Member for Writer {
    fn commit(&self) -> bool {
        let mut committer = lock(&self.committer);
        self.commit_one(&mut committer);
        drop(committer);
        lock(&self.sequencer).has_pending()
    }

    fn keep_marks(&self) {
        Writer::keep_marks(self);
    }

    fn keep_time(&self) {
        self.time_out_waiting();
    }

    fn keep_up(&self) -> bool {
        Writer::keep_up(self)
    }

    fn panicked(&self) {
        self.store.note("a thread of the log panicked".to_owned());
        if self.committer.is_poisoned() {
            // A group may be lost that was to be written: nothing may be written behind it.
            self.break_off(&mut self.sequencer());
        }
    }
}

impl Writer {
    fn keep_marks(&self) {
        let mut marker = lock(&self.marker);
        self.sync_interval(&mut marker);
        self.keep_mark(&mut marker);
    }

    /// Does one piece of upkeep; false if there was none to do.
    pub fn keep_up(&self) -> bool {
        if self.options.background == Background::Manual {
            self.time_out_waiting();
            self.keep_marks();
        }
        let mut upkeep = lock(&self.upkeep);
        let upkeep = &mut *upkeep;
        if self.has_given_up() {
            return false;
        }
        let to_seal = lock(&self.sequencer).part_to_seal();
        if let Some(part) = to_seal {
            return self.try_seal(upkeep, &part);
        }
        self.give_back_memory(upkeep);
        self.keep_spares(upkeep) || self.keep_catalogue(upkeep)
    }

    /// Gives up the memory that sealing left for the next time, if that does not come soon.
    fn give_back_memory(&self, upkeep: &mut Upkeep) {
        let now = self.store.env.clock.monotonic();
        if upkeep.sealed_at.is_some_and(|at| now >= at + KEEP_MEMORY) {
            upkeep.sealed_at = None;
            upkeep.scratch = Scratch::default();
            let kept = lock(&self.sequencer).keep_index(None);
            drop(kept);
        }
    }

    /// Merges runs of the catalogue, a little at a time; true if there was something to do.
    fn keep_catalogue(&self, upkeep: &mut Upkeep) -> bool {
        let now = self.store.env.clock.monotonic();
        if now < upkeep.retry_at {
            return false;
        }
        let went_on = match upkeep.merge.take() {
            _ if self.check_place().is_err() => return false,
            None => MergeJob::next(&self.store).map(|job| upkeep.merge = job),
            Some(mut job) => job.step().and_then(|done| {
                if done {
                    job.finish(&self.store).map_err(IndexError::from)
                } else {
                    upkeep.merge = Some(job);
                    Ok(())
                }
            }),
        };
        match went_on {
            Ok(()) => upkeep.merge.is_some(),
            Err(error) => {
                self.store
                    .note(format!("merging the catalogue of streams: {error}"));
                upkeep.retry_at = now + RETRY_AFTER;
                false
            }
        }
    }

    fn try_seal(&self, upkeep: &mut Upkeep, part: &Arc<Part>) -> bool {
        let now = self.store.env.clock.monotonic();
        if now < upkeep.retry_at {
            return false;
        }
        let scratch = &mut upkeep.scratch;
        match self.check_place().and_then(|()| self.seal(part, scratch)) {
            Ok(()) => {
                upkeep.sealed_at = Some(now);
                true
            }
            Err(error) => {
                self.store.note(disk_says(
                    &format!("writing the index of {}", part.segment.name()),
                    &error,
                ));
                upkeep.retry_at = now + RETRY_AFTER;
                false
            }
        }
    }

    /// Gives a part that no longer grows its index file, and memory back.
    pub fn seal(&self, part: &Arc<Part>, scratch: &mut Scratch) -> io::Result<()> {
        if part.end() == part.first {
            self.store
                .change_parts(|parts| parts.retain(|p| !Arc::ptr_eq(p, part)));
            lock(&self.sequencer).sealed(part, 0);
            return Ok(());
        }
        let heads = {
            let PartIndex::Active(index) = &*read(&part.index) else {
                return Ok(());
            };
            let heads: Vec<(u128, u64)> =
                index.streams().map(|e| (e.key, e.next_version)).collect();
            let (identity, id) = (self.store.identity, part.segment.id);
            write_index_in(scratch, index, identity, id, part.start_offset);
            heads
        };
        let path = part.index_path();
        write_file(&self.store.env, &path, &scratch.bytes)?;
        Counters::add(&self.store.counters.index_bytes, scratch.bytes.len());
        let files = self.store.files.clone();
        let sealed = SealedIndex::open_at(files, path).map_err(io::Error::other)?;
        let id_max = sealed.header.id_max;
        // In small steps: appends take the same lock.
        for chunk in heads.chunks(256) {
            let mut sequencer = lock(&self.sequencer);
            for &(key, next) in chunk {
                if !self.store.bug(crate::Bug::SealKeepsOldHeads) {
                    sequencer.heads.insert(key, next);
                }
            }
        }
        let old = {
            let mut sequencer = lock(&self.sequencer);
            let sealed = PartIndex::Sealed(Arc::new(sealed));
            let old = std::mem::replace(&mut *write(&part.index), sealed);
            sequencer.sealed(part, id_max);
            old
        };
        if let PartIndex::Active(index) = old {
            let kept = (index.count() <= KEEP_EVENTS_MAX).then(|| (*index).emptied());
            let replaced = lock(&self.sequencer).keep_index(kept);
            drop(replaced);
        }
        self.store.limit_filters(self.options.index_memory / 4);
        Ok(())
    }

    /// Writes segments ahead, up to the number asked for; true if it made one.
    fn keep_spares(&self, upkeep: &mut Upkeep) -> bool {
        let now = self.store.env.clock.monotonic();
        if lock(&self.spares).len() >= self.options.spare_segments || now < upkeep.retry_at {
            return false;
        }
        let capacity = next_segment_bytes(&self.options, upkeep.log_bytes);
        let path = self.spare_path(upkeep.next_spare);
        upkeep.next_spare += 1;
        let ready = path.with_extension("pre");
        let made = self
            .check_place()
            .and_then(|()| self.write_ahead(&path, capacity))
            .and_then(|()| self.store.env.disk.rename(&path, &ready));
        match made {
            Ok(()) => {
                upkeep.log_bytes += capacity;
                lock(&self.spares).push_back(Spare {
                    path: ready,
                    capacity,
                });
                true
            }
            Err(error) => {
                self.store
                    .note(disk_says("writing a segment ahead", &error));
                upkeep.retry_at = now + RETRY_AFTER;
                false
            }
        }
    }

    fn keep_mark(&self, marker: &mut Marker) {
        let point = self.durable_point();
        #[cfg(feature = "sabotage")]
        let point = if self.store.bug(crate::Bug::MarkAhead) {
            crate::writer::DurablePoint {
                position: lock(&self.sequencer).next(),
                ..point
            }
        } else {
            point
        };
        let now = self.store.env.clock.monotonic();
        let mark = &marker.mark;
        if (mark.durable, mark.segment_id, mark.offset)
            == (point.position, point.segment_id, point.offset)
            || now < marker.marked_at + self.mark_every()
            || self.unsynced()
        {
            return;
        }
        let mark = Mark {
            sequence: mark.sequence + 1,
            durable: point.position,
            segment_id: point.segment_id,
            offset: point.offset,
            clean: false,
            ..*mark
        };
        marker.marked_at = now;
        if let Err(error) = write_mark(marker, mark) {
            self.store.note(disk_says("writing the mark", &error));
        }
    }

    /// Of many partitions each marks less often: all of them together flush marks at a bounded rate.
    fn mark_every(&self) -> Duration {
        let members = self.post.get().map_or(1, Post::members);
        MARK_EVERY * (members / 4).clamp(1, 20) as u32
    }

    /// Whether acknowledged events are still on their way to the disk.
    fn unsynced(&self) -> bool {
        matches!(self.options.durability, Durability::Interval(_))
            && self.synced_point() != self.durable_point()
    }

    /// With `Durability::Interval`: syncs when it is time.
    fn sync_interval(&self, marker: &mut Marker) {
        let Durability::Interval(interval) = self.options.durability else {
            return;
        };
        let now = self.store.env.clock.monotonic();
        if now < marker.synced_at + interval || !self.unsynced() {
            return;
        }
        marker.synced_at = now;
        self.sync_now();
    }

    /// Syncs what was written without a sync of its own.
    fn sync_now(&self) {
        let (file, id, point) = {
            let committer = lock(&self.committer);
            let id = committer.segment_id;
            (committer.file.clone(), id, self.durable_point())
        };
        let Some(file) = file else { return };
        let path = segment_path(&self.store.dir, id);
        let synced = self
            .sync_late(&*file)
            .and_then(|()| self.check_file(&*file, &path));
        // A failure was told and noted, and stays.
        if synced.is_ok() {
            self.set_synced_point(point);
        }
    }

    /// Ends the log in order: all that is pending is written, the end gets an index if it
    /// is long, and the mark says that nothing follows.
    pub fn finish(&self) -> io::Result<()> {
        {
            let mut committer = lock(&self.committer);
            while self.commit_one(&mut committer) {}
        }
        lock(&self.sequencer).closed = true;
        {
            let mut committer = lock(&self.committer);
            while self.commit_one(&mut committer) {}
        }
        let mut marker = lock(&self.marker);
        let marker = &mut *marker;
        if self.unsynced() {
            self.sync_now();
        }
        self.check_place()?;
        loop {
            let part = lock(&self.sequencer).part_to_seal();
            let Some(part) = part else { break };
            self.seal(&part, &mut Scratch::default())?;
        }
        let last = lock(&self.sequencer).part_to_close();
        if let Some(part) = last {
            let bytes = match &*read(&part.index) {
                PartIndex::Active(index)
                    if index.end_offset() - part.start_offset >= CLOSE_PART_BYTES =>
                {
                    let id = part.segment.id;
                    Some(write_index(
                        index,
                        self.store.identity,
                        id,
                        part.start_offset,
                    ))
                }
                _ => None,
            };
            if let Some(bytes) = bytes {
                write_file(&self.store.env, &part.index_path(), &bytes)?;
            }
        }
        let point = self.durable_point();
        let mark = Mark {
            sequence: marker.mark.sequence + 1,
            durable: point.position,
            segment_id: point.segment_id,
            offset: point.offset,
            clean: !self.unsynced(),
            ..marker.mark
        };
        write_mark(marker, mark)
    }
}

/// Writes the mark into the slot that does not hold the one before it.
pub(crate) fn write_mark(marker: &mut Marker, mark: Mark) -> io::Result<()> {
    marker
        .mark_file
        .write_all_at(&mark.encode(), mark.slot_offset())?;
    marker.mark_file.sync_data()?;
    marker.mark = mark;
    Ok(())
}
