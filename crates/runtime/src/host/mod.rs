//! The keyed host: many state machines, each with a key and a stream, on a few tasks.
//!
//! A *shard* is one task that owns the machines of many keys. It decides over state in memory
//! and does not wait for the log: while one batch of a machine's events becomes durable, the
//! next is decided and gathered. What follows from a batch is answered and sent when it is
//! durable.
//!
//! Three rules keep this right:
//!
//! * A machine has one append in flight, and its condition is the version that the decisions
//!   began at. So a second writer is found out before anything is built on its absence: with
//!   two appends in flight, the second could hold although the first did not.
//! * What was decided over events that are not durable yet, a rejection too, is answered only
//!   when they are. When they cannot be written, memory is dropped, read from the log again,
//!   and everything that is unanswered is decided again.
//! * The ids of a command's events follow from the command's id, so the log itself remembers
//!   every command that ever recorded something, for ever. A command that records nothing is
//!   checked against that memory before it is answered. A refusal of a plain command changes
//!   nothing and is kept in memory only, for a while: repeated after a restart, the command is
//!   decided again. A refusal that a saga has to rely on is recorded.
//!
//! Entities, processes and sagas are *kinds* of such machines. A kind is a [`Kind`] and a
//! [`Machine`]: all that the host knows of a user's types. So this code is compiled once, and
//! not in the crate of each service.

mod append;
mod commands;
mod decide;
mod desk;
mod item;
mod kind;
mod life;
mod load;
mod mailbox;
mod out;
mod outcome;
mod recall;
mod rejections;
mod send;
mod shard;
mod shared;
mod slot;
mod status;
mod timers;

pub use desk::{Desk, Draft, Made, Undecided, Verdict};
pub use item::{Ask, Item};
pub use kind::{Drive, Kind, Machine, Standing};
pub use load::{LoadError, load_from_events, load_newest};
pub use mailbox::Host;
pub use out::{Input, Out, Outbox};
pub use recall::content_of;
pub use shard::{Message, Touched};
pub use shared::{HostOptions, HostParts, Shared, shards_default};
pub use status::{Accepted, Description, HeldEvent, InstanceStatus, Recorded, Status};
