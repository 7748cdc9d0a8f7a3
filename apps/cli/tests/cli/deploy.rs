//! Another build of one service, while the others run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::split::{TWO, orders, until};
use crate::support::{Running, Scratch};

/// The split shop under load. Gives its demo, and the address of its log.
fn shop(scratch: &Scratch) -> (Running, String) {
    scratch.file("orders.csv", orders(40));
    let mut demo = scratch.start(
        "demo --split --orders orders.csv --rate 4/s --provider reliable --listen 127.0.0.1:0 --keep",
    );
    let lines = until(&mut demo, &["the log: "]);
    let log = lines.iter().find_map(|line| line.split_once("the log: "));
    let (_, log) = log.expect("it says where its log is");
    let (log, _) = log.split_once(';').expect("and then something else");
    (demo, log.to_owned())
}

/// The number of each service's lease, which another process of it has got anew.
fn leases(scratch: &Scratch, log: &str) -> BTreeMap<String, u64> {
    let all = scratch
        .run(&format!("service ls --log {log} --output json"))
        .ok();
    let all: Vec<Value> = serde_json::from_str(&all).unwrap();
    let lease = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["lease"].as_u64()?));
    all.iter().filter_map(lease).collect()
}

/// Sends pricing a command, by the storefront.
fn send(scratch: &Scratch, server: &str, kind: &str, data: &str) -> Value {
    let send = format!("send price/p --type {kind} --server {server} --output json --data");
    let mut send = scratch.command(&send);
    send.arg(data);
    serde_json::from_str(&crate::support::done(send).ok()).unwrap()
}

