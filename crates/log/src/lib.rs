//! The log: durable, immutable, ordered events that anyone may read and replay.
//!
//! [`Log`] is the contract that every engine keeps. [`MemoryLog`] is the engine for tests
//! and for trying things out. The `conformance` feature holds the suite that every engine
//! runs.
//!
//! Three promises shape the contract:
//!
//! * A batch is atomic: all of it or nothing, visible together.
//! * An append is idempotent: repeating it with the same event ids returns the places of
//!   the first time.
//! * A reader gets contiguous positions, and never an event that is not yet durable.

#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod error;
mod memory;
mod stream;

pub use contract::{
    Append, Appended, AtomicBatches, Capabilities, Condition, Expect, Log, Order, Placed, ReadMode,
    VersionRange,
};
pub use error::{AppendError, OpenError, ReadError, Rejection};
pub use memory::MemoryLog;
pub use stream::{BatchSource, BoxFuture, EventStream};
