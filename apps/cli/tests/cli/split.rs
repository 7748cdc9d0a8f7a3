//! The shop in processes of its own, and `anabranch up`, which keeps them running.

use serde_json::Value;

use crate::support::{Running, Scratch};

/// So many orders of one line each.
pub fn orders(count: usize) -> String {
    let head =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
    let order = |n: usize| {
        let (number, product, minute) = (536_365 + n, 22_000 + n % 5, n % 60);
        format!("{number},{product},A,2,2010-12-01 08:{minute:02}:00,1.25,17850,France\n")
    };
    head.to_owned() + &(0..count).map(order).collect::<String>()
}

#[test]
fn a_split_demo_whose_processes_are_killed_keeps_what_must_hold() {
    let scratch = Scratch::new("split-kills");
    scratch.file("orders.csv", orders(30));
    let demo = scratch.run(
        "demo --split --crash-every 2s --orders orders.csv --rate 3/s --provider reliable \
         --listen 127.0.0.1:0 --output json",
    );
    let said = scratch.path(".anabranch/demo/services.log");
    let said = std::fs::read_to_string(said).unwrap_or_default();
    assert_eq!(demo.code, Some(0), "{}\n{said}", demo.stderr);
    let summary: Value = serde_json::from_slice(&demo.stdout).unwrap();
    let invariants = summary["invariants"].as_object().unwrap();
    assert!(invariants.values().all(|holds| holds == true), "{summary}");
    assert_eq!(invariants.len(), 8, "{summary}");
    assert_eq!(summary["orders"]["confirmed"], 30, "{summary}");
    assert_eq!(
        summary["revenue_mills"]["total"],
        30 * 2 * 1250,
        "{summary}"
    );
    let kills = said.matches("was ended by signal 9").count();
    assert!(kills > 1, "{said}");
    // Nobody is left behind, and the log is whole.
    scratch.run("log verify --log ./.anabranch/demo/log").ok();
}

#[test]
fn services_in_processes_own_what_they_write_and_are_reached_through_any_of_them() {
    let scratch = Scratch::new("split-gateway");
    scratch.file("orders.csv", orders(2));
    let mut demo = scratch
        .start("demo --split --orders orders.csv --provider reliable --listen 127.0.0.1:0 --keep");
    let lines = until(&mut demo, &["the shop's page: "]);
    let log = lines.iter().find_map(|line| line.split_once("the log: "));
    let (_, log) = log.expect("it says where its log is");
    let (log, _) = log.split_once(';').expect("and then something else");
    let page = lines.iter().find_map(|line| line.split_once("page: "));
    let (_, page) = page.expect("it says where its page is");
    until(&mut demo, &["stays open"]);
    let send = format!("send stock/new --type OpenStock --server {page} --output json --data");
    let mut send = scratch.command(&send);
    send.arg("{\"units\":5,\"reorder_below\":0}");
    let done: Value = serde_json::from_str(&crate::support::done(send).ok()).unwrap();
    assert_eq!(done["events"][0]["type"], "StockOpened", "{done}");
    let spend = scratch.run(&format!(
        "view get customers spend --server {page} --output json"
    ));
    let spend: Value = serde_json::from_str(&spend.ok()).unwrap();
    assert_eq!(spend["value"]["orders"], 2, "{spend}");
    // What each sends is what it has declared.
    let graph = format!("service graph --forbid-undeclared --log {log} --output json");
    let graph: Value = serde_json::from_str(&scratch.run(&graph).ok()).unwrap();
    let arrows = graph.as_array().unwrap();
    let stock = |arrow: &&Value| arrow["from"] == "checkout" && arrow["category"] == "stock";
    let stock = arrows.iter().find(stock).unwrap();
    assert_eq!(stock["declared"], true, "{graph}");
    assert!(stock["observed"].as_u64() >= Some(2), "{graph}");
    // Each has registered, and nobody else writes what it owns.
    let registered = scratch.run(&format!("service ls --log {log} --output json"));
    let registered: Value = serde_json::from_str(&registered.ok()).unwrap();
    assert_eq!(registered.as_array().map(Vec::len), Some(8), "{registered}");
    let pricing = registered.as_array().unwrap().iter();
    let kept = pricing.flat_map(|service| service["private"].as_array().into_iter().flatten());
    let kept: Vec<_> = kept.filter_map(Value::as_str).collect();
    assert!(
        kept.contains(&"price") && kept.contains(&"checkout"),
        "{kept:?}"
    );
    let forged = scratch.run(&format!("append order/x --type OrderConfirmed --log {log}"));
    assert!(forged.stderr.contains("not-owner"), "{}", forged.stderr);
    demo.terminate();
    demo.finish().ok();
}

