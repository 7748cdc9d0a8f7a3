use std::path::Path;
use std::time::Duration;

use anabranch_env::{Disk, OpenMode};

/// What the operating system says of this process. `None` where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Process {
    /// Memory of the process that is in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time used since it began, by all threads; in steps of 10 ms.
    pub cpu: Option<Duration>,
}

impl Process {
    /// As of now.
    pub fn now(disk: &dyn Disk) -> Self {
        Self {
            resident_bytes: read_text(disk, "/proc/self/status")
                .as_deref()
                .and_then(resident_bytes),
            cpu: read_text(disk, "/proc/self/stat")
                .as_deref()
                .and_then(cpu_time),
        }
    }
}

/// Memory of another process that is in RAM, in bytes.
pub fn resident_bytes_of(disk: &dyn Disk, pid: u32) -> Option<u64> {
    resident_bytes(&read_text(disk, &format!("/proc/{pid}/status"))?)
}

/// What the measurement ran on, in a few words: processors and their kind.
pub fn processors(disk: &dyn Disk) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kind = read_text(disk, "/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    match kind {
        Some(kind) => format!("{count} × {kind}"),
        None => format!("{count} processors"),
    }
}

fn read_text(disk: &dyn Disk, path: &str) -> Option<String> {
    let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
    let mut text = vec![0; 16 << 10];
    let mut len = 0;
    // These files have no length of their own: read until nothing more comes.
    while len < text.len() {
        match file.read_at(&mut text[len..], len as u64).ok()? {
            0 => break,
            n => len += n,
        }
    }
    text.truncate(len);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

fn cpu_time(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses and may hold spaces; user and
    // system time are the 14th and 15th fields, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

#[cfg(test)]
mod tests {
    use anabranch_env::Env;

    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        assert_eq!(resident_bytes(status), Some(2 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn processor_time_is_user_and_system_time_also_when_the_name_has_spaces() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 120 30 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let now = Process::now(&*Env::os().disk);
        assert!(now.resident_bytes.is_some_and(|bytes| bytes > 1 << 16));
        assert!(now.cpu.is_some());
    }
}
