//! Dynamic consistency boundaries: append unless a matching event exists after what was
//! read.

use anabranch_model::{Cut, Filter, PartitionId, Position, Query};

use crate::conformance::drive::together;
use crate::conformance::make::{item, query, stream, tagged};
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, Rejection};

/// Appends an event with `tags` unless `query` matches after `after`.
fn unless(stage: &Stage<'_>, tags: &[&str], query: Query, after: &Cut) -> Append {
    let event = tags
        .iter()
        .fold(stage.event("fact/1"), |event, &tag| event.with_tag(tag));
    Append::event(event).unless(query, after.clone())
}

fn put(stage: &Stage<'_>, type_name: &str, tags: &[&str]) -> Position {
    let event = stage.typed("fact/1", type_name);
    let event = tags.iter().fold(event, |event, &tag| event.with_tag(tag));
    stage.put(event).placed.position
}

fn must_match(stage: &Stage<'_>, append: Append, any_of: &[Position]) {
    match stage.refuse(append) {
        AppendError::Matched { position } => assert!(
            any_of.contains(&position),
            "the event at {position} does not match after the cut; these do: {any_of:?}"
        ),
        other => panic!("it must be a match; it is: {other}"),
    }
}

pub fn an_append_is_accepted_when_nothing_matches(stage: &mut Stage<'_>) {
    put(stage, "Named", &["user:bob"]);
    stage.accept(unless(stage, &[], Query::tags(["user:ann"]), &Cut::start()));
}

pub fn an_append_is_refused_when_an_event_matches(stage: &mut Stage<'_>) {
    put(stage, "Named", &["user:bob"]);
    let at = put(stage, "Named", &["user:ann"]);
    put(stage, "Named", &["user:eve"]);
    let append = unless(stage, &[], Query::tags(["user:ann"]), &Cut::start());
    must_match(stage, append, &[at]);
}

pub fn a_match_names_an_event_that_matches(stage: &mut Stage<'_>) {
    let before = put(stage, "Named", &["user:ann"]);
    let cut = Cut::including(before);
    let mut matching = Vec::new();
    for _ in 0..5 {
        put(stage, "Named", &["user:bob"]);
        matching.push(put(stage, "Named", &["user:ann"]));
    }
    let append = unless(stage, &[], Query::tags(["user:ann"]), &cut);
    must_match(stage, append, &matching);
}

pub fn a_match_that_the_cut_includes_does_not_count(stage: &mut Stage<'_>) {
    let at = put(stage, "Named", &["user:ann"]);
    let query = Query::tags(["user:ann"]);
    stage.accept(unless(stage, &[], query, &Cut::including(at)));
}

pub fn a_match_just_after_the_cut_counts(stage: &mut Stage<'_>) {
    let before = put(stage, "Named", &[]);
    let at = put(stage, "Named", &["user:ann"]);
    let append = unless(
        stage,
        &[],
        Query::tags(["user:ann"]),
        &Cut::including(before),
    );
    must_match(stage, append, &[at]);
}

pub fn the_cut_may_lie_beyond_the_last_match(stage: &mut Stage<'_>) {
    put(stage, "Named", &["user:ann"]);
    put(stage, "Named", &["user:bob"]);
    for _ in 0..3 {
        let query = Query::tags(["user:ann"]);
        stage.accept(unless(stage, &[], query, &stage.head()));
    }
}

pub fn a_cut_beyond_the_head_is_refused(stage: &mut Stage<'_>) {
    put(stage, "Named", &["user:ann"]);
    let head = stage.head();
    let mut after = head.clone();
    let (partition, count) = head.iter().next().unwrap_or((PartitionId(0), 0));
    after.set(partition, count + 1);
    let mut elsewhere = head.clone();
    elsewhere.set(PartitionId(stage.capabilities().partitions), 1);
    for after in [after, elsewhere] {
        let error = stage.refuse(unless(stage, &[], Query::tags(["user:bob"]), &after));
        let head = head.clone();
        assert_eq!(
            error,
            AppendError::Rejected(Rejection::CutBeyondHead { after, head })
        );
    }
}

