//! Idempotency: an id names one event for ever.

use anabranch_model::{EventId, LimitError, NewEvent, Query};

use crate::conformance::check::just_these;
use crate::conformance::drive::together;
use crate::conformance::make::{Written, kind, set_bytes, stream};
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, Placed, Rejection};

/// Repeats an append that must be known, and gives the places it answers.
fn repeat(stage: &Stage<'_>, append: Append) -> Vec<Placed> {
    let head = stage.head();
    match stage.append(append) {
        Ok(appended) => {
            assert!(appended.repeated, "a repeat must say that it is one");
            assert_eq!(stage.head(), head, "a repeat wrote something");
            appended.places
        }
        Err(error) => panic!("a repeat must succeed; it failed: {error}"),
    }
}

fn news(written: &[Written]) -> Vec<NewEvent> {
    written.iter().map(|written| written.new.clone()).collect()
}

fn places(written: &[Written]) -> Vec<Placed> {
    written.iter().map(|written| written.placed).collect()
}

fn must_be_taken(error: &AppendError, by: &Written) {
    assert_eq!(
        *error,
        AppendError::Rejected(Rejection::IdTaken {
            id: by.new.id,
            position: by.placed.position,
        })
    );
}

fn must_be_partly_written(error: &AppendError, first: &Written) {
    assert_eq!(
        *error,
        AppendError::Rejected(Rejection::PartlyWritten {
            id: first.new.id,
            position: first.placed.position,
        })
    );
}

pub fn an_event_is_found_by_its_id(stage: &mut Stage<'_>) {
    let mut written = Vec::new();
    for round in 0..40 {
        let events = stage.events(&format!("order/{}", round % 7), 3);
        written.extend(events.into_iter().map(|event| stage.put(event)));
    }
    for written in &written {
        assert_eq!(stage.find(written.new.id), Some(written.placed));
    }
}

pub fn an_event_that_was_not_written_is_not_found(stage: &mut Stage<'_>) {
    assert_eq!(stage.find(stage.id()), None, "in an empty log");
    stage.put_each("order/1", 3);
    let refused = stage.event("order/1");
    let id = refused.id;
    stage.refuse(Append::event(refused).expect(stream("order/1"), Expect::Empty));
    assert_eq!(stage.find(id), None, "its append was refused");
    assert_eq!(stage.find(EventId::from_u128(u128::MAX)), None);
}

pub fn an_event_is_found_after_a_restart(stage: &mut Stage<'_>) {
    let written = stage.put_each("order/1", 20);
    stage.reopen();
    for written in &written {
        assert_eq!(stage.find(written.new.id), Some(written.placed));
    }
}

pub fn a_repeat_answers_the_original_places(stage: &mut Stage<'_>) {
    let written = stage.put_all(stage.events("order/1", 3));
    for _ in 0..3 {
        let again = repeat(stage, Append::events(news(&written)));
        assert_eq!(again, places(&written));
    }
}

pub fn a_repeat_answers_the_same_after_the_stream_moved_on(stage: &mut Stage<'_>) {
    let written = stage.put_all(stage.events("order/1", 2));
    stage.put_each("order/2", 20);
    stage.put_each("order/1", 20);
    let again = repeat(stage, Append::events(news(&written)));
    assert_eq!(again, places(&written));
}

pub fn a_repeat_does_not_check_its_stream_conditions_again(stage: &mut Stage<'_>) {
    let append = Append::event(stage.event("order/1")).expect(stream("order/1"), Expect::Empty);
    let written = stage.accept(append.clone());
    assert_eq!(repeat(stage, append.clone()), places(&written));
    stage.put_each("order/1", 2);
    assert_eq!(repeat(stage, append), places(&written));
}

pub fn a_repeat_does_not_check_its_queries_again(stage: &mut Stage<'_>) {
    let event = stage.event("order/1").with_tag("user:ann");
    let append = Append::event(event).unless(Query::tags(["user:ann"]), stage.head());
    let written = stage.accept(append.clone());
    assert_eq!(repeat(stage, append), places(&written));
}

