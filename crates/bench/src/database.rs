//! The log in PostgreSQL beside plain tables of the same server that do the same work.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::{Append, Layout, Log};
use anabranch_log_postgres::{Options, PostgresLog};
use anabranch_model::{EventId, Filter, NewEvent, PartitionId, StreamId};
use serde_json::json;

use crate::append::{Contender, Lane, Rounds, log_contender};
use crate::config::DatabaseConfig;
use crate::dir::BenchDir;
use crate::drive::Length;
use crate::error::BenchError;
use crate::figures::{Figures, Ratio, median};
use crate::latency::Latencies;
use crate::machine;
use crate::measure::on_runtime;
use crate::peers::postgres::{Started, read_by_cursor};
use crate::replay::{Reader, pass};
use crate::suite::{Reach, Row, Suite};
use crate::workload::Workload;

/// The work: clients and events of an append, and what the log shall reach there.
const WORK: [(usize, usize, &str, Reach); 3] = [
    (1, 1, "median latency over an INSERT's", Reach::AtMost(1.3)),
    (128, 1, "events/s over INSERTs'", Reach::AtLeast(2.0)),
    (16, 100, "events/s over INSERTs'", Reach::AtLeast(0.8)),
];

/// Starts a server, and measures appends of one client, of 128 and of batches, replay and appends
/// over two partitions. Blocks until done.
///
/// # Errors
///
/// There is no PostgreSQL, or it fails.
pub fn measure_database(
    config: &DatabaseConfig,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Suite, BenchError> {
    config.workload.check()?;
    if config.rounds == 0 || config.seconds.is_zero() {
        return Err(BenchError::Invalid(
            "at least one round and some time are needed".to_owned(),
        ));
    }
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let suite = on_runtime(|runtime| crate::block_on(runtime, measure_in(&dir, config, progress)))?;
    dir.finish()?;
    Ok(suite)
}

async fn measure_in(
    dir: &BenchDir,
    config: &DatabaseConfig,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Suite, BenchError> {
    let most = WORK.iter().map(|(clients, ..)| clients).max();
    let connections = most.copied().unwrap_or(1) + 40;
    let data = dir.sub("postgres")?;
    let started = Started::new(&data, connections, config.workload.durability).await?;
    let mut suite = Suite {
        machine: format!(
            "{}; PostgreSQL {}",
            machine::processors(&*Env::os().disk),
            started.version
        ),
        rows: Vec::new(),
        runs: Default::default(),
    };
    for (clients, batch, figure, reach) in WORK {
        let work = format!("{clients} clients × {batch}");
        progress(&work);
        let workload = Workload {
            clients,
            batch,
            ..config.workload.clone()
        };
        let name = format!("events_{clients}x{batch}");
        let log = open(&started, &name, config)?;
        let (ours, plain) = appends(&started, &name, &log, &workload, config).await?;
        let none = || BenchError::Invalid("at least one round is needed".to_owned());
        let ratio = Ratio::median(&ours, &plain).ok_or_else(none)?;
        let value = match reach {
            Reach::AtMost(_) => ratio.p50,
            Reach::AtLeast(_) => ratio.throughput,
        };
        suite.rows.push(Row::new(&work, figure, Some(value), reach));
        suite.run(
            &name,
            &json!({
                "log": Figures::median(&ours),
                "insert": Figures::median(&plain),
                "ratio": ratio,
            }),
        );
        if batch > 1 {
            progress("replay");
            let (ours, cursor) = replays(&started, &name, &log, config.rounds).await?;
            suite.rows.push(Row::new(
                "replay",
                "events/s over a cursor's",
                Some(ours / cursor),
                Reach::AtLeast(0.8),
            ));
            let both = json!({ "log_events_per_second": ours, "cursor_events_per_second": cursor });
            suite.run("replay", &both);
        }
        if clients == 1 && config.partitions > 1 {
            progress("appends over two partitions");
            let ratio = together_cost(&*log, config.seconds / 2).await?;
            suite.rows.push(Row::new(
                "one client, two events",
                "median over two partitions over that of one",
                Some(ratio),
                Reach::AtMost(1.3),
            ));
        }
    }
    Ok(suite)
}

fn open(
    started: &Started,
    schema: &str,
    config: &DatabaseConfig,
) -> Result<Arc<dyn Log>, BenchError> {
    let layout = match config.partitions {
        0 => Ok(Layout::one()),
        several => Layout::new(Vec::new(), several),
    };
    let mut options = Options::default();
    options.layout = Some(layout.map_err(|error| BenchError::Invalid(error.to_string()))?);
    let log = PostgresLog::open(&started.log(schema), options)?;
    Ok(Arc::new(log))
}

/// The figures of the log and of plain inserts, round by round.
async fn appends(
    started: &Started,
    table: &str,
    log: &Arc<dyn Log>,
    workload: &Workload,
    config: &DatabaseConfig,
) -> Result<(Vec<Figures>, Vec<Figures>), BenchError> {
    started.make_table(table).await?;
    let plain = started.clients(workload, table).await?;
    let ours: Box<dyn Contender> = Box::new(log_contender(workload, log, None));
    let mut lanes = [Lane::new(ours), Lane::new(Box::new(plain))];
    let rounds = Rounds::over(config.seconds, config.rounds);
    for round in 0..rounds.count {
        for turn in 0..2 {
            lanes[(round + turn) % 2]
                .run(Length::time(rounds.each))
                .await?;
        }
    }
    let [ours, plain] = lanes;
    Ok((ours.seen, plain.seen))
}

/// Events per second of a read of all from the log, and by a cursor over the table.
async fn replays(
    started: &Started,
    table: &str,
    log: &Arc<dyn Log>,
    passes: usize,
) -> Result<(f64, f64), BenchError> {
    let clock = Env::os().clock;
    let (mut ours, mut cursors) = (Vec::new(), Vec::new());
    for _ in 0..passes {
        let read = pass(log, Filter::all(), Reader::Batches, u64::MAX).await?;
        ours.push(read.events as f64 / read.elapsed.as_secs_f64());
        let begun = clock.monotonic();
        let (events, _) = read_by_cursor(&started.config, table).await?;
        let took = clock.monotonic().saturating_sub(begun);
        cursors.push(events as f64 / took.as_secs_f64());
    }
    let none = || BenchError::Invalid("at least one round is needed".to_owned());
    Ok((
        median(ours).ok_or_else(none)?,
        median(cursors).ok_or_else(none)?,
    ))
}

/// The median of an append of two events to two partitions over that of one to one partition, by one
/// client for so long.
pub async fn together_cost(log: &dyn Log, length: Duration) -> Result<f64, BenchError> {
    let layout = log.layout();
    let stream_in = |home: PartitionId| {
        let of = |n: u32| StreamId::of("pair", &n.to_string()).ok();
        let mut all = (0..u32::MAX).filter_map(of);
        all.find(|stream| layout.partition_of(stream) == home)
    };
    let streams = (stream_in(PartitionId(1)), stream_in(PartitionId(2)));
    let (Some(one), Some(other)) = streams else {
        return Err(BenchError::Invalid("two partitions are needed".to_owned()));
    };
    let clock = Env::os().clock;
    let end = clock.monotonic() + length;
    let [mut apart, mut alone] = [(); 2].map(|()| Latencies::new());
    let mut id = 1 << 100;
    while clock.monotonic() < end {
        for (second, latencies) in [(&other, &mut apart), (&one, &mut alone)] {
            let mut event = |stream: &StreamId| {
                id += 1;
                let kind = "Happened".parse();
                let kind = kind.map_err(|_| BenchError::Invalid("a type's name".to_owned()))?;
                let id = EventId::from_u128(id);
                Ok::<_, BenchError>(NewEvent::new(id, stream.clone(), kind, vec![b'1'; 256]))
            };
            let append = Append::events(vec![event(&one)?, event(second)?]);
            let begun = clock.monotonic();
            log.append(append).await?;
            latencies.record(clock.monotonic().saturating_sub(begun));
        }
    }
    Ok(apart.micros_at(0.5) / alone.micros_at(0.5))
}
