use std::sync::Arc;

use anabranch_domain::process::{Delivery, Planned, ProcessEvent, ProcessInstance, ProcessType};
use anabranch_domain::{
    CommandEnvelope, CommandError, Event as _, EventRef, Json, Process, Rejection, ReplyEnvelope,
    SchemaError, StreamId, Timestamp,
};
use anabranch_model::content_hash;

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

    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Self::Input)>, String> {
        let consumed = self.process.consume(event, closure_of(event));
        match consumed {
            Ok(consumed) => {
                Ok(consumed.map(|consumed| (consumed.instance.clone(), Delivery::Event(consumed))))
            }
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

    fn is_last(&self, event_type: &str) -> bool {
        event_type == "Ended"
    }

    fn is_open(&self, machine: &Self::Machine) -> bool {
        machine.length() > 0 && (!machine.is_complete() || machine.is_waiting())
    }

    fn is_waiting(&self, machine: &Self::Machine) -> bool {
        machine.is_waiting()
    }

    fn length(&self, machine: &Self::Machine) -> u64 {
        machine.length()
    }

    fn fingerprint(&self) -> u128 {
        let mut kinds = P::Event::kinds();
        kinds.sort_unstable();
        let mut parts = vec![
            FORM.to_owned(),
            P::NAME.to_owned(),
            P::STATE_VERSION.to_string(),
            std::any::type_name::<P>().to_owned(),
        ];
        parts.extend(kinds.iter().map(ToString::to_string));
        content_hash(parts.iter().map(String::as_bytes))
    }

    fn freeze(&self, machine: &Self::Machine) -> Option<Vec<u8>> {
        serde_json::to_vec(machine).ok()
    }

    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Self::Machine> {
        let machine: ProcessInstance<P> = serde_json::from_slice(state).ok()?;
        (machine.stream() == stream).then_some(machine)
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
            retrying: false,
            length: machine.length(),
            state: Json::of(machine.state()).unwrap_or_default(),
        }
    }
}

/// The form of the snapshots of instances.
const FORM: &str = "process 1";

/// What a person says about something that was sent and cannot be delivered.
pub fn given_up(why: &str) -> Rejection {
    Rejection::new("given-up", format!("an operator has given it up: {why}"))
}
