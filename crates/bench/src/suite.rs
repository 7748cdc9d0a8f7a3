//! Everything that the project promises about speed and size, measured in one run.

use std::collections::BTreeMap;

use anabranch_env::Env;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Tools;
use crate::append::{PeerFigures, Rounds};
use crate::category::{CategoryCost, category_cost};
use crate::config::Config;
use crate::dir::BenchDir;
use crate::error::BenchError;
use crate::machine;
use crate::measure::{measure_in, on_runtime};
use crate::opening::{Opening, Openings, openings};
use crate::peers::Peer;
use crate::report::Report;
use crate::streams::{ManyStreams, StreamMemory, many_streams, stream_memory};
use crate::table::{Table, count, number};
use crate::workload::Workload;

/// A part of the suite that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Appends of 1 client, 128 clients and 16 clients with batches of 100; replay; follow.
    Append,
    /// Memory per million streams.
    Memory,
    /// Opening a log: closed well, killed, without its indexes.
    Opening,
    /// Reading one category in a hundred.
    Category,
    /// Appending to many streams and to few.
    Streams,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 5] = [
        Self::Append,
        Self::Memory,
        Self::Opening,
        Self::Category,
        Self::Streams,
    ];
}

/// How large the logs of the suite are.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Event data in the log that is opened, in bytes.
    pub opening_bytes: u64,
    /// How often each kind of opening is timed.
    pub openings: usize,
    /// Numbers of streams at which memory is looked at.
    pub memory_streams: Vec<u64>,
    /// Events of the log of which one category is read, when they came in batches of 100.
    pub category_events: u64,
    /// The same when they came one by one.
    pub category_single_events: u64,
    /// How many streams are few.
    pub few_streams: u64,
    /// How many streams are many.
    pub many_streams: u64,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            opening_bytes: 2_000_000_000,
            openings: 5,
            memory_streams: vec![1_000_000, 2_000_000, 3_000_000, 4_000_000],
            category_events: 4_000_000,
            category_single_events: 1_000_000,
            few_streams: 10_000,
            many_streams: 10_000_000,
        }
    }
}

/// The outcome: one row for each promise, and the measurements behind them.
#[derive(Debug, Clone, Serialize)]
pub struct Suite {
    /// The processors.
    pub machine: String,
    /// The promises.
    pub rows: Vec<Row>,
    /// The measurements, by name.
    pub runs: BTreeMap<String, Value>,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The work.
    pub work: String,
    /// What is looked at.
    pub figure: String,
    /// What it came to; `None`: not measured.
    pub value: Option<f64>,
    /// What it shall reach.
    pub reach: Reach,
    /// Whether it does; `None`: not measured.
    pub reached: Option<bool>,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
}

impl Reach {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn to_text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", number(bound)),
            Self::AtMost(bound) => format!("≤ {}", number(bound)),
        }
    }
}

impl Row {
    pub(crate) fn new(work: &str, figure: &str, value: Option<f64>, reach: Reach) -> Self {
        Self {
            work: work.to_owned(),
            figure: figure.to_owned(),
            value,
            reach,
            reached: value.map(|value| reach.holds(value)),
        }
    }
}

/// Runs `parts` of the suite. Of `config`, the clients, the batch and the streams of the
/// work are the suite's own. Blocks until done.
pub fn suite(
    config: &Config,
    parts: &[Part],
    scale: &Scale,
    tools: &Tools<'_>,
) -> Result<Suite, BenchError> {
    config.workload.check()?;
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let mut suite = Suite {
        machine: machine::processors(&*Env::os().disk),
        rows: Vec::new(),
        runs: BTreeMap::new(),
    };
    for part in Part::ALL.into_iter().filter(|part| parts.contains(part)) {
        let run = Run {
            dir: &dir,
            config,
            scale,
            tools,
        };
        on_runtime(|runtime| run.part(part, runtime, &mut suite))?;
    }
    dir.finish()?;
    Ok(suite)
}

struct Run<'a> {
    dir: &'a BenchDir,
    config: &'a Config,
    scale: &'a Scale,
    tools: &'a Tools<'a>,
}

