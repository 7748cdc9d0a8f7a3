use std::sync::Arc;

use anabranch_log::{EventStream, Log, ReadMode};
use anabranch_model::{Cut, EventBatch, Filter};

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
}

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

    /// The next events, in order; `None` when everything up to [`ToHead::head`] was given.
    pub async fn next(&mut self) -> Option<Result<EventBatch, String>> {
        loop {
            if self.follows && self.order.reached().covers(&self.head) {
                // What is beyond what was known is passed, too.
                self.head.clone_from(self.order.reached());
                return None;
            }
            let next = self.read.as_mut()?.next_batch().await;
            if next.is_none() && self.follows {
                return Some(Err("the log has ended a read that follows it".to_owned()));
            }
            let batch = match next? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.to_string())),
            };
            if let Err(error) = self.order.check(&batch) {
                return Some(Err(error));
            }
            // To take in nothing, many times, may be dear.
            if !self.follows || batch.iter().next().is_some() {
                self.given.clone_from(self.order.reached());
                return Some(Ok(batch));
            }
        }
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
