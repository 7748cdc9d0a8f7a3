use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_model::{Cut, Event as StoredEvent, StreamId};

use super::{Host, HostTimer, Scene, Send, Work};
use crate::command::{RecordedEvent, Role};
use crate::process::{
    Delivery, Planned, Process, ProcessDecision, ProcessEvent, ProcessInstance, ProcessType,
};
use crate::schema::Reader;
use crate::testkit::world::log::{Write, WriteEvent};
use crate::testkit::world::message::Message;

/// How long a process waits for an answer before it sends again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub struct ProcessHost<P: Process> {
    process: ProcessType<P>,
    reader: Reader<ProcessEvent>,
    loaded: BTreeMap<StreamId, ProcessInstance<P>>,
}

impl<P: Process> ProcessHost<P> {
    pub fn new() -> Self {
        Self {
            process: ProcessType::new()
                .unwrap_or_else(|error| panic!("process {}: {error}", P::NAME)),
            reader: Reader::new().unwrap_or_else(|error| panic!("{error}")),
            loaded: BTreeMap::new(),
        }
    }

    fn load(&mut self, stream: &StreamId, scene: &Scene<'_>) -> Result<(), String> {
        if self.loaded.contains_key(stream) {
            return Ok(());
        }
        let mut instance = ProcessInstance::new(stream.clone()).under(scene.rules);
        for event in scene.log.stream(stream) {
            let read = self
                .reader
                .read(event.event_type(), event.schema_version, event.data());
            if let Some(event) = read.map_err(|error| error.to_string())? {
                let evolved = instance.evolve(&self.process, &event);
                evolved.map_err(|error| error.to_string())?;
            }
        }
        self.loaded.insert(stream.clone(), instance);
        Ok(())
    }

    fn deliver(
        &mut self,
        stream: &StreamId,
        delivery: Delivery<P::Event>,
        causes: Cut,
        scene: &Scene<'_>,
    ) -> Result<Work, String> {
        self.load(stream, scene)?;
        let Some(instance) = self.loaded.get_mut(stream) else {
            return Ok(Work::nothing());
        };
        let expect = instance.length();
        let decided = instance.decide(&self.process, delivery, scene.now);
        let ProcessDecision {
            events, dispatch, ..
        } = decided.map_err(|error| error.to_string())?;
        if events.is_empty() {
            return Ok(Work::nothing());
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
        let (stream, now) = (stream.clone(), scene.now);
        Ok(Work::write(write, move |_| address(&stream, dispatch, now)))
    }
}

fn address(stream: &StreamId, dispatch: Vec<Planned>, now: crate::Timestamp) -> Vec<Send> {
    let mut sends = Vec::new();
    let mut waits = false;
    for planned in dispatch {
        match planned {
            Planned::Command(command) => {
                waits = true;
                sends.push(Send::Message(Message::Command(command)));
            }
            Planned::Call(envelope) => {
                waits = true;
                sends.push(Send::Message(Message::Call {
                    envelope,
                    role: Role::Plain,
                    causes: Cut::start(),
                }));
            }
            Planned::Timer(timer) => {
                let at = timer.at;
                sends.push(Send::Timer(stream.clone(), HostTimer::Process(timer), at));
            }
            Planned::Cancel { .. } | Planned::Complete => {}
        }
    }
    if waits {
        let at = now + AGAIN_AFTER;
        sends.push(Send::Timer(stream.clone(), HostTimer::Again, at));
    }
    sends
}

impl<P: Process> Host for ProcessHost<P> {
    fn name(&self) -> String {
        format!("process {}", P::NAME)
    }

    fn takes(&self, message: &Message) -> bool {
        matches!(message, Message::Reply(reply) if reply.to.category() == P::NAME)
    }

    fn take(&mut self, message: &Message, scene: &Scene<'_>) -> Result<Work, String> {
        let Message::Reply(reply) = message else {
            return Ok(Work::nothing());
        };
        let (to, causes) = (reply.to.clone(), reply.causes.clone());
        self.deliver(&to, Delivery::Reply(reply.clone()), causes, scene)
    }

    fn listens(&self) -> bool {
        true
    }

    fn consume(&mut self, event: &StoredEvent, scene: &Scene<'_>) -> Result<Work, String> {
        let closure = scene.log.closure(event.position);
        let consumed = self.process.consume(&event.as_ref(), closure.clone());
        match consumed.map_err(|error| error.to_string())? {
            None => Ok(Work::nothing()),
            Some(consumed) => {
                let stream = consumed.instance.clone();
                self.deliver(&stream, Delivery::Event(consumed), closure, scene)
            }
        }
    }

    fn fire(
        &mut self,
        stream: &StreamId,
        timer: HostTimer,
        scene: &Scene<'_>,
    ) -> Result<Work, String> {
        match timer {
            HostTimer::Process(timer) => {
                self.deliver(stream, Delivery::Timer(timer), Cut::start(), scene)
            }
            HostTimer::Again => {
                self.load(stream, scene)?;
                let outstanding = self.loaded.get(stream).map(ProcessInstance::outstanding);
                let mut again = outstanding.unwrap_or_default();
                again.retain(|planned| !matches!(planned, Planned::Timer(_)));
                Ok(Work::send(address(stream, again, scene.now)))
            }
            HostTimer::Saga(_) => Ok(Work::nothing()),
        }
    }

    fn recover(&mut self, scene: &Scene<'_>) -> Result<Vec<Work>, String> {
        self.loaded.clear();
        let mut works = Vec::new();
        for stream in scene.log.category(P::NAME) {
            self.load(&stream, scene)?;
            let outstanding = self.loaded.get(&stream).map(ProcessInstance::outstanding);
            let sends = address(&stream, outstanding.unwrap_or_default(), scene.now);
            works.push(Work::send(sends));
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
