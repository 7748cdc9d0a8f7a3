use anabranch_log::{AppendError, Appended, Capabilities, Log, MemoryLog, Rejection};
use anabranch_model::{LimitError, Limits};

use crate::wrong::{Answer, Answers, Bug, caught, caught_with};

/// Says that its limits are these, whatever they are.
struct Says(Limits);

impl Bug for Says {
    fn capabilities(&self, log: &MemoryLog) -> Capabilities {
        Capabilities {
            limits: self.0,
            ..log.capabilities()
        }
    }
}

#[test]
fn limits_that_are_one_too_large_are_caught() {
    let said = Limits::default();
    let kept = Limits {
        data_bytes_max: said.data_bytes_max + 1,
        headers_bytes_max: said.headers_bytes_max + 1,
        batch_bytes_max: said.batch_bytes_max + 1,
        batch_events_max: said.batch_events_max + 1,
        tags_max: said.tags_max + 1,
        conditions_max: said.conditions_max + 1,
    };
    caught_with(
        kept,
        || Says(said),
        &[
            "limits::data_one_byte_too_large_is_refused",
            "limits::headers_one_byte_too_large_are_refused",
            "limits::a_batch_one_byte_too_large_is_refused",
            "limits::one_event_too_many_is_refused",
            "limits::one_tag_too_many_is_refused",
            "limits::one_condition_too_many_is_refused",
        ],
    );
}

#[test]
fn limits_that_are_one_too_small_are_caught() {
    let said = Limits::default();
    let kept = Limits {
        data_bytes_max: said.data_bytes_max - 1,
        headers_bytes_max: said.headers_bytes_max - 1,
        batch_bytes_max: said.batch_bytes_max - 1,
        batch_events_max: said.batch_events_max - 1,
        tags_max: said.tags_max - 1,
        conditions_max: said.conditions_max - 1,
    };
    caught_with(
        kept,
        || Says(said),
        &[
            "limits::data_of_the_largest_size_is_accepted",
            "limits::headers_of_the_largest_size_are_accepted",
            "limits::every_text_of_the_metadata_counts",
            "limits::a_batch_of_the_largest_size_is_accepted",
            "limits::as_many_events_as_allowed_are_accepted",
            "limits::as_many_tags_as_allowed_are_accepted",
        ],
    );
}

#[test]
fn writing_an_empty_batch_is_caught() {
    let bug = || {
        Answers(|answer: Answer| match answer {
            Err(AppendError::Rejected(Rejection::Limit(LimitError::EmptyBatch))) => {
                Ok(Appended::new(Vec::new(), false))
            }
            other => other,
        })
    };
    caught(bug, &["limits::a_batch_without_events_is_refused"]);
}
