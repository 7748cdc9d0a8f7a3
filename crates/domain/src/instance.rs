use anabranch_model::{CommandId, EventRef, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::command::Role;
use crate::downcasts::Lowered;
use crate::entity::{Decide, Entity};
use crate::event::{DecodeError, Event};
use crate::memory::{Admission, CommandMemory, Note, Remembered};
use crate::rejection::Rejection;
use crate::saga::{Rule, Rules};
use crate::schema::Reader;
use crate::time::Timestamp;

/// One entity as a host keeps it: its state, how far its stream goes, and what it remembers of
/// commands. Serde, for snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct EntityInstance<E: Entity> {
    state: E,
    version: Option<Version>,
    memory: CommandMemory,
    /// The commands of sagas that were forgotten last, newest last.
    #[serde(skip)]
    forgotten: Vec<CommandId>,
    #[serde(skip)]
    rules: Rules,
}

/// How many forgotten commands of sagas an entity in memory knows: one that comes late is
/// refused. A saga that begins anew asks by other ids.
const FORGOTTEN_MAX: usize = 64;

/// A command, as far as its host has to know it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its id.
    pub id: CommandId,
    /// The part it plays in a saga.
    pub role: &'a Role,
    /// The saga, or process, that waits for the outcome.
    pub reply_to: Option<&'a StreamId>,
}

impl<'a> Asked<'a> {
    /// An ordinary command for which nobody but the caller waits.
    pub const fn plainly(id: CommandId) -> Self {
        Asked {
            id,
            role: &Role::Plain,
            reply_to: None,
        }
    }

    /// The saga that may ask again, if it is a saga that asks.
    fn saga(&self) -> Option<&'a StreamId> {
        self.reply_to.filter(|_| !self.role.is_plain())
    }
}

/// What is to be done about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided<E> {
    /// Append these events at the version that follows [`EntityInstance::version`], with
    /// the command's id as their causation id, then answer that it is done.
    Events(Vec<E>),
    /// Append this note there, then answer.
    Note(Note, Result<(), Rejection>),
    /// Append nothing; answer.
    Nothing(Result<(), Rejection>),
    /// Append nothing; answer what was answered before.
    Repeat(Remembered),
}

impl<E: Entity> Default for EntityInstance<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Entity> EntityInstance<E> {
    /// The entity with an empty stream.
    pub fn new() -> Self {
        Self {
            state: E::default(),
            version: None,
            memory: CommandMemory::new(),
            forgotten: Vec::new(),
            rules: Rules::ALL,
        }
    }

    /// The same entity, under these rules: all of them, outside of tests.
    #[must_use]
    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The state.
    pub fn state(&self) -> &E {
        &self.state
    }

    /// The version of the last event of its stream; `None` when it has none.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// What it remembers of commands.
    pub fn memory(&self) -> &CommandMemory {
        &self.memory
    }

    /// Forgets what it remembers for a saga that has ended.
    pub fn forget(&mut self, saga: &StreamId) {
        self.forgotten.extend(self.memory.commands_of(saga));
        let too_many = self.forgotten.len().saturating_sub(FORGOTTEN_MAX);
        self.forgotten.drain(..too_many);
        self.memory.forget(saga);
    }

    /// Whether a command, or what it is to undo, belongs to a saga that has ended.
    fn is_forgotten(&self, asked: &Asked<'_>) -> bool {
        let undone = match asked.role {
            Role::Undo { of, .. } => *of,
            _ => asked.id,
        };
        let mut forgotten = self.forgotten.iter();
        forgotten.any(|id| *id == asked.id || *id == undone)
    }

