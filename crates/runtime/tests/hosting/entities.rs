//! Entities: command → decide → append → reply, and everything that can come between.

use std::time::Duration;

use anabranch_domain::{CommandId, Retry, Role};
use anabranch_log::{Expect, Log, Order, VersionRange};
use anabranch_model::{Cut, NewEvent, StreamId};
use anabranch_runtime::{EntityOptions, SendError, SendOptions, Service, Status};
use futures_util::future::join_all;

use crate::support::{Bench, Counter, CounterCommand, CounterEvent, Mischief, settle};

pub const ADD: CounterCommand = CounterCommand::Add { n: 1 };

pub fn one_shard() -> EntityOptions {
    EntityOptions {
        shards: 1,
        ..EntityOptions::default()
    }
}

fn with_id(id: u128) -> SendOptions {
    SendOptions {
        id: Some(CommandId::from_u128(id)),
        ..SendOptions::default()
    }
}

async fn sum(service: &Service, key: &str) -> i64 {
    let inspected = service.entity::<Counter>(key).inspect(None).await.unwrap();
    inspected.state.parse::<Counter>().unwrap().sum
}

/// Writes an event of a counter as another program would.
async fn write_beside(bench: &Bench, key: &str, id: u128, n: i64) {
    let event = NewEvent::new(
        anabranch_model::EventId::from_u128(id),
        StreamId::of("counter", key).unwrap(),
        anabranch_model::EventType::new("Added").unwrap(),
        format!(r#"{{"n":{n}}}"#),
    );
    let append = anabranch_log::Append::event(event);
    bench.log.inner().append(append).await.unwrap();
}

#[tokio::test]
async fn a_command_is_answered_with_what_it_recorded_and_a_token() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(CounterCommand::Open).await.unwrap();
    let accepted = counter.send(CounterCommand::Add { n: 5 }).await.unwrap();
    assert_eq!(accepted.version, Some(1));
    assert_eq!(accepted.token, Cut::at(2));
    assert!(!accepted.repeated);
    let event: CounterEvent = accepted.events[0].decode().unwrap();
    assert_eq!(event, CounterEvent::Added { n: 5 });
    assert_eq!(sum(&service, "a").await, 5);
}

#[tokio::test]
async fn a_rejection_is_the_entitys_own() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let refused = service
        .entity::<Counter>("a")
        .send(CounterCommand::Add { n: -1 })
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "only 0 left (below-zero)");
    assert!(bench.types("counter/a").await.is_empty());
}

#[tokio::test]
async fn commands_are_decided_while_earlier_ones_wait_for_the_log() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(ADD).await.unwrap();
    bench.log.hold();
    let sends = join_all((0..50).map(|_| counter.send(ADD)));
    let (outcomes, ()) = futures_util::future::join(sends, async {
        settle().await;
        bench.log.release();
    })
    .await;
    let versions: Vec<_> = outcomes.into_iter().map(|o| o.unwrap().version).collect();
    assert_eq!(versions, (1..51).map(Some).collect::<Vec<_>>());
    // One event alone at the start; the rest was gathered.
    assert!(bench.log.appends().len() <= 4, "{:?}", bench.log.appends());
    assert_eq!(sum(&service, "a").await, 51);
}

#[tokio::test]
async fn a_repeated_command_gets_the_first_outcome_though_it_would_now_be_refused() {
    // The entity itself remembers a few commands, the log all of them.
    for between in [0, 100] {
        let bench = Bench::new();
        let service = bench.service(one_shard()).await;
        let counter = service.entity::<Counter>("a");
        let open = || counter.send_with(CounterCommand::Open, with_id(9));
        let first = open().await.unwrap();
        for _ in 0..between {
            counter.send(ADD).await.unwrap();
        }
        let again = open().await.unwrap();
        assert!(again.repeated);
        assert_eq!((again.events, again.version), (first.events, first.version));
        let other = counter.send(CounterCommand::Open).await.unwrap_err();
        assert_eq!(other.code(), "rejected");
    }
}

#[tokio::test]
async fn a_rejected_command_that_is_repeated_soon_is_rejected_again() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let take = || counter.send_with(CounterCommand::Add { n: -1 }, with_id(9));
    let first = take().await.unwrap_err();
    counter.send(ADD).await.unwrap();
    assert_eq!(take().await.unwrap_err(), first);
}

