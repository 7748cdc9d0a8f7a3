//! What goes between a running service and its clients, as types.
//!
//! The server answers with these types and every client reads with them, so that a compiler
//! stands between the two. Their JSON Schemas, and the OpenAPI document that [`openapi`]
//! makes, come from the same types: clients in other languages share them too.
//!
//! Three rules hold for all of them:
//!
//! * A program decides on fields, never on words. A [`Problem`] says by [`Happened`] whether
//!   anything was done, and by `retry_after_ms` when to try again.
//! * JSON that belongs to a service (a command's data, a state, an answer) passes as [`Raw`],
//!   word for word: no number is rounded on the way.
//! * A reader passes over fields that it does not know, in answers; in requests it refuses
//!   them, because a field that does nothing is a mistake.
//!
//! ```
//! use anabranch_wire::{Happened, Problem};
//!
//! let answer = r#"{"code":"unknown","status":504,"detail":"no answer","happened":"maybe"}"#;
//! let problem: Problem = serde_json::from_str(answer)?;
//! assert_eq!(problem.happened, Happened::Maybe);
//! # Ok::<_, serde_json::Error>(())
//! ```

mod command;
mod event;
pub mod openapi;
mod operate;
mod peer;
mod problem;
mod query;
mod raw;

pub use command::{
    CommandBody, CommandOutcome, Expected, ListOutcome, ListedCommand, RecordedEvent, SagaEnded,
    SagaOutcome,
};
pub use event::{AppendedEvent, EventsAppended, LiveMessage, LiveRequest};
pub use operate::*;
pub use peer::*;
pub use problem::{Happened, Problem, ProblemParts, Rejection};
pub use query::QueryAnswer;
pub use raw::Raw;

/// The media type of bytes of a file.
pub const BYTES: &str = "application/octet-stream";

/// The media type of answers.
pub const JSON: &str = "application/json";

/// The media type of problems (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The header by which a reader of server-sent events says which it had last.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// The media type of a CloudEvent in structured mode.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The media type of a batch of CloudEvents.
pub const CLOUD_EVENT_BATCH: &str = "application/cloudevents-batch+json";

/// The header that holds the token of a lease: what is appended to a category that a service owns
/// needs it.
pub const LEASE_HEADER: &str = "anabranch-lease";

/// The header by which a service that asks another one says which it is. Where callers are asked who they are, the key beside
/// it proves that.
pub const SERVICE_HEADER: &str = "anabranch-service";

/// The header that holds a token, both ways: what a client has written and seen.
pub const TOKEN_HEADER: &str = "anabranch-token";

/// The header that says what a command depends on: positions of events and tokens with commas between,
/// such as `3:17, TOKEN`, or `root` for nothing.
pub const CAUSES_HEADER: &str = "anabranch-causes";

/// The header that says what a query does when the view is behind: `wait=5s`, `fail` or
/// `stale`.
pub const POLICY_HEADER: &str = "anabranch-policy";

/// The header that says `true` when an answer lacks something that the client has seen.
pub const STALE_HEADER: &str = "anabranch-stale";

/// The header by which a request says which log it means, and every answer which log it is
/// about. A server of another log refuses the request.
pub const LOG_HEADER: &str = "anabranch-log";

/// The header that names the command: sending it again gives the first outcome.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
