//! One run: sends, kills, and compares.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{CommandId, Event, StreamId};
use anabranch_env::{Env, SplitMix64};
use anabranch_log::{Log, Order, VersionRange};
use anabranch_model::Cut;
use anabranch_runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch_runtime::view::{Consistency, ViewOptions, ViewSpec};
use anabranch_runtime::{EntityOptions, ProcessOptions, SendOptions, Service};
use anabranch_view_postgres::InPostgres as _;
use anabranch_view_sqlite::InSqlite as _;
use tokio::task::JoinSet;

use crate::flaky::Flaky;
use crate::machine::{Engine, Machine};
use crate::model::{
    AllInMemory, AllInPostgres, AllInSqlite, Copier, InMemory, InPostgres, InSqlite, Row, Rows,
    Source, SourceCommand, Target, TargetEvent,
};

/// What a run does.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What decides about everything else.
    pub seed: u64,
    /// How many numbers are copied.
    pub events: u64,
    /// In how many streams.
    pub streams: u64,
    /// About how many numbers are copied between two kills; 0: nothing is killed.
    pub events_per_kill: u64,
    /// One append in so many fails; 0: none.
    pub failure_one_in: u64,
    /// Which log.
    pub engine: Engine,
    /// The log writes an event twice now and then: what a run must find.
    pub sabotage: bool,
    /// Where the views in SQLite are kept: another directory for each run.
    pub dir: PathBuf,
    /// The address of a database for a view in PostgreSQL; without one there is no such view.
    pub postgres: Option<String>,
}

/// What a run has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// How many numbers were copied.
    pub copied: u64,
    /// How often services were killed.
    pub kills: u64,
    /// How often the power was cut.
    pub power_cuts: u64,
    /// How often a second runtime ran beside the first.
    pub doubles: u64,
    /// How many turns it took.
    pub turns: u64,
    /// How often the views were asked in the midst of it.
    pub looks: u64,
}

/// After how many turns without anything new a run is stuck.
const STUCK_TURNS: u64 = 200_000;

/// Copies; says what is wrong, if something is.
pub fn run(settings: &Settings) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| error.to_string())?;
    let ran = runtime.block_on(async { Run::new(settings)?.go().await });
    ran.map_err(|wrong| format!("seed {}: {wrong}", settings.seed))
}

/// How far each stream's sender is: the next number to send.
type Sent = Arc<Mutex<Vec<u64>>>;

