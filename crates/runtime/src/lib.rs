//! Hosts a service on a log: entities, views, processes, sagas, effects and timers.
//!
//! [`Service::builder`] declares what the service owns and starts it. Everything that the
//! service knows follows from the log: what is kept beside it (snapshots, views) can be thrown
//! away and is made again. Time comes from [`Time`], so that a test can let it pass by hand.
//!
//! ```
//! use std::sync::Arc;
//!
//! use anabranch_domain::{Decide, Entity, Event, Rejection};
//! use anabranch_env::Env;
//! use anabranch_log::MemoryLog;
//! use anabranch_runtime::{Service, Time};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Order {
//!     is_placed: bool,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! enum OrderCommand {
//!     PlaceOrder { total: u64 },
//! }
//!
//! #[derive(Serialize, Deserialize, Event)]
//! enum OrderEvent {
//!     OrderPlaced { total: u64 },
//! }
//!
//! impl Entity for Order {
//!     const CATEGORY: &'static str = "order";
//!     type Command = OrderCommand;
//!     type Event = OrderEvent;
//!     type Rejection = Rejection;
//!
//!     fn decide(&self, command: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
//!         let OrderCommand::PlaceOrder { total } = command;
//!         if self.is_placed {
//!             return Err(Rejection::new("already-placed", "the order is placed already"));
//!         }
//!         Ok(vec![OrderEvent::OrderPlaced { total: *total }])
//!     }
//!
//!     fn evolve(&mut self, OrderEvent::OrderPlaced { .. }: &OrderEvent) {
//!         self.is_placed = true;
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let env = Env::os();
//! let log = Arc::new(MemoryLog::new(env.clone()));
//! let service = Service::builder("orders", log, Time::of(&env))
//!     .entity::<Order>()
//!     .start()
//!     .await?;
//! let order = service.entity::<Order>("536365");
//! let accepted = order.send(OrderCommand::PlaceOrder { total: 5 }).await?;
//! assert_eq!(accepted.version, Some(0));
//! let again = order.send(OrderCommand::PlaceOrder { total: 5 }).await;
//! assert_eq!(again.unwrap_err().to_string(), "the order is placed already (already-placed)");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod beside;
mod builder;
mod causes;
pub mod checkpoint;
pub mod consumer;
mod content;
mod delivery;
mod diagnostics;
mod ended;
mod entity;
mod entity_code;
mod entity_handle;
mod feed;
mod fleet;
mod follow;
mod hash;
mod head_watch;
mod host;
mod hosted;
mod in_order;
mod in_turn;
mod intake;
mod kinds;
mod newer;
mod panics;
pub mod port;
mod process;
mod reads;
pub mod registry;
mod send_error;
mod service;
pub mod snapshot;
mod telemetry;
mod time;
mod together;
mod unwritten;
pub mod view;

pub use builder::{ServiceBuilder, StartError};
pub use causes::{Cause, Causes};
pub use delivery::{CallContext, CallError, Circuit, CircuitState, DeadLetter, Delivery, Letter};
pub use diagnostics::{Alert, Diagnostic, Diagnostics};
pub use entity::{EntityHost, EntityOptions, HostError, Inspection, SendOptions};
pub use entity_handle::EntityHandle;
pub use fleet::{Fleet, Whereabouts};
pub use follow::Begin;
pub use host::{Accepted, Description, HeldEvent, InstanceStatus, Recorded, Status};
pub use port::{Delivered, Port};
pub use process::{ProcessHost, ProcessOptions};
pub use send_error::SendError;
pub use service::Service;
pub use telemetry::TARGET as TELEMETRY_TARGET;
pub use time::{ManualTime, Sleeper, Time};
pub use together::{EntityCommand, TOGETHER_MAX, TogetherError};
