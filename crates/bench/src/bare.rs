//! The best that a program doing nothing else gets from the disk.
//!
//! Clients copy their data into a shared buffer and wait; whoever commits swaps the buffer
//! for an empty one, writes it with one call into blocks written ahead, and wakes those
//! whose data was in it. Nothing is checked, framed, numbered or indexed, so no log can
//! do less. The next group begins when the disk has answered for the one before.
//!
//! Two ways to write and two ways to commit are tried, and the best is kept: what is
//! fastest differs by disk and by load.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use anabranch_env::{Disk, File, OpenMode, SplitMix64};
use anabranch_log_segment::Durability;
use bytes::Bytes;

use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

/// How a group goes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Through the page cache, then `fdatasync`.
    Buffered,
    /// Past the page cache, durable when the write returns: `O_DIRECT|O_DSYNC`.
    Direct {
        /// What lengths are filled up to a multiple of, in bytes.
        block: usize,
    },
}

/// Who commits a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committer {
    /// A thread of its own.
    Thread,
    /// A client whose data is in the group, in its own task.
    Client,
}

/// One way to run the bare loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// How a group goes to the disk.
    pub method: Method,
    /// Who commits it.
    pub committer: Committer,
}

impl Way {
    /// Those worth trying for this work. One client alone commits its own data: a thread
    /// would only add the way there and back. What need not be durable goes through the
    /// page cache.
    pub fn for_work(workload: &Workload) -> Vec<Self> {
        let methods = match workload.durability {
            Durability::Sync => &[
                Method::Buffered,
                Method::Direct { block: PAGE },
                Method::Direct { block: SECTOR },
            ][..],
            Durability::Interval(_) => &[Method::Buffered],
        };
        let committers = match workload.clients {
            1 => &[Committer::Client][..],
            _ => &[Committer::Thread, Committer::Client],
        };
        let mut ways = Vec::new();
        for &method in methods {
            ways.extend(
                committers
                    .iter()
                    .map(|&committer| Self { method, committer }),
            );
        }
        ways
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffered => f.write_str("buffered"),
            Self::Direct { block } => write!(f, "direct in blocks of {block} bytes"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.committer {
            Committer::Thread => write!(f, "{}, committed by a thread", self.method),
            Committer::Client => write!(f, "{}, committed by the clients", self.method),
        }
    }
}

/// Offsets, lengths and memory that are multiples of this fit every disk's `O_DIRECT`.
const PAGE: usize = 4096;

/// The same for many disks, but not all.
const SECTOR: usize = 512;

/// The size of the file that the loop goes round in: small enough to stay in the page
/// cache, large enough that no disk takes it for one hot spot.
pub const FILE_BYTES: u64 = 256 << 20;

/// Makes the file that a bare loop writes into, its blocks written ahead, so that writing
/// into them again changes no metadata.
pub fn write_ahead(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<(), BenchError> {
    let write = || -> io::Result<()> {
        let file = disk.open(path, OpenMode::Create)?;
        // Not zeros: some virtual disks store a block of zeros as nothing at all.
        let mut rng = SplitMix64::new(bytes);
        let chunk: Vec<u8> = (0..1 << 17)
            .flat_map(|_| rng.next_u64().to_le_bytes())
            .collect();
        let mut at = 0;
        while at < bytes {
            let len = chunk.len().min((bytes - at) as usize);
            file.write_all_at(&chunk[..len], at)?;
            at += len as u64;
        }
        file.sync_data()?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
    };
    write().map_err(BenchError::io(format!("writing {} ahead", path.display())))
}

/// Whether the disk can write this way into the file at `path`, found out by doing it.
pub fn offered(disk: &dyn Disk, path: &Path, way: Way) -> bool {
    let Method::Direct { block } = way.method else {
        return true;
    };
    let mut probe = Group::new(block);
    probe.push(&[1]);
    let written = disk
        .open(path, OpenMode::WriteDirect)
        .and_then(|file| file.write_all_at(probe.blocks(block), block as u64));
    written.is_ok()
}

/// A running bare loop.
pub struct Bare {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    committer: Committer,
    open: Mutex<Open>,
    /// There is data for the thread, or the loop is over.
    arrived: Condvar,
    /// The number of the last group committed.
    committed: AtomicU64,
    failed: OnceLock<String>,
    writer: Mutex<Writer>,
    over: Mutex<bool>,
    ended: Condvar,
}

struct Open {
    /// Takes the clients' data.
    group: Group,
    /// Its number, from 1.
    number: u64,
    /// Empty; takes the place of `group` when that is committed.
    spare: Option<Group>,
    /// Somebody is committing the group before.
    committing: bool,
    /// Whoever of `group` comes first shall commit it.
    leader_wanted: bool,
    /// The thread waits for `arrived`.
    asleep: bool,
    over: bool,
}

impl Open {
    fn take_group(&mut self) -> (u64, Group) {
        let number = self.number;
        self.number += 1;
        let spare = self.spare.take();
        let spare = spare.expect("one group is committed at a time, and its buffer comes back");
        (number, std::mem::replace(&mut self.group, spare))
    }
}

/// Data of several clients, on its way to the disk together.
struct Group {
    memory: Vec<u8>,
    /// Where the memory is aligned to a page.
    start: usize,
    len: usize,
    waiters: Vec<Waker>,
}

impl Group {
    fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity.next_multiple_of(PAGE) + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Self {
            memory,
            start,
            len: 0,
            waiters: Vec::new(),
        }
    }

    fn push(&mut self, data: &[u8]) {
        let at = self.start + self.len;
        self.memory[at..at + data.len()].copy_from_slice(data);
        self.len += data.len();
    }

    /// The data, filled up with zeros to whole blocks.
    fn blocks(&mut self, block: usize) -> &[u8] {
        let (end, full) = (
            self.start + self.len,
            self.start + self.len.next_multiple_of(block),
        );
        self.memory[end..full].fill(0);
        &self.memory[self.start..full]
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

struct Writer {
    file: Arc<dyn File>,
    method: Method,
    durable: bool,
    bytes: u64,
    offset: u64,
}

impl Writer {
    fn write(&mut self, group: &mut Group) -> io::Result<()> {
        let bytes = match self.method {
            Method::Direct { block } => group.blocks(block),
            Method::Buffered => group.bytes(),
        };
        if self.offset + bytes.len() as u64 > self.bytes {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        match self.method {
            Method::Buffered if self.durable => self.file.sync_data(),
            Method::Buffered | Method::Direct { .. } => Ok(()),
        }
    }
}

impl Bare {
    /// Starts a loop over the file at `path`, made by [`write_ahead`] with `bytes` bytes.
    pub fn start(
        disk: &dyn Disk,
        path: &Path,
        bytes: u64,
        workload: &Workload,
        way: Way,
    ) -> Result<Self, BenchError> {
        // In a closed loop no client has more than one append in a group.
        let capacity = workload.clients * workload.append_bytes();
        if capacity.next_multiple_of(PAGE) as u64 > bytes {
            return Err(BenchError::Invalid(format!(
                "{} clients with {} bytes each do not fit into the {} MiB that the bare loop \
                 writes; take fewer clients, smaller batches or smaller events",
                workload.clients,
                workload.append_bytes(),
                bytes >> 20
            )));
        }
        let mode = match way.method {
            Method::Buffered => OpenMode::Write,
            Method::Direct { .. } => OpenMode::WriteDirect,
        };
        let file = disk
            .open(path, mode)
            .map_err(BenchError::io(format!("opening {}", path.display())))?;
        let shared = Arc::new(Shared {
            committer: way.committer,
            open: Mutex::new(Open {
                group: Group::new(capacity),
                number: 1,
                spare: Some(Group::new(capacity)),
                committing: false,
                leader_wanted: false,
                asleep: false,
                over: false,
            }),
            arrived: Condvar::new(),
            committed: AtomicU64::new(0),
            failed: OnceLock::new(),
            writer: Mutex::new(Writer {
                file: Arc::clone(&file),
                method: way.method,
                durable: workload.durability == Durability::Sync,
                bytes,
                offset: 0,
            }),
            over: Mutex::new(false),
            ended: Condvar::new(),
        });
        let mut bare = Self {
            shared,
            threads: Vec::new(),
        };
        if way.committer == Committer::Thread {
            bare.spawn("bare-commit", |shared| shared.commit_all())?;
        }
        if let Durability::Interval(every) = workload.durability {
            bare.spawn("bare-sync", move |shared| shared.sync_every(&*file, every))?;
        }
        Ok(bare)
    }

    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), BenchError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&shared))
            .map_err(BenchError::io(format!("starting the thread {name}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// A client of this loop.
    pub fn client(&self, workload: &Workload, source: EventSource) -> BareClient {
        BareClient {
            shared: Arc::clone(&self.shared),
            source,
            batch: workload.batch,
            data: Vec::with_capacity(workload.batch),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        lock(&self.shared.open).over = true;
        self.shared.arrived.notify_all();
        *lock(&self.shared.over) = true;
        self.shared.ended.notify_all();
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// A client of the bare loop.
pub struct BareClient {
    shared: Arc<Shared>,
    source: EventSource,
    batch: usize,
    data: Vec<Bytes>,
}

impl Client for BareClient {
    fn prepare(&mut self) {
        self.data.clear();
        self.data
            .extend((0..self.batch).map(|_| self.source.data()));
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let mut joined = None;
        poll_fn(|cx| self.shared.poll_append(&mut joined, &self.data, cx)).await
    }
}

impl Shared {
    /// `joined` is the number of the group that took the data, once one has.
    fn poll_append(
        &self,
        joined: &mut Option<u64>,
        data: &[Bytes],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BenchError>> {
        let lead = match *joined {
            None => {
                let mut open = lock(&self.open);
                for bytes in data {
                    open.group.push(bytes);
                }
                *joined = Some(open.number);
                if self.committer == Committer::Thread || open.committing {
                    open.group.waiters.push(cx.waker().clone());
                    let asleep = std::mem::take(&mut open.asleep);
                    drop(open);
                    if asleep {
                        self.arrived.notify_one();
                    }
                    return Poll::Pending;
                }
                open.committing = true;
                open.take_group()
            }
            Some(number) if self.committed.load(Ordering::Acquire) >= number => {
                return Poll::Ready(self.outcome());
            }
            Some(number) => {
                let mut open = lock(&self.open);
                if !open.leader_wanted || open.number != number {
                    // The group still has this client's waker.
                    return Poll::Pending;
                }
                open.leader_wanted = false;
                open.take_group()
            }
        };
        self.commit(lead);
        Poll::Ready(self.outcome())
    }

    fn outcome(&self) -> Result<(), BenchError> {
        match self.failed.get() {
            None => Ok(()),
            Some(reason) => Err(BenchError::Bare(reason.clone())),
        }
    }

    /// Commits one group and sees to it that the next one is committed.
    fn commit(&self, (number, mut group): (u64, Group)) {
        if let Err(error) = lock(&self.writer).write(&mut group) {
            // The first reason counts.
            let _ = self.failed.set(error.to_string());
        }
        self.committed.store(number, Ordering::Release);
        group.len = 0;
        let mut waiters = std::mem::take(&mut group.waiters);
        let mut open = lock(&self.open);
        open.spare = Some(group);
        let leader = open.group.waiters.first().cloned();
        match &leader {
            Some(_) => open.leader_wanted = self.committer == Committer::Client,
            None => open.committing = false,
        }
        drop(open);
        if let Some(leader) = leader
            && self.committer == Committer::Client
        {
            leader.wake();
        }
        waiters.drain(..).for_each(Waker::wake);
        // Keep the list's memory.
        if let Some(spare) = &mut lock(&self.open).spare {
            spare.waiters = waiters;
        }
    }

    fn commit_all(&self) {
        loop {
            let mut open = lock(&self.open);
            while open.group.len == 0 {
                if open.over {
                    return;
                }
                open.asleep = true;
                open = self
                    .arrived
                    .wait(open)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            open.asleep = false;
            let group = open.take_group();
            drop(open);
            self.commit(group);
        }
    }

    fn sync_every(&self, file: &dyn File, every: Duration) {
        let mut over = lock(&self.over);
        while !*over {
            (over, _) = self
                .ended
                .wait_timeout(over, every)
                .unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.sync_data() {
                let _ = self.failed.set(error.to_string());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use anabranch_env::{DiskStats, Env};

    use super::*;
    use crate::append::{Contender, Driven, sources};
    use crate::dir::BenchDir;
    use crate::drive::Length;

    const FILE: u64 = 1 << 20;

    /// Runs a loop until each client has done `appends` appends; gives what the disk
    /// counted meanwhile, and the file.
    async fn run(workload: &Workload, way: Way, appends: u64) -> (DiskStats, Vec<u8>) {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let path = dir.sub("bare").unwrap().join("file");
        let disk = Env::os().disk;
        write_ahead(&*disk, &path, FILE).unwrap();
        blank(&*disk, &path);
        let bare = Bare::start(&*disk, &path, FILE, workload, way).unwrap();
        let clients = sources(workload)
            .map(|s| bare.client(workload, s))
            .collect();
        let mut driven = Driven::new(workload, clients, Some(Arc::clone(&disk)));
        let slice = driven.slice(Length::AppendsEach(appends)).await.unwrap();
        drop((driven, bare));
        let mut bytes = vec![0; FILE as usize];
        let file = disk.open(&path, OpenMode::Read).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        (slice.disk, bytes)
    }

    /// Zeros, so that data can be told from what was written ahead.
    fn blank(disk: &dyn Disk, path: &Path) {
        let file = disk.open(path, OpenMode::Write).unwrap();
        file.write_all_at(&vec![0; FILE as usize], 0).unwrap();
        file.sync_data().unwrap();
    }

    fn crowd() -> Workload {
        Workload {
            clients: 4,
            batch: 2,
            size: 100,
            ..Workload::default()
        }
    }

    fn data_bytes(file: &[u8]) -> usize {
        file.iter().filter(|&&byte| byte != 0).count()
    }

    /// The ways for this work that the disk under the temporary directory offers.
    fn ways(workload: &Workload) -> Vec<Way> {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let path = dir.sub("bare").unwrap().join("file");
        let disk = Env::os().disk;
        write_ahead(&*disk, &path, 8192).unwrap();
        let mut ways = Way::for_work(workload);
        ways.retain(|&way| offered(&*disk, &path, way));
        ways
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_byte_of_every_client_is_in_the_file() {
        for way in ways(&crowd()) {
            let (_, file) = run(&crowd(), way, 25).await;
            assert_eq!(data_bytes(&file), 4 * 2 * 100 * 25, "{way}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_group_is_written_once_and_synced_once() {
        for way in ways(&crowd()) {
            let (disk, _) = run(&crowd(), way, 25).await;
            assert_eq!(disk.writes, disk.syncs, "{way}");
            // At most all clients share a group, at least each append has its own.
            assert!(
                (25..=100).contains(&disk.syncs),
                "{way}: {} syncs",
                disk.syncs
            );
            match way.method {
                Method::Buffered => assert_eq!(disk.bytes_written, 20_000),
                Method::Direct { block } => assert_eq!(disk.bytes_written % block as u64, 0),
            }
        }
    }

    #[tokio::test]
    async fn one_client_alone_syncs_each_of_its_appends() {
        let alone = Workload {
            clients: 1,
            ..crowd()
        };
        let ways = ways(&alone);
        assert!(ways.iter().all(|way| way.committer == Committer::Client));
        for way in ways {
            let (disk, file) = run(&alone, way, 10).await;
            assert_eq!((disk.writes, disk.syncs), (10, 10), "{way}");
            assert_eq!(data_bytes(&file), 2_000, "{way}");
        }
    }

    #[tokio::test]
    async fn what_need_not_be_durable_is_not_synced_each_time() {
        let lazy = Workload {
            durability: Durability::Interval(Duration::from_secs(1)),
            ..crowd()
        };
        for way in Way::for_work(&lazy) {
            let (disk, file) = run(&lazy, way, 10).await;
            assert!(disk.syncs < 10, "{way}: {} syncs", disk.syncs);
            assert_eq!(data_bytes(&file), 8_000, "{way}");
        }
    }

    #[tokio::test]
    async fn the_loop_goes_round_in_its_file() {
        let way = Way {
            method: Method::Buffered,
            committer: Committer::Client,
        };
        let alone = Workload {
            clients: 1,
            batch: 1,
            size: 300 << 10,
            ..Workload::default()
        };
        let (disk, file) = run(&alone, way, 7).await;
        assert_eq!(disk.bytes_written, 7 * (300 << 10));
        assert_eq!(data_bytes(&file), 3 * (300 << 10));
    }

    #[test]
    fn work_that_does_not_fit_into_the_file_is_refused() {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let path = dir.sub("bare").unwrap().join("file");
        let disk = Env::os().disk;
        write_ahead(&*disk, &path, 8192).unwrap();
        let started = Bare::start(&*disk, &path, 8192, &Workload::default(), ways(&crowd())[0]);
        assert!(matches!(started, Err(BenchError::Invalid(_))));
    }

    /// A disk that has gone bad.
    struct Failing(Arc<dyn File>);

    impl File for Failing {
        fn is_at(&self, path: &Path) -> io::Result<bool> {
            self.0.is_at(path)
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
            self.0.write_at(buf, offset)
        }
        fn sync_data(&self) -> io::Result<()> {
            Err(io::Error::other("the disk is gone"))
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
    }

    #[tokio::test]
    async fn a_failed_sync_fails_the_append() {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let path = dir.sub("bare").unwrap().join("file");
        let disk = Env::os().disk;
        write_ahead(&*disk, &path, FILE).unwrap();
        let way = Way {
            method: Method::Buffered,
            committer: Committer::Thread,
        };
        let workload = crowd();
        let bare = Bare::start(&*disk, &path, FILE, &workload, way).unwrap();
        let failing = Failing(disk.open(&path, OpenMode::Write).unwrap());
        lock(&bare.shared.writer).file = Arc::new(failing);
        let clients = sources(&workload)
            .map(|s| bare.client(&workload, s))
            .collect();
        let mut driven = Driven::new(&workload, clients, None);
        let outcome = driven.slice(Length::AppendsEach(1)).await;
        assert!(matches!(outcome, Err(BenchError::Bare(reason)) if reason.contains("gone")));
    }
}
