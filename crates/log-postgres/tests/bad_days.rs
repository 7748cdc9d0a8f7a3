//! What happens to a log when its server has a bad day, or somebody else is at work in it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anabranch_backends::Keeps;
use anabranch_log::{
    Append, AppendError, Expect, Layout, Log, OpenError, Placed, ReadError, ReadMode,
};
use anabranch_log_postgres::{Options, PostgresLog};
use anabranch_model::{Cut, Event, EventId, Filter, NewEvent, PartitionId};
use futures_executor::block_on;

use support::{Server, Stranger};

fn open(address: &str, partitions: u32) -> PostgresLog {
    let mut options = Options::default();
    options.layout = Some(match partitions {
        1 => Layout::one(),
        several => Layout::new(Vec::new(), several - 1).unwrap(),
    });
    PostgresLog::open(address, options).unwrap()
}

fn event(stream: &str, id: u128) -> NewEvent {
    let (stream, kind) = (stream.parse().unwrap(), "Happened".parse().unwrap());
    NewEvent::new(
        EventId::from_u128(id),
        stream,
        kind,
        format!("{{\"n\":\"{id}\"}}"),
    )
}

fn read_all(log: &dyn Log) -> Vec<Event> {
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    std::iter::from_fn(|| block_on(events.next()))
        .map(Result::unwrap)
        .collect()
}

/// Stops the writers, also when what watches them fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Appends by several threads until `stop`; what was acknowledged, and what may be there.
fn write(
    log: &dyn Log,
    thread: usize,
    stop: &AtomicBool,
    acknowledged: &Mutex<BTreeMap<EventId, Placed>>,
    count: &AtomicUsize,
) {
    let stream = format!("order/{thread}");
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let new = event(&stream, (thread as u128) << 64 | number);
        let id = new.id;
        // Whoever does not know asks again, as the error says.
        let placed = loop {
            match block_on(log.append(Append::event(new.clone()))) {
                Ok(appended) => break appended.places[0],
                Err(AppendError::Unknown { .. } | AppendError::Unavailable { .. })
                    if !stop.load(Ordering::Acquire) => {}
                Err(error) => panic!("{error}"),
            }
        };
        acknowledged.lock().unwrap().insert(id, placed);
        count.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_server_that_is_killed_under_appends_loses_nothing_acknowledged_and_writes_nothing_twice() {
    let what = "killing the server of a log in PostgreSQL";
    let Some(server) = Server::start_that_keeps(what, Keeps::Everything) else {
        return;
    };
    let log = open(&server.address, 4);
    let (stop, acknowledged, count) = (
        AtomicBool::new(false),
        Mutex::default(),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, stop, acknowledged, count) = (&log, &stop, &acknowledged, &count);
            scope.spawn(move || write(log, thread, stop, acknowledged, count));
        }
        let stopping = Stop(&stop);
        for kill in 1..=3 {
            while count.load(Ordering::Acquire) < kill * 40 {
                std::thread::yield_now();
            }
            server.server.kill().unwrap();
            server.server.start_again().unwrap();
        }
        let now = count.load(Ordering::Acquire);
        while count.load(Ordering::Acquire) < now + 40 {
            std::thread::yield_now();
        }
        drop(stopping);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    let read = read_all(&log);
    let mut ends = Cut::start();
    let mut ids = BTreeSet::new();
    for event in &read {
        let position = event.position;
        assert_eq!(position.offset, ends.get(position.partition), "a gap");
        ends.set(position.partition, position.offset + 1);
        assert!(ids.insert(event.id), "{} is there twice", event.id);
        let placed = acknowledged.get(&event.id).map(|placed| placed.position);
        assert_eq!(placed, Some(position), "of {}", event.id);
    }
    assert_eq!(read.len(), acknowledged.len());
}

#[test]
fn an_older_copy_of_the_database_that_is_put_back_stops_who_reads_and_who_writes() {
    let Some(server) = Server::start("an older copy of a database put back") else {
        return;
    };
    for partitions in [1, 3] {
        let log = open(&server.log(), partitions);
        let append = |id| block_on(log.append(Append::event(event("order/1", id))));
        append(1).unwrap();
        let mut follower = log.read(&Cut::start(), Filter::all(), ReadMode::Follow);
        block_on(follower.next()).unwrap().unwrap();
        server.server.kill().unwrap();
        server.server.keep_copy().unwrap();
        server.server.start_again().unwrap();
        append(2).unwrap();
        block_on(follower.next()).unwrap().unwrap();
        server.server.kill().unwrap();
        server.server.put_back_copy().unwrap();
        server.server.start_again().unwrap();
        let refused = append(3).unwrap_err();
        let AppendError::Unavailable { reason, .. } = &refused else {
            panic!("{refused}")
        };
        assert!(reason.contains("an older copy"), "{reason}");
        let told = block_on(follower.next()).unwrap().unwrap_err();
        assert!(
            matches!(told, ReadError::HistoryChanged { from: 1, .. }),
            "{told}"
        );
        // Who begins anew reads what there is, and only who opens the log anew appends to it.
        assert_eq!(read_all(&log).len(), 1);
        append(4).unwrap_err();
    }
}

