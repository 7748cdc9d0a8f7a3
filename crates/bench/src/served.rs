//! The same log behind a server, `anabranch serve` in a process of its own on this machine.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_log_segment::Durability;
use serde::Serialize;

use crate::append::{PeerEntry, ReadyPeer, log_contender};
use crate::error::BenchError;
use crate::follow::{Followed, follow};
use crate::machine::resident_bytes_of;
use crate::peers::{Served, Server, free_address};
use crate::table::number;
use crate::workload::Workload;

/// Its name among the peers.
const NAME: &str = "served";

/// What is measured of a log behind a server, but for its appends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServedFigures {
    /// Delivered minus acknowledged, both through the server.
    pub follow: Followed,
    /// Memory of the server before anything was asked of it, in bytes.
    pub idle_bytes: Option<u64>,
}

impl ServedFigures {
    /// For people.
    pub fn to_text(&self) -> String {
        let follow = &self.follow;
        let mut text = format!(
            "follow through the server: p50 {} µs, p99 {} µs with one writer; p50 {} µs, p99 {} µs \
             under this load\n",
            number(follow.p50_us),
            number(follow.p99_us),
            number(follow.load_p50_us),
            number(follow.load_p99_us)
        );
        if let Some(bytes) = self.idle_bytes {
            let megabytes = number(bytes as f64 / 1e6);
            text += &format!("memory of the idle server: {megabytes} MB\n");
        }
        text
    }
}

/// Starts a server with its log in `dir`, and connects.
pub async fn start(dir: &Path, workload: &Workload) -> PeerEntry {
    let ready = async {
        let (server, log) = serve(dir, workload).await?;
        Ok(ReadyPeer {
            contender: Box::new(Served::new(log_contender(workload, &log, None), server)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            setup: "this log behind `anabranch serve`, over loopback".to_owned(),
        })
    };
    PeerEntry {
        name: NAME,
        ready: ready.await,
    }
}

/// Follows a log behind a server while others append to it there.
pub async fn follow_served(
    dir: &Path,
    workload: &Workload,
    idle_appends: u64,
    load: Duration,
) -> Result<ServedFigures, BenchError> {
    let (server, log) = serve(dir, workload).await?;
    let idle_bytes = resident_bytes_of(&*Env::os().disk, server.pid());
    let follow = follow(&log, workload, idle_appends, load).await?;
    drop(log);
    drop(server);
    Ok(ServedFigures { follow, idle_bytes })
}

async fn serve(dir: &Path, workload: &Workload) -> Result<(Server, Arc<dyn Log>), BenchError> {
    let address = free_address()
        .await
        .map_err(BenchError::io("looking for a free port"))?;
    let program = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        // It runs in `dir`.
        .args(["--log", "./log"])
        .args(["--listen", &address.to_string()]);
    if let Durability::Interval(every) = workload.durability {
        command.args(["--durability", &format!("interval:{every:?}")]);
    }
    let mut server = Server::start(NAME, dir, command)?;
    let url = format!("http://{address}");
    let mut soon = Options::default();
    soon.patience = Duration::from_millis(100);
    server
        .ready(async || RemoteLog::open(&url, soon.clone()))
        .await?;
    let log = RemoteLog::open(&url, Options::default())?;
    Ok((server, Arc::new(log)))
}