impl Run<'_> {
    fn part(&self, part: Part, runtime: &Runtime, suite: &mut Suite) -> Result<(), BenchError> {
        match part {
            Part::Append => self.append(runtime, suite),
            Part::Memory => self.memory(suite),
            Part::Opening => self.opening(runtime, suite),
            Part::Category => self.category(runtime, suite),
            Part::Streams => self.streams(runtime, suite),
        }
    }

    fn say(&self, what: &str) {
        (self.tools.progress)(what);
    }

    fn workload(&self, clients: usize, batch: usize) -> Workload {
        Workload {
            clients,
            batch,
            ..self.config.workload.clone()
        }
    }

    fn rounds(&self) -> Rounds {
        Rounds::over(self.config.seconds, self.config.rounds)
    }

    fn append(&self, runtime: &Runtime, suite: &mut Suite) -> Result<(), BenchError> {
        let mut reports = Vec::new();
        for (clients, batch) in [(1, 1), (128, 1), (16, 100)] {
            self.say(&format!("{clients} clients × {batch}"));
            let config = Config {
                workload: self.workload(clients, batch),
                ..self.config.clone()
            };
            let report = crate::block_on(runtime, measure_in(self.dir, &config, self.tools))?;
            suite.run(&format!("append_{clients}x{batch}"), &report);
            reports.push(report);
        }
        if let [one, many, batches] = &reports[..] {
            suite.rows.extend(append_rows(one, many, batches));
        }
        Ok(())
    }

    fn memory(&self, suite: &mut Suite) -> Result<(), BenchError> {
        self.say("memory of many streams");
        let streams = self.scale.memory_streams.last().copied().unwrap_or(0);
        self.dir.need(streams * 600 + (1 << 30))?;
        let memory = stream_memory(
            self.tools.child,
            &self.dir.sub("memory")?,
            self.scale.memory_streams.clone(),
        )?;
        self.dir.done_with("memory")?;
        suite.run("memory", &memory);
        suite.rows.push(memory_row(&memory));
        Ok(())
    }

    fn opening(&self, runtime: &Runtime, suite: &mut Suite) -> Result<(), BenchError> {
        self.say("opening");
        let size = self.config.workload.size as u64;
        self.dir.need(self.scale.opening_bytes * 2 + (1 << 30))?;
        let opened = openings(
            self.tools.engine,
            runtime,
            self.tools.child,
            &self.dir.sub("opening")?,
            self.scale.opening_bytes / size,
            self.scale.openings,
        )?;
        self.dir.done_with("opening")?;
        suite.run("opening", &opened);
        suite.rows.extend(opening_rows(&opened));
        Ok(())
    }

    fn category(&self, runtime: &Runtime, suite: &mut Suite) -> Result<(), BenchError> {
        for (name, clients, batch, events) in [
            ("batches of 100", 16, 100, self.scale.category_events),
            ("single events", 128, 1, self.scale.category_single_events),
        ] {
            self.say(&format!("one category in a hundred, {name}"));
            self.dir.need(events * 600 + (1 << 30))?;
            let dir = self.dir.sub("category")?;
            let workload = self.workload(clients, batch);
            let cost = crate::block_on(
                runtime,
                category_cost(
                    self.tools.engine,
                    &dir,
                    &workload,
                    events,
                    self.config.rounds,
                ),
            )?;
            self.dir.done_with("category")?;
            suite.run(&format!("category_of_{}", name.replace(' ', "_")), &cost);
            suite.rows.extend(category_rows(name, &cost));
        }
        Ok(())
    }

    fn streams(&self, runtime: &Runtime, suite: &mut Suite) -> Result<(), BenchError> {
        let Scale {
            few_streams,
            many_streams: many,
            ..
        } = *self.scale;
        self.say(&format!("appending to {} streams", count(many)));
        self.dir.need(many * 2 * 600 + (2 << 30))?;
        let compared = crate::block_on(
            runtime,
            many_streams(
                self.tools.engine,
                &self.dir.sub("streams")?,
                &self.workload(128, 1),
                few_streams,
                many,
                self.rounds(),
            ),
        )?;
        self.dir.done_with("streams")?;
        suite.run("streams", &compared);
        suite.rows.push(streams_row(&compared));
        Ok(())
    }
}

