//! What an entity remembers of commands, so that each takes effect once.

use std::collections::BTreeMap;
use std::ops::Range;

use anabranch_model::{CommandId, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::command::Role;
use crate::event::{DecodeError, EncodeError, Event, EventKind};
use crate::rejection::Rejection;
use crate::saga::{Rule, Rules};

/// What an entity remembers of the commands it has seen. Made from nothing but its stream, and
/// kept in its snapshots: it survives restarts and moves with the entity.
///
/// Commands of sagas are remembered until the saga has ended; of others, the last few.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CommandMemory {
    commands: BTreeMap<CommandId, Entry>,
    /// Ordinary commands, oldest first.
    plain: std::collections::VecDeque<CommandId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    outcome: Remembered,
    /// The saga that may ask again.
    saga: Option<StreamId>,
}

/// The outcome of a command that was seen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remembered {
    /// It has recorded the events with these versions; possibly none.
    Recorded(Range<Version>),
    /// It was refused.
    Refused(Rejection),
}

/// What to do with a command, before the entity decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Let the entity decide.
    Decide,
    /// Answer what was answered before; change nothing.
    Repeat(Remembered),
    /// Nothing was done that could be undone. Record this note, then answer that it is done.
    Nothing(Note),
    /// Nothing was done, and that is known already. Answer that it is done.
    NothingAgain,
}

/// How many ordinary commands an entity remembers. The log itself knows the ids of all events
/// ever written, so that an older command is still not written twice.
pub const PLAIN_COMMANDS_MAX: usize = 64;

impl CommandMemory {
    /// Nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do with this command.
    pub fn admit(&self, id: CommandId, role: &Role, saga: Option<&StreamId>) -> Admission {
        self.admit_under(id, role, saga, Rules::ALL)
    }

    pub(crate) fn admit_under(
        &self,
        id: CommandId,
        role: &Role,
        saga: Option<&StreamId>,
        rules: Rules,
    ) -> Admission {
        if let Some(entry) = self.commands.get(&id) {
            return Admission::Repeat(entry.outcome.clone());
        }
        let Role::Undo { of, .. } = role else {
            return Admission::Decide;
        };
        match self.commands.get(of).map(|entry| &entry.outcome) {
            Some(Remembered::Recorded(_)) => Admission::Decide,
            Some(Remembered::Refused(_)) => Admission::NothingAgain,
            None if !rules.keep(Rule::Tombstone) => Admission::Decide,
            // R6: the request was never seen; should it come late, it is refused.
            None => Admission::Nothing(Note::Tombstone {
                request: *of,
                saga: saga.cloned(),
            }),
        }
    }

    /// Takes note that the command `id` has recorded the events with these versions.
    pub fn recorded(&mut self, id: CommandId, versions: Range<Version>, saga: Option<&StreamId>) {
        if let Some(entry) = self.commands.get_mut(&id) {
            // Further events of the same command.
            if let Remembered::Recorded(known) = &mut entry.outcome {
                known.end = known.end.max(versions.end);
            }
            return;
        }
        let outcome = Remembered::Recorded(versions);
        self.insert(id, outcome, saga.cloned());
    }

    /// Takes in a note that stands in the stream.
    pub fn noted(&mut self, note: &Note, version: Version) {
        match note {
            Note::Tombstone { request, saga } => {
                let late = Rejection::new(
                    "compensated",
                    "the step was compensated before this request arrived",
                );
                self.insert(*request, Remembered::Refused(late), saga.clone());
            }
            Note::Refused {
                command,
                saga,
                rejection,
            } => {
                let outcome = Remembered::Refused(rejection.clone());
                self.insert(*command, outcome, saga.clone());
            }
            Note::Done { command, saga } => {
                let outcome = Remembered::Recorded(version..version);
                self.insert(*command, outcome, saga.clone());
            }
        }
    }

    /// Forgets what was remembered for a saga that has ended.
    pub fn forget(&mut self, saga: &StreamId) {
        self.commands
            .retain(|_, entry| entry.saga.as_ref() != Some(saga));
    }

    /// How many commands are remembered.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    fn insert(&mut self, id: CommandId, outcome: Remembered, saga: Option<StreamId>) {
        if saga.is_none() {
            self.plain.push_back(id);
            if self.plain.len() > PLAIN_COMMANDS_MAX
                && let Some(oldest) = self.plain.pop_front()
            {
                self.commands.remove(&oldest);
            }
        }
        self.commands.insert(id, Entry { outcome, saga });
    }
}

/// What the platform writes into an entity's stream beside the entity's own events: outcomes
/// of commands that have recorded no event, where they must be remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A step was compensated before its request arrived.
    Tombstone {
        /// The request's id.
        request: CommandId,
        /// The saga.
        saga: Option<StreamId>,
    },
    /// The request of a step was refused.
    Refused {
        /// The request's id.
        command: CommandId,
        /// The saga.
        saga: Option<StreamId>,
        /// Why.
        rejection: Rejection,
    },
    /// A request or a compensation was done without an event.
    Done {
        /// Its id.
        command: CommandId,
        /// The saga.
        saga: Option<StreamId>,
    },
}

const NOTES: [(&str, &str); 3] = [
    ("$Tombstone", "Tombstone"),
    ("$Refused", "Refused"),
    ("$Done", "Done"),
];

/// By hand, because names that begin with `$` are the platform's and the derive refuses them.
impl Event for Note {
    fn kinds() -> Vec<EventKind> {
        NOTES
            .iter()
            .map(|&(name, _)| EventKind { name, version: 1 })
            .collect()
    }

    fn version_of(name: &str) -> Option<u32> {
        NOTES.iter().any(|note| note.0 == name).then_some(1)
    }

    fn kind(&self) -> EventKind {
        let name = match self {
            Self::Tombstone { .. } => NOTES[0].0,
            Self::Refused { .. } => NOTES[1].0,
            Self::Done { .. } => NOTES[2].0,
        };
        EventKind { name, version: 1 }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        crate::__derive::encode(self, out)
    }

    fn decode(name: &str, version: u32, data: &[u8]) -> Result<Self, DecodeError> {
        match NOTES.iter().find(|note| note.0 == name) {
            Some(&(name, serde_name)) => {
                crate::__derive::decode(EventKind { name, version: 1 }, serde_name, version, data)
            }
            None => Err(crate::__derive::unknown::<Self>(name)),
        }
    }
}
