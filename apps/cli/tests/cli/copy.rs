//! `log copy`: copies, mirrors and moves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Running, Scratch, lines};

const CREATE: &str =
    "log create ./log --group trade=order,payment:3 --group stock=stock:2 --rest 1";

/// Serves `./log` on a free port; the server, and its address.
fn serve(scratch: &Scratch, dir: &str) -> (Running, String) {
    let mut server = scratch.start(&format!("serve --log {dir} --listen 127.0.0.1:0"));
    let line = server.error_line();
    let (_, url) = line.trim().split_once(": ").expect("it says where it is");
    (server, url.to_owned())
}

fn fill(scratch: &Scratch, from: u64) {
    for (number, category) in (0..).zip(["order", "payment", "stock", "price"]) {
        let first = from + number * 10;
        let file = lines(&format!("{category}/{from}"), first..first + 10);
        scratch.run_with("import - --log ./log", file).ok();
    }
}

/// The lines of an export, sorted: over partitions the order may be another.
fn export(scratch: &Scratch, dir: &str) -> Vec<String> {
    let text = scratch.run(&format!("log export - --log {dir}")).ok();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn id(scratch: &Scratch, dir: &str) -> Value {
    let info = scratch
        .run(&format!("log info --log {dir} --output json"))
        .ok();
    let info: Value = serde_json::from_str(&info).unwrap();
    info["log_id"].clone()
}

#[test]
fn a_copy_has_the_same_export_and_goes_on_where_it_stopped() {
    for create in ["log create ./log", CREATE] {
        let scratch = Scratch::new("copy-again");
        scratch.run(create).ok();
        fill(&scratch, 0);
        let said = scratch.run("log copy ./log ./copy");
        assert!(
            said.stderr.contains("both logs say the same"),
            "{}",
            said.stderr
        );
        assert_eq!(said.ok(), "40 events in ./copy; 40 events copied now\n");
        assert_eq!(export(&scratch, "./copy"), export(&scratch, "./log"));
        assert_ne!(id(&scratch, "./copy"), id(&scratch, "./log"));
        fill(&scratch, 100);
        let said = scratch.run("log copy ./log ./copy --output json").ok();
        assert_eq!(said, "{\"copied\":40,\"events\":80}\n");
        assert_eq!(export(&scratch, "./copy"), export(&scratch, "./log"));
        scratch.run("log verify --log ./copy").ok();
    }
}

#[test]
fn a_log_with_one_partition_and_its_copy_of_a_copy_have_the_same_export_byte_for_byte() {
    let scratch = Scratch::new("copy-bytes");
    fill(&scratch, 0);
    scratch.run("log copy ./log ./copy").ok();
    scratch.run("log copy ./copy ./again").ok();
    let export = |dir: &str| scratch.run(&format!("log export - --log {dir}")).ok();
    assert_eq!(export("./again"), export("./log"));
}

#[test]
fn a_log_behind_a_server_is_copied_and_mirrored() {
    let scratch = Scratch::new("copy-served");
    scratch.run(CREATE).ok();
    fill(&scratch, 0);
    let (server, url) = serve(&scratch, "./log");
    let mirror = scratch.start(&format!("log copy {url} ./mirror --follow"));
    // A reader of the mirror sees what comes to the log.
    while !scratch.path("mirror/layout").exists() {
        std::thread::yield_now();
    }
    let mut reader = scratch.start("read --follow --log ./mirror --output jsonl");
    for _ in 0..40 {
        reader.line();
    }
    scratch
        .run(&format!("append order/new --type Placed --log {url}"))
        .ok();
    assert!(reader.line().contains("order/new"));
    mirror.terminate();
    let text = mirror.finish().ok();
    assert!(
        text.starts_with("41 events in ./mirror; 41 events copied now"),
        "{text}"
    );
    reader.kill();
    let text = scratch.run(&format!("log copy {url} ./mirror")).ok();
    assert_eq!(text, "41 events in ./mirror; 0 events copied now\n");
    assert_eq!(export(&scratch, "./mirror"), export(&scratch, "./log"));
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_copy_that_somebody_has_written_to_is_refused_as_it_is() {
    let scratch = Scratch::new("copy-stray");
    fill(&scratch, 0);
    scratch.run("log copy ./log ./copy").ok();
    scratch.run("append order/x --type Stray --log ./copy").ok();
    let refused = scratch.run("log copy ./log ./copy").fails(4);
    assert!(
        refused.starts_with("error[no-copy]: at 0:40 stands another event"),
        "{refused}"
    );
    scratch
        .run(CREATE.replace("./log", "./parts").as_str())
        .ok();
    let refused = scratch.run("log copy ./log ./parts").fails(4);
    assert!(
        refused.contains("a copy has the layout of its log"),
        "{refused}"
    );
}

#[test]
fn a_log_is_not_copied_into_itself_or_to_where_it_cannot_be() {
    let scratch = Scratch::new("copy-words");
    fill(&scratch, 0);
    scratch.run("log copy ./log ./log").fails(2);
    scratch.run("log copy ./log memory:").fails(2);
    scratch.run("log copy ./nothing ./copy").fails(3);
    scratch.run("log copy ./log ./copy --layout").fails(2);
    scratch
        .run("log copy ./log ./copy --follow --move")
        .fails(2);
    scratch
        .run("log copy http://127.0.0.1:1 ./copy --move")
        .fails(2);
    assert!(!scratch.path("copy").exists());
}

#[test]
fn a_log_that_is_moved_keeps_its_id_and_the_seal_of_its_tokens_and_the_old_one_refuses_appends() {
    for create in ["log create ./log", CREATE] {
        let scratch = Scratch::new("copy-move");
        scratch.run(create).ok();
        fill(&scratch, 0);
        let (server, url) = serve(&scratch, "./log");
        // While a program has the log, all is copied and nothing sealed.
        let waits = scratch.run("log copy ./log ./new --move").fails(5);
        assert!(waits.contains("40 events copied so far"), "{waits}");
        assert!(waits.contains("run the same command again"), "{waits}");
        let refused = scratch.run("append a/b --type T --log ./new").fails(2);
        assert!(refused.contains("still on its way from"), "{refused}");
        scratch
            .run(&format!("append order/1 --type T --log {url}"))
            .ok();
        server.terminate();
        server.finish().ok();

        let (before, log_id) = (export(&scratch, "./log"), id(&scratch, "./log"));
        let moved = scratch.run("log copy ./log ./new --move");
        assert!(
            moved.stderr.contains("refuses appends and names it"),
            "{}",
            moved.stderr
        );
        assert!(moved.ok().ends_with("; 1 event copied now\n"));
        let refused = scratch.run("append order/1 --type T --log ./log").fails(1);
        assert!(refused.starts_with("error[moved]"), "{refused}");
        assert!(
            refused.contains(&scratch.path("new").display().to_string()),
            "{refused}"
        );
        scratch
            .run("serve --log ./log --listen 127.0.0.1:0")
            .fails(1);
        assert_eq!(export(&scratch, "./log"), before);
        assert_eq!(export(&scratch, "./new"), before);
        assert_eq!(id(&scratch, "./new"), log_id);
        let key = |dir: &str| std::fs::read(scratch.path(dir).join("token.key")).unwrap();
        assert_eq!(key("new"), key("log"));
        scratch
            .run("append order/1 --type T --expect exists --log ./new")
            .ok();
        let again = scratch.run("log copy ./log ./new --move").ok();
        assert!(again.contains("; 0 events copied now"), "{again}");
        let elsewhere = scratch.run("log copy ./log ./third --move").fails(1);
        assert!(elsewhere.starts_with("error[moved]"), "{elsewhere}");
    }
}

/// What an export says of each event in every layout: all but where it stands, and the places it names.
fn said_of_events(scratch: &Scratch, dir: &str) -> Vec<String> {
    let mut said: Vec<String> = export(scratch, dir)
        .iter()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            let members = event.as_object_mut().unwrap();
            members.retain(|name, _| !name.contains("position") && !name.contains("causes"));
            event.to_string()
        })
        .collect();
    said.sort_unstable();
    said
}