#[tokio::test]
async fn a_compensation_that_overtakes_its_request_makes_the_request_refused_for_ever() {
    let bench = Bench::new();
    let saga = StreamId::new("saga/1").unwrap();
    let step = anabranch_domain::saga::StepId::new("take", 0);
    let playing = |id, role| SendOptions {
        role,
        reply_to: Some(saga.clone()),
        ..with_id(id)
    };
    let request = || playing(1, Role::Step(step.clone()));
    let undo = playing(
        2,
        Role::Undo {
            step: step.clone(),
            of: CommandId::from_u128(1),
        },
    );
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let undone = counter.send_with(CounterCommand::Add { n: 5 }, undo).await;
    assert!(undone.unwrap().events.is_empty());
    for _ in 0..2 {
        let late = counter.send_with(ADD, request()).await.unwrap_err();
        assert!(late.to_string().contains("compensated"), "{late}");
    }
    drop(service);
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let late = counter.send_with(ADD, request()).await.unwrap_err();
    assert!(late.to_string().contains("compensated"), "{late}");
    assert_eq!(bench.types("counter/a").await, ["$Tombstone"]);
}

#[tokio::test]
async fn a_refusal_that_a_saga_relies_on_survives_a_restart() {
    let bench = Bench::new();
    let take = || {
        let options = SendOptions {
            role: Role::Step(anabranch_domain::saga::StepId::new("take", 0)),
            reply_to: Some(StreamId::new("saga/1").unwrap()),
            ..with_id(9)
        };
        (CounterCommand::Add { n: -1 }, options)
    };
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let (command, options) = take();
    let first = counter.send_with(command, options).await.unwrap_err();
    counter.send(ADD).await.unwrap();
    drop(service);
    let service = bench.service(one_shard()).await;
    let (command, options) = take();
    let counter = service.entity::<Counter>("a");
    assert_eq!(
        counter.send_with(command, options).await.unwrap_err(),
        first
    );
    assert_eq!(bench.types("counter/a").await, ["$Refused", "Added"]);
}

#[tokio::test]
async fn a_repeated_command_changes_nothing_after_a_restart() {
    let bench = Bench::new();
    let add = || (CounterCommand::Add { n: 5 }, with_id(9));
    let (command, options) = add();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let first = counter.send_with(command, options).await.unwrap();
    counter.send(ADD).await.unwrap();
    drop(service);
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let (command, options) = add();
    let again = counter.send_with(command, options).await.unwrap();
    assert!(again.repeated);
    assert_eq!((again.events, again.version), (first.events, first.version));
    assert_eq!(sum(&service, "a").await, 6);
    // Memory did not count it twice either.
    let left = counter.send(CounterCommand::Add { n: -7 }).await;
    assert_eq!(left.unwrap_err().to_string(), "only 6 left (below-zero)");
}

#[tokio::test]
async fn a_repeated_command_among_new_ones_spoils_none_of_them() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let all = CounterCommand::AddAll {
        numbers: vec![1, 2, 3],
    };
    counter.send_with(all.clone(), with_id(9)).await.unwrap();
    drop(service);
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let sends = [(ADD, 1), (all, 9), (ADD, 2)];
    let sends = sends.map(|(command, id)| counter.send_with(command, with_id(id)));
    let outcomes = join_all(sends).await;
    let repeated: Vec<_> = outcomes
        .iter()
        .map(|o| o.as_ref().unwrap().repeated)
        .collect();
    assert_eq!(repeated, [false, true, false]);
    assert_eq!(outcomes[1].as_ref().unwrap().version, Some(2));
    assert_eq!(sum(&service, "a").await, 8);
}

#[tokio::test]
async fn a_repeat_that_overtakes_the_answer_shares_it() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    bench.log.hold();
    let sends = join_all((0..2).map(|_| counter.send_with(ADD, with_id(9))));
    let (outcomes, ()) = futures_util::future::join(sends, async {
        settle().await;
        bench.log.release();
    })
    .await;
    assert!(
        outcomes
            .iter()
            .all(|o| o.as_ref().unwrap().version == Some(0))
    );
    assert_eq!(sum(&service, "a").await, 1);
}

#[tokio::test]
async fn an_id_of_another_entitys_command_is_refused() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let [a, b] = ["a", "b"].map(|key| service.entity::<Counter>(key));
    a.send_with(ADD, with_id(9)).await.unwrap();
    let taken = b.send_with(ADD, with_id(9)).await.unwrap_err();
    assert_eq!(taken.code(), "id-taken");
    assert_eq!(sum(&service, "b").await, 0);
}

