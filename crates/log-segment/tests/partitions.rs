//! A log with several partitions in one directory: how it is made, opened, refused and looked after.

mod support;

use std::path::Path;

use anabranch_env::Env;
use anabranch_env::sim::{self, Survival};
use anabranch_log::{Append, Layout, Log, OpenError, ReadMode};
use anabranch_log_segment::{
    Background, EmbeddedLog, Options, SegmentLog, WriteMethod, backup, create, info, layout_of,
    plan_repair, restore, verify,
};
use anabranch_model::{Cut, EventId, Filter, NewEvent, PartitionId, StreamId};
use futures_executor::block_on;

use support::{TempDir, small};

fn layout() -> Layout {
    let groups = ["trade=order,payment:3", "stock=stock:2"];
    let groups = groups.map(|group| group.parse().unwrap());
    Layout::new(groups.into(), 1).unwrap()
}

fn made() -> TempDir {
    let dir = TempDir::new();
    create(&Env::os(), &dir.0, &layout()).unwrap();
    dir
}

fn open(dir: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(Env::os(), &dir.0, small()).unwrap()
}

fn refused(dir: &Path) -> String {
    let reading = EmbeddedLog::open_read_only(Env::os(), dir, small());
    let reading = reading.err().expect("it is not read").to_string();
    let writing = EmbeddedLog::open(Env::os(), dir, small());
    let writing = writing.err().expect("it is not opened").to_string();
    assert_eq!(reading, writing);
    writing
}

fn event(id: u128, stream: &str) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(id),
        StreamId::new(stream).unwrap(),
        "Happened".parse().unwrap(),
        r#"{"a": 1}"#,
    )
}

/// Appends an event to each of so many orders and as many products; each of these is caused by what
/// is before.
fn fill(log: &EmbeddedLog, from: u128, count: u128) {
    let mut closure = block_on(log.head()).unwrap();
    for n in from..from + count {
        for (id, stream) in [
            (2 * n, format!("order/{n}")),
            (2 * n + 1, format!("stock/{n}")),
        ] {
            let mut event = event(id, &stream);
            event.meta_mut().causes = closure;
            closure = block_on(log.append(Append::event(event))).unwrap().closure;
        }
    }
}

fn ids(log: &dyn Log) -> Vec<EventId> {
    block_on(async {
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut ids = Vec::new();
        while let Some(event) = events.next().await {
            ids.push(event.unwrap().id);
        }
        ids
    })
}

