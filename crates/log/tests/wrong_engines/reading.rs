use std::future::Future;
use std::pin::pin;
use std::task::Context;

use anabranch_log::{EventStream, Log, MemoryLog, Order, ReadMode, VersionRange};
use anabranch_model::{Cut, Filter, PartitionId, StreamId};
use futures_executor::block_on;

use crate::wrong::{Bug, Lazy, Reads, StreamReads, caught, changed};

#[test]
fn reading_on_past_the_head_of_the_call_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            let (log, from) = (log.clone(), from.clone());
            let mut inner = None;
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                let inner = inner.get_or_insert_with(|| log.read(&from, filter.clone(), mode));
                pin!(inner.next_batch()).poll(cx)
            }))
        })
    };
    caught(
        bug,
        &[
            "reading::a_read_ends_at_the_head_of_its_call",
            "reading::a_read_of_an_empty_log_stays_empty",
        ],
    );
}

#[test]
fn including_the_last_event_of_the_cut_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| {
            let from = match mode {
                ReadMode::Backward => from.clone(),
                _ => Cut::at(from.get(PartitionId(0)).saturating_sub(1)),
            };
            log.read(&from, filter, mode)
        })
    };
    caught(
        bug,
        &[
            "reading::reading_from_each_cut_gives_the_rest",
            "appending::the_cut_of_an_append_includes_just_its_past",
            "following::a_follower_from_the_head_gives_what_is_written",
        ],
    );
}

#[test]
fn reading_from_beyond_the_head_as_if_it_were_the_head_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| {
            let head = block_on(log.head()).expect("a head").get(PartitionId(0));
            log.read(&Cut::at(from.get(PartitionId(0)).min(head)), filter, mode)
        })
    };
    caught(
        bug,
        &[
            "reading::reading_from_beyond_the_head_is_refused",
            "reading::reading_backward_from_beyond_the_head_is_refused",
            "reading::reading_a_partition_that_does_not_exist_is_refused",
        ],
    );
}

#[test]
fn reading_backward_from_the_head_whatever_the_cut_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| {
            let head = block_on(log.head()).expect("a head");
            log.read(
                if mode == ReadMode::Backward {
                    &head
                } else {
                    from
                },
                filter,
                mode,
            )
        })
    };
    caught(
        bug,
        &["backward::backward_from_each_cut_gives_what_it_includes"],
    );
}

#[test]
fn reading_forward_for_backward_is_caught() {
    let bug = || {
        Reads(
            |log: &MemoryLog, from: &Cut, filter: Filter, mode| match mode {
                ReadMode::Backward => {
                    let from = from.clone();
                    let all = log.read(&Cut::start(), filter, ReadMode::ToHead);
                    changed(all, move |event| {
                        from.includes(event.position)
                            .then_some(event)
                            .into_iter()
                            .collect()
                    })
                }
                _ => log.read(from, filter, mode),
            },
        )
    };
    caught(
        bug,
        &[
            "backward::backward_from_the_head_gives_everything_newest_first",
            "filtering::a_filtered_backward_read_gives_the_newest_first",
        ],
    );
}

#[test]
fn including_the_end_of_a_range_is_caught() {
    let bug = || {
        StreamReads(
            |log: &MemoryLog, stream: &StreamId, range: VersionRange, order| {
                let range = VersionRange(range.0.start..range.0.end.saturating_add(1));
                log.read_stream(stream, range, order)
            },
        )
    };
    caught(
        bug,
        &[
            "streams::a_range_has_its_first_version_and_not_its_last",
            "streams::an_empty_range_gives_nothing",
        ],
    );
}

#[test]
fn reading_a_stream_forward_for_backward_is_caught() {
    let bug = || {
        StreamReads(|log: &MemoryLog, stream: &StreamId, range, _| {
            log.read_stream(stream, range, Order::Forward)
        })
    };
    caught(bug, &["streams::a_stream_reads_backward"]);
}

#[test]
fn mixing_streams_that_share_a_prefix_is_caught() {
    let bug = || {
        StreamReads(
            |log: &MemoryLog, stream: &StreamId, range: VersionRange, order| match order {
                Order::Backward => log.read_stream(stream, range, order),
                Order::Forward => {
                    let prefix = stream.as_str().to_owned();
                    let all = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
                    changed(all, move |event| {
                        let fits =
                            event.stream().starts_with(&prefix) && range.0.contains(&event.version);
                        fits.then_some(event).into_iter().collect()
                    })
                }
            },
        )
    };
    caught(
        bug,
        &[
            "names::names_that_share_a_prefix_are_separate",
            "streams::a_stream_reads_forward",
        ],
    );
}

fn filters(change: fn(&mut Filter)) -> impl Bug {
    Reads(
        move |log: &MemoryLog, from: &Cut, mut filter: Filter, mode| {
            change(&mut filter);
            log.read(from, filter, mode)
        },
    )
}

#[test]
fn ignoring_a_field_of_a_filter_is_caught() {
    type Ignore = fn(&mut Filter);
    let ignore: [(Ignore, &str); 5] = [
        (
            |filter| filter.categories.clear(),
            "filtering::one_category",
        ),
        (|filter| filter.types.clear(), "filtering::one_type"),
        (|filter| filter.streams.clear(), "filtering::one_stream"),
        (
            |filter| filter.headers.clear(),
            "filtering::a_header_with_its_value",
        ),
        (|filter| filter.tags.clear(), "filtering::one_tag"),
    ];
    for (ignore, case) in ignore {
        caught(
            move || filters(ignore),
            &[
                case,
                "filtering::all_fields_of_a_filter_must_fit",
                "random::random_operations_agree_with_the_model",
            ],
        );
    }
}

#[test]
fn asking_for_one_of_the_tags_is_caught() {
    let bug = || filters(|filter| filter.tags.truncate(1));
    caught(bug, &["filtering::all_of_several_tags"]);
}

#[test]
fn asking_for_one_of_the_headers_is_caught() {
    let bug = || filters(|filter| filter.headers.truncate(1));
    caught(bug, &["filtering::all_of_several_headers"]);
}

#[test]
fn comparing_categories_by_prefix_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, mut filter: Filter, mode| {
            let wanted = std::mem::take(&mut filter.categories);
            changed(log.read(from, filter, mode), move |event| {
                let fits = wanted.is_empty()
                    || wanted
                        .iter()
                        .any(|category| event.stream().starts_with(category));
                fits.then_some(event).into_iter().collect()
            })
        })
    };
    caught(bug, &["filtering::a_category_is_compared_whole"]);
}

#[test]
fn giving_an_append_in_parts_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter, mode| {
            changed(log.read(from, filter, mode), |event| vec![event])
        })
    };
    caught(bug, &["reading::a_read_gives_whole_appends"]);
}

#[test]
fn a_batch_that_is_lost_on_its_way_is_caught() {
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            let mut inner = log.read(from, filter, mode);
            let mut count = 0;
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                loop {
                    let polled = pin!(inner.next_batch()).poll(cx);
                    count += 1;
                    if count != 2 || polled.is_pending() {
                        return polled;
                    }
                }
            }))
        })
    };
    caught(bug, &["reading::the_batches_of_a_read_follow_each_other"]);
}
