//! Why a call fails, and what an open circuit does to those who want to call.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::saga::{Definition, Promise, Request};
use anabranch_domain::{Breaker, CallPolicy, Effect, Retry, Saga, WhenOpen};
use anabranch_runtime::{CallError, CircuitState, Service};
use serde::{Deserialize, Serialize};

use crate::faults::show;
use crate::processes::{builder, run};
use crate::support::Bench;

/// A fee to be taken by a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fee<const REFUSE: bool> {
    amount: u64,
}

impl<const REFUSE: bool> Effect for Fee<REFUSE> {
    const NAME: &'static str = "fee";
    type Outcome = u64;

    fn policy() -> CallPolicy {
        CallPolicy {
            attempt_timeout: Duration::from_secs(1),
            retry: Retry {
                jitter_percent: 0,
                ..Retry::DEFAULT
            },
            in_flight_max: 1,
            breaker: Breaker {
                failures_max: 3,
                open_for: Duration::from_secs(20),
                when_open: match REFUSE {
                    true => WhenOpen::Refuse,
                    false => WhenOpen::Wait,
                },
            },
            ..CallPolicy::default()
        }
    }
}

/// A fee to be taken by a provider that works.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refund;

impl Effect for Refund {
    const NAME: &'static str = "refund";
    type Outcome = ();
}

/// Takes a fee; its time is up after a minute.
struct Billing<const REFUSE: bool>;

impl<const REFUSE: bool> Saga for Billing<REFUSE> {
    const NAME: &'static str = "billing";
    type Event = anabranch_domain::NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        Definition::new(1).compensatable("pay", |step| {
            step.changes("money")
                .request(|&amount: &u64, _| Request::call(&Fee::<REFUSE> { amount }))
                .undo(Promise::ALL, |_, _| Request::call(&Refund))
                .timeout(Duration::from_secs(60))
                .alert_after(3)
        })
    }
}

/// Takes a fee as its point of no return.
struct Closing;

impl Saga for Closing {
    const NAME: &'static str = "closing";
    type Event = anabranch_domain::NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        Definition::new(1).pivot("pay", |step| {
            step.changes("money")
                .request(|&amount: &u64, _| Request::call(&Fee::<true> { amount }))
        })
    }
}

/// Takes a fee as its point of no return, or else by hand.
struct ClosingByHand;

impl Saga for ClosingByHand {
    const NAME: &'static str = "by-hand";
    type Event = anabranch_domain::NoEvent;
    type Input = u64;

    fn define() -> Definition<u64> {
        Definition::new(1).pivot("pay", |step| {
            step.changes("money")
                .request(|&amount: &u64, _| Request::call(&Fee::<true> { amount }))
                .fallback(|_, _| Request::call(&Refund))
        })
    }
}

/// A provider that can be away, and says so in its own words.
#[derive(Default)]
struct Provider {
    is_away: AtomicBool,
    words: Mutex<String>,
    calls: AtomicU32,
}

impl Provider {
    fn away(words: &str) -> Arc<Self> {
        let provider = Self::default();
        provider.is_away.store(true, Ordering::Relaxed);
        *provider.words.lock().unwrap() = words.to_owned();
        Arc::new(provider)
    }

    fn come_back(&self) {
        self.is_away.store(false, Ordering::Relaxed);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn take(self: Arc<Self>, amount: u64) -> Result<u64, CallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(CallError::Failed(self.words.lock().unwrap().clone())),
            false => Ok(amount),
        }
    }
}

async fn billing<const REFUSE: bool>(bench: &Bench, provider: &Arc<Provider>) -> Service {
    let provider = provider.clone();
    builder(bench)
        .saga::<Billing<REFUSE>>()
        .saga::<Closing>()
        .saga::<ClosingByHand>()
        .effect::<Fee<REFUSE>, _, _>(move |fee, _| provider.clone().take(fee.amount))
        .effect::<Refund, _, _>(|_, _| async { Ok(()) })
        .start()
        .await
        .unwrap()
}

async fn start<S: Saga<Input = u64>>(service: &Service, key: &str) {
    service.start_saga::<S>(key, &5).await.unwrap();
}

async fn shown(service: &Service, saga: &str, key: &str) -> serde_json::Value {
    let status = show(service, saga, key).await;
    let description = status.description.unwrap();
    let mut shown: serde_json::Value = description.state.parse().unwrap();
    shown["phase"] = description.phase.into();
    shown
}

#[tokio::test]
async fn who_looks_at_a_saga_reads_why_its_call_fails_in_the_words_of_the_provider() {
    let bench = Bench::new();
    let provider = Provider::away("503: closed for stocktaking");
    let service = billing::<false>(&bench, &provider).await;
    start::<Billing<false>>(&service, "1").await;
    run(&bench, 1).await;
    let saga = shown(&service, "billing", "1").await;
    assert_eq!(
        saga["steps"][0]["last_error"],
        "503: closed for stocktaking"
    );

    let sent = service.sent_by(&"billing/1".parse().unwrap());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].what, "call fee");
    assert!(sent[0].attempts >= 3, "{sent:?}");
    assert!(
        sent[0]
            .last_error
            .as_ref()
            .unwrap()
            .ends_with("stocktaking")
    );
    assert!(sent[0].again_at.unwrap() > bench.time.now());
}

