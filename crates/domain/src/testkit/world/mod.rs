//! Several services in memory, with a controlled clock and faults on demand.

mod faults;
mod host;
mod log;
mod message;
mod plans;
mod replicas;
mod rng;
mod service;
mod state;

pub use host::Provider;
pub use message::Message;
pub use plans::{CrashPoint, Faults, HoldId};
pub use service::Service;
pub use state::{CutNotReached, World};
