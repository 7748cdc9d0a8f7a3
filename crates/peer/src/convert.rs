//! What goes through a port, as wire types and back.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_domain::saga::StepId;
use anabranch_domain::{
    CommandEnvelope, CommandId, Json, Outcome, Rejection, ReplyEnvelope, Role, StreamId,
};
use anabranch_log::{Expect, Placed};
use anabranch_model::{Cut, EventType, PartitionId, Position};
use anabranch_runtime::port::{Ask, Dispatch};
use anabranch_runtime::view::{Consistency, JsonAnswer, Policy, Question};
use anabranch_runtime::{Accepted, Delivered, Recorded};
use anabranch_wire as wire;
use anabranch_wire::Raw;
use bytes::Bytes;
use thiserror::Error;

/// A message that means nothing.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(String);

anabranch_model::debug_is_words!(Malformed);

fn wrong(what: &str, error: impl std::fmt::Display) -> Malformed {
    Malformed(format!("{what}: {error}"))
}

/// JSON that belongs to a service, word for word.
pub fn raw(json: &Json) -> Raw {
    // It was checked when it was made.
    Raw::new(json.as_str()).unwrap_or_default()
}

fn json(raw: &Raw) -> Result<Json, Malformed> {
    Json::new(raw.as_str()).map_err(|error| wrong("data", error))
}

/// How many events of each partition.
pub fn cut(cut: &Cut) -> BTreeMap<String, u64> {
    cut.iter()
        .map(|(partition, count)| (partition.0.to_string(), count))
        .collect()
}

/// The cut that says so.
pub fn cut_of(counts: &BTreeMap<String, u64>) -> Result<Cut, Malformed> {
    let mut cut = Cut::start();
    for (partition, count) in counts {
        let number = partition.parse::<u32>();
        let number = number.map_err(|error| wrong("a partition", error))?;
        cut.set(PartitionId(number), *count);
    }
    Ok(cut)
}

fn stream_of(text: &str) -> Result<StreamId, Malformed> {
    StreamId::new(text).map_err(|error| wrong("a stream", error))
}

fn id_of(text: &str) -> Result<CommandId, Malformed> {
    text.parse::<CommandId>()
        .map_err(|error| wrong("an id", error))
}

/// A command on its way.
pub fn command(dispatch: &Dispatch) -> wire::PeerCommand {
    let command = &dispatch.command;
    wire::PeerCommand {
        id: command.id.to_string(),
        to: command.to.to_string(),
        name: command.name.clone(),
        data: raw(&command.data),
        role: role(&command.role),
        reply_to: command.reply_to.as_ref().map(ToString::to_string),
        correlation_id: command.correlation_id.clone(),
        traceparent: command.traceparent.clone(),
        causes: cut(&command.causes),
        timeout_ms: dispatch.timeout.map(milliseconds),
        expect: dispatch.expect.map(expected),
    }
}

/// The command that was on its way.
pub fn dispatch_of(command: &wire::PeerCommand) -> Result<Dispatch, Malformed> {
    Ok(Dispatch {
        command: CommandEnvelope {
            id: id_of(&command.id)?,
            to: stream_of(&command.to)?,
            name: command.name.clone(),
            data: json(&command.data)?,
            role: role_of(&command.role)?,
            reply_to: command.reply_to.as_deref().map(stream_of).transpose()?,
            correlation_id: command.correlation_id.clone(),
            traceparent: command.traceparent.clone(),
            causes: cut_of(&command.causes)?,
        },
        timeout: command.timeout_ms.map(Duration::from_millis),
        expect: command.expect.map(expect_of),
    })
}

/// Not longer than it is: what is left of the last millisecond counts as one.
fn milliseconds(time: Duration) -> u64 {
    time.as_nanos()
        .div_ceil(1_000_000)
        .try_into()
        .unwrap_or(u64::MAX)
}

/// A state that is expected.
pub fn expected(expect: Expect) -> wire::Expected {
    match expect {
        Expect::Any => wire::Expected::Any,
        Expect::Empty => wire::Expected::Empty,
        Expect::Exists => wire::Expected::Exists,
        Expect::At(version) => wire::Expected::At(version),
    }
}

