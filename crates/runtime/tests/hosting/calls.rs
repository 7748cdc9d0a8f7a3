//! Calls to the world outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::{
    Breaker, CallPolicy, CommandId, Correlate, Decide, Effect, EventRef, Input, Outcome, Process,
    Reaction, Rejection, Repeat, Retry, StreamId,
};
use anabranch_runtime::{CallError, CircuitState, Service};
use serde::{Deserialize, Serialize};

use crate::processes::{add, builder, run};
use crate::support::{Bench, CounterEvent, settle};

/// A call to a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Charge {
    amount: u64,
}

impl Effect for Charge {
    const NAME: &'static str = "charge";
    type Outcome = u64;

    fn policy() -> CallPolicy {
        CallPolicy {
            attempt_timeout: Duration::from_secs(1),
            retry: Retry {
                jitter_percent: 0,
                ..Retry::DEFAULT
            },
            repeat: Repeat::WithKey,
            in_flight_max: 2,
            breaker: Breaker {
                failures_max: 3,
                open_for: Duration::from_secs(20),
                ..Breaker::default()
            },
        }
    }
}

/// Charges what is added; counts what came back.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Charging {
    charged: u64,
    refused: u64,
}

impl Process for Charging {
    const NAME: &'static str = "charging";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.stream.replace('/', "-"))
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => Reaction::none().call(&Charge {
                amount: n.unsigned_abs(),
            }),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<CounterEvent>) {
        if let Input::Reply(reply) = input {
            match &reply.outcome {
                Outcome::Done(json) => self.charged += json.parse::<u64>().unwrap_or_default(),
                _ => self.refused += 1,
            }
        }
    }
}

/// A provider that knows keys, and does what it is told to.
#[derive(Default)]
struct Provider {
    calls: AtomicU32,
    in_flight: AtomicU32,
    most_in_flight: AtomicU32,
    charged: Mutex<BTreeMap<CommandId, u64>>,
    /// What the next calls do: `false` fails.
    plan: Mutex<Vec<bool>>,
    slow: Mutex<Option<anabranch_runtime::Time>>,
}

impl Provider {
    async fn charge(self: Arc<Self>, charge: Charge, key: CommandId) -> Result<u64, CallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
        let slow = self.slow.lock().unwrap().clone();
        if let Some(time) = slow {
            time.sleep(Duration::from_millis(500)).await;
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.plan.lock().unwrap().pop() == Some(false) {
            return Err(CallError::Failed("down".to_owned()));
        }
        if charge.amount == 666 {
            return Err(CallError::Refused(Rejection::new(
                "stolen",
                "a stolen card",
            )));
        }
        self.charged.lock().unwrap().insert(key, charge.amount);
        Ok(charge.amount)
    }
}

async fn charging(bench: &Bench, provider: &Arc<Provider>) -> Service {
    let provider = provider.clone();
    builder(bench)
        .process::<Charging>()
        .effect::<Charge, _, _>(move |charge, key| provider.clone().charge(charge, key))
        .start()
        .await
        .unwrap()
}

async fn charged(service: &Service, key: &str) -> Charging {
    let stream = StreamId::of("charging", &format!("counter-{key}")).unwrap();
    let shown = service.process("charging").unwrap().show(stream).await;
    shown.description.unwrap().state.parse().unwrap()
}

#[tokio::test]
async fn an_effect_is_called_and_its_outcome_recorded() {
    let bench = Bench::new();
    let provider = Arc::new(Provider::default());
    let service = charging(&bench, &provider).await;
    add(&service, "a", 5).await;
    add(&service, "a", 666).await;
    run(&bench, 1).await;
    let state = charged(&service, "a").await;
    assert_eq!((state.charged, state.refused), (5, 1));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_in_a_crash_is_made_again_with_the_same_key() {
    let bench = Bench::new();
    let provider = Arc::new(Provider::default());
    *provider.slow.lock().unwrap() = Some(bench.time.clone());
    let service = charging(&bench, &provider).await;
    add(&service, "a", 5).await;
    settle().await;
    assert_eq!(provider.calls.load(Ordering::Relaxed), 1);
    drop(service);
    let service = charging(&bench, &provider).await;
    run(&bench, 2).await;
    assert_eq!(provider.calls.load(Ordering::Relaxed), 2);
    assert_eq!(provider.charged.lock().unwrap().len(), 1);
    assert_eq!(charged(&service, "a").await.charged, 5);
}

#[tokio::test]
async fn a_provider_that_only_fails_is_left_alone_for_a_while() {
    let bench = Bench::new();
    let provider = Arc::new(Provider::default());
    *provider.plan.lock().unwrap() = vec![false; 3];
    let service = charging(&bench, &provider).await;
    add(&service, "a", 5).await;
    run(&bench, 5).await;
    assert_eq!(provider.calls.load(Ordering::Relaxed), 3);
    assert_eq!(service.circuits()[0].state, CircuitState::Open);
    run(&bench, 25).await;
    assert_eq!(service.circuits()[0].state, CircuitState::Closed);
    assert_eq!(charged(&service, "a").await.charged, 5);
}

#[tokio::test]
async fn one_slow_provider_gets_no_more_calls_at_once_than_it_may() {
    let bench = Bench::new();
    let provider = Arc::new(Provider::default());
    *provider.slow.lock().unwrap() = Some(bench.time.clone());
    let service = charging(&bench, &provider).await;
    for n in 1..10 {
        add(&service, "a", n).await;
    }
    run(&bench, 10).await;
    assert_eq!(charged(&service, "a").await.charged, 45);
    assert_eq!(provider.most_in_flight.load(Ordering::Relaxed), 2);
}
