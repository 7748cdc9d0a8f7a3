//! Consumers: where they begin, what they see again, and what happens at an event that fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::{HandleError, Retry};
use anabranch_env::Env;
use anabranch_log::{Append, Layout, Log, MemoryLog, PartitionedLog};
use anabranch_model::{Cut, Event, EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::checkpoint::{Checkpoints, MemoryCheckpoints};
use anabranch_runtime::consumer::{Consumer, ConsumerFrom, ConsumerSpec, FollowState};
use anabranch_runtime::{Service, Time};

/// What a consumer has seen: the data of the events.
type Seen = Arc<Mutex<Vec<String>>>;

struct Stage {
    env: Env,
    log: Arc<dyn Log>,
    checkpoints: Arc<dyn Checkpoints>,
    seen: Seen,
    /// What the consumer's code refuses.
    bad: Seen,
}

fn text(event: &Event) -> String {
    String::from_utf8_lossy(event.data()).into_owned()
}

impl Stage {
    fn new() -> Self {
        let env = Env::os();
        Self::on(Arc::new(MemoryLog::new(env.clone())), env)
    }

    fn partitioned() -> Self {
        let env = Env::os();
        let layout = Layout::new(Vec::new(), 8).unwrap();
        Self::on(Arc::new(PartitionedLog::in_memory(&env, layout)), env)
    }

    fn on(log: Arc<dyn Log>, env: Env) -> Self {
        Self {
            log,
            checkpoints: Arc::new(MemoryCheckpoints::new()),
            seen: Seen::default(),
            bad: Seen::default(),
            env,
        }
    }

    async fn append(&self, category: &str, data: &str) -> Cut {
        let mut event = NewEvent::new(
            EventId::from_u128(self.env.rng.next_u128()),
            StreamId::of(category, "1").unwrap(),
            EventType::new("Placed").unwrap(),
            data.to_owned().into_bytes(),
        );
        event.meta_mut().content_type = Some("text/plain".to_owned());
        self.log.append(Append::event(event)).await.unwrap();
        self.log.head().await.unwrap()
    }

    fn each(&self, from: ConsumerFrom) -> ConsumerSpec {
        let (seen, bad) = (self.seen.clone(), self.bad.clone());
        let spec = from.each(move |event| {
            let (seen, bad) = (seen.clone(), bad.clone());
            async move {
                let text = text(&event);
                // A panic must not poison the lock.
                let is_bad = bad.lock().unwrap().contains(&text);
                match is_bad {
                    true if text == "panic" => panic!("its code is wrong"),
                    true => return Err(HandleError::from("no such address")),
                    false => seen.lock().unwrap().push(text),
                }
                Ok(())
            }
        });
        spec.retry(Retry::NEVER)
    }

    async fn start(&self, spec: ConsumerSpec) -> Service {
        Service::builder("mail", self.log.clone(), Time::of(&self.env))
            .checkpoints(self.checkpoints.clone())
            .consumer(spec)
            .start()
            .await
            .unwrap()
    }

    fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn orders() -> Consumer {
    Consumer::named("mailer").categories(["order"])
}

async fn state(service: &Service) -> FollowState {
    service.consumer("mailer").unwrap().status().await.state
}

async fn until_stopped(service: &Service) -> String {
    loop {
        if let FollowState::Stopped { event } = state(service).await {
            return event.reason;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_consumer_sees_what_it_wants_in_order_and_goes_on_after_a_restart() {
    let stage = Stage::new();
    stage.append("order", "1").await;
    stage.append("basket", "2").await;
    let service = stage.start(stage.each(orders().from_start())).await;
    let head = stage.append("order", "3").await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["1", "3"]);
    assert!(service.shutdown(Duration::from_secs(5)).await);
    drop(service);
    let head = stage.append("order", "4").await;
    let service = stage.start(stage.each(orders().from_start())).await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["4"]);
}

/// A story that goes from partition to partition; each event depends on the one before.
async fn tell(stage: &Stage, texts: std::ops::Range<u32>) -> Cut {
    let mut token = Cut::start();
    for n in texts {
        let category = if n % 3 == 2 { "basket" } else { "order" };
        let mut event = NewEvent::new(
            EventId::from_u128(stage.env.rng.next_u128()),
            StreamId::of(category, &(n * 7).to_string()).unwrap(),
            EventType::new("Placed").unwrap(),
            n.to_string().into_bytes(),
        );
        event.meta_mut().causes = token.clone();
        let appended = stage.log.append(Append::event(event)).await.unwrap();
        token.join(&appended.closure);
    }
    token
}

#[tokio::test]
async fn a_consumer_of_several_partitions_sees_no_effect_before_its_cause_also_after_a_restart() {
    let stage = Stage::partitioned();
    let told = |texts: std::ops::Range<u32>| -> Vec<String> {
        let orders = texts.filter(|n| n % 3 != 2);
        orders.map(|n| n.to_string()).collect()
    };
    let token = tell(&stage, 0..60).await;
    let service = stage.start(stage.each(orders().from_start())).await;
    service.consumer("mailer").unwrap().reached(&token).await;
    assert_eq!(stage.take_seen(), told(0..60));
    let token = tell(&stage, 60..90).await;
    service.consumer("mailer").unwrap().reached(&token).await;
    assert_eq!(stage.take_seen(), told(60..90));
    assert!(service.shutdown(Duration::from_secs(5)).await);
    drop(service);
    let token = tell(&stage, 90..120).await;
    let service = stage.start(stage.each(orders().from_start())).await;
    service.consumer("mailer").unwrap().reached(&token).await;
    assert_eq!(stage.take_seen(), told(90..120));
}

#[tokio::test]
async fn from_now_means_the_first_start_also_when_nothing_came_before_the_next() {
    let stage = Stage::new();
    stage.append("order", "old").await;
    let service = stage.start(stage.each(orders().from_now())).await;
    drop(service);
    let head = stage.append("order", "new").await;
    let service = stage.start(stage.each(orders().from_now())).await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["new"]);
}

#[tokio::test]
async fn a_consumer_begins_behind_the_cut_that_it_is_told() {
    let stage = Stage::new();
    let cut = stage.append("order", "1").await;
    let head = stage.append("order", "2").await;
    let service = stage.start(stage.each(orders().from(cut))).await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["2"]);
}

#[tokio::test]
async fn a_place_of_another_log_is_refused() {
    let stage = Stage::new();
    let started = Service::builder("mail", stage.log.clone(), Time::of(&stage.env))
        .consumer(stage.each(orders().from(Cut::at(7))))
        .start();
    let error = started.await.err().unwrap().to_string();
    assert!(error.contains("it is a place of another log"), "{error}");
}

#[tokio::test]
async fn a_consumer_stops_before_an_event_that_fails_and_is_told_to_retry_or_skip() {
    let stage = Stage::new();
    for (data, why) in [("bad", "no such address"), ("panic", "its code panicked")] {
        stage.bad.lock().unwrap().push(data.to_owned());
        stage.append("order", "before").await;
        stage.append("order", data).await;
        let head = stage.append("order", "behind").await;
        let service = stage.start(stage.each(orders().from_start())).await;
        let reason = until_stopped(&service).await;
        assert!(reason.contains(why), "{reason}");
        assert_eq!(stage.take_seen(), ["before"]);
        let mailer = service.consumer("mailer").unwrap();
        if data == "bad" {
            stage.bad.lock().unwrap().clear();
            assert!(mailer.retry());
        } else {
            assert!(mailer.skip().await.unwrap());
        }
        mailer.reached(&head).await;
        let expected: &[&str] = if data == "bad" {
            &["bad", "behind"]
        } else {
            &["behind"]
        };
        assert_eq!(stage.take_seen(), expected);
        assert!(!mailer.retry(), "it has not stopped");
    }
}

#[tokio::test]
async fn a_batch_that_fails_is_given_again_as_a_whole() {
    let stage = Stage::new();
    for data in ["1", "2", "3"] {
        stage.append("order", data).await;
    }
    let head = stage.log.head().await.unwrap();
    let (seen, calls) = (stage.seen.clone(), Arc::new(Mutex::new(0)));
    let spec = orders().from_start().batches(move |events| {
        let (seen, calls) = (seen.clone(), calls.clone());
        async move {
            *calls.lock().unwrap() += 1;
            if *calls.lock().unwrap() == 1 {
                return Err("busy".into());
            }
            seen.lock().unwrap().extend(events.iter().map(text));
            Ok(())
        }
    });
    let service = stage.start(spec).await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_consumer_is_listed_with_its_lag() {
    let stage = Stage::new();
    stage.bad.lock().unwrap().push("bad".to_owned());
    stage.append("order", "bad").await;
    stage.append("order", "behind").await;
    let service = stage.start(stage.each(orders().from_start())).await;
    until_stopped(&service).await;
    let mut listed = service.consumers();
    let (name, mailer) = listed.next().unwrap();
    let status = mailer.status().await;
    assert_eq!((name, status.events, status.lag_events), ("mailer", 0, 2));
    assert!(listed.next().is_none());
    let error = service.consumer("mialer").err().unwrap().to_string();
    assert!(error.contains("known: mailer"), "{error}");
}

/// What a consumer says that cannot go on.
async fn until_failing(service: &Service) -> String {
    loop {
        if let FollowState::Failing { reason } = state(service).await {
            return reason;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_consumer_takes_in_nothing_of_a_log_that_was_put_in_the_place_of_what_it_has_read() {
    let stage = Stage::partitioned();
    let head = tell(&stage, 0..20).await;
    let service = stage.start(stage.each(orders().from_start())).await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert!(service.shutdown(Duration::from_secs(5)).await);
    drop(service);
    stage.take_seen();
    // It has grown beyond that place since.
    let mut other = Stage::partitioned();
    other.checkpoints = stage.checkpoints.clone();
    tell(&other, 0..200).await;
    let service = other.start(other.each(orders().from_start())).await;
    let reason = until_failing(&service).await;
    assert!(reason.contains("is not what it was"), "{reason}");
    assert_eq!(other.take_seen(), Vec::<String>::new());
    drop(service);
    // The right one is there again.
    let service = stage.start(stage.each(orders().from_start())).await;
    let head = stage.append("order", "new").await;
    service.consumer("mailer").unwrap().reached(&head).await;
    assert_eq!(stage.take_seen(), ["new"]);
}