#[test]
fn pricing_is_deployed_and_goes_back_by_itself_while_orders_run_and_nothing_is_lost() {
    let scratch = Scratch::new("deploy-rolls");
    let (mut demo, log) = shop(&scratch);
    let lines = until(&mut demo, &["the shop's page: "]);
    let page = lines.iter().find_map(|line| line.split_once("page: "));
    let page = page.expect("it says where its page is").1.to_owned();
    let before = leases(&scratch, &log);
    send(&scratch, &page, "SetListPrice", r#"{"mills":1000}"#);
    send(&scratch, &page, "RaisePrice", r#"{"percent":10}"#);

    // The second build fits, and takes over.
    let types = scratch
        .run("demo --service pricing --build 2 --print-types")
        .ok();
    scratch.file("types.json", types);
    let check = format!("deploy check pricing --types types.json --log {log}");
    let text = scratch.run(&check).ok();
    assert!(text.ends_with("pricing may be rolled out\n"), "{text}");
    let catalogue = "view catalogue of service storefront reads price-list: goes on";
    assert!(text.contains(catalogue), "{text}");
    let rolled = scratch.run("deploy pricing --program anabranch --output json -- --build 2");
    let rolled: Value = serde_json::from_str(&rolled.ok()).unwrap();
    assert_eq!(rolled[0]["state"], "ready", "{rolled}");
    let done = send(&scratch, &page, "RaisePrice", r#"{"percent":10}"#);
    assert_eq!(done["events"][0]["schema_version"], 2, "{done}");
    assert_eq!(
        done["events"][0]["data"]["percent_above_list"], 20,
        "{done}"
    );
    // Who reads what it publishes notices nothing; its own view, which is older, reads by the downcast.
    let token = done["token"].as_str().unwrap();
    for (view, query) in [("catalogue", "cost"), ("prices", "of")] {
        let got = scratch.run(&format!(
            "view get {view} {query} product=p --server {page} --token {token} --output json"
        ));
        let got: Value = serde_json::from_str(&got.ok()).unwrap();
        assert_eq!(got["value"], 1200, "{view}: {got}");
    }

    // One that does not get ready does not stay.
    let blind = scratch.run("deploy pricing --program false");
    let blind = blind.fails(1);
    assert!(blind.contains("does not print its types"), "{blind}");
    let back = scratch.run("deploy pricing --program false --force");
    assert_eq!(back.code, Some(1), "{}", back.stderr);
    assert!(back.stderr.contains("error[went-back]"), "{}", back.stderr);
    assert!(back.stderr.contains("ended with code 1"), "{}", back.stderr);
    let done = send(&scratch, &page, "LowerPrice", r#"{"percent":5}"#);
    assert_eq!(done["events"][0]["schema_version"], 2, "{done}");

    until(&mut demo, &["stays open"]);
    let after = leases(&scratch, &log);
    for (name, lease) in &before {
        assert_eq!(
            after[name] == *lease,
            name != "pricing",
            "{name}: {after:?}"
        );
    }
    demo.terminate();
    let demo = demo.finish();
    let text = String::from_utf8_lossy(&demo.stdout).into_owned();
    assert_eq!(demo.code, Some(0), "{text}\n{}", demo.stderr);
}

#[test]
fn a_build_that_ends_at_once_or_cannot_run_does_not_take_the_place_of_the_one_before() {
    let scratch = Scratch::new("deploy-unsound");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["first  | up", "second | up"]);
    // Nothing says when it is ready: it has to run for a moment.
    let back = scratch.run("deploy second --program false --output json");
    assert_eq!(back.code, Some(1), "{}", back.stderr);
    assert!(back.stderr.contains("went-back"), "{}", back.stderr);
    assert!(back.stderr.contains("ended with code 1"), "{}", back.stderr);
    let deployed = scratch.run("deploy second --program sh --output json").ok();
    let deployed: Vec<Value> = serde_json::from_str(&deployed).unwrap();
    assert_eq!(deployed[0]["state"], "ready", "{deployed:?}");
    // One that was stopped is stopped again.
    scratch.run("service stop second").ok();
    let back = scratch.run("deploy second --program false");
    assert_eq!(back.code, Some(1), "{}", back.stderr);
    assert!(
        back.stderr.contains("stopped, as it was"),
        "{}",
        back.stderr
    );
    let second = scratch.run("service start second --output json").ok();
    let deployed: Vec<Value> = serde_json::from_str(&second).unwrap();
    // What would only wait is not tried.
    scratch.run("service stop first").ok();
    let refused = scratch.run("deploy second --program sh");
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let words = "second needs first, which is stopped";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    scratch.run("service start first").ok();
    let second = scratch.run("service start second --output json").ok();
    let second: Vec<Value> = serde_json::from_str(&second).unwrap();
    assert_eq!(second[0]["process"], deployed[0]["process"], "{second:?}");
    up.terminate();
    let done = up.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn who_is_stopped_while_another_build_is_tried_is_stopped_when_that_has_ended() {
    let scratch = Scratch::new("deploy-stopped");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["second | up"]);
    let deploy = scratch.start("deploy second --program sh --output json");
    until(&mut up, &["second | bye", "second | up"]);
    let stopped = scratch.run("service stop second --output json").ok();
    let stopped: Vec<Value> = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped[0]["state"], "stopped", "{stopped:?}");
    let deployed = deploy.finish().ok();
    let deployed: Vec<Value> = serde_json::from_str(&deployed).unwrap();
    assert_eq!(deployed[0]["state"], "ready", "{deployed:?}");
    // It stays so.
    let first = scratch.run("service restart first --output json").ok();
    assert!(first.contains("ready"), "{first}");
    up.terminate();
    let done = up.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("second | up"), "{}", done.stderr);
}

#[test]
fn a_program_that_was_replaced_while_it_runs_still_starts_its_services() {
    let scratch = Scratch::new("up-replaced");
    let file = "[service.s]\nprogram = \"anabranch\"\nargs = [\"serve\", \"--listen\", \
                \"127.0.0.1:0\", \"--log\", \"./log\"]\nready = \"./log\"\n";
    scratch.file("s.toml", file);
    let program = scratch.path("anabranch");
    std::fs::hard_link(env!("CARGO_BIN_EXE_anabranch"), &program).unwrap();
    let mut up = scratch.start_program(&program, "up s.toml");
    until(&mut up, &["ready"]);
    std::fs::remove_file(&program).unwrap();
    let again = scratch.run("service restart s --output json").ok();
    let again: Vec<Value> = serde_json::from_str(&again).unwrap();
    assert_eq!(again[0]["state"], "ready", "{again:?}");
    up.terminate();
    up.finish().ok();
}

#[test]
fn a_breaking_contract_names_its_readers_and_forced_stops_only_them() {
    let scratch = Scratch::new("deploy-breaks");
    let (mut demo, log) = shop(&scratch);
    let lines = until(&mut demo, &["the shop's page: ", "stays open"]);
    let page = lines.iter().find_map(|line| line.split_once("page: "));
    let page = page.expect("it says where its page is").1.to_owned();
    send(&scratch, &page, "SetListPrice", r#"{"mills":1000}"#);
    let types = scratch
        .run("demo --service pricing --build 3 --print-types")
        .ok();
    scratch.file("types.json", types);
    let check = format!("deploy check pricing --types types.json --log {log} --output json");
    let check = scratch.run(&check);
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    let report: Value = serde_json::from_slice(&check.stdout).unwrap();
    let breaks = report["breaks"].as_array().unwrap();
    assert_eq!(breaks.len(), 1, "{report}");
    assert_eq!(breaks[0]["code"], "reader-behind");
    assert_eq!(breaks[0]["whom"], "view catalogue of service storefront");

    // Rolling it out looks at that too.
    let refused = scratch.run("deploy pricing --program anabranch --output json -- --build 3");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("breaks"), "{}", refused.stderr);
    let report: Value = serde_json::from_slice(&refused.stdout).unwrap();
    let whom = &report["breaks"][0]["whom"];
    assert_eq!(whom, "view catalogue of service storefront", "{report}");
    let done = send(&scratch, &page, "RaisePrice", r#"{"percent":5}"#);
    assert_eq!(done["events"][0]["schema_version"], 1, "{done}");
    scratch
        .run("deploy pricing --program anabranch --force -- --build 3")
        .ok();
    send(&scratch, &page, "RaisePrice", r#"{"percent":10}"#);
    // It stops in a moment, and says why; all others go on.
    let stopped = loop {
        let views = scratch
            .run(&format!("view ls --server {page} --output json"))
            .ok();
        let views: Vec<Value> = serde_json::from_str(&views).unwrap();
        let stopped = views
            .iter()
            .filter(|view| view.to_string().contains("\"stopped\""));
        let stopped: Vec<_> = stopped.cloned().collect();
        if !stopped.is_empty() {
            break stopped;
        }
    };
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0]["view"]["name"], "catalogue", "{stopped:?}");
    let why = stopped[0].to_string();
    assert!(why.contains("PriceChanged has schema version 2"), "{why}");
    demo.terminate();
    demo.finish().ok();
}
