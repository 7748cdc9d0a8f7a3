//! Several services in memory, on the runtime that ships, with a clock and faults of the test's
//! own.
//!
//! A [`World`] runs services as a program does: the same hosts, dispatcher, views and retries.
//! Only what stands around them is simulated. Time passes when the test says so, the log is in
//! memory, and messages between services and calls to third parties get lost, late or doubled
//! on demand. Everything runs on one thread and follows from one seed.
//!
//! Tests of a single entity, view, process or saga are in `anabranch_domain::testkit`.

mod faults;
mod idle;
mod life;
mod message;
mod provider;
mod service;
mod sky;
mod world;

pub use faults::{CrashPoint, Faults, HoldId};
pub use message::Message;
pub use provider::Provider;
pub use service::Service;
pub use world::{Answer, World};
