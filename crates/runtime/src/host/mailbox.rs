//! The way in: from outside, to the shard that owns the key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::StreamId;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use super::item::Item;
use super::shard::{self, Gauge, Message, Shard};
use super::shared::Shared;
use crate::panics;
use crate::send_error::SendError;

/// The machines of one kind, hosted. Dropped, it ends as in a crash.
pub struct Host {
    pub shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    closing: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

struct ShardHandle {
    inbox: mpsc::Sender<Message>,
    gauge: Arc<Gauge>,
}

impl Host {
    /// Starts the shards on the present async runtime.
    pub fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        let shard = |_| {
            let (inbox, messages) = mpsc::channel(shared.options.mailbox_max.max(1));
            let gauge = Arc::new(Gauge::default());
            tasks.spawn(run(shared.clone(), gauge.clone(), messages));
            ShardHandle { inbox, gauge }
        };
        Self {
            shards: (0..shared.options.shards.max(1)).map(shard).collect(),
            shared,
            closing: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
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

    /// As [`Host::offer`], as soon as there is room.
    pub async fn bring(&self, stream: StreamId, item: Box<Item>) -> Result<(), SendError> {
        let inbox = &self.shard(&stream).inbox;
        let sent = inbox.send(Message::Input(stream, item)).await;
        sent.map_err(|_| SendError::stopping())
    }

    /// Lets the shard that owns a key do something, as soon as there is room.
    pub async fn tell(
        &self,
        stream: &StreamId,
        work: impl FnOnce(&mut Shard) + Send + 'static,
    ) -> Result<(), SendError> {
        let sent = self.shard(stream).inbox.send(Message::Do(Box::new(work)));
        sent.await.map_err(|_| SendError::stopping())
    }

    /// As [`Host::tell`], if there is room now.
    pub fn tell_now(&self, stream: &StreamId, work: impl FnOnce(&mut Shard) + Send + 'static) {
        // A shard that is too busy learns it another time.
        drop(
            self.shard(stream)
                .inbox
                .try_send(Message::Do(Box::new(work))),
        );
    }

    /// What the shard that owns a key answers; `None` if it is gone.
    pub async fn ask<T: Send + 'static>(
        &self,
        stream: &StreamId,
        question: fn(&mut Shard, &StreamId) -> T,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let of = stream.clone();
        // Nobody waits for an answer that nobody takes.
        let work = move |shard: &mut Shard| drop(reply.send(question(shard, &of)));
        self.tell(stream, work).await.ok()?;
        answer.await.ok()
    }

    /// What all shards answer; `None` if one is gone.
    pub async fn ask_all<T: Send + 'static>(
        &self,
        question: fn(&Shard) -> Vec<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let (reply, answer) = oneshot::channel();
            let work = move |shard: &mut Shard| drop(reply.send(question(shard)));
            shard.inbox.send(Message::Do(Box::new(work))).await.ok()?;
            all.extend(answer.await.ok()?);
        }
        Some(all)
    }

    /// How many machines are in memory, and how many bytes they take, about.
    pub fn memory(&self) -> (usize, usize) {
        let gauges = self.shards.iter().map(|shard| &shard.gauge);
        gauges.fold((0, 0), |(live, bytes), gauge| {
            let more = gauge.live.load(Ordering::Relaxed);
            (live + more, bytes + gauge.bytes.load(Ordering::Relaxed))
        })
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes nothing more, and waits until all that was taken is answered or durable. Given up
    /// half way, it ends as in a crash.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        for shard in &self.shards {
            // A mailbox that is closed already needs no message.
            drop(shard.inbox.send(Message::Close).await);
        }
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }

    /// Stops at once, as a crash would.
    pub fn kill(&self) {
        self.closing.store(true, Ordering::Release);
        self.tasks().abort_all();
    }
}

/// Runs a shard, again and again should its code panic.
async fn run(shared: Arc<Shared>, gauge: Arc<Gauge>, mut messages: mpsc::Receiver<Message>) {
    let mut from_round = 0;
    loop {
        let run = shard::run(shared.clone(), gauge.clone(), &mut messages, from_round);
        let Err(panic) = std::panic::AssertUnwindSafe(run).catch_unwind().await else {
            return;
        };
        // Whoever waited is told that the outcome is unknown; what is durable is read from the
        // log again.
        shared.note(format!(
            "a shard of {} panicked and was started again: {}",
            shared.about.name,
            panics::message(&*panic)
        ));
        // It has forgotten what was on its way, what is open, and every timer.
        from_round = shared.feed.round() + 1;
        shared.feed.take_over_again();
    }
}
