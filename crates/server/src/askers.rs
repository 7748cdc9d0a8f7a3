//! Which service asks another one: proved by the key that it has registered by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_access::{Caller, Principal, Verb};
use anabranch_log::BoxFuture;
use anabranch_runtime::Time;
use axum::http::StatusCode;
use futures_util::future::{Either, select};

use crate::refusal::Refusal;
use crate::registry::{Known, Registry, State, Subject};

/// How long is believed what the registry has said, and how soon it is asked again when that does not fit, or when
/// it has not answered.
const FRESH: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// How long its answer is waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// The most services that are remembered.
const SERVICES_MAX: usize = 1024;

/// By what a service has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisteredBy {
    /// By the key of this id.
    Key(String),
    /// Its registration says no key, and it has not ended: a server has taken it that was a version older, or asked
    /// nobody for one.
    NoKey,
}

/// Says by which key a service has registered at the log's server.
pub trait Registrations: Send + Sync + 'static {
    /// By what this service has registered, or all services have; nothing for one that has not, or has ended and
    /// says no key. The error is in words: why that cannot be told now.
    fn registered<'a>(
        &'a self,
        service: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<RegisteredBy>, String>>;
}

impl Registrations for Registry {
    fn registered<'a>(
        &'a self,
        service: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<RegisteredBy>, String>> {
        Box::pin(async move {
            let found = match service {
                Some(name) => {
                    let found = self.find(Subject::Service(name)).await;
                    found.map(|found| found.into_iter().collect())
                }
                None => self.list().await,
            };
            let found: Vec<Known> = found.map_err(|error| error.to_string())?;
            let by = found.into_iter().filter_map(|known| {
                let is_there = matches!(known.state, State::Held(_) | State::Expired);
                let no_key = is_there.then_some(RegisteredBy::NoKey);
                known.key.map(RegisteredBy::Key).or(no_key)
            });
            Ok(by.collect())
        })
    }
}

/// What is known of those who ask.
pub struct Askers {
    time: Time,
    /// Where they register, if that is known.
    registrations: Option<Arc<dyn Registrations>>,
    /// Of each service, and of all.
    said: Mutex<BTreeMap<Option<String>, Said>>,
}

#[derive(Clone)]
struct Said {
    by: Arc<[RegisteredBy]>,
    at: Duration,
    /// Until when it is believed by those whom it fits.
    until: Duration,
}

impl Said {
    /// Whether a service has registered by this key, or by none: then what the key may do decides alone.
    fn fits(&self, principal: &Principal) -> bool {
        let mut by = self.by.iter();
        by.any(|by| match by {
            RegisteredBy::Key(key) => **key == *principal.key,
            RegisteredBy::NoKey => true,
        })
    }
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
    /// shows. An operator need not be one. One that does not say which service it is, as those of a version before
    /// do not, may be any.
    pub async fn check(
        &self,
        caller: &Caller,
        service: Option<&str>,
        name: &str,
    ) -> Result<(), Refusal> {
        let Caller::Known(principal) = caller else {
            return Ok(());
        };
        let is_operator = service.is_none() && caller.may(Verb::Operate, name);
        if is_operator || self.is_of(service, principal).await? {
            return Ok(());
        }
        let (code, why) = match service {
            Some(service) => (
                "not-the-service",
                format!("says that it is service {service}, which has not registered by that key"),
            ),
            None => (
                "no-service",
                "does not say which service it is, which has to ask here, and none has registered by that key; clients send commands to /commands, and ask /views".to_owned(),
            ),
        };
        let detail = format!("{} {why}; nothing was changed", caller.name());
        Err(Refusal::new(StatusCode::FORBIDDEN, code, detail))
    }

    /// Whether this service, or any, has registered by this key. What does not fit is asked for anew before anybody
    /// is refused for good.
    async fn is_of(&self, service: Option<&str>, principal: &Principal) -> Result<bool, Refusal> {
        let now = self.time.monotonic();
        let whose = service.map(str::to_owned);
        let mut did_fit = false;
        if let Some(said) = self.said().get_mut(&whose) {
            did_fit = said.fits(principal);
            let again_at = said.at.saturating_add(AGAIN);
            match did_fit {
                true if now < said.until => return Ok(true),
                // One asks, and the others go on by what was said. So does everybody if nobody says anything.
                true => said.until = now.saturating_add(AGAIN),
                false if now < again_at => {
                    let why = "its key does not fit what the registry said just now";
                    return Err(not_told(service, why).again_in(again_at - now));
                }
                false => {}
            }
        }
        let by = match self.told(service).await {
            Ok(by) => by.into(),
            Err(_) if did_fit => return Ok(true),
            Err(why) => return Err(not_told(service, &why)),
        };
        let said = Said {
            by,
            at: now,
            until: now.saturating_add(FRESH),
        };
        let is_it = said.fits(principal);
        let mut all = self.said();
        if all.len() >= SERVICES_MAX && !all.contains_key(&whose) {
            // Callers may name any.
            all.retain(|_, said| !said.by.is_empty());
        }
        if all.len() < SERVICES_MAX || all.contains_key(&whose) {
            all.insert(whose, said);
        }
        Ok(is_it)
    }

