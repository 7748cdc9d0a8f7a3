//! The log: durable, immutable, ordered events that anyone may read and replay.
//!
//! [`Log`] is the contract that every engine keeps. [`MemoryLog`] is the engine for tests
//! and for trying things out. [`PartitionedLog`] makes one log of several of any engine. The `conformance` feature holds the suite that every engine
//! runs.
//!
//! Three promises shape the contract:
//!
//! * A batch is atomic: all of it or nothing, visible together.
//! * An append is idempotent: repeating it with the same event ids returns the places of
//!   the first time.
//! * A reader gets contiguous positions, and never an event that is not yet durable.
//!
//! # Example
//!
//! ```
//! use anabranch_env::Env;
//! use anabranch_log::{Append, Expect, Log, MemoryLog, Order, ReadMode, VersionRange};
//! use anabranch_model::{Cut, EventId, Filter, NewEvent, StreamId};
//!
//! # futures_executor::block_on(async {
//! let log = MemoryLog::new(Env::os());
//!
//! // Append an event if its stream is new.
//! let order: StreamId = "order/536365".parse()?;
//! let placed = NewEvent::new(
//!     EventId::from_u128(1),
//!     order.clone(),
//!     "OrderPlaced".parse()?,
//!     r#"{"total": 15.30}"#,
//! );
//! let append = Append::event(placed).expect(order.clone(), Expect::Empty);
//! let appended = log.append(append.clone()).await?;
//! assert_eq!(appended.places[0].version, 0);
//!
//! // Whoever does not know whether it arrived repeats it.
//! let again = log.append(append).await?;
//! assert!(again.repeated);
//! assert_eq!(again.places, appended.places);
//!
//! // Read the stream.
//! let mut events = log.read_stream(&order, VersionRange::ALL, Order::Forward);
//! while let Some(event) = events.next().await {
//!     assert_eq!(event?.event_type(), "OrderPlaced");
//! }
//!
//! // Follow a category: what there is, then what comes.
//! let mut orders = log.read(&Cut::start(), Filter::category("order"), ReadMode::Follow);
//! let first = orders.next().await.expect("a follower does not end")?;
//! assert_eq!(first.stream(), "order/536365");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
pub mod copy;
mod error;
mod expect;
mod layout;
mod memory;
mod partitioned;
pub mod relayout;
mod stream;

pub use contract::{
    Append, Appended, Capabilities, Condition, Log, Order, Placed, ReadMode, Scope, VersionRange,
};
pub use error::{AppendError, OpenError, ReadError, Rejection};
pub use expect::Expect;
pub use layout::{Group, Layout, LayoutError, PARTITIONS_MAX};
pub use memory::MemoryLog;
pub use partitioned::{
    CausalClock, CausalIndex, Dependency, MergeLane, PartitionedLog, in_order_of_time, merged,
    merged_backward,
};
pub use stream::{BatchSource, BoxFuture, EventStream, all_of};
