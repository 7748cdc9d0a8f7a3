//! What the simulated disk keeps, loses and refuses. Each test that draws from seeds runs
//! over many and names the one that failed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::sim::{self, Calls, Fault, FaultKind, Hit, SimDisk, Survival};
use anabranch_env::{Clock, Disk, File, OpenMode};

const FILE: &str = "data.seg";

fn path() -> &'static Path {
    Path::new(FILE)
}

fn disk(seed: u64) -> SimDisk {
    sim::env(seed).1
}

/// A file whose name is durable, open for writing.
fn file(disk: &SimDisk) -> Arc<dyn File> {
    let file = disk.open(path(), OpenMode::Create).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    file
}

fn direct(disk: &SimDisk) -> Arc<dyn File> {
    file(disk);
    disk.open(path(), OpenMode::WriteDirect).unwrap()
}

fn content(disk: &SimDisk) -> Vec<u8> {
    disk.content(path()).unwrap().to_vec()
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Which of the values that `outcome` may give came up over many seeds.
fn outcomes<T: Ord>(outcome: impl Fn(u64) -> T) -> Vec<T> {
    let mut seen: Vec<T> = (0..600).map(outcome).collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn a_synced_write_survives_a_power_cut() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(b"kept", 0).unwrap();
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk), b"kept");
}

#[test]
fn an_unsynced_write_may_be_lost_and_may_be_kept() {
    let write = |survival| {
        let disk = disk(1);
        let file = file(&disk);
        file.write_all_at(b"old", 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(b"new", 0).unwrap();
        disk.crash(survival);
        content(&disk)
    };
    assert_eq!(write(Survival::Nothing), b"old");
    assert_eq!(write(Survival::Everything), b"new");
}

#[test]
fn each_unsynced_sector_is_kept_or_lost_for_itself() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = file(&disk);
        file.write_all_at(&[1; 1536], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[2; 1536], 0).unwrap();
        disk.crash(Survival::Any(seed));
        let bytes = content(&disk);
        [bytes[0], bytes[600], bytes[1500]]
    });
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_sector_may_be_torn() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = file(&disk);
        file.write_all_at(&[1; 512], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[2; 512], 0).unwrap();
        disk.crash(Survival::Any(seed));
        assert!(
            content(&disk).iter().all(|&b| b == 1 || b == 2),
            "seed {seed}"
        );
        let bytes = content(&disk);
        (bytes[0], bytes[511], disk.tally().get(Hit::SectorTorn))
    });
    assert!(
        seen.contains(&(1, 2, 1)) && seen.contains(&(2, 1, 1)),
        "{seen:?}"
    );
}

#[test]
fn a_file_may_keep_its_new_length_and_lose_its_data() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = file(&disk);
        file.write_all_at(&[9; 512], 0).unwrap();
        disk.crash(Survival::Any(seed));
        content(&disk)
    });
    for wanted in [vec![], vec![0; 512], vec![9; 512]] {
        assert!(seen.contains(&wanted), "never saw {wanted:?}");
    }
}

#[test]
fn growth_is_durable_with_sync_data() {
    let disk = disk(1);
    let file = file(&disk);
    file.set_len(10_000).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    let lost = disk.fork();
    lost.crash(Survival::Nothing);
    assert_eq!(content(&lost).len(), 0, "sync_dir is not enough");
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk).len(), 10_000);
}

#[test]
fn bytes_cut_off_and_grown_again_are_zero_once_synced() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(&[5; 2000], 0).unwrap();
    file.sync_data().unwrap();
    file.set_len(100).unwrap();
    file.set_len(2000).unwrap();
    let old = disk.fork();
    old.crash(Survival::Nothing);
    assert_eq!(content(&old), [5; 2000], "the cut was not synced");
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk)[..100], [5; 100]);
    assert_eq!(content(&disk)[100..], [0; 1900]);
}

#[test]
fn a_direct_write_is_durable_when_it_returns() {
    let disk = disk(1);
    direct(&disk).write_all_at(&[7; 8192], 4096).unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk)[4096..], [7; 8192]);
}

