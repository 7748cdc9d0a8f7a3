//! Names are names: kept byte for byte, compared byte for byte, never a path.

use anabranch_model::{EventType, StreamId};

use crate::conformance::check::just_these;
use crate::conformance::make::{Written, kind, stream};
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, Order, Rejection, VersionRange};

/// Writes to each of these streams in turn, and reads each alone.
fn separate(stage: &Stage<'_>, names: &[&str]) {
    let mut written: Vec<Vec<Written>> = vec![Vec::new(); names.len()];
    for round in 0..3 {
        for (name, written) in names.iter().zip(&mut written) {
            written.push(stage.put(stage.event(name)));
            assert_eq!(written[round].placed.version, round as u64, "{name:?}");
        }
    }
    for (name, written) in names.iter().zip(&written) {
        let read = stage.read_stream(name, VersionRange::ALL, Order::Forward);
        just_these(&read, written);
    }
}

pub fn unicode_names_are_kept(stage: &mut Stage<'_>) {
    separate(
        stage,
        &["größe/ä", "注文/536365", "🛒/🧾", "order/ \u{200d}x"],
    );
}

pub fn names_are_not_normalised(stage: &mut Stage<'_>) {
    // The letter é in one code point and in two; upper and lower case; full width.
    separate(
        stage,
        &[
            "caf\u{e9}/1",
            "cafe\u{301}/1",
            "Caf\u{e9}/1",
            "ｃaf\u{e9}/1",
        ],
    );
}

pub fn names_that_look_like_paths_are_names(stage: &mut Stage<'_>) {
    separate(
        stage,
        &[
            "../..",
            "../../etc/passwd",
            "./.",
            "a/..",
            "a/../b",
            "a//b",
            "a/b",
            "a/b/",
            "a/b/c",
            "~/x",
            "C:\\/x",
            "con/nul",
        ],
    );
}

pub fn names_with_punctuation_are_kept(stage: &mut Stage<'_>) {
    separate(
        stage,
        &[
            "a/b ", "a/ b", " a/b", "a/*", "a/?", "a/%", "a/_", "a/%2F", "a/'", "a/\"", "a/\\",
            "a/;--", "a/:", "a/,", "a/#", "a/>", "a/.", "a/{}", "a/$1",
        ],
    );
}

pub fn a_stream_id_of_512_bytes_is_kept(stage: &mut Stage<'_>) {
    let long = |last: char| format!("c/{}{last}", "x".repeat(509));
    let category = format!("{}/k", "y".repeat(510));
    separate(stage, &[&long('a'), &long('b'), &category]);
}

pub fn an_event_type_of_255_bytes_is_kept(stage: &mut Stage<'_>) {
    let name = "T".repeat(255);
    let written = stage.put(stage.typed("order/1", &name));
    just_these(&stage.read_all(), [&written]);
}

pub fn any_event_type_is_kept(stage: &mut Stage<'_>) {
    let names = ["t", "Ärger", "a/b", "a.b.v1", "🧾", " ", "$x", "'", "%"];
    let written = names.map(|name| stage.put(stage.typed("order/1", name)));
    just_these(&stage.read_all(), &written);
}

pub fn a_stream_of_the_platform_is_a_stream(stage: &mut Stage<'_>) {
    separate(stage, &["$timers/1", "$/x", "timers/1"]);
}

pub fn streams_of_equal_keys_in_different_categories_are_separate(stage: &mut Stage<'_>) {
    separate(stage, &["order/1", "payment/1", "order/1/payment/1"]);
}

pub fn names_that_share_a_prefix_are_separate(stage: &mut Stage<'_>) {
    separate(stage, &["o/1", "o/10", "o/100", "or/1", "or/10"]);
}

pub fn ten_thousand_streams_are_separate(stage: &mut Stage<'_>) {
    for round in 0..2 {
        for hundred in 0..100 {
            let event = |n| stage.event(&format!("order/{}", hundred * 100 + n));
            for written in stage.put_all((0..100).map(event).collect()) {
                assert_eq!(written.placed.version, round);
            }
        }
    }
}

pub fn a_conflict_names_its_stream_exactly(stage: &mut Stage<'_>) {
    for name in ["größe/ä", "../..", "a/%2F"] {
        let append = Append::event(stage.event(name)).expect(stream(name), Expect::Exists);
        match stage.refuse(append) {
            AppendError::Conflict { stream: found, .. } => assert_eq!(found.as_str(), name),
            other => panic!("a conflict was due; it is: {other}"),
        }
    }
}

pub fn an_id_is_taken_only_by_just_the_same_names(stage: &mut Stage<'_>) {
    let written = stage.put(stage.typed("caf\u{e9}/1", "Caf\u{e9}"));
    let refused = |stream: StreamId, event_type: EventType| {
        let mut other = written.new.clone();
        other.stream = stream;
        other.event_type = event_type;
        match stage.refuse(Append::event(other)) {
            AppendError::Rejected(Rejection::IdTaken { .. }) => {}
            other => panic!("the id must be taken; it is: {other}"),
        }
    };
    refused(stream("cafe\u{301}/1"), kind("Caf\u{e9}"));
    refused(stream("caf\u{e9}/1"), kind("Cafe\u{301}"));
}
