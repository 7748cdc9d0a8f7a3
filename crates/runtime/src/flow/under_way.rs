//! What is being delivered, and who waits until it no longer is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_domain::{CommandId, StreamId};
use futures_util::future::{Either, pending, select};
use tokio::sync::Notify;

/// A request or a compensation of a saga, from when it leaves until its answer was brought.
pub struct Sending {
    from: StreamId,
    given_up: AtomicBool,
    is_over: AtomicBool,
    bell: Notify,
}

impl Sending {
    fn new(from: StreamId) -> Self {
        Self {
            from,
            given_up: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            bell: Notify::new(),
        }
    }

    fn set(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    async fn wait_for(&self, flag: &AtomicBool) {
        loop {
            let bell = self.bell.notified();
            if flag.load(Ordering::Acquire) {
                return;
            }
            bell.await;
        }
    }

    /// Waits until nothing of it can happen any more.
    pub async fn over(&self) {
        self.wait_for(&self.is_over).await;
    }
}

/// Whether the sender wants it no more: it is not tried again.
pub fn is_given_up(sending: Option<&Sending>) -> bool {
    sending.is_some_and(|sending| sending.given_up.load(Ordering::Acquire))
}

/// What the future gives; `None` if the sender gives up what is being sent meanwhile.
pub async fn unless_given_up<T>(
    sending: Option<&Sending>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let given_up = async {
        match sending {
            Some(sending) => sending.wait_for(&sending.given_up).await,
            None => pending().await,
        }
    };
    futures_util::pin_mut!(given_up, future);
    match select(given_up, future).await {
        Either::Left(((), _)) => None,
        Either::Right((done, _)) => Some(done),
    }
}

/// Everything that is being delivered.
#[derive(Default)]
pub struct UnderWay {
    /// By id; of a process without more than that.
    sent: BTreeMap<CommandId, Option<Arc<Sending>>>,
    /// What each saga is sending.
    of_saga: BTreeMap<StreamId, BTreeSet<CommandId>>,
    /// Sagas that have ended while something of theirs was under way, and who may forget them
    /// once it no longer is.
    ended: BTreeMap<StreamId, BTreeSet<StreamId>>,
}

/// Something that was sent; `None` for what a process sends.
pub type Tracked = Option<Arc<Sending>>;

impl UnderWay {
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether the command or call of this id is being delivered.
    pub fn has(&self, id: CommandId) -> bool {
        self.sent.contains_key(&id)
    }

    /// Something leaves; `None` if it is under way already. `saga` says which saga sends it.
    pub fn begin(&mut self, id: CommandId, saga: Option<&StreamId>) -> Option<Tracked> {
        if self.sent.contains_key(&id) {
            return None;
        }
        let tracked = saga.map(|saga| Arc::new(Sending::new(saga.clone())));
        if let Some(saga) = saga {
            self.of_saga.entry(saga.clone()).or_default().insert(id);
        }
        self.sent.insert(id, tracked.clone());
        Some(tracked)
    }

    /// It no longer is under way. Returns the saga that was waiting for this, and who may
    /// forget it now.
    pub fn arrived(&mut self, id: CommandId) -> Option<(StreamId, BTreeSet<StreamId>)> {
        let sending = self.sent.remove(&id).flatten()?;
        sending.set(&sending.is_over);
        let others = self.of_saga.get_mut(&sending.from)?;
        others.remove(&id);
        if !others.is_empty() {
            return None;
        }
        self.of_saga.remove(&sending.from);
        self.ended.remove_entry(&sending.from)
    }

    /// Does not try it again. Returns it if it is still under way.
    pub fn give_up(&mut self, id: CommandId) -> Tracked {
        let sending = self.sent.get(&id)?.clone()?;
        sending.set(&sending.given_up);
        Some(sending)
    }

    /// Nothing of a saga is tried again: it has ended. False if something of it is still under
    /// way; then `receiver` is named again when it no longer is.
    pub fn end(&mut self, saga: &StreamId, receiver: &StreamId) -> bool {
        let Some(ids) = self.of_saga.get(saga) else {
            return true;
        };
        for sending in ids.iter().filter_map(|id| self.sent.get(id)?.as_ref()) {
            sending.set(&sending.given_up);
        }
        let waiting = self.ended.entry(saga.clone()).or_default();
        waiting.insert(receiver.clone());
        false
    }
}
