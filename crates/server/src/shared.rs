//! What all requests share.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_access::{Caller, Listening};
use anabranch_log::Log;
use anabranch_model::{Limits, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use anabranch_tls::Certificate;
use anabranch_wire::LOG_HEADER;
use axum::http::Extensions;
use connectrpc::{ConnectError, RequestContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::askers::Askers;
use crate::audit::Audit;
use crate::entrance::Origin;
use crate::files::Files;
use crate::keys::Keys;
use crate::rate::Rates;
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

/// The most readers that read the log at a time, by plain HTTP and by RPC each, if nothing is said.
pub const READERS_MAX: usize = 2048;

/// The most that the bodies of all requests hold at a time, in KiB.
const BODIES_KIB_MAX: usize = 256 << 10;

/// What all requests share.
#[derive(Clone)]
pub struct Shared(pub Arc<Inner>);

pub struct Inner {
    /// Where this is.
    pub url: String,
    /// How it is protected.
    pub listening: Listening,
    /// What it shows of itself, if what is said is encrypted.
    pub certificate: Option<Arc<Certificate>>,
    /// What writes down who does what, if callers are asked who they are and this is the log's server.
    pub audit: Option<Audit>,
    /// How often each caller may ask.
    pub rates: Rates<String>,
    /// How often each address may ask and show nothing that is good.
    pub origins: Rates<Origin>,
    /// The keys of callers, if they are asked for one.
    pub keys: Option<Arc<Keys>>,
    pub fleet: Arc<Fleet>,
    pub log: Arc<dyn Log>,
    /// Whether this is the server of the log, and not one of a service in a process of its own.
    pub has_log: bool,
    /// Which services ask those here.
    pub askers: Askers,
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
    /// Of the log. Held until the answer begins; reads then count as readers.
    pub calls: Semaphore,
    /// Of services that register: no number of appends lets a lease end.
    pub registry: Semaphore,
    /// For whoever mends what holds the others up.
    pub operators: Semaphore,
    /// Who reads the log by plain HTTP, for as long as they do.
    pub readers: Arc<Semaphore>,
    /// Who reads it by RPC.
    pub calls_of_readers: Arc<Semaphore>,
    readers_max: usize,
    /// What bodies hold, in KiB.
    bodies: Arc<Semaphore>,
}

/// What the body of a request holds, until the request is answered.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    /// That of the request with these extensions.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Makes room for a body that has so many bytes by now; false if others hold too much.
    pub fn grow(&self, lanes: &Lanes, bytes: usize) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(1024).saturating_sub(has).min(BODIES_KIB_MAX);
        if more == 0 {
            return true;
        }
        match (
            lanes.bodies.clone().try_acquire_many_owned(more as u32),
            &mut *held,
        ) {
            (Ok(more), Some(held)) => held.merge(more),
            (Ok(more), none) => *none = Some(more),
            (Err(_), _) => return false,
        }
        true
    }
}

impl Lanes {
    /// How many requests of each kind are being answered.
    pub fn busy(&self) -> [(&'static str, usize); 9] {
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
            ("log-reader", busy(&self.calls_of_readers, self.readers_max)),
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
            calls_of_readers: Arc::new(Semaphore::new(readers_max)),
            readers_max,
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_all_requests_hold_no_more_than_there_is_for_them() {
        let lanes = Lanes::with_readers(1);
        let half = BODIES_KIB_MAX * 1024 / 2;
        let (first, second) = (Held::default(), Held::default());
        assert!(first.grow(&lanes, half) && first.grow(&lanes, half + 1024));
        assert!(!second.grow(&lanes, half));
        drop(first);
        assert!(second.grow(&lanes, half));
    }
}
