//! `anabranch bench entity`, `anabranch bench saga`, `anabranch bench view`.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_bench::{
    BenchError, Durability, Hosted, HostedConfig, IdleConfig, Sagas, Segments, Tools, ViewConfig,
    measure_hosted, measure_idle, measure_views,
};
use clap::Args;

use super::{ResultForm, print};
use crate::whole::{number, whole};

/// Measure commands to entities beside the log alone
#[derive(Debug, Args)]
#[command(after_help = "\
Clients send commands in a closed loop: each waits until what its command has recorded is durable.
In turns with them, as many clients append events of the same size to a log of their own.

Examples:
  anabranch bench entity
  anabranch bench entity --entities 100000
  anabranch bench entity --idle 100000
  anabranch bench entity --clients 1 --output json")]
pub struct BenchEntity {
    /// Entities; each command goes to one of them, drawn at random
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>, allow_negative_numbers = true)]
    entities: u64,
    /// Data of one event
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = whole::<usize>, allow_negative_numbers = true)]
    size: usize,
    /// Measure instead how much memory this many entities take that nobody asks anything of
    #[arg(long, value_name = "N", conflicts_with_all = ["entities", "size", "clients", "seconds", "rounds"], value_parser = whole::<u64>, allow_negative_numbers = true)]
    idle: Option<u64>,
    /// Events of each idle entity
    #[arg(long, value_name = "N", default_value_t = 1, requires = "idle", value_parser = whole::<u32>, allow_negative_numbers = true)]
    events_each: u32,
    #[command(flatten)]
    common: Common,
}

/// Measure how fast views are built
#[derive(Debug, Args)]
#[command(after_help = "\
A log is written, then a view in memory and one in SQLite are built from it, in turns with reading
it alone.

Examples:
  anabranch bench view
  anabranch bench view --events 10000000 --rounds 3")]
pub struct BenchView {
    /// Events in the log
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = whole::<u64>, allow_negative_numbers = true)]
    events: u64,
    /// How often each view is built
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole::<usize>, allow_negative_numbers = true)]
    rounds: usize,
    /// Write below this directory [default: beside the log, or ./.anabranch/bench]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave what was written
    #[arg(long)]
    keep: bool,
}

/// Measure sagas beside the log alone
#[derive(Debug, Args)]
#[command(after_help = "\
Each client places an order and waits until its saga has ended: all lines are reserved at the
same time, then the order is paid, shipped and confirmed. With twenty lines that records 72
events. In turns with them, as many clients append single events to a log of their own.

Examples:
  anabranch bench saga
  anabranch bench saga --process
  anabranch bench saga --clients 32 --products 100 --lines 600")]
pub struct BenchSaga {
    /// Products; each line is about one of them, drawn at random
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = whole::<u32>, allow_negative_numbers = true)]
    products: u32,
    /// Lines of an order
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole::<u32>, allow_negative_numbers = true)]
    lines: u32,
    /// Have a process take every line of a confirmed order from the shelf
    #[arg(long)]
    process: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Clients at work at the same time
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = whole::<usize>, allow_negative_numbers = true)]
    clients: usize,
    /// How long each contender is at work, over all rounds
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

impl Common {
    fn config(
        &self,
        work: Hosted,
        size: usize,
        beside: PathBuf,
        durability: Durability,
    ) -> Result<HostedConfig, BenchError> {
        let seconds = Duration::try_from_secs_f64(self.seconds)
            .map_err(|e| BenchError::Invalid(format!("--seconds {}: {e}", self.seconds)))?;
        Ok(HostedConfig {
            work,
            clients: self.clients,
            size,
            durability,
            seconds,
            rounds: self.rounds,
            seed: self.seed,
            dir: self.dir.clone().unwrap_or(beside),
            keep: self.keep,
        })
    }
}

/// Measures and gives what to print. Blocks until done.
pub fn run_entity(
    args: &BenchEntity,
    beside: PathBuf,
    durability: Durability,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    if let Some(entities) = args.idle {
        let config = IdleConfig {
            entities,
            events_each: args.events_each,
            dir: args.common.dir.clone().unwrap_or(beside),
            keep: args.common.keep,
        };
        let report = with_tools(progress, |tools| measure_idle(&config, tools))?;
        return print(form, report.to_text(), &report);
    }
    let work = Hosted::Commands {
        entities: at_least_one("--entities", args.entities)?,
    };
    let config = args.common.config(work, args.size, beside, durability)?;
    measure(&config, form, progress)
}

/// Measures and gives what to print. Blocks until done.
pub fn run_saga(
    args: &BenchSaga,
    beside: PathBuf,
    durability: Durability,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    at_least_one("--products", u64::from(args.products))?;
    at_least_one("--lines", u64::from(args.lines))?;
    let work = Hosted::Sagas(Sagas {
        lines: args.lines as usize,
        products: args.products,
        dispatching: args.process,
    });
    let config = args.common.config(work, 256, beside, durability)?;
    measure(&config, form, progress)
}

fn at_least_one(option: &str, value: u64) -> Result<u64, BenchError> {
    if value == 0 {
        return Err(BenchError::Invalid(format!("{option} is at least 1")));
    }
    Ok(value)
}

fn measure(
    config: &HostedConfig,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    let report = with_tools(progress, |tools| measure_hosted(config, tools))?;
    print(form, report.to_text(), &report)
}

/// Measures and gives what to print. Blocks until done.
pub fn run_view(
    args: &BenchView,
    beside: PathBuf,
    form: ResultForm,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<String, BenchError> {
    let config = ViewConfig {
        events: args.events,
        rounds: args.rounds,
        dir: args.dir.clone().unwrap_or(beside),
        keep: args.keep,
    };
    let report = with_tools(progress, |tools| measure_views(&config, tools))?;
    print(form, report.to_text(), &report)
}

fn with_tools<T>(
    progress: &(dyn Fn(&str) + Sync),
    measure: impl FnOnce(&Tools<'_>) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let no_child = |_: &str| Err(std::io::Error::other("nothing here runs in a child"));
    measure(&Tools {
        engine: &Segments,
        child: &no_child,
        progress,
    })
}