/// The state that was expected.
pub fn expect_of(expected: wire::Expected) -> Expect {
    match expected {
        wire::Expected::Any => Expect::Any,
        wire::Expected::Empty => Expect::Empty,
        wire::Expected::Exists => Expect::Exists,
        wire::Expected::At(version) => Expect::At(version),
    }
}

fn role(role: &Role) -> wire::PeerRole {
    match role {
        Role::Plain => wire::PeerRole::Plain,
        Role::Step(step) => wire::PeerRole::Step(step.to_string()),
        Role::Forward(step) => wire::PeerRole::Forward(step.to_string()),
        Role::Undo { step, of } => wire::PeerRole::Undo(wire::Undo {
            step: step.to_string(),
            of: of.to_string(),
        }),
    }
}

fn role_of(role: &wire::PeerRole) -> Result<Role, Malformed> {
    let step = |text: &str| {
        let step = text.parse::<StepId>();
        step.map_err(|error| wrong("a step", error))
    };
    Ok(match role {
        wire::PeerRole::Plain => Role::Plain,
        wire::PeerRole::Step(text) => Role::Step(step(text)?),
        wire::PeerRole::Forward(text) => Role::Forward(step(text)?),
        wire::PeerRole::Undo(undo) => Role::Undo {
            step: step(&undo.step)?,
            of: id_of(&undo.of)?,
        },
    })
}

/// What became of a command that was delivered.
pub fn delivered(delivered: &Delivered) -> Result<wire::PeerDelivered, Malformed> {
    let Delivered::Done(accepted) = delivered else {
        return Ok(wire::PeerDelivered {
            taken: true,
            version: None,
            repeated: false,
            events: Vec::new(),
            token: BTreeMap::new(),
        });
    };
    Ok(wire::PeerDelivered {
        taken: false,
        version: accepted.version,
        repeated: accepted.repeated,
        events: events(accepted)?,
        token: cut(&accepted.token),
    })
}

/// The events that a command has recorded.
pub fn events(accepted: &Accepted) -> Result<Vec<wire::RecordedEvent>, Malformed> {
    let event = |event: &Recorded| {
        let text = String::from_utf8_lossy(&event.data);
        Ok(wire::RecordedEvent {
            name: event.event_type.as_str().to_owned(),
            schema_version: event.schema_version,
            version: event.place.version,
            position: event.place.position.to_string(),
            data: Raw::new(text).map_err(|error| wrong("an event's data", error))?,
        })
    };
    accepted.events.iter().map(event).collect()
}

/// The same of what another service has delivered.
pub fn delivered_of(delivered: &wire::PeerDelivered) -> Result<Delivered, Malformed> {
    if delivered.taken {
        return Ok(Delivered::Taken);
    }
    let recorded = |event: &wire::RecordedEvent| {
        let event_type = EventType::new(event.name.as_str());
        let position = event.position.parse::<Position>();
        Ok(Recorded {
            event_type: event_type.map_err(|error| wrong("an event's type", error))?,
            schema_version: event.schema_version,
            data: Bytes::copy_from_slice(event.data.as_str().as_bytes()),
            place: Placed {
                position: position.map_err(|error| wrong("a position", error))?,
                version: event.version,
            },
        })
    };
    Ok(Delivered::Done(Accepted {
        events: delivered
            .events
            .iter()
            .map(recorded)
            .collect::<Result<_, Malformed>>()?,
        version: delivered.version,
        token: cut_of(&delivered.token)?,
        repeated: delivered.repeated,
    }))
}

/// An answer on its way to a process or saga.
pub fn answer(reply: &ReplyEnvelope) -> wire::PeerAnswer {
    wire::PeerAnswer {
        to: reply.to.to_string(),
        from: reply.from.to_string(),
        id: reply.id.to_string(),
        name: reply.name.clone(),
        role: role(&reply.role),
        outcome: match &reply.outcome {
            Outcome::Done(json) => wire::PeerOutcome::Done(raw(json)),
            Outcome::Refused(no) => wire::PeerOutcome::Refused(rejection(no)),
            Outcome::Unavailable(reason) => wire::PeerOutcome::Unavailable(reason.clone()),
            Outcome::Unknown(reason) => wire::PeerOutcome::Unknown(reason.clone()),
        },
        causes: cut(&reply.causes),
    }
}

