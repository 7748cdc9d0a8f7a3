//! Data and metadata come back byte for byte.

use std::sync::Arc;

use anabranch_model::{Cut, Meta, NewEvent, PartitionId};
use bytes::Bytes;

use crate::conformance::check::just_these;
use crate::conformance::make::set_bytes;
use crate::conformance::stage::Stage;

/// Writes each as an event, one by one and once more in one batch, and reads them back.
fn kept(stage: &Stage<'_>, make: &[&dyn Fn(&mut NewEvent)]) {
    let events = || -> Vec<NewEvent> {
        let event = |make: &&dyn Fn(&mut NewEvent)| {
            let mut event = stage.event("order/1");
            make(&mut event);
            event
        };
        make.iter().map(event).collect()
    };
    let mut written: Vec<_> = events().into_iter().map(|e| stage.put(e)).collect();
    written.extend(stage.put_all(events()));
    just_these(&stage.read_all(), &written);
}

fn data_kept(stage: &Stage<'_>, data: &[Bytes]) {
    let set: Vec<_> = data
        .iter()
        .map(|data| move |event: &mut NewEvent| set_bytes(event, data.clone()))
        .collect();
    let set: Vec<&dyn Fn(&mut NewEvent)> = set.iter().map(|set| set as _).collect();
    kept(stage, &set);
}

fn meta_kept(stage: &Stage<'_>, meta: &[Meta]) {
    let set: Vec<_> = meta
        .iter()
        .map(|meta| move |event: &mut NewEvent| event.meta = Some(Arc::new(meta.clone())))
        .collect();
    let set: Vec<&dyn Fn(&mut NewEvent)> = set.iter().map(|set| set as _).collect();
    kept(stage, &set);
}

pub fn empty_data_is_kept(stage: &mut Stage<'_>) {
    data_kept(
        stage,
        &[Bytes::new(), Bytes::from_static(b"x"), Bytes::new()],
    );
}

pub fn every_byte_is_kept(stage: &mut Stage<'_>) {
    let all: Bytes = (0..=255).collect();
    let single: Vec<Bytes> = (0..=255u8).map(|byte| Bytes::from(vec![byte])).collect();
    data_kept(stage, &[all]);
    stage.put_all(
        single
            .into_iter()
            .map(|data| {
                let mut event = stage.event("order/2");
                set_bytes(&mut event, data);
                event
            })
            .collect(),
    );
}

pub fn data_of_zeros_is_kept(stage: &mut Stage<'_>) {
    data_kept(
        stage,
        &[1, 511, 512, 4_096, 65_536].map(|len| vec![0; len].into()),
    );
}

pub fn data_around_powers_of_two_is_kept(stage: &mut Stage<'_>) {
    let around = |bits: u32| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1];
    let lens = [7, 8, 12, 14, 16].map(around);
    let data = |&len: &usize| (0..len).map(|n| n as u8).collect();
    data_kept(
        stage,
        &lens.as_flattened().iter().map(data).collect::<Vec<_>>(),
    );
}

pub fn data_of_a_mebibyte_is_kept(stage: &mut Stage<'_>) {
    let len = stage.limits().data_bytes_max.min(1 << 20);
    let data: Bytes = (0..len).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect();
    data_kept(stage, &[data]);
}

pub fn data_that_is_no_json_and_no_text_is_kept(stage: &mut Stage<'_>) {
    let data: [&'static [u8]; 6] = [
        b"{",
        b"\xff\xfe\x00",
        b"{\n}\r\n",
        b"null",
        b"\xed\xa0\x80",
        b"1e400",
    ];
    data_kept(stage, &data.map(Bytes::from_static));
}

pub fn small_and_large_events_in_one_batch_are_kept(stage: &mut Stage<'_>) {
    let large = stage.limits().data_bytes_max.min(200_000);
    data_kept(
        stage,
        &[0, large, 1, 0, large / 2, 3].map(|len| vec![7; len].into()),
    );
}

pub fn an_event_without_data_is_kept_without(stage: &mut Stage<'_>) {
    let no_data = |event: &mut NewEvent| event.data = Bytes::new();
    let no_data_of_a_type = |event: &mut NewEvent| {
        event.data = Bytes::new();
        event.meta_mut().content_type = Some("application/cloudevents+json".to_owned());
    };
    kept(stage, &[&no_data, &no_data_of_a_type]);
}

pub fn json_is_kept_byte_for_byte(stage: &mut Stage<'_>) {
    let data = [
        "{}",
        " null\n",
        "{\"a\" : 1.50, \"a\":\"\\u00e9\"}",
        "\"\\ud83d\\ude00\"",
        "123456789012345678901234567890.0e-7",
    ];
    let set = data.map(|data| move |event: &mut NewEvent| event.data = data.into());
    let set: Vec<&dyn Fn(&mut NewEvent)> = set.iter().map(|set| set as _).collect();
    kept(stage, &set);
}

