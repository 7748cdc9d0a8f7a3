//! What an event of a line is, and why it is none.

use anabranch_log::Expect;
use anabranch_model::NewEvent;

/// An event read from a line, and what its stream must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// The event.
    pub event: NewEvent,
    /// The state that its stream must be in just before it.
    pub expect: Expect,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// An event to append.
    Event(EventLine),
    /// An event of the platform itself, from another log. It tells of that log, so it has no
    /// place in this one.
    OfPlatform,
}

/// Why a line is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

/// `any`, `empty`, `exists`, or the version that the last event has.
pub fn parse_expect(text: &str) -> Result<Expect, String> {
    match text {
        "any" => Ok(Expect::Any),
        "empty" => Ok(Expect::Empty),
        "exists" => Ok(Expect::Exists),
        _ => text.parse().map(Expect::At).map_err(|_| {
            let first = match text.starts_with('-') {
                true => "; a stream without events is empty, and the first event has version 0",
                false => "",
            };
            format!("{text:?} is not any, empty, exists or the version of the last event{first}")
        }),
    }
}
