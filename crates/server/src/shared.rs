//! What all requests share.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anabranch_log::Log;
use anabranch_model::{Limits, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use tokio::sync::{Semaphore, watch};

/// What all requests share.
#[derive(Clone)]
pub struct Shared(pub Arc<Inner>);

pub struct Inner {
    pub fleet: Arc<Fleet>,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub seal: TokenSeal,
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
    pub queries: Semaphore,
    /// Of the log. Held until the answer begins: reads are bounded by their connections.
    pub calls: Semaphore,
    /// For whoever mends what holds the others up.
    pub operators: Semaphore,
}

impl Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
