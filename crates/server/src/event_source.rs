//! Events of a read for whoever follows them, in the words of one form or another: server-sent events,
//! messages of a WebSocket.
//!
//! With each event goes the token of the place behind it, so that a reader that comes again with the
//! last one misses nothing and gets nothing twice. Nothing is read from the log before the connection
//! has room for what was read last.

use std::future::pending;
use std::marker::PhantomData;
use std::time::Duration;

use anabranch_log::{EventStream, ReadError};
use anabranch_model::record::RecordError;
use anabranch_model::{Cut, Event, EventBatchIntoIter, EventRef, Reach};
use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::reading::{Gone, Reader, Sight};
use crate::refusal::Refusal;
use crate::session::token_of;
use crate::shared::Shared;
use crate::story::is_of;

/// How often something is said where there are no events, so that both ends see that the other
/// is there.
const BEAT: Duration = Duration::from_secs(15);

/// How much is made of the events at hand at a time, and one event.
const CHUNK_BYTES: usize = 32 << 10;

/// How what a reader hears is written.
pub trait Words {
    /// Where it begins: who comes again before the first event begins there.
    fn begins(token: &str) -> Vec<u8>;
    /// An event, and the place behind it.
    fn event(token: &str, event: &EventRef<'_>, out: &mut Vec<u8>) -> Result<(), RecordError>;
    /// That there is nothing new; and the place, if events that it does not want have passed.
    fn beat(token: Option<&str>) -> Vec<u8>;
    /// That everything was given, and up to where.
    fn head(token: &str, place: &Cut) -> Vec<u8>;
    /// Why the read ends.
    fn problem(refusal: &Refusal) -> Vec<u8>;
    /// That the server stops.
    fn stops() -> Vec<u8>;
}

/// What comes of a read.
pub enum Heard {
    /// Events, or where the reader is.
    Said(Vec<u8>),
    /// That there is nothing new. The other end should be there.
    Beat(Vec<u8>),
    /// The last words, because everything was given or the server stops.
    Last(Vec<u8>, Ends),
}

/// Why a read ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Everything was given.
    AtHead,
    /// The server stops.
    Stops,
    /// The reader may not read any more.
    Dismissed,
    /// The log cannot be read on.
    Failed,
}

/// A read under way.
pub struct EventSource<W> {
    shared: Shared,
    /// Who reads: what it may not read is not given.
    reader: Reader,
    /// What is kept from readers, as it was when the events at hand came.
    sight: Sight,
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
    /// How many events the reader has asked for and not got, if it counts them.
    credits: Option<u64>,
    words: PhantomData<fn() -> W>,
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
    /// What the reader has shown is good no more.
    Dismissed(Gone),
}

