use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::support::{Scratch, lines, numbers};

#[test]
fn a_bad_line_names_file_line_column_and_reason() {
    let scratch = Scratch::new("import-bad-line");
    let good = lines("a/b", 0..2);
    for (bad, place, reason) in [
        (&b"{\"stream\":\"a/b\","[..], "line 3, column 16", "EOF"),
        (
            b"{\"stream\":\"a\",\"type\":\"T\",\"data\":1}",
            "line 3, column 11",
            "category/key",
        ),
        (
            b"{\"stream\":\"a/b\",\"type\":\"T\"}",
            "line 3, column 1",
            "`data` is missing",
        ),
        (b"{\"stream\":\"a/\xff\"}", "line 3, column 14", "not UTF-8"),
        (b"[]", "line 3, column 1", "array"),
        (b"\x00", "line 3, column 1", "not JSON"),
        (
            b"{\"stream\":\"a/b\",\"type\":\"T\",\"data\":1,\"data\":2}",
            "line 3, column 44",
            "twice",
        ),
    ] {
        scratch.file(
            "f.jsonl",
            [good.as_bytes(), bad, b"\n", good.as_bytes()].concat(),
        );
        let stderr = scratch.run("import f.jsonl").fails(1);
        let start = format!("error[bad-line]: f.jsonl: {place}: ");
        assert!(stderr.starts_with(&start), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
    assert_eq!(scratch.events("").len(), 0);
}

#[test]
fn a_bad_line_is_one_json_object_when_the_output_is_json() {
    let scratch = Scratch::new("import-bad-json");
    scratch.file("f.jsonl", lines("a/b", 0..2) + "{]");
    let stderr = scratch.run("import f.jsonl --output json").fails(1);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "bad-line");
    assert_eq!(error["error"]["file"], "f.jsonl");
    assert_eq!(error["error"]["line"], 3);
    assert_eq!(error["error"]["column"], 2);
    assert_eq!(error["error"]["exit"], 1);
}

#[test]
fn batches_before_a_bad_line_are_written_and_its_own_is_not() {
    let scratch = Scratch::new("import-bad-batch");
    scratch.file(
        "f.jsonl",
        lines("a/b", 0..2_345) + "bad\n" + &lines("a/b", 2_345..3_000),
    );
    let done = scratch.run("import f.jsonl --acks");
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout.iter().filter(|&&b| b == b'\n').count(), 2_000);
    assert!(
        done.stderr.contains("line 2346, column 1"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("lines 1 to 2000 are in the log; nothing was written of the line and of its batch, which begins at line 2001"),
        "{}",
        done.stderr
    );
    assert_eq!(numbers(&scratch.events("")), (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_corrected_file_goes_on_where_the_bad_one_stopped() {
    let scratch = Scratch::new("import-corrected");
    scratch.file(
        "f.jsonl",
        lines("a/b", 0..2_345) + "bad\n" + &lines("a/b", 2_346..3_000),
    );
    scratch.run("import f.jsonl").fails(1);
    scratch.file("f.jsonl", lines("a/b", 0..3_000));
    let text = scratch.run("import f.jsonl").ok();
    assert!(
        text.starts_with("3000 events: 1000 new, 2000 in the log before"),
        "{text}"
    );
    assert_eq!(numbers(&scratch.events("")), (0..3_000).collect::<Vec<_>>());
}

#[test]
fn what_is_too_large_is_refused_with_its_line() {
    let scratch = Scratch::new("import-large");
    let line = |data: usize, tags: usize, header: usize| {
        format!(
            r#"{{"stream":"a/b","type":"T","data":"{}","tags":[{}],"headers":{{"h":"{}"}}}}"#,
            "x".repeat(data),
            vec!["\"t\""; tags].join(","),
            "x".repeat(header)
        ) + "\n"
    };
    for (line, reason) in [
        (line(1 << 20, 0, 0), "the data has 1048578 bytes"),
        (line(1, 65, 0), "65 tags"),
        (line(1, 0, 17_000), "headers and tags have 17001 bytes"),
        (line(8 << 20, 0, 0), "longer than"),
    ] {
        scratch.file("f.jsonl", lines("a/b", 0..1) + &line);
        let stderr = scratch.run("import f.jsonl").fails(1);
        assert!(stderr.contains("f.jsonl: line 2"), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}

#[test]
fn names_of_headers_that_every_event_has_are_refused() {
    let scratch = Scratch::new("import-attribute");
    scratch.file(
        "f.jsonl",
        r#"{"stream":"a/b","type":"T","data":1,"headers":{"type":"x"}}"#,
    );
    let stderr = scratch.run("import f.jsonl").fails(1);
    assert!(stderr.contains("attribute"), "{stderr}");
}

#[test]
fn an_expectation_that_does_not_hold_names_its_line() {
    let scratch = Scratch::new("import-conflict");
    let first = lines("a/b", 0..3) + &lines("a/c", 0..2);
    let conflict = r#"{"stream":"a/b","type":"T","data":1,"expect":7}"#;
    scratch.file("f.jsonl", format!("{first}{conflict}\n"));
    let stderr = scratch.run("import f.jsonl").fails(4);
    assert!(
        stderr.starts_with(
            "error[conflict]: f.jsonl: line 6: the line expects stream a/b to be at version 7, but it is at version 2\n"
        ),
        "{stderr}"
    );
    assert!(
        stderr.contains("nothing of lines 1 to 6 was written"),
        "{stderr}"
    );
    assert_eq!(scratch.events("").len(), 0);
}

#[test]
fn an_id_that_names_another_event_names_its_line() {
    let scratch = Scratch::new("import-id-taken");
    let id = "018f0000-0000-7000-8000-000000000001";
    scratch.run(&format!("append a/b --type T --id {id}")).ok();
    let line = format!(r#"{{"stream":"a/b","type":"U","data":1,"id":"{id}"}}"#);
    scratch.file("f.jsonl", lines("a/b", 0..2) + &line);
    for _ in 0..2 {
        let stderr = scratch.run("import f.jsonl").fails(4);
        let start = "error[id-taken]: f.jsonl: line 3: ";
        assert!(stderr.starts_with(start), "{stderr}");
        assert!(stderr.contains(id), "{stderr}");
    }
    let events = scratch.events("");
    assert_eq!(events.iter().filter(|event| event["id"] == id).count(), 1);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let scratch = Scratch::new("import-no-file");
    let stderr = scratch.run("import none.jsonl").fails(3);
    assert!(stderr.contains("none.jsonl"), "{stderr}");
    let stderr = scratch.run("import .").fails(1);
    assert!(stderr.contains("directory"), "{stderr}");
    assert!(!scratch.path(".anabranch").exists());
}

#[test]
fn a_compressed_file_that_ends_early_is_an_error() {
    let scratch = Scratch::new("import-gzip-cut");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder
        .write_all(lines("a/b", 0..1_500).as_bytes())
        .unwrap();
    let whole = encoder.finish().unwrap();
    scratch.file("f.gz", &whole[..whole.len() - 20]);
    let stderr = scratch.run("import f.gz").fails(1);
    assert!(
        stderr.starts_with("error[file]: f.gz: line 1500: cannot read on: "),
        "{stderr}"
    );
    assert_eq!(scratch.events("").len(), 1_000);
    scratch.file("f.gz", &whole);
    scratch.run("import f.gz").ok();
    assert_eq!(numbers(&scratch.events("")), (0..1_500).collect::<Vec<_>>());
}

#[test]
fn a_bomb_of_one_endless_line_stops_at_the_longest_line() {
    let scratch = Scratch::new("import-bomb");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let megabyte = vec![b'['; 1 << 20];
    for _ in 0..256 {
        encoder.write_all(&megabyte).unwrap();
    }
    scratch.file("f.gz", encoder.finish().unwrap());
    let stderr = scratch.run("import f.gz").fails(1);
    assert!(stderr.contains("longer than"), "{stderr}");
}

#[test]
fn an_import_that_is_asked_to_stop_says_where_it_stands() {
    let scratch = Scratch::new("import-stop");
    let mut import = scratch.start("import - --acks");
    import.send(lines("a/b", 0..1).trim_end());
    import.line();
    import.terminate();
    // The input stays open: it is the signal that ends the import.
    assert_eq!(import.line(), "");
    let done = import.finish();
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.starts_with("error[interrupted]"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("line 1 is in the log"),
        "{}",
        done.stderr
    );
    assert_eq!(numbers(&scratch.events("")), [0]);
}

#[test]
fn an_import_whose_acknowledgements_nobody_reads_is_not_a_success() {
    let scratch = Scratch::new("import-no-reader");
    let import = scratch.start("import - --acks");
    let (child, stdin) = import.stop_reading();
    let mut stdin = stdin.unwrap();
    stdin.write_all(lines("a/b", 0..1).as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error[acks-not-read]"), "{stderr}");
}

#[test]
fn nothing_is_acknowledged_once_the_log_was_deleted() {
    let scratch = Scratch::new("import-deleted");
    let mut import = scratch.start("import - --acks --log ./log");
    import.send(lines("a/b", 0..1).trim_end());
    assert_ne!(import.line(), "");
    std::fs::remove_dir_all(scratch.path("log")).unwrap();
    import.send(lines("a/b", 1..2).trim_end());
    assert_eq!(import.line(), "");
    let done = import.finish();
    assert_ne!(done.code, Some(0));
    assert!(
        done.stderr.contains("removed, moved or replaced"),
        "{}",
        done.stderr
    );
}
