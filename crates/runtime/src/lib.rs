//! Hosts a service on a log: entities, views, processes, sagas, effects and timers.
//!
//! [`Service::builder`] declares what the service owns and starts it. Everything that the
//! service knows follows from the log: what is kept beside it (snapshots, views) can be thrown
//! away and is made again. Time comes from [`Time`], so that a test can let it pass by hand.

mod entity;
mod flow;
mod hash;
mod notes;
mod panics;
mod pulse;
mod send_error;
mod service;
pub mod snapshot;
mod time;
pub mod view;

pub use entity::{
    Accepted, Door, EntityHandle, EntityOptions, HostError, Inspection, Recorded, SendOptions,
    Status,
};
pub use flow::{
    AnyFlow, CallError, Circuit, CircuitState, DeadLetter, Description, FlowOptions,
    InstanceStatus, Letter, Router,
};
pub use notes::{Note, Notes};
pub use send_error::SendError;
pub use service::{Service, ServiceBuilder, StartError};
pub use time::{ManualTime, Sleeper, Time};
