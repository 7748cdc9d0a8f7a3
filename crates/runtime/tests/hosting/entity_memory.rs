//! What entities keep in memory, and in snapshots.

use std::sync::Arc;

use anabranch_domain::StreamId;
use anabranch_runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch_runtime::{EntityOptions, Service};

use crate::entities::{ADD, one_shard};
use crate::support::{Bench, Counter, CounterCommand, settle};

#[tokio::test]
async fn idle_entities_leave_memory_beyond_the_budget() {
    let bench = Bench::new();
    let service = bench
        .service(EntityOptions {
            memory_max: 20_000,
            ..one_shard()
        })
        .await;
    for key in 0..200 {
        service
            .entity::<Counter>(key.to_string())
            .send(ADD)
            .await
            .unwrap();
    }
    settle().await;
    let (live, bytes) = service.any_entity("counter").unwrap().memory();
    assert!(
        bytes <= 20_000 && live < 200 && live > 10,
        "{live} entities, {bytes} bytes"
    );
    for key in 0..200 {
        let accepted = service
            .entity::<Counter>(key.to_string())
            .send(ADD)
            .await
            .unwrap();
        assert_eq!(accepted.version, Some(1));
    }
}

/// Sends `n` commands that each add one, with a snapshot each ten events.
async fn with_snapshots(bench: &Bench, store: &Arc<MemorySnapshots>, n: usize) -> Service {
    with_snapshots_each(10, bench, store, n).await
}

async fn with_snapshots_each(
    snapshot_every: u64,
    bench: &Bench,
    store: &Arc<MemorySnapshots>,
    n: usize,
) -> Service {
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .snapshots(store.clone())
        .entity_with::<Counter>(EntityOptions {
            snapshot_every,
            ..one_shard()
        })
        .start()
        .await
        .unwrap();
    for _ in 0..n {
        service.entity::<Counter>("a").send(ADD).await.unwrap();
    }
    settle().await;
    service
}

async fn left(service: &Service) -> String {
    let take = CounterCommand::Add { n: -1000 };
    let refused = service.entity::<Counter>("a").send(take).await.unwrap_err();
    refused.to_string()
}

fn with_sum(state: &[u8], sum: i64) -> Vec<u8> {
    let mut state: serde_json::Value = serde_json::from_slice(state).unwrap();
    state["state"]["sum"] = sum.into();
    state.to_string().into_bytes()
}

#[tokio::test]
async fn an_entity_goes_on_from_its_snapshot() {
    let bench = Bench::new();
    let store = Arc::new(MemorySnapshots::new());
    drop(with_snapshots(&bench, &store, 25).await);
    let stream = StreamId::new("counter/a").unwrap();
    let mut snapshot = store.load(&stream).await.unwrap().unwrap();
    assert_eq!(snapshot.version, 19);
    // Shows that it is used: the events alone would give 25.
    snapshot.state = with_sum(&snapshot.state, 120);
    store.save(&stream, snapshot).await.unwrap();
    let service = with_snapshots(&bench, &store, 0).await;
    assert_eq!(left(&service).await, "only 125 left (below-zero)");
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_dropped() {
    let stream = StreamId::new("counter/a").unwrap();
    for spoil in 0..4 {
        let bench = Bench::new();
        let store = Arc::new(MemorySnapshots::new());
        drop(with_snapshots(&bench, &store, 25).await);
        let mut snapshot = store.load(&stream).await.unwrap().unwrap();
        snapshot.state = with_sum(&snapshot.state, 120);
        match spoil {
            0 => snapshot.fingerprint ^= 1,
            1 => snapshot.version = 1000,
            2 => snapshot.last_event = anabranch_model::EventId::from_u128(1),
            _ => snapshot.state = b"{".to_vec(),
        }
        store.save(&stream, snapshot).await.unwrap();
        let service = with_snapshots(&bench, &store, 0).await;
        assert_eq!(
            left(&service).await,
            "only 25 left (below-zero)",
            "spoiled {spoil}"
        );
    }
}

#[tokio::test]
async fn what_was_read_from_many_events_is_read_from_a_snapshot_after_the_next_crash() {
    let bench = Bench::new();
    let store = Arc::new(MemorySnapshots::new());
    let stream = StreamId::new("counter/a").unwrap();
    drop(with_snapshots_each(1000, &bench, &store, 40).await);
    assert!(store.load(&stream).await.unwrap().is_none());
    let service = with_snapshots_each(1000, &bench, &store, 0).await;
    assert_eq!(left(&service).await, "only 40 left (below-zero)");
    settle().await;
    drop(service);
    let snapshot = store.load(&stream).await.unwrap().unwrap();
    assert_eq!(snapshot.version, 39);
}