#[tokio::test]
async fn a_failed_append_takes_back_what_was_decided_on_it() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(ADD).await.unwrap();
    bench.log.hold();
    bench.log.plan([Mischief::Unavailable]);
    let sends = join_all((0..3).map(|_| counter.send(ADD)));
    let (outcomes, ()) = futures_util::future::join(sends, async {
        settle().await;
        bench.log.release();
    })
    .await;
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.did_not_happen());
        assert_eq!(error.code(), "unavailable");
    }
    let error = counter
        .send(CounterCommand::Add { n: -2 })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "only 1 left (below-zero)");
}

#[tokio::test]
async fn an_append_of_unknown_outcome_is_repeated_until_it_is_known() {
    use Mischief::*;
    for mischief in [
        [UnknownWritten, UnknownWritten],
        [UnknownNotWritten, UnknownNotWritten],
        // That the second attempt did nothing does not say that the first one did not.
        [UnknownWritten, Unavailable],
    ] {
        let bench = Bench::new();
        let service = bench.service(one_shard()).await;
        let counter = service.entity::<Counter>("a");
        bench.log.plan(mischief);
        let (outcome, ()) = futures_util::future::join(counter.send(ADD), async {
            for _ in 0..3 {
                settle().await;
                bench.clock.advance(Duration::from_secs(1));
            }
        })
        .await;
        assert_eq!(outcome.unwrap().version, Some(0), "{mischief:?}");
        assert_eq!(sum(&service, "a").await, 1);
    }
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_said_to_be_unknown() {
    let bench = Bench::new();
    let service = bench
        .service(EntityOptions {
            unknown_attempts_max: 2,
            ..one_shard()
        })
        .await;
    let counter = service.entity::<Counter>("a");
    bench.log.plan([Mischief::UnknownNotWritten; 2]);
    let (outcome, ()) = futures_util::future::join(counter.send(ADD), async {
        settle().await;
        bench.clock.advance(Duration::from_secs(1));
    })
    .await;
    assert!(!outcome.unwrap_err().did_not_happen());
    assert_eq!(counter.send(ADD).await.unwrap().version, Some(0));
}

#[tokio::test]
async fn two_runtimes_on_one_log_never_both_win() {
    let bench = Bench::new();
    let services = [
        bench.service(one_shard()).await,
        bench.service(one_shard()).await,
    ];
    for service in &services {
        let add = CounterCommand::Add { n: 0 };
        service.entity::<Counter>("a").send(add).await.unwrap();
    }
    // Both have it in memory now; of ten, each takes one away until there is none.
    let add = CounterCommand::Add { n: 10 };
    services[0].entity::<Counter>("a").send(add).await.unwrap();
    let outcomes = join_all((0..40).map(|i| {
        let counter = services[i % 2].entity::<Counter>("a");
        async move { counter.send(CounterCommand::Add { n: -1 }).await }
    }))
    .await;
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(error.did_not_happen(), "{error}");
    }
    assert_eq!(sum(&services[0], "a").await, 10 - taken as i64);
    assert!(taken <= 10 && taken > 0, "{taken} of 10 were taken");
}

#[tokio::test]
async fn a_pipelined_decision_does_not_slip_in_behind_a_foreign_event() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(CounterCommand::Add { n: 1 }).await.unwrap();
    bench.log.hold();
    // Both take the one that is there. Another program takes it first, so that the stream is
    // just at the version that the second decision began at.
    let take = CounterCommand::Add { n: -1 };
    let sends = join_all([
        counter.send(take.clone()),
        counter.send(CounterCommand::Add { n: 0 }),
    ]);
    let (outcomes, ()) = futures_util::future::join(sends, async {
        settle().await;
        write_beside(&bench, "a", 77, -1).await;
        bench.log.release();
    })
    .await;
    let first = outcomes[0].as_ref().unwrap_err();
    assert_eq!(first.to_string(), "only 0 left (below-zero)");
    assert_eq!(outcomes[1].as_ref().unwrap().version, Some(2));
    assert_eq!(sum(&service, "a").await, 0);
}

#[tokio::test]
async fn a_full_mailbox_says_so_at_once() {
    let bench = Bench::new();
    let service = bench
        .service(EntityOptions {
            mailbox_max: 4,
            ..one_shard()
        })
        .await;
    let counter = service.entity::<Counter>("a");
    bench.log.hold();
    let sends = join_all((0..20).map(|_| counter.send(ADD)));
    let (outcomes, ()) = futures_util::future::join(sends, async {
        settle().await;
        bench.log.release();
    })
    .await;
    let refused: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    assert!(!refused.is_empty());
    for error in &refused {
        assert!(
            matches!(error, SendError::Overloaded { retry_after, .. } if !retry_after.is_zero())
        );
    }
    assert_eq!(sum(&service, "a").await, 20 - refused.len() as i64);
}