#[test]
fn a_direct_write_without_sync_is_durable_only_after_one() {
    let survivors = |synced: bool| {
        let disk = disk(1);
        direct(&disk);
        let mode = OpenMode::WriteDirectUnsynced;
        let file = disk.open(path(), mode).unwrap();
        assert_eq!(code(file.write_at(&[7; 100], 0)), Some(libc::EINVAL));
        file.write_all_at(&[7; 4096], 0).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
        disk.crash(Survival::Nothing);
        content(&disk).contains(&7)
    };
    assert_eq!((survivors(true), survivors(false)), (true, false));
}

#[test]
fn a_direct_write_must_be_aligned() {
    let disk = disk(1);
    let file = direct(&disk);
    assert_eq!(code(file.write_at(&[0; 4096], 512)), Some(libc::EINVAL));
    assert_eq!(code(file.write_at(&[0; 512], 4096)), Some(libc::EINVAL));
    assert_eq!(code(file.read_at(&mut [0; 100], 0)), Some(libc::EINVAL));
}

#[test]
fn a_new_name_may_be_lost_until_its_directory_is_synced() {
    let disk = disk(1);
    let file = disk.open(path(), OpenMode::Create).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    file.sync_data().unwrap();
    let lost = disk.fork();
    lost.crash(Survival::Nothing);
    assert!(lost.list(Path::new("")).unwrap().is_empty());
    disk.sync_dir(Path::new("")).unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk), b"data");
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let disk = disk(1);
    file(&disk).write_all_at(b"data", 0).unwrap();
    disk.open(path(), OpenMode::Write)
        .and_then(|file| file.sync_data())
        .unwrap();
    disk.remove(path()).unwrap();
    let back = disk.fork();
    back.crash(Survival::Nothing);
    assert_eq!(content(&back), b"data");
    disk.sync_dir(Path::new("")).unwrap();
    disk.crash(Survival::Nothing);
    assert!(!disk.exists(path()).unwrap());
}

#[test]
fn a_rename_may_survive_before_its_data() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let to = Path::new("final");
        let file = file(&disk);
        file.write_all_at(&[1; 512], 0).unwrap();
        disk.rename(path(), to).unwrap();
        disk.crash(Survival::Any(seed));
        let renamed = disk.exists(to).unwrap();
        assert_ne!(renamed, disk.exists(path()).unwrap(), "seed {seed}");
        let name = if renamed { to } else { path() };
        let whole = disk.content(name).unwrap().as_slice() == [1; 512];
        let counted = disk.tally().get(Hit::RenameBeforeData) == 1;
        assert_eq!(counted, renamed && !whole, "seed {seed}");
        (renamed, whole)
    });
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn changes_of_one_name_survive_in_order() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        for i in 0..3u8 {
            let file = disk.open(Path::new("new"), OpenMode::Create).unwrap();
            file.write_all_at(&[i; 1], 0).unwrap();
            file.sync_data().unwrap();
            disk.rename(Path::new("new"), path()).unwrap();
        }
        disk.crash(Survival::Any(seed));
        disk.content(path()).ok().map(|bytes| bytes[0])
    });
    assert_eq!(seen, [None, Some(0), Some(1), Some(2)]);
}

#[test]
fn a_new_directory_is_an_entry_of_its_parent() {
    let dir = Path::new("a/b");
    let disk = disk(1);
    disk.create_dir(dir).unwrap();
    disk.open(&dir.join("x"), OpenMode::Create).unwrap();
    disk.sync_dir(dir).unwrap();
    disk.sync_dir(Path::new("a")).unwrap();
    let lost = disk.fork();
    lost.crash(Survival::Nothing);
    assert!(lost.files().is_empty(), "a itself was not synced");
    disk.sync_dir(Path::new("")).unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(disk.list(dir).unwrap(), ["x"]);
}

#[test]
fn recycled_blocks_may_show_bytes_of_removed_files() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        disk.set_stale_bytes(true);
        let old = disk.open(Path::new("old"), OpenMode::Create).unwrap();
        old.write_all_at(&[0xab; 1024], 0).unwrap();
        disk.remove(Path::new("old")).unwrap();
        file(&disk).write_all_at(&[1; 1024], 0).unwrap();
        disk.crash(Survival::Any(seed));
        content(&disk).last().copied()
    });
    assert!(seen.contains(&Some(0xab)), "{seen:?}");
}

