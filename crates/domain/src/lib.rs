//! What a service author implements: entities, views, processes, sagas, effects.
//!
//! Everything here is a value or a pure function: no I/O, no clock, no randomness, no async
//! runtime. The same code runs in tests, in production, in replay and in simulation.

// The derive macros name this crate by its full name.
extern crate self as anabranch_domain;

mod command;
mod effect;
mod entity;
mod event;
mod instance;
mod json;
mod lock;
mod memory;
pub mod process;
mod rejection;
mod retry;
pub mod saga;
mod schema;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod time;
mod view;
mod wire;

pub use anabranch_domain_derive::{Event, Rejection};
pub use anabranch_model::{CommandId, Cut, EventRef, StreamId};

pub use command::{
    Command, CommandEnvelope, CommandError, Outcome, Outgoing, RecordedEvent, ReplyEnvelope, Role,
};
pub use effect::{Breaker, Call, CallEnvelope, CallPolicy, Effect, Repeat};
pub use entity::{Decide, Entity};
pub use event::{DecodeError, EncodeError, Event, EventKind, NoEvent};
pub use instance::{Asked, Decided, EntityInstance, SAGA_HEADER};
pub use json::Json;
pub use lock::{SemanticLock, WhenLocked};
pub use memory::{Admission, CommandMemory, Note, PLAIN_COMMANDS_MAX, Remembered};
pub use process::{Action, Correlate, Input, Process, Reaction, Reply, SagaStart, Source, Timer};
pub use rejection::Rejection;
pub use retry::Retry;
pub use saga::Saga;
pub use schema::{Reader, SchemaError, Upcasts};
pub use time::Timestamp;
pub use view::{HandleError, Poison, Query, View};

/// What the derive macros call. Not for people; may change at any time.
#[doc(hidden)]
pub mod __derive {
    pub use crate::event::derive_support::{decode, encode, unknown};
}
