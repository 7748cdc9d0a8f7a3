use std::sync::Arc;

use anabranch_domain::saga::{
    Dispatch, Phase, SagaEvent, SagaInput, SagaInstance, SagaState, SagaType, Sent, StepStatus,
    start_id,
};
use anabranch_domain::{
    CommandEnvelope, CommandError, Cut, EventRef, Json, ReplyEnvelope, StreamId, Timestamp,
};
use anabranch_model::content_hash;

use super::{Description, Kind, Made, Out, Style};

/// The instances of one saga.
pub struct SagaKind {
    saga: Arc<SagaType>,
}

impl SagaKind {
    pub fn new(saga: SagaType) -> Self {
        Self {
            saga: Arc::new(saga),
        }
    }
}

fn outs(machine: &SagaInstance, sent: Vec<Dispatch>) -> Result<Vec<Out<SagaInput>>, String> {
    let address = |dispatch: Dispatch| {
        let sent = dispatch.address(machine.state().stream(), &Cut::start());
        Ok(match sent.map_err(|error| error.to_string())? {
            Sent::Command(command) => Out::Command(command),
            Sent::Call(call, role) => Out::Call(call, role),
            Sent::Timer(timer) => Out::Timer(timer.at, SagaInput::Wake(timer)),
            Sent::Reply(reply) => Out::Reply(reply),
            Sent::Ended => Out::Ended,
        })
    };
    sent.into_iter().map(address).collect()
}

/// The form of the snapshots of instances.
const FORM: &str = "saga 1";

impl Kind for SagaKind {
    type Machine = SagaInstance;
    type Input = SagaInput;
    type Event = SagaEvent;

    fn name(&self) -> &'static str {
        self.saga.name()
    }

    fn style(&self) -> Style {
        Style::Report
    }

    fn listens_to(&self) -> (Vec<String>, Vec<String>) {
        let categories = self.saga.categories().iter();
        (
            categories.map(|&c| c.to_owned()).collect(),
            self.saga.event_names(),
        )
    }

    fn empty(&self, stream: StreamId) -> SagaInstance {
        SagaInstance::new(self.saga.clone(), stream)
    }

    fn decide(
        &self,
        machine: &mut SagaInstance,
        input: SagaInput,
        now: Timestamp,
    ) -> Result<Made<Self>, String> {
        let decided = machine.decide(input, now);
        let decision = decided.map_err(|error| error.to_string())?;
        Ok(Made {
            outs: outs(machine, decision.dispatch)?,
            events: decision.events,
            answer: decision.answer,
        })
    }

    fn evolve(&self, machine: &mut SagaInstance, event: &SagaEvent) -> Result<(), String> {
        machine.evolve(event);
        Ok(())
    }

    fn outstanding(&self, machine: &SagaInstance) -> Result<Vec<Out<SagaInput>>, String> {
        outs(machine, machine.outstanding())
    }

    fn recovered(&self) -> Option<SagaInput> {
        Some(SagaInput::Recovered)
    }

    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, SagaInput)>, String> {
        let start = self.saga.start(event).map_err(|error| error.to_string())?;
        Ok(start.map(|start| {
            let input = SagaInput::Start {
                id: start_id(event.id, &start.saga),
                input: start.input,
                parent: None,
            };
            (start.saga, input)
        }))
    }

    fn reply(&self, reply: ReplyEnvelope) -> Option<SagaInput> {
        SagaInput::of_reply(reply)
    }

    fn command(&self, command: &CommandEnvelope) -> Result<SagaInput, CommandError> {
        SagaInput::of_command(command)
    }

    fn is_last(&self, event_type: &str) -> bool {
        matches!(event_type, "SagaCompleted" | "SagaCompensated")
    }

    fn is_open(&self, machine: &SagaInstance) -> bool {
        machine.state().length() > 0 && !machine.state().phase().is_terminal()
    }

    fn is_waiting(&self, machine: &SagaInstance) -> bool {
        self.is_open(machine)
    }

    fn length(&self, machine: &SagaInstance) -> u64 {
        machine.state().length()
    }

    fn fingerprint(&self) -> u128 {
        content_hash([FORM.as_bytes(), self.saga.name().as_bytes()])
    }

    fn freeze(&self, machine: &SagaInstance) -> Option<Vec<u8>> {
        serde_json::to_vec(machine.state()).ok()
    }

    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<SagaInstance> {
        let state: SagaState = serde_json::from_slice(state).ok()?;
        (state.stream() == stream).then(|| SagaInstance::restore(self.saga.clone(), state))
    }

    fn describe(&self, machine: &SagaInstance) -> Description {
        let state = machine.state();
        let phase = match state.phase() {
            Phase::New => "new",
            Phase::Running => "running",
            Phase::Aborting => "aborting",
            Phase::Completed => "completed",
            Phase::Compensated => "compensated",
        };
        let steps: Vec<_> = state.describe().collect();
        let needs_person = steps.iter().any(StepStatus::needs_person);
        let retrying = steps.iter().any(|step| step.going_on);
        let described = serde_json::json!({"aborted": state.abort_reason(), "steps": steps});
        Description {
            phase: phase.to_owned(),
            ended: state.phase().is_terminal(),
            needs_person,
            retrying,
            length: state.length(),
            state: Json::of(&described).unwrap_or_default(),
        }
    }
}
