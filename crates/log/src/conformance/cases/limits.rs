//! Each limit is kept to the last unit, before anything is written.

use anabranch_model::{LimitError, Limits, NewEvent, PartitionId};
use bytes::Bytes;

use crate::conformance::check::just_these;
use crate::conformance::make::set_bytes;
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, Rejection};

fn refused(stage: &Stage<'_>, events: Vec<NewEvent>) -> LimitError {
    match stage.refuse(Append::events(events)) {
        AppendError::Rejected(Rejection::Limit(error)) => error,
        other => panic!("a limit must refuse it; it is: {other}"),
    }
}

fn accepted(stage: &Stage<'_>, events: Vec<NewEvent>) {
    let written = stage.put_all(events);
    just_these(&stage.read_all(), &written);
}

/// Three events, the second of which is `event`, so that its index shows.
fn second(stage: &Stage<'_>, event: NewEvent) -> Vec<NewEvent> {
    vec![stage.event("order/1"), event, stage.event("order/1")]
}

pub fn a_batch_without_events_is_refused(stage: &mut Stage<'_>) {
    assert_eq!(refused(stage, Vec::new()), LimitError::EmptyBatch);
}

pub fn data_of_the_largest_size_is_accepted(stage: &mut Stage<'_>) {
    let mut event = stage.event("order/1");
    set_bytes(&mut event, pattern(stage.limits().data_bytes_max));
    accepted(stage, vec![event]);
}

pub fn data_one_byte_too_large_is_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().data_bytes_max;
    let mut event = stage.event("order/1");
    set_bytes(&mut event, pattern(max + 1));
    let wanted = LimitError::DataBytes {
        index: 1,
        bytes: max + 1,
        max,
    };
    assert_eq!(refused(stage, second(stage, event)), wanted);
}

pub fn headers_of_the_largest_size_are_accepted(stage: &mut Stage<'_>) {
    let max = stage.limits().headers_bytes_max;
    let event = stage.event("order/1").with_header("h", "x".repeat(max - 1));
    accepted(stage, vec![event]);
}

pub fn headers_one_byte_too_large_are_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().headers_bytes_max;
    let event = stage.event("order/1").with_header("h", "x".repeat(max));
    let wanted = LimitError::HeadersBytes {
        index: 1,
        bytes: max + 1,
        max,
    };
    assert_eq!(refused(stage, second(stage, event)), wanted);
}

pub fn every_text_of_the_metadata_counts(stage: &mut Stage<'_>) {
    let max = stage.limits().headers_bytes_max;
    let event = |header: usize| {
        let mut event = stage.event("order/1").with_tag("t:1");
        let meta = event.meta_mut();
        meta.content_type = Some("c".to_owned());
        meta.source = Some("s".to_owned());
        meta.causation_id = Some("1".to_owned());
        meta.correlation_id = Some("2".to_owned());
        meta.traceparent = Some("3".to_owned());
        meta.headers.insert("h".to_owned(), "x".repeat(header));
        event
    };
    // Five texts of one byte, a tag of three and a header name of one.
    let rest = max - 9;
    assert!(matches!(
        refused(stage, vec![event(rest + 1)]),
        LimitError::HeadersBytes { .. }
    ));
    accepted(stage, vec![event(rest)]);
}

pub fn every_partition_of_the_causes_counts(stage: &mut Stage<'_>) {
    let max = stage.limits().headers_bytes_max;
    let event = |partitions: usize| {
        let mut event = stage.event("order/1");
        for partition in 0..partitions as u32 {
            event.meta_mut().causes.set(PartitionId(partition), 1);
        }
        event
    };
    assert!(matches!(
        refused(stage, vec![event(max / 16 + 1)]),
        LimitError::HeadersBytes { .. }
    ));
    if stage.capabilities().partitions == 1 {
        accepted(stage, vec![event(max / 16)]);
    }
}

pub fn as_many_tags_as_allowed_are_accepted(stage: &mut Stage<'_>) {
    let max = stage.limits().tags_max;
    accepted(stage, vec![with_tags(stage, max)]);
}

pub fn one_tag_too_many_is_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().tags_max;
    let wanted = LimitError::Tags {
        index: 1,
        count: max + 1,
        max,
    };
    let event = with_tags(stage, max + 1);
    assert_eq!(refused(stage, second(stage, event)), wanted);
}

pub fn one_condition_too_many_is_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().conditions_max;
    let event = stage.event("order/1");
    let stream = event.stream.clone();
    let mut append = Append::event(event);
    for _ in 0..=max {
        append = append.expect(stream.clone(), Expect::Any);
    }
    let wanted = LimitError::Conditions {
        count: max + 1,
        max,
    };
    let answer = stage.refuse(append.clone());
    assert_eq!(answer, AppendError::Rejected(Rejection::Limit(wanted)));
    append.conditions.pop();
    assert_eq!(stage.accept(append).len(), 1);
}

pub fn as_many_events_as_allowed_are_accepted(stage: &mut Stage<'_>) {
    let max = stage.limits().batch_events_max;
    accepted(stage, small_events(stage, max));
}

