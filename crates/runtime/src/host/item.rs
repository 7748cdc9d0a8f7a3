//! What goes into a machine, on its way through a shard, and what comes out.

use std::any::Any;
use std::time::Duration;

use anabranch_domain::{
    Asked, CallEnvelope, CommandEnvelope, CommandId, ReplyEnvelope, Role, Timestamp,
};
use anabranch_log::Expect;
use anabranch_model::{Cut, StreamId};
use tokio::sync::oneshot;
use tracing::Span;

use super::status::Accepted;
use crate::feed::Ticket;
use crate::send_error::SendError;

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

    /// Whether a command that was sent is on its way: another attempt has no effect.
    fn is_sending(&self, id: CommandId) -> bool;

    /// Tells a receiver that it may forget what it remembers for a machine that has ended.
    fn forget(&self, receiver: &StreamId, from: &StreamId);
}

/// What became of an input.
pub type Outcome = Result<Accepted, SendError>;

/// An input on its way, and who waits for it to be durable.
pub struct Item {
    pub input: Input,
    /// What a command says about itself. Who has sent it is told whatever becomes of it; an
    /// input that is no command is kept until what follows from it is durable.
    pub ask: Option<Ask>,
    /// The id that somebody outside has given it, if it is no command to an entity.
    pub id: Option<CommandId>,
    /// The event that was brought by the feed.
    pub ticket: Option<Ticket>,
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// What it depends on, if it is no command to an entity.
    pub causes: Cut,
    /// Also send again everything that is not answered.
    pub resume: bool,
    /// Shares no append with others: the log has refused one that it was in.
    pub alone: bool,
    /// How often it was decided in vain, because others wrote.
    pub attempts: u32,
}

/// How a command is sent.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// Its id; `None`: a new one. Sending the same id again gives the first outcome.
    pub id: Option<CommandId>,
    /// How long it may take; `None`: as the entity's options say.
    pub timeout: Option<Duration>,
    /// The state that the entity is expected to be in; `None`: any.
    pub expect: Option<Expect>,
    /// Id of the whole story it belongs to; `None`: the story begins with it and has its id.
    pub correlation_id: Option<String>,
    /// W3C trace context of who sends it; it is stored with the events.
    pub traceparent: Option<String>,
    /// The part that it plays in a saga.
    pub role: Role,
    /// The saga, or process, that waits for the outcome.
    pub reply_to: Option<StreamId>,
    /// What the sender had seen.
    pub causes: Cut,
}

/// What a command says about itself.
pub struct Ask {
    /// Its own, or a new one.
    pub id: CommandId,
    pub options: SendOptions,
    /// A hash of the command, if an id that was given could come with another command.
    pub content: Option<u64>,
    /// When it came, on the monotonic clock.
    pub arrived: Duration,
    /// When its time is up, on the monotonic clock.
    pub deadline: Duration,
    /// Its span, if anybody wants one.
    pub span: Span,
}

/// Which command it is.
#[derive(Debug, Clone)]
pub struct Key {
    pub stream: StreamId,
    pub id: CommandId,
    pub content: Option<u64>,
}

impl Key {
    /// Whether both name one command, as far as is known.
    pub fn is_same(&self, other: &Self) -> bool {
        let contents = self.content.zip(other.content);
        self.stream == other.stream && contents.is_none_or(|(one, two)| one == two)
    }
}

impl Ask {
    pub fn key(&self, stream: &StreamId) -> Key {
        Key {
            stream: stream.clone(),
            id: self.id,
            content: self.content,
        }
    }

    /// Whether what becomes of it is written down even if it records nothing: who has given its
    /// id may send it again.
    pub fn is_settled(&self) -> bool {
        self.options.id.is_some() && self.options.role.is_plain()
    }

    pub const fn asked(&self) -> Asked<'_> {
        Asked {
            id: self.id,
            role: &self.options.role,
            reply_to: self.options.reply_to.as_ref(),
        }
    }
}

impl Item {
    /// An input for which nobody waits.
    pub fn plain(input: Input) -> Box<Self> {
        Box::new(Self {
            input,
            ask: None,
            id: None,
            ticket: None,
            reply: None,
            causes: Cut::start(),
            resume: false,
            alone: false,
            attempts: 0,
        })
    }

    /// Whether who has sent it is told when it cannot be done now.
    pub const fn is_told(&self) -> bool {
        self.ask.is_some()
    }

    /// Ends its way. What is not an answer gives the event back to the feed.
    pub fn end(self, outcome: Outcome) {
        if let Some(ticket) = self.ticket
            && matches!(outcome, Ok(_) | Err(SendError::Rejected(_)))
        {
            ticket.done();
        }
        if let Some(reply) = self.reply {
            // Who no longer listens does not want the answer.
            drop(reply.send(outcome));
        }
    }
}
