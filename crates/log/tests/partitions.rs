//! What a log of several partitions promises beyond the contract.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anabranch_env::sim::{SimClock, SimDisk};
use anabranch_env::{Clock, Disk, Env, File, OpenMode};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, CausalClock, EventStream, Expect,
    Layout, Log, MemoryLog, Order, PartitionedLog, Placed, ReadError, ReadMode, VersionRange,
    in_order_of_time,
};
use anabranch_model::{Cut, Event, EventId, Filter, NewEvent, StreamId};
use futures_executor::block_on;

/// A clock that somebody sets back again and again.
struct SetBack(AtomicU64);

impl Clock for SetBack {
    fn wall_micros(&self) -> u64 {
        self.0.fetch_sub(3_600_000_000, Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// With a clock that begins so many microseconds after 1970.
fn env_from(micros: u64) -> Env {
    Env {
        clock: Arc::new(SetBack(AtomicU64::new(micros))),
        ..Env::os()
    }
}

fn env() -> Env {
    env_from(1_800_000_000_000_000)
}

fn layout() -> Layout {
    Layout::new(Vec::new(), 4).expect("a layout")
}

/// Events of different streams, each of which depends on the one before.
fn story(log: &dyn Log, numbers: std::ops::Range<u128>) {
    let mut token = block_on(log.head()).expect("the log has a head");
    for n in numbers {
        let stream = format!("order/{n}").parse().expect("a stream id");
        let kind = "OrderPlaced".parse().expect("an event type");
        let mut event = NewEvent::new(EventId::from_u128(n), stream, kind, "{}");
        event.meta_mut().causes = token.clone();
        let appended =
            block_on(log.append(Append::event(event))).expect("nothing stands against it");
        token.join(&appended.closure);
    }
}

fn read(log: &dyn Log, from: &Cut, mode: ReadMode) -> Vec<Event> {
    let mut events = log.read(from, Filter::all(), mode);
    std::iter::from_fn(|| block_on(events.next()))
        .map(|event| event.expect("the log reads"))
        .collect()
}

fn in_order(mut events: Vec<Event>) -> Vec<u128> {
    events.sort_by_key(|event| (event.recorded_at, event.position));
    events.iter().map(|event| event.id.as_u128()).collect()
}

#[test]
fn by_time_nothing_comes_before_its_cause_though_the_wall_clock_is_set_back() {
    let log = PartitionedLog::in_memory(&env(), layout());
    story(&log, 0..60);
    let forward = read(&log, &Cut::start(), ReadMode::ToHead);
    assert_eq!(in_order(forward), (0..60).collect::<Vec<_>>());
    let head = block_on(log.head()).expect("the log has a head");
    let backward = read(&log, &head, ReadMode::Backward);
    let backward: Vec<_> = backward.iter().map(|event| event.id.as_u128()).collect();
    assert_eq!(backward, (0..60).rev().collect::<Vec<_>>());
}

/// Partitions in memory, which stay when the log that they make is opened again.
fn parts(clock: &Arc<CausalClock>) -> Vec<Arc<dyn Log>> {
    let env = Env {
        clock: clock.clone(),
        ..Env::os()
    };
    let part = |_| Arc::new(MemoryLog::new(env.clone())) as Arc<dyn Log>;
    layout().ids().map(part).collect()
}

#[test]
fn time_goes_on_behind_what_was_recorded_when_a_log_is_opened_again() {
    let open = |parts| PartitionedLog::open(layout(), parts).expect("the partitions are whole");
    let ahead = Arc::new(CausalClock::new(env().clock));
    let parts = parts(&ahead);
    story(&open(parts.clone()), 0..20);
    // The wall clock was far ahead, and now it is right.
    let right = CausalClock::new(env_from(1_700_000_000_000_000).clock);
    open(parts).go_on(&right).expect("the log reads");
    assert!(right.wall_micros() >= ahead.wall_micros());
}

/// Opens a log on files of the disk that keep its causes.
fn open_kept(disk: &SimDisk, parts: &[Arc<dyn Log>]) -> PartitionedLog {
    let file = |partition: usize| -> Arc<dyn File> {
        let path = Path::new(DIR).join(partition.to_string());
        let mode = match disk.exists(&path).expect("the disk answers") {
            true => OpenMode::Write,
            false => OpenMode::Create,
        };
        disk.open(&path, mode).expect("a file")
    };
    let files = (0..parts.len()).map(file).collect();
    PartitionedLog::open_kept(layout(), parts.to_vec(), files, None)
        .expect("the partitions are whole")
}

const DIR: &str = "/causes";

fn disk() -> SimDisk {
    let disk = SimDisk::new(1, Arc::new(SimClock::new()));
    disk.create_dir(Path::new(DIR)).expect("a directory");
    disk
}

/// What an append to each partition says that it depends on.
fn closures(log: &PartitionedLog, numbers: std::ops::Range<u128>) -> Vec<Cut> {
    let closure = |n: u128| {
        let stream = format!("order/{}", n % 20).parse().expect("a stream id");
        let kind = "OrderPlaced".parse().expect("an event type");
        let event = NewEvent::new(EventId::from_u128(n), stream, kind, "{}");
        let appended = block_on(log.append(Append::event(event)));
        appended.expect("nothing stands against it").closure
    };
    numbers.map(closure).collect()
}

/// What is done to a file, and in words.
type Spoil<'a> = (&'a str, &'a dyn Fn(&SimDisk, &Path));

#[test]
fn what_is_kept_of_causes_may_be_damaged_or_of_another_log_and_nothing_is_lost() {
    let clock = Arc::new(CausalClock::new(env().clock));
    let spoil: [Spoil<'_>; 5] = [
        ("left as it is", &|_, _| {}),
        ("flipped at its begin", &|disk, path| {
            disk.flip_bit(path, 3, 1).expect("it is there");
        }),
        ("flipped in its middle", &|disk, path| {
            let len = disk.content(path).expect("it is there").len() as u64;
            disk.flip_bit(path, len / 2, 1).expect("it is there");
        }),
        ("cut short", &|disk, path| {
            let len = disk.content(path).expect("it is there").len() as u64;
            disk.truncate(path, len - 30).expect("it is there");
        }),
        ("of another log", &|disk, path| {
            let (other, clock) = (self::disk(), Arc::new(CausalClock::new(env().clock)));
            // As long, and of events that depend on nothing.
            closures(&open_kept(&other, &parts(&clock)), 1_000..1_040);
            let content = other.content(path).expect("it is there");
            disk.plant(path, &content).expect("it can be written");
        }),
    ];
    for (what, spoil) in spoil {
        let (disk, parts) = (disk(), parts(&clock));
        story(&open_kept(&disk, &parts), 0..60);
        for partition in 0..parts.len() {
            let path = Path::new(DIR).join(partition.to_string());
            if !disk.content(&path).expect("it is there").is_empty() {
                spoil(&disk, &path);
            }
        }
        let rebuilt = PartitionedLog::open(layout(), parts.clone()).expect("it is whole");
        let due = closures(&rebuilt, 100..120);
        drop(rebuilt);
        let kept = open_kept(&disk, &parts);
        for (closure, due) in closures(&kept, 120..140).iter().zip(&due) {
            let said = |cut: &Cut| cut.iter().count();
            assert!(
                said(closure) >= said(due),
                "{what}: {closure} is less than {due}"
            );
        }
        let token = block_on(kept.head()).expect("the log has a head");
        let all = read(&kept, &Cut::start(), ReadMode::ToHead);
        assert_eq!(
            all.len() as u64,
            token.iter().map(|(_, count)| count).sum::<u64>()
        );
    }
}

/// A partition that says of its appends that it does not know, and writes them when it is asked.
struct Late {
    log: MemoryLog,
    is_late: AtomicBool,
    waiting: Mutex<Vec<Append>>,
}

impl Late {
    async fn catch_up(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("nobody panics"));
        for append in waiting {
            self.log.append(append).await.expect("it can be written");
        }
    }
}

impl Log for Late {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        if !self.is_late.load(Ordering::Relaxed) {
            return self.log.append(append);
        }
        self.waiting.lock().expect("nobody panics").push(append);
        let reason = "it takes too long".to_owned();
        Box::pin(async { Err(AppendError::Unknown { reason }) })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        Box::pin(async move {
            self.catch_up().await;
            self.log.find(id).await
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

fn event(id: u128, stream: &str) -> NewEvent {
    let stream = StreamId::system(stream).expect("a stream id");
    let kind = "Happened".parse().expect("an event type");
    NewEvent::new(EventId::from_u128(id), stream, kind, "{}")
}

#[test]
fn a_condition_waits_for_what_may_still_be_written() {
    let fence = StreamId::system("$fence/1").expect("a stream id");
    let late = Arc::new(Late {
        log: MemoryLog::new(env()),
        is_late: AtomicBool::new(false),
        waiting: Mutex::default(),
    });
    let layout = Layout::new(Vec::new(), 1).expect("a layout");
    let parts: Vec<Arc<dyn Log>> = vec![late.clone(), Arc::new(MemoryLog::new(env()))];
    let log = PartitionedLog::open(layout, parts).expect("the partitions are whole");
    let append = |append| block_on(log.append(append));
    append(Append::event(event(1, "$fence/1"))).expect("it can be written");
    let fenced = |id| Append::event(event(id, "order/1")).expect(fence.clone(), Expect::At(0));
    append(fenced(2)).expect("the fence stands at 0");
    late.is_late.store(true, Ordering::Relaxed);
    let moved = append(Append::event(event(3, "$fence/1")));
    assert!(
        matches!(moved, Err(AppendError::Unknown { .. })),
        "{moved:?}"
    );
    let refused = append(fenced(4)).expect_err("the fence has moved meanwhile");
    assert!(refused.is_conflict(), "{refused}");
}

#[test]
fn an_append_that_was_given_up_keeps_nobody_out() {
    let log = PartitionedLog::in_memory(&env(), Layout::new(Vec::new(), 1).expect("a layout"));
    let fence = StreamId::system("$fence/1").expect("a stream id");
    let fenced = |id| Append::event(event(id, "order/1")).expect(fence.clone(), Expect::Empty);
    drop(log.append(fenced(1)));
    block_on(log.append(Append::event(event(2, "$fence/1")))).expect("nobody looks at it");
    let refused = block_on(log.append(fenced(3))).expect_err("the fence is there");
    assert!(refused.is_conflict(), "{refused}");
}

#[test]
fn a_reader_who_follows_is_told_how_far_there_is_nothing_for_it() {
    let log = PartitionedLog::in_memory(&env(), layout());
    let mut follow = log.read(&Cut::start(), Filter::category("stock"), ReadMode::Follow);
    story(&log, 0..20);
    let head = block_on(log.head()).expect("the log has a head");
    let mut reached = Cut::start();
    while !reached.covers(&head) {
        // It is there already: nobody has to be waited for.
        let batch = poll_once(follow.next_batch()).expect("it says how far there is nothing");
        let batch = batch.expect("it goes on").expect("the log reads");
        assert_eq!(batch.iter().count(), 0);
        let reach = batch.reach().expect("it says how far it reaches");
        reach.pass(&mut reached);
    }
}

#[test]
fn all_events_of_a_cut_have_one_order_by_time_which_is_causal() {
    let log = PartitionedLog::in_memory(&env(), layout());
    story(&log, 0..300);
    let until = block_on(log.head()).expect("the log has a head");
    story(&log, 300..600);
    let mut events = in_order_of_time(&log, &until);
    let mut given = Cut::start();
    let mut last = None;
    while let Some(event) = block_on(events.next()) {
        let event = event.expect("the log reads");
        let place = Some((event.recorded_at, event.position));
        assert!(last < place, "{place:?} behind {last:?}");
        last = place;
        given.join(&Cut::including(event.position));
        let causes = event.meta().causes().expect("what was written");
        assert!(given.covers(&causes), "an effect before its cause");
    }
    assert_eq!(given, until);
}

/// What a future gives at once.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
