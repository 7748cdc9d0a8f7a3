//! A log is copied into PostgreSQL and out of it again, to the same places and with its times.

mod support;

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{SplitMix64, sim};
use anabranch_log::copy::{Copy, CopyError, TimedLog, digests};
use anabranch_log::{Append, AppendError, Layout, Log, MemoryLog, PartitionedLog, ReadMode};
use anabranch_log_postgres::{Options, PostgresLog};
use anabranch_model::{Cut, EventId, NewEvent, StreamId};
use futures_executor::block_on;

use support::{Server, Stranger};

fn layout() -> Layout {
    let groups = vec!["trade=order,payment:3".parse().unwrap()];
    Layout::new(groups, 2).unwrap()
}

fn open(address: &str) -> PostgresLog {
    let mut options = Options::default();
    options.layout = Some(layout());
    PostgresLog::open(address, options).unwrap()
}

/// A log with so many appends, most of which depend on earlier ones and some of which have streams of
/// several partitions, recorded at times of their own.
fn source(appends: u64) -> PartitionedLog {
    let (env, _, clock) = sim::env(11);
    let log = PartitionedLog::in_memory(&env, layout());
    let mut random = SplitMix64::new(11);
    let mut closure = Cut::start();
    for number in 0..appends {
        clock.advance(Duration::from_micros(1 + random.below(5_000)));
        let is_wide = random.below(4) == 0;
        let key = random.below(9).to_string();
        let events = (0..1 + random.below(3)).map(|n| {
            let category = match is_wide {
                true => ["order", "stock", "payment"][n as usize],
                false => "order",
            };
            let id = EventId::from_u128(u128::from(number * 10 + n) + 1);
            let stream = StreamId::of(category, &key).unwrap();
            let kind = "Happened".parse().unwrap();
            NewEvent::new(id, stream, kind, format!("{{\"n\":{number}}}"))
                .with_tag(format!("n:{n}"))
        });
        let mut events: Vec<NewEvent> = events.collect();
        if random.below(4) > 0 {
            events[0].meta_mut().causes = closure.clone();
        }
        let appended = block_on(log.append(Append::events(events))).unwrap();
        closure.join(&appended.closure);
    }
    log
}

/// Copies so many batches, or to the end.
fn copy(
    source: &dyn Log,
    target: &dyn Log,
    timed: Option<&dyn TimedLog>,
    batches: usize,
) -> Result<u64, CopyError> {
    block_on(async {
        let mut copy = Copy::start(source, target, timed, ReadMode::ToHead).await?;
        let mut copied = 0;
        for _ in 0..batches {
            match copy.next().await? {
                Some(count) => copied += count,
                None => break,
            }
        }
        Ok(copied)
    })
}

fn assert_same(one: &dyn Log, other: &dyn Log) {
    let head = block_on(one.head()).unwrap();
    assert_eq!(block_on(other.head()).unwrap(), head);
    let digest = |log: &dyn Log| block_on(digests(log, &head, true)).unwrap();
    assert_eq!(digest(one), digest(other));
}

#[test]
fn a_copy_in_the_database_has_the_places_times_and_causes_of_its_log() {
    let Some(server) = Server::start("copies in PostgreSQL") else {
        return;
    };
    let source = source(300);
    let (first, second) = (open(&server.log()), open(&server.log()));
    copy(&source, &first, Some(&first), usize::MAX).unwrap();
    assert_same(&source, &first);
    copy(&first, &second, Some(&second), usize::MAX).unwrap();
    assert_same(&source, &second);
}

#[test]
fn what_appends_say_that_were_under_way_together_is_copied_as_it_is() {
    let Some(server) = Server::start("copies of causes in PostgreSQL") else {
        return;
    };
    let layout = layout();
    // A log that takes causes as they are is one like that.
    let (env, _, _) = sim::env(3);
    let parts = layout
        .ids()
        .map(|_| -> Arc<dyn Log> { Arc::new(MemoryLog::new(env.clone())) });
    let source =
        PartitionedLog::open_for_copy(layout.clone(), parts.collect(), Vec::new()).unwrap();
    let mut said = Cut::start();
    for (id, category) in (1..).zip(["stock", "order", "order"]) {
        let stream = StreamId::of(category, "1").unwrap();
        let kind = "Happened".parse().unwrap();
        let mut event = NewEvent::new(EventId::from_u128(id), stream, kind, "{}");
        event.meta_mut().causes = said.clone();
        let appended = block_on(source.append(Append::event(event))).unwrap();
        if category == "stock" {
            said = appended.cut();
        }
    }
    let target = open(&server.log());
    copy(&source, &target, Some(&target), usize::MAX).unwrap();
    assert_same(&source, &target);
}

#[test]
fn a_copy_into_the_database_goes_on_where_it_stopped() {
    let Some(server) = Server::start("copies in PostgreSQL that stop") else {
        return;
    };
    let source = source(60);
    for batches in [0, 1, 2, 5] {
        let address = server.log();
        let target = open(&address);
        copy(&source, &target, Some(&target), batches).unwrap();
        drop(target);
        let target = open(&address);
        copy(&source, &target, Some(&target), usize::MAX).unwrap();
        assert_same(&source, &target);
        let again = copy(&source, &target, Some(&target), usize::MAX).unwrap();
        assert_eq!(again, 0);
    }
}

#[test]
fn what_is_appended_to_a_copy_later_goes_on_behind_it() {
    let Some(server) = Server::start("copies in PostgreSQL that are gone on with") else {
        return;
    };
    let source = source(60);
    let target = open(&server.log());
    copy(&source, &target, Some(&target), usize::MAX).unwrap();
    for log in [&source as &dyn Log, &target] {
        let mut events = Vec::new();
        for (n, category) in (0..).zip(["order", "stock"]) {
            let stream = StreamId::of(category, "1").unwrap();
            let id = EventId::from_u128(1_000_000 + n);
            events.push(NewEvent::new(id, stream, "After".parse().unwrap(), "{}"));
        }
        block_on(log.append(Append::events(events))).unwrap();
    }
    let head = block_on(source.head()).unwrap();
    let digest = |log: &dyn Log| block_on(digests(log, &head, false)).unwrap();
    assert_eq!(digest(&source), digest(&target));
}

#[test]
fn a_role_that_only_appends_gives_no_times() {
    let Some(server) = Server::start("roles of a copy in PostgreSQL") else {
        return;
    };
    let owner = server.log();
    drop(open(&owner));
    let schema = owner
        .split_once("schema=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap();
    let sql = format!(
        "CREATE ROLE appender LOGIN PASSWORD 'appends';
         GRANT USAGE ON SCHEMA {schema} TO appender;
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO appender;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO appender;"
    );
    Stranger::connect(&server.address).run(&sql);
    let (_, rest) = owner.split_once('@').unwrap();
    let appender = open(&format!("postgres://appender:appends@{rest}"));
    let event = |id| {
        let stream = StreamId::of("order", "1").unwrap();
        NewEvent::new(
            EventId::from_u128(id),
            stream,
            "Placed".parse().unwrap(),
            "{}",
        )
    };
    block_on(appender.append(Append::event(event(1)))).unwrap();
    let recorded = anabranch_log::copy::Recorded {
        append: Append::event(event(2)),
        recorded_at: 7,
    };
    let answers = block_on(appender.append_recorded(vec![recorded]));
    let [Err(AppendError::Unavailable { reason, .. })] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(reason.contains("only the role that owns a log"), "{reason}");
}
