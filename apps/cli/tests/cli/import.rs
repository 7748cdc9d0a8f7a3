use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::support::{Scratch, lines, numbers};

fn acks(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_import_keeps_order_and_bytes() {
    let scratch = Scratch::new("import-bytes");
    let data = [
        r#"{"b" : 1.50,"a":"\u00e9 é", "b":[ ]}"#,
        "\"\\ud800\"",
        "1e999",
        "null",
        "\"line\\nbreak\"",
    ];
    let file: String = data
        .iter()
        .map(|data| format!("{{\"type\":\"T\", \"data\": {data} ,\"stream\":\"a/b\"}}\n"))
        .collect();
    scratch.file("f.jsonl", file);
    let text = scratch.run("import f.jsonl").ok();
    assert!(
        text.starts_with("5 events: 5 new, 0 in the log before"),
        "{text}"
    );
    let read = scratch.run("read --output jsonl").ok();
    let found: Vec<&str> = read
        .lines()
        .map(|line| {
            line.split_once(",\"data\":")
                .unwrap()
                .1
                .strip_suffix('}')
                .unwrap()
        })
        .collect();
    assert_eq!(found, data);
}

#[test]
fn an_import_takes_all_that_a_line_may_hold() {
    let scratch = Scratch::new("import-fields");
    scratch.file(
        "f.jsonl",
        r#"{"stream":"a/b","type":"T","data":{},"id":"018f0000-0000-7000-8000-000000000001","headers":{"h":"v"},"tags":["k:v","w"],"expect":"empty"}"#,
    );
    scratch.run("import f.jsonl").ok();
    let event = &scratch.events("")[0];
    assert_eq!(event["id"], "018f0000-0000-7000-8000-000000000001");
    assert_eq!(event["h"], "v");
    assert_eq!(event["tags"], "k:v,w");
}

#[test]
fn files_may_be_compressed_and_come_from_stdin() {
    let scratch = Scratch::new("import-gzip");
    let both = [gzip(&lines("a/b", 0..10)), gzip(&lines("a/b", 10..20))].concat();
    scratch.file("f", &both);
    scratch.run("import f").ok();
    assert_eq!(numbers(&scratch.events("")), (0..20).collect::<Vec<_>>());
    let text = scratch.run_with("import -", both).ok();
    assert!(
        text.starts_with("20 events: 0 new, 20 in the log before"),
        "{text}"
    );
}

#[test]
fn line_ends_byte_order_marks_and_blank_lines_do_not_matter() {
    let scratch = Scratch::new("import-line-ends");
    let plain = lines("a/b", 0..3);
    let odd = format!("\u{feff}{}", plain.replace('\n', "\r\n\r\n  \n"));
    scratch.file("odd.jsonl", odd.trim_end());
    scratch.run("import odd.jsonl").ok();
    assert_eq!(numbers(&scratch.events("")), [0, 1, 2]);
    scratch.file("plain.jsonl", plain);
    let text = scratch.run("import plain.jsonl").ok();
    assert!(text.starts_with("3 events: 0 new"), "{text}");
}

#[test]
fn an_empty_file_is_no_events() {
    let scratch = Scratch::new("import-empty");
    scratch.file("f.jsonl", "");
    let text = scratch.run("import f.jsonl --output json").ok();
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["events"], 0);
}

#[test]
fn importing_again_writes_nothing_twice() {
    let scratch = Scratch::new("import-again");
    scratch.file("f.jsonl", lines("a/b", 0..2_500));
    let first = scratch.run("import f.jsonl --acks").ok();
    let again = scratch.run("import f.jsonl --acks").ok();
    assert_eq!(first, again);
    assert_eq!(acks(&first).len(), 2_500);
    assert_eq!(scratch.events("").len(), 2_500);
}

#[test]
fn equal_lines_of_one_file_are_different_events() {
    let scratch = Scratch::new("import-equal");
    scratch.file("f.jsonl", lines("a/b", 7..8).repeat(3));
    scratch.run("import f.jsonl").ok();
    scratch.run("import f.jsonl").ok();
    assert_eq!(numbers(&scratch.events("")), [7, 7, 7]);
}

#[test]
fn a_file_that_has_grown_goes_on_where_it_ended() {
    let scratch = Scratch::new("import-grown");
    scratch.file("f.jsonl", lines("a/b", 0..300));
    scratch.run("import f.jsonl").ok();
    scratch.file("f.jsonl", lines("a/b", 0..5_000));
    let text = scratch.run("import f.jsonl").ok();
    assert!(
        text.starts_with("5000 events: 4700 new, 300 in the log before"),
        "{text}"
    );
    assert_eq!(numbers(&scratch.events("")), (0..5_000).collect::<Vec<_>>());
}

#[test]
fn files_that_begin_alike_are_told_apart_by_a_source() {
    let scratch = Scratch::new("import-source");
    scratch.file("f.jsonl", lines("a/b", 0..2));
    scratch.run("import f.jsonl --source monday").ok();
    scratch.run("import f.jsonl --source tuesday").ok();
    scratch.run("import f.jsonl --source monday").ok();
    assert_eq!(numbers(&scratch.events("")), [0, 1, 0, 1]);
}

#[test]
fn acknowledgements_say_where_each_event_stands() {
    let scratch = Scratch::new("import-acks");
    scratch.file("f.jsonl", lines("a/b", 0..2) + &lines("a/c", 2..3));
    let done = scratch.run("import f.jsonl --acks");
    assert!(
        done.stderr.starts_with("3 events: 3 new"),
        "{}",
        done.stderr
    );
    let acks = acks(&done.ok());
    let places: Vec<_> = acks
        .iter()
        .map(|ack| format!("{} {} {}", ack["position"], ack["stream"], ack["version"]))
        .collect();
    assert_eq!(
        places,
        [
            "\"0:0\" \"a/b\" 0",
            "\"0:1\" \"a/b\" 1",
            "\"0:2\" \"a/c\" 0"
        ]
    );
    let ids: Vec<_> = scratch
        .events("")
        .iter()
        .map(|event| event["id"].clone())
        .collect();
    assert_eq!(
        ids,
        acks.iter().map(|ack| ack["id"].clone()).collect::<Vec<_>>()
    );
}

