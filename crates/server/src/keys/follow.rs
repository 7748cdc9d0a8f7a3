//! The keys of one log, as the log says they are.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anabranch_access::{CATEGORY, KeyFact, KeyTable, Principal, Unauthenticated};
use anabranch_log::{EventStream, Log, ReadError, ReadMode};
use anabranch_model::{Cut, EventRef, Filter};
use anabranch_runtime::Time;
use futures_util::future::{Either, select};
use tokio::sync::watch;

/// When the log is followed again after that has failed.
const AGAIN: Duration = Duration::from_millis(100);

/// What the log says of keys. It is followed while the server runs, so that a key that is revoked
/// anywhere is refused here.
pub struct Keys {
    log: Arc<dyn Log>,
    time: Time,
    table: RwLock<KeyTable>,
}

impl Keys {
    /// What the log says now.
    pub async fn load(log: Arc<dyn Log>, time: Time) -> Result<Arc<Self>, ReadError> {
        let keys = Self {
            table: RwLock::default(),
            log,
            time,
        };
        let mut read = keys.read(ReadMode::ToHead);
        while let Some(batch) = read.next_batch().await {
            for event in &batch? {
                keys.take_in(&event.map_err(|error| unreadable(error.to_string()))?)?;
            }
        }
        Ok(Arc::new(keys))
    }

    fn read(&self, mode: ReadMode) -> EventStream {
        let filter = Filter::category(CATEGORY);
        self.log.read(&Cut::start(), filter, mode)
    }

    fn take_in(&self, event: &EventRef<'_>) -> Result<(), ReadError> {
        let id = event.stream.split_once('/').map_or("", |(_, id)| id);
        let fact = KeyFact::said_by(event.event_type, event.data);
        let fact = fact.map_err(|error| unreadable(format!("{}: {error}", event.stream)))?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.take_in(id, fact);
        Ok(())
    }

    /// Takes in what the log says of keys, until the server stops. What comes twice changes nothing, so
    /// after a failure it begins at the start.
    pub async fn follow(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let stopped = Box::pin(async move {
            // It cannot be told any more when the server has gone already.
            drop(stopping.wait_for(|is_stopping| *is_stopping).await);
        });
        let following = Box::pin(async {
            loop {
                let mut read = self.read(ReadMode::Follow);
                while let Some(Ok(batch)) = read.next_batch().await {
                    for event in &batch {
                        // A fact that cannot be read lets nobody in.
                        if let Ok(event) = event
                            && self.take_in(&event).is_err()
                        {
                            continue;
                        }
                    }
                }
                self.time.sleep(AGAIN).await;
            }
        });
        match select(stopped, following).await {
            Either::Left(((), _)) => {}
            Either::Right((never, _)) => never,
        }
    }

    /// Whose key a request shows, by its header `Authorization`.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
    ) -> Result<Arc<Principal>, Unauthenticated> {
        let now = self.time.now().micros();
        self.table().authenticate(authorization, now)
    }

    fn table(&self) -> RwLockReadGuard<'_, KeyTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(reason: String) -> ReadError {
    ReadError::Io {
        what: "reading which keys there are".to_owned(),
        reason,
    }
}
