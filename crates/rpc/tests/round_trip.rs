//! What goes into a message comes out of it as it was: by protobuf, and by JSON.

use std::sync::Arc;

use anabranch_log::{
    Append, AppendError, Appended, Capabilities, Condition, Expect, Group, Layout, Placed,
    ReadError, Rejection, Scope,
};
use anabranch_model::{
    Cut, Event, EventBatch, EventId, EventType, Filter, Limits, Meta, NewEvent, PartitionId,
    Position, Query, QueryItem, Reach, StreamId,
};
use anabranch_rpc::protocol as p;
use anabranch_rpc::{
    append_error_of, append_error_to, append_of, append_to, appended_of, appended_to,
    capabilities_of, capabilities_to, filter_of, filter_to, join_steps, layout_of, layout_to,
    pack_append, pack_appended, read_error_of, read_error_to, step_of, step_to, unpack_appended,
    unpack_appends,
};
use buffa::Message;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The message as it is after its way over the wire, in either form.
fn sent<M: Message + Serialize + DeserializeOwned>(message: &M, as_json: bool) -> M {
    if as_json {
        let text = serde_json::to_string(message).unwrap();
        serde_json::from_str(&text).unwrap()
    } else {
        M::decode_from_slice(&message.encode_to_vec()).unwrap()
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zä\"0-9]{1,8}"
}

fn stream() -> impl Strategy<Value = StreamId> {
    ("[$a-z]{1,6}", "[a-z/ä]{1,6}")
        .prop_map(|(category, key)| StreamId::system(format!("{category}/{key}")).unwrap())
}

fn event_type() -> impl Strategy<Value = EventType> {
    text().prop_map(|name| EventType::new(name).unwrap())
}

fn cut() -> impl Strategy<Value = Cut> {
    vec((any::<u32>(), any::<u64>()), 0..4).prop_map(|counts| {
        let mut cut = Cut::start();
        for (partition, count) in counts {
            cut.set(PartitionId(partition), count);
        }
        cut
    })
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u64>()).prop_map(|(partition, offset)| Position {
        partition: PartitionId(partition),
        offset,
    })
}

fn meta() -> impl Strategy<Value = Meta> {
    (
        option::of(Just("text/plain".to_owned())),
        vec(option::of(text()), 4),
        vec(text(), 0..3),
        vec((text(), text()), 0..3),
        cut(),
    )
        .prop_map(|(content_type, texts, tags, headers, causes)| Meta {
            content_type,
            source: texts[0].clone(),
            causation_id: texts[1].clone(),
            correlation_id: texts[2].clone(),
            traceparent: texts[3].clone(),
            tags,
            headers: headers.into_iter().collect(),
            causes,
        })
}

fn event() -> impl Strategy<Value = NewEvent> {
    let data = prop_oneof![
        Just(Vec::new()),
        text().prop_map(|text| format!("{text:?}").into_bytes()),
        vec(any::<u8>(), 0..20),
    ];
    let about = (any::<u128>(), stream(), event_type(), 1..u32::MAX);
    (about, data, option::of(meta())).prop_map(
        |((id, stream, event_type, schema_version), data, meta)| NewEvent {
            id: EventId::from_u128(id),
            stream,
            event_type,
            schema_version,
            data: data.into(),
            meta: meta.map(Arc::new),
        },
    )
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::Any),
        Just(Expect::Empty),
        Just(Expect::Exists),
        any::<u64>().prop_map(Expect::At),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Stream),
        Just(Scope::Partition),
        Just(Scope::Log),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let item = (vec(event_type(), 0..3), vec(text(), 0..3));
    let item = item.prop_map(|(types, tags)| QueryItem { types, tags });
    prop_oneof![
        (stream(), expect()).prop_map(|(stream, expect)| Condition::Stream(stream, expect)),
        (vec(item, 0..3), cut()).prop_map(|(items, after)| Condition::NoMatch {
            query: Query { items },
            after,
        }),
    ]
}

