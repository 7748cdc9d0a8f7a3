//! Tests for services, without a runtime.
//!
//! * [`given`], [`entity`], [`view`], [`process`], [`saga`]: given what happened, when this is
//!   asked, then that follows. A difference is shown line by line.
//!
//! Several services together are tested in the `World` of the crate `anabranch-testkit`, on the
//! runtime that ships. The world in here is a model of that runtime: the scenarios of this
//! crate run on it, and it can leave rules out to show that they are needed.
//!
//! Everything here panics when an expectation does not hold, as tests do.

mod diff;
mod entity;
mod process;
mod saga;
mod view;
mod world;

pub use entity::{EntityTest, EntityThen, entity, given};
pub use process::{ProcessTest, ProcessThen, process};
pub use saga::{SagaTest, saga};
pub use view::{ViewTest, view};
#[doc(hidden)]
pub use world::{CrashPoint, CutNotReached, Faults, HoldId, Message, Provider, Service, World};

use anabranch_model::{Event as StoredEvent, EventId, EventType, NewEvent, Position, StreamId};

use crate::command::RecordedEvent;
use crate::event::Event;
use crate::time::Timestamp;

/// The time at which tests begin: 1 December 2010, 08:26 UTC.
pub const START: Timestamp = Timestamp::from_seconds(1_291_191_960);

/// What `event` is when it is stored, in lines that a person can read.
fn shown<E: Event>(event: &E) -> String {
    match RecordedEvent::of(event) {
        Ok(recorded) => shown_recorded(&recorded),
        Err(error) => panic!("{error}"),
    }
}

fn shown_recorded(event: &RecordedEvent) -> String {
    let version = match event.schema_version {
        1 => String::new(),
        version => format!(" v{version}"),
    };
    format!("{}{version} {}", event.name, pretty(event.data.as_str()))
}

fn pretty(json: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(json);
    match value {
        Ok(value) => format!("{value:#}"),
        Err(_) => json.to_owned(),
    }
}

/// `event` as the log would give it back.
fn stored<E: Event>(stream: &str, event: &E, offset: u64, at: Timestamp) -> StoredEvent {
    let recorded = match RecordedEvent::of(event) {
        Ok(recorded) => recorded,
        Err(error) => panic!("{error}"),
    };
    let stream = StreamId::system(stream).unwrap_or_else(|error| panic!("{error}"));
    let name = EventType::new(&recorded.name).unwrap_or_else(|error| panic!("{error}"));
    let data = recorded.data.as_str().as_bytes().to_vec();
    let mut new = NewEvent::new(EventId::from_hash(u128::from(offset)), stream, name, data);
    new.schema_version = recorded.schema_version;
    StoredEvent::stored(&new, Position::at(offset), offset, at.micros())
}
