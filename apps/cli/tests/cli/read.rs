use std::process::Stdio;

use serde_json::Value;

use crate::support::{Scratch, lines, numbers};

/// Streams a/b, a/c and d/e with the numbers 0 to 8, in turn.
fn filled(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let file: String = (0..9)
        .map(|n| lines(["a/b", "a/c", "d/e"][n as usize % 3], n..n + 1))
        .collect();
    scratch.file("f.jsonl", file);
    scratch.run("import f.jsonl").ok();
    scratch
}

#[test]
fn text_is_one_line_for_each_event() {
    let scratch = Scratch::new("read-text");
    scratch.run("append order/1 --type Placed").ok();
    scratch
        .run_with("append order/1 --type Paid --data -", "{\n}")
        .ok();
    assert_eq!(
        scratch.run("read").ok(),
        "0:0\torder/1\t0\tPlaced\t{}\n0:1\torder/1\t1\tPaid\t{\\n}\n"
    );
}

#[test]
fn filters_choose_events() {
    let scratch = filled("read-filters");
    let read = |arguments: &str| numbers(&scratch.events(arguments));
    assert_eq!(read(""), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(read("--stream a/c"), [1, 4, 7]);
    assert_eq!(read("--stream a/c --stream d/e"), [1, 2, 4, 5, 7, 8]);
    assert_eq!(read("--category a"), [0, 1, 3, 4, 6, 7]);
    assert_eq!(read("--category d --limit 2"), [2, 5]);
    assert_eq!(read("--category none"), [0u64; 0]);
    assert_eq!(read("--type Counted --stream a/b"), [0, 3, 6]);
    assert_eq!(read("--type Other"), [0u64; 0]);
}

#[test]
fn a_read_begins_anywhere_and_goes_either_way() {
    let scratch = filled("read-ways");
    let read = |arguments: &str| numbers(&scratch.events(arguments));
    assert_eq!(read("--from 0:7"), [7, 8]);
    assert_eq!(read("--from 7"), [7, 8]);
    assert_eq!(read("--from 9"), [0u64; 0]);
    assert_eq!(read("--from 4 --stream a/c"), [4, 7]);
    assert_eq!(read("--reverse --limit 2"), [8, 7]);
    assert_eq!(read("--reverse --from 4 --limit 3"), [4, 3, 2]);
    assert_eq!(read("--reverse --from 999 --limit 1"), [8]);
    assert_eq!(read("--reverse --stream a/b"), [6, 3, 0]);
    assert_eq!(read("--reverse --category a --limit 2"), [7, 6]);
}

#[test]
fn a_position_beyond_the_head_is_not_found() {
    let scratch = filled("read-beyond");
    let stderr = scratch.run("read --from 10").fails(3);
    assert!(stderr.contains("0:9"), "{stderr}");
}

#[test]
fn what_does_not_exist_is_not_found() {
    let scratch = filled("read-not-found");
    let stderr = scratch.run("read --stream a/none").fails(3);
    assert!(stderr.contains("a/none"), "{stderr}");
    scratch.run("read --stream a/b --type Other").ok();
    let stderr = scratch.run("read --log ./none").fails(3);
    assert!(stderr.contains("none"), "{stderr}");
    assert!(!scratch.path("none").exists());
}

#[test]
fn json_is_one_array() {
    let scratch = filled("read-json");
    let all: Vec<Value> = serde_json::from_str(&scratch.run("read --output json").ok()).unwrap();
    assert_eq!(numbers(&all), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(scratch.run("read --output json --type Other").ok(), "[]\n");
}

#[test]
fn numbers_of_64_bits_are_texts_in_json() {
    let scratch = filled("read-numbers");
    let event = &scratch.events("--from 3 --limit 1")[0];
    assert_eq!(event["position"], "0:3");
    assert_eq!(event["sequence"], "1");
}

#[test]
fn wrong_words_are_usage_errors() {
    let scratch = filled("read-usage");
    for arguments in [
        "read --stream a",
        "read --stream a/b --category a",
        "read --reverse --follow",
        "read --follow --output json",
        "tail --output json",
        "read --from x",
        "read --limit -1",
        "read --type",
        "read --output xml",
        "raed",
        "",
    ] {
        scratch.run(arguments).fails(2);
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_read_quietly() {
    let scratch = Scratch::new("read-pipe");
    scratch.file("f.jsonl", lines("a/b", 0..50_000));
    scratch.run("import f.jsonl").ok();
    let mut child = scratch
        .command("read")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn reading_works_beside_a_writer() {
    let scratch = filled("read-beside");
    let mut writer = scratch.start("import - --acks");
    writer.send(lines("a/b", 9..10).trim_end());
    writer.line();
    // A reader sees what another process has written a moment after it was acknowledged.
    let seen = scratch.events("--follow --limit 10");
    assert_eq!(numbers(&seen), (0..10).collect::<Vec<_>>());
    let stderr = scratch.run("append a/b --type T").fails(5);
    let pid = writer.child.id().to_string();
    assert!(stderr.starts_with("error[locked]"), "{stderr}");
    assert!(stderr.contains(&pid), "{stderr}");
    writer.finish().ok();
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let scratch = filled("read-full");
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = scratch.command("read").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot write to standard output"),
        "{stderr}"
    );
}

#[test]
fn a_position_in_a_partition_that_is_not_there_is_refused() {
    let scratch = filled("read-partition");
    for way in ["", "--reverse", "--follow", "--stream a/b"] {
        for position in ["7:0", "7:2", "1:0"] {
            let stderr = scratch
                .run(&format!("read --from {position} {way}"))
                .fails(2);
            assert!(stderr.contains("the log has no partition"), "{stderr}");
        }
    }
}

#[test]
fn only_the_events_of_the_story_that_is_asked_for_are_printed() {
    let scratch = Scratch::new("read-story");
    let line = |n: u64, story: &str| {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"01939c5e-6f1a-7c3e-9f54-00000000000{n}\",\
             \"source\":\"/x\",\"subject\":\"a/{n}\",\"type\":\"Counted\",{story}\"data\":{{\"n\":{n}}}}}\n"
        )
    };
    let stories = [
        "\"correlationid\":\"one\",",
        "\"correlationid\":\"other\",",
        "",
    ];
    let file: String = (0..6).map(|n| line(n, stories[n as usize % 3])).collect();
    scratch.file("f.jsonl", file);
    scratch.run("import f.jsonl").ok();
    let read = |arguments: &str| numbers(&scratch.events(arguments));
    assert_eq!(read("--correlation one"), [0, 3]);
    assert_eq!(read("--correlation one --stream a/3"), [3]);
    assert_eq!(read("--correlation none"), [0u64; 0]);
}
