//! Appends in rounds: the log, the bare loop and the peers, one after another in each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Disk, Env};
use anabranch_log::{BoxFuture, Log};
use serde::Serialize;

use crate::bare::{self, Bare, BareClient, Method, Way};
use crate::drive::{Client, Length, Meter, Written, drive};
use crate::engine::{LogClient, settle};
use crate::error::BenchError;
use crate::figures::{Figures, Ratio, Slice, median};
use crate::machine::Process;
use crate::workload::{EventSource, Workload};

/// How often and how long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// How many rounds; figures are medians over them.
    pub count: usize,
    /// How long each contender is measured in each round.
    pub each: Duration,
}

impl Rounds {
    /// `count` rounds that measure each contender for `total` altogether.
    pub fn over(total: Duration, count: usize) -> Self {
        Self {
            count,
            each: total / u32::try_from(count.max(1)).unwrap_or(u32::MAX),
        }
    }
}

/// Something that does the work and can be measured doing it.
pub trait Contender: Send {
    /// Does the work for this long.
    fn slice(&mut self, length: Length) -> BoxFuture<'_, Result<Slice, BenchError>>;

    /// Waits until nothing is left to do in the background.
    fn settle(&mut self) -> BoxFuture<'_, ()>;
}

/// A contender that is a number of clients.
pub struct Driven<C> {
    clients: Vec<C>,
    append_events: usize,
    append_bytes: usize,
    meter: Meter,
}

impl<C: Client> Driven<C> {
    /// These clients, doing this work. `disk` counts what they write, if anybody does.
    pub fn new(workload: &Workload, clients: Vec<C>, disk: Option<Arc<dyn Disk>>) -> Self {
        Self::counted(clients, workload.batch, workload.append_bytes(), disk)
    }

    /// These clients, each of whose answers stands for so many events and bytes.
    pub fn of(clients: Vec<C>, append_events: usize, append_bytes: usize) -> Self {
        Self::counted(clients, append_events, append_bytes, None)
    }

    fn counted(
        clients: Vec<C>,
        append_events: usize,
        append_bytes: usize,
        disk: Option<Arc<dyn Disk>>,
    ) -> Self {
        let Env {
            disk: machine,
            clock,
            ..
        } = Env::os();
        Self {
            clients,
            append_events,
            append_bytes,
            meter: Meter {
                clock,
                disk,
                written: None,
                machine,
            },
        }
    }

    /// The same clients; of what goes to the disk only `written` counts.
    pub fn counting(mut self, written: Written) -> Self {
        self.meter.written = Some(written);
        self
    }
}

impl<C: Client> Contender for Driven<C> {
    fn slice(&mut self, length: Length) -> BoxFuture<'_, Result<Slice, BenchError>> {
        Box::pin(async move {
            // If it fails the clients are gone: a contender is not asked again after that.
            let clients = std::mem::take(&mut self.clients);
            let driven = drive(
                clients,
                self.append_events,
                self.append_bytes,
                length,
                &self.meter,
            );
            let (clients, slice) = driven.await?;
            self.clients = clients;
            Ok(slice)
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            settle(self.meter.disk.as_deref()).await;
        })
    }
}

/// The event sources of all clients of a workload.
pub fn sources(workload: &Workload) -> impl Iterator<Item = EventSource> {
    let (streams, clock) = (workload.streams(), Env::os().clock);
    let workload = workload.clone();
    (0..workload.clients)
        .map(move |n| EventSource::new(&workload, Arc::clone(&streams), Arc::clone(&clock), n))
}

/// The clients of a log. `disk` counts what it writes, if that is of interest.
pub fn log_contender(
    workload: &Workload,
    log: &Arc<dyn Log>,
    disk: Option<Arc<dyn Disk>>,
) -> Driven<LogClient> {
    let clients = sources(workload)
        .map(|source| LogClient::new(Arc::clone(log), workload, source))
        .collect();
    Driven::new(workload, clients, disk)
}

/// A bare loop with its clients.
pub struct BareContender {
    driven: Driven<BareClient>,
    _loop: Bare,
}

