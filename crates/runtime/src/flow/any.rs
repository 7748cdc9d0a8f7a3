//! A process or saga, whatever its type.

use anabranch_domain::{CommandEnvelope, Cut, ReplyEnvelope, StreamId};
use anabranch_log::BoxFuture;

use crate::host::InstanceStatus;
use crate::send_error::SendError;

/// The instances of one process or saga, whatever its type: what dispatchers and operators use.
pub trait AnyFlow: Send + Sync {
    /// The process's or the saga's name.
    fn name(&self) -> &'static str;

    /// Takes a command to an instance: starts, aborts, resumes or settles a saga. Answers when
    /// what follows from it is durable.
    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// Takes an answer to something that an instance has sent.
    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>>;

    /// The instances that have not ended, and those that are parked.
    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>>;

    /// One instance, from its journal, and whether it is parked here.
    fn show(&self, stream: StreamId) -> BoxFuture<'_, InstanceStatus>;

    /// Tries a parked instance again; false if it was not parked. What it has missed is
    /// consumed again.
    fn retry(&self, stream: StreamId) -> BoxFuture<'_, bool>;

    /// Why no more events are consumed, if that is so.
    fn stopped(&self) -> Option<String>;

    /// How far everything that it listens to was consumed, and what followed is durable.
    fn consumed(&self) -> Cut;

    /// Passes over the event that cannot be consumed; false if there is none.
    fn skip(&self) -> bool;

    /// Tries again to consume the event that cannot be consumed; false if there is none.
    fn consume_again(&self) -> bool;

    /// Stops, and keeps the place to begin at.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Stops at once, as a crash would.
    fn kill(&self);
}
