//! A log with several partitions, from the command line.

use serde_json::{Value, json};

use crate::support::{Scratch, lines, numbers};

const CREATE: &str =
    "log create ./parts --group trade=order,payment:8 --group stock=stock:4 --rest 2";

/// A log of 15 partitions with 60 events, in those of orders, stock and the rest.
fn filled(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.run(CREATE).ok();
    for (number, category) in ["order", "stock", "price"].iter().enumerate() {
        for key in 0..4 {
            let first = (number * 4 + key) as u64 * 5;
            let file = lines(&format!("{category}/{key}"), first..first + 5);
            scratch.run_with("import - --log ./parts", file).ok();
        }
    }
    scratch
}

fn read(scratch: &Scratch, arguments: &str) -> Vec<u64> {
    let mut read = numbers(&scratch.events(&format!("--log ./parts {arguments}")));
    read.sort_unstable();
    read
}

#[test]
fn a_log_is_made_with_a_layout_and_keeps_it() {
    let scratch = Scratch::new("parts-create");
    let text = scratch.run(CREATE).ok();
    assert_eq!(
        text,
        "./parts: trade=order,payment:8, stock=stock:4, rest:2: 14 partitions, and partition 0 for \
         system streams\n"
    );
    let again = scratch.run("log create ./parts").fails(4);
    assert!(again.starts_with("error[log-exists]"), "{again}");
    assert!(again.contains("nothing was changed"), "{again}");
    let made = scratch.run("log create ./one --output json").ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["layout"], Value::Null);
    scratch.run("append order/1 --type T --log ./one").ok();
    let info: Value =
        serde_json::from_str(&scratch.run("log info --log ./one --output json").ok()).unwrap();
    assert_eq!(
        (&info["events"], &info["log_id"]),
        (&json!(1), &made["log_id"])
    );
    for (arguments, words) in [
        ("--group trade=order:0", "no partitions"),
        ("--group trade=order", "is not a group"),
        ("--group a=x:1 --group b=x:1", "again in"),
        ("--group a=$x:1", "begins with '$'"),
        ("--rest 0", "0 is not in"),
        ("--rest 2000", "at most 1024"),
    ] {
        let refused = scratch
            .run(&format!("log create ./new {arguments}"))
            .fails(2);
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!scratch.path("new").exists());
}

