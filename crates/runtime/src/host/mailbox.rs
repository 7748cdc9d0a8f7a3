//! The way in: from outside, to the shard that owns the key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::StreamId;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

use super::item::Item;
use super::shard::{self, Gauge, Message};
use super::shared::Shared;
use crate::panics;
use crate::send_error::SendError;

/// The machines of one kind, hosted.
pub struct Host {
    pub shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    closing: AtomicBool,
}

struct ShardHandle {
    inbox: mpsc::Sender<Message>,
    gauge: Arc<Gauge>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Starts the shards on the present async runtime.
    pub fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let shards = 0..shared.options.shards.max(1);
        Self {
            shards: shards.map(|_| ShardHandle::start(&shared)).collect(),
            shared,
            closing: AtomicBool::new(false),
        }
    }

    fn shard(&self, stream: &StreamId) -> &ShardHandle {
        let hash = xxh3_64(stream.as_str().as_bytes());
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }

    /// Brings an input to its machine, or says at once that there are too many.
    pub fn offer(&self, stream: StreamId, item: Box<Item>) -> Result<(), SendError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(SendError::stopping());
        }
        let shard = self.shard(&stream);
        match shard.inbox.try_send(Message::Input(stream, item)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(shard.gauge.overloaded(shard.inbox.max_capacity()))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::stopping()),
        }
    }

    /// Brings a message to the shard that owns a key, as soon as there is room.
    pub async fn tell(&self, stream: &StreamId, message: Message) -> Result<(), SendError> {
        let sent = self.shard(stream).inbox.send(message).await;
        sent.map_err(|_| SendError::stopping())
    }

    /// As [`Host::tell`], if there is room now.
    pub fn tell_now(&self, stream: &StreamId, message: Message) {
        // A shard that is too busy learns it another time.
        drop(self.shard(stream).inbox.try_send(message));
    }

    /// What the shard that owns a key answers; `None` if it is gone.
    pub async fn ask<T>(
        &self,
        stream: &StreamId,
        message: impl FnOnce(StreamId, oneshot::Sender<T>) -> Message,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let message = message(stream.clone(), reply);
        self.tell(stream, message).await.ok()?;
        answer.await.ok()
    }

    /// What all shards answer; `None` if one is gone.
    pub async fn ask_all<T>(
        &self,
        message: impl Fn(oneshot::Sender<Vec<T>>) -> Message,
    ) -> Option<Vec<T>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            shard.inbox.send(message(reply)).await.ok()?;
            all.extend(answer.await.ok()?);
        }
        Some(all)
    }

    /// How many machines are in memory, and how many bytes they take, about.
    pub fn memory(&self) -> (usize, usize) {
        let gauges = || self.shards.iter().map(|shard| &shard.gauge);
        (
            gauges().map(|g| g.live()).sum(),
            gauges().map(|g| g.bytes()).sum(),
        )
    }

    /// Takes nothing more, and waits until all that was taken is answered or durable.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        for shard in &self.shards {
            // A mailbox that is closed already needs no message.
            drop(shard.inbox.send(Message::Close).await);
        }
        for shard in &self.shards {
            if let Some(task) = shard.take_task() {
                AbortOnDrop(task).wait().await;
            }
        }
    }

    /// Stops at once, as a crash would.
    pub fn kill(&self) {
        self.closing.store(true, Ordering::Release);
        for shard in &self.shards {
            if let Some(task) = shard.take_task() {
                task.abort();
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

impl ShardHandle {
    fn start(shared: &Arc<Shared>) -> Self {
        let (inbox, mut messages) = mpsc::channel(shared.options.mailbox_max.max(1));
        let gauge = Arc::new(Gauge::default());
        let (shared, watched) = (shared.clone(), gauge.clone());
        let task = tokio::spawn(async move {
            let mut from_round = 0;
            loop {
                let run = shard::run(shared.clone(), watched.clone(), &mut messages, from_round);
                let Err(panic) = std::panic::AssertUnwindSafe(run).catch_unwind().await else {
                    return;
                };
                // Whoever waited is told that the outcome is unknown; what is durable is read
                // from the log again.
                shared.note(format!(
                    "a shard of {} panicked and was started again: {}",
                    shared.kind.name(),
                    panics::message(&*panic)
                ));
                // It has forgotten what was on its way, what is open, and every timer.
                from_round = shared.feed.round() + 1;
                shared.feed.take_over_again();
            }
        });
        Self {
            inbox,
            gauge,
            task: Mutex::new(Some(task)),
        }
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.take()
    }
}

/// Ends a task when nobody waits for it any more.
struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn wait(mut self) {
        // A panic of the task was noted where it happened.
        drop((&mut self.0).await);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
