//! Calls to the world outside: time-out, bulkhead, circuit breaker, retry with jitter.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::saga::CIRCUIT_OPEN;
use anabranch_domain::{
    Call, CallEnvelope, CallPolicy, CommandId, Effect, Json, Outcome, Rejection, Repeat, Role,
    Timestamp, WhenOpen,
};
use anabranch_log::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::Style;
use super::under_way::{Sending, is_given_up, unless_given_up};
use crate::diagnostics::Diagnostics;
use crate::panics::{self, contain};
use crate::telemetry;
use crate::time::Time;

/// Why a call gave nothing back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The third party says no. Nothing was done, and asking again gives the same answer.
    #[error("refused: {0}")]
    Refused(Rejection),
    /// Nothing was done; it may work later.
    #[error("failed, nothing was done: {0}")]
    Failed(String),
    /// It may have been done.
    #[error("it may have been done: {0}")]
    Unknown(String),
}

anabranch_model::debug_is_words!(CallError);

/// What a call to the world outside may pass on beside what its effect holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallContext {
    /// The idempotency key: the same for every attempt.
    pub key: CommandId,
    /// Id of the story that the call belongs to, in all services.
    pub correlation_id: Option<String>,
    /// The header `traceparent` of who began that story (W3C Trace Context), if there was one.
    pub traceparent: Option<String>,
}

impl CallContext {
    fn of(envelope: &CallEnvelope) -> Self {
        Self {
            key: envelope.key,
            correlation_id: envelope.correlation_id.clone(),
            traceparent: envelope.traceparent.clone(),
        }
    }
}

/// Calls a third party, or asks it what became of a call; `None`: that was never carried out.
type CallFn = Arc<
    dyn Fn(Json, CallContext) -> BoxFuture<'static, Result<Option<Json>, CallError>> + Send + Sync,
>;

/// One effect: how it is called, and how its third party is doing.
pub struct EffectHost {
    name: &'static str,
    policy: CallPolicy,
    call: CallFn,
    ask: Option<CallFn>,
    permits: Semaphore,
    breaker: Mutex<BreakerState>,
}

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    /// Why the last of them failed.
    last_error: Option<String>,
    /// When the circuit may be tried again, on the monotonic clock; `None`: it is closed.
    open_until: Option<Duration>,
    /// Whether a call is trying it.
    trying: bool,
}

/// How a third party is doing, for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Circuit {
    /// The effect.
    pub effect: &'static str,
    /// Whether it is called.
    pub state: CircuitState,
    /// How many calls in a row have failed.
    pub failures: u32,
    /// How many calls are under way.
    pub in_flight: usize,
    /// Why the last of them failed, in the words of the third party or of who calls it.
    pub last_error: Option<String>,
    /// When one call tries whether it works again, if it is open.
    pub again_at: Option<Timestamp>,
}

/// Whether a third party is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    /// It is.
    Closed,
    /// It has only failed: calls wait.
    Open,
    /// One call tries whether it works again.
    HalfOpen,
}

