//! The embedded engine: append-only segment files on a local disk.
//!
//! Appends are placed by the *sequencer* under one short lock, gathered into *groups*,
//! and written with one flush each by whoever holds the *committer*; then they are
//! *published* to readers and answered. The newest events are indexed in memory, full
//! segments by index files that can be built again. `docs/formats/segment.md` has the
//! bytes; opening recovers from a crash at any point.
//!
//! Three orders carry the promises:
//!
//! * write → sync → publish → answer: nobody sees or is told of an event that a power cut
//!   can take away;
//! * a failed write is followed by a new segment that begins at the last durable position:
//!   whatever the failed file holds behind it does not count;
//! * an index is written after its events are durable, and checked against them when used.

mod admin;
mod appending;
mod beside;
mod buffer;
mod catalog;
mod causes_file;
mod crew;
mod decisions;
#[cfg(test)]
mod documented;
mod embedded;
mod files;
mod flushes;
mod format;
mod group;
mod heads;
mod index;
mod layout_file;
mod lookups;
mod lost;
mod moved;
mod moving;
mod open;
mod options;
mod part;
#[cfg(test)]
mod properties;
mod reader;
mod reading;
mod sabotage;
mod sequencer;
mod store;
mod survey;
mod sync;
mod tail;
mod upgrade;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, OpenError, Order,
    Placed, ReadError, ReadMode, Rejection, Scope, VersionRange, all_of,
};
use anabranch_model::{Cut, EventId, Filter, PartitionId, StreamId};

pub use admin::{
    Action, BackupReport, Damage, Info, Loss, LostEvent, Progress, Remark, RepairPlan, SegmentInfo,
    VerifyReport, backup, backup_until, info, plan_repair, restore, verify,
};
pub use embedded::{EmbeddedLog, create};
pub use layout_file::{folder_names, layout_of};
pub use moved::moved_to;
pub use moving::{Moving, seal_moved, settle_moved};
pub use options::{Background, Durability, ForCopy, Options, WriteMethod};
#[cfg(not(feature = "sabotage"))]
use sabotage::Bug;
#[cfg(feature = "sabotage")]
pub use sabotage::Bug;
pub use survey::{LOCK_FILE, is_file_of_log};
pub use upgrade::{UpgradeReport, upgrade};

use beside::Reader;
use crew::{Crew, Member, Post};
use format::LogIdentity;
use reader::{BackwardSource, ForwardSource, StreamSource};
use store::Store;
use sync::lock;
use upkeep::crew_of_writers;
use writer::Writer;

/// A log in a directory of this machine.
///
/// One process writes; others may read beside it ([`SegmentLog::open_read_only`]). Dropping
/// the value closes it as [`SegmentLog::close`] does, but has nobody to tell of an error.
pub struct SegmentLog {
    store: Arc<Store>,
    role: Role,
    options: Options,
    /// Where its directory's threads work for it, if there are any.
    post: Option<Post>,
}

enum Role {
    Writer(Arc<Writer>),
    Reader(Arc<Reader>),
}

/// What a log has written since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Commit groups: with `Durability::Sync`, one device flush each.
    pub commits: u64,
    /// Bytes of commit groups, block padding included.
    pub commit_bytes: u64,
    /// Bytes of index files.
    pub index_bytes: u64,
    /// Bytes of zeros written ahead of the log's end.
    pub ahead_bytes: u64,
}

impl SegmentLog {
    /// Opens the log in `dir` for writing; makes the directory and the log if need be.
    ///
    /// Recovers from a crash: cuts a torn tail, writes what may not have reached the disk
    /// again. Refuses a log whose acknowledged events are damaged at its end.
    ///
    /// Where the process has a limit for the size of files (`ulimit -f`), the system sends
    /// SIGXFSZ before the write fails, and that signal ends a process that does not listen for
    /// it. A program that may meet such a limit listens, for example with
    /// `tokio::signal::unix::signal(SignalKind::from_raw(libc::SIGXFSZ))`.
    pub fn open(env: Env, dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let crew = crew_of_writers(&options, 1, false);
        Self::open_known(env, dir.as_ref(), options, None, &crew)
    }

    /// The same, with threads that work for other partitions too; a log that is `known` is refused
    /// where it is gone or another.
    fn open_known(
        env: Env,
        dir: &Path,
        options: Options,
        known: Option<LogIdentity>,
        crew: &Arc<Crew>,
    ) -> Result<Self, OpenError> {
        let writer = Arc::new(open::open_writer(env, dir, options.clone(), known)?);
        let mut log = Self {
            store: writer.store.clone(),
            role: Role::Writer(writer.clone()),
            options,
            post: None,
        };
        log.enlist(crew, writer.clone())?;
        if let Some(post) = &log.post {
            // It was new a moment ago.
            drop(writer.post.set(post.clone()));
        }
        Ok(log)
    }

    /// Opens the log in `dir` for reading, beside a writer or without one. Changes nothing.
    ///
    /// It shows what is known to be durable: beside a writer at most a moment late. Where a
    /// power cut has ended the writer, the last appends may be missing until a writer has
    /// opened the log again and settled them. Shows what can be read of a damaged log, and
    /// an error in the place of the rest.
    pub fn open_read_only(
        env: Env,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let crew = beside::crew_of_readers();
        Self::open_known_read_only(env, dir.as_ref(), options, None, &crew)
    }

