use anabranch_log::{Append, AppendError, Condition, Log, MemoryLog};
use anabranch_model::{Cut, PartitionId, Query, QueryItem};
use futures_executor::block_on;

use crate::wrong::{Answer, Answers, Appends, Bug, Writes, caught};

fn queries(change: fn(&mut Query, &mut Cut)) -> impl Bug {
    Appends(move |append: &mut Append| {
        for condition in &mut append.conditions {
            if let Condition::NoMatch { query, after } = condition {
                change(query, after);
            }
        }
    })
}

#[test]
fn ignoring_the_cut_of_a_query_is_caught() {
    let bug = || queries(|_, after| *after = Cut::start());
    caught(
        bug,
        &[
            "boundary::a_match_that_the_cut_includes_does_not_count",
            "boundary::the_cut_may_lie_beyond_the_last_match",
            "boundary::disjoint_tags_never_get_in_each_others_way",
        ],
    );
}

#[test]
fn a_cut_that_includes_one_event_too_many_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            let head = block_on(log.head()).expect("a head").get(PartitionId(0));
            for condition in &mut append.conditions {
                if let Condition::NoMatch { after, .. } = condition {
                    let count = after.get(PartitionId(0));
                    after.set(PartitionId(0), if count < head { count + 1 } else { count });
                }
            }
            block_on(log.append(append))
        })
    };
    caught(bug, &["boundary::a_match_just_after_the_cut_counts"]);
}

#[test]
fn accepting_a_cut_beyond_the_head_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            let head = block_on(log.head()).expect("a head");
            for condition in &mut append.conditions {
                if let Condition::NoMatch { after, .. } = condition
                    && !head.covers(after)
                {
                    *after = head.clone();
                }
            }
            block_on(log.append(append))
        })
    };
    caught(bug, &["boundary::a_cut_beyond_the_head_is_refused"]);
}

#[test]
fn matching_one_of_an_items_tags_is_caught() {
    let bug = || {
        queries(|query, _| {
            let one_tag_each = |item: QueryItem| -> Vec<QueryItem> {
                let types = item.types;
                let each = item.tags.into_iter().map(|tag| QueryItem {
                    types: types.clone(),
                    tags: vec![tag],
                });
                each.collect()
            };
            query.items = query.items.drain(..).flat_map(one_tag_each).collect();
        })
    };
    caught(bug, &["boundary::an_item_needs_all_of_its_tags"]);
}

#[test]
fn ignoring_the_types_of_an_item_is_caught() {
    let bug = || queries(|query, _| query.items.iter_mut().for_each(|item| item.types.clear()));
    caught(
        bug,
        &[
            "boundary::an_item_needs_one_of_its_types",
            "boundary::an_item_needs_type_and_tags",
        ],
    );
}

#[test]
fn looking_at_the_first_item_only_is_caught() {
    let bug = || queries(|query, _| query.items.truncate(1));
    caught(bug, &["boundary::one_item_of_several_is_enough"]);
}

#[test]
fn naming_an_event_that_does_not_match_is_caught() {
    let bug = || {
        Answers(|mut answer: Answer| {
            if let Err(AppendError::Matched { position }) = &mut answer {
                position.offset += 1;
            }
            answer
        })
    };
    caught(bug, &["boundary::a_match_names_an_event_that_matches"]);
}