/// The names and bytes of all files, but for what says who has them open.
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().unwrap() != "lock" {
                let name = path.to_string_lossy().into_owned();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn remove(path: impl AsRef<Path>) {
    let path = path.as_ref();
    match path.is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn flip(path: impl AsRef<Path>, at: usize) {
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_keeps_the_layout_that_it_was_made_with() {
    let dir = made();
    assert_eq!(layout_of(&Env::os(), &dir.0).unwrap(), layout());
    let log = open(&dir);
    assert_eq!(log.layout(), layout());
    fill(&log, 0, 20);
    let before = ids(&log);
    log.close().unwrap();
    let log = open(&dir);
    assert_eq!(log.layout(), layout());
    assert_eq!(ids(&log), before);
    assert_eq!(log.notes(), [""; 0]);
}

#[test]
fn each_event_stands_in_the_partition_of_its_stream() {
    let dir = made();
    let log = open(&dir);
    fill(&log, 0, 50);
    let partitions = block_on(async {
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut seen = std::collections::BTreeSet::new();
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            let stream = StreamId::new(event.stream()).unwrap();
            assert_eq!(event.position.partition, layout().partition_of(&stream));
            seen.insert(event.position.partition.0);
        }
        seen
    });
    assert_eq!(partitions.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    log.close().unwrap();
    let info = info(Env::os(), &dir.0).unwrap();
    assert_eq!(info.events, 100);
    assert_eq!(info.parts[0].events, 0);
    assert_eq!(info.parts.len(), 7);
    assert!(info.clean);
}

#[test]
fn a_log_that_is_there_is_not_made_again() {
    let dir = made();
    let before = files(&dir.0);
    let again = create(&Env::os(), &dir.0, &layout()).unwrap_err();
    assert!(again.to_string().contains("holds a log already"), "{again}");
    assert_eq!(files(&dir.0), before);

    let one = TempDir::new();
    drop(EmbeddedLog::open(Env::os(), &one.0, small()).unwrap());
    let again = create(&Env::os(), &one.0, &layout()).unwrap_err();
    assert!(again.to_string().contains("one partition"), "{again}");
}

#[test]
fn a_log_with_one_partition_is_the_one_that_an_opening_makes() {
    let dir = TempDir::new();
    create(&Env::os(), &dir.0, &Layout::one()).unwrap();
    assert_eq!(layout_of(&Env::os(), &dir.0).unwrap(), Layout::one());
    let log = SegmentLog::open(Env::os(), &dir.0, small()).unwrap();
    block_on(log.append(Append::event(event(1, "order/1")))).unwrap();
    drop(log);
    let log = open(&dir);
    assert!(log.capabilities().total_order);
    assert_eq!(ids(&log).len(), 1);
}

#[test]
fn one_process_writes_to_all_partitions() {
    let dir = made();
    let log = open(&dir);
    let second = EmbeddedLog::open(Env::os(), &dir.0, small()).err().unwrap();
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    let pid = format!("pid {}", std::process::id());
    assert!(second.to_string().contains(&pid), "{second}");
    log.close().unwrap();
    open(&dir);
}

#[test]
fn a_layout_that_is_damaged_missing_or_newer_is_refused_and_nothing_is_changed() {
    let dir = made();
    fill(&open(&dir), 0, 5);
    let spoilt = |spoil: &dyn Fn(&Path), words: &str| {
        let copy = TempDir::new();
        copy_all(&dir.0, &copy.0);
        spoil(&copy.0);
        let before = files(&copy.0);
        let what = refused(&copy.0);
        assert!(what.contains(words), "{what}");
        for what in [
            create(&Env::os(), &copy.0, &layout()).err(),
            verify(Env::os(), &copy.0, &mut |_| {}).err(),
            plan_repair(Env::os(), &copy.0).err(),
            info(Env::os(), &copy.0).err(),
        ] {
            assert!(what.unwrap().to_string().contains(words));
        }
        assert_eq!(files(&copy.0), before);
    };
    spoilt(&|dir| flip(dir.join("layout"), 30), "is damaged");
    spoilt(&|dir| remove(dir.join("layout")), "no file layout");
    let newer = |dir: &Path| {
        // Its checksum is right for it.
        let text = "anabranch-layout 9\nfrom the future\n";
        let checksum = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
        write(
            &dir.join("layout"),
            &format!("{text}checksum {checksum:032x}\n"),
        );
    };
    spoilt(&newer, "layout has format version 9");
}

#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn copy_all(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(Path::new(&name).strip_prefix(from).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn a_folder_that_is_gone_or_in_the_place_of_another_is_refused() {
    let dir = made();
    fill(&open(&dir), 0, 5);
    let gone = TempDir::new();
    copy_all(&dir.0, &gone.0);
    remove(gone.0.join("partition-2"));
    let what = refused(&gone.0);
    assert!(
        what.contains("partition-2/mark: the folder is missing"),
        "{what}"
    );

    let swapped = TempDir::new();
    copy_all(&dir.0, &swapped.0);
    let folder = |name: &str| swapped.0.join(name);
    for (from, to) in [
        ("partition-1", "aside"),
        ("partition-2", "partition-1"),
        ("aside", "partition-2"),
    ] {
        std::fs::rename(folder(from), folder(to)).unwrap();
    }
    let what = refused(&swapped.0);
    assert!(what.contains("partition-1/mark"), "{what}");
    assert!(what.contains("of another partition"), "{what}");
    let report = verify(Env::os(), &swapped.0, &mut |_| {}).unwrap();
    assert_eq!(report.damages.len(), 2);
}

#[test]
fn a_partition_is_not_opened_as_a_log_of_its_own() {
    let dir = made();
    let what = refused(&dir.0.join("partition-3"));
    assert!(what.contains("is one partition of the log in"), "{what}");
}

#[test]
fn a_program_that_knows_of_one_partition_only_makes_no_log_beside_the_others() {
    let dir = made();
    // As it was before there were partitions.
    let old = SegmentLog::open(Env::os(), &dir.0, Options::default()).err();
    let old = old.unwrap();
    assert!(matches!(old, OpenError::NewerFormat { .. }), "{old}");
    // Whoever has removed that gets it back.
    remove(dir.0.join("mark"));
    drop(open(&dir));
    assert!(Env::os().disk.exists(&dir.0.join("mark")).unwrap());
}

#[test]
fn a_backup_of_several_partitions_is_the_log_again() {
    let (dir, copy, back) = (made(), TempDir::new(), TempDir::new());
    let log = open(&dir);
    fill(&log, 0, 30);
    log.close().unwrap();
    let report = backup(Env::os(), &dir.0, &copy.0, &mut |_| {}).unwrap();
    assert_eq!(report.events, 60);
    fill(&open(&dir), 100, 30);
    let report = backup(Env::os(), &dir.0, &copy.0, &mut |_| {}).unwrap();
    assert_eq!(report.events, 120);

    let what = EmbeddedLog::open_read_only(Env::os(), &copy.0, small()).err();
    assert!(what.is_some(), "a backup is no log");
    restore(Env::os(), &copy.0, &back.0, &mut |_| {}).unwrap();
    assert_eq!(ids(&open(&back)), ids(&open(&dir)));
    assert_eq!(layout_of(&Env::os(), &back.0).unwrap(), layout());
    let again = restore(Env::os(), &copy.0, &back.0, &mut |_| {}).unwrap_err();
    assert!(again.to_string().contains("is not empty"), "{again}");
    assert!(verify(Env::os(), &back.0, &mut |_| {}).unwrap().is_clean());
}

#[test]
fn a_backup_in_which_partitions_do_not_fit_together_is_refused() {
    let (dir, old, copy, back) = (made(), TempDir::new(), TempDir::new(), TempDir::new());
    fill(&open(&dir), 0, 30);
    backup(Env::os(), &dir.0, &copy.0, &mut |_| {}).unwrap();
    copy_all(&copy.0, &old.0);
    fill(&open(&dir), 100, 30);
    backup(Env::os(), &dir.0, &copy.0, &mut |_| {}).unwrap();
    // As if the second one had been interrupted before its end.
    remove(copy.0.join("backup.manifest"));
    copy_file(
        &old.0.join("backup.manifest"),
        &copy.0.join("backup.manifest"),
    );
    let what = restore(Env::os(), &copy.0, &back.0, &mut |_| {}).unwrap_err();
    assert!(what.to_string().contains("was interrupted"), "{what}");
    let what = refused(&back.0);
    assert!(what.contains("no file layout"), "{what}");
    // The end of the second one mends it.
    backup(Env::os(), &dir.0, &copy.0, &mut |_| {}).unwrap();
    remove(&back.0);
    restore(Env::os(), &copy.0, &back.0, &mut |_| {}).unwrap();
    assert_eq!(ids(&open(&back)).len(), 120);
}

#[expect(clippy::disallowed_methods, reason = "a test spoils files")]
fn copy_file(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[test]
fn damage_is_named_with_its_partition_and_mended_there() {
    let dir = made();
    let log = open(&dir);
    fill(&log, 0, 30);
    let head = block_on(log.head()).unwrap();
    log.close().unwrap();
    let segment = dir.0.join("partition-2/0000000001.seg");
    // In the first frame, and the rest stays.
    flip(&segment, 8_192 + 60);
    let report = verify(Env::os(), &dir.0, &mut |_| {}).unwrap();
    assert_eq!(report.lost(), 1);
    let damage = report.damages.iter().find(|damage| damage.events.is_some());
    let damage = damage.unwrap();
    assert_eq!(damage.file, "partition-2/0000000001.seg");
    assert_eq!(damage.events.unwrap().0.to_string(), "2:0");
    let plan = plan_repair(Env::os(), &dir.0).unwrap();
    assert_eq!(plan.lost(), 1);
    assert_eq!(plan.losses[0].first.to_string(), "2:0");
    let told: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("partition-2/0000000001.seg"), "{told:?}");
    plan.apply(Env::os()).unwrap();
    assert!(verify(Env::os(), &dir.0, &mut |_| {}).unwrap().is_clean());
    assert!(plan_repair(Env::os(), &dir.0).unwrap().is_empty());
    let log = open(&dir);
    let mended = block_on(log.head()).unwrap();
    assert_eq!(mended.get(PartitionId(2)), head.get(PartitionId(2)));
}

#[test]
fn beside_a_writer_no_reader_sees_an_effect_without_its_cause() {
    let dir = made();
    let log = open(&dir);
    fill(&log, 0, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..40 {
                fill(&log, round * 10, 10);
            }
            stop.store(true, std::sync::atomic::Ordering::Release);
        });
        let reader = EmbeddedLog::open_read_only(Env::os(), &dir.0, small()).unwrap();
        while !stop.load(std::sync::atomic::Ordering::Acquire) {
            // Another opening looks at the partitions one after another too.
            let other = EmbeddedLog::open_read_only(Env::os(), &dir.0, small());
            for log in [&reader, &other.unwrap()] {
                let head = block_on(log.head()).unwrap();
                // Each event is caused by the one before it.
                let seen: Vec<u128> = ids(log).into_iter().map(EventId::as_u128).collect();
                let chain: Vec<u128> = (0..2).chain(20..).take(seen.len()).collect();
                assert_eq!(seen, chain, "{head}");
                let counts: u64 = head.iter().map(|(_, count)| count).sum();
                assert!(seen.len() as u64 >= counts, "{head}");
            }
        }
    });
    let reader = EmbeddedLog::open_read_only(Env::os(), &dir.0, small()).unwrap();
    assert_eq!(ids(&reader), ids(&log));
}

