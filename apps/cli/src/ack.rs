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

impl Ack<'_> {
    /// Appends the acknowledgement as a line of JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Texts and numbers always have a JSON form, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }
}
