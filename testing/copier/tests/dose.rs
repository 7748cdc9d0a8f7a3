//! A dose of the copier that every test run takes. The full one:
//! `cargo run --release -p anabranch-copier`.

use std::io::Write;
use std::sync::Once;

use anabranch_copier::{Engine, Report, Settings, TempDir, run};

/// The server that `cargo xtask test` has started.
fn postgres() -> Option<String> {
    let address = std::env::var("ANABRANCH_TEST_POSTGRES").ok();
    if address.is_none() {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let text = "skipped: copying into a view in PostgreSQL: there is no server; \
                        `cargo xtask backends up` says where one is\n";
            // Not by a macro, whose output a passing test keeps to itself.
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        });
    }
    address
}

fn copy(engine: Engine, seed: u64, change: impl FnOnce(&mut Settings)) -> Result<Report, String> {
    let dir = TempDir::new();
    let mut settings = Settings {
        seed,
        events: 2000,
        streams: 8,
        events_per_kill: 100,
        failure_one_in: 50,
        engine,
        sabotage: false,
        dir: dir.path().to_owned(),
        postgres: postgres(),
    };
    change(&mut settings);
    run(&settings)
}

fn each_once(engine: Engine, seeds: u64) -> Report {
    let mut all = Report::default();
    for seed in 0..seeds {
        let report = copy(engine, seed, |_| {}).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(report.copied, 2000, "seed {seed}");
        all.kills += report.kills;
        all.doubles += report.doubles;
        all.power_cuts += report.power_cuts;
        all.looks += report.looks;
    }
    // A run in which nothing happens proves nothing.
    assert!(
        all.kills > 10 && all.doubles > 0 && all.looks > 0,
        "{all:?}"
    );
    all
}

#[test]
fn each_number_is_copied_once_and_in_order_whatever_is_killed() {
    each_once(Engine::Memory, 4);
}

#[test]
fn each_number_is_copied_once_and_in_order_over_power_cuts() {
    assert!(each_once(Engine::Segment, 2).power_cuts > 0);
}

#[test]
fn a_number_that_stands_twice_is_found() {
    let wrong = copy(Engine::Memory, 1, |settings| settings.sabotage = true).unwrap_err();
    assert!(wrong.contains("wrong"), "{wrong}");
}
