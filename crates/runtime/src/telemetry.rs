//! Spans along the journeys of commands, events and calls, for a program's own subscriber.
//!
//! A span is made where a subscriber of [`tracing`] wants it; without one the cost is a look at
//! a number in memory. Their target is [`TARGET`], so that a filter can name them. Their fields
//! are those of the conventions of OpenTelemetry for messaging where these have a name for a
//! thing, and begin with `anabranch.` where they have none.
//!
//! | span | from, to | below |
//! | --- | --- | --- |
//! | `command` | a command is sent, its outcome is there | the caller's span, or the `step` that sent it |
//! | `decide` | the author's `decide` is called, it returns | `command` |
//! | `append` | events leave for the log, it answers | `command`; of several commands none, and it follows from each |
//! | `view` | a view takes in a batch of events | |
//! | `consumer` | a consumer's function is called, it returns | |
//! | `step` | a saga's step is sent, its outcome is there | |
//! | `deliver` | the same for what a process sends | |
//! | `call` | an effect is called once, it returns | `step` or `deliver` |

use anabranch_domain::{CommandId, Role, StreamId};
use anabranch_log::{AppendError, Appended};
use tracing::field::{Empty, display};
use tracing::{Level, Span, span};

/// The target of every span.
pub const TARGET: &str = "anabranch";

/// What the conventions call the system.
const SYSTEM: &str = "anabranch";

/// Whether anybody wants spans. Where not, nothing that only a span needs is looked for.
pub fn is_on() -> bool {
    tracing::span_enabled!(target: TARGET, Level::INFO)
}

/// A command, from its being sent to its outcome.
pub fn command(
    stream: &StreamId,
    id: CommandId,
    correlation_id: &str,
    traceparent: Option<&str>,
) -> Span {
    span!(
        target: TARGET,
        Level::INFO,
        "command",
        otel.name = format_args!("send {}", stream.category()),
        otel.kind = "producer",
        messaging.system = SYSTEM,
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = stream.category(),
        messaging.message.id = display(id),
        messaging.message.conversation_id = correlation_id,
        anabranch.stream = stream.as_str(),
        anabranch.traceparent = traceparent,
        error.type = Empty,
    )
}

/// A decision of an author's code, below its command if it is about one.
pub fn decide(command: Option<&Span>, stream: &StreamId) -> Span {
    span!(
        target: TARGET,
        parent: command.and_then(Span::id),
        Level::INFO,
        "decide",
        otel.name = format_args!("decide {}", stream.category()),
        otel.kind = "consumer",
        messaging.system = SYSTEM,
        messaging.operation.name = "decide",
        messaging.operation.type = "process",
        messaging.destination.name = stream.category(),
        anabranch.stream = stream.as_str(),
    )
}

/// An append of what was decided about these commands, and maybe about what is none.
pub fn append(commands: &[&Span], events: usize) -> Span {
    let only = match commands {
        [one] => one.id(),
        _ => None,
    };
    let span = span!(
        target: TARGET,
        parent: only.clone(),
        Level::INFO,
        "append",
        otel.name = "append",
        otel.kind = "client",
        messaging.system = SYSTEM,
        messaging.operation.name = "append",
        messaging.operation.type = "send",
        messaging.batch.message_count = events,
        anabranch.position = Empty,
        error.type = Empty,
    );
    if only.is_none() {
        for command in commands {
            span.follows_from(command.id());
        }
    }
    span
}

/// What the log said to an append.
pub fn appended(span: &Span, result: &Result<Appended, AppendError>) {
    match result {
        Ok(appended) => {
            if let Some(place) = appended.places.first() {
                span.record("anabranch.position", display(place.position));
            }
        }
        Err(error) => failed(span, error.code()),
    }
}

/// Events are taken in by something with a name.
macro_rules! takes_in {
    ($span:literal, $name:expr, $events:expr) => {
        span!(
            target: TARGET,
            Level::INFO,
            $span,
            otel.name = format_args!("process {}", $name),
            otel.kind = "consumer",
            messaging.system = SYSTEM,
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.consumer.group.name = $name,
            messaging.batch.message_count = $events,
            messaging.message.conversation_id = Empty,
            error.type = Empty,
        )
    };
}

/// A view that takes in a batch, or a part of it: how many events is known at its end.
pub fn view(name: &str) -> Span {
    takes_in!("view", name, Empty)
}

/// A consumer's function, for so many events.
pub fn consumer(name: &str, events: usize) -> Span {
    takes_in!("consumer", name, events)
}

/// What an instance sends: a saga's step, or what a process wants.
pub fn sent(from: &StreamId, role: &Role, id: CommandId, destination: &str) -> Span {
    let (step, is_undone) = match role {
        Role::Plain => {
            return span!(
                target: TARGET,
                Level::INFO,
                "deliver",
                otel.name = format_args!("send {destination}"),
                otel.kind = "producer",
                messaging.system = SYSTEM,
                messaging.operation.name = "send",
                messaging.operation.type = "send",
                messaging.destination.name = destination,
                messaging.message.id = display(id),
                anabranch.stream = from.as_str(),
            );
        }
        Role::Step(step) | Role::Forward(step) => (step, false),
        Role::Undo { step, .. } => (step, true),
    };
    span!(
        target: TARGET,
        Level::INFO,
        "step",
        otel.name = format_args!("send {destination}"),
        otel.kind = "producer",
        messaging.system = SYSTEM,
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = destination,
        messaging.message.id = display(id),
        anabranch.stream = from.as_str(),
        anabranch.saga.step = &*step.name,
        anabranch.saga.undone = is_undone,
    )
}

/// One attempt of a call.
pub fn call(effect: &str, key: CommandId) -> Span {
    span!(
        target: TARGET,
        Level::INFO,
        "call",
        otel.name = format_args!("call {effect}"),
        otel.kind = "client",
        messaging.system = SYSTEM,
        messaging.operation.name = "call",
        messaging.operation.type = "send",
        messaging.destination.name = effect,
        messaging.message.id = display(key),
        error.type = Empty,
    )
}

/// What is recorded of something that did not succeed: a stable code, never a text that may
/// hold what a person has entered.
pub fn failed(span: &Span, code: &str) {
    span.record("error.type", code);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_subscriber_no_span_is_made() {
        let stream = StreamId::of("order", "1").unwrap();
        let id = CommandId::v7(1, 2);
        assert!(!is_on());
        assert!(command(&stream, id, "c", None).is_disabled());
        assert!(decide(None, &stream).is_disabled());
        assert!(append(&[], 1).is_disabled());
        assert!(sent(&stream, &Role::Plain, id, "stock").is_disabled());
        assert!(call("charge", id).is_disabled());
    }
}
