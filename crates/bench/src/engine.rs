#![expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Disk, DiskStats, Env};
use anabranch_log::{Append, Layout, Log, OpenError};
use anabranch_log_segment::{
    Durability, EmbeddedLog, Options, SegmentLog, Stats, WriteMethod, create, layout_of,
};

use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

/// Opens logs to be measured.
pub trait Engine: Send + Sync {
    /// Opens the log in `dir`, and makes it if there is none.
    fn open(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError>;

    /// As [`Engine::open`], with room written ahead for some seconds of the heaviest work.
    fn open_for_burst(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError> {
        self.open(env, dir, durability)
    }
}

/// A log that is measured.
pub trait OpenLog: Log {
    /// How it writes, in a word or two.
    fn method(&self) -> String;

    /// What it has written so far for what was appended, its indexes included, but
    /// without the zeros that it writes ahead. `disk` counts all that it writes.
    fn written(&self, disk: &dyn Disk) -> DiskStats;

    /// Does the work that appends would otherwise find done: writes segments ahead.
    fn prepare(&self);

    /// Ends it in order.
    fn close(&self) -> Result<(), OpenError>;
}

/// Segments kept written ahead: what a burst of some seconds takes.
const SPARE_SEGMENTS: usize = 12;

/// The embedded engine, with its usual options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segments;

impl Engine for Segments {
    fn open(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError> {
        let options = Options {
            durability,
            ..Options::default()
        };
        Ok(Arc::new(SegmentLog::open(env, dir, options)?))
    }

    fn open_for_burst(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError> {
        let options = Options {
            durability,
            // As a log of some gigabytes has them; a new one begins smaller.
            first_segment_bytes: Some(128 << 20),
            spare_segments: SPARE_SEGMENTS,
            ..Options::default()
        };
        Ok(Arc::new(SegmentLog::open(env, dir, options)?))
    }
}

/// The embedded engine with several partitions, over which all streams are spread.
#[derive(Debug, Clone, Copy)]
pub struct Partitions(pub u32);

impl Partitions {
    fn open_with(&self, env: Env, dir: &Path, options: Options) -> Result<EmbeddedLog, OpenError> {
        if layout_of(&env, dir)?.is_one() {
            let layout = Layout::new(Vec::new(), self.0);
            let layout = layout.map_err(|error| OpenError::Invalid(error.to_string()))?;
            create(&env, dir, &layout)?;
        }
        EmbeddedLog::open(env, dir, options)
    }
}

impl Engine for Partitions {
    fn open(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError> {
        let options = Options {
            durability,
            ..Options::default()
        };
        Ok(Arc::new(self.open_with(env, dir, options)?))
    }

    fn open_for_burst(
        &self,
        env: Env,
        dir: &Path,
        durability: Durability,
    ) -> Result<Arc<dyn OpenLog>, OpenError> {
        let options = Options {
            durability,
            // Together as much as one partition has.
            first_segment_bytes: Some(((128 << 20) / u64::from(self.0)).next_power_of_two()),
            spare_segments: SPARE_SEGMENTS,
            ..Options::default()
        };
        Ok(Arc::new(self.open_with(env, dir, options)?))
    }
}

fn words(method: WriteMethod) -> String {
    match method {
        WriteMethod::Auto => "auto",
        WriteMethod::Buffered => "buffered",
        WriteMethod::Direct => "direct",
    }
    .to_owned()
}

fn without_zeros(disk: &dyn Disk, own: Stats) -> DiskStats {
    /// Segments are written ahead in steps of this many bytes, each a write.
    const AHEAD_STEP: u64 = 256 << 10;
    let all = disk.stats();
    let steps = own.ahead_bytes / AHEAD_STEP;
    DiskStats {
        bytes_written: all.bytes_written - own.ahead_bytes,
        writes: all.writes - steps,
        syncs: all.syncs,
    }
}

impl OpenLog for EmbeddedLog {
    fn method(&self) -> String {
        words(self.write_method())
    }

    fn written(&self, disk: &dyn Disk) -> DiskStats {
        without_zeros(disk, self.stats())
    }

    fn prepare(&self) {
        Self::prepare(self);
    }

    fn close(&self) -> Result<(), OpenError> {
        Self::close(self)
    }
}

impl OpenLog for SegmentLog {
    fn method(&self) -> String {
        words(self.write_method())
    }

    fn written(&self, disk: &dyn Disk) -> DiskStats {
        without_zeros(disk, self.stats())
    }

    fn prepare(&self) {
        Self::prepare(self);
    }

    fn close(&self) -> Result<(), OpenError> {
        Self::close(self)
    }
}

/// A client of a log.
pub struct LogClient {
    log: Arc<dyn Log>,
    source: EventSource,
    batch: usize,
    next: Append,
}

impl LogClient {
    /// A client that appends what `source` makes.
    pub fn new(log: Arc<dyn Log>, workload: &Workload, source: EventSource) -> Self {
        Self {
            log,
            source,
            batch: workload.batch,
            next: Append::default(),
        }
    }
}

impl Client for LogClient {
    fn prepare(&mut self) {
        self.next = Append::events(self.source.batch(self.batch));
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let appended = self.log.append(std::mem::take(&mut self.next)).await?;
        if appended.repeated || appended.places.len() != self.batch {
            return Err(BenchError::Void(format!(
                "an append of {} new events was answered with {} places{}",
                self.batch,
                appended.places.len(),
                if appended.repeated {
                    " of an earlier append"
                } else {
                    ""
                }
            )));
        }
        Ok(())
    }
}

/// Waits until `disk` is left alone, at most three seconds, and a moment if nobody counts
/// what is written: work that a contender does after its acknowledgements must not slow
/// the next one down.
pub async fn settle(disk: Option<&dyn Disk>) {
    const QUIET: Duration = Duration::from_millis(50);
    let mut before = disk.map(Disk::stats);
    for _ in 0..60 {
        tokio::time::sleep(QUIET).await;
        let now = disk.map(Disk::stats);
        if now == before {
            break;
        }
        before = now;
    }
}
