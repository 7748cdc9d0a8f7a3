//! Other systems that keep events, doing the same work in the same rounds.
//!
//! Each is set up the way its own manual says for "durable when acknowledged", and is
//! given less to do than the log where that is simpler: no ids are checked and no versions
//! are counted. Servers run on a loopback port of their own with their data on the same
//! disk, and are stopped afterwards.

#[cfg(all(test, feature = "peers"))]
mod fake;
#[cfg(feature = "peers")]
mod nats;
#[cfg(feature = "peers")]
pub(crate) mod postgres;
#[cfg(feature = "peers")]
mod redis;
mod served;
mod server;
#[cfg(feature = "peers")]
mod sqlite;

use std::fmt;

pub(crate) use served::Served;
pub(crate) use server::{Server, free_address};

use crate::append::{PeerEntry, ReadyPeer};
use crate::dir::BenchDir;
use crate::error::BenchError;
use crate::workload::Workload;

/// Another system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// SQLite in this process; clients' events are grouped into transactions.
    Sqlite,
    /// PostgreSQL, one table.
    Postgres,
    /// Redis streams with an append-only file.
    Redis,
    /// NATS JetStream.
    Nats,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sqlite, Self::Postgres, Self::Redis, Self::Nats];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Starts `peer` with its data in `dir` and connects its clients.
pub(crate) async fn start(peer: Peer, dir: &BenchDir, workload: &Workload) -> PeerEntry {
    PeerEntry {
        name: peer.name(),
        ready: ready(peer, dir, workload).await,
    }
}

#[cfg(feature = "peers")]
async fn ready(peer: Peer, dir: &BenchDir, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let data = dir.sub(&format!("peer-{peer}"))?;
    match peer {
        Peer::Sqlite => sqlite::start(&data, workload),
        Peer::Postgres => postgres::start(&data, workload).await,
        Peer::Redis => redis::start(&data, workload).await,
        Peer::Nats => nats::start(&data, workload).await,
    }
}

#[cfg(not(feature = "peers"))]
async fn ready(peer: Peer, _: &BenchDir, _: &Workload) -> Result<ReadyPeer, BenchError> {
    Err(absent(peer.name()))
}

/// Why a program that was built without other systems measures none.
#[cfg(not(feature = "peers"))]
pub(crate) fn absent(peer: &'static str) -> BenchError {
    BenchError::Peer {
        peer,
        reason: "this program was built without other systems; build one that has them with \
                 `cargo build --release -p anabranch-cli --features peers`"
            .to_owned(),
    }
}