#[test]
fn each_service_of_a_split_shop_has_a_key_of_its_own_and_reads_what_others_keep_by_none() {
    let scratch = Scratch::new("split-keys");
    scratch.file("orders.csv", orders(2));
    let mut demo = scratch.start(
        "demo --split --auth --orders orders.csv --provider reliable --listen 127.0.0.1:0 --keep",
    );
    let lines = until(&mut demo, &["the log: ", "stays open"]);
    let log = lines.iter().find_map(|line| line.split_once("the log: "));
    let (log, _) = log.and_then(|(_, log)| log.split_once(';')).unwrap();
    let dir = scratch.path(".anabranch/demo");
    let by = |service: &str, arguments: &str| {
        let mut command = scratch.command(&format!("{arguments} --log {log}"));
        let key = dir.join(format!("services/{service}/service.key"));
        command.env("ANABRANCH_TOKEN_FILE", key);
        crate::support::done(command)
    };
    // It reads what it has declared.
    assert!(by("stock", "read -c stock -n 1").ok().contains("stock/"));
    let refused = by("stock", "read -c payment");
    assert!(refused.stderr.contains("read:payment"), "{refused:?}");
    let refused = by("stock", "append note/1 --type T");
    assert!(refused.stderr.contains("append:note"), "{refused:?}");
    // By a key alone nobody is a service: what that keeps is shown to who has its lease.
    let refused = by("pricing", "read -c price");
    let words = "which is private to service pricing; read what it publishes: price-list";
    assert!(refused.stderr.contains(words), "{refused:?}");
    // Of a saga others see how it has ended.
    let ends = by("storefront", "read -c checkout --output jsonl").ok();
    let types = ends.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"].as_str().unwrap().to_owned()
    });
    let types: Vec<_> = types.collect();
    assert_eq!(types, ["SagaCompleted", "SagaCompleted"], "{ends}");
    // An operator sees everything, and who has registered by which key.
    let local = "--log .anabranch/demo/log";
    let all = scratch.run(&format!("read -c checkout {local}")).ok();
    assert!(all.contains("SagaStarted"), "{all}");
    let audit = scratch.run(&format!("audit ls {local}")).ok();
    assert!(audit.contains("service pricing (key "), "{audit}");
    // What is done at the services is written down there too.
    assert!(audit.contains("the server at service stock"), "{audit}");
    let plan = std::fs::read_to_string(dir.join("up.toml")).unwrap();
    assert!(!plan.contains("admin.key"), "{plan}");
    demo.terminate();
    demo.finish().ok();
}

/// A declared set: one service, and one that needs it.
pub const TWO: &str = "\
[service.first]
program = \"sh\"
args = [\"-c\", \"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done\"]

[service.second]
program = \"sh\"
args = [\"-c\", \"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done\"]
needs = [\"first\"]
";

/// Lines that it writes, until each of these has come.
pub fn until(up: &mut Running, texts: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    while !texts
        .iter()
        .all(|text| lines.iter().any(|line| line.contains(text)))
    {
        let line = up.error_line();
        assert!(!line.is_empty(), "it has ended: {lines:?}");
        lines.push(line.trim_end().to_owned());
    }
    lines
}

#[test]
fn services_start_behind_what_they_need_and_end_before_it() {
    let scratch = Scratch::new("up-order");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["first  | up", "second | up"]);
    up.terminate();
    let done = up.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let at = |text: &str| done.stderr.find(text).expect(&done.stderr);
    assert!(at("second | bye") < at("first  | bye"), "{}", done.stderr);
}

#[test]
fn services_end_with_an_up_that_was_killed() {
    let scratch = Scratch::new("up-killed");
    let alive = scratch.path("alive");
    let made = std::process::Command::new("mkfifo").arg(&alive).status();
    assert!(made.unwrap().success());
    // It holds the other end as long as it lives, and looks at nothing.
    scratch.file(
        "s.toml",
        "[service.s]\nprogram = \"sh\"\nargs = [\"-c\", \"exec sleep 1000 > alive\"]\n",
    );
    let up = scratch.start("up s.toml");
    let mut alive = std::fs::File::open(alive).unwrap();
    up.kill();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = std::io::Read::read_to_end(&mut alive, &mut said);
        ended.send(read.map(|_| said)).unwrap();
    });
    let end = end.recv_timeout(std::time::Duration::from_secs(30));
    let end = end.expect("the service outlives who has started it");
    assert_eq!(end.unwrap(), b"");
}

