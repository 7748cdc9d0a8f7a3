use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::SimClock;
use super::crash::{Mood, Survival};
use super::fault::{Calls, Fault, FaultKind, Plan};
use super::rng::SimRng;
use super::tally::{Hit, Tally};
use super::trace::Trace;
use super::tree::{NodeRef, Place, Tree};
use crate::{DiskStats, Env, SplitMix64};

/// A disk in memory that a power cut turns into one of the states that a real one could
/// be in. Cheap to clone; clones are the same disk.
///
/// What is durable when:
/// - file data, in sectors of 512 bytes: by `sync_data` of the file; on a file opened
///   [`OpenMode::WriteDirect`](crate::OpenMode::WriteDirect) when the write returns;
/// - the length of a file: by the same, never by `sync_dir`;
/// - entries of a directory (files and directories made, renamed, removed in it): by
///   `sync_dir` of that directory. A new directory is an entry of its parent, up to the
///   root: a chain that was not synced is lost with all that is below it.
///
/// What is not durable survives a power cut or not, each sector and each entry for itself;
/// sectors also in part. Changes of one name, and lengths of one file, survive in order.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
    pub(super) clock: Arc<SimClock>,
}

pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) locks: BTreeMap<Place, (u64, String)>,
    pub(super) locks_taken: u64,
    /// Rises when the process ends: what it had open is void.
    pub(super) process: u64,
    /// The strike has come; nothing works until `crash` or `kill`.
    struck: bool,
    /// Calls that change something, left before the strike.
    strike_in: Option<u64>,
    /// Calls that change something, so far.
    changes: u64,
    capacity: Option<u64>,
    stale_bytes: bool,
    /// Content of files that were removed last: what recycled blocks may show.
    removed: Vec<Arc<Vec<u8>>>,
    plan: Plan,
    pub(super) rng: SplitMix64,
    pub(super) trace: Trace,
    journal: Option<Vec<String>>,
    pub(super) stats: DiskStats,
    pub(super) tally: Tally,
}

/// What is to become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    /// Do some of it, then fail: the end came in its midst.
    Cut,
    Fail(FaultKind),
}

impl SimDisk {
    /// An empty disk whose chances come from `seed`.
    pub fn new(seed: u64, clock: Arc<SimClock>) -> Self {
        let state = State {
            tree: Tree::new(),
            locks: BTreeMap::new(),
            locks_taken: 0,
            process: 0,
            struck: false,
            strike_in: None,
            changes: 0,
            capacity: None,
            stale_bytes: false,
            removed: Vec::new(),
            plan: Plan::default(),
            rng: SplitMix64::new(seed ^ 0x5349_4d44_4953_4b00),
            trace: Trace::new(seed),
            journal: None,
            stats: DiskStats::default(),
            tally: Tally::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
            clock,
        }
    }

    /// This disk, its clock and random numbers from `seed`, for an engine to run on.
    pub fn env(&self, seed: u64) -> Env {
        Env {
            disk: Arc::new(self.clone()),
            clock: self.clock.clone(),
            rng: Arc::new(SimRng::new(seed)),
        }
    }

    /// Whether `path` names this file.
    pub(super) fn names(&self, path: &Path, node: &NodeRef) -> io::Result<bool> {
        let place = place(path)?;
        let state = self.state();
        let found = state.tree.file(&place);
        Ok(found.is_some_and(|found| Arc::ptr_eq(found, node)))
    }

    /// The clock that slow calls advance.
    pub fn clock(&self) -> &Arc<SimClock> {
        &self.clock
    }

    /// An independent copy of the disk with all that is durable and not, to try out
    /// another future. Costs little: content is shared until one side writes. The copy's
    /// clock shows the same times; faults by plan stay behind.
    pub fn fork(&self) -> Self {
        let state = self.state();
        let mut copies: BTreeMap<usize, NodeRef> = BTreeMap::new();
        let tree = state.tree.fork(|node| {
            copies
                .entry(Arc::as_ptr(node) as usize)
                .or_insert_with(|| Arc::new(Mutex::new(lock(node).clone())))
                .clone()
        });
        let fork = State {
            tree,
            locks: state.locks.clone(),
            plan: Plan::default(),
            removed: state.removed.clone(),
            rng: state.rng.clone(),
            trace: state.trace.clone(),
            journal: state.journal.clone(),
            tally: Tally::new(),
            ..*state
        };
        Self {
            shared: Arc::new(Mutex::new(fork)),
            clock: Arc::new(self.clock.fork()),
        }
    }

