//! What a shard remembers of commands that have changed nothing.

use std::collections::VecDeque;

use anabranch_domain::{CommandId, Role};

use super::item::{Key, Outcome};
use crate::hash::HashMap;
use crate::send_error::SendError;

/// The largest rejection that is remembered, in bytes of message and data.
const REJECTION_BYTES_MAX: usize = 1024;

/// The newest rejections, so that a command that is repeated soon gets the first outcome.
pub struct Rejections {
    max: usize,
    by_id: HashMap<CommandId, (Key, SendError)>,
    order: VecDeque<CommandId>,
}

impl Rejections {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            by_id: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    pub fn get(&self, id: CommandId) -> Option<&(Key, SendError)> {
        self.by_id.get(&id)
    }

    /// Keeps a "no" that is not for now only. A step past the point of no return, and a
    /// compensation, have to succeed in the end: asked again, they are decided again.
    pub fn remember(&mut self, key: Key, role: &Role, outcome: &Outcome) {
        if matches!(role, Role::Forward(_) | Role::Undo { .. }) {
            return;
        }
        let Err(error @ SendError::Rejected(why)) = outcome else {
            return;
        };
        let bytes = why.message.len() + why.data.as_str().len();
        if why.try_again || self.max == 0 || bytes > REJECTION_BYTES_MAX {
            return;
        }
        let id = key.id;
        let entry = (key, error.clone());
        if self.by_id.insert(id, entry).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}