impl EffectHost {
    /// The effect `F`, called by `call`.
    pub fn new<F, C, R>(call: C) -> Self
    where
        F: Effect,
        C: Fn(F, CallContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
    {
        let policy = F::policy();
        Self {
            name: F::NAME,
            policy,
            call: call_fn(move |effect: F, context| {
                let called = call(effect, context);
                async move { Ok(Some(called.await?)) }
            }),
            ask: None,
            permits: Semaphore::new(policy.in_flight_max.max(1) as usize),
            breaker: Mutex::default(),
        }
    }

    /// How to ask the third party what became of a call.
    #[must_use]
    pub fn asked_by<F, C, R>(mut self, ask: C) -> Self
    where
        F: Effect,
        C: Fn(F, CallContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<F::Outcome>, CallError>> + Send + 'static,
    {
        self.ask = Some(call_fn(ask));
        self
    }

    /// The effect's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, BreakerState> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the circuit may let a call pass; `None`: now.
    fn open_until(&self, breaker: &BreakerState, time: &Time) -> Option<Duration> {
        let now = time.monotonic();
        match breaker.open_until? {
            until if until > now => Some(until),
            // Another call is trying it.
            _ if breaker.trying => Some(now + self.policy.breaker.open_for / 4),
            _ => None,
        }
    }

    /// Lets a call pass, or says when to come back. Whoever passes an open circuit tries it for
    /// all.
    fn enter(&self, time: &Time) -> Result<(), Duration> {
        let mut breaker = self.breaker();
        match self.open_until(&breaker, time) {
            Some(until) => Err(until),
            None => {
                breaker.trying = breaker.open_until.is_some();
                Ok(())
            }
        }
    }

    /// Takes note of how a call went; says what has become of the circuit, if it has changed.
    fn went(&self, failed: Option<&str>, time: &Time) -> Option<String> {
        let mut breaker = self.breaker();
        let was_open = breaker.open_until.is_some();
        breaker.trying = false;
        let Some(reason) = failed else {
            *breaker = BreakerState::default();
            return was_open.then(|| format!("effect {} works again", self.name));
        };
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.last_error = Some(reason.to_owned());
        let policy = self.policy.breaker;
        if breaker.failures < policy.failures_max {
            return None;
        }
        breaker.open_until = Some(time.monotonic() + policy.open_for);
        (!was_open).then(|| {
            format!(
                "effect {}: {} calls in a row have failed, so its circuit is open: what is to be \
                 called waits, and one call tries every {:?} whether it works again; the last \
                 failure: {reason}",
                self.name, breaker.failures, policy.open_for
            )
        })
    }

    /// Why a call is not made while the circuit is open.
    fn why_not(&self) -> String {
        let breaker = self.breaker();
        let last = breaker.last_error.as_deref().unwrap_or("unknown");
        format!("not called while its circuit is open: {last}")
    }

    /// Runs one attempt under the time-out; a panic counts as an unknown outcome.
    async fn attempt(
        &self,
        time: &Time,
        call: BoxFuture<'static, Result<Option<Json>, CallError>>,
    ) -> Result<Option<Json>, CallError> {
        let timeout = self.policy.attempt_timeout;
        let call = AssertUnwindSafe(call).catch_unwind();
        match select(Box::pin(call), time.sleep(timeout)).await {
            Either::Left((Ok(result), _)) => result,
            Either::Left((Err(panic), _)) => Err(CallError::Unknown(format!(
                "the code of effect {} panicked: {}",
                self.name,
                panics::message(&*panic)
            ))),
            Either::Right(_) => Err(CallError::Unknown(format!("no answer within {timeout:?}"))),
        }
    }

    /// One attempt, as soon as the bulkhead lets it pass. An open circuit does not: who waits
    /// for it takes no place in the bulkhead.
    async fn guarded(&self, asking: &Asking<'_>, call: &CallFn) -> Tried {
        let time = asking.time;
        let request = asking.envelope.call.request.clone();
        let context = CallContext::of(asking.envelope);
        let is_open = self.open_until(&self.breaker(), time);
        if let Some(until) = is_open {
            return Tried::Open(until);
        }
        let permit = unless_given_up(asking.sending, self.permits.acquire()).await;
        let _permit = match permit {
            Some(Ok(permit)) => permit,
            Some(Err(_)) => {
                let why = "the runtime is shutting down".to_owned();
                return Tried::Ended(Err(CallError::Failed(why)));
            }
            None => return Tried::GivenUp,
        };
        // It may have opened meanwhile.
        if let Err(until) = self.enter(time) {
            return Tried::Open(until);
        }
        let mut trial = Trial {
            effect: self,
            ended: false,
        };
        let span = telemetry::call(self.name, context.key);
        let called = span.in_scope(|| contain(|| call(request, context)));
        let called = called.unwrap_or_else(|panic| {
            let text = format!("the code of effect {} panicked: {panic}", self.name);
            Box::pin(async { Err(CallError::Unknown(text)) })
        });
        let result = self.attempt(time, called).instrument(span.clone()).await;
        trial.ended = true;
        let (code, failed) = match &result {
            Ok(_) => (None, None),
            Err(CallError::Refused(_)) => (Some("refused"), None),
            Err(CallError::Failed(reason)) => (Some("failed"), Some(reason.as_str())),
            Err(CallError::Unknown(reason)) => (Some("unknown"), Some(reason.as_str())),
        };
        if let Some(code) = code {
            telemetry::failed(&span, code);
        }
        if let Some(turn) = self.went(failed, time) {
            asking.diagnostics.alert(time.now(), turn);
        }
        match is_given_up(asking.sending) && result.is_err() {
            true => Tried::GivenUp,
            false => Tried::Ended(result),
        }
    }

    /// Makes the call, or asks what became of it.
    async fn try_once(&self, asking: &Asking<'_>, ask_first: bool) -> Tried {
        match (&self.ask, ask_first) {
            (Some(ask), true) => self.guarded(asking, ask).await,
            (None, true) => Tried::Never(format!(
                "effect {} says to ask what became of a call, but not how",
                self.name
            )),
            (_, false) => self.guarded(asking, &self.call).await,
        }
    }
}

/// What an attempt came to.
enum Tried {
    /// It was made.
    Ended(Result<Option<Json>, CallError>),
    /// It was not: the circuit is open until then.
    Open(Duration),
    /// Nobody wants it any more.
    GivenUp,
    /// It cannot be made, and what became of an earlier one cannot be found out.
    Never(String),
}

/// A call that is to be made, and for whom.
pub struct Asking<'a> {
    pub time: &'a Time,
    pub diagnostics: &'a Diagnostics,
    pub envelope: &'a CallEnvelope,
    /// The part that it plays.
    pub role: &'a Role,
    pub style: Style,
    /// Whether an earlier runtime may have made it.
    pub again: bool,
    pub sending: Option<&'a Sending>,
    /// Told of each attempt that has failed: how many have, why, and when the next one is made
    /// on the monotonic clock.
    pub fails: &'a (dyn Fn(u32, String, Duration) + Send + Sync),
}

impl Asking<'_> {
    /// Whether the policy refuses it while the circuit is open: only a saga's step has another way.
    fn may_be_refused(&self, policy: CallPolicy) -> bool {
        policy.breaker.when_open == WhenOpen::Refuse
            && self.style == Style::Report
            && matches!(self.role, Role::Step(_) | Role::Forward(_))
    }
}