#[test]
fn a_transaction_that_somebody_holds_open_stalls_neither_readers_nor_writers() {
    let Some(server) = Server::start("a transaction held open beside a log") else {
        return;
    };
    let address = server.log();
    let log = open(&address, 1);
    let stranger = Stranger::connect(&server.address);
    // It has a number of its own, which a reader that looks at those would wait for.
    stranger.run("CREATE TABLE other (n integer); BEGIN; INSERT INTO other VALUES (1)");
    let mut follower = log.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    for id in 1..4 {
        block_on(log.append(Append::event(event("order/1", id)))).unwrap();
        let next = block_on(follower.next()).unwrap().unwrap();
        assert_eq!(next.id, EventId::from_u128(id));
    }
    stranger.run("COMMIT");
}

#[test]
fn no_reader_passes_what_an_open_transaction_may_still_append() {
    let Some(server) = Server::start("an append in a transaction held open") else {
        return;
    };
    let address = server.log();
    let log = Arc::new(open(&address, 1));
    block_on(log.append(Append::event(event("order/1", 1)))).unwrap();
    let stranger = Stranger::connect(&server.address);
    let schema = address
        .split("schema=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    stranger.run(&format!(
        "BEGIN; SELECT * FROM {schema}.append('{{0}}', '{{0}}', '{{1}}',
            array['00000000-0000-0000-0000-000000000002'::uuid], '{{order/1}}', '{{Happened}}',
            '{{1}}', array['{{}}'::bytea], array[NULL::bytea], array[NULL::text],
            '{{0}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
    ));
    // Ours comes behind it, whatever becomes of it.
    let waiting = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || block_on(log.append(Append::event(event("order/1", 3)))))
    };
    assert_eq!(block_on(log.head()).unwrap(), Cut::at(1));
    stranger.run("COMMIT");
    let placed = waiting.join().unwrap().unwrap().places[0];
    assert_eq!((placed.position.offset, placed.version), (2, 2));
    let ids: Vec<u128> = read_all(&*log).iter().map(|it| it.id.as_u128()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn programs_that_append_to_one_database_see_one_log() {
    let Some(server) = Server::start("two programs at one log in PostgreSQL") else {
        return;
    };
    let address = server.log();
    let logs = [open(&address, 1), open(&address, 1)];
    assert_eq!(logs[0].id(), logs[1].id());
    assert_eq!(logs[0].token_key(), logs[1].token_key());
    assert_eq!((logs[0].is_new(), logs[1].is_new()), (true, false));
    let won = std::thread::scope(|scope| {
        let writers = logs.iter().enumerate().map(|(number, log)| {
            scope.spawn(move || {
                let mut won = 0;
                for version in 0..50_u64 {
                    let expect = match version {
                        0 => Expect::Empty,
                        _ => Expect::At(version - 1),
                    };
                    let id = (number as u128) << 64 | u128::from(version);
                    let append = Append::event(event("order/1", id));
                    let append = append.expect("order/1".parse().unwrap(), expect);
                    won += u32::from(block_on(log.append(append)).is_ok());
                }
                won
            })
        });
        let writers: Vec<_> = writers.collect();
        writers
            .into_iter()
            .map(|it| it.join().unwrap())
            .sum::<u32>()
    });
    let read = read_all(&logs[0]);
    assert_eq!(read.len(), won as usize);
    let versions = read.iter().map(|event| event.version);
    assert!(versions.eq(0..u64::from(won)));
    assert_eq!(read, read_all(&logs[1]));
}

#[test]
fn a_follower_sees_what_another_program_appends() {
    let Some(server) = Server::start("following a log in PostgreSQL") else {
        return;
    };
    let address = server.log();
    let (log, other) = (open(&address, 3), open(&address, 3));
    let mut follower = log.read(&Cut::start(), Filter::all(), ReadMode::Follow);
    for id in 1..5 {
        let name = format!("order/{id}");
        block_on(other.append(Append::event(event(&name, id)))).unwrap();
        let next = block_on(follower.next()).unwrap().unwrap();
        assert_eq!(next.id, EventId::from_u128(id));
        assert_ne!(next.position.partition, PartitionId(0));
    }
}

#[test]
fn events_cannot_be_changed_or_taken_out_by_statements() {
    let Some(server) = Server::start("changing events in PostgreSQL") else {
        return;
    };
    let log = open(
        &server
            .address
            .replace("/postgres", "/postgres?durability=unchecked"),
        1,
    );
    block_on(log.append(Append::event(event("order/1", 1)))).unwrap();
    let stranger = Stranger::connect(&server.address);
    for statement in [
        "DELETE FROM anabranch.events",
        "UPDATE anabranch.events SET data = ''",
        "TRUNCATE anabranch.events",
    ] {
        let done = stranger.client.batch_execute(statement);
        let refused = stranger.runtime.block_on(done).unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert_eq!(said, "the events of a log never change");
    }
    assert_eq!(read_all(&log).len(), 1);
}

#[test]
fn who_may_append_leaves_no_gap_and_depends_on_nothing_that_is_not_there() {
    let Some(server) = Server::start("appends by statements") else {
        return;
    };
    let address = server.log();
    let log = open(&address, 3);
    block_on(log.append(Append::event(event("order/1", 1)))).unwrap();
    let schema = address.split_once("schema=").unwrap().1;
    let schema = schema.split('&').next().unwrap();
    let stranger = Stranger::connect(&server.address);
    let call = |offset: i64, begin: i64, delta: &str| {
        format!(
            "SELECT {schema}.append_at(ARRAY[1], (SELECT ARRAY[count(*)] FROM {schema}.events
                WHERE partition = 1), ARRAY[1], ARRAY[{offset}::bigint], ARRAY[0],
                ARRAY[{begin}::bigint], ARRAY[1], ARRAY[0::bigint], ARRAY[gen_random_uuid()],
                ARRAY['load/1'], ARRAY['T'], ARRAY[1::bigint], ARRAY[''::bytea], ARRAY[NULL::bytea],
                ARRAY[NULL::text], ARRAY['{delta}'], ARRAY[NULL::bigint])"
        )
    };
    let head = block_on(log.head()).unwrap();
    let end = head.get(PartitionId(1)) as i64;
    let wrong = [
        call(end + 1, end + 1, "{}"),
        call(end, end + 1, "{}"),
        call(end, end, "{2,7}"),
        call(end, end, "{1,1}"),
    ];
    for sql in wrong {
        let runtime = &stranger.runtime;
        let refused = runtime.block_on(stranger.client.batch_execute(&sql));
        let refused = refused.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("do not follow"), "{said}: {sql}");
    }
    stranger.run(&call(end, end, "{}"));
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn a_log_that_is_not_there_is_not_made_by_who_only_reads() {
    let Some(server) = Server::start("opening a log in PostgreSQL that is not there") else {
        return;
    };
    let mut options = Options::default();
    options.make = false;
    let error = PostgresLog::open(&server.log(), options).err().unwrap();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[test]
fn a_server_whose_settings_are_weakened_while_it_runs_gets_no_more_appends() {
    let what = "weakening the server of a log in PostgreSQL";
    let Some(server) = Server::start_that_keeps(what, Keeps::Everything) else {
        return;
    };
    let log = open(&server.address, 1);
    let stranger = Stranger::connect(&server.address);
    let mut id = 0;
    let mut append = || {
        id += 1;
        block_on(log.append(Append::event(event("order/1", id))))
    };
    append().unwrap();
    stranger.run("ALTER SYSTEM SET full_page_writes = off");
    stranger.run("SELECT pg_reload_conf()");
    // It is looked at now and then.
    let refused = loop {
        if let Err(refused) = append() {
            break refused;
        }
    };
    assert!(refused.did_not_happen());
    let said = refused.to_string();
    assert!(said.contains("full_page_writes = off"), "{said}");
    stranger.run("ALTER SYSTEM RESET full_page_writes");
    stranger.run("SELECT pg_reload_conf()");
    while append().is_err() {}
}

#[test]
fn a_pooler_that_lends_connections_for_one_transaction_works() {
    let Some(server) = Server::start("a log in PostgreSQL behind a pooler") else {
        return;
    };
    let pooler = match server.server.start_pooler() {
        Ok(pooler) => pooler,
        Err(why) => {
            eprintln!("skipped: a log in PostgreSQL behind a pooler: {why}");
            return;
        }
    };
    let log = open(&server.log().replace(&server.address, &pooler), 4);
    std::thread::scope(|scope| {
        for thread in 0..8_u128 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..20 {
                    let new = event(&format!("order/{thread}"), thread << 64 | number);
                    block_on(log.append(Append::event(new))).unwrap();
                    assert!(!read_all(log).is_empty());
                }
            });
        }
    });
    assert_eq!(read_all(&log).len(), 160);
}
