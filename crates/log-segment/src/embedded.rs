//! A log in a directory, however many partitions it has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anabranch_env::{DiskLock, Env, File};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, CausalClock, EventStream, Layout, Log,
    OpenError, Order, PartitionedLog, Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, PartitionId, StreamId};

use crate::beside::crew_of_readers;
use crate::causes_file;
use crate::decisions;
use crate::flushes::{self, IN_TURN, TRIED};
use crate::format::{LogIdentity, Mark};
use crate::layout_file::{self, Kept, folder, folder_name, of_partition};
use crate::moved;
use crate::open::{Probe, check_private, first_mark, make_dir, put_mark, take_lock};
use crate::options::{Background, Durability, ForCopy, Options, WriteMethod};
use crate::part::write_file;
use crate::survey::{MARK_FILE, Survey, io_open};
use crate::sync::lock;
use crate::upkeep::crew_of_writers;
use crate::{SegmentLog, Stats};

/// The length of the first segment of a log with one partition, in bytes; those of several share it.
const FIRST_SEGMENT: u64 = 4 << 20;
/// The least that is left of it for each, in bytes.
const FIRST_SEGMENT_MIN: u64 = 256 << 10;

/// The log in a directory of this machine, with one partition or with several.
///
/// Each partition is a [`SegmentLog`] in a folder of its own, with commits of its own; the one
/// partition of a log that has no more is the directory itself. One process writes to all of them,
/// others may read beside it. Dropping the value closes it as [`EmbeddedLog::close`] does, but has
/// nobody to tell of an error.
pub struct EmbeddedLog {
    layout: Layout,
    dir: PathBuf,
    parts: Vec<Arc<SegmentLog>>,
    /// Where appends to several partitions are decided on, if there are several.
    decisions: Option<Arc<SegmentLog>>,
    /// What the parts are together.
    log: Arc<dyn Log>,
    /// Of the directory, where the parts have folders of their own.
    held: Mutex<Option<Box<dyn DiskLock>>>,
    background: Background,
}

/// Makes a log with this layout in `dir`, which has none; gives its id. A directory that is not
/// there is made.
///
/// # Errors
///
/// There is a log, or what is left of one, in `dir`; or the disk refuses.
pub fn create(env: &Env, dir: impl AsRef<Path>, layout: &Layout) -> Result<u128, OpenError> {
    let dir = dir.as_ref();
    layout_file::refuse_folder(env, dir)?;
    refuse_log(env, dir)?;
    make_dir(env, dir)
        .map_err(|e| io_open(format!("making the directory {}", dir.display()), e))?;
    check_private(env, dir)?;
    let held = take_lock(env, dir)?;
    // Another process may have been faster.
    refuse_log(env, dir)?;
    let kept = Kept {
        identity: LogIdentity {
            log_id: env.rng.next_u128(),
            hash_key: env.rng.next_u64(),
        },
        layout: layout.clone(),
    };
    make(env, dir, &kept)?;
    drop(held);
    Ok(kept.identity.log_id)
}

/// Makes the files of a log that has no events yet.
pub(crate) fn make(env: &Env, dir: &Path, kept: &Kept) -> Result<(), OpenError> {
    if kept.layout.is_one() {
        put_mark(env, dir, &first_mark(kept.identity))?;
    } else {
        for partition in kept.layout.ids() {
            let folder = folder(dir, partition);
            make_dir(env, &folder)
                .map_err(|e| io_open(format!("making the folder {}", folder.display()), e))?;
            put_mark(env, &folder, &first_mark(kept.identity_of(partition)))?;
        }
        write_file(env, &dir.join(MARK_FILE), &Mark::guard(kept.identity))
            .map_err(|e| io_open("making the mark file", e))?;
        // Last, so that what was interrupted is no log.
        kept.write(env, dir)?;
    }
    Ok(())
}

