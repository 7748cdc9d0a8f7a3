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
mod postgres;
#[cfg(feature = "peers")]
mod redis;
#[cfg(feature = "peers")]
mod server;
#[cfg(feature = "peers")]
mod sqlite;

use std::fmt;

#[cfg(feature = "peers")]
use anabranch_log::BoxFuture;

#[cfg(feature = "peers")]
use crate::append::Contender;
use crate::append::{PeerEntry, ReadyPeer};
use crate::dir::BenchDir;
#[cfg(feature = "peers")]
use crate::drive::Length;
use crate::error::BenchError;
#[cfg(feature = "peers")]
use crate::figures::Slice;
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

#[cfg(feature = "peers")]
fn failed(peer: &'static str, reason: &str) -> BenchError {
    BenchError::Peer {
        peer,
        reason: reason.to_owned(),
    }
}

/// Clients and the server that they are connected to, which is stopped after them.
#[cfg(feature = "peers")]
struct Served<C> {
    clients: C,
    _server: server::Server,
}

#[cfg(feature = "peers")]
impl<C: Contender> Served<C> {
    fn new(clients: C, server: server::Server) -> Self {
        Self {
            clients,
            _server: server,
        }
    }
}

#[cfg(feature = "peers")]
impl<C: Contender> Contender for Served<C> {
    fn slice(&mut self, length: Length) -> BoxFuture<'_, Result<Slice, BenchError>> {
        self.clients.slice(length)
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        self.clients.settle()
    }
}

#[cfg(not(feature = "peers"))]
async fn ready(peer: Peer, _: &BenchDir, _: &Workload) -> Result<ReadyPeer, BenchError> {
    Err(BenchError::Peer {
        peer: peer.name(),
        reason: "this program was built without other systems; build one that has them with \
                 `cargo build --release -p anabranch-cli --features peers`"
            .to_owned(),
    })
}
