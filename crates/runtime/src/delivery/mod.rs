//! Carries what processes and sagas send, and brings the answers back.
//!
//! A command goes through the port, a call to the effect that is registered for it. What fails
//! is tried again; what cannot be delivered is kept as a letter for an operator. Nothing of
//! this is durable: the journals say what was sent and not answered, and a restart sends it
//! again. Receivers know what they have seen by its id.

mod dispatcher;
mod effects;
mod letters;
mod outbox;
mod under_way;

pub use dispatcher::{Dispatcher, Here};
pub use effects::{CallContext, CallError, Circuit, CircuitState, EffectHost, Effects};
pub use letters::{DeadLetter, Letter};
pub use outbox::ToDispatcher;
pub use under_way::Delivery;

/// How senders treat what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The sender tries until there is a definite answer, or gives it to an operator.
    Insist,
    /// The instance itself decides when to try again.
    Report,
}
