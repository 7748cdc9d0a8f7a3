use std::time::Duration;

use anabranch_model::{CommandId, StreamId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::EncodeError;
use crate::json::Json;
use crate::retry::Retry;

/// A call to the world outside, as a value: the intent. The runtime records the intent, makes
/// the call under the policy, and records the outcome; the function that makes the call is
/// given to the runtime, not written here.
///
/// ```
/// use anabranch_domain::{CallPolicy, Effect, Repeat};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Charge {
///     order: String,
///     mills: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Charged {
///     reference: String,
/// }
///
/// impl Effect for Charge {
///     const NAME: &'static str = "charge";
///     type Outcome = Charged;
///
///     fn policy() -> CallPolicy {
///         CallPolicy {
///             repeat: Repeat::WithKey,
///             ..CallPolicy::default()
///         }
///     }
/// }
/// ```
pub trait Effect: Serialize + DeserializeOwned + Send + 'static {
    /// The effect's name, unique in its service.
    const NAME: &'static str;

    /// What a call that went well gives back.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;

    /// How calls are made.
    fn policy() -> CallPolicy {
        CallPolicy::default()
    }
}

/// How calls of one effect are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPolicy {
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// When to try again.
    pub retry: Retry,
    /// What may be done when it is not known whether a call was carried out.
    pub repeat: Repeat,
    /// The most calls in flight at once: one slow provider does not take all there is.
    pub in_flight_max: u32,
    /// When to stop calling a provider that only fails.
    pub breaker: Breaker,
}

impl Default for CallPolicy {
    /// Ten seconds for an attempt, retries without end and with the same key, 64 in flight.
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(10),
            retry: Retry::DEFAULT,
            repeat: Repeat::WithKey,
            in_flight_max: 64,
            breaker: Breaker::default(),
        }
    }
}

/// What may be done when it is not known whether a call was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// Call again with the same idempotency key: the third party does it once.
    #[default]
    WithKey,
    /// Ask the third party what became of it, then decide.
    Ask,
    /// Never: the outcome is reported as unknown.
    Never,
}

/// Stops calling a provider that only fails, and tries it again after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// How many failures in a row open the circuit.
    pub failures_max: u32,
    /// How long it stays open before one call tries again.
    pub open_for: Duration,
    /// What a call comes to meanwhile.
    pub when_open: WhenOpen,
}

/// What a call comes to while the circuit is open. It takes no place among those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenOpen {
    /// It is made when the circuit lets one pass.
    #[default]
    Wait,
    /// The request of a saga's step is refused at once with the code
    /// [`CIRCUIT_OPEN`](crate::saga::CIRCUIT_OPEN): the step asks for its
    /// [`fallback`](crate::saga::StepBuilder::fallback), if it has one; one that can be undone lets
    /// the saga go back; any other is tried again. But only if it was never made, since otherwise
    /// it may have taken effect. Compensations, and the calls of processes, wait.
    Refuse,
}

impl Default for Breaker {
    /// Opens after five failures, for five seconds.
    fn default() -> Self {
        Self {
            failures_max: 5,
            open_for: Duration::from_secs(5),
            when_open: WhenOpen::Wait,
        }
    }
}

/// A call to make: the effect's name and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The effect's name.
    pub effect: String,
    /// What the effect holds.
    pub request: Json,
}

impl Call {
    /// The call that `effect` means.
    pub fn new<F: Effect>(effect: &F) -> Result<Self, EncodeError> {
        Ok(Self {
            effect: F::NAME.to_owned(),
            request: Json::of(effect)?,
        })
    }
}

/// A call on its way to a third party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnvelope {
    /// The idempotency key: the same for every attempt.
    pub key: CommandId,
    /// What to call.
    pub call: Call,
    /// The process or saga that waits for the outcome.
    pub reply_to: StreamId,
    /// Id of the story that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// W3C trace context of who began that story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}