impl BareContender {
    fn start(
        dir: &Path,
        file_bytes: u64,
        workload: &Workload,
        way: Way,
    ) -> Result<Self, BenchError> {
        let disk = Env::os().disk;
        let path = bare_file(dir, way);
        let bare = Bare::start(&*disk, &path, file_bytes, workload, way)?;
        let clients = sources(workload)
            .map(|source| bare.client(workload, source))
            .collect();
        Ok(Self {
            driven: Driven::new(workload, clients, Some(disk)),
            _loop: bare,
        })
    }
}

impl Contender for BareContender {
    fn slice(&mut self, length: Length) -> BoxFuture<'_, Result<Slice, BenchError>> {
        self.driven.slice(length)
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        self.driven.settle()
    }
}

/// Each method has a file of its own: a direct write drops what the page cache has.
fn bare_file(dir: &Path, way: Way) -> std::path::PathBuf {
    dir.join(match way.method {
        Method::Buffered => "bare-buffered",
        Method::Direct { .. } => "bare-direct",
    })
}

/// One way of the bare loop and what it gave when it was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// In words.
    pub way: String,
    /// Events per second.
    pub events_per_second: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
}

/// Tries all ways that the bare loop could take for this work and starts the best: the
/// one with the lowest median latency for a single client, else the one with the most
/// events per second. Each way writes into a file of `file_bytes` bytes below `dir`.
pub async fn best_bare(
    dir: &Path,
    file_bytes: u64,
    workload: &Workload,
    trial: Duration,
) -> Result<(BareContender, Way, Vec<Tried>), BenchError> {
    const PASSES: usize = 3;
    let mut ways = Way::for_work(workload);
    for &way in &ways {
        let (disk, path) = (Env::os().disk, bare_file(dir, way));
        let exists = disk
            .exists(&path)
            .map_err(BenchError::io(format!("looking for {}", path.display())))?;
        if !exists {
            bare::write_ahead(&*disk, &path, file_bytes)?;
        }
    }
    ways.retain(|&way| bare::offered(&*Env::os().disk, &bare_file(dir, way), way));
    let mut seen: Vec<Vec<Figures>> = vec![Vec::new(); ways.len()];
    for _ in 0..PASSES {
        for (&way, seen) in ways.iter().zip(&mut seen) {
            let mut contender = BareContender::start(dir, file_bytes, workload, way)?;
            let slice = contender.slice(Length::time(trial)).await?;
            seen.push(Figures::of(&slice));
        }
    }
    let tried: Vec<Tried> = ways
        .iter()
        .zip(&seen)
        .map(|(way, seen)| Tried {
            way: way.to_string(),
            events_per_second: median(seen.iter().map(|f| f.events_per_second)).unwrap_or(0.0),
            p50_us: median(seen.iter().map(|f| f.p50_us)).unwrap_or(0.0),
        })
        .collect();
    let best = best_way(workload, &tried);
    let contender = BareContender::start(dir, file_bytes, workload, ways[best])?;
    Ok((contender, ways[best], tried))
}

fn best_way(workload: &Workload, tried: &[Tried]) -> usize {
    let worth = |tried: &Tried| match workload.clients {
        1 => -tried.p50_us,
        _ => tried.events_per_second,
    };
    (0..tried.len())
        .max_by(|&a, &b| worth(&tried[a]).total_cmp(&worth(&tried[b])))
        .unwrap_or(0)
}

/// What the log did.
#[derive(Debug, Clone, Serialize)]
pub struct LogFigures {
    /// Medians over the rounds.
    #[serde(flatten)]
    pub figures: Figures,
    /// Events appended altogether.
    pub events: u64,
    /// Memory of the process before the first append, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_before_bytes: Option<u64>,
    /// Memory of the process after the last append, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_after_bytes: Option<u64>,
}

/// What the bare loop did.
#[derive(Debug, Clone, Serialize)]
pub struct BareFigures {
    /// Medians over the rounds.
    #[serde(flatten)]
    pub figures: Figures,
    /// The way that was best, in words.
    pub method: String,
    /// All ways that were tried.
    pub tried: Vec<Tried>,
}

/// What a peer did, or why it did nothing.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum PeerFigures {
    /// It was measured.
    Measured {
        /// Medians over the rounds.
        #[serde(flatten)]
        figures: Figures,
        /// Its version.
        version: String,
        /// How it was set up.
        setup: String,
        /// The log's figures over the peer's.
        ratio: Ratio,
    },
    /// It was not.
    Absent {
        /// Why, and what to do.
        missing: String,
    },
}

