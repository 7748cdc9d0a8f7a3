//! The keyed host: many state machines, each with a key and a stream, on a few tasks.
//!
//! A *shard* is one task that owns the machines of many keys. It decides over state in memory and
//! does not wait for the log: while one batch of a machine's events becomes durable, the next is
//! decided and gathered. What follows from a batch is answered and sent when it is durable.
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
//!   checked against that memory before it is answered. What becomes of a command that may come
//!   again is recorded too, beside the entity's stream if nothing has happened to it, and in it
//!   if a saga has to rely on it.
//!
//! Entities, processes and sagas are *kinds* of machines: a [`Kind`] and a [`Machine`] are all that
//! the host knows of a user's types. So this code is not compiled in the crate of each service.

mod append;
mod commands;
mod desk;
mod item;
mod kind;
mod life;
mod load;
mod mailbox;
mod outcome;
mod recall;
mod send;
mod shard;
mod shared;
mod slot;
mod status;
mod timers;

pub use commands::recorded;
pub use desk::{Desk, Made, Verdict, drafts};
pub use item::{Ask, Input, Item, Key, Out, Outbox, SendOptions};
pub use kind::{About, Drive, Kind, Machine, Standing};
pub use load::{LoadError, load_from_events, load_newest};
pub use mailbox::Host;
pub use recall::{first_outcome, nothing_new};
pub use send::decide;
pub use shard::{Done, Shard, Touched};
pub use shared::{HostOptions, HostParts, Shared};
pub use slot::{Live, State};
pub use status::{Accepted, Description, HeldEvent, InstanceStatus, Recorded, Status};
