//! The demo as somebody finds it who has just started it, and who meets trouble with it.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::Value;

use crate::support::{Running, Scratch, done};

const ORDERS: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536366,22633,WARMER,6,2010-12-01 08:28:00,1.85,17850,United Kingdom
";

fn start(scratch: &Scratch, arguments: &str) -> Running {
    scratch.file("orders.csv", ORDERS);
    scratch.start(&format!(
        "demo --listen 127.0.0.1:0 --orders orders.csv --provider reliable {arguments}"
    ))
}

/// What the demo says beside its results, until it stays open or ends.
fn said(demo: &mut Running) -> String {
    let mut said = String::new();
    let mut stderr = BufReader::new(demo.child.stderr.take().unwrap());
    while !said.contains("stays open") && stderr.read_line(&mut said).unwrap() > 0 {}
    // Whoever writes to it later still can.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    said
}

#[test]
fn a_demo_that_stays_open_is_found_without_naming_its_log_on_whatever_port_it_is() {
    let scratch = Scratch::new("demo-found");
    let mut demo = start(&scratch, "--keep");
    let text = said(&mut demo);
    assert!(text.contains("the shop stays open"), "{text}");
    assert!(scratch.run("view ls").ok().contains("customers"));
    assert!(scratch.run("service ls").ok().contains("checkout"));
    let stderr = scratch.run("view ls --log ./elsewhere").fails(5);
    assert!(
        stderr.contains("add --log ./.anabranch/demo/log"),
        "{stderr}"
    );
    let hint = "view ls --log ./.anabranch/demo/log";
    assert!(scratch.run(hint).ok().contains("customers"));
    demo.terminate();
    assert_eq!(demo.finish().code, Some(0));
}

#[test]
fn a_demo_that_is_stopped_says_how_it_goes_on_and_does() {
    let scratch = Scratch::new("demo-stopped");
    // The second order would come after hours.
    let mut demo = start(&scratch, "--log ./shop --rate 0.0001/s");
    while scratch.run("view ls --log ./shop").code != Some(0) {
        let ended = demo.child.try_wait().unwrap();
        assert!(ended.is_none(), "{:?}", demo.finish());
    }
    demo.terminate();
    let stopped = demo.finish();
    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("do: `anabranch demo --log ./shop`"),
        "{}",
        stopped.stderr
    );
    scratch.run("log verify --log ./shop").ok();
    let text = start(&scratch, "--log ./shop").finish().ok();
    assert!(text.contains("✓ totals equal the file"), "{text}");
}

#[test]
fn a_demo_before_an_event_that_nobody_can_read_says_so_and_stays_open_to_be_mended() {
    let scratch = Scratch::new("demo-halted");
    let bad = "append order/bad --type OrderPlaced --data {\"no\":1} --log ./shop";
    scratch.run(bad).ok();
    let mut demo = start(&scratch, "--keep --log ./shop");
    let text = said(&mut demo);
    assert!(text.contains("error[halted]"), "{text}");
    assert!(
        text.contains("has stopped consuming before OrderPlaced"),
        "{text}"
    );
    assert!(
        text.contains("`anabranch process ls --log ./shop`"),
        "{text}"
    );
    assert!(text.contains("the shop stays open"), "{text}");
    scratch.run("process skip checkout --log ./shop").ok();
    let processes = "process ls --log ./shop --output json";
    let runs = |all: Value| {
        let mut all = all.as_array().unwrap().iter();
        all.all(|process| process["stopped"].is_null())
    };
    let tries = (0..500).map(|_| serde_json::from_str(&scratch.run(processes).ok()).unwrap());
    assert!(tries.into_iter().any(runs), "it did not go on");
    demo.terminate();
    assert_eq!(demo.finish().code, Some(1));
}