#[test]
fn a_copy_with_a_layout_has_the_same_events_in_it_and_goes_on_where_it_stopped() {
    const WIDE: &str = "log copy ./log ./wide --layout --group goods=stock,order:4 --rest 3";
    for create in ["log create ./log", CREATE] {
        let scratch = Scratch::new("copy-layout");
        scratch.run(create).ok();
        fill(&scratch, 0);
        let said = scratch.run(WIDE);
        assert!(
            said.stderr.contains("positions are others"),
            "{}",
            said.stderr
        );
        assert_eq!(said.ok(), "40 events in ./wide; 40 events copied now\n");
        fill(&scratch, 100);
        let said = scratch.run(WIDE).ok();
        assert_eq!(said, "80 events in ./wide; 40 events copied now\n");
        // Without what says how far it has come, it finds that by the ids.
        std::fs::remove_file(scratch.path("wide/cuts-1")).unwrap();
        let said = scratch.run(WIDE).ok();
        assert_eq!(said, "80 events in ./wide; 0 events copied now\n");
        assert_eq!(
            said_of_events(&scratch, "./wide"),
            said_of_events(&scratch, "./log")
        );
        let verified = scratch.run("log verify --log ./wide").ok();
        assert!(!verified.contains("cuts-1"), "{verified}");
        let info = scratch.run("log info --log ./wide").ok();
        assert!(info.contains("goods"), "{info}");
        assert_ne!(id(&scratch, "./wide"), id(&scratch, "./log"));
    }
}

