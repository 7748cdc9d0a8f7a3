//! Effects whose outcome is lost, or whose code panics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::{
    Breaker, CallPolicy, CommandId, Correlate, Decide, Effect, EventRef, Input, Outcome, Process,
    Reaction, Repeat, Retry,
};
use anabranch_runtime::{CallContext, CallError, SendOptions, Service};
use serde::{Deserialize, Serialize};

use crate::faults::show;
use crate::processes::{add, builder, run};
use crate::support::{Bench, Counter, CounterCommand, CounterEvent, settle};

/// A payment that is made in one of three ways.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pay<const REPEAT: u8> {
    amount: u64,
}

const NEVER: u8 = 0;
const ASK: u8 = 1;
const WITH_KEY: u8 = 2;

impl<const REPEAT: u8> Effect for Pay<REPEAT> {
    const NAME: &'static str = "pay";
    type Outcome = u64;

    fn policy() -> CallPolicy {
        CallPolicy {
            attempt_timeout: Duration::from_secs(1),
            retry: Retry {
                jitter_percent: 0,
                attempts_max: Some(3),
                ..Retry::DEFAULT
            },
            repeat: [Repeat::Never, Repeat::Ask, Repeat::WithKey][REPEAT as usize],
            in_flight_max: 8,
            breaker: Breaker {
                failures_max: 100,
                open_for: Duration::from_secs(20),
                ..Breaker::default()
            },
        }
    }
}

/// Pays what is added; keeps what came back.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payer<const REPEAT: u8> {
    outcomes: Vec<String>,
}

impl<const REPEAT: u8> Process for Payer<REPEAT> {
    const NAME: &'static str = "payer";
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;

    fn correlate(_: &CounterEvent, _: &EventRef<'_>) -> Correlate {
        Correlate::Start("x".to_owned())
    }

    fn decide(&self, input: &Input<CounterEvent>, _: &Decide) -> Reaction {
        match input {
            Input::Event(CounterEvent::Added { n }, _) => Reaction::none().call(&Pay::<REPEAT> {
                amount: n.unsigned_abs(),
            }),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<CounterEvent>) {
        if let Input::Reply(reply) = input {
            self.outcomes.push(match &reply.outcome {
                Outcome::Done(done) => format!("done {}", done.as_str()),
                Outcome::Unknown(_) => "unknown".to_owned(),
                Outcome::Refused(_) => "refused".to_owned(),
                Outcome::Unavailable(_) => "unavailable".to_owned(),
            });
        }
    }
}

/// A bank whose answers can be lost: it does what it is asked, and never says so.
#[derive(Default)]
struct Bank {
    calls: AtomicU32,
    questions: AtomicU32,
    is_silent: AtomicBool,
    /// Does nothing, and does not say so.
    is_deaf: AtomicBool,
    paid: Mutex<BTreeMap<CommandId, u64>>,
}

impl Bank {
    async fn pay(self: Arc<Self>, amount: u64, key: CommandId) -> Result<u64, CallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.is_deaf.load(Ordering::Relaxed) {
            self.paid.lock().unwrap().insert(key, amount);
        }
        if self.is_silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(amount)
    }

    async fn paid(self: Arc<Self>, key: CommandId) -> Result<Option<u64>, CallError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        Ok(self.paid.lock().unwrap().get(&key).copied())
    }
}

async fn payer<const REPEAT: u8>(bench: &Bench, bank: &Arc<Bank>) -> Service {
    let (payer, asked) = (bank.clone(), bank.clone());
    builder(bench)
        .process::<Payer<REPEAT>>()
        .effect_asked::<Pay<REPEAT>, _, _, _, _>(
            move |pay, key| payer.clone().pay(pay.amount, key),
            move |_, key| asked.clone().paid(key),
        )
        .start()
        .await
        .unwrap()
}

async fn outcomes<const REPEAT: u8>(service: &Service) -> Vec<String> {
    let shown = show(service, "payer", "x").await.description.unwrap();
    shown.state.parse::<Payer<REPEAT>>().unwrap().outcomes
}