    async fn told(&self, service: Option<&str>) -> Result<Vec<RegisteredBy>, String> {
        let Some(registrations) = &self.registrations else {
            return Err("this server was not told where services register".to_owned());
        };
        let told = registrations.registered(service);
        match select(told, self.time.sleep(TOLD_WITHIN)).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => Err(format!("no answer within {TOLD_WITHIN:?}")),
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, BTreeMap<Option<String>, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal of who may ask again.
fn not_told(service: Option<&str>, why: &str) -> Refusal {
    let who = service.unwrap_or("a service");
    let what = format!("nothing says whether {who} asks: {why}; nothing was changed");
    Refusal::unavailable(what)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anabranch_access::Scopes;
    use anabranch_env::Env;
    use anabranch_runtime::ManualTime;
    use futures_util::FutureExt as _;

    use super::*;

    /// Says what it is set to say; nothing: it never answers.
    #[derive(Default)]
    struct Says {
        by: Mutex<Option<Vec<RegisteredBy>>>,
        asked: AtomicUsize,
    }

    impl Says {
        fn say(&self, by: Option<Vec<RegisteredBy>>) {
            *self.by.lock().unwrap() = by;
        }
    }

    impl Registrations for Says {
        fn registered<'a>(
            &'a self,
            _: Option<&'a str>,
        ) -> BoxFuture<'a, Result<Vec<RegisteredBy>, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match self.by.lock().unwrap().clone() {
                Some(by) => Box::pin(async { Ok(by) }),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    fn askers() -> (Askers, Arc<Says>, ManualTime) {
        let (says, manual) = (Arc::new(Says::default()), ManualTime::new());
        let time = Time::manual(&manual, Env::os().rng);
        (Askers::of(Some(says.clone()), time), says, manual)
    }

    fn by(key: &str) -> Option<Vec<RegisteredBy>> {
        Some(vec![RegisteredBy::Key(key.to_owned())])
    }

    fn holder(key: &str) -> Caller {
        Caller::Known(Arc::new(Principal {
            name: key.to_owned(),
            key: key.to_owned(),
            scopes: Scopes::parse(["command:*"]).unwrap(),
            until: None,
        }))
    }

    /// What is answered at once, as its status; `None`: it waits.
    fn asks(askers: &Askers, key: &str, service: Option<&str>) -> Option<u16> {
        let caller = holder(key);
        let told = askers.check(&caller, service, "account").now_or_never()?;
        Some(told.map_or_else(|refusal| refusal.problem.status, |()| 200))
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused_for_good_only_by_what_was_asked_for_it() {
        let (askers, says, manual) = askers();
        says.say(by("old"));
        assert_eq!(asks(&askers, "old", Some("shop")), Some(200));
        // The service has just registered by another one.
        says.say(by("new"));
        assert_eq!(asks(&askers, "new", Some("shop")), Some(503));
        manual.advance(AGAIN);
        assert_eq!(asks(&askers, "new", Some("shop")), Some(200));
        manual.advance(AGAIN);
        assert_eq!(asks(&askers, "stranger", Some("shop")), Some(403));
    }

    #[test]
    fn while_the_registry_says_nothing_one_at_a_time_waits_for_it_and_not_for_long() {
        let (askers, says, manual) = askers();
        says.say(by("shop"));
        assert_eq!(asks(&askers, "shop", Some("shop")), Some(200));
        says.say(None);
        manual.advance(FRESH);
        let caller = holder("shop");
        let mut first = Box::pin(askers.check(&caller, Some("shop"), "account"));
        assert!(first.as_mut().now_or_never().is_none());
        assert_eq!(asks(&askers, "shop", Some("shop")), Some(200));
        manual.advance(TOLD_WITHIN);
        assert!(first.now_or_never().is_some_and(|told| told.is_ok()));
        assert_eq!(says.asked.load(Ordering::Relaxed), 2);
        let caller = holder("other");
        let mut other = Box::pin(askers.check(&caller, Some("other"), "account"));
        assert!(other.as_mut().now_or_never().is_none());
        manual.advance(TOLD_WITHIN);
        let refusal = other.now_or_never().unwrap().unwrap_err();
        assert_eq!(refusal.problem.status, 503);
    }

    #[test]
    fn who_is_a_version_older_and_says_no_service_is_one_if_any_has_registered_by_its_key() {
        let (askers, says, manual) = askers();
        says.say(by("shop"));
        assert_eq!(asks(&askers, "shop", None), Some(200));
        manual.advance(AGAIN);
        assert_eq!(asks(&askers, "stranger", None), Some(403));
    }

    #[test]
    fn where_a_registration_says_no_key_the_scopes_decide_alone() {
        let (askers, says, manual) = askers();
        says.say(Some(vec![RegisteredBy::NoKey]));
        assert_eq!(asks(&askers, "shop", Some("shop")), Some(200));
        assert_eq!(asks(&askers, "shop", None), Some(200));
        // Until it registers again.
        says.say(by("shop"));
        manual.advance(FRESH);
        assert_eq!(asks(&askers, "stranger", Some("shop")), Some(403));
        assert_eq!(asks(&askers, "stranger", None), Some(403));
        assert_eq!(asks(&askers, "shop", None), Some(200));
    }
}
