#![expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use anabranch_env::{Clock, Disk, DiskStats};
use tokio::sync::Notify;

use crate::error::BenchError;
use crate::figures::Slice;
use crate::latency::Latencies;
use crate::machine::Process;

/// One client of a contender.
pub trait Client: Send + 'static {
    /// Makes the next append ready. Not part of the latency.
    fn prepare(&mut self);

    /// Hands it over and answers when it is durable.
    fn append(&mut self) -> impl Future<Output = Result<(), BenchError>> + Send;
}

/// How long clients are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// For a time, after a time that does not count; longer if nothing was acknowledged
    /// in it.
    Time {
        /// Does not count.
        warm_up: Duration,
        /// Counts.
        measured: Duration,
    },
    /// Until each client has done this many appends.
    AppendsEach(u64),
}

impl Length {
    /// A time that counts, after a tenth of it that does not.
    pub fn time(measured: Duration) -> Self {
        Self::Time {
            warm_up: measured / 10,
            measured,
        }
    }
}

/// Counts what a contender has written so far.
pub type Written = Arc<dyn Fn() -> DiskStats + Send + Sync>;

/// What a measurement reads while clients are at work.
#[derive(Clone)]
pub struct Meter {
    /// Times the appends.
    pub clock: Arc<dyn Clock>,
    /// The contender's disk, for its counts. `None` for a contender that writes in another
    /// process.
    pub disk: Option<Arc<dyn Disk>>,
    /// What of that counts, if not all of it.
    pub written: Option<Written>,
    /// Where the process's own figures are read.
    pub machine: Arc<dyn Disk>,
}

struct Reading {
    at: Duration,
    disk: DiskStats,
    process: Process,
}

impl Meter {
    fn read(&self) -> Reading {
        Reading {
            process: Process::now(&*self.machine),
            disk: match (&self.written, &self.disk) {
                (Some(written), _) => written(),
                (None, Some(disk)) => disk.stats(),
                (None, None) => DiskStats::default(),
            },
            at: self.clock.monotonic(),
        }
    }
}

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const STOPPED: u8 = 2;

struct Run {
    phase: AtomicU8,
    stopped: Notify,
    /// Whether an append was counted, and who waits for the first.
    counted: AtomicBool,
    first_counted: Notify,
    clock: Arc<dyn Clock>,
    appends_each: Option<u64>,
}

impl Run {
    fn stop(&self) {
        self.phase.store(STOPPED, Ordering::Relaxed);
        self.stopped.notify_one();
        self.first_counted.notify_one();
    }

    fn note_counted(&self) {
        // Most often it is set, and only read.
        if !self.counted.load(Ordering::Relaxed) {
            self.counted.store(true, Ordering::Relaxed);
            self.first_counted.notify_one();
        }
    }
}

