use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::{Cut, Event as StoredEvent, StreamId};

use super::{Host, HostTimer, Scene, Send, Work};
use crate::command::{Outcome, RecordedEvent};
use crate::saga::{
    Decision, Dispatch, Saga, SagaEvent, SagaInput, SagaInstance, SagaType, Sent, start_id,
};
use crate::schema::Reader;
use crate::testkit::world::log::{Write, WriteEvent};
use crate::testkit::world::message::Message;

pub struct SagaHost {
    saga: Arc<SagaType>,
    reader: Reader<SagaEvent>,
    loaded: BTreeMap<StreamId, SagaInstance>,
}

impl SagaHost {
    pub fn new<S: Saga>() -> Self {
        let saga = SagaType::of::<S>().unwrap_or_else(|error| panic!("{error}"));
        Self {
            saga: Arc::new(saga),
            reader: Reader::new().unwrap_or_else(|error| panic!("{error}")),
            loaded: BTreeMap::new(),
        }
    }

    fn load(&mut self, stream: &StreamId, scene: &Scene<'_>) -> Result<(), String> {
        if !self.loaded.contains_key(stream) {
            let instance = SagaInstance::new(self.saga.clone(), stream.clone());
            let mut instance = instance.under(scene.rules);
            for event in scene.log.stream(stream) {
                let read = self
                    .reader
                    .read(event.event_type(), event.schema_version, event.data());
                if let Some(event) = read.map_err(|error| error.to_string())? {
                    instance.evolve(&event);
                }
            }
            self.loaded.insert(stream.clone(), instance);
        }
        Ok(())
    }

    /// Gives `input` to an instance. `again` is what it sends in any case.
    fn give(
        &mut self,
        stream: &StreamId,
        input: SagaInput,
        causes: Cut,
        recovering: bool,
        scene: &Scene<'_>,
    ) -> Result<(Work, Result<(), crate::Rejection>), String> {
        self.load(stream, scene)?;
        let Some(instance) = self.loaded.get_mut(stream) else {
            return Ok((Work::nothing(), Ok(())));
        };
        let expect = instance.state().length();
        let decision = instance
            .decide(input, scene.now)
            .map_err(|error| error.to_string())?;
        let Decision {
            events,
            mut dispatch,
            answer,
        } = decision;
        if recovering {
            dispatch.extend(instance.outstanding());
        }
        let saga = stream.clone();
        let origin = instance.state().origin().cloned();
        if events.is_empty() {
            let closure = scene.log.closure_of(stream);
            return Ok((
                Work::send(address(&saga, origin.as_ref(), dispatch, &closure)),
                answer,
            ));
        }
        let events = events
            .iter()
            .map(|event| RecordedEvent::of(event).map(WriteEvent::plain))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let write = Write {
            stream: stream.clone(),
            expect,
            events,
            causes,
        };
        let work = Work::write(write, move |closure| {
            address(&saga, origin.as_ref(), dispatch, closure)
        });
        Ok((work, answer))
    }
}

/// Nothing that a saga of ours sends is malformed: it was encoded when its step began.
fn address(
    saga: &StreamId,
    origin: Option<&crate::Origin>,
    dispatch: Vec<Dispatch>,
    causes: &Cut,
) -> Vec<Send> {
    let sent = dispatch
        .into_iter()
        .map(|dispatch| match dispatch.address(saga, origin, causes) {
            Ok(Sent::Command(command)) => Send::Message(Message::Command(command)),
            Ok(Sent::Call(envelope, role)) => Send::Message(Message::Call {
                envelope,
                role,
                causes: causes.clone(),
            }),
            Ok(Sent::Timer(timer)) => {
                let at = timer.at;
                Send::Timer(saga.clone(), HostTimer::Saga(timer), at)
            }
            Ok(Sent::Reply(reply)) => Send::Message(Message::Reply(reply)),
            Ok(Sent::Ended) => Send::Ended(saga.clone()),
            Err(error) => panic!("{saga}: {error}"),
        });
    sent.collect()
}

impl Host for SagaHost {
    fn name(&self) -> String {
        format!("saga {}", self.saga.name())
    }

    fn takes(&self, message: &Message) -> bool {
        match message {
            Message::Command(command) => command.to.category() == self.saga.name(),
            Message::Reply(reply) => reply.to.category() == self.saga.name(),
            _ => false,
        }
    }

    fn take(&mut self, message: &Message, scene: &Scene<'_>) -> Result<Work, String> {
        match message {
            Message::Command(envelope) => {
                let input = SagaInput::of_command(envelope).map_err(|error| error.to_string())?;
                let causes = envelope.causes.clone();
                let (mut work, answer) = self.give(&envelope.to, input, causes, false, scene)?;
                if envelope.reply_to.is_none() {
                    // The test itself asks.
                    let id = envelope.id;
                    let outcome = match answer {
                        Ok(()) => Outcome::recorded(&[]),
                        Err(rejection) => Outcome::Refused(rejection),
                    };
                    let then = work.then;
                    work.then = Box::new(move |closure| {
                        let mut sends = then(closure);
                        sends.push(Send::Answer(id, outcome, closure.clone()));
                        sends
                    });
                }
                Ok(work)
            }
            Message::Reply(reply) => match SagaInput::of_reply(reply.clone()) {
                Some(input) => {
                    let causes = reply.causes.clone();
                    let (work, _) = self.give(&reply.to, input, causes, false, scene)?;
                    Ok(work)
                }
                None => Ok(Work::nothing()),
            },
            _ => Ok(Work::nothing()),
        }
    }

    fn listens(&self) -> bool {
        !self.saga.categories().is_empty()
    }

    fn consume(&mut self, event: &StoredEvent, scene: &Scene<'_>) -> Result<Work, String> {
        let start = self.saga.start(&event.as_ref());
        let Some(start) = start.map_err(|error| error.to_string())? else {
            return Ok(Work::nothing());
        };
        let input = SagaInput::Start {
            id: start_id(event.id, &start.saga),
            input: start.input,
            parent: None,
            origin: crate::Origin::of(&event.as_ref()).map_err(|error| error.to_string())?,
        };
        let causes = scene.log.closure(event.position);
        let (work, _) = self.give(&start.saga, input, causes, false, scene)?;
        Ok(work)
    }

    fn fire(
        &mut self,
        stream: &StreamId,
        timer: HostTimer,
        scene: &Scene<'_>,
    ) -> Result<Work, String> {
        let HostTimer::Saga(timer) = timer else {
            return Ok(Work::nothing());
        };
        let input = SagaInput::Wake(timer);
        let (work, _) = self.give(stream, input, Cut::start(), false, scene)?;
        Ok(work)
    }

    fn recover(&mut self, scene: &Scene<'_>) -> Result<Vec<Work>, String> {
        self.loaded.clear();
        let mut works = Vec::new();
        for stream in scene.log.category(self.saga.name()) {
            let input = SagaInput::Recovered;
            let (work, _) = self.give(&stream, input, Cut::start(), true, scene)?;
            works.push(work);
        }
        Ok(works)
    }

    fn evict(&mut self, stream: &StreamId) {
        self.loaded.remove(stream);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