pub fn the_batch_does_not_match_its_own_query(stage: &mut Stage<'_>) {
    let query = Query::tags(["user:ann"]);
    stage.accept(unless(stage, &["user:ann"], query, &stage.head()));
}

pub fn an_item_needs_all_of_its_tags(stage: &mut Stage<'_>) {
    put(stage, "Joined", &["course:1"]);
    put(stage, "Joined", &["student:1"]);
    let both = || Query::tags(["course:1", "student:1"]);
    stage.accept(unless(stage, &[], both(), &Cut::start()));
    let at = put(stage, "Joined", &["student:1", "x:y", "course:1"]);
    must_match(stage, unless(stage, &[], both(), &Cut::start()), &[at]);
}

pub fn an_item_needs_one_of_its_types(stage: &mut Stage<'_>) {
    put(stage, "Left", &[]);
    let either = || query(vec![item(&["Joined", "Named"], &[])]);
    stage.accept(unless(stage, &[], either(), &Cut::start()));
    let at = put(stage, "Named", &[]);
    must_match(stage, unless(stage, &[], either(), &Cut::start()), &[at]);
}

pub fn an_item_needs_type_and_tags(stage: &mut Stage<'_>) {
    put(stage, "Joined", &["course:2"]);
    put(stage, "Left", &["course:1"]);
    let joined = || query(vec![item(&["Joined"], &["course:1"])]);
    stage.accept(unless(stage, &[], joined(), &Cut::start()));
    let at = put(stage, "Joined", &["course:1"]);
    must_match(stage, unless(stage, &[], joined(), &Cut::start()), &[at]);
}

pub fn one_item_of_several_is_enough(stage: &mut Stage<'_>) {
    let any = || {
        query(vec![
            item(&["Joined"], &["course:1"]),
            item(&[], &["user:ann"]),
            item(&["Closed"], &[]),
        ])
    };
    let start = stage.head();
    stage.accept(unless(stage, &[], any(), &start));
    for (type_name, tag) in [
        ("Closed", "course:9"),
        ("Named", "user:ann"),
        ("Joined", "course:1"),
    ] {
        let before = stage.head();
        let at = put(stage, type_name, &[tag]);
        must_match(stage, unless(stage, &[], any(), &before), &[at]);
    }
}

pub fn a_query_without_items_matches_nothing(stage: &mut Stage<'_>) {
    put(stage, "Named", &["user:ann"]);
    stage.accept(unless(stage, &[], Query::default(), &Cut::start()));
}

pub fn an_item_that_asks_for_nothing_matches_everything(stage: &mut Stage<'_>) {
    let everything = || query(vec![item(&[], &[])]);
    stage.accept(unless(stage, &[], everything(), &Cut::start()));
    let before = stage.head();
    let at = put(stage, "Named", &[]);
    must_match(stage, unless(stage, &[], everything(), &before), &[at]);
    stage.accept(unless(stage, &[], everything(), &stage.head()));
}

pub fn tags_are_compared_whole(stage: &mut Stage<'_>) {
    for tag in ["user:anna", "user", "USER:ANN", "user:an", " user:ann"] {
        put(stage, "Named", &[tag]);
    }
    stage.accept(unless(stage, &[], Query::tags(["user:ann"]), &Cut::start()));
}

pub fn a_query_looks_at_every_stream(stage: &mut Stage<'_>) {
    let event = stage.event("elsewhere/1").with_tag("user:ann");
    let at = stage.put(event).placed.position;
    let append = unless(stage, &[], Query::tags(["user:ann"]), &Cut::start());
    must_match(stage, append, &[at]);
}

pub fn several_queries_must_all_find_nothing(stage: &mut Stage<'_>) {
    let at = put(stage, "Named", &["user:ann"]);
    let start = Cut::start();
    let append = |last: &str| {
        unless(stage, &[], Query::tags(["user:bob"]), &start)
            .unless(Query::tags([last]), start.clone())
    };
    must_match(stage, append("user:ann"), &[at]);
    stage.accept(append("user:eve"));
}

