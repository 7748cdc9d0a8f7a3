use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::{CommandId, Effect, Json, Rejection};
use anabranch_runtime::{CallError, ServiceBuilder};

use crate::message::Message;
use crate::sky::Sky;

/// A third party that carries out calls of one effect. It is outside of the services, so it
/// survives their crashes; a clone is the same third party.
pub struct Provider<F: Effect> {
    inner: Arc<Mutex<Inner<F>>>,
}

type CarryOut<F> = Box<dyn FnMut(&F) -> Result<<F as Effect>::Outcome, Rejection> + Send>;

struct Inner<F: Effect> {
    carry_out: CarryOut<F>,
    is_down: bool,
    knows_keys: bool,
    outcomes: BTreeMap<CommandId, Result<Json, Rejection>>,
    calls: u64,
    carried_out: u64,
}

impl<F: Effect> Clone for Provider<F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<F: Effect> Provider<F> {
    /// One who carries each key out once.
    pub fn new(
        carry_out: impl FnMut(&F) -> Result<F::Outcome, Rejection> + Send + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                carry_out: Box::new(carry_out),
                is_down: false,
                knows_keys: true,
                outcomes: BTreeMap::new(),
                calls: 0,
                carried_out: 0,
            })),
        }
    }

    /// The same, but it has no memory of keys: each call is carried out.
    #[must_use]
    pub fn without_keys(self) -> Self {
        self.lock().knows_keys = false;
        self
    }

    /// From now on it answers only that it is down.
    pub fn go_down(&self) {
        self.lock().is_down = true;
    }

    /// It works again.
    pub fn come_up(&self) {
        self.lock().is_down = false;
    }

    /// How many calls have reached it while it was up.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many calls it has carried out.
    pub fn carried_out(&self) -> u64 {
        self.lock().carried_out
    }

    fn lock(&self) -> MutexGuard<'_, Inner<F>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, key: CommandId, request: &F) -> Result<Json, CallError> {
        let inner = &mut *self.lock();
        if inner.is_down {
            return Err(CallError::Failed(format!("{} is down", F::NAME)));
        }
        inner.calls += 1;
        if inner.knows_keys
            && let Some(outcome) = inner.outcomes.get(&key)
        {
            return outcome.clone().map_err(CallError::Refused);
        }
        let outcome = match (inner.carry_out)(request) {
            Ok(done) => {
                inner.carried_out += 1;
                let json = Json::of(&done);
                Ok(json.map_err(|error| CallError::Failed(error.to_string()))?)
            }
            Err(rejection) => Err(rejection),
        };
        inner.outcomes.insert(key, outcome.clone());
        outcome.map_err(CallError::Refused)
    }

    /// Connects the effect of a service to this third party, through the sky.
    pub(crate) fn declare(&self, builder: ServiceBuilder, sky: &Arc<Sky>) -> ServiceBuilder {
        let (provider, sky) = (self.clone(), sky.clone());
        builder.effect::<F, _, _>(move |request: F, key| {
            let (provider, sky) = (provider.clone(), sky.clone());
            async move {
                let json = Json::of(&request).map_err(|e| CallError::Failed(e.to_string()))?;
                let call = Message::Call {
                    effect: F::NAME,
                    key,
                    request: json,
                };
                // Who calls gives up after the time limit of its policy.
                let Some(times) = sky.carry(&call).await else {
                    return pending().await;
                };
                let mut answer = provider.call(key, &request);
                for _ in 1..times {
                    answer = provider.call(key, &request);
                }
                let effect = F::NAME;
                if sky
                    .carry(&Message::CallAnswer { effect, key })
                    .await
                    .is_none()
                {
                    return pending().await;
                }
                let outcome = answer?.parse::<F::Outcome>();
                outcome.map_err(|error| CallError::Unknown(error.to_string()))
            }
        })
    }
}
