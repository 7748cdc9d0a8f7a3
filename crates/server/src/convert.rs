//! What the runtime says, as wire types.

use anabranch_domain::Json;
use anabranch_domain::saga::{Operator, Settlement, StepId};
use anabranch_model::Cut;
use anabranch_peer::convert as peer;
pub use anabranch_peer::convert::{cut, raw};
use anabranch_runtime::view::{
    CopyId, CopyState, CopyStatus, ParkedStream, PoisonEvent, ViewStatus,
};
use anabranch_runtime::{
    Accepted, Circuit, CircuitState, DeadLetter, Delivery, HeldEvent, Inspection, InstanceStatus,
    Letter, Status,
};
use anabranch_wire as wire;
use anabranch_wire::Raw;

use crate::refusal::Refusal;

/// The other way round.
pub fn json(raw: &Raw) -> Result<Json, Refusal> {
    Json::new(raw.as_str()).map_err(|error| Refusal::internal(error.to_string()))
}

/// How many events `head` has and `consumed` has not.
pub fn behind(head: &Cut, consumed: &Cut) -> u64 {
    let count = |cut: &Cut| cut.iter().map(|(_, count)| count).sum::<u64>();
    count(head).saturating_sub(count(consumed))
}

pub fn events(accepted: &Accepted) -> Result<Vec<wire::RecordedEvent>, Refusal> {
    peer::events(accepted).map_err(|error| Refusal::internal(error.to_string()))
}

pub fn entity(inspection: &Inspection, version: u64) -> wire::Entity {
    wire::Entity {
        stream: inspection.stream.to_string(),
        version,
        state: raw(&inspection.state),
        status: status(&inspection.status),
    }
}

fn status(status: &Status) -> wire::EntityStatus {
    match status {
        Status::Idle => wire::EntityStatus::Idle,
        Status::Loading => wire::EntityStatus::Loading,
        Status::Live => wire::EntityStatus::Live,
        Status::Restarting { reason, attempt } => wire::EntityStatus::Restarting {
            reason: reason.clone(),
            attempt: *attempt,
        },
        Status::Parked { reason } => wire::EntityStatus::Parked {
            reason: reason.clone(),
        },
    }
}

pub fn view(view: &ViewStatus) -> wire::View {
    wire::View {
        name: view.name.to_owned(),
        version: view.version,
        serving: view.serving.as_ref().map(copy),
        building: view.building.as_ref().map(copy),
        previous: view.previous.map(copy_id),
        queries: view.queries.iter().map(|&name| name.to_owned()).collect(),
    }
}

pub fn copy_id(id: CopyId) -> wire::CopyId {
    wire::CopyId {
        version: id.version,
        generation: id.generation,
    }
}

fn copy(copy: &CopyStatus) -> wire::CopyStatus {
    let (state, event, reason) = match &copy.state {
        CopyState::CatchingUp => (wire::CopyState::CatchingUp, None, None),
        CopyState::CaughtUp => (wire::CopyState::CaughtUp, None, None),
        CopyState::Stopped { event } => (wire::CopyState::Stopped, Some(poison(event)), None),
        CopyState::Failing { reason } => (wire::CopyState::Failing, None, Some(reason.clone())),
        // A state that is newer than this server is not passed over.
        other => (wire::CopyState::Failing, None, Some(format!("{other:?}"))),
    };
    wire::CopyStatus {
        id: copy_id(copy.id),
        state,
        event,
        reason,
        cut: cut(&copy.cut),
        lag_events: copy.lag_events,
        lag_ms: copy.lag.as_millis() as u64,
        time_left_ms: copy.time_left.map(|left| left.as_millis() as u64),
        parked: copy
            .parked
            .iter()
            .map(|(stream, aside)| (stream.clone(), parked(aside)))
            .collect(),
    }
}

fn poison(event: &PoisonEvent) -> wire::PoisonEvent {
    wire::PoisonEvent {
        position: event.position.to_string(),
        stream: event.stream.clone(),
        version: event.version,
        event_type: event.event_type.clone(),
        reason: event.reason.clone(),
    }
}

