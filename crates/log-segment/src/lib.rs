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
#[cfg(test)]
mod documented;
mod embedded;
mod files;
mod format;
mod group;
mod heads;
mod index;
mod layout_file;
mod lookups;
mod lost;
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

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
pub use options::{Background, Durability, Options, WriteMethod};
#[cfg(not(feature = "sabotage"))]
use sabotage::Bug;
#[cfg(feature = "sabotage")]
pub use sabotage::Bug;
pub use survey::{LOCK_FILE, is_file_of_log};
pub use upgrade::{UpgradeReport, upgrade};

use beside::Reader;
use format::LogIdentity;
use reader::{BackwardSource, ForwardSource, StreamSource};
use store::Store;
use sync::lock;
use writer::Writer;

/// A log in a directory of this machine.
///
/// One process writes; others may read beside it ([`SegmentLog::open_read_only`]). Dropping
/// the value closes it as [`SegmentLog::close`] does, but has nobody to tell of an error.
pub struct SegmentLog {
    store: Arc<Store>,
    role: Role,
    options: Options,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        Self::open_known(env, dir.as_ref(), options, None)
    }

    /// The same; a log that is `known` is refused where it is gone or another.
    fn open_known(
        env: Env,
        dir: &Path,
        options: Options,
        known: Option<LogIdentity>,
    ) -> Result<Self, OpenError> {
        let writer = Arc::new(open::open_writer(env, dir, options.clone(), known)?);
        let log = Self {
            store: writer.store.clone(),
            role: Role::Writer(writer.clone()),
            options: options.clone(),
            threads: Mutex::default(),
        };
        if options.background == Background::Threads {
            let (committing, marking, timing) = (writer.clone(), writer.clone(), writer.clone());
            log.spawn("anabranch-commit", move || committing.commit_until_closed())?;
            log.spawn("anabranch-mark", move || marking.keep_marks_until_closed())?;
            log.spawn("anabranch-time", move || timing.keep_time_until_closed())?;
            log.spawn("anabranch-upkeep", move || writer.keep_up_until_closed())?;
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
        Self::open_known_read_only(env, dir.as_ref(), options, None)
    }

    /// The same; a log that is `known` is refused where it is another.
    fn open_known_read_only(
        env: Env,
        dir: &Path,
        options: Options,
        known: Option<LogIdentity>,
    ) -> Result<Self, OpenError> {
        let store = beside::open_reader(env, dir)?;
        if known.is_some_and(|known| store.identity != known) {
            return Err(open::not_the_known(false));
        }
        let reader = Arc::new(Reader::new(store.clone(), options.index_memory));
        let log = Self {
            store,
            role: Role::Reader(reader.clone()),
            options: options.clone(),
            threads: Mutex::default(),
        };
        if options.background == Background::Threads {
            log.spawn("anabranch-refresh", move || reader.refresh_until_closed())?;
        }
        Ok(log)
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|e| survey::io_open(format!("starting the thread {name}"), e))?;
        lock(&self.threads).push(thread);
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
        match &self.role {
            Role::Writer(writer) => {
                writer.closing.store(true, Ordering::Release);
                writer.commit_bell.ring();
                writer.upkeep_bell.ring();
                writer.mark_bell.ring();
                writer.timer_bell.ring();
            }
            Role::Reader(reader) => {
                reader.closing.store(true, Ordering::Release);
                reader.bell.ring();
            }
        }
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                self.store.note("a thread of the log panicked".to_owned());
            }
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
