//! Processes and sagas: instances that follow from their journals.
//!
//! An instance is a pure state machine of the domain. Its host decides about its inputs in
//! memory, appends what follows to the instance's journal, and sends only what is durable:
//! intent first. Of two runtimes on one journal never both win; the loser reads the journal
//! again.
//!
//! What is sent and not answered, and every timer, follows from the journal. A runtime that
//! starts goes through the journals that are open and sends again; receivers know what they
//! have seen by its id. Events are consumed from where all that was consumed before is durable;
//! what is consumed twice changes nothing.

mod dispatcher;
mod effects;
pub(crate) mod feed;
mod host;
mod under_way;

use std::sync::Arc;

use anabranch_domain::{Rejection, StreamId};

pub(crate) use dispatcher::Dispatcher;
pub use dispatcher::{DeadLetter, Delivered, Letter, Router};
pub use effects::{CallError, Circuit, CircuitState};
pub(crate) use effects::{EffectHost, Effects};
pub use host::{AnyFlow, FlowOptions};
pub(crate) use host::{FlowHost, FlowParts};

use crate::host::{Drive, Out, Outbox};

/// How senders treat what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The sender tries until there is a definite answer, or gives it to an operator.
    Insist,
    /// The instance itself decides when to try again.
    Report,
}

/// What a person says about something that was sent and cannot be delivered.
fn given_up(why: &str) -> Rejection {
    Rejection::new("given-up", format!("an operator has given it up: {why}"))
}

/// Gives what the instances of one kind send to the dispatcher.
struct ToDispatcher {
    dispatcher: Arc<Dispatcher>,
    style: Style,
}

impl ToDispatcher {
    fn new(dispatcher: Arc<Dispatcher>, drive: Drive) -> Self {
        let style = match drive {
            Drive::Insists => Style::Insist,
            Drive::Asked | Drive::Reports => Style::Report,
        };
        Self { dispatcher, style }
    }
}

impl Outbox for ToDispatcher {
    fn send(&self, from: &StreamId, out: Out, again: bool) {
        match out {
            Out::Command(command) => self.dispatcher.command(from.clone(), command, self.style),
            Out::Call(call, role) => self.dispatcher.call(call, role, self.style, again),
            Out::Reply(reply) => self.dispatcher.bring(reply),
            // The host keeps these to itself.
            Out::Timer(..) | Out::Ended => {}
        }
    }

    fn forget(&self, receiver: &StreamId, from: &StreamId) {
        self.dispatcher.forget(receiver, from);
    }
}