pub fn each_query_has_its_own_cut(stage: &mut Stage<'_>) {
    let ann = put(stage, "Named", &["user:ann"]);
    let bob = put(stage, "Named", &["user:bob"]);
    let append = |of_bob: Cut| {
        unless(stage, &[], Query::tags(["user:ann"]), &Cut::including(ann))
            .unless(Query::tags(["user:bob"]), of_bob)
    };
    must_match(stage, append(Cut::including(ann)), &[bob]);
    stage.accept(append(Cut::including(bob)));
}

pub fn queries_and_expectations_must_both_hold(stage: &mut Stage<'_>) {
    let at = put(stage, "Named", &["user:ann"]);
    let append = |tag: &str, expect| {
        unless(stage, &[], Query::tags([tag]), &Cut::start()).expect(stream("fact/1"), expect)
    };
    let error = stage.refuse(append("user:bob", Expect::Empty));
    assert!(matches!(error, AppendError::Conflict { .. }), "{error}");
    must_match(stage, append("user:ann", Expect::At(0)), &[at]);
    stage.accept(append("user:bob", Expect::At(0)));
}

pub fn a_match_deep_in_a_long_log_is_found(stage: &mut Stage<'_>) {
    let mut at = None;
    for n in 0..50 {
        let mut events = stage.events("order/1", 100);
        if n == 23 {
            events[57].meta_mut().tags.push("user:ann".to_owned());
        }
        let written = stage.put_all(events);
        if n == 23 {
            at = Some(written[57].placed.position);
        }
    }
    let append = unless(stage, &[], Query::tags(["user:ann"]), &Cut::start());
    must_match(stage, append, at.as_slice());
}

pub fn every_event_of_a_batch_can_match(stage: &mut Stage<'_>) {
    let tags = ["a:1", "b:1", "c:1"];
    let event = |&tag: &&str| stage.event("fact/1").with_tag(tag);
    let written = stage.put_all(tags.iter().map(event).collect());
    for (tag, written) in tags.iter().zip(&written) {
        let append = unless(stage, &[], Query::tags([*tag]), &Cut::start());
        must_match(stage, append, &[written.placed.position]);
    }
}

pub fn a_user_name_is_taken_once_by_many_at_once(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..15 {
        let tag = format!("user:{round}");
        let head = stage.head();
        let answers = together(8, |_| {
            stage.append(unless(stage, &[&tag], Query::tags([tag.as_str()]), &head))
        });
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        let taken = stage.matching(tagged(&[&tag]));
        assert_eq!(taken.len(), 1);
        for answer in answers {
            match answer {
                Ok(_) => {}
                Err(AppendError::Matched { position }) => assert_eq!(position, taken[0].position),
                Err(other) => panic!("the others must find a match; one is: {other}"),
            }
        }
    }
}

pub fn a_course_is_never_overbooked(stage: &mut Stage<'_>) {
    const SEATS: usize = 5;
    let stage = &*stage;
    for course in 0..4 {
        let course = format!("course:{course}");
        let seats = || stage.matching(tagged(&[&course])).len();
        while seats() < SEATS {
            let (taken, head) = (seats(), stage.head());
            // Every student has seen the same free seats.
            let answers = together(8, |thread| {
                let student = format!("student:{course}-{taken}-{thread}");
                let query = query(vec![item(&[], &[&course]), item(&[], &[&student])]);
                stage.append(unless(stage, &[&course, &student], query, &head))
            });
            for answer in &answers {
                if let Err(error) = answer {
                    assert!(matches!(error, AppendError::Matched { .. }), "{error}");
                }
            }
            assert_eq!(seats(), taken + 1, "seats after {answers:?}");
        }
    }
}

pub fn disjoint_tags_never_get_in_each_others_way(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(8, |thread| {
        let tag = format!("account:{thread}");
        let mut cut = Cut::start();
        for _ in 0..25 {
            let query = Query::tags([tag.as_str()]);
            let written = stage.accept(unless(stage, &[&tag], query, &cut));
            cut = Cut::including(written[0].placed.position);
        }
    });
    assert_eq!(stage.matching(Filter::all()).len(), 8 * 25);
}
