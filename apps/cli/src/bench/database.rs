//! `anabranch bench database`.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_bench::{BenchError, DatabaseConfig, Durability, Workload, measure_database};
use clap::Args;

use super::{ResultForm, print};
use crate::whole::{number, whole};

/// Measure the log in PostgreSQL beside plain inserts
#[derive(Debug, Args)]
#[command(after_help = "\
A server of its own is started, with its data on this disk. Clients append in a closed loop to a log
there, in turns with as many clients that each insert into one table by a prepared statement, without
versions, ids that are looked at, or conditions. One client, 128 clients, and 16 with batches of 100.
What was appended is read beside a cursor over the table, and appends of two events to two partitions
are measured beside those to one.

Examples:
  anabranch bench database
  anabranch bench database --partitions 0 --seconds 30 --dir /mnt/ssd")]
pub struct BenchDatabase {
    /// Partitions of the log; 0: one alone
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = whole::<u32>, allow_negative_numbers = true)]
    partitions: u32,
    /// Data of one event
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = whole::<usize>, allow_negative_numbers = true)]
    size: usize,
    /// Streams; each append goes to one of them, drawn at random
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = whole::<u64>, allow_negative_numbers = true)]
    streams: u64,
    /// How long each contender appends, over all rounds
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = number, allow_negative_numbers = true)]
    seconds: f64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>, allow_negative_numbers = true)]
    rounds: usize,
    /// Where the random numbers of the work begin
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
    /// Write below this directory [default: beside the log, or ./.anabranch/bench]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave what was written
    #[arg(long)]
    keep: bool,
}

/// Measures and gives what to print. Blocks until done.
pub fn run(
    args: &BenchDatabase,
    beside: PathBuf,
    durability: Durability,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    let seconds = Duration::try_from_secs_f64(args.seconds)
        .map_err(|e| BenchError::Invalid(format!("--seconds {}: {e}", args.seconds)))?;
    let config = DatabaseConfig {
        workload: Workload {
            size: args.size,
            streams: args.streams,
            durability,
            seed: args.seed,
            ..Workload::default()
        },
        partitions: args.partitions,
        seconds,
        rounds: args.rounds,
        dir: args.dir.clone().unwrap_or(beside),
        keep: args.keep,
    };
    let suite = measure_database(&config, progress)?;
    print(form, suite.to_text(), &suite)
}