fn refuse_log(env: &Env, dir: &Path) -> Result<(), OpenError> {
    let exists = env.disk.exists(dir);
    if !exists.map_err(|e| io_open(format!("looking at {}", dir.display()), e))? {
        return Ok(());
    }
    let layout = match layout_file::read(env, dir)? {
        Some(kept) => kept.layout,
        None if Survey::take(env, dir)?.is_empty() => return Ok(()),
        None => Layout::one(),
    };
    Err(OpenError::Invalid(format!(
        "{} holds a log already ({layout}); nothing was changed: a log keeps the layout that it was \
         made with",
        dir.display()
    )))
}

impl EmbeddedLog {
    /// Opens the log in `dir` for writing; makes one with one partition if there is none. As
    /// [`SegmentLog::open`] does for each partition.
    pub fn open(env: Env, dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        layout_file::refuse_folder(&env, dir)?;
        let Some(kept) = layout_file::read(&env, dir)? else {
            return Ok(Self::of_one(SegmentLog::open(env, dir, options)?));
        };
        check_private(&env, dir)?;
        let held = take_lock(&env, dir)?;
        moved::refuse(&env, dir, options.for_copy.is_some())?;
        guard(&env, dir, &kept)?;
        // One clock of all, so that by time too nothing stands before its cause.
        let clock = Arc::new(CausalClock::new(env.clock.clone()));
        let env = match options.for_copy {
            Some(_) => env,
            None => Env {
                clock: clock.clone(),
                ..env
            },
        };
        let mut options = shared(options, &kept.layout);
        let crew = crew_of_writers(&options, IN_TURN, true);
        let mut parts: Vec<SegmentLog> = Vec::new();
        for partition in kept.layout.ids() {
            let folder = folder(dir, partition);
            let opened = check_there(&env, &folder)
                .and_then(|()| {
                    let known = Some(kept.identity_of(partition));
                    SegmentLog::open_known(env.clone(), &folder, options.clone(), known, &crew)
                })
                .map_err(|error| of_partition(partition, error))?;
            if options.write_method == WriteMethod::Auto {
                // They are on one disk.
                options.write_method = opened.write_method();
            }
            parts.push(opened);
        }
        if options.durability == Durability::Sync && options.background == Background::Threads {
            crew.allow_committers(try_flushes(&parts)?);
        }
        let decisions = decisions::open(&env, dir, &kept, options.clone(), &crew)?;
        let logs = (parts, Some(decisions));
        let writing = Some((held, clock));
        let how = (options.background, options.for_copy);
        Self::of_parts(dir, kept.layout, logs, writing, how)
    }

    /// Opens the log in `dir` for reading, beside a writer or without one. As
    /// [`SegmentLog::open_read_only`] does for each partition.
    pub fn open_read_only(
        env: Env,
        dir: impl AsRef<Path>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        layout_file::refuse_folder(&env, dir)?;
        let Some(kept) = layout_file::read(&env, dir)? else {
            return Ok(Self::of_one(SegmentLog::open_read_only(env, dir, options)?));
        };
        let options = shared(options, &kept.layout);
        let crew = crew_of_readers();
        let open = |partition: PartitionId| {
            let (folder, known) = (folder(dir, partition), kept.identity_of(partition));
            check_there(&env, &folder)
                .and_then(|()| {
                    let (env, options) = (env.clone(), options.clone());
                    SegmentLog::open_known_read_only(env, &folder, options, Some(known), &crew)
                })
                .map_err(|error| of_partition(partition, error))
        };
        let parts = kept.layout.ids().map(open).collect::<Result<_, _>>()?;
        let decisions = decisions::open_read_only(&env, dir, &kept, options.clone(), &crew)?;
        let logs = (parts, decisions);
        let how = (options.background, None);
        Self::of_parts(dir, kept.layout, logs, None, how)
    }

    fn of_one(log: SegmentLog) -> Self {
        let (dir, background) = (log.dir(), log.options.background);
        let log = Arc::new(log);
        Self {
            layout: Layout::one(),
            dir,
            parts: vec![log.clone()],
            decisions: None,
            log,
            held: Mutex::new(None),
            background,
        }
    }