    /// The same; a log that is `known` is refused where it is another.
    fn open_known_read_only(
        env: Env,
        dir: &Path,
        options: Options,
        known: Option<LogIdentity>,
        crew: &Arc<Crew>,
    ) -> Result<Self, OpenError> {
        let store = beside::open_reader(env, dir)?;
        if known.is_some_and(|known| store.identity != known) {
            return Err(open::not_the_known(false));
        }
        let reader = Arc::new(Reader::new(store.clone(), options.index_memory));
        let mut log = Self {
            store,
            role: Role::Reader(reader.clone()),
            options,
            post: None,
        };
        log.enlist(crew, reader)?;
        Ok(log)
    }

    fn enlist(&mut self, crew: &Arc<Crew>, member: Arc<dyn Member>) -> Result<(), OpenError> {
        if self.options.background == Background::Threads {
            let post = crew.enlist(member);
            self.post = Some(post.map_err(|e| survey::io_open("starting the log's threads", e))?);
        }
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.store.dir.clone()
    }

    /// How appends are written, as chosen at open. `Auto` on a read-only log.
    pub fn write_method(&self) -> WriteMethod {
        match &self.role {
            Role::Writer(writer) => writer.method,
            Role::Reader(_) => WriteMethod::Auto,
        }
    }

    /// What was written since the log was opened.
    pub fn stats(&self) -> Stats {
        let counters = &self.store.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: get(&counters.commits),
            commit_bytes: get(&counters.commit_bytes),
            index_bytes: get(&counters.index_bytes),
            ahead_bytes: get(&counters.ahead_bytes),
        }
    }

    /// What went wrong and was mended or worked around since the log was opened.
    pub fn notes(&self) -> Vec<String> {
        self.store.notes()
    }

    /// With [`Background::Manual`]: does one unit of waiting work; false if there was none.
    pub fn step(&self) -> bool {
        match &self.role {
            Role::Writer(writer) => {
                let committed = {
                    let mut committer = lock(&writer.committer);
                    writer.commit_one(&mut committer)
                };
                committed || writer.keep_up()
            }
            Role::Reader(reader) => {
                let before = self.store.published();
                reader.refresh().is_ok() && self.store.published() > before
            }
        }
    }

    /// Does all upkeep that is waiting: seals full segments, writes spare ones ahead.
    /// For benchmarks, and before a planned peak.
    pub fn prepare(&self) {
        if let Role::Writer(writer) = &self.role {
            while writer.keep_up() {}
        }
    }

    /// Ends the log in order: writes what is pending and marks the end, so that the next
    /// opening has nothing to recover. The log takes no appends afterwards, and who follows
    /// it is told that it closed.
    pub fn close(&self) -> Result<(), OpenError> {
        self.stop_threads();
        let Role::Writer(writer) = &self.role else {
            self.store.close();
            return Ok(());
        };
        let held = lock(&writer.lock).take();
        if held.is_none() {
            return Ok(());
        }
        let finished = writer
            .finish()
            .map_err(|e| survey::io_open("closing the log", e));
        self.store.close();
        drop(held);
        finished
    }

    fn stop_threads(&self) {
        if let Some(post) = &self.post {
            post.dismiss();
        }
    }

    fn refreshed(&self) -> Result<(), ReadError> {
        match &self.role {
            Role::Writer(_) => Ok(()),
            Role::Reader(reader) => reader.refresh(),
        }
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.stop_threads();
        // Manual logs belong to simulations, where dropping one is the death of its process.
        if self.options.background == Background::Threads
            && let Err(error) = self.close()
        {
            self.store.note(error.to_string());
        }
        self.store.close();
    }
}

impl Log for SegmentLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "segment",
            partitions: 1,
            batches: Scope::Log,
            conditions: Scope::Log,
            no_match: Some(Scope::Log),
            total_order: true,
            backward_reads: true,
            survives_restart: true,
            survives_power_cut: self.options.durability == Durability::Sync,
            limits: self.options.limits,
        }
    }

    fn takes_appends(&self) -> Result<(), AppendError> {
        match &self.role {
            Role::Writer(writer) => writer.takes_appends(),
            Role::Reader(_) => Err(Rejection::ReadOnly.into()),
        }
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        match &self.role {
            Role::Writer(writer) => Box::pin(writer.append(append)),
            Role::Reader(_) => Box::pin(async { Err(Rejection::ReadOnly.into()) }),
        }
    }

    fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        match &self.role {
            Role::Writer(writer) => Box::pin(writer.append_all(appends)),
            Role::Reader(_) => all_of(appends.into_iter().map(|append| self.append(append))),
        }
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        if let Err(error) = self.refreshed() {
            return EventStream::failed(error);
        }
        EventStream::new(StreamSource::new(
            self.store.clone(),
            stream.clone(),
            range,
            order,
        ))
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        if let Err(error) = self.refreshed() {
            return EventStream::failed(error);
        }
        let head = self.store.published();
        if !Cut::at(head).covers(from) {
            return EventStream::failed(ReadError::CutBeyondHead {
                from: from.clone(),
                head: Cut::at(head),
            });
        }
        let count = from.get(PartitionId(0));
        let store = self.store.clone();
        match mode {
            ReadMode::ToHead => {
                EventStream::new(ForwardSource::new(store, count, Some(head), filter))
            }
            ReadMode::Follow => EventStream::new(ForwardSource::new(store, count, None, filter)),
            ReadMode::Backward => EventStream::new(BackwardSource::new(store, count, filter)),
        }
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        match &self.role {
            Role::Writer(writer) => Box::pin(writer.find(id)),
            Role::Reader(_) => Box::pin(async move {
                self.refreshed()?;
                self.store.find(id, self.store.published())
            }),
        }
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        let head = self.refreshed().map(|()| Cut::at(self.store.published()));
        Box::pin(async { head })
    }
}
