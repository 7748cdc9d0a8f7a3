//! The kinds of machines that services host: entities, processes, sagas. Each is a small
//! adapter over the domain; the host does the rest.

mod entity;
mod process;
mod saga;

use anabranch_domain::{
    CommandEnvelope, CommandError, Cut, EventKind, EventRef, ReplyEnvelope, StreamId,
};
use anabranch_model::{EventType, Filter, content_hash};

pub use entity::EntityKind;
pub use process::ProcessKind;
pub use saga::SagaKind;

use crate::host::{Input, Kind};
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
    /// The events that it listens to; `None`: to none.
    fn listens_to(&self) -> Option<Filter>;

    /// The machine that an event reaches, and as what.
    fn consume(&self, event: &EventRef<'_>) -> Result<Option<(StreamId, Input)>, String>;

    /// What a reply is to the machine that it answers.
    fn reply(&self, reply: ReplyEnvelope) -> Option<Input>;

    /// What a command is to the machine that it is sent to.
    fn command(&self, command: &CommandEnvelope) -> Result<Input, SendError>;

    /// The types of events that end a journal, each with how it has ended, in a word.
    fn ends(&self) -> &'static [(&'static str, &'static str)];
}

/// The events of these types in these categories; `None`: none.
fn events_of(categories: &[&str], types: Vec<String>) -> Option<Filter> {
    let types = types.iter().filter_map(|name| EventType::new(name).ok());
    (!categories.is_empty()).then(|| Filter {
        categories: categories.iter().map(|&name| name.to_owned()).collect(),
        types: types.collect(),
        ..Filter::all()
    })
}

/// Names the shape of a state: what these names say of it, and the events that it is made from.
fn shape(names: &[&str], mut kinds: Vec<EventKind>) -> u128 {
    kinds.sort_unstable();
    let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
    let parts = names
        .iter()
        .copied()
        .chain(kinds.iter().map(String::as_str));
    content_hash(parts.map(str::as_bytes))
}

/// On a log with one partition an event depends on what stands before it, and on nothing else.
pub fn closure_of(event: &EventRef<'_>) -> Cut {
    let mut closure = Cut::including(event.position);
    if let Ok(meta) = event.meta.decode() {
        closure.join(&meta.causes);
    }
    closure
}
