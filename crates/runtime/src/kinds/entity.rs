use std::io::Write;
use std::sync::Arc;

use anabranch_domain::{
    Asked, Command, CommandError, Decided, Entity, EntityInstance, Event, Json, Note, StreamId,
};
use anabranch_model::{EventRef, NewEvent};

use super::{Commanded, shape};
use crate::content::content_of;
use crate::entity_code::EntityCode;
use crate::host::{
    About, Description, Desk, Drive, Input, Item, Kind, Machine, Made, Standing, Verdict, drafts,
};
use crate::send_error::SendError;

/// The entities of one type.
pub struct EntityKind<E: Entity>(pub Arc<EntityCode<E>>);

impl<E: Entity> EntityKind<E> {
    fn machine(&self, instance: EntityInstance<E>) -> Box<dyn Machine> {
        Box::new(EntityMachine {
            instance,
            code: self.0.clone(),
        })
    }
}

/// One entity.
struct EntityMachine<E: Entity> {
    instance: EntityInstance<E>,
    code: Arc<EntityCode<E>>,
}

impl<E: Entity> EntityMachine<E> {
    fn record(
        &mut self,
        item: &Item,
        asked: Asked<'_>,
        desk: &Desk<'_>,
        decided: Decided<E::Event>,
    ) -> Result<Made, SendError> {
        Ok(match decided {
            Decided::Events(events) => {
                let stored = desk.of_command(item, drafts(&events)?)?;
                self.instance.apply(asked, &read_back::<E>(&stored)?);
                Made::of(stored, Vec::new(), Ok(()))
            }
            Decided::Note(note, outcome) => {
                let stored = desk.of_command(item, drafts(std::slice::from_ref(&note))?)?;
                self.instance.apply_note(&note);
                Made::of(stored, Vec::new(), outcome)
            }
            Decided::Nothing(outcome) => Made::of(Vec::new(), Vec::new(), outcome),
            Decided::Repeat(remembered) => Made {
                verdict: Verdict::Repeat(remembered),
                ..Made::default()
            },
        })
    }
}

impl<E: Entity> Kind for EntityKind<E> {
    fn about(&self) -> About {
        let version = E::STATE_VERSION.to_string();
        let names = [E::CATEGORY, &version, std::any::type_name::<E>()];
        About {
            name: E::CATEGORY,
            // The platform's own notes among them.
            events: E::Event::kinds().into_iter().chain(Note::kinds()).collect(),
            fingerprint: shape(&names, E::Event::kinds()),
            drive: Drive::Asked,
        }
    }

    fn empty(&self, _: &StreamId) -> Box<dyn Machine> {
        self.machine(EntityInstance::new())
    }

    fn thaw(&self, _: &StreamId, state: &[u8]) -> Option<Box<dyn Machine>> {
        let instance = serde_json::from_slice(state).ok()?;
        Some(self.machine(instance))
    }
}

impl<E: Entity> Commanded for EntityKind<E> {
    fn commands(&self) -> &'static [&'static str] {
        E::Command::names()
    }

    fn command(&self, name: &str, data: &[u8]) -> Result<Input, CommandError> {
        Ok(Box::new(self.0.commands.read(name, data)?))
    }

    fn content(&self, command: &Input) -> Option<u64> {
        content_of(command.downcast_ref::<E::Command>()?)
    }
}

impl<E: Entity> Machine for EntityMachine<E> {
    fn length(&self) -> u64 {
        self.instance.version().map_or(0, |version| version + 1)
    }

    fn decide(&mut self, item: &Item, desk: &Desk<'_>) -> Result<Made, String> {
        let (Some(ask), Some(command)) = (&item.ask, item.input.downcast_ref::<E::Command>())
        else {
            return Err("it was sent what is no command of it".to_owned());
        };
        let (stream, asked) = (desk.stream, ask.asked());
        let decided = self.instance.decide(stream, asked, command, desk.now);
        // It is as it was if that cannot be recorded.
        let made = self.record(item, asked, desk, decided);
        let mut made = made.unwrap_or_else(Made::failed);
        made.beside = self.code.published(self.instance.state(), &made.events)?;
        Ok(made)
    }

    fn replay(&mut self, event: &EventRef<'_>) -> Result<(), String> {
        let replayed = self.instance.replay(&self.code.reader, event);
        replayed.map(|_| ()).map_err(|error| error.to_string())
    }

    fn freeze(&self, out: &mut dyn Write) -> bool {
        serde_json::to_writer(out, &self.instance).is_ok()
    }

    fn describe(&self) -> Result<Description, String> {
        Ok(Description {
            phase: "live".to_owned(),
            length: self.length(),
            state: Json::of(self.instance.state()).map_err(|error| error.to_string())?,
            ..Description::default()
        })
    }

    fn standing(&self) -> Standing {
        Standing::Resident
    }

    fn forget(&mut self, saga: &StreamId) {
        self.instance.forget(saga);
    }

    fn remembers(&self) -> Vec<StreamId> {
        self.instance.memory().sagas().cloned().collect()
    }
}

/// The events as everybody will read them, this entity too after a restart: its state moves on
/// by these and no others. What cannot be read back is not written.
fn read_back<E: Entity>(stored: &[NewEvent]) -> Result<Vec<E::Event>, SendError> {
    let read = |event: &NewEvent| {
        let name = event.event_type.as_str();
        E::Event::decode(name, event.schema_version, &event.data).map_err(|error| {
            SendError::Invalid(format!(
                "the event {name} that the command makes cannot be read back as it is written: \
                 {error}; nothing was changed"
            ))
        })
    };
    stored.iter().map(read).collect()
}
