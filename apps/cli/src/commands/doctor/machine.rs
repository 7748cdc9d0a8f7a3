//! What the system allows, and what it has left.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the system, which only it writes"
)]

use std::fs;
use std::path::{Path, PathBuf};

use super::check::Check;
use crate::commands::log::text::bytes;

/// A server has this many connections, and files beside them.
const FILES_WANTED: u64 = 10_000;
/// With fewer nothing works for long.
const FILES_LEAST: u64 = 256;

/// The least memory that should be left.
const MEMORY_LEAST: u64 = 256 << 20;

/// What a process may do: `self`, or that of another process of this machine.
pub fn limits_of(process: &str) -> Vec<Check> {
    match fs::read_to_string(format!("/proc/{process}/limits")) {
        Ok(limits) => files(&limits).into_iter().chain(largest(&limits)).collect(),
        // Another one's, or no Linux: nothing can be said.
        Err(_) => Vec::new(),
    }
}

/// The soft limit of this name; `None`: it is not there. Without a limit it is the largest number.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn files(limits: &str) -> Option<Check> {
    let remedy =
        "let it open 65536: LimitNOFILE=65536 in its unit, or `ulimit -n 65536` before it starts";
    let files = limit(limits, "Max open files")?;
    let what = format!("{files} files may be open at a time");
    Some(match files {
        ..FILES_LEAST => Check::fault("limits", what, remedy),
        FILES_LEAST..FILES_WANTED => Check::warning(
            "limits",
            format!("{what}, and a server has up to 8192 connections"),
            remedy,
        ),
        _ => Check::ok("limits", what),
    })
}

fn largest(limits: &str) -> Option<Check> {
    let size = limit(limits, "Max file size").filter(|size| *size < u64::MAX)?;
    let what = format!("no file may be larger than {}", bytes(size));
    let remedy =
        "lift it: LimitFSIZE=infinity in its unit, or `ulimit -f unlimited` before it starts";
    Some(Check::warning("limits", what, remedy))
}

/// The memory that is left on this machine, or in this container.
pub fn memory() -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| available(&text));
    let number = |path| read(path)?.trim().parse::<u64>().ok();
    let container = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(max, used)| max.saturating_sub(used));
    let left = machine.into_iter().chain(container).min();
    left.map(memory_left).into_iter().collect()
}

/// The available memory of a machine, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn memory_left(left: u64) -> Check {
    let what = format!("{} of memory are left", bytes(left));
    if left >= MEMORY_LEAST {
        return Check::ok("memory", what);
    }
    let remedy = "give the machine or the container more, or move a program elsewhere; where memory ends the system kills what uses most";
    Check::warning("memory", what, remedy)
}

/// On what kind of file system a directory is.
pub fn file_system(dir: &Path) -> Option<Check> {
    let dir: PathBuf = fs::canonicalize(dir).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    kept(&dir, kind_of(&mounts, &dir)?)
}

/// The kind of the file system that has this path: of the mount that is nearest to it, the newest.
fn kind_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let of_line = |line: &'a str| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        // A space in a path is written so.
        let at = PathBuf::from(at.replace("\\040", " "));
        path.starts_with(&at)
            .then(|| (at.components().count(), kind))
    };
    let found = mounts.lines().filter_map(of_line);
    Some(found.max_by_key(|(depth, _)| *depth)?.1)
}

/// Whether what is written there stays there.
fn kept(dir: &Path, kind: &str) -> Option<Check> {
    let dir = dir.display();
    let elsewhere = "name a directory on a disk of this machine with --log";
    match kind {
        "tmpfs" | "ramfs" => Some(Check::fault(
            "durability",
            format!("{dir} is in memory ({kind}): all events are gone with the machine"),
            elsewhere,
        )),
        "overlay" | "aufs" => Some(Check::warning(
            "durability",
            format!(
                "{dir} is in a container's own layer ({kind}): all events are gone with the container"
            ),
            "mount a volume there",
        )),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" => Some(Check::warning(
            "durability",
            format!(
                "{dir} is on another machine ({kind}): whether a sync is one, and a lock too, is that machine's word"
            ),
            elsewhere,
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    fn limits(files: &str, size: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max file size             {size}            unlimited            bytes\n\
             Max open files            {files}                 1048576              files\n"
        )
    }

    #[test]
    fn few_open_files_are_a_fault_and_not_many_a_warning() {
        for (count, state) in [
            ("64", State::Fault),
            ("1024", State::Warning),
            ("65536", State::Ok),
            ("unlimited", State::Ok),
        ] {
            let check = files(&limits(count, "unlimited")).unwrap();
            assert_eq!(check.state, state, "{count}");
            assert_eq!(check.remedy.is_some(), state != State::Ok);
        }
        assert_eq!(files("no such text"), None);
    }

    #[test]
    fn a_largest_file_is_told() {
        assert_eq!(largest(&limits("64", "unlimited")), None);
        assert_eq!(
            largest(&limits("64", "1048576")).unwrap().state,
            State::Warning
        );
    }

    #[test]
    fn little_memory_is_a_warning() {
        let left = available("MemTotal: 9 kB\nMemAvailable:    1024 kB\n").unwrap();
        assert_eq!(left, 1 << 20);
        assert_eq!(memory_left(left).state, State::Warning);
        assert_eq!(memory_left(1 << 40).state, State::Ok);
    }

    #[test]
    fn what_is_gone_with_the_machine_is_a_fault() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n\
                      /dev/sdb /run/a\\040b xfs rw 0 0\noverlay /in overlay rw 0 0\n";
        let state = |path: &str| {
            let path = Path::new(path);
            kept(path, kind_of(mounts, path).unwrap()).map(|check| check.state)
        };
        assert_eq!(state("/srv/log"), None);
        assert_eq!(state("/run/log"), Some(State::Fault));
        assert_eq!(state("/run/a b/log"), None);
        assert_eq!(state("/in/log"), Some(State::Warning));
        assert_eq!(state("/running"), None);
    }
}
