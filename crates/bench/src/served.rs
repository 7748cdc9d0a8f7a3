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
use crate::gateway::{GatewayFigures, gateway};
use crate::idle_followers::{IdleFollowers, idle_followers};
use crate::machine::resident_bytes_of;
use crate::peers::{Served, Server, free_address};
use crate::table::{count, number};
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
    /// What followers take that wait.
    pub idle_followers: IdleFollowers,
    /// A service beside it, and commands through its gateway.
    pub gateway: GatewayFigures,
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
        let idle = &self.idle_followers;
        let kib = |bytes: Option<f64>| {
            bytes.map_or_else(|| "?".to_owned(), |bytes| number(bytes / 1024.0))
        };
        text += &format!(
            "each of {} idle followers: {} KiB at the server, {} KiB at the client\n",
            count(idle.followers as u64),
            kib(idle.server_bytes_each),
            kib(idle.client_bytes_each)
        );
        let gateway = &self.gateway;
        text += &format!(
            "a command through a service's gateway until a view read with its token shows it: p50 {} µs, \
             of which the command {} µs; a durable append: p50 {} µs\n",
            number(gateway.command_to_view_p50_us),
            number(gateway.command_p50_us),
            number(gateway.append_p50_us)
        );
        if let Some(bytes) = gateway.idle_bytes {
            let megabytes = number(bytes as f64 / 1e6);
            text += &format!("memory of a small idle service: {megabytes} MB\n");
        }
        text
    }
}

/// Starts a server with its log in `dir`, and connects.
pub async fn start(dir: &Path, workload: &Workload) -> PeerEntry {
    let ready = async {
        let (server, log, _) = serve(dir, workload).await?;
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

/// Follows a log behind a server while others append to it there; then starts a service beside it.
pub async fn follow_served(
    dir: &Path,
    workload: &Workload,
    idle_appends: u64,
    load: Duration,
) -> Result<ServedFigures, BenchError> {
    let (server, log, url) = serve(dir, workload).await?;
    let idle_bytes = resident_bytes_of(&*Env::os().disk, server.pid());
    let follow = follow(&log, workload, idle_appends, load).await?;
    let idle_followers = idle_followers(&log, workload, server.pid()).await?;
    let gateway = gateway(dir, &url, &log, workload, idle_appends).await?;
    drop(log);
    drop(server);
    Ok(ServedFigures {
        follow,
        idle_bytes,
        idle_followers,
        gateway,
    })
}

/// A server with its log in `dir`, a way to it, and its address.
async fn serve(
    dir: &Path,
    workload: &Workload,
) -> Result<(Server, Arc<dyn Log>, String), BenchError> {
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
    Ok((server, Arc::new(log), url))
}
