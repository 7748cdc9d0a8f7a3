use std::sync::Arc;

use anabranch_domain::process::{Delivery, Planned, ProcessEvent, ProcessInstance, ProcessType};
use anabranch_domain::{
    CommandEnvelope, CommandError, EventRef, Json, Process, Rejection, ReplyEnvelope, SchemaError,
    StreamId, Timestamp,
};

use super::{Description, Kind, Made, Out, Style, closure_of};

/// The instances of one process.
pub struct ProcessKind<P: Process> {
    process: Arc<ProcessType<P>>,
}

impl<P: Process> ProcessKind<P> {
    pub fn new() -> Result<Self, SchemaError> {
        Ok(Self {
            process: Arc::new(ProcessType::new()?),
        })
    }
}

fn outs<P: Process>(planned: Vec<Planned>) -> Vec<Out<Delivery<P::Event>>> {
    let out = |planned| Out::planned(planned, Delivery::Timer);
    planned.into_iter().filter_map(out).collect()
}

impl<P: Process> Kind for ProcessKind<P>
where
    P::Event: Clone,
{
    type Machine = ProcessInstance<P>;
    type Input = Delivery<P::Event>;
    type Event = ProcessEvent;

    fn name(&self) -> &'static str {
        P::NAME
    }

    fn style(&self) -> Style {
        Style::Insist
    }

    fn listens_to(&self) -> (Vec<String>, Vec<String>) {
        let categories = P::CATEGORIES.iter().map(|&c| c.to_owned()).collect();
        (categories, self.process.event_names())
    }

    fn empty(&self, stream: StreamId) -> Self::Machine {
        ProcessInstance::new(stream)
    }

    fn decide(
        &self,
        machine: &mut Self::Machine,
        input: Self::Input,
        now: Timestamp,
    ) -> Result<Made<Self>, String> {
        let decided = machine.decide(&self.process, input, now);
        let decision = decided.map_err(|error| error.to_string())?;
        Ok(Made {
            events: decision.events,
            outs: outs::<P>(decision.dispatch),
            answer: Ok(()),
        })
    }

    fn evolve(&self, machine: &mut Self::Machine, event: &ProcessEvent) -> Result<(), String> {
        let evolved = machine.evolve(&self.process, event);
        evolved.map_err(|error| error.to_string())
    }

    fn outstanding(&self, machine: &Self::Machine) -> Result<Vec<Out<Self::Input>>, String> {
        Ok(outs::<P>(machine.outstanding()))
    }

    fn recovered(&self) -> Option<Self::Input> {
        None
    }

    fn hear(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Self::Input)>, String> {
        let heard = self.process.hear(event, closure_of(event));
        match heard {
            Ok(heard) => Ok(heard.map(|heard| (heard.instance.clone(), Delivery::Event(heard)))),
            Err(error) => Err(error.to_string()),
        }
    }

    fn reply(&self, reply: ReplyEnvelope) -> Option<Self::Input> {
        Some(Delivery::Reply(reply))
    }

    fn command(&self, command: &CommandEnvelope) -> Result<Self::Input, CommandError> {
        Err(CommandError::Malformed {
            name: command.name.clone(),
            reason: format!("process {} takes no commands, only events", P::NAME),
        })
    }

    fn is_last(&self, _: &str) -> bool {
        false
    }

    fn is_open(&self, machine: &Self::Machine) -> bool {
        machine.length() > 0 && (machine.is_waiting() || !machine.is_complete())
    }

    fn describe(&self, machine: &Self::Machine) -> Description {
        let phase = match (machine.is_complete(), machine.length()) {
            (true, _) => "completed",
            (false, 0) => "new",
            (false, _) => "running",
        };
        Description {
            phase: phase.to_owned(),
            ended: machine.is_complete(),
            needs_person: false,
            length: machine.length(),
            state: Json::of(machine.state()).unwrap_or_default(),
        }
    }
}

/// What a person says about something that was sent and cannot be delivered.
pub fn given_up(why: &str) -> Rejection {
    Rejection::new("given-up", format!("an operator has given it up: {why}"))
}
