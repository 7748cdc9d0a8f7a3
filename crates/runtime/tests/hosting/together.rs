//! Commands to several entities: all of them take effect, or none does.

use anabranch_domain::CommandId;
use anabranch_env::SplitMix64;
use anabranch_log::Expect;
use anabranch_model::Cut;
use anabranch_runtime::{
    EntityCommand, EntityOptions, SendError, SendOptions, Service, TOGETHER_MAX, TogetherError,
};
use futures_util::future::join_all;

use crate::support::{Bench, Counter, CounterCommand, Mischief};

fn add(key: &str, n: i64) -> EntityCommand {
    EntityCommand::new::<Counter>(key, &CounterCommand::Add { n }).unwrap()
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

/// A service with counters that have these sums.
async fn counters(bench: &Bench, sums: &[(&str, i64)]) -> Service {
    let service = bench.service(EntityOptions::default()).await;
    for &(key, n) in sums {
        let counter = service.entity::<Counter>(key);
        counter.send(CounterCommand::Add { n }).await.unwrap();
    }
    service
}

#[tokio::test]
async fn all_of_them_take_effect_in_one_append() {
    let bench = Bench::new();
    let service = counters(&bench, &[("a", 5)]).await;
    let before = bench.log.appends().len();
    let done = service.together([add("a", -3), add("b", 3)]).await.unwrap();
    assert_eq!(bench.log.appends()[before..], [2]);
    let versions: Vec<_> = done
        .iter()
        .map(|done| (done.version, done.events.len()))
        .collect();
    assert_eq!(versions, [(Some(1), 1), (Some(0), 1)]);
    // Who has the token of one has seen the other.
    for done in &done {
        let head = bench.log().head().await.unwrap();
        assert!(
            done.token
                .covers(&done.events.iter().fold(Cut::start(), |mut cut, event| {
                    cut.join(&Cut::including(event.place.position));
                    cut
                }))
        );
        assert!(head.covers(&done.token));
    }
    assert_eq!(done[0].token, done[1].token);
    assert_eq!((sum(&service, "a").await, sum(&service, "b").await), (2, 3));
}

#[tokio::test]
async fn if_one_says_no_none_does_anything() {
    let bench = Bench::new();
    let service = counters(&bench, &[("a", 5), ("b", 1)]).await;
    let before = bench.log().head().await.unwrap();
    let refused = service
        .together([add("a", 3), add("b", -2)])
        .await
        .unwrap_err();
    assert_eq!(refused.command, Some(1));
    assert!(matches!(&refused.error, SendError::Rejected(why) if why.code == "below-zero"));
    assert_eq!(refused.to_string(), "command 2: only 1 left (below-zero)");
    assert_eq!(bench.log().head().await.unwrap(), before);
    assert_eq!((sum(&service, "a").await, sum(&service, "b").await), (5, 1));
}

#[tokio::test]
async fn a_command_sees_what_those_before_it_have_done_to_its_entity() {
    let service = counters(&Bench::new(), &[("b", 1)]).await;
    let list = [add("a", 2), add("b", 1), add("a", -2)];
    let done = service.together(list).await.unwrap();
    let versions: Vec<_> = done.iter().map(|done| done.version).collect();
    assert_eq!(versions, [Some(0), Some(1), Some(1)]);
    assert_eq!(sum(&service, "a").await, 0);
    let refused = service
        .together([add("a", 2), add("a", -3)])
        .await
        .unwrap_err();
    assert_eq!(refused.command, Some(1));
}

#[tokio::test]
async fn entities_in_memory_go_on_from_what_was_done() {
    let service = counters(&Bench::new(), &[("a", 5), ("b", 5)]).await;
    service.together([add("a", -5), add("b", 5)]).await.unwrap();
    let refused = service
        .entity::<Counter>("a")
        .send(CounterCommand::Add { n: -1 })
        .await;
    assert!(
        matches!(refused, Err(SendError::Rejected(_))),
        "{refused:?}"
    );
    let accepted = service
        .entity::<Counter>("b")
        .send(CounterCommand::Add { n: -10 })
        .await;
    assert_eq!(accepted.unwrap().version, Some(2));
}

#[tokio::test]
async fn what_is_expected_of_an_entity_is_looked_at() {
    let service = counters(&Bench::new(), &[("a", 5)]).await;
    let list = |version| [add("b", 1), add("a", 1).expect(Expect::At(version))];
    let refused = service.together(list(3)).await.unwrap_err();
    assert_eq!(refused.command, Some(1));
    assert!(matches!(refused.error, SendError::VersionMismatch { .. }));
    service.together(list(0)).await.unwrap();
}

#[tokio::test]
async fn a_list_that_comes_again_gets_its_first_outcomes() {
    let service = counters(&Bench::new(), &[("a", 5)]).await;
    let nothing = EntityCommand::new::<Counter>("c", &CounterCommand::Nothing).unwrap();
    let list = [add("a", -3), add("b", 3), nothing];
    let first = service.together_with(&list, with_id(1)).await.unwrap();
    service.together([add("a", 1), add("b", 1)]).await.unwrap();
    let again = service.together_with(&list, with_id(1)).await.unwrap();
    for (first, again) in first.iter().zip(&again) {
        assert!(again.repeated && !first.repeated);
        assert_eq!(
            (&first.events, first.version),
            (&again.events, again.version)
        );
    }
    assert_eq!(sum(&service, "b").await, 4);
    // The id names this list for ever.
    for other in [
        vec![add("a", -4), add("b", 3)],
        vec![add("a", -3), add("c", 3)],
    ] {
        let taken = service.together_with(&other, with_id(1)).await.unwrap_err();
        assert!(matches!(taken.error, SendError::IdTaken { .. }), "{taken}");
    }
}

#[tokio::test]
async fn a_list_that_was_refused_may_be_sent_again() {
    let service = counters(&Bench::new(), &[("a", 1)]).await;
    let list = [add("b", 2), add("a", -2)];
    service.together_with(&list, with_id(1)).await.unwrap_err();
    service
        .entity::<Counter>("a")
        .send(CounterCommand::Add { n: 1 })
        .await
        .unwrap();
    service.together_with(&list, with_id(1)).await.unwrap();
    assert_eq!((sum(&service, "a").await, sum(&service, "b").await), (0, 2));
}

#[tokio::test]
async fn a_list_whose_outcome_was_unknown_is_done_once() {
    for mischief in [Mischief::UnknownWritten, Mischief::UnknownNotWritten] {
        let bench = Bench::new();
        let service = counters(&bench, &[("a", 5)]).await;
        bench.log.plan([mischief]);
        let list = [add("a", -3), add("b", 3)];
        let asked = service.together_with(&list, with_id(1));
        let turn = async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
                bench.clock.advance(std::time::Duration::from_millis(300));
            }
        };
        let (done, ()) = futures_util::future::join(asked, turn).await;
        assert_eq!(done.unwrap().len(), 2, "{mischief:?}");
        assert_eq!((sum(&service, "a").await, sum(&service, "b").await), (2, 3));
    }
}

