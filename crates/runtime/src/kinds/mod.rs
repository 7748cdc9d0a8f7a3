//! The kinds of machines that services host: entities, processes, sagas. Each is a small
//! adapter over the domain; the host does the rest.

mod entity;
mod process;
mod saga;

use anabranch_domain::{
    CommandEnvelope, CommandError, Cut, EventRef, ReplyEnvelope, StreamId, process::Planned,
};

pub use entity::EntityKind;
pub use process::ProcessKind;
pub use saga::SagaKind;

use crate::host::{Input, Kind, Out};
use crate::send_error::SendError;

/// A kind of entities.
pub trait Commanded: Kind {
    /// The names of the commands that it takes.
    fn commands(&self) -> &'static [&'static str];

    /// A command, from its wire form.
    fn command(&self, name: &str, data: &[u8]) -> Result<Input, CommandError>;

    /// A hash of what a command says; `None` if it cannot be written.
    fn content(&self, command: &Input) -> Option<u64>;
}

/// A kind whose machines listen to the log, and send.
pub trait Listening: Kind {
    /// The categories that it listens to, and the types of events in them.
    fn listens_to(&self) -> (Vec<String>, Vec<String>);

    /// The machine that an event reaches, and as what.
    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Input)>, String>;

    /// What a reply is to the machine that it answers.
    fn reply(&self, reply: ReplyEnvelope) -> Option<Input>;

    /// What a command is to the machine that it is sent to.
    fn command(&self, command: &CommandEnvelope) -> Result<Input, SendError>;

    /// The types of events that end a journal, each with how it has ended, in a word.
    fn ends(&self) -> &'static [(&'static str, &'static str)];

    /// Whether a journal whose newest event is of this type has ended for good.
    fn is_last(&self, event_type: &str) -> bool {
        self.ends().iter().any(|(name, _)| *name == event_type)
    }
}

/// What a process has planned; `timer` makes the input that a timer comes back as.
fn planned(planned: Planned, timer: impl FnOnce(anabranch_domain::Timer) -> Input) -> Option<Out> {
    match planned {
        Planned::Command(command) => Some(Out::Command(command)),
        Planned::Call(call) => Some(Out::Call(call, anabranch_domain::Role::Plain)),
        Planned::Timer(set) => Some(Out::Timer(set.at, timer(set))),
        // A timer that was taken back means nothing when it comes.
        Planned::Cancel { .. } | Planned::Complete => None,
    }
}

/// On a log with one partition an event depends on what stands before it, and on nothing else.
pub fn closure_of(event: &EventRef<'_>) -> Cut {
    let mut closure = Cut::including(event.position);
    if let Ok(meta) = event.meta.decode() {
        closure.join(&meta.causes);
    }
    closure
}