#[test]
fn a_program_that_is_not_there_is_told_by_its_name() {
    let scratch = Scratch::new("up-absent");
    for (program, told) in [
        ("./absent", "cannot be started"),
        ("absent-program", "absent-program cannot be started"),
    ] {
        scratch.file("s.toml", format!("[service.s]\nprogram = \"{program}\"\n"));
        let mut up = scratch.start("up s.toml");
        until(&mut up, &[told]);
        up.terminate();
        up.finish().ok();
    }
}

#[test]
fn a_service_that_ends_is_started_again() {
    let scratch = Scratch::new("up-again");
    let file = "[service.s]\nprogram = \"sh\"\nargs = [\"-c\", \"echo here; exit 7\"]\n";
    scratch.file("s.toml", file);
    let mut up = scratch.start("up s.toml");
    until(&mut up, &["s | here"]);
    // What it says of an end may stand before the last words.
    until(&mut up, &["[up] ended with code 7", "s | here"]);
    up.terminate();
    up.finish().ok();
}

#[test]
fn what_is_wrong_with_a_declared_set_is_told_and_nothing_is_started() {
    let scratch = Scratch::new("up-check");
    scratch.file("two.toml", TWO);
    let order = scratch.run("up two.toml --check --output json").ok();
    let order: Value = serde_json::from_str(&order).unwrap();
    assert_eq!(order[0]["service"], "first");
    assert_eq!(order[1]["needs"][0], "first");
    scratch.file(
        "bad.toml",
        "[service.a]\nprogram = \"true\"\nneeds = [\"b\"]\n",
    );
    for arguments in ["up bad.toml --check", "up bad.toml"] {
        let stderr = scratch.run(arguments).fails(2);
        assert!(stderr.contains("needs \"b\""), "{stderr}");
        assert!(stderr.contains("nothing was started"), "{stderr}");
    }
    scratch.run("up nowhere.toml").fails(3);
}

/// Starts a program that serves something; gives its address too.
fn serving(scratch: &Scratch, arguments: &str) -> (Running, String) {
    let mut running = scratch.start(arguments);
    let lines = until(&mut running, &["http://"]);
    let (_, address) = lines.last().unwrap().split_once("http://").unwrap();
    let address = address.split([' ', ';', ',']).next().unwrap();
    (running, format!("http://{address}"))
}

#[test]
fn a_service_needs_the_address_of_its_log_alone_and_its_tokens_are_good_at_the_others() {
    let scratch = Scratch::new("one-address");
    let (log, url) = serving(&scratch, "serve --listen 127.0.0.1:0 --log ./log");
    let start = |name: &str| serving(&scratch, &format!("demo --service {name} --log {url}"));
    let (stock, stock_url) = start("stock");
    let (customers, customers_url) = start("customers");
    let send = format!("send stock/new --type OpenStock --server {stock_url} --output json --data");
    let mut send = scratch.command(&send);
    send.arg("{\"units\":5,\"reorder_below\":0}");
    let done: Value = serde_json::from_str(&crate::support::done(send).ok()).unwrap();
    let token = done["token"].as_str().unwrap();
    let spend = scratch.run(&format!(
        "view get customers spend --server {customers_url} --token {token} --output json"
    ));
    let spend: Value = serde_json::from_str(&spend.ok()).unwrap();
    assert_eq!(spend["value"]["orders"], 0, "{spend}");
    // Its directory is below the one that it was started in.
    assert!(scratch.path(".anabranch/services/stock/lease.key").exists());
    for running in [stock, customers, log] {
        running.terminate();
        running.finish().ok();
    }
}