#[tokio::test]
async fn an_entity_whose_code_panics_keeps_the_others_as_they_are() {
    let service = counters(&Bench::new(), &[("a", 5)]).await;
    let panics = EntityCommand::new::<Counter>("b", &CounterCommand::Panic).unwrap();
    let refused = service.together([add("a", 1), panics]).await.unwrap_err();
    assert_eq!(refused.command, Some(1));
    assert!(
        matches!(refused.error, SendError::Panicked { .. }),
        "{refused}"
    );
    // Both go on.
    service.together([add("a", 1), add("b", 1)]).await.unwrap();
    service
        .entity::<Counter>("b")
        .send(CounterCommand::Add { n: 1 })
        .await
        .unwrap();
    assert_eq!((sum(&service, "a").await, sum(&service, "b").await), (6, 2));
}

#[tokio::test]
async fn a_list_has_one_command_at_least_and_not_too_many() {
    let service = counters(&Bench::new(), &[("a", 1)]).await;
    let refused = |list: Vec<EntityCommand>| service.together(list);
    for count in [0, TOGETHER_MAX + 1] {
        let list = vec![add("a", 1); count];
        let error: TogetherError = refused(list).await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("{count} commands")),
            "{error}"
        );
    }
    let elsewhere = EntityCommand {
        to: "nobody/1".parse().unwrap(),
        ..add("a", 1)
    };
    let error = service
        .together([add("a", 1), elsewhere])
        .await
        .unwrap_err();
    assert_eq!(error.command, Some(1));
    assert!(
        matches!(error.error, SendError::NotHosted { .. }),
        "{error}"
    );
    let unknown = EntityCommand {
        name: "Burn".to_owned(),
        ..add("a", 1)
    };
    let error = service.together([unknown]).await.unwrap_err();
    assert!(matches!(error.error, SendError::Malformed(_)), "{error}");
    assert_eq!(sum(&service, "a").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_that_cross_one_another_and_single_commands_all_get_through() {
    let bench = Bench::new();
    let keys = ["a", "b", "c", "d"];
    let service = counters(&bench, &keys.map(|key| (key, 100))).await;
    let transfers = (0..4_u64).map(|seed| {
        let service = &service;
        async move {
            let mut rng = SplitMix64::new(seed);
            for _ in 0..40 {
                let from = rng.below(4) as usize;
                let to = (from + 1 + rng.below(3) as usize) % 4;
                // A counter panics at 13.
                let n = 2 * rng.below(20) as i64;
                match service
                    .together([add(keys[from], -n), add(keys[to], n)])
                    .await
                {
                    Ok(_) => {}
                    Err(TogetherError { error, .. }) => assert!(
                        matches!(error, SendError::Rejected(_) | SendError::Contended { .. }),
                        "seed {seed}: {error}"
                    ),
                }
            }
        }
    });
    let singles = (0..4).map(|n| {
        let counter = service.entity::<Counter>(keys[n]);
        async move {
            for _ in 0..40 {
                counter.send(CounterCommand::Add { n: 1 }).await.unwrap();
            }
        }
    });
    futures_util::future::join(join_all(transfers), join_all(singles)).await;
    let mut all = 0;
    for key in keys {
        let sum = sum(&service, key).await;
        assert!(sum >= 0, "{key}: {sum}");
        all += sum;
    }
    assert_eq!(all, 400 + 160);
    // Memory agrees with the log.
    for key in keys {
        let n = -sum(&service, key).await;
        service
            .entity::<Counter>(key)
            .send(CounterCommand::Add { n })
            .await
            .unwrap();
    }
}