pub fn one_event_too_many_is_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().batch_events_max;
    let wanted = LimitError::BatchEvents {
        count: max + 1,
        max,
    };
    assert_eq!(refused(stage, small_events(stage, max + 1)), wanted);
}

pub fn a_batch_of_the_largest_size_is_accepted(stage: &mut Stage<'_>) {
    accepted(stage, largest_batch(stage, 0));
}

pub fn a_batch_one_byte_too_large_is_refused(stage: &mut Stage<'_>) {
    let max = stage.limits().batch_bytes_max;
    let wanted = LimitError::BatchBytes {
        bytes: max + 1,
        max,
    };
    assert_eq!(refused(stage, largest_batch(stage, 1)), wanted);
}

pub fn a_tag_with_a_control_character_is_refused(stage: &mut Stage<'_>) {
    for bad in ["", "a\nb", "a\u{0}", "\u{7f}", "\u{85}"] {
        let event = stage.event("order/1").with_tag(bad);
        let error = refused(stage, second(stage, event));
        assert!(
            matches!(error, LimitError::Name { index: 1, .. }),
            "{bad:?}: {error}"
        );
    }
}

pub fn a_tag_longer_than_255_bytes_is_refused(stage: &mut Stage<'_>) {
    let event = stage.event("order/1").with_tag("t".repeat(256));
    let error = refused(stage, vec![event]);
    assert!(
        matches!(error, LimitError::Name { index: 0, .. }),
        "{error}"
    );
    accepted(
        stage,
        vec![stage.event("order/1").with_tag("t".repeat(255))],
    );
}

pub fn a_header_name_with_a_control_character_is_refused(stage: &mut Stage<'_>) {
    for bad in ["", "a\nb", "a\u{0}"] {
        let event = stage.event("order/1").with_header(bad, "x");
        let error = refused(stage, second(stage, event));
        assert!(
            matches!(error, LimitError::Name { index: 1, .. }),
            "{bad:?}: {error}"
        );
    }
}

pub fn data_that_is_called_json_and_is_none_is_refused(stage: &mut Stage<'_>) {
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    let bad: [&[u8]; 7] = [
        b"{",
        b" ",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"'text'",
        deep.as_bytes(),
    ];
    for data in bad {
        for media_type in [None, Some("application/json"), Some("Text/X+JSON; a=b")] {
            let mut event = stage.event("order/1");
            event.data = data.to_vec().into();
            event.meta_mut().content_type = media_type.map(str::to_owned);
            let error = refused(stage, second(stage, event));
            assert!(
                matches!(error, LimitError::NotJson { index: 1, .. }),
                "{}: {error}",
                data.escape_ascii()
            );
        }
    }
    accepted(stage, vec![stage.event("order/1")]);
}

pub fn limits_are_checked_before_ids(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut event = written.new;
    set_bytes(&mut event, pattern(stage.limits().data_bytes_max + 1));
    let error = refused(stage, vec![event]);
    assert!(matches!(error, LimitError::DataBytes { .. }), "{error}");
}

pub fn the_log_goes_on_after_a_limit_was_broken(stage: &mut Stage<'_>) {
    for round in 0..3 {
        let mut event = stage.event("order/1");
        set_bytes(&mut event, pattern(stage.limits().data_bytes_max + 1));
        refused(stage, vec![event]);
        assert_eq!(stage.put(stage.event("order/1")).placed.version, round);
    }
}

/// Bytes in which no run repeats soon, so that a misplaced piece shows.
fn pattern(len: usize) -> Bytes {
    let byte = |n: usize| (n.wrapping_mul(2_654_435_761) >> 7) as u8;
    (0..len).map(byte).collect()
}

fn with_tags(stage: &Stage<'_>, count: usize) -> NewEvent {
    (0..count).fold(stage.event("order/1"), |event, n| {
        event.with_tag(format!("n:{n}"))
    })
}

fn small_events(stage: &Stage<'_>, count: usize) -> Vec<NewEvent> {
    stage.events("order/1", count)
}

/// A batch with `extra` bytes more than the most.
fn largest_batch(stage: &Stage<'_>, extra: usize) -> Vec<NewEvent> {
    let limits = stage.limits();
    let nothing_allowed = Limits {
        batch_bytes_max: 0,
        ..limits
    };
    let size = |events: &[NewEvent]| match nothing_allowed.check(events) {
        Err(LimitError::BatchBytes { bytes, .. }) => bytes,
        other => panic!("the size of a batch cannot be found: {other:?}"),
    };
    let large = pattern(limits.data_bytes_max);
    let mut events: Vec<NewEvent> = Vec::new();
    let wanted = limits.batch_bytes_max + extra;
    loop {
        let mut last = stage.event("order/1");
        set_bytes(&mut last, Bytes::new());
        events.push(last);
        let left = wanted - size(&events);
        let last = events.len() - 1;
        let last = &mut events[last];
        if left <= large.len() {
            last.data = large.slice(..left);
            return events;
        }
        // What is left after this event must be enough for one more without data.
        last.data = large.slice(..large.len().min(left - 1024));
    }
}
