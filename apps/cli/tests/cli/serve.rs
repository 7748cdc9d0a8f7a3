use anabranch::log::{Append, Log as _};
use anabranch::model::{EventId, NewEvent, StreamId};
use anabranch::remote::{Lease, Options, Registration, RemoteLog};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::support::{Running, Scratch, lines};

/// Serves `./log` on a free port; the server, and its address.
fn serve(scratch: &Scratch) -> (Running, String) {
    let mut server = scratch.start("serve --log ./log --listen 127.0.0.1:0");
    let line = server.error_line();
    let (_, url) = line.trim().split_once(": ").expect("it says where it is");
    (server, url.to_owned())
}

#[test]
fn commands_use_a_served_log_by_its_address() {
    let scratch = Scratch::new("serve-address");
    let (server, url) = serve(&scratch);
    let append = format!("append order/1 --type T --expect empty --log {url}");
    scratch.run(&append).ok();
    let refused = scratch.run(&append);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let read = scratch.run(&format!("read --log {url}")).ok();
    assert_eq!(read, "0:0\torder/1\t0\tT\t{}\n");
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_directory_that_is_served_is_appended_to_by_its_server() {
    let scratch = Scratch::new("serve-directory");
    let (server, _) = serve(&scratch);
    scratch.run("append order/1 --type T --log ./log").ok();
    scratch.file("f.jsonl", lines("a/b", 0..500));
    scratch.run("import f.jsonl --log ./log").ok();
    let read = scratch.run("read --log ./log --category a").ok();
    assert_eq!(read.lines().count(), 500);
    server.terminate();
    server.finish().ok();
    // Then it is a directory like any other.
    scratch
        .run("append order/1 --type T --log ./log --expect 0")
        .ok();
}

#[test]
fn a_follower_goes_on_when_the_server_is_killed_and_started_again() {
    let scratch = Scratch::new("serve-restart");
    let (server, url) = serve(&scratch);
    let address = url.trim_start_matches("http://").to_owned();
    scratch
        .run(&format!("append a/b --type T --log {url}"))
        .ok();
    let mut reader = scratch.start(&format!("read --follow --log {url}"));
    assert_eq!(reader.line(), "0:0\ta/b\t0\tT\t{}\n");
    server.kill();
    let mut server = scratch.start(&format!("serve --log ./log --listen {address}"));
    server.error_line();
    scratch
        .run(&format!("append a/b --type T --log {url}"))
        .ok();
    assert_eq!(reader.line(), "0:1\ta/b\t1\tT\t{}\n");
    reader.terminate();
    reader.finish().ok();
    server.terminate();
    server.finish().ok();
}

fn finished<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Registers as the owner of orders, from a process of its own: this one.
fn register_orders(log: &RemoteLog) -> Lease {
    let orders = Registration {
        name: "orders".to_owned(),
        address: "http://127.0.0.1:4077".to_owned(),
        program: "shop".to_owned(),
        version: "1.2".to_owned(),
        owns: vec!["order".to_owned()],
        sends: vec!["payment".to_owned()],
        ..Registration::default()
    };
    finished(log.registry().register(orders)).unwrap()
}

#[test]
fn services_that_have_registered_are_listed_and_what_they_own_is_theirs() {
    let scratch = Scratch::new("serve-services");
    let (server, url) = serve(&scratch);
    let none = scratch.run(&format!("service ls --log {url}")).ok();
    assert_eq!(none, "no service is running\n");
    let log = RemoteLog::open(&url, Options::default()).unwrap();
    let lease = register_orders(&log);
    let listed = scratch.run(&format!("service ls --log {url}")).ok();
    let row = "orders   http://127.0.0.1:4077  order         shop 1.2  held for ";
    assert!(listed.contains(row), "{listed}");
    let graph = scratch.run(&format!("service graph --log {url}")).ok();
    assert!(graph.contains("\n  sends payment of nobody\n"), "{graph}");
    // A journal of its own says that it has sent something else.
    let says = r#"{"step":"a","request":{"Command":{"to":"fax/1","type":"Send","data":{}}}}"#;
    let stream = StreamId::new("order/1").unwrap();
    let (id, kind) = (EventId::from_u128(77), "StepStarted".parse().unwrap());
    let step = NewEvent::new(id, stream, kind, says);
    finished(log.append(Append::event(step))).unwrap();
    let undeclared = scratch.run(&format!("service graph --log {url}"));
    assert!(
        undeclared.stderr.contains("orders to fax"),
        "{}",
        undeclared.stderr
    );
    let graph = undeclared.ok();
    assert!(
        graph.contains("sends fax of nobody, seen 1 times and not declared"),
        "{graph}"
    );
    scratch
        .run(&format!(
            "service graph --forbid-undeclared --newest 0 --log {url}"
        ))
        .ok();
    let forbidden = scratch.run(&format!("service graph --forbid-undeclared --log {url}"));
    assert_eq!(forbidden.code, Some(1), "{}", forbidden.stderr);
    let dot = scratch
        .run(&format!("service graph --format dot --log {url}"))
        .ok();
    assert!(
        dot.contains("\"orders\" -> \"nobody\" [label=\"sends payment\"];"),
        "{dot}"
    );
    let forged = format!("append order/1 --type T --log {url} --output json");
    let refused = scratch.run(&forged).fails(4);
    assert!(refused.contains("not-owner"), "{refused}");
    assert!(refused.contains("service orders"), "{refused}");
    let forget = format!("service forget orders --log {url}");
    let refused = scratch.run(&forget).fails(4);
    assert!(refused.contains("service orders is there"), "{refused}");
    finished(lease.release()).unwrap();
    let forgotten = scratch.run(&forget).ok();
    assert_eq!(forgotten, "service orders owns nothing any more\n");
    scratch.run(&forged).ok();
    scratch
        .run(&format!("service forget nobody --log {url}"))
        .fails(3);
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_server_that_was_killed_knows_the_owners_when_it_is_back() {
    let scratch = Scratch::new("serve-owners");
    let (server, url) = serve(&scratch);
    let address = url.trim_start_matches("http://").to_owned();
    let log = RemoteLog::open(&url, Options::default()).unwrap();
    let _lease = register_orders(&log);
    server.kill();
    // Nor is it appended to past the server.
    let past = "append order/1 --type T --log ./log --output json";
    let refused = scratch.run(past).fails(4);
    assert!(refused.contains("not-owner"), "{refused}");
    scratch.run("append other/1 --type T --log ./log").ok();
    let mut server = scratch.start(&format!("serve --log ./log --listen {address}"));
    server.error_line();
    let forged = format!("append order/1 --type T --log {url}");
    let refused = scratch.run(&forged).fails(4);
    assert!(refused.contains("service orders"), "{refused}");
    let order = StreamId::new("order/1").unwrap();
    let event = NewEvent::new(EventId::from_u128(1), order, "T".parse().unwrap(), "{}");
    finished(log.append(Append::event(event))).unwrap();
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_log_is_served_by_one_program() {
    let scratch = Scratch::new("serve-twice");
    let (server, url) = serve(&scratch);
    let refused = scratch.run("serve --log ./log --listen 127.0.0.1:0");
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let refused = scratch.run(&format!("serve --log {url}"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    server.terminate();
    server.finish().ok();
}

#[test]
fn nobody_at_the_address_is_told_at_once() {
    let scratch = Scratch::new("serve-nobody");
    let (server, url) = serve(&scratch);
    server.terminate();
    server.finish().ok();
    let failed = scratch.run(&format!("append a/b --type T --log {url}"));
    assert_eq!(failed.code, Some(5), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("nothing answers"),
        "{}",
        failed.stderr
    );
}

#[test]
fn an_address_that_others_can_reach_is_not_served() {
    let scratch = Scratch::new("serve-exposed");
    let refused = scratch.run("serve --log ./log --listen 0.0.0.0:0");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("other machines"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_served_log_is_looked_at_checked_and_copied_from_elsewhere_while_it_is_written() {
    let scratch = Scratch::new("serve-files");
    let (server, url) = serve(&scratch);
    for key in ["a", "b", "c"] {
        let append = format!("append order/{key} --type T --log {url}");
        scratch.run(&append).ok();
    }
    let json = |arguments: &str| -> Value {
        serde_json::from_str(&scratch.run(&format!("{arguments} --output json")).ok()).unwrap()
    };
    let info = json(&format!("log info --log {url}"));
    assert_eq!(info["events"], 3, "{info}");
    assert_eq!(info["written"], true, "{info}");
    assert_eq!(info["log_id"], json("log info --log ./log")["log_id"]);
    let verified = json(&format!("log verify --log {url}"));
    assert_eq!(verified["clean"], true, "{verified}");
    assert_eq!(verified["beside_writer"], true, "{verified}");
    // A first copy, and what came since.
    json(&format!("log backup ./copy --log {url}"));
    scratch
        .run(&format!("append order/x --type T --log {url}"))
        .ok();
    let copied = json(&format!("log backup ./copy --log {url}"));
    assert_eq!(copied["events"], 4, "{copied}");
    scratch.run("log restore ./copy --log ./restored").ok();
    let events = |log: &str| {
        scratch
            .run(&format!("read --output jsonl --log {log}"))
            .ok()
    };
    assert_eq!(events("./restored"), events(&url));
    server.terminate();
    server.finish().ok();
}

#[test]
fn damage_of_a_served_log_is_named_by_its_server_and_leaves_nothing_changed() {
    let scratch = Scratch::new("serve-damage");
    scratch.run("append order/1 --type T --log ./log").ok();
    scratch.run("append order/2 --type T --log ./log").ok();
    let (server, url) = serve(&scratch);
    let segment = std::fs::read_dir(scratch.path("log")).unwrap();
    let segment = segment
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|part| part == b"order/1");
    bytes[at.unwrap()] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = scratch.run(&format!("log verify --log {url} --output json"));
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["damages"][0]["first"], "0:0", "{report}");
    server.terminate();
    server.finish();
}

#[test]
fn secrets_beside_a_served_log_are_shown_to_nobody() {
    let scratch = Scratch::new("serve-secrets");
    let (server, url) = serve(&scratch);
    let files = curl(&url, "/operate/log/files");
    let files: Value = serde_json::from_str(&files).unwrap();
    let names: Vec<_> = files["files"].as_array().unwrap().iter().collect();
    assert!(names.iter().any(|name| **name == "mark"), "{files}");
    for name in ["token.key", "server.json"] {
        assert!(scratch.path("log").join(name).exists());
        assert!(names.iter().all(|found| **found != name), "{files}");
    }
    for name in [
        "token.key",
        "server.json",
        "..%2Flog%2Ftoken.key",
        "..%2Fx.seg",
    ] {
        let told = curl(&url, &format!("/operate/log/files/{name}"));
        assert!(told.contains("no-file"), "{name}: {told}");
    }
    server.terminate();
    server.finish().ok();
}

/// What stands at this path.
fn curl(url: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}