#[test]
fn a_copy_with_a_layout_is_refused_where_it_cannot_be() {
    let scratch = Scratch::new("copy-layout-words");
    scratch.run(CREATE).ok();
    fill(&scratch, 0);
    let same = CREATE.replace("log create ./log", "log copy ./log ./same");
    let refused = scratch.run(&same).fails(4);
    assert!(refused.contains("has the layout"), "{refused}");
    assert!(!scratch.path("same").exists());
    for more in ["--move", "--follow"] {
        let refused = scratch.run(&format!("log copy ./log ./new --rest 2 {more}"));
        let refused = refused.fails(2);
        assert!(refused.contains("not with --follow or --move"), "{refused}");
    }
    scratch.run("log copy ./log ./two --rest 2").ok();
    let refused = scratch.run("log copy ./log ./two --rest 3").fails(4);
    assert!(refused.contains("another layout"), "{refused}");
    scratch.run("append order/0 --type Stray --log ./two").ok();
    let at = scratch.run("log copy ./log ./two --rest 2").fails(4);
    assert!(at.contains("the events of the copy are not those"), "{at}");
}

/// What a server answers to an event that is sent with these headers.
fn append_to(url: &str, id: &str, headers: &str) -> String {
    let authority = url.trim_start_matches("http://");
    let body = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/tills","type":"Opened","subject":"till/1","data":{{}}}}"#
    );
    let len = body.len();
    let request = format!(
        "POST /events HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {len}\r\n\
         Content-Type: application/cloudevents+json\r\n{headers}\r\n{body}"
    );
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_of_a_copy_that_keeps_tokens_takes_those_of_the_old_log_and_one_that_does_not_refuses() {
    let scratch = Scratch::new("copy-tokens");
    scratch.run(CREATE).ok();
    fill(&scratch, 0);
    let keeps = "log copy ./log ./kept --rest 2 --keep-tokens";
    let refused = scratch.run(keeps).fails(2);
    assert!(refused.contains("no server has given tokens"), "{refused}");
    let (server, url) = serve(&scratch, "./log");
    let appended = append_to(&url, "A-1", "");
    let token = appended
        .lines()
        .find_map(|line| line.strip_prefix("anabranch-token: "))
        .unwrap_or_else(|| panic!("{appended}"));
    server.terminate();
    server.finish().ok();

    scratch.run(keeps).ok();
    scratch.run("log copy ./log ./other --rest 2").ok();
    // A later move takes along what reads the old tokens.
    scratch.run("log copy ./kept ./moved --move").ok();
    for (dir, status) in [("./moved", "20"), ("./other", "400")] {
        let (server, url) = serve(&scratch, dir);
        let sent = format!("Anabranch-Token: {token}\r\n");
        let answer = append_to(&url, "A-2", &sent);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{dir}: {answer}"
        );
        server.terminate();
        server.finish().ok();
    }
    let again = "log copy ./log ./other --rest 2 --keep-tokens";
    let refused = scratch.run(again).fails(4);
    assert!(
        refused.contains("a server has given tokens of the copy"),
        "{refused}"
    );
}
