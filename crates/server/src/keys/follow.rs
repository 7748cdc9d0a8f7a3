//! The keys of one log, as the log says they are.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anabranch_access::{CATEGORY, Key, KeyFact, KeyTable, Principal, Unauthenticated, bearer};
use anabranch_jwt::Issuer;
use anabranch_log::{EventStream, Log, ReadError, ReadMode};
use anabranch_model::{Cut, EventRef, Filter};
use anabranch_runtime::Time;
use tokio::sync::watch;

use crate::until::until_stopped;

/// When the log is followed again after that has failed.
const AGAIN: Duration = Duration::from_millis(100);

/// What the log says of keys. It is followed while the server runs, so that a key that is revoked
/// anywhere is refused here.
pub struct Keys {
    /// Whose tokens are believed beside the log's keys.
    issuer: Option<Arc<Issuer>>,
    log: Arc<dyn Log>,
    time: Time,
    table: RwLock<KeyTable>,
}

impl Keys {
    /// What the log says now.
    pub async fn load(
        log: Arc<dyn Log>,
        issuer: Option<Arc<Issuer>>,
        time: Time,
    ) -> Result<Arc<Self>, ReadError> {
        Ok(Arc::new(Self {
            issuer,
            table: RwLock::new(read_keys(&log).await?),
            log,
            time,
        }))
    }

    /// Takes in what the log says of keys, until the server stops. What comes twice changes nothing, so
    /// after a failure it begins at the start.
    pub async fn follow(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        let following = async {
            loop {
                let mut read = read(&self.log, ReadMode::Follow);
                while let Some(Ok(batch)) = read.next_batch().await {
                    for event in &batch {
                        // A fact that cannot be read lets nobody in.
                        let Ok(event) = event else { continue };
                        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
                        if take_in(&mut table, &event).is_err() {
                            continue;
                        }
                    }
                }
                self.time.sleep(AGAIN).await;
            }
        };
        until_stopped(stopping, following).await;
    }

    /// Whose key a request shows, by its header `Authorization`.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
    ) -> Result<Arc<Principal>, Unauthenticated> {
        let now = self.time.now().micros();
        match (&self.issuer, authorization) {
            (Some(issuer), Some(value)) if !is_key(value) => issuer.authenticate(value, now),
            _ => self.table().authenticate(authorization, now),
        }
    }

    /// Whether it takes a signature to find out whose what is shown is.
    pub fn is_dear(&self, authorization: Option<&[u8]>) -> bool {
        self.issuer.is_some() && authorization.is_some_and(|value| !is_key(value))
    }

    /// Whether somebody who was let in would be let in now.
    pub fn is_good(&self, principal: &Principal) -> bool {
        let now = self.time.now().micros();
        match principal.until {
            Some(end) => now < end,
            None => self.table().is_good(&principal.key, now),
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, KeyTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_key(authorization: &[u8]) -> bool {
    bearer(authorization).is_some_and(|text| Key::parse(text).is_some())
}

/// The keys that a log speaks of.
pub async fn read_keys(log: &Arc<dyn Log>) -> Result<KeyTable, ReadError> {
    let mut table = KeyTable::default();
    let mut read = read(log, ReadMode::ToHead);
    while let Some(batch) = read.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|error| unreadable(error.to_string()))?;
            take_in(&mut table, &event)?;
        }
    }
    Ok(table)
}

fn read(log: &Arc<dyn Log>, mode: ReadMode) -> EventStream {
    log.read(&Cut::start(), Filter::category(CATEGORY), mode)
}

fn take_in(table: &mut KeyTable, event: &EventRef<'_>) -> Result<(), ReadError> {
    let id = event.stream.split_once('/').map_or("", |(_, id)| id);
    let fact = KeyFact::said_by(event.event_type, event.data);
    let fact = fact.map_err(|error| unreadable(format!("{}: {error}", event.stream)))?;
    table.take_in(id, fact);
    Ok(())
}

fn unreadable(reason: String) -> ReadError {
    ReadError::Io {
        what: "reading which keys there are".to_owned(),
        reason,
    }
}
