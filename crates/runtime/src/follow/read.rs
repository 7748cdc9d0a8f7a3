use std::sync::Arc;

use anabranch_log::{EventStream, Log, ReadMode};
use anabranch_model::{Cut, EventBatch, Filter};

use crate::in_order::InOrder;

/// Reads what the log holds now behind a place, and makes sure that nothing is left out.
pub struct ToHead {
    head: Cut,
    read: Option<EventStream>,
    order: InOrder,
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
        })
    }

    /// The next events, in order; `None` when everything up to [`ToHead::head`] was given.
    pub async fn next(&mut self) -> Option<Result<EventBatch, String>> {
        let batch = match self.read.as_mut()?.next_batch().await? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.to_string())),
        };
        Some(self.order.check(&batch).map(|()| batch))
    }

    /// Where the log ended when the reading began.
    pub fn head(&self) -> &Cut {
        &self.head
    }
}
