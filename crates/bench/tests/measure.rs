//! Whole measurements, on the log in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_bench::peers::Peer;
use anabranch_bench::suite::{Part, Scale, suite};
use anabranch_bench::{
    BenchError, Config, Engine, Hosted, HostedConfig, IdleConfig, OpenLog, Sagas, Tools,
    ViewConfig, Workload, measure, measure_hosted, measure_idle, measure_views,
};
use anabranch_env::{Disk, DiskStats, Env};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, MemoryLog, OpenError,
    Order, ReadError, ReadMode, VersionRange,
};
use anabranch_log_segment::Durability;
use anabranch_model::{Cut, Filter, StreamId};
use serde_json::Value;

/// Gives the same log for the same directory.
#[derive(Default)]
struct InMemory(Mutex<BTreeMap<PathBuf, MemoryLog>>);

struct Open(MemoryLog);

impl Engine for InMemory {
    fn open(&self, env: Env, dir: &Path, _: Durability) -> Result<Arc<dyn OpenLog>, OpenError> {
        let mut logs = self.0.lock().unwrap();
        let log = logs
            .entry(dir.to_owned())
            .or_insert_with(|| MemoryLog::new(env));
        Ok(Arc::new(Open(log.clone())))
    }
}

impl OpenLog for Open {
    fn method(&self) -> String {
        "nothing".to_owned()
    }

    fn written(&self, disk: &dyn Disk) -> DiskStats {
        disk.stats()
    }

    fn prepare(&self) {}

    fn close(&self) -> Result<(), OpenError> {
        Ok(())
    }
}

impl Log for Open {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.0.append(append)
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.0.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.0.read(from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.0.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.0.head()
    }
}

fn no_children(_: &str) -> io::Result<Command> {
    Err(io::Error::other("no child is expected here"))
}

fn tools(engine: &dyn Engine) -> Tools<'_> {
    Tools {
        engine,
        child: &no_children,
        progress: &|_| {},
    }
}

/// A directory of this test's own, for measurements to write below.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn quick(name: &str) -> Config {
    Config {
        seconds: Duration::from_millis(60),
        rounds: 2,
        bare_file_bytes: 4 << 20,
        ..Config::new(
            Workload {
                clients: 3,
                batch: 2,
                size: 64,
                streams: 50,
                ..Workload::default()
            },
            directory(name),
        )
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

#[test]
fn the_json_form_is_one_object_with_the_documented_keys() {
    let report = measure(&quick("json"), &tools(&InMemory::default())).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        keys(&json),
        ["append", "bare", "follow", "peers", "ratio", "replay"]
    );
    let number = |path: &str| {
        let value = json.pointer(path).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("{path} is missing in {json}"))
    };
    for side in ["append", "bare"] {
        for key in ["events_per_second", "p50_us", "p99_us"] {
            assert!(number(&format!("/{side}/{key}")) > 0.0);
        }
    }
    // The log in memory syncs nothing, so nothing is said about it.
    assert!(number("/bare/syncs_per_second") > 0.0);
    assert!(json.pointer("/append/syncs_per_second").is_none());
    assert!(number("/ratio/throughput") > 0.0);
    assert!(number("/ratio/p50") > 0.0);
    assert!(number("/replay/events_per_second") > 0.0);
    assert!(number("/follow/p50_us") > 0.0);
    assert!(number("/follow/p99_us") >= number("/follow/p50_us"));
    assert_eq!(json["peers"], serde_json::json!({}));
    assert_eq!(json["append"]["work"]["clients"], 3);
    assert!(json["bare"]["method"].is_string());
}

#[test]
fn what_is_replayed_is_what_was_appended() {
    let report = measure(&quick("replayed"), &tools(&InMemory::default())).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let count = |path: &str| json.pointer(path).and_then(Value::as_u64).unwrap();
    // Appends that were acknowledged before and after the measured time are there as well.
    assert!(count("/replay/events") >= count("/append/events"));
    assert!(count("/append/events") > 0);
}

