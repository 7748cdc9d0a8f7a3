use anabranch_model::StreamId;
use serde::{Deserialize, Serialize};

use crate::rejection::Rejection;

/// A semantic lock: part of an entity's state that says which saga is changing it. Others see
/// that a change is pending, and the entity decides what they may do.
///
/// It is held by an event and released by an event, that of the step's completion or that of
/// its compensation; no clock releases it. A saga that cannot get on gives it back itself when
/// its step's time is up.
///
/// Keep it as a field, ask it in `decide` with [`Decide::sender`](crate::Decide::sender), and
/// move it in `evolve`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SemanticLock {
    holder: Option<StreamId>,
}

/// What others are told while a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLocked {
    /// No.
    Reject,
    /// Not now: they ask again until their own time is up. That also breaks deadlocks.
    Wait,
}

impl SemanticLock {
    /// Whether a change is pending.
    pub fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    /// The saga that holds it.
    pub fn holder(&self) -> Option<&StreamId> {
        self.holder.as_ref()
    }

    /// Whether `asker` may go on: the lock is free, or it is the holder.
    pub fn check(&self, asker: Option<&StreamId>, when: WhenLocked) -> Result<(), Rejection> {
        match &self.holder {
            Some(holder) if Some(holder) != asker => {
                let rejection =
                    Rejection::new("locked", format!("{holder} is changing this just now"));
                Err(match when {
                    WhenLocked::Reject => rejection,
                    WhenLocked::Wait => rejection.for_now(),
                })
            }
            _ => Ok(()),
        }
    }

    /// From now on `holder` holds it.
    pub fn hold(&mut self, holder: StreamId) {
        self.holder = Some(holder);
    }

    /// From now on it is free.
    pub fn release(&mut self) {
        self.holder = None;
    }
}
