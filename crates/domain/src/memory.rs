//! What an entity remembers of commands, so that each takes effect once.

use std::collections::BTreeMap;
use std::ops::Range;

use anabranch_model::{CommandId, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::command::Role;
use crate::event::{DecodeError, EncodeError, Event, EventKind};
use crate::rejection::Rejection;
use crate::rules::{Rule, Rules};

/// What an entity remembers of the commands it has seen. Made from nothing but its stream, and
/// kept in its snapshots: it survives restarts and moves with the entity.
///
/// Commands of sagas are remembered until the saga has ended; of others, the last few. Most
/// entities are idle most of the time, so it is small: 32 bytes for a plain command.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CommandMemory {
    /// Ordinary commands, oldest first.
    plain: Vec<Entry>,
    /// Of each saga that may ask again, its commands.
    sagas: BTreeMap<StreamId, Vec<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// The command's id; as bytes, so that an entry takes no room for alignment.
    id: [u8; 16],
    outcome: Kept,
}

/// As [`Remembered`], in 16 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kept {
    Recorded { first: Version, count: u32 },
    Refused(Box<Rejection>),
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    fn new(id: CommandId, outcome: Kept) -> Self {
        let id = id.as_u128().to_le_bytes();
        Self { id, outcome }
    }

    fn recorded(id: CommandId, versions: &Range<Version>) -> Self {
        Self::new(id, Kept::recorded(versions))
    }
}

impl Kept {
    fn recorded(versions: &Range<Version>) -> Self {
        let count = versions.end.saturating_sub(versions.start);
        Self::Recorded {
            first: versions.start,
            // A batch has far fewer events.
            count: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }

    fn remembered(&self) -> Remembered {
        match self {
            Self::Recorded { first, count } => {
                Remembered::Recorded(*first..first + Version::from(*count))
            }
            Self::Refused(rejection) => Remembered::Refused((**rejection).clone()),
        }
    }
}

fn find(entries: &[Entry], id: CommandId) -> Option<usize> {
    let id = id.as_u128().to_le_bytes();
    // The newest is the most likely one.
    entries.iter().rposition(|entry| entry.id == id)
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
pub const PLAIN_COMMANDS_MAX: usize = 16;

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
        if let Some(kept) = self.get(id, saga) {
            return Admission::Repeat(kept.remembered());
        }
        let Role::Undo { of, .. } = role else {
            return Admission::Decide;
        };
        match self.get(*of, saga) {
            Some(Kept::Recorded { .. }) => Admission::Decide,
            Some(Kept::Refused(_)) => Admission::NothingAgain,
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
        let entries = self.entries_mut(saga);
        match find(entries, id) {
            // Further events of the same command.
            Some(known) => {
                if let Kept::Recorded { first, count } = &mut entries[known].outcome {
                    let end = versions.end.max(*first + Version::from(*count));
                    entries[known].outcome = Kept::recorded(&(*first..end));
                }
            }
            None => self.insert(Entry::recorded(id, &versions), saga),
        }
    }

    /// Takes in a note that stands in the stream.
    pub fn noted(&mut self, note: &Note, version: Version) {
        match note {
            Note::Tombstone { request, saga } => {
                let late = Rejection::new(
                    "compensated",
                    "the step was compensated before this request arrived",
                );
                let entry = Entry::new(*request, Kept::Refused(Box::new(late)));
                self.insert(entry, saga.as_ref());
            }
            Note::Refused {
                command,
                saga,
                rejection,
            } => {
                let outcome = Kept::Refused(Box::new(rejection.clone()));
                self.insert(Entry::new(*command, outcome), saga.as_ref());
            }
            Note::Done { command, saga } => {
                let entry = Entry::recorded(*command, &(version..version));
                self.insert(entry, saga.as_ref());
            }
        }
    }

    /// Forgets what was remembered for a saga that has ended.
    pub fn forget(&mut self, saga: &StreamId) {
        self.sagas.remove(saga);
        if self.sagas.is_empty() {
            // An empty map may still hold the memory of its last entries.
            self.sagas = BTreeMap::new();
        }
    }

    /// The commands that are remembered for a saga.
    pub(crate) fn commands_of(&self, saga: &StreamId) -> impl Iterator<Item = CommandId> {
        let entries = self.sagas.get(saga).into_iter().flatten();
        entries.map(|entry| CommandId::from_u128(u128::from_le_bytes(entry.id)))
    }

    /// The sagas whose commands are remembered.
    pub fn sagas(&self) -> impl Iterator<Item = &StreamId> {
        self.sagas.keys()
    }

    /// How many commands are remembered.
    pub fn len(&self) -> usize {
        self.plain.len() + self.sagas.values().map(Vec::len).sum::<usize>()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.sagas.is_empty()
    }

    /// A saga's commands are found by the saga: nobody else asks with their ids.
    fn get(&self, id: CommandId, saga: Option<&StreamId>) -> Option<&Kept> {
        let entries = match saga {
            Some(saga) => self.sagas.get(saga)?,
            None => &self.plain,
        };
        find(entries, id).map(|at| &entries[at].outcome)
    }

    fn entries_mut(&mut self, saga: Option<&StreamId>) -> &mut [Entry] {
        match saga {
            Some(saga) => self.sagas.get_mut(saga).map_or(&mut [], Vec::as_mut_slice),
            None => &mut self.plain,
        }
    }

    fn insert(&mut self, entry: Entry, saga: Option<&StreamId>) {
        let Some(saga) = saga else {
            if self.plain.len() == PLAIN_COMMANDS_MAX {
                self.plain.remove(0);
            }
            return self.plain.push(entry);
        };
        match self.sagas.get_mut(saga) {
            Some(entries) => entries.push(entry),
            // Most sagas ask an entity once.
            None => drop(self.sagas.insert(saga.clone(), vec![entry])),
        }
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