/// The outcome of all rounds.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The log.
    pub append: LogFigures,
    /// The bare loop.
    pub bare: BareFigures,
    /// The log's figures over the bare loop's.
    pub ratio: Ratio,
    /// The peers, by name.
    pub peers: BTreeMap<&'static str, PeerFigures>,
}

/// A peer that is ready, or why it is not.
pub struct PeerEntry {
    /// Its name.
    pub name: &'static str,
    /// Its clients.
    pub ready: Result<ReadyPeer, BenchError>,
}

/// A peer whose server runs and whose clients are connected.
pub struct ReadyPeer {
    /// Its clients.
    pub contender: Box<dyn Contender>,
    /// Its version.
    pub version: String,
    /// How it was set up, in a few words.
    pub setup: String,
}

/// A contender's stretches so far; an error ends them.
pub struct Lane {
    pub contender: Box<dyn Contender>,
    pub seen: Vec<Figures>,
    events: u64,
}

impl Lane {
    pub fn new(contender: Box<dyn Contender>) -> Self {
        Self {
            contender,
            seen: Vec::new(),
            events: 0,
        }
    }

    pub async fn run(&mut self, length: Length) -> Result<(), BenchError> {
        let slice = self.contender.slice(length).await?;
        self.contender.settle().await;
        self.events += slice.events;
        self.seen.push(Figures::of(&slice));
        Ok(())
    }
}

/// Measures the log, the bare loop and the peers in rounds. The order within a round turns
/// around from one to the next, so that none always comes after the same other.
///
/// A peer that fails is left out from then on; the log or the bare loop failing ends the
/// measurement.
pub async fn compare(
    log: Box<dyn Contender>,
    bare: (BareContender, Way, Vec<Tried>),
    peers: Vec<PeerEntry>,
    rounds: Rounds,
    progress: &dyn Fn(&str),
) -> Result<Compared, BenchError> {
    let machine = Env::os().disk;
    let before = Process::now(&*machine);
    let (bare, way, tried) = bare;
    let mut lanes = [Lane::new(log), Lane::new(Box::new(bare))];
    let mut peers: Vec<_> = peers
        .into_iter()
        .map(|peer| {
            let lane = peer.ready.map(|ready| {
                let about = (ready.version, ready.setup);
                (Lane::new(ready.contender), about)
            });
            (peer.name, lane)
        })
        .collect();
    // Opening may leave work behind as well.
    for lane in &mut lanes {
        lane.contender.settle().await;
    }
    let length = Length::time(rounds.each);
    for round in 0..rounds.count {
        progress(&format!("round {} of {}", round + 1, rounds.count));
        for turn in 0..2 {
            lanes[(round + turn) % 2].run(length).await?;
        }
        for (_, peer) in &mut peers {
            if let Ok((lane, _)) = peer
                && let Err(error) = lane.run(length).await
            {
                *peer = Err(error);
            }
        }
    }
    let after = Process::now(&*machine);
    let [log, bare] = lanes;
    let none = || BenchError::Invalid("at least one round is needed".to_owned());
    let peers = peers.into_iter().map(|(name, peer)| {
        let figures = match peer {
            Ok((lane, (version, setup))) => PeerFigures::Measured {
                figures: Figures::median(&lane.seen).ok_or_else(none)?,
                version,
                setup,
                ratio: Ratio::median(&log.seen, &lane.seen).ok_or_else(none)?,
            },
            Err(error) => PeerFigures::Absent {
                missing: error.to_string(),
            },
        };
        Ok((name, figures))
    });
    Ok(Compared {
        peers: peers.collect::<Result<_, BenchError>>()?,
        append: LogFigures {
            figures: Figures::median(&log.seen).ok_or_else(none)?,
            events: log.events,
            resident_before_bytes: before.resident_bytes,
            resident_after_bytes: after.resident_bytes,
        },
        bare: BareFigures {
            figures: Figures::median(&bare.seen).ok_or_else(none)?,
            method: way.to_string(),
            tried,
        },
        ratio: Ratio::median(&log.seen, &bare.seen).ok_or_else(none)?,
    })
}
