//! What holds of every event, cut and token, over values drawn at random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_model::record::{Records, encode, encoded_len_max};
use anabranch_model::{
    Cut, Event, EventId, EventType, Limits, Meta, NewEvent, PartitionId, Position, Session,
    StreamId, TokenKey, TokenSeal, Version, to_cloud_event,
};
use proptest::prelude::*;

fn cuts() -> impl Strategy<Value = Cut> {
    prop::collection::btree_map(any::<u32>(), 1..=u64::MAX, 0..5).prop_map(|counts| {
        let mut cut = Cut::start();
        for (partition, count) in counts {
            cut.set(PartitionId(partition), count);
        }
        cut
    })
}

fn joined(a: &Cut, b: &Cut) -> Cut {
    let mut joined = a.clone();
    joined.join(b);
    joined
}

prop_compose! {
    fn metas()(
        texts in prop::collection::vec(prop::option::of(".{1,20}"), 5),
        tags in prop::collection::vec("\\PC{1,12}", 0..4),
        headers in prop::collection::btree_map("[a-zA-Zß_]{1,6}", ".{0,12}", 0..4),
        causes in cuts(),
    ) -> Meta {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().flatten();
        Meta {
            content_type: text(),
            source: text(),
            causation_id: text(),
            correlation_id: text(),
            traceparent: text(),
            tags,
            headers,
            causes,
        }
    }
}

prop_compose! {
    fn events()(
        id in any::<u128>(),
        stream in "[a-cß]/[a-c]{1,2}",
        event_type in "[A-C]",
        schema_version in 1u32..4,
        data in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            Just(b"{\"a\":[1,\"x\"]}".to_vec()),
            Just(b" null\n".to_vec()),
        ],
        meta in prop::option::of(metas()),
    ) -> NewEvent {
        let (stream, kind) = (StreamId::new(stream).unwrap(), EventType::new(event_type).unwrap());
        let mut event = NewEvent::new(EventId::from_u128(id), stream, kind, data);
        event.schema_version = schema_version;
        event.meta = meta.map(Arc::new);
        event
    }
}

fn read_all(body: &[u8]) -> (Vec<Event>, bool) {
    let mut events = Vec::new();
    for record in Records::new(body, Position::at(5), 6) {
        match record {
            Ok(event) if event.meta.decode().is_ok() => events.push(event.to_event()),
            _ => return (events, false),
        }
    }
    (events, true)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_reads_back_from_its_records(
        batch in prop::collection::vec((events(), any::<Version>()), 1..8)
    ) {
        let (events, versions): (Vec<_>, Vec<_>) = batch.into_iter()
            // No stream has so many events that its next version would be none.
            .map(|(event, version)| (event, version / 2))
            .unzip();
        let mut body = Vec::new();
        encode(&mut body, &events, &versions);
        prop_assert!(body.len() <= encoded_len_max(&events));
        let (read, whole) = read_all(&body);
        prop_assert!(whole);
        let stored = events.iter().zip(&versions).zip(5..).map(|((new, &version), offset)| {
            Event::stored(new, Position::at(offset), version, 6)
        });
        prop_assert_eq!(&read, &stored.collect::<Vec<_>>());
        for (new, event) in events.iter().zip(&read) {
            let meta = new.meta.as_deref().cloned().unwrap_or_default();
            prop_assert_eq!(event.meta().decode().unwrap(), meta);
        }
        // A cut body gives fewer events or an error, never other events.
        for end in 0..body.len() {
            let (fewer, _) = read_all(&body[..end]);
            prop_assert!(fewer.len() < read.len() && read.starts_with(&fewer));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_records_panic(body: Vec<u8>) {
        read_all(&body);
    }

    #[test]
    fn what_a_log_takes_is_printed_as_a_cloud_event(event in events()) {
        prop_assume!(Limits::default().check(std::slice::from_ref(&event)).is_ok());
        let stored = Event::stored(&event, Position::at(7), 3, 1_291_191_960_000_001);
        let line = to_cloud_event(&stored.as_ref()).unwrap();
        prop_assert!(!line.contains('\n'));
        let members: BTreeMap<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        for (name, value) in &members {
            if name == "data" || name == "data_base64" {
                continue;
            }
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{}", name);
            let text = value.as_str();
            prop_assert!(text.is_some_and(|text| !text.contains(char::is_control)), "{}", line);
        }
        let source = members["source"].as_str().unwrap();
        let given = event.meta.as_ref().is_some_and(|meta| meta.source.is_some());
        prop_assert!(given || source.is_ascii(), "{}", source);
    }

    #[test]
    fn joins_of_cuts_are_least_upper_bounds(a in cuts(), b in cuts(), c in cuts()) {
        let ab = joined(&a, &b);
        prop_assert_eq!(&ab, &joined(&b, &a));
        prop_assert_eq!(joined(&ab, &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(&joined(&a, &a), &a);
        prop_assert_eq!(&joined(&a, &Cut::start()), &a);
        prop_assert!(ab.covers(&a) && ab.covers(&b));
        // Least: each of its counts is one of theirs.
        let counts: BTreeSet<_> = a.iter().chain(b.iter()).collect();
        prop_assert!(ab.iter().all(|count| counts.contains(&count)));
        prop_assert_eq!(a.covers(&b), ab == a);
    }

    #[test]
    fn cuts_and_positions_read_back(cut in cuts(), partition: u32, offset: u64) {
        let text = serde_json::to_string(&cut).unwrap();
        prop_assert_eq!(serde_json::from_str::<Cut>(&text).unwrap(), cut);
        let position = Position { partition: PartitionId(partition), offset };
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    }

    #[test]
    fn a_token_gives_back_its_session_and_no_other_text_gives_one(
        wrote in cuts(), cut in cuts(), dependencies in cuts(), at: prop::sample::Index, with: char,
        text in ".{0,80}",
    ) {
        let seal = TokenSeal::new(7, 3, TokenKey { id: 1, secret: [1; 32] });
        let mut session = Session::new();
        session.wrote(&wrote);
        session.read(&cut, &dependencies);
        let token = seal.seal(&session);
        prop_assert_eq!(seal.open(&token), Ok(session));
        let at = at.index(token.len());
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        prop_assert!(changed == token || seal.open(&changed).is_err());
        prop_assert!(seal.open(&text).is_err());
    }
}
