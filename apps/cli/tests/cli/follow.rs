use crate::support::{Scratch, lines};

#[test]
fn follow_prints_what_is_there_and_what_comes() {
    let scratch = Scratch::new("follow-read");
    scratch.run("append a/b --type T").ok();
    let mut reader = scratch.start("read --follow");
    assert_eq!(reader.line(), "0:0\ta/b\t0\tT\t{}\n");
    for n in 1..4 {
        scratch.run("append a/b --type T").ok();
        assert_eq!(reader.line(), format!("0:{n}\ta/b\t{n}\tT\t{{}}\n"));
    }
    reader.terminate();
    reader.finish().ok();
}

#[test]
fn follow_filters_and_counts() {
    let scratch = Scratch::new("follow-filter");
    scratch.run("append a/b --type T").ok();
    let mut reader = scratch.start("read --follow --category c --limit 2");
    for stream in ["c/d", "a/b", "c/d", "c/d"] {
        scratch.run(&format!("append {stream} --type T")).ok();
    }
    assert_eq!(reader.line(), "0:1\tc/d\t0\tT\t{}\n");
    assert_eq!(reader.line(), "0:3\tc/d\t1\tT\t{}\n");
    assert_eq!(reader.finish().ok(), "");
}

#[test]
fn follow_ends_cleanly_when_it_is_asked_to() {
    let scratch = Scratch::new("follow-stop");
    scratch.run("append a/b --type T").ok();
    let mut reader = scratch.start("read --follow");
    reader.line();
    reader.terminate();
    let done = reader.finish();
    assert_eq!(done.stderr, "");
    assert_eq!(done.ok(), "");
}

#[test]
fn follow_goes_on_when_another_process_has_written_much() {
    let scratch = Scratch::new("follow-much");
    scratch.run("append a/b --type T").ok();
    let mut reader = scratch.start("read --follow --limit 5001 --output jsonl");
    reader.line();
    scratch.file("f.jsonl", lines("a/b", 0..5_000));
    scratch.run("import f.jsonl").ok();
    let rest = reader.finish().ok();
    let numbers: Vec<u64> = rest
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["data"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..5_000).collect::<Vec<_>>());
}

#[test]
fn tail_prints_only_what_comes() {
    let scratch = Scratch::new("follow-tail");
    scratch.run("append a/b --type Old").ok();
    let mut tail = scratch.start("tail");
    // The tail has begun when it prints the first event that it sees. Until then, events
    // are added; those it has not seen came too early.
    let seen = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let scratch = &scratch;
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                scratch.run("append a/b --type New").ok();
            }
        });
        let seen = tail.line();
        stop.send(()).unwrap();
        seen
    });
    assert!(seen.contains("\tNew\t"), "{seen}");
    tail.terminate();
    tail.finish().ok();
}