/// Lets all clients append in a closed loop, each waiting for its acknowledgement before
/// its next append, and gives them back with what was seen. `append_events` and
/// `append_bytes` are what one append holds.
///
/// A closed loop slows down with the contender, so its latencies are those of a system
/// that has as many callers as clients, not those of callers that come at their own pace.
pub async fn drive<C: Client>(
    clients: Vec<C>,
    append_events: usize,
    append_bytes: usize,
    length: Length,
    meter: &Meter,
) -> Result<(Vec<C>, Slice), BenchError> {
    let (first_phase, appends_each) = match length {
        Length::Time { .. } => (WARM_UP, None),
        Length::AppendsEach(appends) => (MEASURED, Some(appends)),
    };
    let run = Arc::new(Run {
        phase: AtomicU8::new(first_phase),
        stopped: Notify::new(),
        counted: AtomicBool::new(false),
        first_counted: Notify::new(),
        clock: Arc::clone(&meter.clock),
        appends_each,
    });
    let mut begun = meter.read();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(work(client, Arc::clone(&run))))
        .collect();
    let mut ended = None;
    if let Length::Time { warm_up, measured } = length {
        // A client that fails stops the run early.
        let stopped = run.stopped.notified();
        tokio::pin!(stopped);
        if tokio::time::timeout(warm_up, &mut stopped).await.is_err() {
            begun = meter.read();
            run.phase.store(MEASURED, Ordering::Relaxed);
            if tokio::time::timeout(measured, &mut stopped).await.is_err() {
                run.first_counted.notified().await;
            }
            ended = Some(meter.read());
            run.stop();
        }
    }
    let mut slice = Slice::default();
    let mut clients = Vec::new();
    let mut failed = None;
    for task in tasks {
        let joined = task.await.map_err(|e| BenchError::Void(e.to_string()))?;
        match joined {
            Ok((client, seen)) => {
                slice.latencies.merge(&seen);
                clients.push(client);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let ended = ended.unwrap_or_else(|| meter.read());
    slice.appends = slice.latencies.count();
    slice.events = slice.appends * append_events as u64;
    slice.data_bytes = slice.appends * append_bytes as u64;
    slice.elapsed = ended.at.saturating_sub(begun.at);
    slice.disk = since(ended.disk, begun.disk);
    slice.cpu = match (ended.process.cpu, begun.process.cpu) {
        (Some(ended), Some(begun)) => Some(ended.saturating_sub(begun)),
        _ => None,
    };
    Ok((clients, slice))
}

/// Stops the run when its client panics, so that nobody waits for it.
struct StopOnPanic<'a>(&'a Run);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

async fn work<C: Client>(mut client: C, run: Arc<Run>) -> Result<(C, Latencies), BenchError> {
    let _stop = StopOnPanic(&run);
    let mut seen = Latencies::new();
    let mut done = 0;
    while run.appends_each.is_none_or(|appends| done < appends)
        && run.phase.load(Ordering::Relaxed) != STOPPED
    {
        client.prepare();
        let begun = run.clock.monotonic();
        if let Err(error) = client.append().await {
            run.stop();
            return Err(error);
        }
        let ended = run.clock.monotonic();
        done += 1;
        if run.phase.load(Ordering::Relaxed) == MEASURED {
            seen.record(ended.saturating_sub(begun));
            run.note_counted();
        }
        // A contender that answers at once must not keep the other clients from working.
        tokio::task::consume_budget().await;
    }
    Ok((client, seen))
}

/// What was written between two readings.
pub fn since(ended: DiskStats, begun: DiskStats) -> DiskStats {
    DiskStats {
        bytes_written: ended.bytes_written - begun.bytes_written,
        writes: ended.writes - begun.writes,
        syncs: ended.syncs - begun.syncs,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

    use anabranch_env::Env;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    fn meter() -> Meter {
        let env = Env::os();
        Meter {
            clock: env.clock,
            disk: Some(Arc::clone(&env.disk)),
            written: None,
            machine: env.disk,
        }
    }

    type Answer = oneshot::Sender<Result<(), BenchError>>;

    /// Appends wait until the test lets them go.
    struct Gate {
        waiting: Mutex<Vec<(usize, Answer)>>,
        /// One permit for each append that has come.
        came: Semaphore,
    }

    impl Gate {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                waiting: Mutex::default(),
                came: Semaphore::new(0),
            })
        }

        /// Waits for this many appends and gives the client of each.
        async fn arrivals(&self, count: u32) -> Vec<usize> {
            self.came.acquire_many(count).await.unwrap().forget();
            let waiting = self.waiting.lock().unwrap();
            waiting.iter().map(|(client, _)| *client).collect()
        }

        fn answer(&self, client: usize, outcome: Result<(), BenchError>) {
            let mut waiting = self.waiting.lock().unwrap();
            let at = waiting.iter().position(|(c, _)| *c == client).unwrap();
            waiting.remove(at).1.send(outcome).unwrap();
        }
    }

    struct Gated {
        gate: Arc<Gate>,
        number: usize,
    }

    impl Client for Gated {
        fn prepare(&mut self) {}

        async fn append(&mut self) -> Result<(), BenchError> {
            let (answer, outcome) = oneshot::channel();
            self.gate
                .waiting
                .lock()
                .unwrap()
                .push((self.number, answer));
            self.gate.came.add_permits(1);
            outcome.await.unwrap()
        }
    }

    fn gated(gate: &Arc<Gate>, count: usize) -> Vec<Gated> {
        (0..count)
            .map(|number| Gated {
                gate: Arc::clone(gate),
                number,
            })
            .collect()
    }

    #[tokio::test]
    async fn a_client_waits_for_its_acknowledgement_before_it_appends_again() {
        let gate = Gate::new();
        let clients = gated(&gate, 2);
        let run =
            tokio::spawn(
                async move { drive(clients, 3, 30, Length::AppendsEach(2), &meter()).await },
            );
        let mut first = gate.arrivals(2).await;
        first.sort_unstable();
        assert_eq!(first, [0, 1], "each client has one append under way");
        gate.answer(1, Ok(()));
        assert_eq!(gate.arrivals(1).await, [0, 1], "only client 1 came again");
        for client in [1, 0] {
            gate.answer(client, Ok(()));
        }
        assert_eq!(gate.arrivals(1).await, [0]);
        gate.answer(0, Ok(()));
        let (clients, slice) = run.await.unwrap().unwrap();
        assert_eq!(clients.len(), 2);
        assert_eq!(
            (slice.appends, slice.events, slice.data_bytes),
            (4, 12, 120)
        );
    }

    #[tokio::test]
    async fn a_failed_append_ends_the_run_with_its_error() {
        let gate = Gate::new();
        let clients = gated(&gate, 1);
        let hour = Duration::from_secs(3_600);
        let run =
            tokio::spawn(async move { drive(clients, 1, 1, Length::time(hour), &meter()).await });
        gate.arrivals(1).await;
        gate.answer(0, Err(BenchError::Invalid("no more".to_owned())));
        let error = run.await.unwrap().map(drop).unwrap_err();
        assert_eq!(error.to_string(), "no more");
    }

    struct Panicking;

    impl Client for Panicking {
        fn prepare(&mut self) {}

        async fn append(&mut self) -> Result<(), BenchError> {
            panic!("a client of this test panics")
        }
    }

    #[tokio::test]
    async fn a_client_that_panics_ends_the_run() {
        let hour = Length::time(Duration::from_secs(3_600));
        let run = drive(vec![Panicking], 1, 1, hour, &meter()).await;
        assert!(matches!(run, Err(BenchError::Void(what)) if what.contains("panic")));
    }

    #[tokio::test]
    async fn a_timed_run_goes_on_until_something_is_acknowledged() {
        let gate = Gate::new();
        let clients = gated(&gate, 1);
        let no_time = Length::Time {
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
        };
        let run = tokio::spawn(async move { drive(clients, 1, 1, no_time, &meter()).await });
        gate.arrivals(1).await;
        assert!(!run.is_finished());
        gate.answer(0, Ok(()));
        // What it still asks for while it is told to stop is answered as well.
        let answering = tokio::spawn(async move {
            loop {
                gate.arrivals(1).await;
                gate.answer(0, Ok(()));
            }
        });
        let (_, slice) = run.await.unwrap().unwrap();
        answering.abort();
        assert!(slice.appends >= 1);
    }

    /// Answers at once and counts.
    struct Immediate(Arc<AtomicU64>);

    impl Client for Immediate {
        fn prepare(&mut self) {}

        async fn append(&mut self) -> Result<(), BenchError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_timed_run_counts_no_more_than_what_was_acknowledged() {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let clients = (0..3)
            .map(|_| Immediate(Arc::clone(&acknowledged)))
            .collect();
        let length = Length::time(Duration::from_millis(20));
        let (_, slice) = drive(clients, 1, 10, length, &meter()).await.unwrap();
        assert!(slice.appends > 0);
        assert!(slice.appends <= acknowledged.load(Ordering::Relaxed));
        assert!(slice.elapsed >= Duration::from_millis(20));
        assert_eq!(slice.data_bytes, slice.appends * 10);
    }
}
