//! Reads and parses lines on a thread of its own, a bounded number ahead of the log.

use std::thread;

use anabranch::log::Expect;
use anabranch::model::{EventId, LimitError, Limits, NewEvent};
use anabranch_event_json::Parsed;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_128;

use crate::failure::{Exit, Failure, InputPlace};
use crate::input::{Input, LineFault};

/// A chunk is sent on when it has this many bytes of lines.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait for the log.
const CHUNKS_WAITING: usize = 4;

/// One line of the input, parsed.
#[derive(Debug, Clone)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// How much the event adds to the bytes of a batch.
    pub event_bytes: usize,
    /// The event.
    pub event: NewEvent,
    /// The state that its stream must be in just before it.
    pub expect: Expect,
}

/// What the thread sends, in the order of the input.
pub enum Fed {
    /// The next lines.
    Lines(Vec<Line>),
    /// A line that is no event; nothing follows.
    Bad(Failure),
    /// The end of the input. So many events of the platform were left out.
    End(u64),
}

/// Starts to read `input`.
pub fn start(input: Input, limits: Limits, source: &str) -> Result<mpsc::Receiver<Fed>, Failure> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let reader = Reader {
        ids: LineIds::new(source),
        left_out: 0,
        input,
        limits,
        sender,
    };
    thread::Builder::new()
        .name("import-reader".to_owned())
        .spawn(move || reader.run())
        .map_err(|error| {
            Failure::new(
                Exit::Failed,
                "io",
                format!("cannot start a thread: {error}"),
            )
        })?;
    Ok(receiver)
}

/// The longest line that can hold an event: data as text with every character escaped.
pub fn line_bytes_max(limits: &Limits) -> usize {
    limits
        .data_bytes_max
        .saturating_add(limits.headers_bytes_max)
        .saturating_mul(6)
        .saturating_add(16 << 10)
}

struct Reader {
    input: Input,
    limits: Limits,
    ids: LineIds,
    left_out: u64,
    sender: mpsc::Sender<Fed>,
}

impl Reader {
    fn run(mut self) {
        let (mut chunk, mut chunk_bytes, mut line) = (Vec::new(), 0, Vec::new());
        let bytes_max = line_bytes_max(&self.limits);
        let last = loop {
            // What somebody is still writing is passed on before we wait for more of it.
            let pause = self.input.is_live && self.input.may_wait();
            if !chunk.is_empty() && (pause || chunk_bytes >= CHUNK_BYTES) {
                chunk_bytes = 0;
                let full = std::mem::take(&mut chunk);
                if self.sender.blocking_send(Fed::Lines(full)).is_err() {
                    return;
                }
            }
            match self.input.next_line(&mut line, bytes_max) {
                Ok(true) => {}
                Ok(false) => break Fed::End(self.left_out),
                Err(fault) => break Fed::Bad(self.fault(fault)),
            }
            match self.parse(&line) {
                Ok(Some(parsed)) => chunk.push(parsed),
                Ok(None) => self.left_out += 1,
                Err(failure) => break Fed::Bad(failure),
            }
            chunk_bytes += line.len();
        };
        // If nobody listens any more, the command has ended.
        if chunk.is_empty() || self.sender.blocking_send(Fed::Lines(chunk)).is_ok() {
            let _ = self.sender.blocking_send(last);
        }
    }

    /// The event of a line; none if it is one of the platform.
    fn parse(&mut self, line: &[u8]) -> Result<Option<Line>, Failure> {
        let derived_id = self.ids.next(line);
        let parsed = anabranch_event_json::parse(line, derived_id)
            .map_err(|error| self.bad_line("bad-line", Some(error.column), error.reason))?;
        let Parsed::Event(parsed) = parsed else {
            return Ok(None);
        };
        let event_bytes = self
            .limits
            .check_event(0, &parsed.event)
            .map_err(|error| self.bad_line("limit", None, limit_text(&error)))?;
        Ok(Some(Line {
            number: self.input.line_number(),
            event_bytes,
            event: parsed.event,
            expect: parsed.expect,
        }))
    }

    fn fault(&self, fault: LineFault) -> Failure {
        match fault {
            LineFault::TooLong(max) => {
                let reason = format!("the line is longer than {max} bytes, which no event needs");
                self.bad_line("line-too-long", Some(max + 1), reason)
            }
            LineFault::Io(error) => self.bad_line("file", None, format!("cannot read on: {error}")),
        }
    }

    fn bad_line(&self, code: &'static str, column: Option<usize>, reason: String) -> Failure {
        Failure::new(Exit::Failed, code, reason).at(InputPlace {
            file: self.input.name.clone(),
            line: self.input.line_number(),
            column,
        })
    }
}

/// What a limit error says of an event that stands alone.
fn limit_text(error: &LimitError) -> String {
    match error {
        LimitError::DataBytes { bytes, max, .. } => format!(
            "the data has {bytes} bytes; at most {max} are allowed: store large content elsewhere and append a reference"
        ),
        LimitError::HeadersBytes { bytes, max, .. } => {
            format!("the headers and tags have {bytes} bytes; at most {max} are allowed")
        }
        LimitError::Tags { count, max, .. } => {
            format!("the event has {count} tags; at most {max} are allowed")
        }
        LimitError::Name { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// The ids of lines that bring none.
///
/// Each is a hash of the line and of all lines before it. So reading the same input again
/// gives the same ids, also after lines were added at its end or corrected after the last
/// imported one; two equal lines of one input are two events; and inputs that differ are
/// different events, from the first line in which they differ. Inputs that begin alike and
/// still are different events need a `source` of their own.
struct LineIds {
    before: u128,
    buffer: Vec<u8>,
}

impl LineIds {
    fn new(source: &str) -> Self {
        Self {
            before: xxh3_128(source.as_bytes()),
            buffer: Vec::new(),
        }
    }

    fn next(&mut self, line: &[u8]) -> EventId {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.before.to_le_bytes());
        self.buffer.extend_from_slice(line);
        self.before = xxh3_128(&self.buffer);
        EventId::from_hash(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(source: &str, lines: &[&str]) -> Vec<EventId> {
        let mut ids = LineIds::new(source);
        lines.iter().map(|line| ids.next(line.as_bytes())).collect()
    }

    #[test]
    fn the_same_lines_have_the_same_ids() {
        assert_eq!(ids("", &["a", "b"]), ids("", &["a", "b", "c"])[..2]);
        // The ids are part of what users have on their disks: they may never change.
        assert_eq!(
            ids("", &["{\"stream\":\"order/1\"}"])[0].to_string(),
            "72ce9e78-4a8d-8202-8469-cd450e426f18"
        );
    }

    #[test]
    fn equal_lines_and_different_inputs_are_different_events() {
        let same = ids("", &["a", "a"]);
        assert_ne!(same[0], same[1]);
        assert_ne!(ids("", &["a", "b"])[1], ids("", &["x", "b"])[1]);
        assert_ne!(ids("", &["a"]), ids("day 2", &["a"]));
    }
}