pub fn a_repeat_over_several_streams_answers_the_original_places(stage: &mut Stage<'_>) {
    let names = ["a/1", "b/1", "a/1", "c/1"];
    let written = stage.put_all(names.map(|name| stage.event(name)).to_vec());
    stage.put_each("a/1", 3);
    let again = repeat(stage, Append::events(news(&written)));
    assert_eq!(again, places(&written));
}

pub fn a_repeat_in_another_order_answers_in_that_order(stage: &mut Stage<'_>) {
    let mut written = stage.put_all(stage.events("order/1", 5));
    written.reverse();
    written.swap(0, 2);
    let again = repeat(stage, Append::events(news(&written)));
    assert_eq!(again, places(&written));
}

pub fn a_repeat_of_a_part_answers_the_places_of_that_part(stage: &mut Stage<'_>) {
    let written = stage.put_all(stage.events("order/1", 5));
    let again = repeat(stage, Append::events(news(&written[1..3])));
    assert_eq!(again, places(&written[1..3]));
}

pub fn a_repeat_of_two_appends_in_one_answers_their_places(stage: &mut Stage<'_>) {
    let mut written = stage.put_all(stage.events("order/1", 2));
    stage.put(stage.event("order/1"));
    written.extend(stage.put_all(stage.events("order/1", 2)));
    let again = repeat(stage, Append::events(news(&written)));
    assert_eq!(again, places(&written));
}

pub fn every_event_of_a_large_batch_can_be_repeated(stage: &mut Stage<'_>) {
    let count = stage.limits().batch_events_max.min(10_000);
    let written = stage.put_all(stage.events("order/1", count));
    assert_eq!(
        repeat(stage, Append::events(news(&written))),
        places(&written)
    );
    for written in [&written[0], &written[count / 2], &written[count - 1]] {
        let again = repeat(stage, Append::event(written.new.clone()));
        assert_eq!(again, [written.placed]);
    }
}

pub fn a_repeat_with_other_metadata_keeps_the_first(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1").with_header("try", "1"));
    let again = written.new.clone().with_header("try", "2").with_tag("x:y");
    assert_eq!(repeat(stage, Append::event(again)), [written.placed]);
    just_these(&stage.read_all(), [&written]);
}

pub fn a_batch_that_was_partly_written_is_refused(stage: &mut Stage<'_>) {
    let written = stage.put_all(stage.events("order/1", 2));
    let fresh = || stage.event("order/1");
    for (batch, first) in [
        (vec![written[1].new.clone(), fresh()], &written[1]),
        (vec![fresh(), written[0].new.clone()], &written[0]),
        (
            vec![fresh(), written[1].new.clone(), written[0].new.clone()],
            &written[1],
        ),
    ] {
        must_be_partly_written(&stage.refuse(Append::events(batch)), first);
    }
}

pub fn an_id_taken_by_another_stream_is_refused(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut other = written.new.clone();
    // Of the same key: an id is unique in its partition.
    other.stream = stream("payment/1");
    must_be_taken(&stage.refuse(Append::event(other)), &written);
}

pub fn an_id_taken_by_another_type_is_refused(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut other = written.new.clone();
    other.event_type = kind("SomethingElse");
    must_be_taken(&stage.refuse(Append::event(other)), &written);
}

pub fn an_id_taken_by_other_data_is_refused(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut other = written.new.clone();
    let mut data = other.data.to_vec();
    data[8] ^= 1;
    other.data = data.into();
    must_be_taken(&stage.refuse(Append::event(other.clone())), &written);
    set_bytes(
        &mut other,
        written.new.data.slice(..written.new.data.len() - 1),
    );
    must_be_taken(&stage.refuse(Append::event(other)), &written);
}

pub fn a_taken_id_late_in_a_batch_refuses_all_of_it(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut batch = stage.events("order/1", 6);
    batch[5].id = written.new.id;
    must_be_taken(&stage.refuse(Append::events(batch)), &written);
}