#[test]
fn killing_the_process_keeps_every_write_and_voids_its_files() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(b"unsynced", 0).unwrap();
    disk.kill();
    assert!(file.read_at(&mut [0; 1], 0).is_err());
    assert_eq!(content(&disk), b"unsynced");
    disk.crash(Survival::Nothing);
    assert!(content(&disk).is_empty(), "it was still not on the disk");
}

#[test]
fn a_strike_fails_its_call_and_all_after_it() {
    let disk = disk(1);
    let file = file(&disk);
    disk.strike_at(2);
    file.write_all_at(b"one", 0).unwrap();
    assert!(!disk.is_struck());
    let struck = file.sync_data().unwrap_err();
    assert_eq!(struck.to_string(), "power cut");
    assert!(disk.is_struck());
    assert!(file.len().is_err());
    assert!(disk.list(Path::new("")).is_err());
    disk.crash(Survival::Nothing);
    assert!(content(&disk).is_empty(), "the sync did not return");
}

#[test]
fn a_struck_direct_write_may_be_kept_lost_or_torn() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = direct(&disk);
        file.write_all_at(&[1; 4096], 0).unwrap();
        disk.strike_at(1);
        file.write_at(&[2; 4096], 0).unwrap_err();
        disk.crash(Survival::Any(seed));
        let bytes = content(&disk);
        let new = bytes.iter().filter(|&&b| b == 2).count();
        (new > 0, new == 4096)
    });
    assert_eq!(seen, [(false, false), (true, false), (true, true)]);
}

#[test]
fn a_struck_rename_is_done_or_not() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        file(&disk);
        disk.strike_at(1);
        disk.rename(path(), Path::new("other")).unwrap_err();
        disk.kill();
        disk.list(Path::new("")).unwrap()
    });
    assert_eq!(seen, [[FILE], ["other"]]);
}

#[test]
fn a_fault_strikes_the_named_call_of_the_named_file_once() {
    let disk = disk(1);
    let hit = file(&disk);
    let other = disk.open(Path::new("other"), OpenMode::Create).unwrap();
    disk.inject(Fault::nth(2, Calls::WRITE, FaultKind::NoSpace).on(".seg"));
    other.write_all_at(b"x", 0).unwrap();
    other.write_all_at(b"x", 0).unwrap();
    hit.write_all_at(b"1", 0).unwrap();
    assert_eq!(code(hit.write_at(b"2", 0)), Some(libc::ENOSPC));
    hit.write_all_at(b"3", 0).unwrap();
    assert_eq!(content(&disk), b"3");
    assert_eq!(disk.tally().get(Hit::NoSpace), 1);
}

#[test]
fn each_refusal_has_its_error() {
    use FaultKind::{Interrupted, Io, NoSpace, ReadOnly, TooManyFiles};
    for (kind, expected) in [
        (Io, libc::EIO),
        (NoSpace, libc::ENOSPC),
        (ReadOnly, libc::EROFS),
        (TooManyFiles, libc::EMFILE),
        (Interrupted, libc::EINTR),
    ] {
        let disk = disk(1);
        let file = file(&disk);
        disk.inject(Fault::every(Calls::ANY, kind));
        assert_eq!(code(file.read_at(&mut [0; 1], 0)), Some(expected));
        assert_eq!(code(file.write_at(b"x", 0)), Some(expected));
        assert_eq!(code(file.sync_data()), Some(expected));
        assert_eq!(code(file.set_len(5)), Some(expected));
        assert_eq!(code(file.len()), Some(expected));
        assert_eq!(code(disk.open(path(), OpenMode::Read)), Some(expected));
        assert_eq!(code(disk.rename(path(), path())), Some(expected));
        assert_eq!(code(disk.remove(path())), Some(expected));
        assert_eq!(code(disk.sync_dir(Path::new(""))), Some(expected));
        assert_eq!(code(disk.list(Path::new(""))), Some(expected));
        assert_eq!(code(disk.lock(Path::new("lock"), "")), Some(expected));
        disk.clear_faults();
        file.write_all_at(b"well", 0).unwrap();
    }
}

