//! The types of a program beside those of a log.

use anabranch_domain::types::{ProgramTypes, ServiceTypes};
use anabranch_domain::{Decide, Entity, Event, Rejection};
use anabranch_runtime::{Service, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::Scratch;

/// What an older program has, and what the next one has.
macro_rules! ledger {
    ($name:ident, $event:ident { $($variants:tt)* }) => {
        #[derive(Clone, Serialize, Deserialize, Event)]
        enum $event { $($variants)* }

        #[derive(Default, Serialize, Deserialize)]
        struct $name;

        impl Entity for $name {
            const CATEGORY: &'static str = "ledger";
            type Command = $event;
            type Event = $event;
            type Rejection = Rejection;

            fn decide(&self, command: &$event, _: &Decide) -> Result<Vec<$event>, Rejection> {
                Ok(vec![command.clone()])
            }

            fn evolve(&mut self, _: &$event) {}
        }
    };
}

ledger!(Before, First { Booked { amount: u32 }, Closed {}, });
ledger!(Fitting, Second { Booked { amount: u64 }, Closed {}, Reopened {}, });
ledger!(Breaking, Third { Booked { amount: u32, currency: String }, });

fn types<E: Entity>() -> String {
    let env = anabranch_env::Env::os();
    let log = std::sync::Arc::new(anabranch_log::MemoryLog::new(env.clone()));
    let builder = Service::builder("books", log, Time::of(&env)).entity::<E>();
    let types: ServiceTypes = builder.types().clone();
    serde_json::to_string(&ProgramTypes(vec![types])).unwrap()
}

/// A log that the older program has written, and files with the types of three programs.
fn written(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let dir = scratch.path(".anabranch/log");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let env = anabranch_env::Env::os();
        let options = anabranch::segment::Options::default();
        let log = anabranch::segment::SegmentLog::open(env.clone(), &dir, options).unwrap();
        let log: std::sync::Arc<dyn anabranch_log::Log> = std::sync::Arc::new(log);
        let service = Service::builder("books", log, Time::of(&env)).entity::<Before>();
        let service = service.start().await.unwrap();
        let ledger = service.entity::<Before>("a");
        ledger.send(First::Booked { amount: 5 }).await.unwrap();
        ledger.send(First::Closed {}).await.unwrap();
        service.shutdown(std::time::Duration::from_secs(5)).await;
    });
    drop(runtime);
    scratch.file("before.json", types::<Before>());
    scratch.file("fitting.json", types::<Fitting>());
    scratch.file("breaking.json", types::<Breaking>());
    scratch
}

#[test]
fn a_program_that_fits_passes() {
    let scratch = written("schema-fits");
    for types in ["before.json", "fitting.json"] {
        let text = scratch.run(&format!("schema check --types {types}")).ok();
        assert_eq!(
            text,
            "the program fits the log: 2 kinds of 2 events in the log\n"
        );
    }
    let piped = scratch.run_with("schema check --types -", types::<Fitting>());
    piped.ok();
    // Nothing is compared with the types of nobody in particular.
    let stderr = scratch.run("schema check").fails(2);
    assert!(stderr.contains("name them with --types FILE"), "{stderr}");
}

#[test]
fn changes_that_break_somebody_are_named_and_fail() {
    let scratch = written("schema-breaks");
    let done = scratch.run("schema check --types breaking.json");
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        text.starts_with(
            "removed-type: entity ledger would break: the program no longer knows Closed v1\n  events: ledger/… Closed v1, 1 stored\n  do: keep the variant"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "required-field: entity ledger would break: Booked v1 needs the field `currency`"
        ),
        "{text}"
    );
    assert!(
        done.stderr
            .starts_with("error[breaks]: 2 changes would break somebody\n")
    );
    let done = scratch.run("schema check --types breaking.json --output json");
    assert_eq!(done.code, Some(1));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["breaks"][0]["code"], "removed-type");
    assert_eq!(report["breaks"][1]["whom"], "entity ledger");
}

#[test]
fn the_registry_is_listed() {
    let scratch = written("schema-ls");
    let text = scratch.run("schema ls").ok();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[1],
        "ledger    Booked v1  books    1        {amount: u32}"
    );
    assert_eq!(lines[2], "ledger    Closed v1  books    1        {}");
    let all: Value = serde_json::from_str(&scratch.run("schema ls --output json").ok()).unwrap();
    assert_eq!(all["ledger"][0]["kinds"][0]["name"], "Booked");
    scratch.run("schema ls order").fails(3);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let scratch = written("schema-bad");
    scratch
        .run("schema check --types before.json --log ./nowhere")
        .fails(3);
    scratch.run("schema check --types nowhere.json").fails(3);
    scratch.file("bad.json", "{\"service\":\"books\"}");
    let stderr = scratch.run("schema check --types bad.json").fails(1);
    assert!(
        stderr.contains("bad.json does not describe the types"),
        "{stderr}"
    );
}
