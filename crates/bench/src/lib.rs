//! Measures a log beside the best that the disk gives and beside other systems.
//!
//! Figures of a disk are worth little by themselves: they vary by a third from run to run,
//! and from machine to machine by ten. So everything that is compared runs in the same
//! run, in short rounds one after another, with the same clients doing the same work, and
//! what is quoted is the median of the rounds' ratios.
//!
//! * [`measure`] measures one workload: appends beside the [bare loop](bare) and the
//!   [peers], replay, and following.
//! * [`measure_hosted`] measures what a service on the log does, beside the log alone;
//!   [`measure_views`] how fast views are built, [`measure_idle`] what idle entities take.
//! * [`suite`](suite::suite) measures everything that the project promises about speed and
//!   size, each figure beside what it shall reach.
//!
//! Clients work in a closed loop: each waits for its acknowledgement before it appends
//! again. Latencies are those that such callers see.

mod append;
pub mod bare;
mod category;
mod child;
mod config;
mod counting;
#[cfg_attr(not(feature = "peers"), path = "database_absent.rs")]
mod database;
mod dir;
mod drive;
mod engine;
mod error;
mod figures;
mod fill;
mod follow;
mod gateway;
mod hosted;
mod idle_followers;
mod latency;
mod machine;
mod measure;
mod opening;
pub mod peers;
mod replay;
mod report;
mod served;
mod streams;
pub mod suite;
mod table;
mod workload;

use std::io;
use std::pin::Pin;
use std::process::Command;

pub use anabranch_log_segment::Durability;
pub use child::run_child;
pub use config::{Config, DatabaseConfig};
pub use database::measure_database;
pub use engine::{Engine, OpenLog, Partitions, Segments};
pub use error::BenchError;
pub use figures::{Figures, Ratio};
pub use hosted::{
    Built, Hosted, HostedConfig, HostedReport, IdleConfig, IdleReport, Sagas, ViewConfig,
    ViewReport, measure_hosted, measure_idle, measure_views,
};
pub use measure::measure;
pub use report::Report;
pub use workload::Workload;

/// What a measurement needs from the program that runs it.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Opens the logs that are measured.
    pub engine: &'a dyn Engine,
    /// Makes the command that runs this program again and has it call [`run_child`] with
    /// this argument.
    pub child: &'a (dyn Fn(&str) -> io::Result<Command> + Sync),
    /// Is told what is going on, in a few words.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// The runtime that clients run on: as many threads as there are processors.
fn runtime() -> Result<tokio::runtime::Runtime, BenchError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the runtime"))
}

/// Waits for `work` on this thread. In a box, it is compiled once, and not again for each kind of
/// runtime that tokio has.
fn block_on<T>(runtime: &tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    let work: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(work);
    runtime.block_on(work)
}
