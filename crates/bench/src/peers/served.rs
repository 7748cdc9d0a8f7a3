//! What the peers have in common: clients beside a server, and how they fail.

use anabranch_log::BoxFuture;

use super::server::Server;
use crate::append::Contender;
use crate::drive::Length;
use crate::error::BenchError;
use crate::figures::Slice;

#[cfg(feature = "peers")]
pub fn failed(peer: &'static str, reason: &str) -> BenchError {
    BenchError::Peer {
        peer,
        reason: reason.to_owned(),
    }
}

/// Clients and the server that they are connected to, which is stopped after them.
pub struct Served<C> {
    clients: C,
    _server: Server,
}

impl<C: Contender> Served<C> {
    pub fn new(clients: C, server: Server) -> Self {
        Self {
            clients,
            _server: server,
        }
    }
}

impl<C: Contender> Contender for Served<C> {
    fn slice(&mut self, length: Length) -> BoxFuture<'_, Result<Slice, BenchError>> {
        self.clients.slice(length)
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        self.clients.settle()
    }
}
