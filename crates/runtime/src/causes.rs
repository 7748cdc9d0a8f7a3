//! What a command says that it depends on.

use anabranch_model::{Cut, Position};

/// What a command depends on: the events that it records become visible behind that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Causes {
    /// Whatever its sender has seen: what a client's token says, or else what the service has read
    /// that sends it. Depends on too much rather than too little.
    #[default]
    Session,
    /// These, and what they depend on. Only along causes that are named so are a sender's writes
    /// shown in their order.
    Explicit(Vec<Cause>),
    /// Nothing but what its entity has recorded before.
    Root,
}

/// One thing that a command depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The event that stands there.
    Event(Position),
    /// What somebody has seen: the token of an answer, such as [`Accepted::token`](crate::Accepted).
    Token(Cut),
}

impl Causes {
    /// As a cut of the log, where `session` is what the sender has seen.
    pub fn cut(&self, session: impl FnOnce() -> Cut) -> Cut {
        match self {
            Self::Session => session(),
            Self::Root => Cut::start(),
            Self::Explicit(causes) => {
                let mut all = Cut::start();
                for cause in causes {
                    match cause {
                        Cause::Event(position) => all.join(&Cut::including(*position)),
                        Cause::Token(cut) => all.join(cut),
                    }
                }
                all
            }
        }
    }
}
