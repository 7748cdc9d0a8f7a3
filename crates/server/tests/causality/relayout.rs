//! 16: a log gets another layout while it is written to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::copy::{Clocked, GivenClock};
use anabranch_log::relayout::Relayout;
use anabranch_log::{Layout, Log, ReadMode};
use anabranch_log_segment::{EmbeddedLog, ForCopy, Options};
use anabranch_model::{Cut, CutMap, EventId, Filter, StreamId};
use anabranch_runtime::snapshot::MemorySnapshots;

use crate::embedded::{Embedded, small};
use crate::engine::Engine as _;
use crate::scenarios::{not_reached, text};
use crate::session::Session;
use crate::slow::Slow;
use crate::world::{World, seal};

/// Copies what the log in `to` lacks; gives how many events that were, and where all went.
async fn copy(source: &dyn Log, to: &Path, kept: Option<CutMap>) -> (u64, CutMap) {
    let clock = Arc::new(GivenClock::new(Env::os().clock));
    let env = Env {
        clock: clock.clone(),
        ..Env::os()
    };
    let options = Options {
        for_copy: Some(ForCopy::OtherPlaces),
        ..small()
    };
    let log = EmbeddedLog::open(env, to, options).unwrap();
    let timed = Clocked {
        log: &log,
        clock: &clock,
    };
    let mut copy = Relayout::start(source, &log, &timed, kept).await.unwrap();
    let mut copied = 0;
    while let Some(count) = copy.next().await.unwrap() {
        copied += count;
        tokio::task::yield_now().await;
    }
    let map = copy.map().clone();
    log.close().unwrap();
    (copied, map)
}

/// The ids of the events of each entity, in their order.
async fn streams(log: &dyn Log) -> BTreeMap<String, Vec<EventId>> {
    let mut streams: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        // The reader has written there whose views are kept.
        if event.category().starts_with('$') {
            continue;
        }
        let of_stream = streams.entry(event.stream().to_owned()).or_default();
        of_stream.push(event.id);
    }
    streams
}

async fn write_rounds(world: &World, items: &[StreamId], rounds: u32) {
    let mut session = world.session();
    for round in 0..rounds {
        for item in items {
            session.write(world, item, &format!("round {round}")).await;
        }
    }
}

/// Lets a reader of what was copied so far keep its views.
async fn keep_view(to: &Path, map: &CutMap, kept: Arc<MemorySnapshots>) {
    let embedded = Embedded::open_for_now(to.to_owned());
    let log = embedded.log.clone();
    let world = World::sealed(embedded, seal().after(vec![map.clone()])).await;
    let reader = world.reader_with("reader", Slow::new(), kept).await;
    let mut session = world.session();
    session.ask_waiting(&reader, "board").await.unwrap();
    reader.site.close().await;
    world.writers.close().await;
    log.close().unwrap();
}

/// Three partitions for the rest in place of six.
fn narrow() -> Layout {
    Layout::new(vec!["hops=hop:2".parse().unwrap()], 3).unwrap()
}

#[tokio::test]
async fn b11_16_a_token_of_the_old_layout_is_neither_refused_nor_answered_by_less_in_the_new_one() {
    let embedded = Embedded::new();
    let source = embedded.log();
    let old = World::new(embedded).await;
    let items: Vec<StreamId> = (0..6).map(|nth| old.item("note", nth)).collect();
    let mut alice = old.session();
    alice.write(&old, &items[0], "first").await;
    write_rounds(&old, &items, 5).await;

    // Most is copied while others write.
    let to = Embedded::make(&narrow());
    let ((first, map), ()) =
        tokio::join!(copy(&*source, &to, None), write_rounds(&old, &items, 20));
    assert!(first > 30, "{first}");
    // What is kept of a view in the new log is from now.
    let kept = Arc::new(MemorySnapshots::new());
    let (_, map) = copy(&*source, &to, Some(map)).await;
    keep_view(&to, &map, kept.clone()).await;

    alice.write(&old, &items[0], "seen").await;
    let token = alice.token().unwrap().to_owned();
    // Then the writers stop, and the tail follows.
    let (tail, map) = copy(&*source, &to, Some(map)).await;
    assert_eq!(tail, 1);

    let embedded = Embedded::open(to);
    let log = embedded.log();
    assert!(
        streams(&*log).await == streams(&*source).await,
        "an entity's events"
    );
    let head = log.head().await.unwrap();

    let new = World::sealed(embedded, seal().after(vec![map])).await;
    // A reader that has all but the last event, which the token has seen, does not answer it.
    let slow = Slow::new();
    let partition = new.layout.partition_of(&items[0]);
    slow.hold(partition, head.get(partition) - 1);
    let reader = new.reader_with("reader", slow, kept).await;
    let shown = new.session().ask(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &items[0]), "round 19");
    let mut alice = Session::with_token(&token);
    assert_eq!(alice.ask(&reader, "board").await, Err(not_reached()));
    reader.slow.resume();
    let mut alice = Session::with_token(&token);
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    assert_eq!(text(&shown, &items[0]), "seen");

    // It goes on writing with it, and the token is one of the new layout from then on.
    let mut alice = Session::with_token(&token);
    alice.write(&new, &items[1], "later").await;
    assert_ne!(alice.token(), Some(&*token));
    let shown = alice.ask_waiting(&reader, "board").await.unwrap();
    let texts = [0, 1].map(|nth| text(&shown, &items[nth]));
    assert_eq!(texts, ["seen", "later"]);
}

#[tokio::test]
async fn b11_16_what_came_to_the_old_log_behind_the_copy_is_said_to_be_missing() {
    let embedded = Embedded::new();
    let source = embedded.log();
    let old = World::new(embedded).await;
    let item = old.item("note", 0);
    write_rounds(&old, std::slice::from_ref(&item), 3).await;
    let to = Embedded::make(&narrow());
    let (_, map) = copy(&*source, &to, None).await;
    let mut alice = old.session();
    alice.write(&old, &item, "lost").await;
    let new = World::sealed(Embedded::open(to), seal().after(vec![map])).await;
    let reader = new.reader("reader").await;
    let refused = alice.ask(&reader, "board").await.unwrap_err();
    assert_eq!((refused.status, &*refused.code), (400, "token-beyond-head"));
}
