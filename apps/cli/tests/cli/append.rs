use serde_json::{Value, json};

use crate::support::{Scratch, done};

const ID: &str = "018f0000-0000-7000-8000-000000000001";

#[test]
fn append_prints_the_place_of_the_event() {
    let scratch = Scratch::new("append-place");
    let text = scratch
        .run(&format!("append order/1 --type Placed --id {ID}"))
        .ok();
    assert_eq!(text, format!("position 0:0, order/1 version 0, id {ID}\n"));
    let text = scratch.run("append order/1 --type Paid --output json").ok();
    let ack: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ack["position"], "0:1");
    assert_eq!(ack["stream"], "order/1");
    assert_eq!(ack["version"], 1);
    assert!(ack["id"].is_string());
}

#[test]
fn append_keeps_the_data_byte_for_byte() {
    let scratch = Scratch::new("append-bytes");
    let data = r#"{"b" : 1.50,"a":"\u00e9 é", "b":[ ]}"#;
    let mut command = scratch.command("append order/1 --type Placed --data");
    command.arg(data);
    done(command).ok();
    scratch
        .run_with("append order/1 --type Placed --data -", format!("{data}\n"))
        .ok();
    let text = scratch.run("read --output jsonl").ok();
    let ends_with_data = |line: &str| line.ends_with(&format!(",\"data\":{data}}}"));
    assert_eq!(text.lines().filter(|line| ends_with_data(line)).count(), 2);
}

#[test]
fn append_without_data_stores_an_empty_object() {
    let scratch = Scratch::new("append-empty");
    scratch.run("append order/1 --type Placed").ok();
    assert_eq!(scratch.events("")[0]["data"], json!({}));
}

#[test]
fn append_keeps_what_is_not_json_as_it_is() {
    let scratch = Scratch::new("append-binary");
    let append = "append report/1 --type Made --data - --content-type";
    let text = "one\n\ttwo\n";
    scratch.run_with(&format!("{append} text/plain"), text).ok();
    scratch
        .run_with(&format!("{append} image/x"), &b"\xff\x00\n"[..])
        .ok();
    let events = scratch.events("");
    assert_eq!(events[0]["data"], text);
    assert_eq!(events[1]["data_base64"], "/wAK");
}

#[test]
fn append_gives_tags_and_headers() {
    let scratch = Scratch::new("append-meta");
    scratch
        .run("append order/1 --type Placed --tag sku:1 --tag day:2 --header shop=x=y")
        .ok();
    scratch.run("append order/1 --type Placed").ok();
    let events = scratch.events("--tag day:2 --header shop=x=y");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["tags"], "sku:1,day:2");
    assert_eq!(events[0]["shop"], "x=y");
}

#[test]
fn an_append_that_is_repeated_with_its_id_answers_the_first_place() {
    let scratch = Scratch::new("append-again");
    let append = format!("append order/1 --type Placed --id {ID} --expect empty");
    scratch.run(&append).ok();
    scratch.run("append order/1 --type Paid").ok();
    let text = scratch.run(&append).ok();
    assert!(
        text.starts_with("position 0:0, order/1 version 0"),
        "{text}"
    );
    assert!(text.ends_with("(it was there before)\n"), "{text}");
    assert_eq!(scratch.events("").len(), 2);
}

#[test]
fn an_id_that_names_another_event_is_a_conflict() {
    let scratch = Scratch::new("append-id-taken");
    scratch
        .run(&format!("append order/1 --type Placed --id {ID}"))
        .ok();
    let stderr = scratch
        .run(&format!("append order/1 --type Paid --id {ID}"))
        .fails(4);
    assert!(stderr.contains(ID), "{stderr}");
    assert_eq!(scratch.events("").len(), 1);
}

#[test]
fn an_expectation_that_does_not_hold_is_a_conflict() {
    let scratch = Scratch::new("append-conflict");
    for refused in ["exists", "0"] {
        scratch
            .run(&format!("append order/1 --type Placed --expect {refused}"))
            .fails(4);
    }
    for taken in ["empty", "0", "exists", "2", "any"] {
        scratch
            .run(&format!("append order/1 --type Placed --expect {taken}"))
            .ok();
    }
    let stderr = scratch
        .run("append order/1 --type Placed --expect empty")
        .fails(4);
    assert!(stderr.starts_with("error[conflict]: "), "{stderr}");
    assert!(stderr.contains("it is at version 4"), "{stderr}");
    assert!(stderr.contains("safe: nothing was written"), "{stderr}");
    assert_eq!(scratch.events("").len(), 5);
}

#[test]
fn errors_are_json_when_the_output_is() {
    let scratch = Scratch::new("append-json-error");
    let stderr = scratch
        .run("append order/1 --type Placed --expect 7 --output json")
        .fails(4);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "conflict");
    assert_eq!(error["error"]["exit"], 4);
    assert_eq!(error["error"]["safe"], "nothing was written");
    let stderr = scratch
        .run("append order --type Placed --output=json")
        .fails(2);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "usage");
}

#[test]
fn what_is_no_event_is_refused_before_a_log_is_made() {
    let scratch = Scratch::new("append-refused");
    for (arguments, code, says) in [
        ("append order --type T", 2, "category/key"),
        ("append $sys/x --type T", 2, "reserved"),
        ("append order/1", 2, "--type"),
        ("append order/1 --type T --expect -1", 2, "expect"),
        ("append order/1 --type T --id 7", 2, "--id"),
        ("append order/1 --type T --header x", 2, "name=value"),
        ("append order/1 --type T --data {", 1, "column 2"),
        ("append order/1 --type T --data {}{}", 1, "column 3"),
    ] {
        let stderr = scratch.run(arguments).fails(code);
        assert!(stderr.contains(says), "{arguments}: {stderr}");
    }
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let stderr = scratch
        .run_with("append order/1 --type T --data -", deep)
        .fails(1);
    assert!(stderr.contains("deeper"), "{stderr}");
    assert!(!scratch.path(".anabranch").exists());
}

#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let scratch = Scratch::new("append-limits");
    let data = format!("\"{}\"", "x".repeat(1 << 20));
    let stderr = scratch
        .run_with("append order/1 --type T --data -", data)
        .fails(1);
    assert!(stderr.contains("1048576 bytes"), "{stderr}");
    for (arguments, says) in [
        (
            format!("--header h={}", "x".repeat(17_000)),
            "headers and tags",
        ),
        ("--header type=x".to_owned(), "attribute"),
        ("--tag t ".repeat(65), "65 tags"),
    ] {
        let stderr = scratch
            .run(&format!("append order/1 --type T {arguments}"))
            .fails(1);
        assert!(stderr.contains(says), "{stderr}");
        assert!(stderr.contains("safe: nothing was written"), "{stderr}");
    }
}

#[test]
fn an_append_beyond_the_largest_file_that_may_be_says_what_is_the_matter() {
    let scratch = Scratch::new("append-file-size");
    let mut shell = scratch.command("append order/1 --type Placed");
    let program = shell.get_program().to_owned();
    shell = {
        let mut limited = std::process::Command::new("sh");
        limited
            .arg("-c")
            .arg("ulimit -c 0; ulimit -f 2000; exec \"$0\" \"$@\"")
            .arg(program)
            .args(shell.get_args())
            .current_dir(scratch.path(""))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        limited
    };
    let done = done(shell);
    // A segment may be begun smaller where the disk allows no more.
    if done.code != Some(0) {
        assert!(done.code.is_some(), "a signal ended it: {done:?}");
        assert!(done.stderr.contains("ulimit -f"), "{}", done.stderr);
    }
}
