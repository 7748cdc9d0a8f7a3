//! What could not be delivered.

use std::collections::BTreeMap;

use anabranch_domain::{CallEnvelope, CommandEnvelope, CommandId, Role, StreamId};
use serde::Serialize;

/// Something that was sent and could not be delivered. Who sent it waits for the answer; an
/// operator tries it again, changed or not, or gives it up. After a restart it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The command's id, or the call's key.
    pub id: CommandId,
    /// The process or saga that has sent it.
    pub from: StreamId,
    /// What was sent.
    pub what: Letter,
    /// Why it could not be delivered.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Letter {
    /// A command.
    Command(Box<CommandEnvelope>),
    /// A call, and the part that it plays.
    Call(Box<CallEnvelope>, Role),
}

/// What could not be delivered, up to the most that is kept.
#[derive(Default)]
pub struct Dead {
    /// With the number under which each stands in `order`.
    letters: BTreeMap<CommandId, (u64, DeadLetter)>,
    /// Oldest first.
    order: BTreeMap<u64, CommandId>,
    count: u64,
    /// How many are not kept any more, because there were more than are kept.
    pub let_go: u64,
}

impl Dead {
    /// Whether the command or call of this id is kept.
    pub fn has(&self, id: CommandId) -> bool {
        self.letters.contains_key(&id)
    }

    /// Oldest first.
    pub fn all(&self) -> impl Iterator<Item = &DeadLetter> {
        let letters = self.order.values().filter_map(|id| self.letters.get(id));
        letters.map(|(_, letter)| letter)
    }

    pub fn remove(&mut self, id: CommandId) -> Option<DeadLetter> {
        let (number, letter) = self.letters.remove(&id)?;
        self.order.remove(&number);
        Some(letter)
    }

    /// Keeps a letter; returns one that had to go for it.
    pub fn keep(&mut self, letter: DeadLetter, letters_max: usize) -> Option<DeadLetter> {
        let id = letter.id;
        drop(self.remove(id));
        self.count += 1;
        self.letters.insert(id, (self.count, letter));
        self.order.insert(self.count, id);
        if self.letters.len() <= letters_max.max(1) {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        self.let_go += 1;
        self.letters.remove(&oldest).map(|(_, letter)| letter)
    }
}