/// The answer that was on its way.
pub fn reply_of(answer: &wire::PeerAnswer) -> Result<ReplyEnvelope, Malformed> {
    Ok(ReplyEnvelope {
        to: stream_of(&answer.to)?,
        from: stream_of(&answer.from)?,
        id: id_of(&answer.id)?,
        name: answer.name.clone(),
        role: role_of(&answer.role)?,
        outcome: match &answer.outcome {
            wire::PeerOutcome::Done(data) => Outcome::Done(json(data)?),
            wire::PeerOutcome::Refused(no) => Outcome::Refused(rejection_of(no)?),
            wire::PeerOutcome::Unavailable(reason) => Outcome::Unavailable(reason.clone()),
            wire::PeerOutcome::Unknown(reason) => Outcome::Unknown(reason.clone()),
        },
        causes: cut_of(&answer.causes)?,
    })
}

/// A business "no".
pub fn rejection(rejection: &Rejection) -> wire::Rejection {
    wire::Rejection {
        code: rejection.code.to_string(),
        message: rejection.message.clone(),
        data: (!rejection.data.is_null()).then(|| raw(&rejection.data)),
        try_again: rejection.try_again,
    }
}

/// The "no" that somebody else has said.
pub fn rejection_of(said: &wire::Rejection) -> Result<Rejection, Malformed> {
    let mut rejection = Rejection::new(said.code.clone(), said.message.clone());
    rejection.try_again = said.try_again;
    match &said.data {
        Some(data) => Ok(rejection.with_data(json(data)?)),
        None => Ok(rejection),
    }
}

/// That an entity may forget a saga.
pub fn forget(at: &StreamId, saga: &StreamId) -> wire::PeerForget {
    wire::PeerForget {
        at: at.to_string(),
        saga: saga.to_string(),
    }
}

/// The entity, and the saga that it may forget.
pub fn forget_of(forget: &wire::PeerForget) -> Result<(StreamId, StreamId), Malformed> {
    Ok((stream_of(&forget.at)?, stream_of(&forget.saga)?))
}

/// A question on its way.
pub fn query(ask: &Ask) -> wire::PeerQuery {
    wire::PeerQuery {
        view: ask.view.clone(),
        query: ask.query.clone(),
        question: match &ask.question {
            Question::Json(json) => wire::PeerQuestion::Json(raw(json)),
            Question::Fields(fields) => {
                let field = |(name, text): &(String, String)| wire::PeerField {
                    name: name.clone(),
                    text: text.clone(),
                };
                wire::PeerQuestion::Fields(fields.iter().map(field).collect())
            }
        },
        seen: cut(&ask.consistency.seen),
        policy: match ask.consistency.policy {
            Policy::Wait(wait) => wire::PeerPolicy::WaitMs(milliseconds(wait)),
            Policy::Fail => wire::PeerPolicy::Fail,
            Policy::AllowStale => wire::PeerPolicy::AllowStale,
        },
    }
}

/// The question that was on its way.
pub fn ask_of(query: wire::PeerQuery) -> Result<Ask, Malformed> {
    Ok(Ask {
        view: query.view,
        query: query.query,
        question: match query.question {
            wire::PeerQuestion::Json(data) => Question::Json(json(&data)?),
            wire::PeerQuestion::Fields(fields) => {
                let fields = fields.into_iter();
                Question::Fields(fields.map(|field| (field.name, field.text)).collect())
            }
        },
        consistency: Consistency {
            seen: cut_of(&query.seen)?,
            policy: match query.policy {
                wire::PeerPolicy::WaitMs(ms) => Policy::Wait(Duration::from_millis(ms)),
                wire::PeerPolicy::Fail => Policy::Fail,
                wire::PeerPolicy::AllowStale => Policy::AllowStale,
            },
        },
    })
}

/// A view's answer.
pub fn shown(answer: &JsonAnswer) -> wire::QueryAnswer {
    wire::QueryAnswer {
        value: raw(&answer.value),
        cut: cut(&answer.cut),
        stale: answer.stale,
    }
}

/// The answer of another service's view.
pub fn shown_of(answer: &wire::QueryAnswer) -> Result<JsonAnswer, Malformed> {
    Ok(JsonAnswer {
        value: json(&answer.value)?,
        cut: cut_of(&answer.cut)?,
        stale: answer.stale,
    })
}
