use std::collections::BTreeSet;

use anabranch_log::{Append, AppendError, Condition, Expect, Log, MemoryLog};
use anabranch_model::{Event, Position};
use futures_executor::block_on;

use crate::wrong::{Answer, Answers, Appends, Writes, caught, conflict, last_version};

#[test]
fn ignoring_conditions_is_caught() {
    let bug = || Appends(|append: &mut Append| append.conditions.clear());
    caught(
        bug,
        &[
            "conditions::empty_fails_on_an_existing_stream",
            "conditions::at_fails_below_the_last_version",
            "racing::a_stream_is_created_once",
            "boundary::a_user_name_is_taken_once_by_many_at_once",
            "boundary::a_course_is_never_overbooked",
            "random::random_operations_agree_with_the_model",
            "random::random_appends_of_many_threads_fit_one_order",
        ],
    );
}

#[test]
fn ignoring_conditions_on_streams_not_written_is_caught() {
    let bug = || {
        Appends(|append: &mut Append| {
            let written: BTreeSet<_> = append.events.iter().map(|e| e.stream.clone()).collect();
            append.conditions.retain(|condition| match condition {
                Condition::Stream(stream, _) => written.contains(stream),
                Condition::NoMatch { .. } => true,
            });
        })
    };
    caught(
        bug,
        &[
            "conditions::a_condition_on_a_stream_not_written_is_checked",
            "conditions::a_condition_on_a_missing_stream_not_written_is_checked",
            "racing::conditions_on_each_others_streams_exclude_write_skew",
        ],
    );
}

#[test]
fn checking_only_the_first_condition_is_caught() {
    let bug = || Appends(|append: &mut Append| append.conditions.truncate(1));
    caught(
        bug,
        &[
            "conditions::several_conditions_on_one_stream_must_all_hold",
            "conditions::conditions_on_several_streams_must_all_hold",
            "boundary::several_queries_must_all_find_nothing",
        ],
    );
}

#[test]
fn taking_at_for_at_least_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            for condition in &mut append.conditions {
                if let Condition::Stream(stream, Expect::At(version)) = condition
                    && last_version(log, stream) > Some(*version)
                {
                    *condition = Condition::Stream(stream.clone(), Expect::Exists);
                }
            }
            block_on(log.append(append))
        })
    };
    caught(
        bug,
        &[
            "conditions::at_fails_below_the_last_version",
            "racing::one_writer_wins_each_version_and_the_others_learn_the_actual_one",
        ],
    );
}

#[test]
fn a_conflict_without_the_actual_version_is_caught() {
    let bug = || {
        Answers(|mut answer: Answer| {
            if let Err(AppendError::Conflict { actual, .. }) = &mut answer {
                *actual = None;
            }
            answer
        })
    };
    caught(
        bug,
        &[
            "conditions::empty_fails_on_an_existing_stream",
            "racing::one_writer_wins_each_version_and_the_others_learn_the_actual_one",
        ],
    );
}

#[test]
fn checking_before_writing_without_a_lock_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            if let Some(conflict) = conflict(log, &append) {
                return Err(conflict);
            }
            append.conditions.clear();
            for _ in 0..20 {
                std::thread::yield_now();
            }
            block_on(log.append(append))
        })
    };
    caught(
        bug,
        &["racing::one_writer_wins_each_version_and_the_others_learn_the_actual_one"],
    );
}

#[test]
fn counting_the_batch_for_its_own_conditions_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, append: Append| {
            let own = append
                .conditions
                .iter()
                .find_map(|condition| match condition {
                    Condition::NoMatch { query, .. } => append.events.iter().find_map(|new| {
                        let stored = Event::stored(new, Position::at(0), 0, 0);
                        query.matches(&stored.as_ref()).then_some(stored.position)
                    }),
                    Condition::Stream(..) => None,
                });
            match own {
                Some(position) => Err(AppendError::Matched { position }),
                None => block_on(log.append(append)),
            }
        })
    };
    caught(bug, &["boundary::the_batch_does_not_match_its_own_query"]);
}