    /// The power is cut: turns the disk into one state that it may be in then. Open files
    /// and locks are void, a strike that was still to come is off; faults by plan stay.
    pub fn crash(&self, survival: Survival) {
        let mut state = self.state();
        let state = &mut *state;
        let mut rng = match survival {
            Survival::Any(seed) => SplitMix64::new(seed),
            _ => SplitMix64::new(0),
        };
        let mood = |rng: &mut SplitMix64| match survival {
            Survival::Nothing => Mood::NOTHING,
            Survival::Everything => Mood::EVERYTHING,
            Survival::Any(_) => Mood::draw(rng),
        };
        let disk_mood = mood(&mut rng);
        let nodes = state.tree.nodes();
        let tree_mood = mood(&mut rng);
        let renamed = state.tree.crash(&mut rng, &tree_mood, &mut state.tally);
        let stale = match state.removed.as_slice() {
            [] => None,
            files if state.stale_bytes => Some(&files[rng.below(files.len() as u64) as usize]),
            _ => None,
        };
        for node in nodes {
            let own = if rng.one_in(2) {
                mood(&mut rng)
            } else {
                disk_mood.clone()
            };
            let stale = stale.map(|bytes| bytes.as_slice());
            let data_lost = lock(&node).crash(&mut rng, &own, stale, &mut state.tally);
            if data_lost && renamed.iter().any(|r| Arc::ptr_eq(r, &node)) {
                state.tally.hit(Hit::RenameBeforeData);
            }
        }
        state.trace.number(rng.next_u64());
        state.end_process(Hit::PowerCut);
    }

    /// The process ends: open files and locks are void, all written bytes stay, synced or
    /// not.
    pub fn kill(&self) {
        self.state().end_process(Hit::Kill);
    }

    /// Strikes at the `n`-th call from now that changes or syncs something, from 1. That
    /// call is done in part and fails; all later calls fail, until [`SimDisk::crash`] or
    /// [`SimDisk::kill`] says what it was.
    pub fn strike_at(&self, n: u64) {
        self.state().strike_in = Some(n.max(1));
    }

    /// Calls off a strike that has not come.
    pub fn call_off(&self) {
        self.state().strike_in = None;
    }

    /// Whether the strike has come.
    pub fn is_struck(&self) -> bool {
        self.state().struck
    }

    /// How many calls changed or synced something so far: what [`SimDisk::strike_at`]
    /// counts.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Adds a fault to the plan.
    pub fn inject(&self, fault: Fault) {
        self.state().plan.add(fault);
    }

    /// Drops all faults by plan, so that the disk is sound again.
    pub fn clear_faults(&self) {
        self.state().plan.clear();
    }

    /// Limits what the files may hold together, in bytes; `None` is no limit. May be below
    /// what they hold.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// What the files hold together, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Whether a power cut may show bytes of removed files where a grown file lost its
    /// data, as disks without ordered metadata do. Off at first.
    pub fn set_stale_bytes(&self, on: bool) {
        self.state().stale_bytes = on;
    }

    /// The cache forgets what a failed sync left clean, so that reads show what the disk
    /// has.
    pub fn evict(&self) {
        for node in self.state().tree.nodes() {
            lock(&node).evict();
        }
    }

    /// A hash of every call so far, its bytes included.
    pub fn trace(&self) -> u64 {
        self.state().trace.value()
    }

    /// From now on notes every call as a line of text.
    pub fn keep_journal(&self) {
        self.state().journal = Some(Vec::new());
    }

    /// The lines noted since the last time.
    pub fn take_journal(&self) -> Vec<String> {
        let journal = self.state().journal.as_mut().map(std::mem::take);
        journal.unwrap_or_default()
    }

