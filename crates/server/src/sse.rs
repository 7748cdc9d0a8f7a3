//! Events of a read as the bytes of server-sent events.
//! Source: WHATWG HTML, "Server-sent events", section 9.2.
//!
//! Each event is a CloudEvent on one `data:` line. Its `id:` is the token of the place behind it,
//! so that a reader that comes again with the last one misses nothing and gets nothing twice.
//! Nothing is read from the log before the connection has room for what was read last.

use std::convert::Infallible;
use std::time::Duration;

use anabranch_access::{Caller, Verb};
use anabranch_log::{EventStream, ReadError};
use anabranch_model::record::RecordError;
use anabranch_model::{Cut, Event, EventBatchIntoIter, Reach, write_cloud_event};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::allowed;
use crate::refusal::Refusal;
use crate::session::token_of;
use crate::shared::Shared;
use crate::story::is_of;

/// How often something is said where there are no events, so that both ends see that the other
/// is there.
const BEAT: Duration = Duration::from_secs(15);

/// When a reader whose connection has ended comes again, in milliseconds.
const RETRY: &str = "retry: 1000\n";

/// How much is made of the events at hand at a time, and one event.
const CHUNK_BYTES: usize = 32 << 10;

/// A read under way.
pub struct EventSource {
    shared: Shared,
    /// Who reads: what it may not read is not given.
    caller: Caller,
    events: EventStream,
    /// Only events of this story.
    story: Option<String>,
    /// Everything wanted in it was given.
    place: Cut,
    /// The place that the reader was told last.
    told: Cut,
    /// What was read and not given.
    at_hand: Option<(EventBatchIntoIter, Option<Reach>)>,
    /// Everything wanted in it was given when the read ends.
    until: Cut,
    beat_at: Duration,
    stopping: watch::Receiver<bool>,
    state: State,
    _room: OwnedSemaphorePermit,
}

#[derive(PartialEq)]
enum State {
    Begins,
    Goes,
    HasEnded,
}

/// What comes next.
enum Next {
    Events,
    Head,
    Failed(ReadError),
    Beat,
    Stop,
    /// The reader's key is good no more.
    Dismissed,
}

impl EventSource {
    /// Gives what `events` has behind `from`, until `until` if they end, and holds its room until the
    /// reader goes away.
    pub fn new(
        shared: &Shared,
        caller: Caller,
        events: EventStream,
        (from, until): (Cut, Cut),
        story: Option<String>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            beat_at: shared.time.monotonic() + BEAT,
            stopping: shared.stopping.clone(),
            shared: shared.clone(),
            caller,
            events,
            story,
            told: from.clone(),
            place: from,
            at_hand: None,
            until,
            state: State::Begins,
            _room: room,
        }
    }

    /// The bytes, as far as somebody takes them.
    pub fn chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        futures_util::stream::unfold(self, |mut source| async move {
            let chunk = source.chunk().await?;
            Some((Ok(chunk.into()), source))
        })
    }

    /// The next bytes; `None` at the end.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::HasEnded => return None,
            State::Begins => {
                self.state = State::Goes;
                // Where it begins, too: who comes again before the first event begins there.
                return Some(format!("{RETRY}id: {}\n\n", self.token()).into());
            }
            State::Goes => {}
        }
        loop {
            match self.next().await {
                Next::Events => {
                    let chunk = match self.write() {
                        Ok(chunk) => chunk,
                        Err(error) => return Some(self.end(failed(&error))),
                    };
                    if !chunk.is_empty() {
                        self.beat_at = self.shared.time.monotonic() + BEAT;
                        return Some(chunk);
                    }
                    // Nothing in it is wanted. Others are let in between, and the reader hears
                    // of it when it is time.
                    tokio::task::yield_now().await;
                    if self.shared.time.monotonic() >= self.beat_at {
                        return Some(self.beat());
                    }
                }
                Next::Beat => return Some(self.beat()),
                Next::Head => {
                    self.place.join(&self.until);
                    let place = &self.place;
                    let end = format!("event: head\nid: {}\ndata: {place}\n\n", self.token());
                    return Some(self.end(end));
                }
                Next::Failed(error) => {
                    return Some(self.end(failed(&error)));
                }
                Next::Dismissed => {
                    let no_more = Refusal::new(
                        StatusCode::UNAUTHORIZED,
                        "unauthenticated",
                        allowed::NO_MORE,
                    );
                    return Some(self.end(problem(&no_more)));
                }
                Next::Stop => return Some(self.end(format!(": the server stops\n{RETRY}\n"))),
            }
        }
    }

    /// Waits for events, unless some are at hand.
    async fn next(&mut self) -> Next {
        if self.at_hand.is_some() {
            return Next::Events;
        }
        let read = Box::pin(self.events.next_batch());
        let stopped = Box::pin(self.stopping.wait_for(|is_stopping| *is_stopping));
        let late = self.shared.time.sleep_until(self.beat_at);
        match select(read, select(stopped, late)).await {
            Either::Left((Some(Ok(_)), _)) if !self.shared.is_still_known(&self.caller) => {
                Next::Dismissed
            }
            Either::Left((Some(Ok(batch)), _)) => {
                let reach = batch.reach();
                self.at_hand = Some((batch.into_iter(), reach));
                Next::Events
            }
            Either::Left((Some(Err(error)), _)) => Next::Failed(error),
            Either::Left((None, _)) => Next::Head,
            Either::Right((Either::Left(_), _)) => Next::Stop,
            Either::Right((Either::Right(_), _)) => Next::Beat,
        }
    }

    /// A part of what is at hand.
    fn write(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES
            && let Some((events, reach)) = &mut self.at_hand
        {
            match events.next() {
                Some(event) => {
                    let event = event.map_err(|error| unreadable(&error))?;
                    self.give(&event, &mut out)
                        .map_err(|error| unreadable(&error))?;
                }
                None => {
                    if let Some(Reach { partition, offsets }) = reach.take() {
                        let end = self.place.get(partition).max(offsets.end);
                        self.place.set(partition, end);
                    }
                    self.at_hand = None;
                }
            }
        }
        Ok(out)
    }

    fn give(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.place.join(&Cut::including(event.position));
        let event = event.as_ref();
        if !self.caller.may(Verb::Read, event.category()) || !is_of(&event, self.story.as_deref())?
        {
            return Ok(());
        }
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(self.token().as_bytes());
        out.extend_from_slice(b"\ndata: ");
        write_cloud_event(&event, out)?;
        out.extend_from_slice(b"\n\n");
        self.told.clone_from(&self.place);
        Ok(())
    }

    /// A comment; and where the reader is by now, if events that it does not want have passed.
    fn beat(&mut self) -> Vec<u8> {
        self.beat_at = self.shared.time.monotonic() + BEAT;
        if self.told == self.place {
            return b": nothing new\n\n".to_vec();
        }
        self.told.clone_from(&self.place);
        format!(": nothing new\nid: {}\n\n", self.token()).into()
    }

    fn token(&self) -> String {
        token_of(&self.shared.seal, &self.place)
    }

    fn end(&mut self, said: impl Into<Vec<u8>>) -> Vec<u8> {
        self.state = State::HasEnded;
        said.into()
    }
}

fn unreadable(error: &RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}

/// The answer has begun well, so what went wrong comes as an event of its own.
fn failed(error: &ReadError) -> String {
    problem(&Refusal::from(error.clone()))
}

fn problem(refusal: &Refusal) -> String {
    // A problem has a JSON form, on one line; a test of the wire types says so.
    let problem = serde_json::to_string(&refusal.problem).unwrap_or_default();
    format!("event: problem\ndata: {problem}\n\n")
}
