//! What is said about an event that is in the log.

use anabranch::model::{EventId, Position};
use serde::Serialize;

/// One acknowledged event, as `append` and `import --acks` print it.
#[derive(Debug, Serialize)]
pub struct Ack<'a> {
    /// In the log.
    pub position: Position,
    /// The stream.
    pub stream: &'a str,
    /// In the stream.
    pub version: u64,
    /// The event's id.
    pub id: EventId,
}
