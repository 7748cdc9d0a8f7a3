//! A reader, and what it must have been given.

use std::pin::Pin;
use std::task::Poll;

use anabranch_log::{EventStream, ReadError};
use anabranch_model::{Event, Filter};
use futures_core::Stream as _;

use crate::matching::filter_fits;
use crate::model::Model;
use crate::poll::Bell;
use crate::violation::{Violation, Wrong, brief};

/// The offsets that one reader was given, and those it had to be given.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    filter: Filter,
    from: u64,
    /// Everything below was given or passed over.
    pub(crate) next: u64,
    given: Vec<u64>,
}

impl Account {
    pub(crate) fn new(filter: Filter, from: u64) -> Self {
        Self {
            filter,
            from,
            next: from,
            given: Vec::new(),
        }
    }

    /// Notes one more event, forward.
    pub(crate) fn give(&mut self, model: &mut Model, event: &Event) -> Result<(), Violation> {
        let offset = event.position.offset;
        let in_order = match self.filter.is_all() {
            true => offset == self.next,
            false => offset >= self.next,
        };
        if !in_order {
            let text = format!(
                "a reader of {:?} wanted {} and got {}",
                self.filter,
                self.next,
                brief(event)
            );
            return Err(Violation::new(Wrong::Read, text));
        }
        model.saw(event)?;
        let (batch, index) = model.identify(event)?;
        if !filter_fits(&self.filter, model.event(batch, index)) {
            let text = format!("a reader of {:?} got {}", self.filter, brief(event));
            return Err(Violation::new(Wrong::Read, text));
        }
        self.next = offset + 1;
        self.given.push(offset);
        Ok(())
    }

    /// The read ended, or waits: it passed everything below `head`.
    pub(crate) fn passed(&mut self, head: u64) {
        self.next = self.next.max(head);
    }

    /// Whether it was given every event that it passed and that fits.
    pub(crate) fn settle(&self, model: &Model) -> Result<(), Violation> {
        let mut given = self.given.iter().copied().peekable();
        for offset in self.from..self.next {
            let was_given = given.next_if_eq(&offset).is_some();
            let Some(place) = model.known_at(offset) else {
                continue;
            };
            if !was_given && filter_fits(&self.filter, model.event(place.batch, place.index)) {
                let text = format!(
                    "a reader of {:?} passed {} without being given {offset}",
                    self.filter, self.next
                );
                return Err(Violation::new(Wrong::Read, text));
            }
        }
        Ok(())
    }
}

/// A reader that follows, polled by hand.
pub(crate) struct Follower {
    stream: EventStream,
    bell: Bell,
    pub(crate) account: Account,
    /// It said that there is nothing more for now.
    pub(crate) waits: bool,
    /// It gave an error, and has ended.
    failed: bool,
}

impl Follower {
    pub(crate) fn new(stream: EventStream, filter: Filter, from: u64) -> Self {
        Self {
            stream,
            bell: Bell::new(),
            account: Account::new(filter, from),
            waits: false,
            failed: false,
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.bell.has_rung()
    }

    /// Takes up to `count` events. An error ends the follower: what it was, if so.
    pub(crate) fn take(
        &mut self,
        model: &mut Model,
        count: u64,
    ) -> Result<Option<ReadError>, Violation> {
        for _ in 0..count {
            let head = model.head;
            match self
                .bell
                .poll(|cx| Pin::new(&mut self.stream).poll_next(cx))
            {
                Poll::Ready(Some(Ok(event))) => {
                    self.waits = false;
                    self.account.give(model, &event)?;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failed = true;
                    return Ok(Some(error));
                }
                Poll::Ready(None) if self.failed => return Ok(None),
                Poll::Ready(None) => {
                    let text = "a follower ended, which it never should";
                    return Err(Violation::new(Wrong::Read, text));
                }
                Poll::Pending => {
                    // It may lag behind what others know, but only until it was woken.
                    self.waits = true;
                    if self.bell.has_rung() {
                        continue;
                    }
                    self.account.passed(head);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}