#[tokio::test]
async fn a_saga_that_had_no_answer_for_long_says_what_the_provider_said_last() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<false>(&bench, &provider).await;
    start::<Billing<false>>(&service, "1").await;
    run(&bench, 10).await;
    let saga = shown(&service, "billing", "1").await;
    let parked = saga["steps"][0]["parked"].as_str().unwrap();
    assert!(
        parked.starts_with("no answer after 3 attempts: "),
        "{parked}"
    );
    assert!(parked.ends_with("closed"), "{parked}");
    // Its time is up: the reason for going back has the words too.
    run(&bench, 60).await;
    let saga = shown(&service, "billing", "1").await;
    let why = saga["aborted"].as_str().unwrap();
    assert!(
        why.starts_with("step pay did not answer in time: "),
        "{why}"
    );
    assert!(why.ends_with("closed"), "{why}");
}

#[tokio::test]
async fn what_a_provider_said_stands_in_the_journal_once_however_often_it_says_so() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<false>(&bench, &provider).await;
    start::<Billing<false>>(&service, "1").await;
    run(&bench, 50).await;
    drop(service);
    let types = bench.types("billing/1").await;
    let said = types.iter().filter(|name| *name == "AttemptFailed");
    assert_eq!(said.count(), 1, "{types:?}");
    // After a restart it can still be read.
    let service = billing::<false>(&bench, &provider).await;
    let saga = shown(&service, "billing", "1").await;
    let words = saga["steps"][0]["last_error"].as_str().unwrap().to_owned();
    assert!(words.ends_with("closed"), "{words}");
}

#[tokio::test]
async fn an_open_circuit_says_why_and_when_it_is_tried_next() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<false>(&bench, &provider).await;
    start::<Billing<false>>(&service, "1").await;
    run(&bench, 5).await;
    let circuit = &service.circuits()[0];
    assert_eq!(circuit.state, CircuitState::Open);
    assert_eq!(circuit.last_error.as_deref(), Some("closed"));
    let again_at = circuit.again_at.unwrap();
    assert!(again_at > bench.time.now() && again_at < bench.time.now() + Duration::from_secs(20));
    let told = service.diagnostics().into_iter().map(|note| note.text);
    let told: Vec<_> = told
        .filter(|text| text.contains("its circuit is open"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("closed"), "{told:?}");
}

#[tokio::test]
async fn who_waits_for_an_open_circuit_takes_no_place_among_the_calls_in_flight() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<false>(&bench, &provider).await;
    for key in ["1", "2", "3"] {
        start::<Billing<false>>(&service, key).await;
    }
    run(&bench, 5).await;
    assert_eq!(service.circuits()[0].state, CircuitState::Open);
    assert_eq!(service.circuits()[0].in_flight, 0);
    assert_eq!(provider.calls(), 3);
    // Tried again when it lets one pass, and then all.
    provider.come_back();
    run(&bench, 30).await;
    for key in ["1", "2", "3"] {
        assert_eq!(shown(&service, "billing", key).await["phase"], "completed");
    }
    let told = service.diagnostics();
    assert!(
        told.iter()
            .any(|note| note.text == "effect fee works again")
    );
}

#[tokio::test]
async fn a_step_that_was_never_asked_for_is_refused_at_once_by_an_open_circuit_that_says_so() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<true>(&bench, &provider).await;
    start::<Billing<true>>(&service, "1").await;
    run(&bench, 5).await;
    let calls = provider.calls();
    start::<Billing<true>>(&service, "2").await;
    run(&bench, 1).await;
    let saga = shown(&service, "billing", "2").await;
    assert_eq!(saga["phase"], "compensated");
    assert_eq!(saga["steps"][0]["state"], "refused");
    let why = saga["aborted"].as_str().unwrap();
    assert!(
        why.contains("circuit-open") && why.contains("closed"),
        "{why}"
    );
    assert_eq!(provider.calls(), calls);
    // The first one may have taken effect: it is not taken for refused.
    let first = shown(&service, "billing", "1").await;
    assert_eq!(first["steps"][0]["state"], "started");
}

#[tokio::test]
async fn a_step_that_cannot_be_undone_is_tried_until_the_circuit_has_closed() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<true>(&bench, &provider).await;
    start::<Billing<true>>(&service, "1").await;
    run(&bench, 5).await;
    start::<Closing>(&service, "2").await;
    run(&bench, 5).await;
    let saga = shown(&service, "closing", "2").await;
    assert_eq!(saga["phase"], "running");
    provider.come_back();
    run(&bench, 60).await;
    assert_eq!(shown(&service, "closing", "2").await["phase"], "completed");
}

#[tokio::test]
async fn a_step_with_a_fallback_does_not_wait_for_an_open_circuit_that_says_so() {
    let bench = Bench::new();
    let provider = Provider::away("closed");
    let service = billing::<true>(&bench, &provider).await;
    start::<Billing<true>>(&service, "1").await;
    run(&bench, 5).await;
    let calls = provider.calls();
    start::<ClosingByHand>(&service, "2").await;
    run(&bench, 1).await;
    assert_eq!(provider.calls(), calls);
    drop(service);
    // As its journal says, after a restart.
    let service = billing::<true>(&bench, &provider).await;
    let saga = shown(&service, "by-hand", "2").await;
    assert_eq!(saga["phase"], "completed");
    let why = saga["steps"][0]["fallback"].as_str().unwrap();
    assert!(
        why.contains("circuit-open") && why.contains("closed"),
        "{why}"
    );
}