    fn of_parts(
        dir: &Path,
        layout: Layout,
        (parts, decisions): (Vec<SegmentLog>, Option<SegmentLog>),
        writing: Option<(Box<dyn DiskLock>, Arc<CausalClock>)>,
        (background, for_copy): (Background, Option<ForCopy>),
    ) -> Result<Self, OpenError> {
        let parts: Vec<Arc<SegmentLog>> = parts.into_iter().map(Arc::new).collect();
        let decisions = decisions.map(Arc::new);
        let files = parts.iter().map(|part| {
            let store = &part.store;
            causes_file::open(&store.env, &store.dir, writing.is_some())
        });
        let files = files.collect::<io::Result<_>>();
        let files = files.map_err(|e| io_open("opening what is kept of causes", e))?;
        let (held, clock) = writing.unzip();
        let kept_with = (files, decisions.clone());
        let clock = clock.as_deref().filter(|_| for_copy.is_none());
        let log = together(&layout, &parts, kept_with, clock, for_copy)?;
        Ok(Self {
            layout,
            dir: dir.to_owned(),
            parts,
            decisions,
            log,
            held: Mutex::new(held),
            background,
        })
    }

    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// How appends are written, as chosen at open. `Auto` on a read-only log.
    pub fn write_method(&self) -> WriteMethod {
        self.parts
            .first()
            .map_or(WriteMethod::Auto, |part| part.write_method())
    }

    /// What was written since the log was opened, over all partitions.
    pub fn stats(&self) -> Stats {
        let all = self.parts.iter().map(|part| part.stats());
        all.fold(Stats::default(), |sum, part| Stats {
            commits: sum.commits + part.commits,
            commit_bytes: sum.commit_bytes + part.commit_bytes,
            index_bytes: sum.index_bytes + part.index_bytes,
            ahead_bytes: sum.ahead_bytes + part.ahead_bytes,
        })
    }

    /// What went wrong and was mended or worked around since the log was opened.
    pub fn notes(&self) -> Vec<String> {
        if self.layout.is_one() {
            return self.parts.iter().flat_map(|part| part.notes()).collect();
        }
        let notes = |(id, part): (PartitionId, &Arc<SegmentLog>)| {
            let notes = part.notes().into_iter();
            notes.map(move |note| format!("{}: {note}", folder_name(id)))
        };
        let of_decisions = self.decisions.iter().flat_map(|log| log.notes());
        let of_decisions = of_decisions.map(|note| format!("{}: {note}", decisions::FOLDER));
        let of_parts = self.layout.ids().zip(&self.parts).flat_map(notes);
        of_parts.chain(of_decisions).collect()
    }

    /// All that it has open.
    fn logs(&self) -> impl Iterator<Item = &Arc<SegmentLog>> {
        self.parts.iter().chain(&self.decisions)
    }

    /// With [`Background::Manual`]: does one unit of waiting work in each partition; false if there
    /// was none.
    pub fn step(&self) -> bool {
        self.logs().fold(false, |any, log| log.step() | any)
    }

    /// Does all upkeep that is waiting; see [`SegmentLog::prepare`].
    pub fn prepare(&self) {
        for log in self.logs() {
            log.prepare();
        }
    }

    /// Ends the log in order: see [`SegmentLog::close`]. Every partition is closed, also where
    /// another one cannot be.
    pub fn close(&self) -> Result<(), OpenError> {
        let mut closed = Ok(());
        for (id, part) in self.layout.ids().zip(&self.parts) {
            let done = part.close().map_err(|error| match self.layout.is_one() {
                true => error,
                false => of_partition(id, error),
            });
            closed = closed.and(done);
        }
        if let Some(decisions) = &self.decisions {
            closed = closed.and(decisions.close());
        }
        drop(lock(&self.held).take());
        closed
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        // Each part closes itself. What else holds the parts must not keep them open: the lock of
        // the directory ends here.
        if self.background == Background::Threads && !self.layout.is_one() {
            for log in self.logs() {
                if let Err(error) = log.close() {
                    log.store.note(error.to_string());
                }
            }
        }
    }
}