/// A call that is given up midway must not leave the circuit half open for ever.
struct Trial<'a> {
    effect: &'a EffectHost,
    ended: bool,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.effect.breaker().trying = false;
        }
    }
}

/// A function of the effect `F`, of and to JSON.
fn call_fn<F, C, R>(call: C) -> CallFn
where
    F: Effect,
    C: Fn(F, CallContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Option<F::Outcome>, CallError>> + Send + 'static,
{
    Arc::new(move |request, context| match request.parse::<F>() {
        Ok(effect) => {
            let called = call(effect, context);
            Box::pin(async move {
                let outcome = called.await?.as_ref().map(Json::of).transpose();
                outcome.map_err(|error| CallError::Unknown(error.to_string()))
            })
        }
        Err(error) => {
            let malformed = Rejection::new("malformed", error.to_string());
            Box::pin(async { Err(CallError::Refused(malformed)) })
        }
    })
}

/// Every effect of a service, by name.
#[derive(Default)]
pub struct Effects(pub BTreeMap<&'static str, EffectHost>);

impl Effects {
    /// Makes a call under its policy. `None` if who has sent it gives it up meanwhile.
    pub async fn call(&self, asking: &Asking<'_>) -> Option<Outcome> {
        let CallEnvelope {
            key,
            call: Call { effect, .. },
            ..
        } = asking.envelope;
        let Some(host) = self.0.get(effect.as_str()) else {
            return Some(Outcome::Unavailable(self.not_registered(effect)));
        };
        let (policy, time) = (host.policy, asking.time);
        if asking.again && policy.repeat == Repeat::Never {
            return Some(Outcome::Unknown(
                "the runtime that asked for the call stopped before the answer came".to_owned(),
            ));
        }
        let mut ask_first = asking.again && policy.repeat == Repeat::Ask;
        let (mut attempt, mut words) = (1, None);
        loop {
            let result = match host.try_once(asking, ask_first).await {
                Tried::Ended(result) => result,
                Tried::GivenUp => return None,
                Tried::Never(why) => return Some(Outcome::Unknown(why)),
                Tried::Open(until) => {
                    let why = host.why_not();
                    if attempt == 1 && !asking.again && asking.may_be_refused(policy) {
                        let no = Rejection::new(CIRCUIT_OPEN, why).for_now();
                        return Some(Outcome::Refused(no));
                    }
                    // The third party's own words say more.
                    (asking.fails)(attempt - 1, words.clone().unwrap_or(why), until);
                    unless_given_up(asking.sending, time.sleep_until(until)).await?;
                    continue;
                }
            };
            let reason = match result {
                Ok(Some(done)) => return Some(Outcome::Done(done)),
                Ok(None) => {
                    ask_first = false;
                    continue;
                }
                Err(CallError::Refused(rejection)) => return Some(Outcome::Refused(rejection)),
                Err(CallError::Failed(reason)) => reason,
                Err(CallError::Unknown(reason)) => match policy.repeat {
                    Repeat::Never => return Some(Outcome::Unknown(reason)),
                    Repeat::Ask => {
                        ask_first = true;
                        reason
                    }
                    Repeat::WithKey => reason,
                },
            };
            if !policy.retry.goes_on_after(attempt) {
                return Some(if ask_first {
                    Outcome::Unknown(reason)
                } else {
                    Outcome::Unavailable(reason)
                });
            }
            let wait = policy.retry.delay_after(attempt, key.as_u128());
            let until = time.monotonic() + wait;
            words = Some(reason.clone());
            (asking.fails)(attempt, reason, until);
            unless_given_up(asking.sending, time.sleep_until(until)).await?;
            attempt += 1;
        }
    }

    /// Why an effect cannot be called that nobody has registered.
    pub fn not_registered(&self, effect: &str) -> String {
        let known: Vec<_> = self.0.keys().copied().collect();
        format!(
            "no effect {effect:?} is registered here: add .effect::<…, _, _>(…) for it where the \
             service is built; registered: {}",
            match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            }
        )
    }

    /// How each third party is doing.
    pub fn circuits(&self, time: &Time) -> Vec<Circuit> {
        let circuit = |host: &EffectHost| {
            let breaker = host.breaker();
            let now = time.monotonic();
            let again_at = breaker.open_until;
            let again_at = again_at.map(|until| time.now() + until.saturating_sub(now));
            let state = match breaker.open_until {
                None => CircuitState::Closed,
                Some(_) if breaker.trying => CircuitState::HalfOpen,
                Some(until) if until > now => CircuitState::Open,
                Some(_) => CircuitState::HalfOpen,
            };
            Circuit {
                effect: host.name,
                state,
                failures: breaker.failures,
                in_flight: (host.policy.in_flight_max as usize)
                    .saturating_sub(host.permits.available_permits()),
                last_error: breaker.last_error.clone(),
                again_at,
            }
        };
        self.0.values().map(circuit).collect()
    }
}
