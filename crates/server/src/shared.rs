//! What all requests share.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Caller, Listening};
use anabranch_log::Log;
use anabranch_model::{Limits, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use anabranch_wire::LOG_HEADER;
use connectrpc::{ConnectError, RequestContext};
use tokio::sync::{Semaphore, watch};

use crate::files::Files;
use crate::keys::Keys;
use crate::registry::Registry;
use crate::seal::log_name;

/// The most requests of each kind that are answered at a time.
const COMMANDS_MAX: usize = 512;
const WAITS_MAX: usize = 512;
const QUERIES_MAX: usize = 512;
const PEERS_MAX: usize = 4096;
const CALLS_MAX: usize = 1024;
const REGISTRY_MAX: usize = 256;
const OPERATORS_MAX: usize = 64;

/// The most readers that follow the log by plain HTTP at a time, if nothing is said.
pub const READERS_MAX: usize = 2048;

/// What all requests share.
#[derive(Clone)]
pub struct Shared(pub Arc<Inner>);

pub struct Inner {
    /// Where this is.
    pub url: String,
    /// How it is protected.
    pub listening: Listening,
    /// The keys of callers, if they are asked for one.
    pub keys: Option<Arc<Keys>>,
    pub fleet: Arc<Fleet>,
    pub log: Arc<dyn Log>,
    /// Who owns what on the log.
    pub registry: Arc<Registry>,
    pub time: Time,
    pub seal: TokenSeal,
    /// The files of the log, if it has some that may be seen.
    pub files: Option<Arc<Files>>,
    pub limits: Limits,
    /// How long a request's body may take to come.
    pub body_time: Duration,
    pub lanes: Lanes,
    /// Whether the server is about to stop.
    pub stopping: watch::Receiver<bool>,
}

/// How many requests of each kind are answered at a time: what they hold in memory is bounded,
/// and one kind does not keep the others out.
pub struct Lanes {
    pub commands: Semaphore,
    /// Commands whose client waits for the end of a saga: they keep no others out.
    pub waits: Semaphore,
    pub queries: Semaphore,
    /// Of other services.
    pub peers: Semaphore,
    /// Of the log. Held until the answer begins: reads are bounded by their connections.
    pub calls: Semaphore,
    /// Of services that register: no number of appends lets a lease end.
    pub registry: Semaphore,
    /// For whoever mends what holds the others up.
    pub operators: Semaphore,
    /// Who reads the log by plain HTTP, for as long as they do.
    pub readers: Arc<Semaphore>,
    readers_max: usize,
}

impl Lanes {
    /// How many requests of each kind are being answered.
    pub fn busy(&self) -> [(&'static str, usize); 8] {
        let busy = |lane: &Semaphore, max: usize| max - lane.available_permits().min(max);
        [
            ("command", busy(&self.commands, COMMANDS_MAX)),
            ("wait", busy(&self.waits, WAITS_MAX)),
            ("query", busy(&self.queries, QUERIES_MAX)),
            ("peer", busy(&self.peers, PEERS_MAX)),
            ("log", busy(&self.calls, CALLS_MAX)),
            ("registry", busy(&self.registry, REGISTRY_MAX)),
            ("operator", busy(&self.operators, OPERATORS_MAX)),
            ("reader", busy(&self.readers, self.readers_max)),
        ]
    }
}

impl Lanes {
    /// With room for so many readers.
    pub fn with_readers(readers_max: usize) -> Self {
        Self {
            commands: Semaphore::new(COMMANDS_MAX),
            waits: Semaphore::new(WAITS_MAX),
            queries: Semaphore::new(QUERIES_MAX),
            peers: Semaphore::new(PEERS_MAX),
            calls: Semaphore::new(CALLS_MAX),
            registry: Semaphore::new(REGISTRY_MAX),
            operators: Semaphore::new(OPERATORS_MAX),
            readers: Arc::new(Semaphore::new(readers_max)),
            readers_max,
        }
    }
}

impl Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Shared {
    /// Whether a caller that was let in would be let in now: what goes on for long asks again.
    pub fn is_still_known(&self, caller: &Caller) -> bool {
        match (caller, &self.keys) {
            (Caller::Known(principal), Some(keys)) => keys.is_good(principal),
            (Caller::Anybody, None) => true,
            _ => false,
        }
    }

    /// Refuses a call that is meant for another log.
    pub fn check_log(&self, context: &RequestContext) -> Result<(), ConnectError> {
        let here = log_name(&self.seal);
        match context.header(LOG_HEADER) {
            Some(meant) if meant.as_bytes() != here.as_bytes() => {
                Err(ConnectError::failed_precondition(format!(
                    "the request is meant for another log than {here}, which is served here; nothing was changed"
                )))
            }
            _ => Ok(()),
        }
    }
}
