//! What is being delivered, and who waits until it no longer is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anabranch_domain::{CommandId, StreamId, Timestamp};
use futures_util::future::{Either, pending, select};
use tokio::sync::Notify;

use crate::hash::HashMap;

/// A request or a compensation of a saga, from when it leaves until its answer was brought.
pub struct Sending {
    from: StreamId,
    stage: AtomicU8,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    Going,
    GivenUp,
    Over,
}

impl Sending {
    fn reaches(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    async fn wait_for(&self, stage: Stage) {
        loop {
            // Made first, it hears of what changes between the look and the wait.
            let changed = self.changed.notified();
            if self.has_reached(stage) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing of it can happen any more.
    pub async fn over(&self) {
        self.wait_for(Stage::Over).await;
    }
}

/// Whether the sender wants it no more: it is not tried again.
pub fn is_given_up(sending: Option<&Sending>) -> bool {
    sending.is_some_and(|sending| sending.has_reached(Stage::GivenUp))
}

/// What the future gives; `None` if the sender gives up what is being sent meanwhile.
pub async fn unless_given_up<T>(
    sending: Option<&Sending>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let given_up = async {
        match sending {
            Some(sending) => sending.wait_for(Stage::GivenUp).await,
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
    /// By id.
    sent: HashMap<CommandId, Sent>,
    /// What each saga is sending.
    of_saga: HashMap<StreamId, Vec<CommandId>>,
    /// Sagas that have ended while something of theirs was under way, and who may forget them
    /// once it no longer is.
    ended: HashMap<StreamId, BTreeSet<StreamId>>,
}

/// Something that was sent; `None` for what a process sends.
pub type Tracked = Option<Arc<Sending>>;

/// What was sent, from whom and to whom.
struct Sent {
    from: StreamId,
    what: What,
    tracked: Tracked,
    trouble: Option<Box<Trouble>>,
}

/// What is asked of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The command of this name.
    Command { name: String, to: StreamId },
    /// A call of this effect.
    Call { effect: String },
}

/// Why something has not arrived yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: String,
    /// When the next one is made.
    pub again_at: Option<Timestamp>,
}

/// Something that a process or saga has sent and that is on its way, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The command's id, or the call's key.
    pub id: CommandId,
    /// What is asked of whom; not what it holds, which may be long or private.
    pub what: String,
    /// The effect, if it is a call.
    pub effect: Option<String>,
    /// How many attempts have failed.
    pub attempts: u32,
    /// Why the last one has, in the words of who was asked.
    pub last_error: Option<String>,
    /// When the next one is made, if one has failed.
    pub again_at: Option<Timestamp>,
}

impl UnderWay {
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether the command or call of this id is being delivered.
    pub fn has(&self, id: CommandId) -> bool {
        self.sent.contains_key(&id)
    }

    /// Whether the command of this id is being delivered.
    pub fn has_command(&self, id: CommandId) -> bool {
        let sent = self.sent.get(&id);
        sent.is_some_and(|sent| matches!(sent.what, What::Command { .. }))
    }

    /// Something leaves; `None` if it is under way already. What a saga sends is tracked.
    pub fn begin(
        &mut self,
        id: CommandId,
        from: &StreamId,
        is_saga: bool,
        what: What,
    ) -> Option<Tracked> {
        if self.sent.contains_key(&id) {
            return None;
        }
        let tracked = is_saga.then(|| {
            Arc::new(Sending {
                from: from.clone(),
                stage: AtomicU8::new(Stage::Going as u8),
                changed: Notify::new(),
            })
        });
        if is_saga {
            self.of_saga.entry_ref(from).or_default().push(id);
        }
        let sent = Sent {
            from: from.clone(),
            what,
            tracked: tracked.clone(),
            trouble: None,
        };
        self.sent.insert(id, sent);
        Some(tracked)
    }

    /// An attempt has failed. True if that is said in other words than before.
    pub fn fails(&mut self, id: CommandId, trouble: Trouble) -> bool {
        let Some(sent) = self.sent.get_mut(&id) else {
            return false;
        };
        let before = sent.trouble.replace(Box::new(trouble.clone()));
        before.is_none_or(|before| before.reason != trouble.reason)
    }

    /// Why the last attempt failed, if one has.
    pub fn trouble(&self, id: CommandId) -> Option<&Trouble> {
        self.sent.get(&id)?.trouble.as_deref()
    }

    /// What an instance has sent that is on its way.
    pub fn of(&self, from: &StreamId) -> Vec<Delivery> {
        let of_it = self.sent.iter().filter(|(_, sent)| sent.from == *from);
        let delivery = |(&id, sent): (&CommandId, &Sent)| {
            let (what, effect) = match &sent.what {
                What::Command { name, to } => (format!("{name} to {to}"), None),
                What::Call { effect } => (format!("call {effect}"), Some(effect.clone())),
            };
            let trouble = sent.trouble.as_deref();
            Delivery {
                id,
                what,
                effect,
                attempts: trouble.map_or(0, |trouble| trouble.attempts),
                last_error: trouble.map(|trouble| trouble.reason.clone()),
                again_at: trouble.and_then(|trouble| trouble.again_at),
            }
        };
        let mut of_it: Vec<_> = of_it.map(delivery).collect();
        of_it.sort_unstable_by_key(|delivery| delivery.id);
        of_it
    }

    /// It no longer is under way. Returns the saga that was waiting for this, and who may
    /// forget it now.
    pub fn arrived(&mut self, id: CommandId) -> Option<(StreamId, BTreeSet<StreamId>)> {
        let sending = self.sent.remove(&id)?.tracked?;
        sending.reaches(Stage::Over);
        let others = self.of_saga.get_mut(&sending.from)?;
        others.retain(|other| *other != id);
        if !others.is_empty() {
            return None;
        }
        self.of_saga.remove(&sending.from);
        self.ended.remove_entry(&sending.from)
    }

    /// Does not try it again. Returns it if it is still under way.
    pub fn give_up(&mut self, id: CommandId) -> Tracked {
        let sending = self.sent.get(&id)?.tracked.clone()?;
        sending.reaches(Stage::GivenUp);
        Some(sending)
    }

    /// Nothing of a saga is tried again: it has ended. False if something of it is still under
    /// way; then `receiver` is named again when it no longer is.
    pub fn end(&mut self, saga: &StreamId, receiver: &StreamId) -> bool {
        let Some(ids) = self.of_saga.get(saga) else {
            return true;
        };
        for sending in ids
            .iter()
            .filter_map(|id| self.sent.get(id)?.tracked.as_ref())
        {
            sending.reaches(Stage::GivenUp);
        }
        let waiting = self.ended.entry_ref(saga).or_default();
        waiting.insert(receiver.clone());
        false
    }
}
