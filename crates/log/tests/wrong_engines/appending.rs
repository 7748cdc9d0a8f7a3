use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anabranch_log::{Append, Appended, Log, MemoryLog};
use anabranch_model::{Cut, Event, PartitionId};
use futures_executor::block_on;

use crate::wrong::{Answer, Answers, Bug, Gives, Reads, Writes, caught, changed};

#[test]
fn losing_an_event_of_a_batch_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            let lost = append.events.len() > 1;
            if lost {
                append.events.pop();
            }
            let mut appended = block_on(log.append(append))?;
            if let (true, Some(&last)) = (lost, appended.places.last()) {
                appended.places.push(last);
            }
            Ok(appended)
        })
    };
    caught(bug, &["appending::a_batch_keeps_its_order"]);
}

#[test]
fn writing_a_batch_in_pieces_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, append: Append| {
            let mut places = Vec::new();
            let mut conditions = append.conditions;
            let mut repeated = false;
            for event in append.events {
                let events = vec![event];
                let conditions = std::mem::take(&mut conditions);
                let appended = block_on(log.append(Append { conditions, events }))?;
                places.extend(appended.places);
                repeated |= appended.repeated;
                std::thread::yield_now();
            }
            Ok(Appended::new(places, repeated))
        })
    };
    caught(
        bug,
        &[
            "appending::a_batch_is_seen_whole_or_not_at_all",
            "appending::a_batch_over_several_streams_is_seen_whole_or_not_at_all",
            "repeating::a_taken_id_late_in_a_batch_refuses_all_of_it",
        ],
    );
}

#[test]
fn counting_versions_from_one_is_caught() {
    let bug = || {
        Answers(|mut answer: Answer| {
            if let Ok(appended) = &mut answer {
                appended.places.iter_mut().for_each(|p| p.version += 1);
            }
            answer
        })
    };
    caught(
        bug,
        &["appending::the_first_event_of_a_stream_has_version_zero"],
    );
}

#[test]
fn a_gap_in_the_positions_is_caught() {
    let spread = |event: Event| {
        let mut event = event;
        event.position.offset *= 2;
        vec![event]
    };
    caught(
        move || Gives(spread),
        &["appending::appends_of_many_threads_are_all_written_once"],
    );
}

#[test]
fn a_head_that_lags_is_caught() {
    struct Lags;
    impl Bug for Lags {
        fn head(&self, log: &MemoryLog) -> Cut {
            let head = block_on(log.head()).expect("a head");
            Cut::at(head.get(PartitionId(0)).saturating_sub(1))
        }
    }
    caught(
        || Lags,
        &[
            "appending::an_acknowledged_event_is_visible_to_every_read",
            "following::a_follower_never_runs_ahead_of_the_head",
        ],
    );
}

#[test]
fn a_head_that_is_ahead_is_caught() {
    struct Ahead;
    impl Bug for Ahead {
        fn head(&self, log: &MemoryLog) -> Cut {
            let head = block_on(log.head()).expect("a head");
            Cut::at(head.get(PartitionId(0)) + 1)
        }
    }
    caught(
        || Ahead,
        &[
            "appending::a_new_log_is_empty",
            "appending::the_head_counts_every_acknowledged_event",
        ],
    );
}

#[test]
fn a_recorded_time_that_changes_is_caught() {
    let reads = Arc::new(AtomicUsize::new(0));
    let bug = move || {
        let reads = Arc::clone(&reads);
        Reads(move |log: &MemoryLog, from: &Cut, filter, mode| {
            let now = reads.fetch_add(1, Ordering::Relaxed) as u64;
            changed(log.read(from, filter, mode), move |mut event| {
                event.recorded_at = now;
                vec![event]
            })
        })
    };
    caught(bug, &["appending::the_recorded_time_stays_the_same"]);
}
