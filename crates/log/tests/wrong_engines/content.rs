use anabranch_log::Append;
use anabranch_model::{Cut, Event, NewEvent, StreamId};

use crate::wrong::{Appends, Gives, caught, with};

#[test]
fn folding_the_case_of_names_is_caught() {
    let bug = || {
        Appends(|append: &mut Append| {
            for event in &mut append.events {
                let name = event.stream.as_str().to_lowercase();
                event.stream = StreamId::system(name).expect("still a name");
            }
        })
    };
    caught(bug, &["names::names_are_not_normalised"]);
}

#[test]
fn taking_names_for_paths_is_caught() {
    let bug = || {
        Appends(|append: &mut Append| {
            for event in &mut append.events {
                let name = event.stream.as_str().replace("//", "/");
                event.stream = StreamId::system(name).unwrap_or_else(|_| event.stream.clone());
            }
        })
    };
    caught(bug, &["names::names_that_look_like_paths_are_names"]);
}

#[test]
fn cutting_long_names_is_caught() {
    let bug = || {
        Appends(|append: &mut Append| {
            for event in &mut append.events {
                let name: String = event.stream.as_str().chars().take(511).collect();
                event.stream = StreamId::system(name).unwrap_or_else(|_| event.stream.clone());
            }
        })
    };
    caught(bug, &["names::a_stream_id_of_512_bytes_is_kept"]);
}

#[test]
fn trimming_data_is_caught() {
    let trim = |event: Event| {
        vec![with(&event, |new| {
            new.data = new.data.trim_ascii_end().to_vec().into();
        })]
    };
    caught(
        move || Gives(trim),
        &[
            "payloads::every_byte_is_kept",
            "payloads::data_that_is_no_json_and_no_text_is_kept",
        ],
    );
}

#[test]
fn reading_empty_data_as_null_is_caught() {
    let null = |event: Event| {
        vec![with(&event, |new| {
            if new.data.is_empty() {
                new.data = "null".into();
            }
        })]
    };
    caught(move || Gives(null), &["payloads::empty_data_is_kept"]);
}

#[test]
fn losing_metadata_is_caught() {
    type Lose = fn(&mut NewEvent);
    let lose: [(Lose, &str); 9] = [
        (
            |new| new.meta_mut().content_type = None,
            "payloads::the_content_type_is_kept",
        ),
        (
            |new| new.meta_mut().source = None,
            "payloads::the_source_is_kept",
        ),
        (
            |new| new.meta_mut().causation_id = None,
            "payloads::the_causation_id_is_kept",
        ),
        (
            |new| new.meta_mut().correlation_id = None,
            "payloads::the_correlation_id_is_kept",
        ),
        (
            |new| new.meta_mut().traceparent = None,
            "payloads::the_trace_context_is_kept",
        ),
        (
            |new| new.meta_mut().tags.sort(),
            "payloads::tags_keep_their_order_and_their_repeats",
        ),
        (
            |new| new.meta_mut().headers.clear(),
            "payloads::headers_keep_any_text",
        ),
        (
            |new| new.meta_mut().causes = Cut::start(),
            "payloads::causes_are_kept",
        ),
        (
            |new| new.schema_version = 1,
            "payloads::the_schema_version_is_kept",
        ),
    ];
    for (lose, case) in lose {
        let give = move |event: Event| vec![with(&event, lose)];
        caught(move || Gives(give), &[case]);
    }
}
