//! The byte form of events: what it is, that it reads back, and that no bytes at all can
//! make its reader panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::record::{RecordError, Records, encode, encoded_len_max};
use anabranch_model::{
    Cut, EventId, EventType, Meta, NewEvent, PartitionId, Position, StreamId, Version,
};

fn event(id: u128, stream: &str, event_type: &str, data: &'static str) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(id),
        StreamId::new(stream).unwrap(),
        EventType::new(event_type).unwrap(),
        data,
    )
}

fn full_meta() -> Meta {
    Meta {
        content_type: Some("text/plain".to_owned()),
        source: Some("shop".to_owned()),
        causation_id: Some("a".to_owned()),
        correlation_id: Some("b".to_owned()),
        traceparent: Some("00-1-2-01".to_owned()),
        tags: vec!["sku:1".to_owned(), "country:é".to_owned()],
        headers: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        causes: {
            let mut causes = Cut::start();
            causes.set(PartitionId(3), 300);
            causes
        },
    }
}

/// Events that use every part of the format: streams, types and ids that repeat or not,
/// ids that step back, versions that do not follow, empty and missing metadata.
fn varied() -> (Vec<NewEvent>, Vec<Version>) {
    let mut events = vec![
        event(1 << 64, "order/1", "OrderPlaced", "{}"),
        event((1 << 64) + 1, "order/1", "OrderPlaced", "{\"a\":1}"),
        event((1 << 64) + (1 << 60), "order/1", "OrderPaid", ""),
        event(7, "order/1", "OrderPaid", "x"),
        event(8, "stock/é", "OrderPaid", "y"),
    ];
    events[1].meta = Some(Arc::new(full_meta()));
    events[2].schema_version = 70_000;
    events[3].meta = Some(Arc::default());
    (events, vec![0, 1, 2, 9, u64::MAX - 1])
}

fn encoded(events: &[NewEvent], versions: &[Version]) -> Vec<u8> {
    let mut body = Vec::new();
    encode(&mut body, events, versions);
    body
}

/// Reads everything there is in `body`, metadata too; the first error ends it.
fn read(body: &[u8]) -> Result<usize, RecordError> {
    let mut count = 0;
    for event in Records::new(body, Position::at(0), 0) {
        let event = event?;
        let _ = event.meta.tags().count();
        let _ = event.meta.header("k");
        let _ = event.meta.content_type();
        event.meta.decode()?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn events_read_back_as_they_were_written() {
    let (events, versions) = varied();
    let body = encoded(&events, &versions);
    let stored: Vec<_> = Records::new(&body, Position::at(40), 5)
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(stored.len(), events.len());
    for (index, (found, wanted)) in stored.iter().zip(&events).enumerate() {
        assert_eq!(found.position, Position::at(40 + index as u64));
        assert_eq!(found.version, versions[index]);
        assert_eq!(found.recorded_at, 5);
        assert_eq!(found.id, wanted.id);
        assert_eq!(found.stream, wanted.stream.as_str());
        assert_eq!(found.event_type, wanted.event_type.as_str());
        assert_eq!(found.schema_version, wanted.schema_version);
        assert_eq!(found.data, &wanted.data[..]);
        let meta = wanted.meta.as_deref().cloned().unwrap_or_default();
        assert_eq!(found.meta.decode(), Ok(meta));
    }
}

#[test]
fn the_bytes_are_as_the_module_describes_them() {
    let mut events = vec![
        event(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, "a/b", "T", "hi"),
        event(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f90, "a/b", "T", ""),
    ];
    events[1].meta_mut().tags.push("k:v".to_owned());
    let body = encoded(&events, &[300, 301]);
    let first = [
        &[0x00][..],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        &[3, b'a', b'/', b'b', 0xac, 0x02],
        &[1, b'T', 1],
        &[2, b'h', b'i'],
    ];
    let second = [
        &[0x01 | 0x02 | 0x04 | 0x08][..],
        &[0x80, 0x01],
        &[5, 6, 3, b'k', b':', b'v'],
        &[0],
    ];
    assert_eq!(body, [first.concat(), second.concat()].concat());
}

#[test]
fn the_estimate_of_the_length_is_never_too_small() {
    let (events, versions) = varied();
    assert!(encoded(&events, &versions).len() <= encoded_len_max(&events));
    let mut worst = event(u128::MAX, "a/b", "T", "");
    worst.schema_version = u32::MAX;
    worst.meta_mut().causes.set(PartitionId(u32::MAX), u64::MAX);
    let body = encoded(std::slice::from_ref(&worst), &[u64::MAX]);
    assert!(body.len() <= encoded_len_max(&[worst]));
}

#[test]
fn a_body_that_ends_early_gives_an_error_or_fewer_events() {
    let (events, versions) = varied();
    let body = encoded(&events, &versions);
    assert_eq!(read(&body), Ok(events.len()));
    for len in 0..body.len() {
        match read(&body[..len]) {
            Ok(count) => assert!(count < events.len(), "all events in {len} bytes"),
            Err(RecordError(reason)) => assert!(!reason.is_empty()),
        }
    }
}

#[test]
fn no_changed_byte_makes_the_reader_panic() {
    let (events, versions) = varied();
    let body = encoded(&events, &versions);
    let mut refused = 0;
    for at in 0..body.len() {
        for byte in 0..=u8::MAX {
            let mut changed = body.clone();
            changed[at] = byte;
            refused += usize::from(read(&changed).is_err());
        }
    }
    assert!(refused > body.len(), "only {refused} changes were refused");
}

#[test]
fn a_length_beyond_the_end_takes_no_memory_and_is_refused() {
    let mut body = vec![0; 17];
    body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(read(&body), Err(RecordError("it ends early")));
}

#[test]
fn flags_of_a_later_version_are_refused() {
    assert_eq!(read(&[0x10]), Err(RecordError("unknown flags")));
}

#[test]
fn a_first_record_cannot_repeat_what_is_not_there() {
    for flag in [0x01, 0x02, 0x04] {
        let refused = RecordError("the first record repeats one before");
        assert_eq!(read(&[flag]), Err(refused), "{flag}");
    }
}

/// A record of stream `a/b` with this metadata and no data.
fn with_meta(flags: u8, meta: &[u8]) -> Vec<u8> {
    let mut body = vec![0x08 | flags];
    body.extend([0; 16]);
    body.extend(b"\x03a/b\x00\x01T\x01");
    body.push(meta.len() as u8);
    body.extend(meta);
    body.push(0);
    body
}

#[test]
fn a_metadata_field_that_is_not_known_is_passed_over_unless_it_must_be_understood() {
    let decode = |meta: &[u8]| {
        let body = with_meta(0, meta);
        let event = Records::new(&body, Position::at(0), 1)
            .next()
            .unwrap()
            .unwrap();
        event.meta.decode()
    };
    // Field 9, field 300, then a tag.
    let known = decode(&[9, 1, 7, 0xac, 2, 1, 7, 6, 1, b'x']).unwrap();
    assert_eq!(known.tags, ["x"]);
    assert!(decode(&[0x41, 1, 7]).is_err());
    assert!(decode(&[0xc1, 2, 1, 7]).is_err());
    let body = with_meta(0x10, &[0x41, 1, 7]);
    let read = Records::new(&body, Position::at(0), 1).next().unwrap();
    assert!(
        read.is_err(),
        "who does not look at the metadata is stopped too"
    );
}
