use std::io::Write;
use std::sync::Arc;

use anabranch_domain::process::{
    ConsumedEvent, Delivery, Planned, ProcessEvent, ProcessInstance, ProcessType,
};
use anabranch_domain::{
    CommandEnvelope, CommandError, Event as _, EventRef, Json, Newer, Process, ReplyEnvelope, Role,
    SchemaError, StreamId,
};
use anabranch_model::Filter;

use super::{Listening, closure_of, events_of, shape};
use crate::host::{
    About, Description, Desk, Drive, HeldEvent, Input, Item, Kind, Machine, Made, Out, Standing,
};
use crate::send_error::SendError;

/// The instances of one process.
pub struct ProcessKind<P: Process>(Arc<ProcessType<P>>);

impl<P: Process> ProcessKind<P> {
    pub fn new(newer: Arc<Newer>) -> Result<Self, SchemaError> {
        Ok(Self(Arc::new(ProcessType::taught(newer)?)))
    }

    fn machine(&self, instance: ProcessInstance<P>) -> Box<dyn Machine> {
        Box::new(ProcessMachine {
            instance,
            process: self.0.clone(),
        })
    }
}

/// One instance of a process.
struct ProcessMachine<P: Process> {
    instance: ProcessInstance<P>,
    process: Arc<ProcessType<P>>,
}

/// The form of the snapshots of instances.
const FORM: &str = "process 1";

impl<P: Process> Kind for ProcessKind<P> {
    fn about(&self) -> About {
        let version = P::STATE_VERSION.to_string();
        let names = [FORM, P::NAME, &version, std::any::type_name::<P>()];
        About {
            name: P::NAME,
            events: ProcessEvent::kinds(),
            fingerprint: shape(&names, P::Event::kinds()),
            drive: Drive::Insists,
        }
    }

    fn empty(&self, stream: &StreamId) -> Box<dyn Machine> {
        self.machine(ProcessInstance::new(stream.clone()))
    }

    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Box<dyn Machine>> {
        let instance: ProcessInstance<P> = serde_json::from_slice(state).ok()?;
        (instance.stream() == stream).then(|| self.machine(instance))
    }
}

impl<P: Process> Listening for ProcessKind<P> {
    fn listens_to(&self) -> Option<Filter> {
        events_of(P::CATEGORIES, self.0.event_names())
    }

    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Input)>, String> {
        let consumed = self.0.consume(event, closure_of(event));
        let consumed = consumed.map_err(|error| error.to_string())?;
        Ok(consumed.map(|consumed| {
            let instance = consumed.instance.clone();
            (instance, Box::new(Delivery::Event(consumed)) as Input)
        }))
    }

    fn reply(&self, reply: ReplyEnvelope) -> Option<Input> {
        Some(Box::new(Delivery::<P::Event>::Reply(reply)))
    }

    fn command(&self, command: &CommandEnvelope) -> Result<Input, SendError> {
        Err(SendError::Malformed(CommandError::Malformed {
            name: command.name.clone(),
            reason: format!("process {} takes no commands, only events", P::NAME),
        }))
    }

    fn ends(&self) -> &'static [(&'static str, &'static str)] {
        &[("Ended", "completed")]
    }
}

fn held(event: &ConsumedEvent) -> HeldEvent {
    HeldEvent {
        event_type: event.name.clone(),
        stream: event.source.stream.clone(),
        position: event.source.position,
    }
}

fn outs<P: Process>(all: Vec<Planned>) -> Vec<Out> {
    let out = |one| match one {
        Planned::Command(command) => Some(Out::Command(command)),
        Planned::Call(call) => Some(Out::Call(call, Role::Plain)),
        Planned::Timer(timer) => Some(Out::Timer(
            timer.at,
            Box::new(Delivery::<P::Event>::Timer(timer)),
        )),
        // A timer that was taken back means nothing when it comes.
        Planned::Cancel { .. } | Planned::Complete => None,
    };
    all.into_iter().filter_map(out).collect()
}

impl<P: Process> Machine for ProcessMachine<P> {
    fn length(&self) -> u64 {
        self.instance.length()
    }

    fn decide(&mut self, item: &Item, desk: &Desk<'_>) -> Result<Made, String> {
        let Some(input) = item.input.downcast_ref::<Delivery<P::Event>>() else {
            return Err("it was brought what is no input of it".to_owned());
        };
        let cause = match input {
            Delivery::Event(consumed) => Some(consumed.record.source.id.to_string()),
            Delivery::Reply(reply) => Some(reply.id.to_string()),
            Delivery::Timer(_) | Delivery::Quiet => None,
        };
        let decided = self.instance.decide(&self.process, input.clone(), desk.now);
        let decision = decided.map_err(|error| error.to_string())?;
        let events = desk.of_journal(&decision.events, cause, Some(self.instance.story()))?;
        let mut outs = outs::<P>(decision.dispatch);
        let quiet = |at| Out::Timer(at, Box::new(Delivery::<P::Event>::Quiet));
        outs.extend(decision.quiet_at.map(quiet));
        Ok(Made::of(events, outs, Ok(())))
    }

    fn replay(&mut self, event: &EventRef<'_>) -> Result<(), String> {
        let decoded = ProcessEvent::decode(event.event_type, event.schema_version, event.data);
        let decoded = decoded.map_err(|error| error.to_string())?;
        let evolved = self.instance.evolve(&self.process, &decoded);
        evolved.map_err(|error| error.to_string())
    }

    fn freeze(&self, out: &mut dyn Write) -> bool {
        serde_json::to_writer(out, &self.instance).is_ok()
    }

    fn describe(&self) -> Result<Description, String> {
        let instance = &self.instance;
        let phase = match (instance.is_complete(), instance.length()) {
            (true, _) => "completed",
            (false, 0) => "new",
            (false, _) if !instance.held().is_empty() => "waiting to be started",
            (false, _) => "running",
        };
        Ok(Description {
            phase: phase.to_owned(),
            ended: instance.is_complete(),
            length: instance.length(),
            state: Json::of(instance.state()).map_err(|error| error.to_string())?,
            held: instance.held().iter().map(held).collect(),
            ..Description::default()
        })
    }

    fn standing(&self) -> Standing {
        let (instance, waiting) = (&self.instance, self.instance.is_waiting());
        match instance.length() > 0 && (!instance.is_complete() || waiting) {
            true => Standing::Open { waiting },
            false => Standing::Ended,
        }
    }

    fn outstanding(&self) -> Result<Vec<Out>, String> {
        Ok(outs::<P>(self.instance.outstanding()))
    }

    fn held(&self) -> usize {
        self.instance.held().len()
    }
}