fn parked(aside: &ParkedStream) -> wire::ParkedStream {
    wire::ParkedStream {
        position: aside.position.to_string(),
        version: aside.version,
        last: aside.last,
        reason: aside.reason.clone(),
    }
}

pub fn instance(status: &InstanceStatus) -> wire::Instance {
    let described = status.description.as_ref();
    wire::Instance {
        stream: status.stream.to_string(),
        parked: status.parked.clone(),
        phase: described.map(|described| described.phase.clone()),
        ended: described.is_some_and(|described| described.ended),
        needs_person: described.is_some_and(|described| described.needs_person),
        retrying: described.is_some_and(|described| described.retrying),
        length: described.map_or(0, |described| described.length),
        state: described.map(|described| raw(&described.state)),
        held: described.map_or(Vec::new(), |described| {
            described.held.iter().map(held).collect()
        }),
        under_way: Vec::new(),
        letters: Vec::new(),
    }
}

fn held(event: &HeldEvent) -> wire::HeldEvent {
    wire::HeldEvent {
        event_type: event.event_type.clone(),
        stream: event.stream.to_string(),
        position: event.position.to_string(),
    }
}

pub fn circuit(circuit: &Circuit) -> wire::Circuit {
    wire::Circuit {
        effect: circuit.effect.to_owned(),
        state: match circuit.state {
            CircuitState::Closed => wire::CircuitState::Closed,
            CircuitState::Open => wire::CircuitState::Open,
            CircuitState::HalfOpen => wire::CircuitState::HalfOpen,
        },
        failures: circuit.failures.into(),
        in_flight: circuit.in_flight as u64,
        last_error: circuit.last_error.clone(),
        again_at: circuit.again_at.map(|at| at.to_string()),
    }
}

/// What an instance has sent that is on its way, beside how third parties are doing.
pub fn deliveries(sent: Vec<Delivery>, circuits: &[Circuit]) -> Vec<wire::Delivery> {
    let delivery = |sent: Delivery| {
        let effect = sent.effect.as_deref();
        let called = circuits.iter().find(|known| Some(known.effect) == effect);
        wire::Delivery {
            id: sent.id.to_string(),
            what: sent.what,
            attempts: sent.attempts.into(),
            last_error: sent.last_error,
            again_at: sent.again_at.map(|at| at.to_string()),
            circuit: called.map(|called| circuit(called).state),
        }
    };
    sent.into_iter().map(delivery).collect()
}

pub fn letter(letter: &DeadLetter) -> wire::DeadLetter {
    let what = match &letter.what {
        Letter::Command(command) => wire::Letter::Command(wire::CommandLetter {
            id: command.id.to_string(),
            to: command.to.to_string(),
            name: command.name.clone(),
            data: raw(&command.data),
        }),
        Letter::Call(call, _) => wire::Letter::Call(wire::CallLetter {
            key: call.key.to_string(),
            effect: call.call.effect.clone(),
            request: raw(&call.call.request),
        }),
    };
    wire::DeadLetter {
        id: letter.id.to_string(),
        from: letter.from.to_string(),
        what,
        reason: letter.reason.clone(),
        attempts: letter.attempts,
    }
}

pub fn step(text: &str) -> Result<StepId, Refusal> {
    text.parse().map_err(|error| {
        Refusal::bad_request("bad-body", format!("step {text:?} is no step: {error}"))
    })
}

pub fn operator(by: wire::OperatorName) -> Operator {
    Operator {
        who: by.who,
        why: by.why,
    }
}

pub fn settlement(settlement: wire::Settlement) -> Result<Settlement, Refusal> {
    Ok(match settlement {
        wire::Settlement::Done(result) => Settlement::Done(json(&result)?),
        wire::Settlement::Refused(refused) => Settlement::Refused(
            peer::rejection_of(&refused).map_err(|error| Refusal::internal(error.to_string()))?,
        ),
        wire::Settlement::Undone => Settlement::Undone,
    })
}
