use super::*;
use anabranch_log::Expect;
use anabranch_model::{Event, Meta, Position, to_cloud_event};

use crate::base64::base64_decode;

const DERIVED: EventId = EventId::from_u128(77);

fn read(line: &str) -> EventLine {
    match parse(line.as_bytes(), DERIVED).unwrap() {
        Parsed::Event(event) => event,
        Parsed::OfPlatform => panic!("taken for an event of the platform: {line}"),
    }
}

#[test]
fn events_of_the_platform_are_known_as_such() {
    let line = |rest: &str| {
        let line = format!(r#"{{"specversion":"1.0","type":"T","subject":"$sys/x"{rest}}}"#);
        parse(line.as_bytes(), DERIVED)
    };
    assert_eq!(line(r#","position":"0:7""#), Ok(Parsed::OfPlatform));
    assert!(line("").unwrap_err().reason.contains("reserved"));
}

#[test]
fn a_plain_line_is_an_event_with_its_data_byte_for_byte() {
    let line = read(r#"{"stream":"order/1","type":"Placed","data": {"a" : 1.50, "a":"\u00e9"} }"#);
    assert_eq!(line.event.stream.as_str(), "order/1");
    assert_eq!(line.event.event_type.as_str(), "Placed");
    assert_eq!(&line.event.data[..], br#"{"a" : 1.50, "a":"\u00e9"}"#);
    assert_eq!(line.event.id, DERIVED);
    assert_eq!(line.event.meta, None);
    assert_eq!(line.expect, Expect::Any);
}

#[test]
fn a_plain_line_may_bring_id_headers_tags_and_expectation() {
    let line = read(
        r#"{"id":"018f0000-0000-7000-8000-000000000001","stream":"a/b","type":"T","data":1,"headers":{"h":"v"},"tags":["k:v"],"expect":3}"#,
    );
    let meta = line.event.meta.unwrap();
    assert_eq!(
        line.event.id.to_string(),
        "018f0000-0000-7000-8000-000000000001"
    );
    assert_eq!(meta.headers["h"], "v");
    assert_eq!(meta.tags, ["k:v"]);
    assert_eq!(line.expect, Expect::At(3));
    for (text, expect) in [
        ("\"empty\"", Expect::Empty),
        ("\"exists\"", Expect::Exists),
        ("\"any\"", Expect::Any),
        ("\"3\"", Expect::At(3)),
    ] {
        let line = read(&format!(
            r#"{{"stream":"a/b","type":"T","data":1,"expect":{text}}}"#
        ));
        assert_eq!(line.expect, expect);
    }
}

#[test]
fn a_bad_line_names_the_column_and_the_reason() {
    let deep = format!(
        r#"{{"stream":"a/b","type":"T","data":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let names: Vec<String> = (0..2_000).map(|n| format!("\"{n}\":1")).collect();
    let crowded = format!("{{{}}}", names.join(","));
    for (line, column, reason) in [
        (&br#"{"stream":"a/b","type":"T""#[..], 26, "EOF"),
        (br#"{"stream":"a/b",}"#, 17, "trailing comma"),
        (
            br#"{"stream":"order","type":"T","data":1}"#,
            11,
            "category/key",
        ),
        (
            br#"{"stream":"$sys/x","type":"T","data":1}"#,
            11,
            "reserved",
        ),
        (br#"{"stream":"a/b","type":"","data":1}"#, 24, "empty"),
        (br#"{"stream":"a/b","type":7,"data":1}"#, 24, "not a text"),
        (br#"{"stream":"a/b","data":1}"#, 1, "`type` is missing"),
        (br#"{"stream":"a/b","type":"T"}"#, 1, "`data` is missing"),
        (
            br#"{"stream":"a/b","type":"T","data":1,"id":"x"}"#,
            42,
            "UUID",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"what":2}"#,
            44,
            "what",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"type":"U"}"#,
            44,
            "twice",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"expect":-1}"#,
            46,
            "expect",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"headers":{"a":1}}"#,
            52,
            "text",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"headers":{"a":"1","a":"2"}}"#,
            60,
            "twice",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1,"tags":"x"}"#,
            44,
            "list",
        ),
        (
            br#"{"stream":"a/b","type":"T","data":1} {}"#,
            38,
            "trailing",
        ),
        (br#"[{"stream":"a/b"}]"#, 1, "an array"),
        (br#"42"#, 2, "object"),
        ("{\"stream\":\"é/b\",\"type\":\"".as_bytes(), 24, "EOF"),
        (b"{\"stream\":\"a/\xff\"}", 14, "0xff is not UTF-8"),
        (br#"{"specversion":"0.3"}"#, 16, "specversion"),
        (br#"{"specversion":"1.0","type":"T"}"#, 1, "subject"),
        (
            br#"{"specversion":"1.0","type":"T","subject":"a/b","data_base64":"x"}"#,
            63,
            "base64",
        ),
        (
            br#"{"specversion":"1.0","type":"T","subject":"a/b","x":{}}"#,
            53,
            "`x`",
        ),
        (deep.as_bytes(), 162, "deeper"),
        (crowded.as_bytes(), 7_899, "more than 1000 names"),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let error = parse(line, DERIVED).expect_err(&shown);
        assert!(error.reason.contains(reason), "{shown}: {}", error.reason);
        assert_eq!(error.column, column, "{shown}: {}", error.reason);
    }
}

#[test]
fn what_is_written_as_a_cloud_event_reads_back() {
    let mut event = read(r#"{"stream":"order/1","type":"Placed","data":{"a": 1}}"#).event;
    event.schema_version = 3;
    *event.meta_mut() = Meta {
        content_type: None,
        source: Some("shop".to_owned()),
        causation_id: Some("c1".to_owned()),
        correlation_id: Some("c2".to_owned()),
        traceparent: Some("00-x".to_owned()),
        tags: vec!["a:1,2".to_owned(), "b\\".to_owned()],
        headers: [
            ("shop", "\"x\""),
            ("X-Request-Id", "1"),
            ("user_id", "2"),
            ("größe", "3"),
            ("lines", "a\nb"),
            ("headers", "{}"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        causes: parse_cut("1:4,2:9").unwrap(),
    };
    for (media_type, data) in [
        (None, &b"{\"a\": 1}"[..]),
        (None, b" {}"),
        (None, b""),
        (Some("text/plain"), b"one\ntwo \"three\""),
        (Some("text/plain"), b"\xff\xfe\x00"),
        (Some("application/octet-stream"), b"0123456789"),
        (Some("application/vnd.x+json"), b"[1,  2]"),
    ] {
        event.meta_mut().content_type = media_type.map(str::to_owned);
        event.data = data.to_vec().into();
        let stored = Event::stored(&event, Position::at(7), 3, 5);
        let json = to_cloud_event(&stored.as_ref()).unwrap();
        let mut back = read(&json).event;
        let time = back.meta_mut().headers.remove("originaltime");
        assert_eq!(back, event, "{json}");
        assert_eq!(time.as_deref(), Some("1970-01-01T00:00:00.000005Z"));
    }
}

#[test]
fn an_event_of_another_system_keeps_what_we_have_no_place_for() {
    let line = read(
        r#"{"specversion":"1.0","id":"A-1","source":"/erp","type":"T","subject":"a/b","time":"2010-12-01T08:26:00Z","dataschema":"https://x/y","flag":true,"count":42,"gone":null,"data":"x"}"#,
    );
    let meta = line.event.meta.clone().unwrap();
    let headers: Vec<_> = meta
        .headers
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        headers,
        [
            "count=42",
            "flag=true",
            "originaldataschema=https://x/y",
            "originalid=A-1",
            "originaltime=2010-12-01T08:26:00Z"
        ]
    );
    assert_eq!(&line.event.data[..], b"\"x\"");
    let again =
        read(r#"{"specversion":"1.0","id":"A-1","source":"/erp","type":"T","subject":"a/b"}"#);
    let other =
        read(r#"{"specversion":"1.0","id":"A-1","source":"/crm","type":"T","subject":"a/b"}"#);
    assert_eq!(line.event.id, again.event.id);
    assert_ne!(line.event.id, other.event.id);
}

#[test]
fn events_of_two_producers_with_one_uuid_are_two_events() {
    let id = "0197c3f0-9a52-7d31-8c4e-2f6b1d0a7e95";
    let of = |source: &str| {
        let line = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","subject":"a/1","type":"T","data":{{}}}}"#
        );
        read(&line).event
    };
    let (shop, billing) = (of("/shop"), of("/billing"));
    assert_ne!(shop.id, billing.id);
    assert_eq!(shop.id, of("/shop").id, "a repeat is a repeat");
    let kept = shop.meta.unwrap().headers["originalid"].clone();
    assert_eq!(kept, id);
}

#[test]
fn a_source_that_is_called_as_the_category_tells_events_apart_too() {
    for places in ["", r#""position":"0:1","sequence":"1","#] {
        let of = |category: &str| {
            let line = format!(
                r#"{{"specversion":"1.0","id":"Z-1","source":"/{category}",{places}"subject":"{category}/1","type":"T"}}"#
            );
            read(&line).event.id
        };
        assert_ne!(of("alpha"), of("beta"));
    }
}

#[test]
fn a_sequence_and_a_position_of_another_producer_are_kept() {
    let line = r#"{"specversion":"1.0","id":"s-1","source":"/sensor","subject":"sensor/1","type":"T","sequence":"seq-00042","position":"pos-17","data":{}}"#;
    let headers = read(line).event.meta.unwrap().headers.clone();
    assert_eq!(headers["originalsequence"], "seq-00042");
    assert_eq!(headers["originalposition"], "pos-17");
}

#[test]
fn tags_and_causes_of_another_producer_are_kept_as_they_are() {
    let line = r#"{"specversion":"1.0","id":"1","source":"/x","subject":"a/1","type":"T","tags":",a,,b","causes":"rain","correlationid":7,"headers":"{\"a\":\"b\"}","data":{}}"#;
    let meta = read(line).event.meta.unwrap();
    assert_eq!(meta.headers["originaltags"], ",a,,b");
    assert_eq!(meta.headers["originalcauses"], "rain");
    assert_eq!(meta.headers["headers"], r#"{"a":"b"}"#);
    assert_eq!(meta.correlation_id.as_deref(), Some("7"));
    assert!(meta.tags.is_empty());
}

#[test]
fn a_cloud_event_without_data_is_an_event_without_data() {
    let line = r#"{"specversion":"1.0","id":"1","source":"/x","subject":"a/1","type":"T"}"#;
    let event = read(line).event;
    assert!(event.data.is_empty());
    let stored = Event::stored(&event, Position::at(7), 3, 5);
    let json = to_cloud_event(&stored.as_ref()).unwrap();
    assert!(!json.contains("data"), "{json}");
    assert!(read(&json).event.data.is_empty());
}

#[test]
fn data_in_base64_that_is_called_json_must_be_json() {
    let line = |media_type: &str| {
        let line = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/x","subject":"a/1","type":"T"{media_type},"data_base64":"//4="}}"#
        );
        parse(line.as_bytes(), DERIVED)
    };
    assert!(line("").is_ok(), "bytes without a media type are bytes");
    let typed = line(r#","datacontenttype":"Application/JSON""#);
    assert!(typed.unwrap_err().reason.contains("holds no JSON"));
    assert!(line(r#","datacontenttype":"image/png""#).is_ok());
}

#[test]
fn an_empty_id_is_refused() {
    let line = r#"{"specversion":"1.0","id":"","source":"/x","subject":"a/1","type":"T"}"#;
    let error = parse(line.as_bytes(), DERIVED).unwrap_err();
    assert!(error.reason.contains("`id` is empty"), "{}", error.reason);
}

#[test]
fn base64_reads_what_is_base64_and_nothing_else() {
    for (text, bytes) in [
        ("", &b""[..]),
        ("Zg==", b"f"),
        ("Zm8=", b"fo"),
        ("Zm9v", b"foo"),
        ("//4=", b"\xff\xfe"),
    ] {
        assert_eq!(base64_decode(text).as_deref(), Some(bytes));
    }
    for bad in [
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "Z===", "Zm 9", "Zg==Zg==",
    ] {
        assert_eq!(base64_decode(bad), None, "{bad:?} was accepted");
    }
}

#[test]
fn no_cut_off_line_is_an_event() {
    let line = r#"{"stream":"order/é","type":"T","data":{"a":[1,"x"]},"tags":["k:v"]}"#.as_bytes();
    for end in 0..line.len() {
        assert!(
            parse(&line[..end], DERIVED).is_err(),
            "the first {end} bytes were accepted"
        );
    }
}

#[test]
fn a_cloud_event_that_is_sent_says_which_one_it_is() {
    let whole = r#"{"specversion":"1.0","id":"1","source":"/s","type":"T","subject":"a/b"}"#;
    assert!(parse_cloud_event(whole.as_bytes()).is_ok());
    for (part, name) in [
        (r#""specversion":"1.0","#, "specversion"),
        (r#""id":"1","#, "id"),
        (r#""source":"/s","#, "source"),
        (r#""type":"T","#, "type"),
    ] {
        let without = whole.replace(part, "");
        let error = parse_cloud_event(without.as_bytes()).unwrap_err();
        assert!(error.reason.starts_with(&format!("`{name}` is missing")));
    }
    let plain = br#"{"stream":"a/b","type":"T","data":1}"#;
    assert!(parse_cloud_event(plain).is_err());
    let printed = whole
        .replace("a/b", "$sys/x")
        .replace('}', r#","position":"0:7"}"#);
    let error = parse_cloud_event(printed.as_bytes()).unwrap_err();
    assert!(error.reason.contains("of the platform"), "{}", error.reason);
}

#[test]
fn a_cloud_event_in_parts_is_the_one_that_is_whole() {
    let mut attributes: BTreeMap<String, String> = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "/s"),
        ("type", "T"),
        ("subject", "a/b"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let of = |attributes: &_, data: &'static [u8]| cloud_event_of(attributes, data.into());
    let bytes = of(&attributes, b"\xff").unwrap();
    let whole = r#"{"specversion":"1.0","id":"1","source":"/s","type":"T","subject":"a/b","data_base64":"/w=="}"#;
    assert_eq!(Ok(bytes), parse_cloud_event(whole.as_bytes()));
    assert_eq!(of(&attributes, b"").unwrap().data, "");
    attributes.insert("datacontenttype".to_owned(), "application/json".to_owned());
    assert!(of(&attributes, b"\xff").is_err());
    let json = of(&attributes, b"[1]").unwrap();
    let whole =
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"T","subject":"a/b","data":[1]}"#;
    assert_eq!(Ok(json), parse_cloud_event(whole.as_bytes()));
}
