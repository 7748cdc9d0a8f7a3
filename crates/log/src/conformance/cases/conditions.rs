//! What streams are expected to be, and what happens when they are not.

use anabranch_model::Version;

use crate::conformance::make::stream;
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect};

/// Appends an event to `order/1`, of `len` events, expecting `expect`.
fn holds(stage: &Stage<'_>, len: usize, expect: Expect) {
    stage.put_each("order/1", len);
    let append = Append::event(stage.event("order/1"));
    let written = stage.accept(append.expect(stream("order/1"), expect));
    assert_eq!(written[0].placed.version, len as Version);
}

/// The same, but it must be a conflict that names what was found.
fn fails(stage: &Stage<'_>, len: usize, expect: Expect) {
    stage.put_each("order/1", len);
    let append = Append::event(stage.event("order/1"));
    let error = stage.refuse(append.expect(stream("order/1"), expect));
    let actual = (len as Version).checked_sub(1);
    assert_eq!(
        error,
        AppendError::Conflict {
            stream: stream("order/1"),
            expected: expect,
            actual,
        }
    );
}

pub fn any_holds_on_an_empty_stream(stage: &mut Stage<'_>) {
    holds(stage, 0, Expect::Any);
}

pub fn any_holds_on_an_existing_stream(stage: &mut Stage<'_>) {
    holds(stage, 2, Expect::Any);
}

pub fn empty_holds_on_an_empty_stream(stage: &mut Stage<'_>) {
    holds(stage, 0, Expect::Empty);
}

pub fn empty_fails_on_an_existing_stream(stage: &mut Stage<'_>) {
    fails(stage, 1, Expect::Empty);
}

pub fn exists_holds_on_an_existing_stream(stage: &mut Stage<'_>) {
    holds(stage, 1, Expect::Exists);
}

pub fn exists_fails_on_an_empty_stream(stage: &mut Stage<'_>) {
    fails(stage, 0, Expect::Exists);
}

pub fn at_holds_at_the_last_version(stage: &mut Stage<'_>) {
    holds(stage, 3, Expect::At(2));
}

pub fn at_zero_holds_on_a_stream_of_one_event(stage: &mut Stage<'_>) {
    holds(stage, 1, Expect::At(0));
}

pub fn at_fails_below_the_last_version(stage: &mut Stage<'_>) {
    fails(stage, 3, Expect::At(1));
}

pub fn at_fails_beyond_the_last_version(stage: &mut Stage<'_>) {
    fails(stage, 3, Expect::At(3));
}

pub fn at_zero_fails_on_an_empty_stream(stage: &mut Stage<'_>) {
    fails(stage, 0, Expect::At(0));
}

pub fn at_the_largest_version_fails(stage: &mut Stage<'_>) {
    fails(stage, 2, Expect::At(Version::MAX));
}

pub fn a_stream_can_be_written_after_a_conflict(stage: &mut Stage<'_>) {
    fails(stage, 2, Expect::Empty);
    assert_eq!(stage.put(stage.event("order/1")).placed.version, 2);
}

pub fn the_batch_does_not_count_for_its_own_conditions(stage: &mut Stage<'_>) {
    let batch = Append::events(stage.events("order/1", 3));
    let batch = batch.expect(stream("order/1"), Expect::Empty);
    assert_eq!(stage.accept(batch)[2].placed.version, 2);
    let batch = Append::events(stage.events("order/1", 3));
    stage.accept(batch.expect(stream("order/1"), Expect::At(2)));
}

pub fn several_conditions_on_one_stream_must_all_hold(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 2);
    let append = |last| {
        Append::event(stage.event("order/1"))
            .expect(stream("order/1"), Expect::Exists)
            .expect(stream("order/1"), last)
    };
    let error = stage.refuse(append(Expect::At(0)));
    assert!(
        matches!(
            error,
            AppendError::Conflict {
                actual: Some(1),
                ..
            }
        ),
        "{error:?}"
    );
    stage.accept(append(Expect::At(1)));
}

pub fn a_condition_sees_only_its_own_stream(stage: &mut Stage<'_>) {
    for name in ["order/10", "orders/1", "order/1/1", "payment/1"] {
        stage.put_each(name, 2);
    }
    let append = Append::event(stage.event("order/1"));
    stage.accept(append.expect(stream("order/1"), Expect::Empty));
}

pub fn a_condition_sees_what_was_written_just_before(stage: &mut Stage<'_>) {
    for last in 0..50 {
        stage.put(stage.event("order/1"));
        let append = Append::event(stage.event("order/2"));
        let expect = if last == 0 {
            Expect::Empty
        } else {
            Expect::At(last - 1)
        };
        stage.accept(append.expect(stream("order/2"), expect));
    }
}

pub fn a_condition_on_a_stream_not_written_is_checked(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let append = |expect| Append::event(stage.event("log/1")).expect(stream("order/1"), expect);
    for (expect, version) in [(Expect::At(2), 0), (Expect::Exists, 1), (Expect::Any, 2)] {
        assert_eq!(
            stage.accept(append(expect))[0].placed.version,
            version,
            "{expect:?}"
        );
    }
    for expect in [Expect::Empty, Expect::At(1), Expect::At(3)] {
        let error = stage.refuse(append(expect));
        assert_eq!(
            error,
            AppendError::Conflict {
                stream: stream("order/1"),
                expected: expect,
                actual: Some(2),
            }
        );
    }
}

pub fn a_condition_on_a_missing_stream_not_written_is_checked(stage: &mut Stage<'_>) {
    let append = |expect| Append::event(stage.event("log/1")).expect(stream("order/1"), expect);
    stage.accept(append(Expect::Empty));
    for expect in [Expect::Exists, Expect::At(0)] {
        let error = stage.refuse(append(expect));
        assert_eq!(
            error,
            AppendError::Conflict {
                stream: stream("order/1"),
                expected: expect,
                actual: None,
            }
        );
    }
    assert_eq!(
        stage.last_version("order/1"),
        None,
        "a condition wrote its stream"
    );
}

pub fn conditions_on_several_streams_must_all_hold(stage: &mut Stage<'_>) {
    let names = ["a/1", "a/2", "a/3", "a/4"];
    for name in names {
        stage.put_each(name, 2);
    }
    let append = |wrong: Option<&str>| {
        let append = Append::event(stage.event("log/1"));
        names.iter().fold(append, |append, &name| {
            let last = if wrong == Some(name) { 0 } else { 1 };
            append.expect(stream(name), Expect::At(last))
        })
    };
    for name in names {
        let error = stage.refuse(append(Some(name)));
        assert_eq!(
            error,
            AppendError::Conflict {
                stream: stream(name),
                expected: Expect::At(0),
                actual: Some(1),
            }
        );
    }
    stage.accept(append(None));
}

pub fn each_stream_of_a_batch_may_have_its_condition(stage: &mut Stage<'_>) {
    stage.put_each("a/1", 2);
    let append = |new| {
        Append::events(vec![stage.event("a/1"), stage.event("a/2")])
            .expect(stream("a/1"), Expect::Exists)
            .expect(stream("a/2"), new)
    };
    stage.refuse(append(Expect::Exists));
    stage.accept(append(Expect::Empty));
    stage.refuse(append(Expect::Empty));
    stage.accept(append(Expect::At(0)));
}

pub fn a_conflict_is_told_to_a_person(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let append = Append::event(stage.event("order/1"));
    let error = stage.refuse(append.expect(stream("order/1"), Expect::At(7)));
    let text = error.to_string();
    for part in ["order/1", "version 7", "version 2"] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}