#[test]
fn the_text_form_names_the_work_and_both_sides() {
    let report = measure(&quick("text"), &tools(&InMemory::default())).unwrap();
    let text = report.to_text();
    for part in [
        "3 clients × 2 events of 64 bytes, 50 streams, durability sync",
        "anabranch memory",
        "bare loop",
        "the log over the bare loop: ",
        "replay of ",
        "follow, ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let config = quick("left");
    measure(&config, &tools(&InMemory::default())).unwrap();
    // An empty directory can be renamed onto, another cannot.
    let disk = Env::os().disk;
    let empty = directory("left-empty");
    disk.create_dir(&empty).unwrap();
    disk.rename(&empty, &config.dir).unwrap();
}

#[test]
fn work_that_cannot_be_done_is_refused() {
    let config = |change: fn(&mut Config)| {
        let mut config = quick("refused");
        change(&mut config);
        config
    };
    for bad in [
        config(|c| c.workload.clients = 0),
        config(|c| c.workload.batch = 0),
        config(|c| c.workload.size = 0),
        config(|c| c.workload.streams = 0),
        config(|c| c.rounds = 0),
        config(|c| c.seconds = Duration::ZERO),
    ] {
        let refused = measure(&bad, &tools(&InMemory::default()));
        assert!(matches!(refused, Err(BenchError::Invalid(_))), "{bad:?}");
    }
}

#[cfg(not(feature = "peers"))]
#[test]
fn a_program_without_peers_says_how_to_build_one_that_has_them() {
    let config = Config {
        peers: vec![Peer::Redis],
        ..quick("without-peers")
    };
    let report = measure(&config, &tools(&InMemory::default())).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let missing = json["peers"]["redis"]["missing"].as_str().unwrap();
    assert!(missing.contains("--features peers"), "{missing}");
    assert!(report.to_text().contains("not measured: redis"));
}

#[cfg(feature = "peers")]
#[test]
fn a_peer_does_the_same_work_in_the_same_rounds() {
    let config = Config {
        peers: vec![Peer::Sqlite],
        ..quick("peers")
    };
    let report = measure(&config, &tools(&InMemory::default())).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let sqlite = &json["peers"]["sqlite"];
    for key in ["events_per_second", "p50_us", "p99_us"] {
        assert!(sqlite[key].as_f64().is_some_and(|value| value > 0.0));
    }
    assert!(sqlite["ratio"]["throughput"].as_f64().is_some());
    assert!(report.to_text().contains("the log over sqlite: "));
}

#[test]
fn the_suite_has_a_row_for_each_promise_it_measured() {
    let scale = Scale {
        category_events: 100_000,
        category_single_events: 10_000,
        few_streams: 10,
        many_streams: 1_000,
        ..Scale::default()
    };
    let config = Config {
        bare_file_bytes: 4 << 20,
        ..quick("suite")
    };
    let parts = [Part::Streams, Part::Append, Part::Category];
    let suite = suite(&config, &parts, &scale, &tools(&InMemory::default())).unwrap();
    let figures = |work: &str| {
        let rows = suite.rows.iter().filter(|row| row.work.starts_with(work));
        rows.map(|row| row.figure.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(
        figures("128 writers"),
        [
            "events/s over the bare loop's",
            "events/s over Redis's",
            "events/s over PostgreSQL's",
            "bytes written per byte"
        ]
    );
    assert_eq!(figures("one category in 100").len(), 4);
    assert_eq!(figures("append, 1,000 streams").len(), 1);
    for row in &suite.rows {
        assert_eq!(row.reached.is_some(), row.value.is_some(), "{row:?}");
    }
    let redis = suite.rows.iter().find(|row| row.figure.contains("Redis"));
    assert_eq!(redis.unwrap().reached, None, "no peer was measured");
    assert!(suite.to_text().contains("not measured"));
}

#[test]
fn parts_that_need_a_child_say_so_when_there_is_none() {
    let outcome = suite(
        &quick("childless"),
        &[Part::Memory],
        &Scale::default(),
        &tools(&InMemory::default()),
    );
    assert!(matches!(outcome, Err(BenchError::Io { what, .. }) if what.contains("child")));
}

fn hosted(name: &str, work: Hosted) -> HostedConfig {
    HostedConfig {
        work,
        clients: 3,
        size: 64,
        durability: Durability::Sync,
        seconds: Duration::from_millis(60),
        rounds: 2,
        seed: 1,
        dir: directory(name),
        keep: false,
    }
}

#[test]
fn commands_to_entities_are_measured_beside_the_log() {
    let engine = InMemory::default();
    let config = hosted("entity", Hosted::Commands { entities: 5 });
    let report = measure_hosted(&config, &tools(&engine)).unwrap();
    assert!(report.service.events_per_second > 0.0);
    assert!(report.log.events_per_second > 0.0);
    assert!(report.ratio.throughput > 0.0);
    let text = report.to_text();
    assert!(text.contains("the service over the log: "), "{text}");
    assert!(
        text.starts_with("commands to 5 entities, 3 clients"),
        "{text}"
    );
}

#[test]
fn each_order_of_the_saga_benchmark_records_the_events_that_it_counts() {
    for dispatching in [false, true] {
        let engine = InMemory::default();
        let lines = 4;
        let work = Hosted::Sagas(Sagas {
            lines,
            products: 10,
            dispatching,
        });
        let config = hosted(&format!("saga-{dispatching}"), work);
        let report = measure_hosted(&config, &tools(&engine)).unwrap();
        let of_process = if dispatching { 3 + 2 * lines } else { 0 };
        assert_eq!(
            report.events_per_answer,
            1 + 3 * (lines + 3) + 2 + of_process
        );
        // Every client waited for its last order, so the log has whole orders only.
        let logs = engine.0.lock().unwrap();
        let (_, log) = logs
            .iter()
            .find(|(dir, _)| dir.ends_with("service"))
            .unwrap();
        let head = events_in(log);
        assert_eq!(head % report.events_per_answer as u64, 0, "{head} events");
        assert!(head > 0);
    }
}

fn events_in(log: &MemoryLog) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let head = runtime.block_on(log.head()).unwrap();
    head.get(anabranch_model::PartitionId(0))
}

#[test]
fn views_are_built_from_every_event_of_the_log() {
    let engine = InMemory::default();
    let config = ViewConfig {
        events: 3000,
        rounds: 1,
        dir: directory("view"),
        keep: false,
    };
    let report = measure_views(&config, &tools(&engine)).unwrap();
    assert!(report.memory.events_per_second > 0.0);
    assert!(report.sqlite.events_per_second > 0.0);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["events"], 3000);
}

#[test]
fn idle_entities_are_loaded_and_weighed() {
    let engine = InMemory::default();
    let config = IdleConfig {
        entities: 2000,
        events_each: 3,
        dir: directory("idle"),
        keep: false,
    };
    let report = measure_idle(&config, &tools(&engine)).unwrap();
    assert_eq!((report.entities, report.state_bytes), (2000, 8));
    assert!(report.to_text().contains("beyond their state of 8 bytes"));
}

#[test]
fn an_event_too_small_for_its_json_is_refused() {
    let engine = InMemory::default();
    let config = HostedConfig {
        size: 5,
        ..hosted("small", Hosted::Commands { entities: 1 })
    };
    let error = measure_hosted(&config, &tools(&engine)).unwrap_err();
    assert!(matches!(error, BenchError::Invalid(_)), "{error}");
}