fn append_error() -> impl Strategy<Value = AppendError> {
    let id = || any::<u128>().prop_map(EventId::from_u128);
    let rejection = prop_oneof![
        (id(), position()).prop_map(|(id, position)| Rejection::IdTaken { id, position }),
        id().prop_map(|id| Rejection::IdUntold { id }),
        (id(), position()).prop_map(|(id, position)| Rejection::PartlyWritten { id, position }),
        (cut(), cut()).prop_map(|(after, head)| Rejection::CutBeyondHead { after, head }),
        (cut(), cut()).prop_map(|(causes, head)| Rejection::FutureCause { causes, head }),
        (position(), position()).prop_map(|(first, second)| Rejection::Apart {
            first: "order/1".parse().unwrap(),
            first_in: first.partition,
            second: "stock/2".parse().unwrap(),
            second_in: second.partition,
        }),
        Just(Rejection::Unsupported("read backward")),
        Just(Rejection::ReadOnly),
        (text(), text(), text()).prop_map(|(category, owner, why)| Rejection::NotOwner {
            category,
            owner,
            why,
        }),
        text().prop_map(Rejection::Other),
    ];
    let millis = option::of((0..u64::MAX).prop_map(std::time::Duration::from_millis));
    prop_oneof![
        (stream(), expect(), option::of(any::<u64>())).prop_map(|(stream, expected, actual)| {
            AppendError::Conflict {
                stream,
                expected,
                actual,
            }
        }),
        (stream(), expect())
            .prop_map(|(stream, expected)| AppendError::Untold { stream, expected }),
        position().prop_map(|position| AppendError::Matched { position }),
        rejection.prop_map(AppendError::Rejected),
        (text(), millis).prop_map(|(reason, retry_after)| AppendError::Unavailable {
            reason,
            retry_after
        }),
        text().prop_map(|reason| AppendError::Unknown { reason }),
    ]
}

fn read_error() -> impl Strategy<Value = ReadError> {
    let damaged = (text(), any::<u64>(), text(), position(), position());
    prop_oneof![
        damaged.prop_map(|(file, offset, what, first, last)| ReadError::Damaged {
            file,
            offset,
            what,
            first,
            last,
        }),
        (text(), text()).prop_map(|(what, reason)| ReadError::Io { what, reason }),
        (cut(), cut()).prop_map(|(from, head)| ReadError::CutBeyondHead { from, head }),
        Just(ReadError::Unsupported("read backward")),
        text().prop_map(ReadError::Invalid),
        Just(ReadError::Closed),
    ]
}

/// Nobody counts so far.
const FAR: u64 = 1 << 60;

