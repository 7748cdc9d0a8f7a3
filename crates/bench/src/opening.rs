//! How long a log takes to open: closed well, after a kill, and with its indexes gone.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_env::{Disk, Env};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::child::{ChildJob, ChildNote, RunningChild, filling};
use crate::counting::ReadCounting;
use crate::engine::Engine;
use crate::error::BenchError;
use crate::figures::median;

/// How long opening takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Openings {
    /// After a close.
    pub clean: Opening,
    /// After a kill in the middle of appending.
    pub killed: Opening,
    /// After a close, all index files deleted.
    pub index_gone: Opening,
}

/// One kind of opening.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Opening {
    /// Event data in the log, in units of 10⁹ bytes.
    pub gigabytes: f64,
    /// Until the log answers where its head is, in milliseconds; the median of several.
    pub millis: f64,
    /// Bytes read meanwhile.
    pub bytes_read: u64,
}

/// Fills a log below `dir` with `events` events in a child process that is killed, and
/// opens it in each state `times` times.
pub fn openings(
    engine: &dyn Engine,
    runtime: &Runtime,
    child: &dyn Fn(&str) -> io::Result<Command>,
    dir: &Path,
    events: u64,
    times: usize,
) -> Result<Openings, BenchError> {
    let opener = Opener {
        engine,
        runtime,
        dir,
    };
    // The first child fills; each later one adds a little and is killed in its turn.
    let killed = opener.times(times, |nth| {
        let events = if nth == 0 { events } else { 10_000 };
        crash(child, dir, events)
    })?;
    let clean = opener.times(times, |_| Ok(()))?;
    let index_gone = opener.times(times, |_| delete_indexes(dir))?;
    Ok(Openings {
        clean,
        killed,
        index_gone,
    })
}

struct Opener<'a> {
    engine: &'a dyn Engine,
    runtime: &'a Runtime,
    dir: &'a Path,
}

impl Opener<'_> {
    fn times(
        &self,
        times: usize,
        before: impl Fn(usize) -> Result<(), BenchError>,
    ) -> Result<Opening, BenchError> {
        let mut seen = Vec::new();
        for nth in 0..times {
            before(nth)?;
            seen.push(self.once()?);
        }
        let none = || BenchError::Invalid("at least one opening is needed".to_owned());
        Ok(Opening {
            gigabytes: seen.last().ok_or_else(none)?.gigabytes,
            millis: median(seen.iter().map(|o| o.millis)).ok_or_else(none)?,
            bytes_read: seen.iter().map(|o| o.bytes_read).max().unwrap_or(0),
        })
    }

    fn once(&self) -> Result<Opening, BenchError> {
        let mut env = Env::os();
        let disk = Arc::new(ReadCounting::new(env.disk));
        let read = disk.bytes_read();
        env.disk = disk;
        let clock = Arc::clone(&env.clock);
        let begun = clock.monotonic();
        let log = self.engine.open(env, self.dir, filling().durability)?;
        let head = crate::block_on(self.runtime, log.head())?;
        let took: Duration = clock.monotonic().saturating_sub(begun);
        let bytes_read = read.load(Ordering::Relaxed);
        let events: u64 = head.iter().map(|(_, count)| count).sum();
        log.close()?;
        Ok(Opening {
            gigabytes: events as f64 * filling().size as f64 / 1e9,
            millis: took.as_secs_f64() * 1e3,
            bytes_read,
        })
    }
}

fn crash(
    child: &dyn Fn(&str) -> io::Result<Command>,
    dir: &Path,
    events: u64,
) -> Result<(), BenchError> {
    let job = ChildJob::FillUntilKilled {
        dir: dir.to_owned(),
        events,
    };
    let mut child = RunningChild::start(child, &job)?;
    match child.note()? {
        Some(ChildNote::Filled) => child.kill(),
        other => Err(BenchError::Child(format!(
            "instead of filling a log it said {other:?}"
        ))),
    }
}

fn delete_indexes(dir: &Path) -> Result<(), BenchError> {
    let disk = Env::os().disk;
    let delete = |disk: &dyn Disk| -> io::Result<()> {
        for name in disk.list(dir)?.iter().filter(|name| name.ends_with(".idx")) {
            disk.remove(&dir.join(name))?;
        }
        disk.sync_dir(dir)
    };
    delete(&*disk).map_err(BenchError::io("deleting the indexes"))
}