/// Where a demo on a log in memory puts what must be files.
fn temporary(scratch: &Scratch, arguments: &str) -> (std::path::PathBuf, Command) {
    let dir = scratch.path("tmp");
    std::fs::create_dir_all(&dir).unwrap();
    let mut command = scratch.command(arguments);
    command.env("TMPDIR", &dir);
    (dir, command)
}

#[test]
fn a_demo_in_memory_leaves_no_file_behind_when_it_ends_and_when_it_fails() {
    let scratch = Scratch::new("demo-memory");
    let start = "demo --log memory: --rate 0 --output json --listen ";
    for (address, code) in [("127.0.0.1:0", 0), ("0.0.0.0:0", 1)] {
        let (dir, command) = temporary(&scratch, &format!("{start}{address}"));
        let done = done(command);
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert!(left.is_empty(), "{address}: {left:?}");
    }
}

#[test]
fn what_a_demo_keeps_beside_its_log_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("demo-private");
    scratch
        .run("demo --log ./shop --rate 0 --output json --listen 127.0.0.1:0")
        .ok();
    let beside = scratch.path("shop.demo");
    for dir in [
        beside.clone(),
        beside.join("views"),
        beside.join("snapshots"),
    ] {
        let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", dir.display());
    }
}

/// Of these the flaky provider's customer of the second has a bank that says no.
const DECLINED: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536372,22632,WARMER,6,2010-12-01 09:01:00,1.85,17850,United Kingdom
536372,22633,WARMER,6,2010-12-01 09:01:00,1.85,17850,United Kingdom
";

#[test]
fn the_story_of_a_rejected_order_says_which_step_failed_why_and_what_was_undone() {
    let scratch = Scratch::new("story");
    scratch.file("orders.csv", DECLINED);
    let demo = "demo --listen 127.0.0.1:0 --orders orders.csv --provider flaky --log ./shop";
    scratch.run(demo).ok();
    // Nothing runs any more: the log alone tells it.
    let text = scratch.run("story order/536372 --log ./shop").ok();
    let summary = text.split_once("checkout/536372 is compensated").unwrap().1;
    assert!(
        summary.contains("failed  pay: step charge was refused"),
        "{text}"
    );
    assert!(
        summary.contains("failed  charge: the customer's bank has declined the payment (declined)"),
        "{text}"
    );
    let (_, undone) = summary.split_once("undone  ").unwrap();
    let mut undone: Vec<_> = undone.lines().next().unwrap().split(", ").collect();
    assert_eq!(
        (undone[0], undone.pop()),
        ("bill", Some("accept")),
        "{text}"
    );
    undone.sort_unstable();
    assert_eq!(undone, ["bill", "reserve", "reserve/1"], "{text}");
    assert!(!text.contains("536365"), "a story of its own: {text}");
}

#[test]
fn a_story_has_no_holes_and_begins_where_it_began_whichever_part_is_named() {
    let scratch = Scratch::new("story-whole");
    scratch.file("orders.csv", DECLINED);
    let demo = "demo --listen 127.0.0.1:0 --orders orders.csv --provider flaky --log ./shop";
    scratch.run(demo).ok();
    let lines = scratch
        .run("story order/536365 --log ./shop --output jsonl")
        .ok();
    let whole: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<&Value> = whole.iter().filter(|e| e.get("type").is_some()).collect();
    for event in &events[1..] {
        assert!(
            event.get("cause").is_some(),
            "follows from nothing: {event}"
        );
    }
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    for expected in [
        "OrderPlaced",
        "PaymentApproved",
        "OrderShipped",
        "StockShipped",
    ] {
        assert!(types.contains(&expected), "{expected} is not in {types:?}");
    }
    for part in ["checkout/536365", "payment/536365", "goods-out/536365"] {
        let same = format!("story {part} --log ./shop --output jsonl");
        assert_eq!(scratch.run(&same).ok(), lines, "{part}");
    }
    let said = scratch.run("story order/1 --log ./shop").fails(3);
    assert!(said.contains("stream order/1 has no events"), "{said}");
}
