//! Calls to the world outside: time-out, bulkhead, circuit breaker, retry with jitter.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::{
    Call, CallEnvelope, CallPolicy, CommandId, Effect, Json, Outcome, Rejection, Repeat,
};
use anabranch_log::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::under_way::{Sending, is_given_up, unless_given_up};
use crate::panics::{self, contain};
use crate::time::Time;

/// Why a call gave nothing back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

type CallFn =
    Arc<dyn Fn(Json, CommandId) -> BoxFuture<'static, Result<Json, CallError>> + Send + Sync>;
type AskFn = Arc<
    dyn Fn(Json, CommandId) -> BoxFuture<'static, Result<Option<Json>, CallError>> + Send + Sync,
>;

/// One effect: how it is called, and how its third party is doing.
pub struct EffectHost {
    name: &'static str,
    policy: CallPolicy,
    call: CallFn,
    ask: Option<AskFn>,
    permits: Semaphore,
    breaker: Mutex<BreakerState>,
}

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
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
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
    {
        let policy = F::policy();
        Self {
            name: F::NAME,
            policy,
            call: Arc::new(move |request, key| match request.parse::<F>() {
                Ok(effect) => {
                    let called = call(effect, key);
                    Box::pin(async move { encode(&called.await?) })
                }
                Err(error) => Box::pin(async move { Err(malformed(&error)) }),
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
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<F::Outcome>, CallError>> + Send + 'static,
    {
        self.ask = Some(Arc::new(move |request, key| match request.parse::<F>() {
            Ok(effect) => {
                let asked = ask(effect, key);
                Box::pin(async move { asked.await?.as_ref().map(encode).transpose() })
            }
            Err(error) => Box::pin(async move { Err(malformed(&error)) }),
        }));
        self
    }

    /// The effect's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, BreakerState> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the circuit lets a call pass.
    async fn admitted(&self, time: &Time) {
        loop {
            let until = {
                let mut breaker = self.breaker();
                let now = time.monotonic();
                match breaker.open_until {
                    None => return,
                    Some(until) if until <= now && !breaker.trying => {
                        breaker.trying = true;
                        return;
                    }
                    // Another call is trying it.
                    Some(until) if until <= now => now + self.policy.breaker.open_for / 4,
                    Some(until) => until,
                }
            };
            time.sleep_until(until).await;
        }
    }

    fn went(&self, well: bool, time: &Time) {
        let mut breaker = self.breaker();
        breaker.trying = false;
        if well {
            *breaker = BreakerState::default();
            return;
        }
        breaker.failures += 1;
        if breaker.failures >= self.policy.breaker.failures_max {
            breaker.open_until = Some(time.monotonic() + self.policy.breaker.open_for);
        }
    }

    /// Runs one attempt under the time-out; a panic counts as an unknown outcome.
    async fn attempt<T>(
        &self,
        time: &Time,
        call: BoxFuture<'static, Result<T, CallError>>,
    ) -> Result<T, CallError> {
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

    /// One attempt, as soon as circuit and bulkhead let it pass.
    async fn guarded<T>(
        &self,
        time: &Time,
        sending: Option<&Sending>,
        call: impl FnOnce() -> BoxFuture<'static, Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let admitted = async {
            let permit = self.permits.acquire().await;
            self.admitted(time).await;
            permit
        };
        let permit = unless_given_up(sending, admitted).await;
        let _permit = match permit {
            Some(Ok(permit)) => permit,
            Some(Err(_)) => return Err(CallError::Failed("the runtime is shutting down".into())),
            None => return Err(CallError::Failed("nobody wants it any more".into())),
        };
        let mut trial = Trial {
            effect: self,
            ended: false,
        };
        let called = contain(call).unwrap_or_else(|panic| {
            let text = format!("the code of effect {} panicked: {panic}", self.name);
            Box::pin(async { Err(CallError::Unknown(text)) })
        });
        let result = self.attempt(time, called).await;
        trial.ended = true;
        self.went(matches!(result, Ok(_) | Err(CallError::Refused(_))), time);
        result
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

fn encode<T: Serialize>(value: &T) -> Result<Json, CallError> {
    Json::of(value).map_err(|error| CallError::Unknown(error.to_string()))
}

fn malformed(error: &serde_json::Error) -> CallError {
    CallError::Refused(Rejection::new("malformed", error.to_string()))
}

/// Every effect of a service, by name.
#[derive(Default)]
pub struct Effects(pub BTreeMap<&'static str, EffectHost>);

impl Effects {
    /// Makes a call under its policy. `again` says that an earlier runtime may have made it.
    /// `None` if who has sent it gives it up meanwhile.
    pub async fn call(
        &self,
        time: &Time,
        envelope: &CallEnvelope,
        again: bool,
        sending: Option<&Sending>,
    ) -> Option<Outcome> {
        let CallEnvelope {
            key,
            call: Call { effect, request },
            ..
        } = envelope;
        let Some(host) = self.0.get(effect.as_str()) else {
            let known: Vec<_> = self.0.keys().copied().collect();
            return Some(Outcome::Unavailable(format!(
                "no effect {effect:?} is registered here; known: {}",
                known.join(", ")
            )));
        };
        let policy = host.policy;
        let mut ask_first = again && policy.repeat == Repeat::Ask;
        if again && policy.repeat == Repeat::Never {
            return Some(Outcome::Unknown(
                "the runtime that asked for the call stopped before the answer came".to_owned(),
            ));
        }
        let mut attempt = 1;
        loop {
            let result = match (&host.ask, ask_first) {
                (Some(ask), true) => {
                    match host
                        .guarded(time, sending, || ask(request.clone(), *key))
                        .await
                    {
                        Ok(Some(done)) => return Some(Outcome::Done(done)),
                        Ok(None) => {
                            ask_first = false;
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                (None, true) => {
                    return Some(Outcome::Unknown(format!(
                        "effect {effect} says to ask what became of a call, but not how"
                    )));
                }
                (_, false) => {
                    host.guarded(time, sending, || (host.call)(request.clone(), *key))
                        .await
                }
            };
            if result.is_err() && is_given_up(sending) {
                return None;
            }
            let reason = match result {
                Ok(done) => return Some(Outcome::Done(done)),
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
            let rest = time.sleep(policy.retry.delay_after(attempt, key.as_u128()));
            unless_given_up(sending, rest).await?;
            attempt += 1;
        }
    }

    /// How each third party is doing.
    pub fn circuits(&self, time: &Time) -> Vec<Circuit> {
        let circuit = |host: &EffectHost| {
            let breaker = host.breaker();
            let state = match breaker.open_until {
                None => CircuitState::Closed,
                Some(_) if breaker.trying => CircuitState::HalfOpen,
                Some(until) if until > time.monotonic() => CircuitState::Open,
                Some(_) => CircuitState::HalfOpen,
            };
            Circuit {
                effect: host.name,
                state,
                failures: breaker.failures,
                in_flight: (host.policy.in_flight_max as usize)
                    .saturating_sub(host.permits.available_permits()),
            }
        };
        self.0.values().map(circuit).collect()
    }
}
