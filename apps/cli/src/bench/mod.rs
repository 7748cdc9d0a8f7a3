//! `anabranch bench log`.

pub mod database;
pub mod hosted;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::whole::{number, whole};
use anabranch_bench::peers::Peer;
use anabranch_bench::suite::{Part, Scale, suite};
use anabranch_bench::{
    BenchError, Config, Durability, Engine, Partitions, Segments, Tools, Workload, measure,
    run_child,
};
use clap::{Args, ValueEnum};

/// Measure the embedded log beside the best that the disk gives
#[derive(Debug, Args)]
#[command(after_help = "\
Clients append in a closed loop: each waits for its acknowledgement before it appends again. The
bare loop does the same work and nothing else: it gathers the clients' bytes and writes them into
blocks written ahead. Everything runs in turns, in short rounds; figures are medians over them.

Examples:
  anabranch bench log
  anabranch bench log --clients 1 --seconds 30
  anabranch bench log --clients 16 --batch 100 --peer redis --peer postgres --output json
  anabranch bench log --suite --peer redis --peer postgres --dir /mnt/ssd
  anabranch bench log --durability interval:1s --peer redis
  anabranch bench log --suite --only opening --gigabytes 10")]
pub struct BenchLog {
    /// Clients at work at the same time
    #[arg(
        long,
        value_name = "N",
        default_value_t = 128,
        conflicts_with = "suite", value_parser = whole::<usize>, allow_negative_numbers = true)]
    clients: usize,
    /// Events of one append
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "suite", value_parser = whole::<usize>, allow_negative_numbers = true)]
    batch: usize,
    /// Data of one event
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = whole::<usize>, allow_negative_numbers = true)]
    size: usize,
    /// Streams; each append goes to one of them, drawn at random
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = whole::<u64>, allow_negative_numbers = true)]
    streams: u64,
    /// Partitions of the log, over which all streams are spread
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "suite", value_parser = whole::<u32>, allow_negative_numbers = true)]
    partitions: u32,
    /// How long each contender appends, over all rounds
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = number, allow_negative_numbers = true)]
    seconds: f64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>, allow_negative_numbers = true)]
    rounds: usize,
    /// Where the random numbers of the work begin
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
    /// Have another system do the same work too, if its server is on this machine
    #[arg(long, value_name = "NAME")]
    peer: Vec<PeerName>,
    /// Write below this directory [default: beside the log, or ./.anabranch/bench]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave what was written
    #[arg(long)]
    keep: bool,
    /// Measure everything that the project promises about speed and size
    #[arg(long)]
    suite: bool,
    /// Measure this part of the suite only
    #[arg(long, value_name = "PART", requires = "suite")]
    only: Vec<PartName>,
    /// Event data in the log that the suite opens, in units of 10⁹ bytes
    #[arg(long, value_name = "N", default_value_t = 2.0, requires = "suite", value_parser = number, allow_negative_numbers = true)]
    gigabytes: f64,
    /// Streams of the suite's log with many streams
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000_000,
        requires = "suite", value_parser = whole::<u64>, allow_negative_numbers = true)]
    many_streams: u64,
    /// Do this work for a measurement in another process
    #[arg(long, value_name = "JOB", hide = true)]
    child: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PeerName {
    Sqlite,
    Postgres,
    Redis,
    Nats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartName {
    /// Appends beside the bare loop, replay, follow
    Append,
    /// Memory per million streams
    Memory,
    /// Opening a log
    Opening,
    /// Reading one category in a hundred
    Category,
    /// Appending to many streams
    Streams,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultForm {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Measures and gives what to print, ending with a line's end. Blocks until done. `served`:
/// behind a server too. `beside` is the directory to write below if none was asked for.
pub fn run(
    args: &BenchLog,
    served: bool,
    beside: PathBuf,
    durability: Durability,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    if let Some(job) = &args.child {
        return run_child(&Segments, job).map(|()| String::new());
    }
    let child = |job: &str| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "log", "--child", job]);
        Ok(command)
    };
    let several = Partitions(args.partitions);
    let engine: &dyn Engine = match args.partitions {
        0 | 1 => &Segments,
        _ => &several,
    };
    let tools = Tools {
        engine,
        child: &child,
        progress,
    };
    let config = Config {
        served,
        ..config(args, beside, durability)?
    };
    if args.suite {
        let suite = suite(&config, &parts(args), &scale(args)?, &tools)?;
        return print(form, suite.to_text(), &suite);
    }
    let report = measure(&config, &tools)?;
    print(form, report.to_text(), &report)
}

fn config(args: &BenchLog, beside: PathBuf, durability: Durability) -> Result<Config, BenchError> {
    let seconds = Duration::try_from_secs_f64(args.seconds)
        .map_err(|e| BenchError::Invalid(format!("--seconds {}: {e}", args.seconds)))?;
    let workload = Workload {
        clients: args.clients,
        batch: args.batch,
        size: args.size,
        streams: args.streams,
        durability,
        seed: args.seed,
        ..Workload::default()
    };
    Ok(Config {
        seconds,
        rounds: args.rounds,
        peers: peers(&args.peer),
        keep: args.keep,
        ..Config::new(workload, args.dir.clone().unwrap_or(beside))
    })
}

/// Each peer once, in the order of the command line.
fn peers(names: &[PeerName]) -> Vec<Peer> {
    let mut peers = Vec::new();
    for name in names {
        let peer = match name {
            PeerName::Sqlite => Peer::Sqlite,
            PeerName::Postgres => Peer::Postgres,
            PeerName::Redis => Peer::Redis,
            PeerName::Nats => Peer::Nats,
        };
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

fn parts(args: &BenchLog) -> Vec<Part> {
    let part = |name: &PartName| match name {
        PartName::Append => Part::Append,
        PartName::Memory => Part::Memory,
        PartName::Opening => Part::Opening,
        PartName::Category => Part::Category,
        PartName::Streams => Part::Streams,
    };
    if args.only.is_empty() {
        return Part::ALL.to_vec();
    }
    args.only.iter().map(part).collect()
}

fn scale(args: &BenchLog) -> Result<Scale, BenchError> {
    if !(args.gigabytes.is_finite() && args.gigabytes > 0.0) {
        return Err(BenchError::Invalid(format!(
            "--gigabytes {}: a log to open has more than 0 bytes",
            args.gigabytes
        )));
    }
    Ok(Scale {
        opening_bytes: (args.gigabytes * 1e9) as u64,
        many_streams: args.many_streams,
        ..Scale::default()
    })
}

fn print(
    form: ResultForm,
    text: String,
    json: &impl serde::Serialize,
) -> Result<String, BenchError> {
    match form {
        ResultForm::Text => Ok(text),
        ResultForm::Json => {
            let json = serde_json::to_string(json);
            json.map(|json| json + "\n")
                .map_err(|e| BenchError::Invalid(format!("the result has no JSON form: {e}")))
        }
    }
}