struct Run<'a> {
    settings: &'a Settings,
    machine: Machine,
    rng: SplitMix64,
    snapshots: Arc<dyn SnapshotStore>,
    sent: Sent,
    /// How far the targets were looked at, and what they have.
    counted: Cut,
    copied: u64,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings) -> Result<Self, String> {
        Ok(Self {
            settings,
            machine: Machine::new(settings.engine, settings.seed)?,
            rng: SplitMix64::new(settings.seed),
            snapshots: Arc::new(MemorySnapshots::new()),
            sent: Arc::new(Mutex::new(vec![0; settings.streams as usize])),
            counted: Cut::start(),
            copied: 0,
            report: Report::default(),
        })
    }

    fn per_stream(&self) -> u64 {
        self.settings.events / self.settings.streams
    }

    async fn go(mut self) -> Result<Report, String> {
        let total = self.per_stream() * self.settings.streams;
        while self.settings.events_per_kill > 0 && self.copied < total {
            let goal = self.copied + 1 + self.rng.below(self.settings.events_per_kill * 2);
            self.live(goal.min(total)).await?;
        }
        self.finish(total).await
    }

    async fn start(&mut self) -> Result<Service, String> {
        let failures = match self.settings.events_per_kill {
            0 => 0,
            _ => self.settings.failure_one_in,
        };
        let seed = self.rng.next_u64();
        let sabotage = self.settings.sabotage;
        let log = Arc::new(Flaky::new(self.machine.log(), failures, sabotage, seed));
        service(&self.machine, log, self.snapshots.clone(), self.settings).await
    }

    /// One life of the service, and at times of a second one, until so much is copied.
    async fn live(&mut self, goal: u64) -> Result<(), String> {
        let mut services = vec![self.start().await?];
        let mut senders = JoinSet::new();
        self.send(&services[0], &mut senders);
        let second_at = match self.rng.below(3) {
            0 => self.copied + self.rng.below(self.settings.events_per_kill),
            _ => u64::MAX,
        };
        let mut quiet = 0;
        while self.copied < goal {
            let before = self.copied;
            self.turn().await;
            self.count().await?;
            if self.rng.one_in(4) {
                self.look(&services).await?;
            }
            if services.len() == 1 && self.copied >= second_at {
                services.push(self.start().await?);
                self.send(&services[1], &mut senders);
                self.report.doubles += 1;
            }
            // Of two, the first may die while the second goes on.
            if services.len() == 2 && self.rng.one_in(200) {
                drop(services.remove(0));
                self.report.kills += 1;
            }
            quiet = if self.copied == before { quiet + 1 } else { 0 };
            // What a runtime has sent that has died is sent again by the next one that starts.
            if quiet > 500 && services.len() == 1 && self.report.kills > 0 {
                break;
            }
            stuck(quiet, &services)?;
        }
        // Killed somewhere in the midst of its work.
        for _ in 0..self.rng.below(40) {
            tokio::task::yield_now().await;
        }
        self.report.kills += services.len() as u64;
        senders.abort_all();
        drop(services);
        while senders.join_next().await.is_some() {}
        if self.rng.one_in(4) {
            self.report.power_cuts += u64::from(self.machine.cut_power(&mut self.rng)?);
        }
        if self.rng.one_in(8) {
            // Snapshots are only a help.
            self.snapshots = Arc::new(MemorySnapshots::new());
        }
        Ok(())
    }

    /// Lets everybody go on, and a little time pass.
    async fn turn(&mut self) {
        self.report.turns += 1;
        for _ in 0..1 + self.rng.below(4) {
            tokio::task::yield_now().await;
            self.machine.step();
        }
        let millis = self.rng.below(4);
        self.machine.clock.advance(Duration::from_millis(millis));
        // While everybody waits for time, it passes faster.
        let now = self.machine.time.monotonic();
        if self.rng.one_in(8)
            && let Some(wake) = self.machine.clock.next_wake()
        {
            self.machine.clock.advance(wake.saturating_sub(now));
        }
    }

    /// Lets the streams' senders go on where they are.
    fn send(&self, service: &Service, senders: &mut JoinSet<()>) {
        for stream in 0..self.settings.streams {
            let source = service.entity::<Source>(key(stream));
            let (sent, end) = (self.sent.clone(), self.per_stream());
            let time = self.machine.time.clone();
            senders.spawn(async move {
                loop {
                    let first = locked(&sent)[stream as usize];
                    if first >= end {
                        return;
                    }
                    let id = CommandId::derived(first.into(), &[b"emit", key(stream).as_bytes()]);
                    let count = (1 + id.as_u128() as u64 % 9).min(end - first);
                    let options = SendOptions {
                        id: Some(id),
                        ..SendOptions::default()
                    };
                    let emit = SourceCommand::Emit { first, count };
                    match source.send_with(emit, options).await {
                        Ok(_) => {
                            let next = &mut locked(&sent)[stream as usize];
                            *next = (*next).max(first + count);
                        }
                        // A second sender may be ahead; what is refused here was not new.
                        Err(_) => time.sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
    }

    /// Counts what has arrived at the targets.
    async fn count(&mut self) -> Result<(), String> {
        let filter = anabranch_model::Filter::category("target");
        let log = self.machine.log();
        let head = log.head().await.map_err(|error| error.to_string())?;
        let mut read = log.read(&self.counted, filter, anabranch_log::ReadMode::ToHead);
        while let Some(event) = read.next().await {
            event.map_err(|error| error.to_string())?;
            self.copied += 1;
        }
        self.counted = head;
        Ok(())
    }

    /// No view ever shows a part of a batch, or a number out of order.
    async fn look(&mut self, services: &[Service]) -> Result<(), String> {
        for service in services {
            for (view, rows) in shown(service, &Consistency::any()).await {
                self.report.looks += 1;
                for (stream, row) in rows {
                    if row.torn || row.wrong > 0 {
                        self.compare().await?;
                        return Err(format!("view {view} shows of {stream}: {row:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// In each target stand the first numbers, each once and in order.
    async fn compare(&self) -> Result<(), String> {
        let log = self.machine.log();
        for stream in 0..self.settings.streams {
            let numbers = numbers(&log, &format!("target/{}", key(stream))).await?;
            let right = numbers.iter().zip(0..).take_while(|(a, b)| **a == *b);
            let at = right.count();
            if at < numbers.len() {
                let around = &numbers[at.saturating_sub(3)..numbers.len().min(at + 5)];
                return Err(format!(
                    "target {} got {} numbers; wrong from number {at}: {around:?}",
                    key(stream),
                    numbers.len()
                ));
            }
        }
        Ok(())
    }

    /// With nothing killed any more, everything arrives, once.
    async fn finish(mut self, total: u64) -> Result<Report, String> {
        self.snapshots = Arc::new(MemorySnapshots::new());
        let log = self.machine.log();
        let service = service(&self.machine, log, self.snapshots.clone(), self.settings).await?;
        let mut senders = JoinSet::new();
        self.send(&service, &mut senders);
        let services = [service];
        let mut quiet = 0;
        while self.copied < total || services[0].under_way() > 0 {
            let before = self.copied;
            self.turn().await;
            if quiet % 16 == 0 {
                self.count().await?;
            }
            quiet = if self.copied == before { quiet + 1 } else { 0 };
            stuck(quiet, &services)?;
        }
        // Whatever would come twice has had its time to come.
        for _ in 0..1000 {
            self.turn().await;
        }
        self.count().await?;
        self.report.copied = self.copied;
        self.compare().await?;
        let log = self.machine.log();
        let mut wanted = Rows::new();
        for stream in 0..self.settings.streams {
            for category in ["source", "target"] {
                let row = Row {
                    next: self.per_stream() as i64,
                    ..Row::default()
                };
                wanted.insert(format!("{category}/{}", key(stream)), row);
            }
        }
        let letters = services[0].dead_letters();
        if !letters.is_empty() {
            return Err(format!("{} dead letters: {:?}", letters.len(), letters[0]));
        }
        let head = log.head().await.map_err(|error| error.to_string())?;
        // Time here passes with every turn, and stores outside of it take theirs.
        let consistency = Consistency::after(head, Duration::from_secs(100_000));
        let asked = shown(&services[0], &consistency);
        tokio::pin!(asked);
        let views = loop {
            tokio::select! {
                views = &mut asked => break views,
                () = self.turn() => {}
            }
        };
        let in_postgres = self.settings.postgres.as_ref().map(|_| "in-postgres");
        for view in ["in-memory", "in-sqlite"].into_iter().chain(in_postgres) {
            match views.iter().find(|(name, _)| *name == view) {
                Some((_, rows)) if *rows == wanted => {}
                Some((_, rows)) => return Err(format!("view {view} shows {rows:?}")),
                None => return Err(format!("view {view} does not answer")),
            }
        }
        Ok(self.report)
    }
}

/// What the views show, as far as they answer.
async fn shown(service: &Service, consistency: &Consistency) -> Vec<(&'static str, Rows)> {
    let mut all = Vec::new();
    if let Ok(answer) = service.query(AllInMemory, consistency.clone()).await {
        all.push(("in-memory", answer.value));
    }
    if let Ok(answer) = service.query(AllInSqlite, consistency.clone()).await {
        all.push(("in-sqlite", answer.value));
    }
    if let Ok(answer) = service.query(AllInPostgres, consistency.clone()).await {
        all.push(("in-postgres", answer.value));
    }
    all
}

fn stuck(quiet: u64, services: &[Service]) -> Result<(), String> {
    if quiet < STUCK_TURNS {
        return Ok(());
    }
    let diagnostics: Vec<_> = services.iter().flat_map(Service::diagnostics).collect();
    let last: Vec<_> = diagnostics
        .iter()
        .rev()
        .take(5)
        .map(|note| &note.text)
        .collect();
    Err(format!(
        "nothing arrives any more; the last diagnostics: {last:#?}"
    ))
}

async fn service(
    machine: &Machine,
    log: Arc<dyn Log>,
    snapshots: Arc<dyn SnapshotStore>,
    settings: &Settings,
) -> Result<Service, String> {
    let entities = EntityOptions {
        snapshot_every: 200,
        ..EntityOptions::default()
    };
    let options = ProcessOptions {
        keep_every: 500,
        ..ProcessOptions::default().from_start()
    };
    let views = || ViewOptions {
        snapshot_every: 1000,
        ..ViewOptions::default()
    };
    // In a database runs must not meet.
    let name = settings.dir.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let mut service = Service::builder(name, log, machine.time.clone())
        .snapshots(snapshots)
        .entity_with::<Source>(entities.clone())
        .entity_with::<Target>(entities)
        .process_with::<Copier>(options)
        .view(ViewSpec::<InMemory>::new().options(views()))
        .view_in_sqlite(
            ViewSpec::<InSqlite>::new().options(views()),
            Env::os().disk,
            &settings.dir,
        );
    if let Some(address) = &settings.postgres {
        let spec = ViewSpec::<InPostgres>::new().options(views());
        service = service.view_in_postgres(spec, address);
    }
    let started = service.start();
    tokio::pin!(started);
    loop {
        tokio::select! {
            service = &mut started => return service.map_err(|error| error.to_string()),
            () = tokio::task::yield_now() => machine.step(),
        }
    }
}

async fn numbers(log: &Arc<dyn Log>, stream: &str) -> Result<Vec<u64>, String> {
    let stream = StreamId::new(stream).map_err(|error| error.to_string())?;
    let mut read = log.read_stream(&stream, VersionRange::ALL, Order::Forward);
    let mut numbers = Vec::new();
    while let Some(event) = read.next().await {
        let event = event.map_err(|error| error.to_string())?;
        let decoded = TargetEvent::decode(event.event_type(), event.schema_version, event.data());
        let TargetEvent::Taken { number } = decoded.map_err(|error| error.to_string())?;
        numbers.push(number);
    }
    Ok(numbers)
}

fn key(stream: u64) -> String {
    format!("{stream:04}")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
