use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anabranch_log::{Append, AppendError, Log, MemoryLog, Placed, ReadError, Rejection};
use anabranch_model::{EventId, NewEvent, Position};
use futures_executor::block_on;

use crate::engines::lock;
use crate::wrong::{Answer, Answers, Bug, Writes, caught, conflict};

#[test]
fn writing_a_repeat_again_is_caught() {
    struct WritesAgain(Mutex<BTreeSet<EventId>>);
    impl Bug for WritesAgain {
        fn append(&self, log: &MemoryLog, mut append: Append) -> Answer {
            let mut seen = lock(&self.0);
            for event in &mut append.events {
                while !seen.insert(event.id) {
                    event.id = EventId::from_u128(event.id.as_u128().wrapping_add(1 << 90));
                }
            }
            block_on(log.append(append))
        }
    }
    caught(
        || WritesAgain(Mutex::default()),
        &[
            "repeating::a_repeat_answers_the_original_places",
            "repeating::the_same_append_at_the_same_time_is_written_once",
            "cancelling::an_append_dropped_after_its_first_poll_is_done_or_not_done",
            "random::random_operations_agree_with_the_model",
        ],
    );
}

#[test]
fn refusing_a_repeat_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, append: Append| {
            let first = append.events.first().map(|event| event.id);
            let appended = block_on(log.append(append))?;
            match (appended.repeated, first, appended.places.first()) {
                (true, Some(id), Some(placed)) => Err(Rejection::IdTaken {
                    id,
                    position: placed.position,
                }
                .into()),
                _ => Ok(appended),
            }
        })
    };
    caught(bug, &["repeating::a_repeat_answers_the_original_places"]);
}

#[test]
fn not_saying_that_a_repeat_is_one_is_caught() {
    let bug = || {
        Answers(|mut answer: Answer| {
            if let Ok(appended) = &mut answer {
                appended.repeated = false;
            }
            answer
        })
    };
    caught(bug, &["repeating::a_repeat_answers_the_original_places"]);
}

#[test]
fn checking_the_conditions_of_a_repeat_again_is_caught() {
    let bug = || {
        Writes(
            |log: &MemoryLog, append: Append| match conflict(log, &append) {
                Some(conflict) => Err(conflict),
                None => block_on(log.append(append)),
            },
        )
    };
    caught(
        bug,
        &["repeating::a_repeat_does_not_check_its_stream_conditions_again"],
    );
}

#[test]
fn answering_a_repeat_in_the_order_of_the_log_is_caught() {
    let bug = || {
        Answers(|mut answer: Answer| {
            if let Ok(appended) = &mut answer {
                appended.places.sort_by_key(|placed| placed.position);
            }
            answer
        })
    };
    caught(
        bug,
        &["repeating::a_repeat_in_another_order_answers_in_that_order"],
    );
}

#[test]
fn writing_what_is_new_of_a_known_batch_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            let answer = block_on(log.append(append.clone()));
            let Err(AppendError::Rejected(Rejection::PartlyWritten { id, .. })) = answer else {
                return answer;
            };
            append.events.retain(|event| event.id != id);
            let mut appended = block_on(log.append(append))?;
            let first: Placed = appended.places[0];
            appended.places.insert(0, first);
            Ok(appended)
        })
    };
    caught(
        bug,
        &["repeating::a_batch_that_was_partly_written_is_refused"],
    );
}

/// Takes an event for the one that has its id, whatever differs.
fn takes_for_the_same(differs: fn(&NewEvent, &mut NewEvent)) -> impl Bug {
    let written: Mutex<BTreeMap<EventId, NewEvent>> = Mutex::default();
    Writes(move |log: &MemoryLog, mut append: Append| {
        let mut written = lock(&written);
        for event in &mut append.events {
            let stored = written.entry(event.id).or_insert_with(|| event.clone());
            differs(stored, event);
        }
        block_on(log.append(append))
    })
}

#[test]
fn overlooking_that_an_id_is_taken_by_another_stream_is_caught() {
    let bug = || takes_for_the_same(|stored, new| new.stream = stored.stream.clone());
    caught(
        bug,
        &["repeating::an_id_taken_by_another_stream_is_refused"],
    );
}

#[test]
fn overlooking_that_an_id_is_taken_by_another_type_is_caught() {
    let bug = || takes_for_the_same(|stored, new| new.event_type = stored.event_type.clone());
    caught(bug, &["repeating::an_id_taken_by_another_type_is_refused"]);
}

#[test]
fn overlooking_that_an_id_is_taken_by_other_data_is_caught() {
    let bug = || takes_for_the_same(|stored, new| new.data = stored.data.clone());
    caught(bug, &["repeating::an_id_taken_by_other_data_is_refused"]);
}

#[test]
fn comparing_the_metadata_of_a_repeat_is_caught() {
    let bug = || {
        let written: Mutex<BTreeMap<EventId, NewEvent>> = Mutex::default();
        Writes(move |log: &MemoryLog, append: Append| {
            let appended = block_on(log.append(append.clone()))?;
            for (event, placed) in append.events.iter().zip(&appended.places) {
                let mut written = lock(&written);
                let stored = written.entry(event.id).or_insert_with(|| event.clone());
                if stored.meta != event.meta {
                    let position = placed.position;
                    let id = event.id;
                    return Err(Rejection::IdTaken { id, position }.into());
                }
            }
            Ok(appended)
        })
    };
    caught(
        bug,
        &["repeating::a_repeat_with_other_metadata_keeps_the_first"],
    );
}

#[test]
fn accepting_one_id_twice_in_a_batch_is_caught() {
    let bug = || {
        Writes(|log: &MemoryLog, mut append: Append| {
            let mut seen = BTreeSet::new();
            append.events.retain(|event| seen.insert(event.id));
            block_on(log.append(append))
        })
    };
    caught(bug, &["repeating::one_id_twice_in_a_batch_is_refused"]);
}

#[test]
fn using_up_the_ids_of_a_refused_append_is_caught() {
    let bug = || {
        let used: Mutex<BTreeSet<EventId>> = Mutex::default();
        Writes(move |log: &MemoryLog, append: Append| {
            let ids: Vec<_> = append.events.iter().map(|event| event.id).collect();
            let mut used = lock(&used);
            if let Some(&id) = ids.iter().find(|id| used.contains(id)) {
                let position = Position::at(0);
                return Err(Rejection::IdTaken { id, position }.into());
            }
            let answer = block_on(log.append(append));
            if answer.is_err() {
                used.extend(ids);
            }
            answer
        })
    };
    caught(
        bug,
        &["repeating::a_refused_append_does_not_use_up_its_ids"],
    );
}

#[test]
fn not_finding_an_event_by_its_id_is_caught() {
    struct FindsNothing;
    impl Bug for FindsNothing {
        fn find(&self, _: &MemoryLog, _: EventId) -> Result<Option<Placed>, ReadError> {
            Ok(None)
        }
    }
    caught(|| FindsNothing, &["repeating::an_event_is_found_by_its_id"]);
}

#[test]
fn finding_an_event_that_was_not_written_is_caught() {
    struct FindsAll;
    impl Bug for FindsAll {
        fn find(&self, log: &MemoryLog, id: EventId) -> Result<Option<Placed>, ReadError> {
            let found = block_on(log.find(id))?;
            Ok(found.or(Some(Placed {
                position: Position::at(0),
                version: 0,
            })))
        }
    }
    caught(
        || FindsAll,
        &["repeating::an_event_that_was_not_written_is_not_found"],
    );
}
