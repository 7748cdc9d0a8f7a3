//! What a service author implements: entities, views, processes, sagas, effects.
//!
//! Everything here is a value or a pure function: no I/O, no clock, no randomness, no async
//! runtime. The same code runs in tests, in production, in replay and in simulation.
//!
//! An entity in thirty lines:
//!
//! ```
//! use anabranch_domain::{Decide, Entity, Event, Rejection};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Event)]
//! enum OrderEvent {
//!     OrderPlaced { total: u64 },
//!     OrderConfirmed,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! enum OrderCommand {
//!     PlaceOrder { total: u64 },
//!     ConfirmOrder,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! enum Order { #[default] New, Placed, Confirmed }
//!
//! impl Entity for Order {
//!     const CATEGORY: &'static str = "order";
//!     type Command = OrderCommand;
//!     type Event = OrderEvent;
//!     type Rejection = Rejection;
//!
//!     fn decide(&self, command: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
//!         match (command, self) {
//!             (OrderCommand::PlaceOrder { total }, Order::New) => {
//!                 Ok(vec![OrderEvent::OrderPlaced { total: *total }])
//!             }
//!             (OrderCommand::ConfirmOrder, Order::Placed) => Ok(vec![OrderEvent::OrderConfirmed]),
//!             _ => Err(Rejection::new("not-now", "the order is not in a state for this")),
//!         }
//!     }
//!
//!     fn evolve(&mut self, event: &OrderEvent) {
//!         *self = match event {
//!             OrderEvent::OrderPlaced { .. } => Order::Placed,
//!             OrderEvent::OrderConfirmed => Order::Confirmed,
//!         };
//!     }
//! }
//!
//! # use anabranch_domain::testkit::given;
//! // In a test:
//! given::<Order>([OrderEvent::OrderPlaced { total: 5 }])
//!     .when(OrderCommand::PlaceOrder { total: 7 })
//!     .then_rejected("not-now")
//!     .when(OrderCommand::ConfirmOrder)
//!     .then([OrderEvent::OrderConfirmed]);
//! ```
//!
//! # The parts
//!
//! | part | what it is | look at |
//! | --- | --- | --- |
//! | entity | commands in, events out | [`Entity`], [`Event`](trait@Event), [`Rejection`](struct@Rejection) |
//! | view | events in, rows out, for queries | [`View`], [`Query`] |
//! | process | reacts to events by sending commands | [`Process`], [`Reaction`] |
//! | saga | steps over several entities, each with a compensation | [`Saga`], [`saga`] |
//! | effect | a call to the world outside, as a value | [`Effect`], [`CallPolicy`] |
//! | schema | how old events are read, and new ones by old programs | [`Upcasts`], [`Downcasts`], [`Reader`] |
//! | tests | given/when/then, and several services in memory | `testkit`, with the feature of this name |
//!
//! # One shape for all of them
//!
//! `decide` looks at the state *before* an input and says what follows from it, as values:
//! events, commands, timers, calls. `evolve` takes into the state what has happened. Entities,
//! processes and sagas share this; what differs is what goes in. Replay runs `evolve` alone, so
//! changing how things are decided never changes what was decided before.
//!
//! # For hosts
//!
//! A host keeps an [`EntityInstance`], a [`process::ProcessInstance`] or a
//! [`saga::SagaInstance`] for each stream: they hold what the protocols need beside the author's
//! own state, such as what an entity remembers of commands. All of them are serde values, made
//! from nothing but their stream.

// The derive macros name this crate by its full name.
extern crate self as anabranch_domain;

mod codec;
mod command;
mod command_reader;
mod downcasts;
mod effect;
mod entity;
mod event;
mod instance;
mod json;
mod lock;
mod memory;
mod origin;
pub mod process;
mod publish;
mod rejection;
mod retry;
mod rules;
pub mod saga;
mod saga_start;
mod schema;
mod shape;
mod step_id;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod time;
pub mod types;
mod upcasts;
mod view;
mod wire;

pub use anabranch_domain_derive::{Event, Rejection};
pub use anabranch_model::{CommandId, Cut, EventRef, StreamId};

pub use command::{
    Command, CommandEnvelope, CommandError, Outcome, Outgoing, RecordedEvent, ReplyEnvelope, Role,
};
pub use command_reader::CommandReader;
pub use downcasts::{Downcast, Downcasts, FieldChange, IsKnown, Lowered, Newer};
pub use effect::{Breaker, Call, CallEnvelope, CallPolicy, Effect, Repeat, WhenOpen};
pub use entity::{Decide, Entity};
pub use event::{DecodeError, EncodeError, Event, EventKind, NoEvent};
pub use instance::{Asked, Decided, EntityInstance, SAGA_HEADER};
pub use json::Json;
pub use lock::{SemanticLock, WhenLocked};
pub use memory::{Admission, CommandMemory, Note, PLAIN_COMMANDS_MAX, Remembered};
pub use origin::Origin;
pub use process::{Action, Correlate, Input, Process, Reaction, Reply, SagaStart, Source, Timer};
pub use publish::Publishes;
pub use rejection::Rejection;
pub use retry::Retry;
pub use saga::Saga;
pub use schema::Reader;
pub use time::Timestamp;
pub use upcasts::{SchemaError, Upcasts};
pub use view::{HandleError, Poison, Query, View};

/// What the derive macros call. Not for people; may change at any time.
#[doc(hidden)]
pub mod __derive {
    pub use crate::event::derive_support::{decode, encode, shape, unknown};
}