/// Tries how many groups the device takes at a time. Each partition has blocks for that in a file of its
/// own, as its groups go to one.
fn try_flushes(parts: &[SegmentLog]) -> Result<usize, OpenError> {
    let tried = &parts[..parts.len().min(TRIED)];
    let method = parts[0].write_method();
    let probes = tried.iter().map(|part| Probe::open(&part.store, method));
    let probes = probes.collect::<io::Result<Vec<_>>>();
    let clock = &*parts[0].store.env.clock;
    let measured = probes
        .and_then(|probes| flushes::measure(clock, probes.len(), &|file| probes[file].flush()));
    measured.map_err(|e| io_open("trying out the disk", e))
}

/// What several partitions are as one log.
fn together(
    layout: &Layout,
    parts: &[Arc<SegmentLog>],
    (files, decisions): (Vec<Arc<dyn File>>, Option<Arc<SegmentLog>>),
    clock: Option<&CausalClock>,
    for_copy: Option<ForCopy>,
) -> Result<Arc<dyn Log>, OpenError> {
    let parts = parts.iter().map(|part| part.clone() as Arc<dyn Log>);
    let decisions = decisions.map(|log| log as Arc<dyn Log>);
    let (layout, parts) = (layout.clone(), parts.collect());
    let opened = match for_copy {
        Some(ForCopy::SamePlaces) => PartitionedLog::open_for_copy(layout, parts, files),
        None | Some(ForCopy::OtherPlaces) => {
            PartitionedLog::open_kept(layout, parts, files, decisions)
        }
    };
    let opened = opened.and_then(|log| match clock {
        Some(clock) => log.go_on(clock).map(|()| log),
        None => Ok(log),
    });
    match opened {
        Ok(log) => Ok(Arc::new(log)),
        Err(ReadError::Invalid(what)) => Err(OpenError::Invalid(what)),
        Err(ReadError::Damaged { file, what, .. }) => Err(OpenError::Damaged { file, what }),
        Err(error) => Err(io_open(
            "reading what events depend on",
            io::Error::other(error.to_string()),
        )),
    }
}

/// Refuses a directory that has the files of a log with one partition too, and makes sure that
/// programs which know of one partition only make none there.
fn guard(env: &Env, dir: &Path, kept: &Kept) -> Result<(), OpenError> {
    let path = dir.join(MARK_FILE);
    let found = env.disk.exists(&path);
    if !found.map_err(|e| io_open("looking for the mark file", e))? {
        return write_file(env, &path, &Mark::guard(kept.identity))
            .map_err(|e| io_open("making the mark file", e));
    }
    match Survey::take(env, dir) {
        Ok(survey) if survey.mark.is_some() => Err(OpenError::Invalid(format!(
            "{} has the files of a log with one partition and the layout of one with several; nothing \
             was changed: move away what does not belong there",
            dir.display()
        ))),
        // It is the guard, as a rule; what else it may be is no log.
        _ => Ok(()),
    }
}

fn check_there(env: &Env, folder: &Path) -> Result<(), OpenError> {
    let exists = env.disk.exists(folder);
    match exists.map_err(|e| io_open(format!("looking for {}", folder.display()), e))? {
        true => Ok(()),
        false => Err(OpenError::Damaged {
            file: MARK_FILE.to_owned(),
            what: "the folder is missing, and with it the events of the partition".to_owned(),
        }),
    }
}

/// What each of several partitions may use.
fn shared(options: Options, layout: &Layout) -> Options {
    let parts = u64::from(layout.partitions());
    let first = (FIRST_SEGMENT / parts).next_power_of_two();
    Options {
        first_segment_bytes: options
            .first_segment_bytes
            .or(Some(first.max(FIRST_SEGMENT_MIN))),
        index_memory: (options.index_memory / layout.partitions() as usize).max(1 << 20),
        queue_bytes_max: (options.queue_bytes_max / layout.partitions() as usize).max(1 << 20),
        reserve_bytes: options.reserve_bytes / parts,
        ..options
    }
}

impl Log for EmbeddedLog {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.log.append(append)
    }

    fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        self.log.append_all(appends)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn watch(&self, from: &Cut) -> EventStream {
        self.log.watch(from)
    }

    fn is_far(&self) -> bool {
        self.log.is_far()
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }

    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    fn takes_appends(&self) -> Result<(), AppendError> {
        self.log.takes_appends()
    }
}