fn append_rows(one: &Report, many: &Report, batches: &Report) -> Vec<Row> {
    use Reach::{AtLeast, AtMost};
    let (single, crowd, lots) = (
        "1 writer, single events",
        "128 writers, single events",
        "16 writers, batches of 100",
    );
    let over = |report: &Report, peer: Peer| match report.peers.get(peer.name()) {
        Some(PeerFigures::Measured { ratio, .. }) => Some(ratio.throughput),
        _ => None,
    };
    let bytes = |report: &Report| report.append.done.figures.bytes_per_payload_byte;
    vec![
        Row::new(
            single,
            "median latency over the bare loop's",
            Some(one.ratio.p50),
            AtMost(1.2),
        ),
        Row::new(
            single,
            "device flushes per append",
            one.append.done.figures.syncs_per_append,
            AtMost(1.05),
        ),
        Row::new(
            crowd,
            "events/s over the bare loop's",
            Some(many.ratio.throughput),
            AtLeast(0.8),
        ),
        Row::new(
            crowd,
            "events/s over Redis's",
            over(many, Peer::Redis),
            AtLeast(2.0),
        ),
        Row::new(
            crowd,
            "events/s over PostgreSQL's",
            over(many, Peer::Postgres),
            AtLeast(10.0),
        ),
        Row::new(crowd, "bytes written per byte", bytes(many), AtMost(1.6)),
        Row::new(
            lots,
            "events/s over the bare loop's",
            Some(batches.ratio.throughput),
            AtLeast(0.6),
        ),
        Row::new(
            lots,
            "events/s over Redis's",
            over(batches, Peer::Redis),
            AtLeast(5.0),
        ),
        Row::new(lots, "bytes written per byte", bytes(batches), AtMost(1.25)),
        Row::new(
            "replay",
            "million events/s in batches",
            Some(batches.replay.events_per_second / 1e6),
            AtLeast(10.0),
        ),
        Row::new(
            "replay",
            "million events/s one at a time",
            Some(batches.replay.stream_events_per_second / 1e6),
            AtLeast(3.0),
        ),
        Row::new(
            "follow",
            "median ms, one writer",
            Some(one.follow.p50_us / 1e3),
            AtMost(0.1),
        ),
        Row::new(
            "follow",
            "median ms, 128 writers",
            Some(many.follow.load_p50_us / 1e3),
            AtMost(1.0),
        ),
    ]
}

fn memory_row(memory: &StreamMemory) -> Row {
    Row::new(
        "memory",
        "MB per million streams",
        Some(memory.mb_per_million),
        Reach::AtMost(120.0),
    )
}

fn opening_rows(opened: &Openings) -> Vec<Row> {
    let row = |what: &str, opening: &Opening, base_ms: f64, ms_per_gb: f64| {
        Row::new(
            &format!("opening {:.1} GB", opening.gigabytes),
            &format!("ms, {what}"),
            Some(opening.millis),
            Reach::AtMost(base_ms + ms_per_gb * opening.gigabytes),
        )
    };
    vec![
        row("closed well", &opened.clean, 50.0, 10.0),
        row("after a kill", &opened.killed, 0.0, 100.0),
        row("indexes gone", &opened.index_gone, 0.0, 800.0),
    ]
}

fn category_rows(name: &str, cost: &CategoryCost) -> Vec<Row> {
    let work = format!("one category in 100, {name}");
    let row = |figure: &str, value| Row::new(&work, figure, Some(value), Reach::AtMost(2.0));
    vec![
        row("time per event over a full read's", cost.time_ratio),
        row("bytes per event over a full read's", cost.bytes_ratio),
    ]
}

fn streams_row(compared: &ManyStreams) -> Row {
    Row::new(
        &format!("append, {} streams", count(compared.many)),
        &format!("events/s over that with {}", count(compared.few)),
        Some(compared.ratio.throughput),
        Reach::AtLeast(0.8),
    )
}

impl Suite {
    pub(crate) fn run(&mut self, name: &str, run: &impl Serialize) {
        self.runs.insert(name.to_owned(), json!(run));
    }

    /// The suite for people.
    pub fn to_text(&self) -> String {
        let mut table = Table::new(2, &["work", "figure", "measured", "reach", ""]);
        for row in &self.rows {
            table.row(vec![
                row.work.clone(),
                row.figure.clone(),
                row.value.map_or_else(|| "–".to_owned(), number),
                row.reach.to_text(),
                match row.reached {
                    Some(true) => "reached",
                    Some(false) => "not reached",
                    None => "not measured",
                }
                .to_owned(),
            ]);
        }
        format!("{}\n\n{}", self.machine, table.to_text())
    }
}