#[tokio::test]
async fn one_entity_that_waits_does_not_take_the_room_of_others() {
    let bench = Bench::new();
    let service = bench
        .service(EntityOptions {
            waiting_max: 2,
            ..one_shard()
        })
        .await;
    service
        .entity::<Counter>("a")
        .send(CounterCommand::Panic)
        .await
        .unwrap_err();
    // It rests now; time stands still.
    let a = service.entity::<Counter>("a");
    let waiting = tokio::spawn(async move { join_all((0..4).map(|_| a.send(ADD))).await });
    settle().await;
    service.entity::<Counter>("b").send(ADD).await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    let outcomes = waiting.await.unwrap();
    let overloaded = outcomes
        .iter()
        .filter(|o| matches!(o, Err(SendError::Overloaded { .. })));
    assert_eq!(overloaded.count(), 2);
}

#[tokio::test]
async fn a_command_whose_time_is_up_is_not_decided() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(CounterCommand::Panic).await.unwrap_err();
    let late = SendOptions {
        timeout: Some(Duration::from_millis(10)),
        ..with_id(9)
    };
    let (outcome, ()) = futures_util::future::join(counter.send_with(ADD, late), async {
        settle().await;
        bench.clock.advance(Duration::from_secs(1));
        settle().await;
    })
    .await;
    assert!(matches!(
        outcome,
        Err(SendError::Unknown { .. } | SendError::Expired)
    ));
    assert_eq!(sum(&service, "a").await, 0);
}

#[tokio::test]
async fn an_expected_version_is_checked() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let expecting = |expect| SendOptions {
        expect: Some(expect),
        ..SendOptions::default()
    };
    counter
        .send_with(ADD, expecting(Expect::Empty))
        .await
        .unwrap();
    let error = counter
        .send_with(ADD, expecting(Expect::At(3)))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        SendError::VersionMismatch {
            actual: Some(0),
            ..
        }
    ));
    counter
        .send_with(ADD, expecting(Expect::At(0)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_panic_costs_only_the_command_that_it_struck() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let [a, b] = ["a", "b"].map(|key| service.entity::<Counter>(key));
    a.send(ADD).await.unwrap();
    let outcomes = join_all([a.send(ADD), a.send(CounterCommand::Panic), b.send(ADD)]).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(error.to_string().contains("told to"), "{error}");
    let (after, ()) = futures_util::future::join(a.send(ADD), async {
        settle().await;
        bench.clock.advance(Duration::from_secs(1));
    })
    .await;
    assert_eq!(after.unwrap().version, Some(2));
}

#[tokio::test]
async fn events_at_which_evolve_panics_are_not_recorded() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let numbers = vec![1, 13];
    let error = counter
        .send(CounterCommand::AddAll { numbers })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "panicked");
    assert!(bench.types("counter/a").await.is_empty());
    let (after, ()) = futures_util::future::join(counter.send(ADD), async {
        settle().await;
        bench.clock.advance(Duration::from_secs(1));
    })
    .await;
    after.unwrap();
    assert_eq!(sum(&service, "a").await, 1);
}

#[tokio::test]
async fn an_entity_that_keeps_panicking_is_parked_until_an_operator_unparks_it() {
    let bench = Bench::new();
    let service = bench
        .service(EntityOptions {
            restart: Retry {
                attempts_max: Some(3),
                ..Retry::DEFAULT
            },
            ..one_shard()
        })
        .await;
    let counter = service.entity::<Counter>("a");
    for _ in 0..3 {
        let panicked = counter.send(CounterCommand::Panic).await.unwrap_err();
        assert_eq!(panicked.code(), "panicked");
        settle().await;
        bench.clock.advance(Duration::from_secs(10));
        settle().await;
    }
    let parked = counter.send(ADD).await.unwrap_err();
    assert_eq!(
        parked.to_string(),
        "counter/a is parked: its code panicked 3 times: told to. Its events are safe; mend the cause and un-park it"
    );
    let entity = service.any_entity("counter").unwrap();
    let stream = StreamId::new("counter/a").unwrap();
    assert_eq!(entity.parked().await.len(), 1);
    let status = entity.inspect(stream.clone(), None).await.unwrap().status;
    assert!(matches!(status, Status::Parked { .. }));
    assert!(entity.unpark(stream).await);
    counter.send(ADD).await.unwrap();
}