pub fn a_taken_id_is_refused_before_the_conditions_are_checked(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let mut other = stage.event("order/1");
    other.id = written.new.id;
    let append = Append::event(other).expect(stream("order/1"), Expect::Empty);
    must_be_taken(&stage.refuse(append), &written);
}

pub fn one_id_twice_in_a_batch_is_refused(stage: &mut Stage<'_>) {
    let mut batch = stage.events("order/1", 5);
    batch[3] = batch[1].clone();
    let error = stage.refuse(Append::events(batch));
    let wanted = LimitError::RepeatedId {
        first: 1,
        second: 3,
    };
    assert_eq!(error, AppendError::Rejected(Rejection::Limit(wanted)));
}

pub fn one_id_twice_in_a_batch_is_refused_although_it_was_written(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    let batch = vec![written.new.clone(), written.new.clone()];
    let error = stage.refuse(Append::events(batch));
    let wanted = LimitError::RepeatedId {
        first: 0,
        second: 1,
    };
    assert_eq!(error, AppendError::Rejected(Rejection::Limit(wanted)));
}

pub fn a_refused_append_does_not_use_up_its_ids(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let mut event = stage.event("order/1");
    let append = Append::event(event.clone());
    stage.refuse(append.expect(stream("order/1"), Expect::Empty));
    event.stream = stream("order/2");
    stage.put(event);
}

pub fn any_id_is_accepted(stage: &mut Stage<'_>) {
    let seed = stage.seed();
    let ids = [
        u128::MAX,
        0,
        1,
        u128::MAX - 1,
        1 << 127,
        u128::from(seed) << 40 | 2,
    ];
    let events: Vec<_> = ids
        .into_iter()
        .map(|bits| {
            let mut event = stage.event("order/1");
            event.id = EventId::from_u128(bits);
            event
        })
        .collect();
    let written = stage.put_all(events);
    just_these(&stage.read_all(), &written);
    let again = repeat(stage, Append::events(news(&written)));
    assert_eq!(again, places(&written));
}

pub fn the_same_append_at_the_same_time_is_written_once(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..20 {
        let append = Append::events(stage.events(&format!("order/{round}"), 3));
        let answers = together(8, |_| match stage.append(append.clone()) {
            Ok(appended) => appended,
            Err(error) => panic!("a repeat at the same time failed: {error}"),
        });
        let first = answers.iter().filter(|answer| !answer.repeated).count();
        assert_eq!(first, 1, "one of the appends is the first");
        for answer in &answers {
            assert_eq!(answer.places, answers[0].places);
        }
    }
}

pub fn the_same_conditional_append_at_the_same_time_succeeds_everywhere(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..20 {
        let name = format!("order/{round}");
        let append = Append::event(stage.event(&name)).expect(stream(&name), Expect::Empty);
        together(8, |_| {
            if let Err(error) = stage.append(append.clone()) {
                panic!("a repeat at the same time failed: {error}");
            }
        });
    }
}

pub fn overlapping_appends_at_the_same_time_are_never_both_written(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..20 {
        let name = format!("order/{round}");
        let [a, b, c] = [stage.event(&name), stage.event(&name), stage.event(&name)];
        let batches = [vec![a, b.clone()], vec![b, c]];
        let answers = together(2, |n| stage.append(Append::events(batches[n].clone())));
        let written = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(written, 1, "{answers:?}");
        for answer in answers {
            match answer {
                Ok(_) | Err(AppendError::Rejected(Rejection::PartlyWritten { .. })) => {}
                Err(error) => panic!("the second must be partly written; it is: {error}"),
            }
        }
    }
}

pub fn two_events_with_one_id_at_the_same_time_are_never_both_written(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..20 {
        let event = stage.event(&format!("order/{round}"));
        let answers = together(4, |n| {
            let mut event = event.clone();
            event.data = format!("{{\"n\":{n}}}").into();
            stage.append(Append::event(event))
        });
        let written = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(written, 1, "{answers:?}");
        for answer in answers {
            match answer {
                Ok(_) | Err(AppendError::Rejected(Rejection::IdTaken { .. })) => {}
                Err(error) => panic!("the others must find the id taken; one is: {error}"),
            }
        }
    }
}