#[test]
fn by_time_no_event_stands_before_its_cause_though_the_clock_is_set_back() {
    let (env, _, clock) = sim::env(7);
    create(&env, "log", &layout()).unwrap();
    for day in [20, 3] {
        clock.set_wall_micros(day * 86_400_000_000);
        let log = EmbeddedLog::open(env.clone(), "log", simulated()).unwrap();
        fill(&log, day.into(), 3);
        log.close().unwrap();
    }
    let log = EmbeddedLog::open_read_only(env, "log", simulated()).unwrap();
    let times: Vec<u64> = block_on(async {
        let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut times = Vec::new();
        while let Some(event) = events.next().await {
            times.push(event.unwrap().recorded_at);
        }
        times
    });
    assert_eq!(times.len(), 12);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

fn simulated() -> Options {
    Options {
        background: Background::Manual,
        write_method: WriteMethod::Direct,
        reserve_bytes: 0,
        ..small()
    }
}

#[test]
fn after_a_power_cut_everything_acknowledged_is_there_with_its_causes() {
    for seed in 0..80_u64 {
        let (env, disk, _) = sim::env(seed);
        create(&env, "log", &layout()).unwrap();
        let log = EmbeddedLog::open(env, "log", simulated()).unwrap();
        log.prepare();
        disk.strike_at(1 + seed * 3);
        let (mut acknowledged, mut causes) = (0, Cut::start());
        for n in 0..200_u128 {
            let category = ["order", "stock", "price"][n as usize % 3];
            let mut event = event(n, &format!("{category}/{}", n % 7));
            event.meta_mut().causes = causes;
            let Ok(appended) = block_on(log.append(Append::event(event))) else {
                break;
            };
            (acknowledged, causes) = (n + 1, appended.closure);
            log.step();
        }
        drop(log);
        disk.crash(Survival::Any(seed));
        let log = EmbeddedLog::open(disk.env(seed + 1), "log", simulated());
        let log = log.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let ids: Vec<u128> = ids(&log).into_iter().map(EventId::as_u128).collect();
        let chain: Vec<u128> = (0..ids.len() as u128).collect();
        assert_eq!(ids, chain, "seed {seed}: an effect without its cause");
        assert!(
            ids.len() as u128 >= acknowledged,
            "seed {seed}: some are lost"
        );
        // It goes on where it was.
        let mut next = event(1_000, "order/1");
        next.meta_mut().causes = block_on(log.head()).unwrap();
        block_on(log.append(Append::event(next))).unwrap();
    }
}

/// An append to three partitions; its ids are 100, 101 and 102.
fn over_partitions() -> Append {
    let streams = ["order/1", "stock/1", "price/1"];
    let events = streams
        .iter()
        .zip(100..)
        .map(|(stream, id)| event(id, stream));
    Append::events(events.collect::<Vec<_>>())
}

/// Which of its events are read.
fn halves(log: &dyn Log) -> Vec<u128> {
    let all = ids(log).into_iter().map(EventId::as_u128);
    all.filter(|id| (100..103).contains(id)).collect()
}

#[test]
fn after_a_power_cut_at_any_step_an_append_to_several_partitions_is_there_whole_or_not_at_all() {
    let (env, disk, _) = sim::env(1);
    create(&env, "log", &layout()).unwrap();
    let log = EmbeddedLog::open(env, "log", simulated()).unwrap();
    fill(&log, 0, 3);
    log.close().unwrap();
    drop(log);
    let (mut none, mut finished, mut acknowledged) = (0, 0, 0);
    for seed in 0.. {
        let disk = disk.fork();
        let log = EmbeddedLog::open(disk.env(seed), "log", simulated()).unwrap();
        disk.strike_at(1 + seed);
        let answer = block_on(log.append(over_partitions()));
        disk.call_off();
        let was_struck = disk.is_struck();
        drop(log);
        disk.crash(Survival::Any(seed));
        let env = disk.env(seed + 1);
        let beside = EmbeddedLog::open_read_only(env.clone(), "log", simulated());
        let seen = halves(&beside.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        assert!(
            seen.is_empty() || seen == [100, 101, 102],
            "seed {seed}: {seen:?}"
        );
        let log = EmbeddedLog::open(env, "log", simulated());
        let log = log.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let head = block_on(log.head()).unwrap();
        let there = halves(&log);
        match there.as_slice() {
            [] => {
                assert!(
                    answer.is_err(),
                    "seed {seed}: what was acknowledged is lost"
                );
                none += 1;
            }
            [100, 101, 102] => {
                finished += u32::from(seen.is_empty());
                acknowledged += u32::from(answer.is_ok());
            }
            some => panic!("seed {seed}: {some:?}"),
        }
        let again = block_on(log.append(over_partitions())).unwrap();
        assert_eq!(again.repeated, !there.is_empty(), "seed {seed}");
        assert_eq!(head.covers(&again.cut()), again.repeated, "seed {seed}");
        assert_eq!(halves(&log), [100, 101, 102], "seed {seed}");
        if !was_struck {
            break;
        }
    }
    assert!(
        none > 0 && finished > 0 && acknowledged > 0,
        "{none} were not made, {finished} finished, {acknowledged} acknowledged"
    );
}

#[test]
fn a_making_that_a_power_cut_has_ended_leaves_no_log_or_a_whole_one() {
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..120_u64 {
        let (env, disk, _) = sim::env(seed);
        disk.strike_at(1 + seed);
        let made = create(&env, "log", &layout());
        disk.crash(Survival::Any(seed));
        let env = disk.env(seed + 1);
        match layout_of(&env, "log") {
            Ok(found) if found.is_one() => {
                assert!(made.is_err(), "seed {seed}: it is gone");
                create(&env, "log", &layout()).unwrap();
            }
            Ok(found) => {
                assert_eq!(found, layout());
                whole += 1;
            }
            Err(error) => {
                assert!(made.is_err(), "seed {seed}: {error}");
                assert!(
                    error.to_string().contains("was interrupted here"),
                    "{error}"
                );
                refused += 1;
                continue;
            }
        }
        EmbeddedLog::open(env, "log", simulated()).unwrap();
    }
    assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
}

mod conformance {
    use std::sync::Arc;

    use anabranch_env::Env;
    use anabranch_log::conformance::Subject;
    use anabranch_log::{Layout, Log};
    use anabranch_log_segment::{EmbeddedLog, create};

    use super::support::{TempDir, small};

    struct Place(TempDir);

    impl Subject for Place {
        fn open(&self) -> Arc<dyn Log> {
            let log = EmbeddedLog::open(Env::os(), &self.0.0, small());
            Arc::new(log.expect("the log opens"))
        }

        fn open_read_only(&self) -> Option<Arc<dyn Log>> {
            let log = EmbeddedLog::open_read_only(Env::os(), &self.0.0, small());
            Some(Arc::new(log.expect("the log opens beside its writer")))
        }
    }

    fn place() -> Place {
        let dir = TempDir::new();
        let layout = Layout::new(Vec::new(), 8).expect("a layout");
        create(&Env::os(), &dir.0, &layout).expect("the log is made");
        Place(dir)
    }

    anabranch_log::conformance_tests!(place, lacking: [TotalOrder]);
}
