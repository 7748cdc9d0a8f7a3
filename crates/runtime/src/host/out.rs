//! What goes into a machine, and what comes out.

use std::any::Any;

use anabranch_domain::{CallEnvelope, CommandEnvelope, ReplyEnvelope, Role, StreamId, Timestamp};

/// Something that reaches a machine. Its kind knows the type.
pub type Input = Box<dyn Any + Send>;

/// One thing to do once the events that say so are durable.
pub enum Out {
    /// Send a command.
    Command(CommandEnvelope),
    /// Call the world outside.
    Call(CallEnvelope, Role),
    /// Wake the machine.
    Timer(Timestamp, Input),
    /// Answer who waits for the machine.
    Reply(ReplyEnvelope),
    /// The machine has ended: receivers may forget what they remember for it.
    Ended,
}

/// Takes what machines send.
pub trait Outbox: Send + Sync {
    /// Sends what is no timer. `again` says that an earlier runtime may have sent it.
    fn send(&self, from: &StreamId, out: Out, again: bool);

    /// Tells a receiver that it may forget what it remembers for a machine that has ended.
    fn forget(&self, receiver: &StreamId, from: &StreamId);
}