#[test]
fn a_failed_direct_write_may_have_happened_in_part() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = direct(&disk);
        file.write_all_at(&[1; 8192], 0).unwrap();
        disk.inject(Fault::nth(1, Calls::DIRECT, FaultKind::Io));
        assert_eq!(code(file.write_at(&[2; 8192], 0)), Some(libc::EIO));
        let bytes = content(&disk);
        disk.crash(Survival::Nothing);
        assert_eq!(content(&disk), bytes, "seed {seed}");
        bytes.contains(&2)
    });
    assert_eq!(seen, [false, true]);
}

#[test]
fn after_a_failed_sync_dropped_pages_look_written_and_never_are() {
    let seen = outcomes(|seed| {
        let disk = disk(seed);
        let file = file(&disk);
        file.write_all_at(&[1; 1024], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[2; 1024], 0).unwrap();
        disk.inject(Fault::nth(1, Calls::SYNC, FaultKind::LostPages));
        assert_eq!(code(file.sync_data()), Some(libc::EIO));
        file.sync_data().unwrap();
        disk.kill();
        assert_eq!(content(&disk), [2; 1024], "the cache shows it");
        let evicted = disk.fork();
        evicted.evict();
        disk.crash(Survival::Everything);
        assert_eq!(content(&disk), content(&evicted), "seed {seed}");
        content(&disk).contains(&1)
    });
    assert!(seen.contains(&true));
}

#[test]
fn after_a_failed_sync_pages_that_stayed_dirty_can_be_synced_again() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(&[2; 1024], 0).unwrap();
    disk.inject(Fault::nth(1, Calls::SYNC, FaultKind::Io));
    assert_eq!(code(file.sync_data()), Some(libc::EIO));
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk), [2; 1024]);
}

#[test]
fn writing_a_dropped_page_again_makes_it_count_again() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.inject(Fault::nth(1, Calls::SYNC, FaultKind::LostPages));
    assert!(file.sync_data().is_err());
    file.write_all_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk), [2; 512]);
}

#[test]
fn a_lying_sync_makes_nothing_durable() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(b"lost", 0).unwrap();
    disk.inject(Fault::every(Calls::SYNC, FaultKind::Lying));
    file.sync_data().unwrap();
    disk.crash(Survival::Nothing);
    assert!(content(&disk).is_empty());
}

#[test]
fn a_misdirected_direct_write_lands_elsewhere() {
    for seed in 0..50 {
        let disk = disk(seed);
        let file = direct(&disk);
        file.write_all_at(&[1; 16384], 0).unwrap();
        disk.inject(Fault::nth(1, Calls::DIRECT, FaultKind::Misdirected));
        file.write_all_at(&[2; 4096], 4096).unwrap();
        let bytes = content(&disk);
        assert_eq!(bytes[4096..8192], [1; 4096], "seed {seed}");
        assert_eq!(bytes.iter().filter(|&&b| b == 2).count(), 4096);
    }
}

#[test]
fn a_misdirected_sync_shows_only_after_the_power_cut() {
    for seed in 0..50 {
        let disk = disk(seed);
        let file = file(&disk);
        file.write_all_at(&[1; 16384], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[2; 512], 1024).unwrap();
        disk.inject(Fault::nth(1, Calls::SYNC, FaultKind::Misdirected));
        file.sync_data().unwrap();
        assert_eq!(content(&disk)[1024..1536], [2; 512]);
        disk.crash(Survival::Everything);
        let bytes = content(&disk);
        assert_eq!(bytes[1024..1536], [1; 512], "seed {seed}");
        assert_eq!(bytes.iter().filter(|&&b| b == 2).count(), 512);
    }
}

#[test]
fn short_writes_and_reads_do_a_part() {
    let disk = disk(1);
    let file = file(&disk);
    disk.inject(Fault::every(Calls::READ | Calls::WRITE, FaultKind::Short));
    let wrote = file.write_at(&[1; 1000], 0).unwrap();
    assert!((1..1000).contains(&wrote));
    assert_eq!(content(&disk).len(), wrote);
    file.write_all_at(&[1; 1000], 0).unwrap();
    assert!(file.read_at(&mut [0; 1000], 0).unwrap() < 1000);
    let mut back = [0; 1000];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, [1; 1000]);
}