#[test]
fn a_service_that_was_paused_for_longer_than_its_lease_ends_when_another_has_followed() {
    let scratch = Scratch::new("paused");
    let (log, url) = serving(&scratch, "serve --listen 127.0.0.1:0 --log ./log");
    let start = |dir: &str| {
        let service = format!("demo --service stock --log {url} --dir {dir}");
        serving(&scratch, &service)
    };
    let stock = || {
        let all = scratch.run(&format!("service ls --log {url} --output json"));
        let all: Vec<Value> = serde_json::from_str(&all.ok()).unwrap();
        all[0].clone()
    };
    let signal = |name: &str, running: &Running| {
        let pid = running.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(sent.unwrap().success());
    };
    let (first, _) = start("first");
    signal("-STOP", &first);
    // As long as the lease lasts, and no longer.
    while stock()["state"] == "held" {}
    assert_eq!(stock()["state"], "expired");
    let (second, address) = start("second");
    signal("-CONT", &first);
    let first = first.finish();
    assert_eq!(first.code, Some(4), "{}", first.stderr);
    assert!(first.stderr.contains("lease-lost"), "{}", first.stderr);
    let now = stock();
    assert_eq!(
        (&now["state"], &now["address"]),
        (&"held".into(), &address.into())
    );
    assert!(now["since"].as_str().unwrap().ends_with('Z'), "{now}");
    second.terminate();
    second.finish().ok();
    log.terminate();
    log.finish().ok();
}

#[test]
fn one_of_the_services_that_are_kept_is_stopped_and_started_by_its_name() {
    let scratch = Scratch::new("up-control");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["first  | up", "second | up"]);
    let ask = |what: &str| -> Value {
        let text = scratch.run(&format!("service {what} --output json")).ok();
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    // It ends in order, and whoever needs it goes on.
    let stopped = ask("stop first");
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert_eq!(stopped["last_end"], "ended with code 0", "{stopped}");
    assert_eq!(ask("stop first"), stopped);
    // Who needs what is stopped waits for it.
    let waiting = ask("restart second");
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert_eq!(waiting["waits_for"][0], "first", "{waiting}");
    let first = ask("start first --up two.toml");
    assert_eq!(first["state"], "ready", "{first}");
    assert_eq!(ask("start second")["state"], "ready");
    let again = ask("restart first");
    assert_eq!(again["state"], "ready", "{again}");
    assert_ne!(again["process"], first["process"]);
    // It was ended by hand: nothing has failed.
    assert_eq!(again["restarts"], 0, "{again}");
    let unknown = scratch.run("service stop third").fails(3);
    assert!(unknown.contains("first, second"), "{unknown}");
    up.terminate();
    let done = up.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let nobody = scratch.run("service stop first").fails(5);
    assert!(nobody.contains("no `anabranch up` runs here"), "{nobody}");
    assert!(!scratch.path("two.toml.control").exists());
}

#[test]
fn what_is_stopped_by_hand_does_not_hold_up_the_end_of_the_others() {
    let scratch = Scratch::new("up-rest-end");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["first  | up", "second | up"]);
    scratch.run("service stop second").ok();
    up.terminate();
    let done = up.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("first  | bye"), "{}", done.stderr);
}

#[test]
fn a_service_that_ends_before_it_is_ready_fails_its_start() {
    let scratch = Scratch::new("up-fails");
    let file = "[service.s]\nprogram = \"sh\"\nargs = [\"-c\", \"echo here; exit 7\"]\n\
                ready = \"./never\"\n";
    scratch.file("s.toml", file);
    let mut up = scratch.start("up s.toml");
    until(&mut up, &["s | here"]);
    scratch.run("service stop s").ok();
    let started = scratch.run("service start s");
    assert_eq!(started.code, Some(1), "{}", started.stderr);
    assert!(
        started.stderr.contains("ended with code 7"),
        "{}",
        started.stderr
    );
    up.terminate();
    up.finish().ok();
}

#[test]
fn nobody_stops_a_service_without_the_word_that_its_keeper_wrote() {
    let scratch = Scratch::new("up-word");
    scratch.file("two.toml", TWO);
    let mut up = scratch.start("up two.toml");
    until(&mut up, &["first  | up", "second | up"]);
    let file = scratch.path("two.toml.control");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let mut door: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    door["word"] = "0".repeat(64).into();
    scratch.file("other.toml.control", door.to_string());
    let refused = scratch.run("service stop first --up other.toml").fails(1);
    assert!(refused.contains("does not open"), "{refused}");
    up.terminate();
    up.finish().ok();
}
