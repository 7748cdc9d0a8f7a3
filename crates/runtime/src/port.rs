//! The one way to a service: a value goes in and a value comes out.
//!
//! Whoever sends commands, asks views or answers an instance holds a [`Port`]. In one process it
//! is a function call; to another process it is whatever carries values there. What is sent names
//! what it is for, and [`Request::subject`] says so in one place: who owns that, a
//! [`Fleet`](crate::Fleet) knows.

use std::time::Duration;

use anabranch_domain::{CommandEnvelope, Json, Query, ReplyEnvelope, StreamId, View as _};
use anabranch_log::{BoxFuture, Expect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::host::Accepted;
use crate::send_error::SendError;
use crate::view::{Answer, Consistency, JsonAnswer, QueryError, Question};

/// Takes requests to what is hosted here, or behind it.
///
/// A request may be carried out though its answer is lost, and may be carried out late: a
/// command that is sent again with its id gives the first outcome, an answer that is brought
/// again changes nothing.
pub trait Port: Send + Sync + 'static {
    /// Carries a request out, and gives what became of it.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>>;
}

/// The usual requests, as calls.
impl dyn Port {
    /// Sends a command.
    pub async fn deliver(&self, dispatch: impl Into<Dispatch>) -> Result<Delivered, SendError> {
        match self.call(Request::command(dispatch)).await {
            Ok(Reply::Delivered(delivered)) => Ok(delivered),
            Ok(_) => Err(Problem::Strange.of_send()),
            Err(problem) => Err(problem.of_send()),
        }
    }

    /// Brings an answer to a process or saga.
    pub async fn answer(&self, reply: ReplyEnvelope) -> Result<(), SendError> {
        let heard = self.call(Request::answer(reply)).await;
        heard.map(drop).map_err(Problem::of_send)
    }

    /// Asks a view.
    pub async fn ask(&self, ask: Ask) -> Result<JsonAnswer, Problem> {
        match self.call(Request::Query(Box::new(ask))).await? {
            Reply::Shown(answer) => Ok(answer),
            _ => Err(Problem::Strange),
        }
    }

    /// Asks a view by the query's own type.
    pub async fn query<Q>(
        &self,
        query: &Q,
        consistency: Consistency,
    ) -> Result<Answer<Q::Answer>, Problem>
    where
        Q: Query + Serialize,
        Q::Answer: DeserializeOwned,
    {
        let malformed = |reason: String| QueryError::Malformed {
            query: Q::NAME.to_owned(),
            reason,
        };
        let question = Json::of(query).map_err(|error| malformed(error.to_string()))?;
        let ask = Ask {
            view: Q::View::NAME.to_owned(),
            query: Q::NAME.to_owned(),
            question: question.into(),
            consistency,
        };
        let answer = self.ask(ask).await?;
        let value = answer.value.parse();
        Ok(Answer {
            value: value.map_err(|error| malformed(error.to_string()))?,
            cut: answer.cut,
            stale: answer.stale,
        })
    }
}

/// What a service is asked.
#[derive(Debug, Clone)]
pub enum Request {
    /// Do this: to an entity or a saga.
    Command(Box<Dispatch>),
    /// What does a view show?
    Query(Box<Ask>),
    /// Here is the answer that a process or saga waits for.
    Answer(Box<ReplyEnvelope>),
    /// A saga has ended: an entity may forget what it remembers for it. Not told, it remembers
    /// for longer.
    Forget {
        /// The entity.
        at: StreamId,
        /// The saga.
        saga: StreamId,
    },
}

/// A command on its way. What the sender had seen and the story that it belongs to stand in the
/// envelope.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The command.
    pub command: CommandEnvelope,
    /// How long it may take; `None`: as the entity's options say.
    pub timeout: Option<Duration>,
    /// The state that the entity is expected to be in; `None`: any. Sagas take none.
    pub expect: Option<Expect>,
}

impl From<CommandEnvelope> for Dispatch {
    fn from(command: CommandEnvelope) -> Self {
        Self {
            command,
            timeout: None,
            expect: None,
        }
    }
}

impl Request {
    /// The request to do this.
    pub fn command(dispatch: impl Into<Dispatch>) -> Self {
        Self::Command(Box::new(dispatch.into()))
    }

    /// The request to bring this answer.
    pub fn answer(reply: ReplyEnvelope) -> Self {
        Self::Answer(Box::new(reply))
    }

    /// What it is for.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::Command(dispatch) => Subject::Category(dispatch.command.to.category()),
            Self::Query(ask) => Subject::View(&ask.view),
            Self::Answer(reply) => Subject::Category(reply.to.category()),
            Self::Forget { at, .. } => Subject::Category(at.category()),
        }
    }
}

/// A question on its way.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The view.
    pub view: String,
    /// The query's name.
    pub query: String,
    /// The query's fields.
    pub question: Question,
    /// What the asker has seen, and what to do while the view is behind.
    pub consistency: Consistency,
}

/// What a request is for: something that one service owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The entities, the process or the saga of this category.
    Category(&'a str),
    /// The process or saga of this name.
    Process(&'a str),
    /// The view of this name.
    View(&'a str),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The command was delivered.
    Delivered(Delivered),
    /// The view's answer.
    Shown(JsonAnswer),
    /// It was heard; nothing is to be said about it.
    Heard,
}

/// Why a request was not carried out. It says whether it may have been.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// Of a command, or of an answer to an instance.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Of a query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The port answered something else than was asked: a fault of the port.
    #[error("the port answered something else than was asked")]
    Strange,
}

anabranch_model::debug_is_words!(Problem);

impl Problem {
    /// The same as why a command was not acknowledged.
    pub fn of_send(self) -> SendError {
        match self {
            Self::Send(error) => error,
            other => SendError::Unknown {
                reason: other.to_string(),
            },
        }
    }
}

/// What became of a command that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// An entity has done it.
    Done(Accepted),
    /// A saga has taken it, durably; who waits for the outcome gets a reply when it ends.
    Taken,
}
