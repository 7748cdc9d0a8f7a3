#![expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Disk, Env};
use anabranch_log::{Append, Log, OpenError};
use anabranch_log_segment::{Durability, Options, SegmentLog, WriteMethod};

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
}

/// A log that is measured.
pub trait OpenLog: Log {
    /// How it writes, in a word or two.
    fn method(&self) -> String;

    /// Ends it in order.
    fn close(&self) -> Result<(), OpenError>;
}

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
}

impl OpenLog for SegmentLog {
    fn method(&self) -> String {
        match self.write_method() {
            WriteMethod::Auto => "auto",
            WriteMethod::Buffered => "buffered",
            WriteMethod::Direct => "direct",
        }
        .to_owned()
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
