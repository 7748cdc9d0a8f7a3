use std::sync::Arc;

use anabranch_log::{EventStream, Log, ReadError, ReadMode};
use anabranch_model::{Cut, EventBatch, Filter};
use futures_util::FutureExt as _;

use crate::in_order::InOrder;

/// Reads what the log holds now behind a place, and makes sure that nothing is left out.
pub struct ToHead {
    head: Cut,
    read: Option<EventStream>,
    order: InOrder,
    /// Whether it goes on behind the head, as a log that is far asks for: then it can be used again.
    follows: bool,
    /// Behind the last events that it has given, or where it began.
    given: Cut,
    /// What lies behind that and holds nothing for the reader.
    passed: Option<Cut>,
    /// What was at hand already when it was looked whether there is more.
    at_hand: Option<Next>,
}

type Next = Option<Result<EventBatch, ReadError>>;

impl ToHead {
    /// Begins at `from`; without a filter, no event is read.
    pub async fn begin(
        log: &Arc<dyn Log>,
        from: &Cut,
        filter: Option<Filter>,
    ) -> Result<Self, String> {
        Ok(Self {
            head: log.head().await.map_err(|error| error.to_string())?,
            read: filter.map(|filter| log.read(from, filter, ReadMode::ToHead)),
            order: InOrder::from(from),
            follows: false,
            given: from.clone(),
            passed: None,
            at_hand: None,
        })
    }

    /// Begins at `from` to follow a log that is far, of which it is known that it goes to `head`.
    pub fn follow(log: &Arc<dyn Log>, from: &Cut, filter: Filter, head: Cut) -> Self {
        Self {
            head,
            read: Some(log.read(from, filter, ReadMode::Follow)),
            order: InOrder::from(from),
            follows: true,
            given: from.clone(),
            passed: None,
            at_hand: None,
        }
    }

    /// The same again, now to `head`, if it follows and what it gave was taken in up to `from`.
    pub fn again(mut self, from: &Cut, head: &Cut) -> Option<Self> {
        let is_there = self.given == *from || self.order.reached() == from;
        if !self.follows || !is_there {
            return None;
        }
        self.head.clone_from(head);
        Some(self)
    }

    /// The next events, in order; `None` when everything up to [`ToHead::head`] was given. Where a
    /// read that follows comes to what is not for the reader, a batch without events.
    pub async fn next(&mut self) -> Option<Result<EventBatch, String>> {
        loop {
            if self.follows && self.order.reached().covers(&self.head) {
                // What is beyond what was known is passed, too.
                self.head.clone_from(self.order.reached());
                return None;
            }
            let next = match self.at_hand.take() {
                Some(next) => next,
                None => self.read.as_mut()?.next_batch().await,
            };
            if next.is_none() && self.follows {
                return Some(Err("the log has ended a read that follows it".to_owned()));
            }
            let batch = match next? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.to_string())),
            };
            let before = self.order.reached().clone();
            if let Err(error) = self.order.check(&batch) {
                return Some(Err(error));
            }
            let is_empty = self.follows && batch.iter().next().is_none();
            if !is_empty {
                self.passed = (self.follows && self.given != before).then_some(before);
                self.given.clone_from(self.order.reached());
                return Some(Ok(batch));
            }
            // To take in nothing, many times, may be dear.
            self.at_hand = self.read.as_mut()?.next_batch().now_or_never();
            if self.at_hand.is_none() && !self.order.reached().covers(&self.head) {
                self.given.clone_from(self.order.reached());
                self.passed = Some(self.given.clone());
                return Some(Ok(batch));
            }
        }
    }

    /// What was passed before the events that it has given last, and holds nothing for the reader.
    /// They may depend on it, so whoever takes them in has to be behind it.
    pub fn passed(&mut self) -> Option<Cut> {
        self.passed.take()
    }

    /// Where the log ended when the reading began, or how far it is known to go.
    pub fn head(&self) -> &Cut {
        &self.head
    }

    /// Whether it goes on behind the head.
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// How far it has read.
    pub fn reached(&self) -> &Cut {
        self.order.reached()
    }
}