#[test]
fn a_short_direct_write_stays_aligned() {
    let disk = disk(1);
    let file = direct(&disk);
    disk.inject(Fault::every(Calls::DIRECT, FaultKind::Short));
    file.write_all_at(&[3; 5 * 4096], 0).unwrap();
    assert_eq!(content(&disk), [3; 5 * 4096]);
    assert!(disk.tally().get(Hit::ShortWrite) > 0);
}

#[test]
fn a_slow_call_takes_its_time_and_works() {
    let (_, disk, clock) = sim::env(1);
    let file = file(&disk);
    let (wall, before) = (clock.wall_micros(), clock.monotonic());
    let slow = FaultKind::Slow(Duration::from_secs(30));
    disk.inject(Fault::nth(1, Calls::SYNC, slow));
    file.write_all_at(b"kept", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(clock.monotonic() - before, Duration::from_secs(30));
    assert_eq!(clock.wall_micros() - wall, 30_000_000);
    disk.crash(Survival::Nothing);
    assert_eq!(content(&disk), b"kept");
}

#[test]
fn a_full_disk_takes_what_fits_and_frees_what_is_removed() {
    let disk = disk(1);
    let file = file(&disk);
    disk.set_capacity(Some(1000));
    assert_eq!(disk.free_bytes(Path::new("")).unwrap(), 1000);
    assert_eq!(file.write_at(&[1; 1500], 0).unwrap(), 1000);
    assert_eq!(code(file.write_at(&[1; 10], 1000)), Some(libc::ENOSPC));
    assert_eq!(code(file.set_len(1001)), Some(libc::ENOSPC));
    file.write_all_at(&[2; 1000], 0).unwrap();
    assert_eq!(disk.free_bytes(Path::new("")).unwrap(), 0);
    disk.remove(path()).unwrap();
    assert_eq!(disk.free_bytes(Path::new("")).unwrap(), 1000);
    disk.set_capacity(None);
    assert!(disk.free_bytes(Path::new("")).unwrap() > 1 << 40);
}

#[test]
fn a_lock_is_refused_with_the_holders_note() {
    let disk = disk(1);
    let path = Path::new("lock");
    let held = disk.lock(path, "pid 1").unwrap().unwrap();
    let refused = disk.lock(path, "pid 2").unwrap();
    assert_eq!(refused.err(), Some("pid 1".to_owned()));
    drop(held);
    assert!(disk.lock(path, "pid 3").unwrap().is_ok());
}

#[test]
fn the_end_of_the_process_releases_its_lock_for_good() {
    let path = Path::new("lock");
    for end in [SimDisk::kill, |disk: &SimDisk| disk.crash(Survival::Any(1))] {
        let disk = disk(1);
        let dead = disk.lock(path, "dead").unwrap();
        end(&disk);
        let _held = disk.lock(path, "heir").unwrap().ok().unwrap();
        drop(dead);
        let refused = disk.lock(path, "third").unwrap();
        assert_eq!(refused.err(), Some("heir".to_owned()));
    }
}

#[test]
fn opening_follows_the_rules_of_a_file_system() {
    let disk = disk(1);
    let kind = |result: io::Result<Arc<dyn File>>| result.err().map(|error| error.kind());
    let open = |mode| kind(disk.open(path(), mode));
    assert_eq!(open(OpenMode::Read), Some(io::ErrorKind::NotFound));
    assert_eq!(open(OpenMode::Write), Some(io::ErrorKind::NotFound));
    assert_eq!(open(OpenMode::Create), None);
    assert_eq!(open(OpenMode::Create), Some(io::ErrorKind::AlreadyExists));
    let stray = disk.open(Path::new("no/dir"), OpenMode::Create);
    assert_eq!(kind(stray), Some(io::ErrorKind::NotFound));
    let read_only = disk.open(path(), OpenMode::Read).unwrap();
    assert_eq!(code(read_only.write_at(b"x", 0)), Some(libc::EBADF));
    assert_eq!(code(read_only.set_len(1)), Some(libc::EBADF));
}

#[test]
fn listing_names_files_in_order_and_leaves_directories_out() {
    let disk = disk(1);
    disk.create_dir(Path::new("/log/sub")).unwrap();
    for name in ["log/b", "/log/a", "log/c"] {
        disk.open(Path::new(name), OpenMode::Create).unwrap();
    }
    assert_eq!(disk.list(Path::new("/log")).unwrap(), ["a", "b", "c"]);
    assert!(disk.exists(Path::new("/log/sub")).unwrap());
    assert!(disk.list(Path::new("nowhere")).is_err());
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(b"still", 0).unwrap();
    disk.remove(path()).unwrap();
    let mut back = [0; 5];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"still");
}

