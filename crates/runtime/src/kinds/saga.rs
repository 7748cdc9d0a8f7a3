use std::io::Write;
use std::sync::Arc;

use anabranch_domain::saga::{
    AdmitError, Dispatch, ID_TAKEN, Phase, SagaEvent, SagaInput, SagaInstance, SagaState, SagaType,
    Sent, StepStatus, start_id,
};
use anabranch_domain::{
    CommandEnvelope, Cut, Event as _, EventRef, Json, Origin, ReplyEnvelope, StreamId,
};
use anabranch_model::Filter;

use super::{Listening, events_of, shape};
use crate::host::{
    About, Description, Desk, Drive, Input, Item, Kind, Machine, Made, Out, Standing, Verdict,
};
use crate::send_error::SendError;

/// The instances of one saga.
pub struct SagaKind(Arc<SagaType>);

impl SagaKind {
    pub fn new(saga: SagaType) -> Self {
        Self(Arc::new(saga))
    }
}

/// The form of the snapshots of instances.
const FORM: &str = "saga 1";

impl Kind for SagaKind {
    fn about(&self) -> About {
        About {
            name: self.0.name(),
            events: SagaEvent::kinds(),
            fingerprint: shape(&[FORM, self.0.name()], Vec::new()),
            drive: Drive::Reports,
        }
    }

    fn empty(&self, stream: &StreamId) -> Box<dyn Machine> {
        Box::new(SagaInstance::new(self.0.clone(), stream.clone()))
    }

    fn thaw(&self, stream: &StreamId, state: &[u8]) -> Option<Box<dyn Machine>> {
        let state: SagaState = serde_json::from_slice(state).ok()?;
        let is_its_own = state.stream() == stream;
        is_its_own.then(|| Box::new(SagaInstance::restore(self.0.clone(), state)) as _)
    }

    fn recovered(&self) -> Option<Input> {
        Some(Box::new(SagaInput::Recovered))
    }
}

impl Listening for SagaKind {
    fn listens_to(&self) -> Option<Filter> {
        events_of(self.0.categories(), self.0.event_names())
    }

    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Input)>, String> {
        let start = self.0.start(event).map_err(|error| error.to_string())?;
        let Some(start) = start else { return Ok(None) };
        let input = SagaInput::Start {
            id: start_id(event.id, &start.saga),
            input: start.input,
            parent: None,
            origin: Origin::of(event).map_err(|error| error.to_string())?,
        };
        Ok(Some((start.saga, Box::new(input) as Input)))
    }

    fn reply(&self, reply: ReplyEnvelope) -> Option<Input> {
        SagaInput::of_reply(reply).map(|input| Box::new(input) as Input)
    }

    fn command(&self, command: &CommandEnvelope) -> Result<Input, SendError> {
        let input = SagaInput::of_command(command)?;
        if let SagaInput::Start { input, parent, .. } = &input {
            let sender = parent.as_ref().map(|parent| &parent.stream);
            let admitted = self.0.admit(command.to.key(), input, sender);
            admitted.map_err(|error| match error {
                AdmitError::Malformed(error) => SendError::Malformed(error),
                AdmitError::Refused(rejection) => SendError::Rejected(rejection),
            })?;
        }
        Ok(Box::new(input))
    }

    fn ends(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("SagaCompleted", "completed"),
            ("SagaCompensated", "compensated"),
        ]
    }
}

fn outs(saga: &SagaInstance, sent: Vec<Dispatch>) -> Result<Vec<Out>, String> {
    let address = |dispatch: Dispatch| {
        let sent = dispatch.address(saga.state().stream(), saga.state().origin(), &Cut::start());
        Ok(match sent.map_err(|error| error.to_string())? {
            Sent::Command(command) => Out::Command(command),
            Sent::Call(call, role) => Out::Call(call, role),
            Sent::Timer(timer) => Out::Timer(timer.at, Box::new(SagaInput::Wake(timer))),
            Sent::Reply(reply) => Out::Reply(reply),
            Sent::Ended => Out::Ended,
        })
    };
    sent.into_iter().map(address).collect()
}

impl Machine for SagaInstance {
    fn length(&self) -> u64 {
        self.state().length()
    }

    fn decide(&mut self, item: &Item, desk: &Desk<'_>) -> Result<Made, String> {
        let Some(input) = item.input.downcast_ref::<SagaInput>() else {
            return Err("it was brought what is no input of it".to_owned());
        };
        if let (SagaInput::Wake(timer), Some(outbox)) = (input, desk.outbox)
            && let Some(at) = self.put_off(timer, desk.now, |id| outbox.is_sending(id))
        {
            let again = vec![Out::Timer(at, Box::new(input.clone()))];
            return Ok(Made::of(Vec::new(), again, Ok(())));
        }
        let decided = SagaInstance::decide(self, input.clone(), desk.now);
        let decision = decided.map_err(|error| error.to_string())?;
        let outs = outs(self, decision.dispatch)?;
        let origin = self.state().origin();
        let mut events = desk.of_journal(&decision.events, input.cause(), origin)?;
        if let (Some(id), Some(first)) = (item.id, events.first_mut()) {
            // Of all commands that come under one id, to whatever stream, the log takes one.
            first.id = id.event_id(0);
        }
        let mut made = Made::of(events, outs, decision.answer);
        if let (Some(id), Verdict::Failed(SendError::Rejected(why))) = (item.id, &made.verdict)
            && why.code == ID_TAKEN
        {
            let stream = self.state().stream().to_string();
            made.verdict = Verdict::Failed(SendError::IdTaken { id, stream });
        }
        Ok(made)
    }

    fn replay(&mut self, event: &EventRef<'_>) -> Result<(), String> {
        let decoded = SagaEvent::decode(event.event_type, event.schema_version, event.data);
        self.evolve(&decoded.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn freeze(&self, out: &mut dyn Write) -> bool {
        serde_json::to_writer(out, self.state()).is_ok()
    }

    fn describe(&self) -> Result<Description, String> {
        let state = self.state();
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
        let described = serde_json::json!({
            "aborted": state.abort_reason(),
            "can_go_back": state.can_go_back(),
            "steps": steps,
        });
        Ok(Description {
            phase: phase.to_owned(),
            ended: state.phase().is_terminal(),
            needs_person,
            retrying,
            length: state.length(),
            state: Json::of(&described).map_err(|error| error.to_string())?,
            ..Description::default()
        })
    }

    fn standing(&self) -> Standing {
        match self.state().length() > 0 && !self.state().phase().is_terminal() {
            true => Standing::Open { waiting: true },
            false => Standing::Ended,
        }
    }

    fn outstanding(&self) -> Result<Vec<Out>, String> {
        outs(self, SagaInstance::outstanding(self))
    }
}