pub fn no_metadata_reads_as_none(stage: &mut Stage<'_>) {
    stage.put(stage.event("order/1"));
    let mut event = stage.event("order/1");
    event.meta_mut();
    stage.put(event);
    for event in stage.read_all() {
        assert!(event.meta().is_empty(), "{event:?}");
    }
}

pub fn the_content_type_is_kept(stage: &mut Stage<'_>) {
    let meta = |text: &str| Meta {
        content_type: Some(text.to_owned()),
        ..Meta::default()
    };
    meta_kept(
        stage,
        &[meta("application/cbor"), meta("text/plain; charset=utf-8")],
    );
    let read = stage.read_all();
    assert_eq!(read[0].meta().content_type(), Some("application/cbor"));
}

pub fn the_source_is_kept(stage: &mut Stage<'_>) {
    let meta = Meta {
        source: Some("orders".to_owned()),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
}

pub fn the_causation_id_is_kept(stage: &mut Stage<'_>) {
    let meta = Meta {
        causation_id: Some("018f3f00-0000-7000-8000-000000000001".to_owned()),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
}

pub fn the_correlation_id_is_kept(stage: &mut Stage<'_>) {
    let meta = Meta {
        correlation_id: Some("story-1".to_owned()),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
}

pub fn the_trace_context_is_kept(stage: &mut Stage<'_>) {
    let meta = Meta {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
}

pub fn tags_keep_their_order_and_their_repeats(stage: &mut Stage<'_>) {
    let tags = ["z:1", "a:1", "z:1", "ä:ß", ":", "a"];
    let meta = Meta {
        tags: tags.map(str::to_owned).to_vec(),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
    let read = stage.read_all();
    assert!(read[0].meta().tags().eq(tags));
}

pub fn headers_keep_any_text(stage: &mut Stage<'_>) {
    let long = "x".repeat(5_000);
    let values = ["", " ", "a\nb", "\u{0}", "ä", "=", long.as_str()];
    let headers = values.iter().enumerate();
    let meta = Meta {
        headers: headers
            .map(|(n, value)| (format!("name {n}"), (*value).to_owned()))
            .collect(),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
    let read = stage.read_all();
    assert_eq!(read[0].meta().header("name 2"), Some("a\nb"));
    assert_eq!(read[0].meta().header("name 0"), Some(""));
    assert_eq!(read[0].meta().header("name"), None);
}

pub fn causes_are_kept(stage: &mut Stage<'_>) {
    if stage.capabilities().partitions > 1 {
        // What of them is kept depends on what was said before; there are cases of their own.
        return;
    }
    let mut causes = Cut::at(7);
    causes.set(PartitionId(3), u64::MAX);
    causes.set(PartitionId(u32::MAX), 1);
    let meta = Meta {
        causes: causes.clone(),
        ..Meta::default()
    };
    meta_kept(stage, &[meta]);
    for event in stage.read_all() {
        let meta = event.meta().decode();
        assert_eq!(meta.map(|meta| meta.causes), Ok(causes.clone()));
    }
}

pub fn all_metadata_together_is_kept(stage: &mut Stage<'_>) {
    let meta = Meta {
        content_type: Some("text/plain".to_owned()),
        source: Some("orders".to_owned()),
        causation_id: Some("a".to_owned()),
        correlation_id: Some("b".to_owned()),
        traceparent: Some("c".to_owned()),
        tags: vec!["t:1".to_owned(), "t:2".to_owned()],
        headers: [
            ("h".to_owned(), "v".to_owned()),
            ("i".to_owned(), String::new()),
        ]
        .into(),
        causes: Cut::start(),
    };
    meta_kept(stage, &[meta.clone(), Meta::default(), meta]);
}

pub fn the_schema_version_is_kept(stage: &mut Stage<'_>) {
    let set = |version| move |event: &mut NewEvent| event.schema_version = version;
    let (a, b, c, d) = (set(1), set(2), set(2), set(u32::MAX));
    kept(stage, &[&a, &b, &c, &a, &d, &b]);
}

pub fn metadata_does_not_leak_to_the_next_event(stage: &mut Stage<'_>) {
    let events = vec![
        stage.event("order/1").with_tag("a:1").with_header("h", "1"),
        stage.event("order/1"),
        stage.event("order/1").with_tag("b:1"),
    ];
    let written = stage.put_all(events);
    just_these(&stage.read_all(), &written);
}