#[test]
fn damage_meets_cache_and_disk() {
    let fresh = || {
        let disk = disk(1);
        let file = file(&disk);
        file.write_all_at(&[0xff; 8192], 0).unwrap();
        file.sync_data().unwrap();
        disk
    };
    let both = |disk: &SimDisk| {
        let seen = content(disk);
        disk.crash(Survival::Nothing);
        assert_eq!(content(disk), seen);
        seen
    };
    let disk = fresh();
    disk.flip_bit(path(), 100, 3).unwrap();
    assert_eq!(both(&disk)[100], 0xf7);
    let disk = fresh();
    disk.zero(path(), 4096, 4096).unwrap();
    assert_eq!(both(&disk)[4096..], [0; 4096]);
    let disk = fresh();
    disk.overwrite(path(), 5, b"abc").unwrap();
    assert_eq!(&both(&disk)[5..8], b"abc");
    let disk = fresh();
    disk.truncate(path(), 77).unwrap();
    assert_eq!(both(&disk).len(), 77);
}

#[test]
fn files_can_be_planted_deleted_duplicated_and_swapped() {
    let disk = disk(1);
    let (a, b, c) = (Path::new("a"), Path::new("b"), Path::new("c"));
    disk.plant(a, b"one").unwrap();
    disk.plant(b, b"two").unwrap();
    disk.swap(a, b).unwrap();
    disk.duplicate(a, c).unwrap();
    disk.delete(a).unwrap();
    disk.crash(Survival::Nothing);
    assert_eq!(disk.list(Path::new("")).unwrap(), ["b", "c"]);
    assert_eq!(disk.content(b).unwrap().as_slice(), b"one");
    assert_eq!(disk.content(c).unwrap().as_slice(), b"two");
    disk.flip_bit(c, 0, 0).unwrap();
    assert_eq!(disk.content(b).unwrap().as_slice(), b"one");
}

#[test]
fn an_unreadable_range_fails_reads_that_touch_it() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(&[1; 2048], 0).unwrap();
    disk.make_unreadable(path(), 512, 512).unwrap();
    assert_eq!(code(file.read_at(&mut [0; 600], 0)), Some(libc::EIO));
    file.read_exact_at(&mut [0; 512], 0).unwrap();
    file.read_exact_at(&mut [0; 1024], 1024).unwrap();
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = disk(1);
    let file = file(&disk);
    file.write_all_at(&[1; 600], 0).unwrap();
    let fork = disk.fork();
    file.write_all_at(&[2; 600], 0).unwrap();
    fork.crash(Survival::Everything);
    assert_eq!(content(&fork), [1; 600]);
    assert_eq!(content(&disk), [2; 600]);
    file.sync_data().unwrap();
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed: u64| {
        let disk = disk(seed);
        let file = file(&disk);
        disk.inject(Fault::one_in(3, Calls::WRITE, FaultKind::Short));
        for i in 0..20 {
            file.write_all_at(&[i; 3000], u64::from(i) * 100).unwrap();
        }
        disk.crash(Survival::Any(seed));
        (disk.trace(), content(&disk))
    };
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).0, run(seed + 1000).0, "seed {seed}");
    }
}

#[test]
fn the_trace_tells_one_changed_byte() {
    let run = |byte: u8| {
        let disk = disk(1);
        let mut bytes = [0; 5000];
        bytes[4000] = byte;
        file(&disk).write_all_at(&bytes, 0).unwrap();
        disk.trace()
    };
    assert_ne!(run(0), run(1));
}

#[test]
fn the_journal_tells_what_was_asked() {
    let disk = disk(1);
    disk.keep_journal();
    file(&disk).write_all_at(b"abc", 7).unwrap();
    disk.kill();
    let lines = disk.take_journal();
    assert!(
        lines
            .iter()
            .any(|line| line.contains(FILE) && line.contains("(7, 3)"))
    );
    assert!(lines.iter().any(|line| line.contains("process killed")));
}
