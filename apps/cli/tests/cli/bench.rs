use serde_json::Value;

use crate::support::Scratch;

#[test]
fn bench_log_measures_the_log_beside_the_bare_loop() {
    let scratch = Scratch::new("bench-log");
    let text = scratch
        .run("bench log --clients 2 --rounds 1 --seconds 0.1 --output json")
        .ok();
    let report: Value = serde_json::from_str(&text).unwrap();
    for contender in ["append", "bare"] {
        for figure in ["events_per_second", "p50_us", "p99_us", "syncs_per_second"] {
            let found = report[contender][figure].as_f64().unwrap();
            assert!(found > 0.0, "{contender} {figure}: {found}");
        }
    }
    for ratio in ["throughput", "p50"] {
        assert!(report["ratio"][ratio].as_f64().unwrap() > 0.0, "{ratio}");
    }
    assert!(report["replay"]["events_per_second"].as_f64().unwrap() > 0.0);
    assert!(report["follow"]["p50_us"].is_number());
    assert!(report["peers"].is_object());
}

#[test]
fn a_bench_that_cannot_be_done_fails() {
    let scratch = Scratch::new("bench-wrong");
    scratch.run("bench log --clients 0 --seconds 0.1").fails(1);
    scratch.run("bench log --peer oracle").fails(2);
    scratch.run("bench").fails(2);
}

#[test]
fn a_log_is_opened_after_its_process_was_killed_and_without_its_indexes() {
    let scratch = Scratch::new("bench-opening");
    let text = scratch
        .run("bench log --suite --only opening --gigabytes 0.005 --output json")
        .ok();
    let suite: Value = serde_json::from_str(&text).unwrap();
    let opening = &suite["runs"]["opening"];
    for kind in ["clean", "killed", "index_gone"] {
        // The log holds at least what was acknowledged before the first kill.
        let gigabytes = opening[kind]["gigabytes"].as_f64().unwrap();
        assert!(gigabytes >= 0.005, "{kind}: {gigabytes}");
        assert!(opening[kind]["millis"].as_f64().unwrap() > 0.0, "{kind}");
    }
    assert_eq!(suite["rows"].as_array().unwrap().len(), 3);
}