    /// What is to be done about `command`. Nothing changes here.
    pub fn decide(
        &self,
        stream: &StreamId,
        asked: Asked<'_>,
        command: &E::Command,
        now: Timestamp,
    ) -> Decided<E::Event> {
        let saga = asked.saga();
        if let Some(saga) = saga
            && self.is_forgotten(&asked)
        {
            let why = format!("{saga} has ended; what it asks for late is not done");
            return Decided::Nothing(Err(Rejection::new("forgotten", why)));
        }
        let admission = self
            .memory
            .admit_under(asked.id, asked.role, saga, self.rules);
        match admission {
            Admission::Decide => {}
            Admission::Repeat(remembered) => return Decided::Repeat(remembered),
            Admission::Nothing(note) => return Decided::Note(note, Ok(())),
            Admission::NothingAgain => return Decided::Nothing(Ok(())),
        }
        let cx = Decide::new(stream.clone(), self.version, asked.id, now)
            .sent_by(asked.reply_to.cloned());
        let decided = self.state.decide(command, &cx).map_err(Into::into);
        match decided {
            Ok(events) if !events.is_empty() => Decided::Events(events),
            Ok(_) if asked.role.is_plain() => Decided::Nothing(Ok(())),
            Ok(_) => Decided::Note(
                Note::Done {
                    command: asked.id,
                    saga: saga.cloned(),
                },
                Ok(()),
            ),
            // A refusal that could become a yes when the same request comes a second time would
            // leave an effect that the saga does not know of.
            Err(rejection) if matches!(asked.role, Role::Step(_)) && !rejection.try_again => {
                Decided::Note(
                    Note::Refused {
                        command: asked.id,
                        saga: saga.cloned(),
                        rejection: rejection.clone(),
                    },
                    Err(rejection),
                )
            }
            Err(rejection) => Decided::Nothing(Err(rejection)),
        }
    }

    /// Takes in the events that `asked` has recorded.
    pub fn apply(&mut self, asked: Asked<'_>, events: &[E::Event]) {
        let first = self.next_version();
        for event in events {
            self.state.evolve(event);
        }
        let next = first + events.len() as Version;
        self.version = next.checked_sub(1);
        self.memory.recorded(asked.id, first..next, asked.saga());
    }

    /// Takes in a note.
    pub fn apply_note(&mut self, note: &Note) {
        let version = self.next_version();
        self.memory.noted(note, version);
        self.version = Some(version);
    }

    /// Takes in a stored event, on replay. `Ok(false)` when it is passed over and only counts.
    pub fn replay(
        &mut self,
        reader: &Reader<E::Event>,
        event: &EventRef<'_>,
    ) -> Result<bool, DecodeError> {
        if Note::version_of(event.event_type).is_some() {
            let note = Note::decode(event.event_type, event.schema_version, event.data)?;
            if self.rules.keep(Rule::RememberUntilEnd) {
                self.memory.noted(&note, event.version);
            }
            self.version = Some(event.version);
            return Ok(true);
        }
        let mut room = Lowered::default();
        let own = match reader.known(event, &mut room) {
            Some(known) => reader.read(known.event_type, known.schema_version, known.data)?,
            None => None,
        };
        if let Some(event) = &own {
            self.state.evolve(event);
        }
        self.version = Some(event.version);
        if self.rules.keep(Rule::RememberUntilEnd)
            && let Some((command, saga)) = cause(event)?
        {
            let versions = event.version..event.version + 1;
            self.memory.recorded(command, versions, saga.as_ref());
        }
        Ok(own.is_some())
    }

    fn next_version(&self) -> Version {
        self.version.map_or(0, |version| version + 1)
    }
}

/// The header that names the saga for which an event was recorded.
pub const SAGA_HEADER: &str = "anabranch-saga";

/// The command that has recorded an event, and the saga that asked for it. An event that was
/// appended by hand names none; one whose metadata cannot be read would be forgotten as an answer.
fn cause(event: &EventRef<'_>) -> Result<Option<(CommandId, Option<StreamId>)>, DecodeError> {
    let meta = event.meta.decode().map_err(|error| DecodeError::Data {
        name: event.event_type.to_owned(),
        version: event.schema_version,
        reason: format!("its metadata cannot be read: {error}"),
    })?;
    let command = meta.causation_id.and_then(|id| id.parse().ok());
    let saga = meta.headers.get(SAGA_HEADER);
    let saga = saga.and_then(|name| StreamId::system(name).ok());
    Ok(command.map(|command| (command, saga)))
}
