//! A log that this process has, for who is no service of it.

use std::sync::Arc;

use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, Order,
    Placed, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, StreamId};
use anabranch_runtime::{Fleet, Time};

use super::registrar::Registry;
use super::table::Shown;

/// A log to which only what belongs to no service is appended.
struct Guarded {
    log: Arc<dyn Log>,
    registry: Registry,
}

/// The same log for tools that append to it themselves: what belongs to a service is refused
/// ([`Rejection::NotOwner`](anabranch_log::Rejection::NotOwner)), as the server of the log would.
/// Services register at a server, and the log keeps what they own while no server runs.
pub fn guarded(log: Arc<dyn Log>, time: Time) -> Arc<dyn Log> {
    Arc::new(Guarded {
        registry: Registry::new(log.clone(), Arc::new(Fleet::new()), time),
        log,
    })
}

impl Log for Guarded {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let ready = self.registry.ready().await;
            ready.map_err(|denied| AppendError::Unavailable {
                reason: denied.to_string(),
                retry_after: None,
            })?;
            // Whoever has the files may read them.
            let shown = Shown::default();
            self.registry.append(&shown, append, &|_| true).await
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.log.read(from, filter, mode)
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }

    fn layout(&self) -> Layout {
        self.log.layout()
    }

    fn takes_appends(&self) -> Result<(), AppendError> {
        self.log.takes_appends()
    }
}