/// Pays 5, loses the answer in a crash, and starts again.
async fn pay_and_crash<const REPEAT: u8>(bench: &Bench, bank: &Arc<Bank>) -> Service {
    bank.is_silent.store(true, Ordering::Relaxed);
    let service = payer::<REPEAT>(bench, bank).await;
    add(&service, "a", 5).await;
    settle().await;
    assert_eq!(bank.calls.load(Ordering::Relaxed), 1);
    drop(service);
    bank.is_silent.store(false, Ordering::Relaxed);
    let service = payer::<REPEAT>(bench, bank).await;
    run(bench, 2).await;
    service
}

#[tokio::test]
async fn a_call_that_must_never_be_repeated_is_of_unknown_outcome_after_a_crash() {
    let (bench, bank) = (Bench::new(), Arc::new(Bank::default()));
    let service = pay_and_crash::<NEVER>(&bench, &bank).await;
    assert_eq!(outcomes::<NEVER>(&service).await, ["unknown"]);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_that_must_never_be_repeated_is_of_unknown_outcome_when_nobody_answers() {
    let (bench, bank) = (Bench::new(), Arc::new(Bank::default()));
    bank.is_silent.store(true, Ordering::Relaxed);
    let service = payer::<NEVER>(&bench, &bank).await;
    add(&service, "a", 5).await;
    run(&bench, 20).await;
    assert_eq!(outcomes::<NEVER>(&service).await, ["unknown"]);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn after_a_crash_the_third_party_is_asked_what_became_of_a_call() {
    let (bench, bank) = (Bench::new(), Arc::new(Bank::default()));
    let service = pay_and_crash::<ASK>(&bench, &bank).await;
    assert_eq!(outcomes::<ASK>(&service).await, ["done 5"]);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 1);
    assert_eq!(bank.questions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_that_the_third_party_knows_nothing_of_is_made_again() {
    let (bench, bank) = (Bench::new(), Arc::new(Bank::default()));
    bank.is_deaf.store(true, Ordering::Relaxed);
    let service = pay_and_crash::<ASK>(&bench, &bank).await;
    assert_eq!(outcomes::<ASK>(&service).await, ["done 5"]);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_panic_in_an_effect_costs_one_attempt() {
    let (bench, panics) = (Bench::new(), Arc::new(AtomicU32::new(0)));
    let counted = panics.clone();
    let service = builder(&bench)
        .process::<Payer<WITH_KEY>>()
        .effect::<Pay<WITH_KEY>, _, _>(move |pay, _| {
            // The first time before there is anything to wait for, then while it is waited for.
            let count = counted.fetch_add(1, Ordering::Relaxed);
            assert_ne!(count, 0, "at once");
            async move {
                assert_ne!(count, 1, "later");
                Ok(pay.amount)
            }
        })
        .start()
        .await
        .unwrap();
    add(&service, "a", 5).await;
    run(&bench, 20).await;
    assert_eq!(outcomes::<WITH_KEY>(&service).await, ["done 5"]);
    assert_eq!(panics.load(Ordering::Relaxed), 3);
    assert_eq!(service.under_way(), 0);
}

/// The story goes on at the third party: whoever began it finds what was done there.
#[tokio::test]
async fn a_call_knows_the_story_and_the_trace_that_it_belongs_to() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let bench = Bench::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let start = async || {
        let seen = seen.clone();
        let pay = move |pay: Pay<WITH_KEY>, context: CallContext| {
            seen.lock().unwrap().push(context);
            async move { Ok(pay.amount) }
        };
        let builder = builder(&bench).process::<Payer<WITH_KEY>>();
        builder.effect_in(pay).start().await.unwrap()
    };
    let service = start().await;
    let options = SendOptions {
        correlation_id: Some("monday".to_owned()),
        traceparent: Some(TRACE.to_owned()),
        ..SendOptions::default()
    };
    let counter = service.entity::<Counter>("a");
    let add = CounterCommand::Add { n: 5 };
    counter.send_with(add, options).await.unwrap();
    run(&bench, 1).await;
    let seen = seen.lock().unwrap();
    let [context] = &seen[..] else {
        panic!("called {} times", seen.len());
    };
    assert_eq!(context.correlation_id.as_deref(), Some("monday"));
    assert_eq!(context.traceparent.as_deref(), Some(TRACE));
}