#[tokio::test]
async fn an_event_that_cannot_be_read_parks_its_entity_alone() {
    let bench = Bench::new();
    let event = NewEvent::new(
        anabranch_model::EventId::from_u128(5),
        StreamId::new("counter/a").unwrap(),
        anabranch_model::EventType::new("Multiplied").unwrap(),
        "{}",
    );
    bench
        .log
        .append(anabranch_log::Append::event(event))
        .await
        .unwrap();
    let service = bench.service(one_shard()).await;
    let error = service.entity::<Counter>("a").send(ADD).await.unwrap_err();
    assert_eq!(error.code(), "parked");
    assert!(
        error
            .to_string()
            .contains("unknown event type \"Multiplied\""),
        "{error}"
    );
    service.entity::<Counter>("b").send(ADD).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_answers_what_was_taken_and_refuses_the_rest() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    bench.log.hold();
    let taken = tokio::spawn(async move { (counter.send(ADD).await, counter) });
    settle().await;
    let (in_order, ()) =
        futures_util::future::join(service.shutdown(Duration::from_secs(5)), async {
            settle().await;
            bench.log.release();
        })
        .await;
    assert!(in_order);
    let (outcome, counter) = taken.await.unwrap();
    outcome.unwrap();
    assert_eq!(
        counter.send(ADD).await.unwrap_err(),
        SendError::Unavailable {
            reason: "the runtime is shutting down".to_owned(),
            retry_after: None,
        }
    );
}

#[tokio::test]
async fn a_shutdown_does_not_wait_longer_than_its_bound() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    bench.log.hold();
    let stuck = tokio::spawn(async move { counter.send(ADD).await });
    settle().await;
    let (in_order, ()) =
        futures_util::future::join(service.shutdown(Duration::from_secs(5)), async {
            settle().await;
            bench.clock.advance(Duration::from_secs(5));
        })
        .await;
    assert!(!in_order);
    let outcome = stuck.await.unwrap();
    assert!(!outcome.unwrap_err().did_not_happen());
}

#[tokio::test]
async fn a_command_that_is_too_large_is_refused_by_name_and_spoils_nothing() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    let many = CounterCommand::AddAll {
        numbers: vec![1; 10_001],
    };
    let outcomes = join_all([counter.send(ADD), counter.send(many), counter.send(ADD)]).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.code(), "invalid");
    assert!(error.to_string().contains("10001 events"), "{error}");
}

#[tokio::test]
async fn every_acknowledged_command_counts_once_on_a_log_that_misbehaves() {
    for seed in 0..20 {
        let bench = Bench::new();
        bench.log.misbehave_one_in(4, seed);
        let service = bench.service(one_shard()).await;
        let sends = join_all((0..200_u128).map(|i| {
            let counter = service.entity::<Counter>((i % 7).to_string());
            async move {
                // A sender that does not know repeats, with the same id.
                loop {
                    match counter.send_with(ADD, with_id(1000 + i)).await {
                        Ok(_) => return,
                        Err(error) if error.is_passing() => tokio::task::yield_now().await,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
            }
        }));
        let tick = async {
            loop {
                settle().await;
                bench.clock.advance(Duration::from_millis(100));
            }
        };
        futures_util::pin_mut!(sends, tick);
        futures_util::future::select(sends, tick).await;
        let mut total = 0;
        for key in 0..7 {
            total += sum(&service, &key.to_string()).await;
        }
        assert_eq!(total, 200, "seed {seed}");
    }
}

#[tokio::test]
async fn events_say_what_caused_them_and_who_wrote_them() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let options = SendOptions {
        correlation_id: Some("story".to_owned()),
        ..with_id(9)
    };
    let counter = service.entity::<Counter>("a");
    counter.send_with(ADD, options).await.unwrap();
    let stream = StreamId::new("counter/a").unwrap();
    let mut read = bench
        .log
        .read_stream(&stream, VersionRange::ALL, Order::Forward);
    let event = read.next().await.unwrap().unwrap();
    assert_eq!(event.id, CommandId::from_u128(9).event_id(0));
    let meta = event.meta().decode().unwrap();
    assert_eq!(meta.causation_id, Some(CommandId::from_u128(9).to_string()));
    assert_eq!(meta.correlation_id.as_deref(), Some("story"));
    assert_eq!(meta.source.as_deref(), Some("test"));
}

#[tokio::test]
async fn a_handle_that_outlives_its_service_is_refused() {
    let bench = Bench::new();
    let service = bench.service(one_shard()).await;
    let counter = service.entity::<Counter>("a");
    counter.send(ADD).await.unwrap();
    drop(service);
    let refused = counter.send(ADD).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    assert_eq!(bench.types("counter/a").await, ["Added"]);
}
