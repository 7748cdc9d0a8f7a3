//! Which service asks another one: proved by the key that it has registered by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_access::{Caller, Principal, Verb};
use anabranch_log::BoxFuture;
use anabranch_runtime::Time;
use axum::http::StatusCode;

use crate::refusal::Refusal;
use crate::registry::{Registry, Subject};

/// How long is believed what the registry has said, and how soon it is asked again when that does not fit.
const FRESH: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// The most services that are remembered.
const SERVICES_MAX: usize = 1024;

/// Says by which key a service has registered at the log's server.
pub trait Registrations: Send + Sync + 'static {
    /// The id of that key; `None` if it has not registered, or by none. The error is in words: why that
    /// cannot be told now.
    fn key_of<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Option<String>, String>>;
}

impl Registrations for Registry {
    fn key_of<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            let found = self.find(Subject::Service(service)).await;
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.and_then(|known| known.key))
        })
    }
}

/// What is known of those who ask.
pub struct Askers {
    time: Time,
    /// Where they register, if that is known.
    registrations: Option<Arc<dyn Registrations>>,
    said: Mutex<BTreeMap<String, Said>>,
}

#[derive(Clone)]
struct Said {
    key: Option<String>,
    at: Duration,
}

impl Askers {
    /// Those that have registered there.
    pub fn of(registrations: Option<Arc<dyn Registrations>>, time: Time) -> Self {
        Self {
            time,
            registrations,
            said: Mutex::default(),
        }
    }

    /// Refuses who asks for what has this name as a service, and is none that has registered by the key that it
    /// shows. An operator need not be one.
    pub async fn check(
        &self,
        caller: &Caller,
        service: Option<&str>,
        name: &str,
    ) -> Result<(), Refusal> {
        let Caller::Known(principal) = caller else {
            return Ok(());
        };
        let refused = |code: &str, why: &str| {
            let who = caller.name();
            let detail = format!("{who} {why}; nothing was changed");
            let refusal = Refusal::new(StatusCode::FORBIDDEN, code, detail);
            Err(refusal)
        };
        let Some(service) = service else {
            if caller.may(Verb::Operate, name) {
                return Ok(());
            }
            return refused(
                "no-service",
                "does not say which service it is, which has to ask here; clients send commands to /commands, and ask /views",
            );
        };
        if self.is_of(service, principal).await? {
            return Ok(());
        }
        let why =
            format!("says that it is service {service}, which has not registered by that key");
        refused("not-the-service", &why)
    }

    /// Whether this service has registered by this key.
    async fn is_of(&self, service: &str, principal: &Principal) -> Result<bool, Refusal> {
        let now = self.time.monotonic();
        let before = self.said().get(service).cloned();
        let fits = |said: &Said| said.key.as_deref() == Some(&*principal.key);
        if let Some(said) = &before {
            let age = now.saturating_sub(said.at);
            if age < if fits(said) { FRESH } else { AGAIN } {
                return Ok(fits(said));
            }
        }
        let key = match self.told(service).await {
            Ok(key) => key,
            // What was said before holds while nobody says anything.
            Err(_) if before.as_ref().is_some_and(fits) => return Ok(true),
            Err(why) => {
                let what =
                    format!("nothing says whether {service} asks: {why}; nothing was changed");
                return Err(Refusal::unavailable(what));
            }
        };
        let said = Said { key, at: now };
        let is_it = fits(&said);
        let mut all = self.said();
        if all.len() >= SERVICES_MAX && !all.contains_key(service) {
            // Callers may name any.
            all.retain(|_, said| said.key.is_some());
        }
        if all.len() < SERVICES_MAX {
            all.insert(service.to_owned(), said);
        }
        Ok(is_it)
    }

    async fn told(&self, service: &str) -> Result<Option<String>, String> {
        match &self.registrations {
            Some(registrations) => registrations.key_of(service).await,
            None => Err("this server was not told where services register".to_owned()),
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