impl<W: Words> EventSource<W> {
    /// Gives what `events` has behind `from`, until `until` if they end, and holds its room until the
    /// reader goes away.
    pub fn new(
        shared: &Shared,
        reader: Reader,
        events: EventStream,
        (from, until): (Cut, Cut),
        story: Option<String>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            beat_at: shared.time.monotonic() + BEAT,
            stopping: shared.stopping.clone(),
            shared: shared.clone(),
            reader,
            sight: Sight::now(shared),
            events,
            story,
            told: from.clone(),
            place: from,
            at_hand: None,
            until,
            state: State::Begins,
            credits: None,
            words: PhantomData,
            _room: room,
        }
    }

    /// Gives so many events and no more, until the reader asks for others.
    #[must_use]
    pub fn with_credits(mut self, credits: Option<u64>) -> Self {
        self.credits = credits;
        self
    }

    /// Lets the reader have so many more. One that did not count begins to.
    pub fn ask(&mut self, more: u64) {
        self.credits = Some(self.credits.unwrap_or(0).saturating_add(more));
    }

    /// What comes next; `None` at the end. Dropped before it answers, it has lost nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.state {
            State::HasEnded => return None,
            State::Begins => {
                self.state = State::Goes;
                return Some(Heard::Said(W::begins(&self.token())));
            }
            State::Goes => {}
        }
        loop {
            match self.come().await {
                Next::Events => {
                    let said = match self.write() {
                        Ok(said) => said,
                        Err(error) => return self.fail(error),
                    };
                    if !said.is_empty() {
                        self.beat_at = self.shared.time.monotonic() + BEAT;
                        return Some(Heard::Said(said));
                    }
                    // Nothing in it is wanted. Others are let in between, and the reader hears
                    // of it when it is time.
                    tokio::task::yield_now().await;
                    if self.shared.time.monotonic() >= self.beat_at {
                        return Some(self.beat());
                    }
                }
                Next::Beat => match self.reader.gone(&self.shared) {
                    Some(gone) => return self.dismiss(gone),
                    None => return Some(self.beat()),
                },
                Next::Head => {
                    self.place.join(&self.until);
                    let end = W::head(&self.token(), &self.place);
                    return self.end(end, Ends::AtHead);
                }
                Next::Failed(error) => return self.fail(error),
                Next::Dismissed(gone) => return self.dismiss(gone),
                Next::Stop => return self.end(W::stops(), Ends::Stops),
            }
        }
    }

    /// Waits for events, unless some are at hand.
    async fn come(&mut self) -> Next {
        let is_wanted = self.credits != Some(0);
        if self.at_hand.is_some() && is_wanted {
            let gone = self.reader.gone(&self.shared);
            return gone.map_or(Next::Events, Next::Dismissed);
        }
        let events = &mut self.events;
        let read = Box::pin(async move {
            if !is_wanted {
                pending::<()>().await;
            }
            events.next_batch().await
        });
        let stopped = Box::pin(self.stopping.wait_for(|is_stopping| *is_stopping));
        let late = self.shared.time.sleep_until(self.beat_at);
        match select(read, select(stopped, late)).await {
            Either::Left((Some(Ok(batch)), _)) => {
                if let Some(gone) = self.reader.gone(&self.shared) {
                    return Next::Dismissed(gone);
                }
                self.sight = Sight::now(&self.shared);
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
            && self.credits != Some(0)
            && let Some((events, reach)) = &mut self.at_hand
        {
            match events.next() {
                Some(event) => {
                    let event = event.map_err(|error| unreadable(&error))?;
                    self.give(&event, &mut out)?;
                }
                None => {
                    if let Some(reach) = reach.take() {
                        reach.pass(&mut self.place);
                    }
                    self.at_hand = None;
                }
            }
        }
        Ok(out)
    }

    fn give(&mut self, event: &Event, out: &mut Vec<u8>) -> Result<(), ReadError> {
        self.place.join(&Cut::including(event.position));
        let event = event.as_ref();
        let is_of = |story| is_of(&event, story).map_err(|error| unreadable(&error));
        if !self.reader.sees(&self.sight, &event)? || !is_of(self.story.as_deref())? {
            return Ok(());
        }
        W::event(&self.token(), &event, out).map_err(|error| unreadable(&error))?;
        self.told.clone_from(&self.place);
        self.credits = self.credits.map(|credits| credits.saturating_sub(1));
        Ok(())
    }

    /// Where the reader is by now, if events that it does not want have passed.
    fn beat(&mut self) -> Heard {
        self.beat_at = self.shared.time.monotonic() + BEAT;
        if self.told == self.place {
            return Heard::Beat(W::beat(None));
        }
        self.told.clone_from(&self.place);
        Heard::Beat(W::beat(Some(&self.token())))
    }

    fn token(&self) -> String {
        token_of(&self.shared.seal, &self.place)
    }

    fn end(&mut self, said: Vec<u8>, why: Ends) -> Option<Heard> {
        self.state = State::HasEnded;
        Some(Heard::Last(said, why))
    }

    /// The answer has begun well, so what went wrong comes as an event of its own.
    fn fail(&mut self, error: ReadError) -> Option<Heard> {
        self.end(W::problem(&Refusal::from(error)), Ends::Failed)
    }

    fn dismiss(&mut self, gone: Gone) -> Option<Heard> {
        self.end(W::problem(&gone.into()), Ends::Dismissed)
    }
}

fn unreadable(error: &RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}