    /// What happened to the disk so far.
    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    pub(super) fn with_tree<T>(
        &self,
        change: impl FnOnce(&mut Tree, &mut Tally) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let state = &mut *state;
        change(&mut state.tree, &mut state.tally)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Directory and name of a path below the root. `/a/b` and `a/b` are the same.
pub(super) fn place(path: &Path) -> io::Result<Place> {
    let path = normal(path);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((dir, name))
}

pub(super) fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

pub(super) fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

pub(super) fn missing(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{}: no such file or directory", path.display()),
    )
}

impl State {
    fn end_process(&mut self, how: Hit) {
        self.tally.hit(how);
        self.process += 1;
        self.struck = false;
        self.strike_in = None;
        self.locks.clear();
        self.trace.number(how as u64);
        self.note(|| format!("-- {}", how.text()));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(line());
        }
    }

    /// Counts a call and decides what becomes of it.
    pub(super) fn begin(
        &mut self,
        clock: &SimClock,
        call: Calls,
        file: &str,
        range: (u64, u64),
    ) -> io::Result<Verdict> {
        if self.struck {
            return Err(power_cut());
        }
        self.trace.number(call.bits());
        self.trace.bytes(file.as_bytes());
        self.trace.number(range.0);
        self.trace.number(range.1);
        let mut verdict = Verdict::Proceed;
        if Calls::STRIKE.meets(call) {
            self.changes += 1;
            if let Some(left) = &mut self.strike_in {
                *left -= 1;
                if *left == 0 {
                    self.strike_in = None;
                    self.struck = true;
                    verdict = Verdict::Cut;
                }
            }
        }
        if verdict == Verdict::Proceed {
            self.plan.strike(call, file, &mut self.rng, |kind| {
                if let FaultKind::Slow(by) = kind {
                    clock.advance(by);
                    self.tally.hit(Hit::Slow);
                } else if verdict == Verdict::Proceed {
                    verdict = Verdict::Fail(kind);
                }
            });
        } else {
            self.tally.hit(Hit::CallCut);
        }
        self.note(|| format!("{call:?} {file} {range:?} {verdict:?}"));
        Ok(verdict)
    }

    /// The error of a fault that leaves nothing done, if it is one.
    pub(super) fn refuse(&mut self, kind: FaultKind, io_hit: Hit) -> Option<io::Error> {
        let (hit, code) = match kind {
            FaultKind::Io | FaultKind::LostPages => (io_hit, libc::EIO),
            FaultKind::NoSpace => (Hit::NoSpace, libc::ENOSPC),
            FaultKind::ReadOnly => (Hit::ReadOnly, libc::EROFS),
            FaultKind::TooManyFiles => (Hit::TooManyFiles, libc::EMFILE),
            FaultKind::Interrupted => (Hit::Interrupted, libc::EINTR),
            _ => return None,
        };
        self.tally.hit(hit);
        Some(errno(code))
    }

    /// Begins a call on directories: true when it is cut, and must fail once done.
    pub(super) fn begin_entry(
        &mut self,
        clock: &SimClock,
        call: Calls,
        file: &str,
    ) -> io::Result<bool> {
        match self.begin(clock, call, file, (0, 0))? {
            Verdict::Proceed => Ok(false),
            Verdict::Cut => Ok(true),
            Verdict::Fail(kind) => match self.refuse(kind, Hit::OtherError) {
                Some(error) => Err(error),
                None => Ok(false),
            },
        }
    }

    fn used_bytes(&self) -> u64 {
        self.tree
            .files()
            .map(|(_, _, node)| lock(node).len() as u64)
            .sum()
    }

    /// How many of `wanted` further bytes fit.
    pub(super) fn room(&self, wanted: u64) -> u64 {
        match self.capacity {
            Some(capacity) => capacity.saturating_sub(self.used_bytes()).min(wanted),
            None => wanted,
        }
    }

    pub(super) fn forget(&mut self, node: &NodeRef) {
        if self.stale_bytes {
            const KEPT: usize = 4;
            if self.removed.len() == KEPT {
                self.removed.remove(0);
            }
            self.removed.push(lock(node).bytes().clone());
        }
    }
}

pub(super) fn done(cut: bool) -> io::Result<()> {
    if cut { Err(power_cut()) } else { Ok(()) }
}
