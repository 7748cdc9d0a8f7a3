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

mod any;
mod dispatcher;
mod effects;
mod host;
mod hosted;
mod intake;
mod place;
mod under_way;

use anabranch_domain::Rejection;

pub use any::AnyFlow;
pub(crate) use dispatcher::Dispatcher;
pub use dispatcher::{DeadLetter, Letter};
pub use effects::{CallError, Circuit, CircuitState};
pub(crate) use effects::{EffectHost, Effects};
pub use host::FlowOptions;
pub(crate) use host::{FlowHost, FlowParts};
pub(crate) use hosted::Hosted;
pub use under_way::Delivery;

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