#[test]
fn info_shows_the_layout_and_where_a_stream_stands() {
    let scratch = filled("parts-info");
    let text = scratch.run("log info --log ./parts").ok();
    for line in [
        "layout       trade=order,payment:8, stock=stock:4, rest:2: 14 partitions, and partition 0",
        "appends      batches within a partition, conditions over any streams\n",
        "events       60\n",
        "partition 0     system                  0 events",
        "partition 14    rest",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let info = scratch.run("log info --log ./parts --output json").ok();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["layout"]["partitions"], 15);
    let parts = info["partitions"].as_array().unwrap();
    assert_eq!(parts.len(), 15);
    let counts = parts.iter().map(|part| part["events"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 60);
    let last = parts.iter().rfind(|part| part["events"] != 0).unwrap();
    let position = last["segments"][0]["last"].as_str().unwrap();
    assert!(
        position.starts_with(&format!("{}:", last["partition"])),
        "{position}"
    );

    let place = |stream: &str| {
        scratch
            .run(&format!("log info --log ./parts --stream {stream}"))
            .ok()
    };
    assert_eq!(place("order/7"), "order/7 stands in partition 8 (trade)\n");
    assert_eq!(
        place("payment/7"),
        "payment/7 stands in partition 8 (trade)\n"
    );
    assert_eq!(
        place("$owner/x"),
        "$owner/x stands in partition 0 (system)\n"
    );
    scratch.run("append a/b --type T").ok();
    let one = scratch.run("log info --stream order/7").ok();
    assert_eq!(one, "order/7 stands in partition 0\n");
}

#[test]
fn reads_and_exports_take_cuts() {
    let scratch = filled("parts-cuts");
    assert_eq!(read(&scratch, ""), (0..60).collect::<Vec<_>>());
    let all = scratch.events("--log ./parts");
    let mut cut = std::collections::BTreeMap::new();
    for event in &all[..30] {
        let position = event["position"].as_str().unwrap();
        let (partition, offset) = position.split_once(':').unwrap();
        cut.insert(partition.to_owned(), offset.parse::<u64>().unwrap() + 1);
    }
    let cut: Vec<String> = cut
        .iter()
        .map(|(p, count)| format!("{p}:{count}"))
        .collect();
    let cut = cut.join(",");
    let (before, after) = (
        read(&scratch, &format!("--until {cut}")),
        read(&scratch, &format!("--from {cut}")),
    );
    assert_eq!(before, {
        let mut first = numbers(&all[..30]);
        first.sort_unstable();
        first
    });
    assert_eq!(after, {
        let mut rest = numbers(&all[30..]);
        rest.sort_unstable();
        rest
    });
    let exported = scratch
        .run(&format!("log export - --log ./parts --until {cut}"))
        .ok();
    assert_eq!(exported.lines().count(), 30);
    let following = scratch.events(&format!("--log ./parts --follow --until {cut}"));
    assert_eq!(following.len(), 30);
    assert_eq!(read(&scratch, "--until 0"), [0_u64; 0]);
    for wrong in ["--from 15:0", "--until 1:0,15:1"] {
        let refused = scratch.run(&format!("read --log ./parts {wrong}")).fails(2);
        assert!(refused.contains("the log has no partition 15"), "{refused}");
    }
    let beyond = scratch.run("read --log ./parts --until 1:999").fails(3);
    assert!(beyond.contains("beyond the head"), "{beyond}");
}

#[test]
fn a_log_with_partitions_is_verified_backed_up_and_restored() {
    let scratch = filled("parts-care");
    let clean = scratch.run("log verify --log ./parts").ok();
    assert!(clean.starts_with("clean: 60 events"), "{clean}");
    scratch.run("log backup ./copy --log ./parts").ok();
    scratch.run("log restore ./copy --log ./back").ok();
    let position = |events: Vec<Value>| -> Vec<Value> {
        events
            .into_iter()
            .map(|event| event["position"].clone())
            .collect()
    };
    assert_eq!(
        position(scratch.events("--log ./back")),
        position(scratch.events("--log ./parts"))
    );
    let refused = scratch.run("read --log ./copy").fails(1);
    assert!(refused.contains("holds a backup"), "{refused}");
    let refused = scratch
        .run("append a/b --type T --log ./parts/partition-3")
        .fails(2);
    assert!(refused.contains("one partition of the log"), "{refused}");
    let refused = scratch
        .run("append a/b --type T --log ./parts/new")
        .fails(1);
    assert!(refused.contains("inside"), "{refused}");
    std::fs::remove_file(scratch.path("parts/layout")).unwrap();
    for command in [
        "append a/b --type T",
        "log info",
        "log verify",
        "log repair",
        "read",
    ] {
        let refused = scratch.run(&format!("{command} --log ./parts")).fails(1);
        assert!(refused.contains("no file layout"), "{refused}");
    }
}

#[test]
fn what_is_exported_is_imported_into_a_log_with_another_layout() {
    let scratch = filled("parts-move");
    let file: String = (60..90)
        .map(|n| {
            lines(
                &format!("{}/1", ["order", "stock", "price"][n % 3]),
                n as u64..n as u64 + 1,
            )
        })
        .collect();
    scratch.run_with("import - --log ./parts", file).ok();
    scratch.run("log export all.jsonl --log ./parts").ok();
    scratch
        .run("log create ./other --group all=order,price:2 --rest 3")
        .ok();
    for log in ["./other", "./one"] {
        scratch.run(&format!("import all.jsonl --log {log}")).ok();
        assert_eq!(
            numbers(&scratch.events(&format!("--log {log} --stream stock/1"))).len(),
            15
        );
        scratch.run(&format!("import all.jsonl --log {log}")).ok();
        assert_eq!(scratch.events(&format!("--log {log}")).len(), 90);
    }
}

#[test]
fn a_server_passes_partitions_through() {
    let scratch = filled("parts-serve");
    let mut server = scratch.start("serve --log ./parts --listen 127.0.0.1:0");
    let line = server.error_line();
    let (_, url) = line.trim().split_once(": ").expect("it says where it is");
    let direct = scratch.events("--log ./parts");
    assert_eq!(scratch.events(&format!("--log {url}")), direct);
    let position = direct[40]["position"].as_str().unwrap();
    let from = scratch.events(&format!("--log {url} --from {position}"));
    assert_eq!(
        from.len(),
        scratch
            .events(&format!("--log ./parts --from {position}"))
            .len()
    );
    scratch
        .run(&format!("append order/9 --type T --log {url}"))
        .ok();
    // By the directory too, where the server is found.
    scratch.run("append stock/9 --type T --log ./parts").ok();
    let info = scratch
        .run(&format!("log info --log {url} --output json"))
        .ok();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["events"], &info["layout"]["rest"]),
        (&json!(62), &json!(2))
    );
    let verified = scratch.run(&format!("log verify --log {url}")).ok();
    assert!(verified.contains("clean: 62 events"), "{verified}");
    scratch.run(&format!("log backup ./copy --log {url}")).ok();
    scratch.run("log restore ./copy --log ./back").ok();
    assert_eq!(scratch.events("--log ./back").len(), 62);
    server.terminate();
}
