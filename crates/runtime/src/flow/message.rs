//! What reaches a shard, and what shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_domain::{Retry, StreamId};
use anabranch_log::Log;
use anabranch_model::EventType;
use tokio::sync::{Notify, oneshot};

use super::dispatcher::Dispatcher;
use super::feed::{Ledger, Ticket};
use super::{InstanceStatus, Kind};
use crate::diagnostics::Diagnostics;
use crate::send_error::SendError;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

/// What reaches a shard.
pub enum Message<K: Kind> {
    Input(StreamId, Box<Item<K::Input>>),
    /// Take an open instance over from a runtime that has gone.
    Resume(StreamId),
    Unpark(StreamId, oneshot::Sender<bool>),
    List(oneshot::Sender<Vec<InstanceStatus>>),
    /// An instance that has not ended, and waits for nothing.
    Idle(StreamId),
    /// A journal has grown, whoever has written to it.
    Touched(StreamId, Touched),
    /// The instances that have not ended.
    Open(oneshot::Sender<Vec<(StreamId, Known)>>),
    /// Take nothing more, write what is decided, then end.
    Close,
}

/// A journal, as a read of many journals finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// How many events it has.
    pub length: u64,
    /// Whether its last event says that the instance has ended.
    pub has_ended: bool,
}

/// What a shard knows of an instance that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// How many events its journal has, as far as the shard knows.
    pub length: u64,
    /// Whether a restart has to go on with it.
    pub waiting: bool,
}

/// An input on its way, and who waits for it to be durable.
pub struct Item<I> {
    pub input: I,
    pub ticket: Option<Ticket>,
    pub answer: Option<oneshot::Sender<Result<(), SendError>>>,
    /// Also send again everything that is not answered.
    pub resume: bool,
    /// Shares no append with others: the log has refused one that it was in.
    pub alone: bool,
}

impl<I> Item<I> {
    pub fn plain(input: I) -> Box<Self> {
        Box::new(Self {
            input,
            ticket: None,
            answer: None,
            resume: false,
            alone: false,
        })
    }
}

/// What the shards of one kind share.
pub struct Shared<K: Kind> {
    pub kind: K,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub diagnostics: Arc<Diagnostics>,
    pub dispatcher: Arc<Dispatcher>,
    pub source: String,
    /// The types of the journals' events, ready to be stored.
    pub types: Vec<EventType>,
    pub restart: Retry,
    pub live_max: usize,
    pub snapshots: Arc<dyn SnapshotStore>,
    /// A snapshot of an instance is kept each so many events; 0: never.
    pub snapshot_every: u64,
    /// Of snapshots: the shape of the instances.
    pub fingerprint: u128,
    pub ledger: Arc<Ledger>,
    /// Wakes the feed.
    pub nudge: Notify,
    /// The feed goes back to what is durable.
    pub rewind: AtomicBool,
    /// The feed takes over again: a shard has lost what it knew.
    pub retake: AtomicBool,
}

impl<K: Kind> Shared<K> {
    /// Lets the feed go back to what is durable.
    pub fn rewind(&self) {
        self.rewind.store(true, Ordering::Release);
        self.nudge.notify_one();
    }
}