#[test]
fn a_writer_may_wait_for_the_acknowledgement_of_each_line() {
    let scratch = Scratch::new("import-live");
    let mut import = scratch.start("import - --acks");
    for n in 0..5 {
        import.send(lines("a/b", n..n + 1).trim_end());
        let ack: Value = serde_json::from_str(&import.line()).unwrap();
        assert_eq!(ack["version"], n);
    }
    import.finish().ok();
    assert_eq!(numbers(&scratch.events("")), [0, 1, 2, 3, 4]);
}

#[test]
fn what_was_cut_otherwise_before_is_not_written_twice() {
    let scratch = Scratch::new("import-recut");
    let mut import = scratch.start("import - --acks");
    for n in 0..7 {
        import.send(lines("a/b", n..n + 1).trim_end());
        import.line();
    }
    import.finish().ok();
    scratch.file("f.jsonl", lines("a/b", 0..10));
    let text = scratch.run("import f.jsonl").ok();
    assert!(
        text.starts_with("10 events: 3 new, 7 in the log before"),
        "{text}"
    );
    assert_eq!(numbers(&scratch.events("")), (0..10).collect::<Vec<_>>());
}

#[test]
fn an_export_imports_back() {
    let scratch = Scratch::new("import-export");
    scratch
        .run("append order/1 --type Placed --tag a,b --tag c --header h=v")
        .ok();
    scratch
        .run_with("append order/1 --type Placed --data -", "{\n \"a\": 1 }")
        .ok();
    scratch
        .run_with(
            "append report/1 --type Made --content-type text/plain --data -",
            "one\ntwo",
        )
        .ok();
    scratch
        .run_with(
            "append report/1 --type Made --content-type image/x --data -",
            &b"\xff\x00"[..],
        )
        .ok();
    scratch.run("log export out.jsonl").ok();
    let comparable = |mut events: Vec<Value>| {
        for event in &mut events {
            let event = event.as_object_mut().unwrap();
            event.remove("time");
            event.remove("originaltime");
        }
        events
    };
    let before = scratch.events("");
    scratch.run("import out.jsonl --log ./copy").ok();
    let after = scratch.events("--log ./copy");
    assert_eq!(after[0]["originaltime"], before[0]["time"]);
    assert_eq!(comparable(after), comparable(before));
    let text = scratch.run("import out.jsonl").ok();
    assert!(
        text.starts_with("4 events: 0 new, 4 in the log before"),
        "{text}"
    );
}

#[test]
fn cloud_events_of_other_systems_are_taken() {
    let scratch = Scratch::new("import-cloudevents");
    scratch.file(
        "f.jsonl",
        r#"{"specversion":"1.0","id":"A234","source":"/erp","type":"com.example.made","subject":"thing/1","time":"2018-04-05T17:31:00Z","datacontenttype":"text/xml","comexampleext":5,"data":"<much wow=\"xml\"/>"}
{"specversion":"1.0","id":"A235","source":"/erp","type":"com.example.made","subject":"thing/1","data_base64":"/wA="}"#,
    );
    scratch.run("import f.jsonl").ok();
    let again = scratch.run("import f.jsonl").ok();
    assert!(again.starts_with("2 events: 0 new"), "{again}");
    let events = scratch.events("--stream thing/1");
    assert_eq!(events[0]["data"], "<much wow=\"xml\"/>");
    assert_eq!(events[0]["source"], "/erp");
    assert_eq!(events[0]["originalid"], "A234");
    assert_eq!(events[0]["originaltime"], "2018-04-05T17:31:00Z");
    assert_eq!(events[0]["comexampleext"], "5");
    assert_eq!(events[1]["data_base64"], "/wA=");
}

#[test]
fn expectations_hold_line_by_line() {
    let scratch = Scratch::new("import-expect");
    let line = |stream: &str, expect: &str| {
        format!(r#"{{"stream":"{stream}","type":"T","data":1,"expect":{expect}}}"#) + "\n"
    };
    scratch.file(
        "f.jsonl",
        line("a/b", "\"empty\"")
            + &line("a/b", "0")
            + &line("a/c", "\"any\"")
            + &line("a/b", "1")
            + &line("a/c", "\"exists\""),
    );
    scratch.run("import f.jsonl").ok();
    assert_eq!(scratch.events("").len(), 5);
}

#[test]
fn an_import_can_be_tried_in_memory() {
    let scratch = Scratch::new("import-memory");
    scratch.file("f.jsonl", lines("a/b", 0..10));
    let text = scratch.run("import f.jsonl --log memory:").ok();
    assert!(text.starts_with("10 events: 10 new"), "{text}");
    assert!(!scratch.path(".anabranch").exists());
}

#[test]
fn events_of_the_platform_are_left_out() {
    let scratch = Scratch::new("import-platform");
    let line = r#"{"specversion":"1.0","type":"T","subject":"$sys/x","position":"0:7","data":1}"#;
    scratch.file("f.jsonl", format!("{}{line}\n", lines("a/b", 0..1)));
    let text = scratch.run("import f.jsonl").ok();
    assert!(text.contains("; 1 of the platform left out"), "{text}");
    assert_eq!(scratch.events("").len(), 1);
}