#[test]
fn a_packed_message_without_events_is_of_the_partition_of_its_reach() {
    let reach = Reach::of(PartitionId(3), 4..9);
    let batch = EventBatch::of_run(Vec::new(), reach.clone(), Vec::new());
    let read = step_of(step_to(&batch, true).unwrap()).unwrap();
    assert_eq!(read.batch.unwrap().reach(), Some(reach));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_append_comes_out_as_it_was(
        events in vec(event(), 0..4),
        conditions in vec(condition(), 0..3),
        as_json in any::<bool>(),
    ) {
        let append = Append { conditions, events };
        let message: p::AppendRequest = sent(&append_to(&append), as_json);
        prop_assert_eq!(append_of(message), Ok(append));
    }

    #[test]
    fn what_a_log_can_do_comes_out_as_it_was(
        scopes in vec(scope(), 2),
        no_match in option::of(scope()),
        flags in vec(any::<bool>(), 4),
        as_json in any::<bool>(),
    ) {
        let can = Capabilities {
            engine: "an engine",
            partitions: 3,
            batches: scopes[0],
            conditions: scopes[1],
            no_match,
            total_order: flags[0],
            backward_reads: flags[1],
            survives_restart: flags[2],
            survives_power_cut: flags[3],
            limits: Limits::default(),
        };
        let message = sent(&capabilities_to(&can), as_json);
        prop_assert_eq!(capabilities_of(&message), Ok(can));
    }

    #[test]
    fn a_layout_comes_out_as_it_was(
        counts in vec(1..9u32, 0..4),
        rest in 0..3u32,
        as_json in any::<bool>(),
    ) {
        let groups = counts.iter().enumerate().map(|(n, count)| Group {
            name: format!("group-{n}"),
            categories: vec![format!("a{n}"), format!("b{n}")],
            count: *count,
        });
        let layout = match rest {
            0 => Layout::one(),
            rest => Layout::new(groups.collect(), rest).unwrap(),
        };
        let message = layout_to(&layout).map(|message| sent(&message, as_json));
        prop_assert_eq!(layout_of(message.as_ref()), Ok(layout));
    }

    #[test]
    fn what_an_append_has_done_comes_out_as_it_was(
        places in vec((position(), any::<u64>()), 0..4),
        closure in cut(),
        repeated in any::<bool>(),
        as_json in any::<bool>(),
    ) {
        let places = places.into_iter();
        let places = places.map(|(position, version)| Placed { position, version }).collect();
        let mut appended = Appended::new(places, repeated);
        appended.closure.join(&closure);
        let message: p::AppendResponse = sent(&appended_to(&appended), as_json);
        prop_assert_eq!(appended_of(&message), Ok(appended));
    }

    #[test]
    fn appends_that_are_packed_come_out_as_they_were(
        appends in vec((any::<u64>(), vec(event(), 0..4), vec(condition(), 0..3)), 0..4),
    ) {
        let (mut packed, mut sent) = (Vec::new(), Vec::new());
        for (number, mut events, conditions) in appends {
            let append = Append { conditions, events: events.clone() };
            let has_room = pack_append(&mut packed, number, &append);
            let is_stream = |condition: &Condition| matches!(condition, Condition::Stream(..));
            prop_assert_eq!(has_room, append.conditions.iter().all(is_stream));
            if has_room {
                // Metadata that says nothing is none.
                for event in &mut events {
                    event.meta = event.meta.take().filter(|meta| !meta.is_empty());
                }
                sent.push((number, Ok(Append { events, ..append })));
            }
        }
        let unpacked = unpack_appends(&packed.into(), 1 << 20);
        prop_assert_eq!(unpacked, Ok(sent));
    }

    #[test]
    fn what_appends_have_done_comes_out_of_its_packed_form_as_it_was(
        all in vec((any::<u64>(), vec((0..2_u32, any::<u64>(), any::<u64>()), 0..4)), 0..4),
        repeated in any::<bool>(),
    ) {
        let (mut packed, mut sent, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for (number, places) in all {
            let places = places.into_iter().map(|(partition, offset, version)| Placed {
                position: Position { partition: PartitionId(partition), offset },
                version,
            });
            let appended = Appended::new(places.collect(), repeated);
            if pack_appended(&mut packed, number, &appended) {
                sent.push((number, appended));
            }
        }
        let unpacked = unpack_appended(&packed, |number, appended| read.push((number, appended)));
        prop_assert_eq!(unpacked, Ok(()));
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn appends_that_would_take_more_room_than_there_is_are_refused(
        events in vec(event(), 1..4),
        room in 0..1024_usize,
    ) {
        let mut packed = Vec::new();
        prop_assert!(pack_append(&mut packed, 7, &Append::events(events)));
        let unpacked = unpack_appends(&packed.into(), room);
        let is_refused = unpacked.is_err() || unpacked.is_ok_and(|all| all[0].1.is_err());
        prop_assert!(is_refused);
    }

    #[test]
    fn why_an_append_failed_comes_out_as_it_was(error in append_error(), as_json in any::<bool>()) {
        let message: p::AppendProblem = sent(&append_error_to(&error), as_json);
        prop_assert_eq!(append_error_of(message), error);
    }

    #[test]
    fn why_a_read_failed_comes_out_as_it_was(error in read_error(), as_json in any::<bool>()) {
        let message: p::ReadProblem = sent(&read_error_to(&error), as_json);
        prop_assert_eq!(read_error_of(message), error);
    }

    #[test]
    fn a_filter_comes_out_as_it_was(
        names in (vec(text(), 0..3), vec(text(), 0..3), vec((text(), text()), 0..3)),
        types in vec(event_type(), 0..3),
        streams in vec(stream(), 0..3),
        as_json in any::<bool>(),
    ) {
        let (categories, tags, headers) = names;
        let filter = Filter { categories, types, streams, headers, tags };
        let message: p::Filter = sent(&filter_to(&filter), as_json);
        prop_assert_eq!(filter_of(message), Ok(filter));
    }

    #[test]
    fn events_come_out_as_they_were_with_their_reach_and_their_appends(
        news in vec((event(), any::<u64>(), any::<u64>()), 1..5),
        first in 0..FAR,
        has_reach in any::<bool>(),
        packed in any::<bool>(),
        as_json in any::<bool>(),
    ) {
        let events: Vec<_> = (first..)
            .zip(&news)
            .map(|(offset, (new, version, at))| {
                Event::stored(new, Position::at(offset), *version, *at)
            })
            .collect();
        let reach = Reach::of(PartitionId(0), first..first + events.len() as u64);
        let batch = if has_reach {
            EventBatch::of_run(events.clone(), reach.clone(), vec![first])
        } else {
            events.clone().into()
        };
        let message: p::ReadResponse = sent(&step_to(&batch, packed).unwrap(), as_json);
        let read = step_of(message).unwrap().batch.unwrap();
        prop_assert_eq!(read.reach(), has_reach.then_some(reach));
        if has_reach {
            let last = Position::at(first + events.len() as u64 - 1);
            prop_assert_eq!(read.append_start(last), Position::at(first));
        }
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(read, events);
    }

    #[test]
    fn messages_that_are_joined_say_what_they_say_apart(
        news in vec((event(), any::<u64>(), any::<u64>()), 2..6),
        wanted in vec(any::<bool>(), 6),
        first in 0..FAR,
        cut in 1..6_usize,
        packed in any::<bool>(),
    ) {
        let run = |range: std::ops::Range<usize>| {
            let offset = |at: usize| first + at as u64;
            let events = range.clone().filter(|&at| wanted[at]).map(|at| {
                let (new, version, recorded_at) = &news[at];
                Event::stored(new, Position::at(offset(at)), *version, *recorded_at)
            });
            let reach = Reach::of(PartitionId(0), offset(range.start)..offset(range.end));
            let appends = range.clone().filter(|&at| wanted[at]).map(offset).collect();
            EventBatch::of_run(events.collect(), reach, appends)
        };
        let cut = cut.min(news.len());
        let whole = run(0..news.len());
        let mut joined = step_to(&run(0..cut), packed).unwrap();
        let rest = step_to(&run(cut..news.len()), packed).unwrap();
        // What goes as messages is not joined, unless there is none.
        let is_joined = join_steps(&mut joined, rest).is_none();
        prop_assert!(is_joined || !packed);
        if is_joined {
            let read = step_of(joined).unwrap().batch.unwrap();
            prop_assert_eq!(read.reach(), whole.reach());
            for event in &whole {
                let at = event.unwrap().position;
                prop_assert_eq!(read.append_start(at), whole.append_start(at));
            }
            let events = |batch: EventBatch| batch.into_iter().map(Result::unwrap).collect::<Vec<_>>();
            prop_assert_eq!(events(read), events(whole));
        }
    }

    #[test]
    fn what_is_packed_wrongly_is_refused(
        news in vec(event(), 1..5),
        first in 0..FAR,
        spoil in 0..6_usize,
    ) {
        let events: Vec<_> = (first..)
            .zip(&news)
            .map(|(offset, new)| Event::stored(new, Position::at(offset), 0, 0))
            .collect();
        let reach = Reach::of(PartitionId(0), first..first + events.len() as u64);
        let batch = EventBatch::of_run(events, reach, (first..).take(news.len()).collect());
        let mut message = step_to(&batch, true).unwrap();
        let packed = message.packed.as_option_mut().unwrap();
        match spoil {
            0 => packed.firsts[0] = first + news.len() as u64,
            1 => packed.counts[0] += 1,
            2 => packed.lengths[0] += 1,
            3 => packed.records.push(0),
            4 => packed.partition = 1,
            _ => packed.recorded_at_us.push(0),
        }
        prop_assert!(step_of(message).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_of_a_message_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = p::AppendRequest::decode_from_slice(&bytes) {
            drop(append_of(message));
        }
        if let Ok(message) = p::ReadResponse::decode_from_slice(&bytes) {
            drop(step_of(message));
        }
        if let Ok(message) = p::AppendProblem::decode_from_slice(&bytes) {
            append_error_of(message);
        }
        drop(unpack_appended(&bytes, |_, _| {}));
        drop(unpack_appends(&bytes.into(), 1 << 20));
    }
}
