use std::any::Any;
use std::collections::HashMap;

use anabranch_model::{Cut, StreamId};

use super::{Host, Scene, Send, Work};
use crate::command::{Command, CommandEnvelope, Outcome, RecordedEvent, ReplyEnvelope, Role};
use crate::entity::Entity;
use crate::instance::{Asked, Decided, EntityInstance, SAGA_HEADER};
use crate::memory::{Note, Remembered};
use crate::rejection::Rejection;
use crate::schema::Reader;
use crate::testkit::world::log::{WorldLog, Write, WriteEvent};
use crate::testkit::world::message::Message;

pub struct EntityHost<E: Entity> {
    reader: Reader<E::Event>,
    loaded: HashMap<StreamId, EntityInstance<E>>,
}

impl<E: Entity> EntityHost<E> {
    pub fn new() -> Self {
        Self {
            reader: Reader::new().unwrap_or_else(|error| panic!("{}: {error}", E::CATEGORY)),
            loaded: HashMap::new(),
        }
    }

    fn load(&mut self, stream: &StreamId, scene: &Scene<'_>) -> Result<(), String> {
        if !self.loaded.contains_key(stream) {
            let mut instance = EntityInstance::new().under(scene.rules);
            for event in scene.log.stream(stream) {
                instance
                    .replay(&self.reader, &event.as_ref())
                    .map_err(|error| error.to_string())?;
            }
            self.loaded.insert(stream.clone(), instance);
        }
        Ok(())
    }

    fn command(&mut self, envelope: &CommandEnvelope, scene: &Scene<'_>) -> Result<Work, String> {
        self.load(&envelope.to, scene)?;
        let Some(instance) = self.loaded.get_mut(&envelope.to) else {
            return Ok(Work::nothing());
        };
        let command = E::Command::from_wire(&envelope.name, envelope.data.as_str().as_bytes());
        let command = match command {
            Ok(command) => command,
            Err(error) => {
                let rejection = Rejection::new("malformed-command", error.to_string());
                let outcome = Outcome::Refused(rejection);
                return Ok(Work::send(answer(envelope, outcome, Cut::start())));
            }
        };
        let asked = Asked {
            id: envelope.id,
            role: &envelope.role,
            reply_to: envelope.reply_to.as_ref(),
        };
        let expect = instance.version().map_or(0, |version| version + 1);
        let decided = instance.decide(&envelope.to, asked, &command, scene.now);
        match decided {
            Decided::Events(events) => {
                let recorded = events
                    .iter()
                    .map(RecordedEvent::of)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| error.to_string())?;
                instance.apply(asked, &events);
                let outcome = Outcome::recorded(&recorded);
                Ok(write(envelope, expect, recorded, outcome))
            }
            Decided::Note(note, result) => {
                instance.apply_note(&note);
                let recorded = RecordedEvent::of::<Note>(&note).map_err(|e| e.to_string())?;
                Ok(write(envelope, expect, vec![recorded], outcome_of(result)))
            }
            Decided::Nothing(result) => {
                let closure = scene.log.closure_of(&envelope.to);
                Ok(Work::send(answer(envelope, outcome_of(result), closure)))
            }
            Decided::Repeat(remembered) => {
                let closure = scene.log.closure_of(&envelope.to);
                let outcome = repeated(scene.log, &envelope.to, remembered);
                Ok(Work::send(answer(envelope, outcome, closure)))
            }
        }
    }
}

fn outcome_of(result: Result<(), Rejection>) -> Outcome {
    match result {
        Ok(()) => Outcome::recorded(&[]),
        Err(rejection) => Outcome::Refused(rejection),
    }
}

/// The outcome of a command that was seen before, as it was answered then.
fn repeated(log: &WorldLog, stream: &StreamId, remembered: Remembered) -> Outcome {
    match remembered {
        Remembered::Refused(rejection) => Outcome::Refused(rejection),
        Remembered::Recorded(versions) => {
            let skip = versions.start as usize;
            let count = (versions.end - versions.start) as usize;
            let events = log.stream(stream).skip(skip).take(count);
            let events: Vec<RecordedEvent> = events
                .filter_map(|event| {
                    Some(RecordedEvent {
                        name: event.event_type().to_owned(),
                        schema_version: event.schema_version,
                        data: crate::Json::from_slice(event.data()).ok()?,
                    })
                })
                .collect();
            Outcome::recorded(&events)
        }
    }
}

fn write(
    envelope: &CommandEnvelope,
    expect: u64,
    events: Vec<RecordedEvent>,
    outcome: Outcome,
) -> Work {
    let saga = envelope.reply_to.as_ref();
    let saga = saga.filter(|_| envelope.role != Role::Plain);
    let events = events.into_iter().enumerate().map(|(i, event)| WriteEvent {
        event,
        id: Some(envelope.id.event_id(i as u32)),
        causation: Some(envelope.id.to_string()),
        correlation: envelope.correlation_id.clone(),
        headers: saga
            .map(|saga| (SAGA_HEADER, saga.to_string()))
            .into_iter()
            .collect(),
    });
    let write = Write {
        stream: envelope.to.clone(),
        expect,
        events: events.collect(),
        causes: envelope.causes.clone(),
    };
    let envelope = envelope.clone();
    Work::write(write, move |closure| {
        answer(&envelope, outcome, closure.clone())
    })
}

fn answer(envelope: &CommandEnvelope, outcome: Outcome, causes: Cut) -> Vec<Send> {
    match &envelope.reply_to {
        None => vec![Send::Answer(envelope.id, outcome, causes)],
        Some(to) => vec![Send::Message(Message::Reply(ReplyEnvelope {
            to: to.clone(),
            from: envelope.to.clone(),
            id: envelope.id,
            name: envelope.name.clone(),
            role: envelope.role.clone(),
            outcome,
            causes,
        }))],
    }
}

impl<E: Entity> Host for EntityHost<E> {
    fn name(&self) -> String {
        format!("entity {}", E::CATEGORY)
    }

    fn takes(&self, message: &Message) -> bool {
        match message {
            Message::Command(command) => command.to.category() == E::CATEGORY,
            Message::Forget { entity, .. } => entity.category() == E::CATEGORY,
            _ => false,
        }
    }

    fn take(&mut self, message: &Message, scene: &Scene<'_>) -> Result<Work, String> {
        match message {
            Message::Command(envelope) => self.command(envelope, scene),
            Message::Forget { entity, saga } => {
                if let Some(instance) = self.loaded.get_mut(entity) {
                    instance.forget(saga);
                }
                Ok(Work::nothing())
            }
            _ => Ok(Work::nothing()),
        }
    }

    fn evict(&mut self, stream: &StreamId) {
        self.loaded.remove(stream);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
