//! The crash checker: cuts the power under a log, many thousand times, and compares what
//! is left with what was acknowledged.
//!
//! It stands outside the engines and shares no code with them. A [`Model`] holds what
//! clients were told: which events are acknowledged and where, which may have been
//! written, which were refused. A run ([`run`]) is made from one seed: several clients
//! append, read and follow on a simulated disk until the power is cut or the process is
//! killed, in the midst of a call, in the midst of a recovery; then the log is opened
//! again and read, and the model is asked whether it may look so.
//!
//! What is checked:
//!
//! * every acknowledged event is there: same bytes, same position, same version;
//! * so is every event that a reader has seen;
//! * nothing is there that was never submitted, was refused, or was found missing before;
//! * a batch is there whole or not at all; positions and versions have no gaps;
//! * the conditions of every batch held where it stands;
//! * repeating an append answers the places of the first time;
//! * an honest disk never makes the log refuse to open, however it was cut off;
//! * a damaged log gives no wrong event and hides no loss.
//!
//! A log with several partitions is checked by [`run_partitioned`], also behind a network that loses,
//! delays and doubles what passes.
//!
//! [`reference::Reference`] is a log so simple that it is plainly right, with switches
//! that make it wrong: it tests the checker.

mod campaign;
mod careless;
mod check;
mod clients;
mod damage;
mod directed;
mod engine;
mod follower;
mod life;
mod matching;
mod model;
mod partitioned;
mod poll;
pub mod reference;
mod run;
mod segment;
mod violation;
mod workload;
mod world;

pub use campaign::{Campaign, Failed, Totals};
pub use careless::Flaw;
pub use directed::directed;
pub use engine::{Engine, Machine};
pub use model::Model;
pub use partitioned::{Counts, Trouble, run_partitioned};
pub use run::run;
pub use segment::Segment;
pub use violation::{Violation, Wrong};
pub use world::{Report, Settings};
