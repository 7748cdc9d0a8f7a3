//! The JSON form of a stored event: CloudEvents 1.0, structured mode.
//! Source: CloudEvents 1.0.2, sections 3.1 and "JSON event format" 3.

use std::borrow::Cow;
use std::io::Write as _;

use crate::event::EventRef;
use crate::json_text::{JSON_DEPTH_MAX, check_json};
use crate::meta::Meta;
use crate::record::RecordError;

/// The names that the JSON form has for the parts of an event. Headers stand beside them,
/// so a header cannot have one of these names.
pub const ATTRIBUTES: [&str; 17] = [
    "specversion",
    "id",
    "type",
    "source",
    "subject",
    "time",
    "sequence",
    "position",
    "dataschema",
    "causationid",
    "correlationid",
    "traceparent",
    "causes",
    "tags",
    "datacontenttype",
    "data",
    "data_base64",
];

/// The attribute that holds, as the text of a JSON object, the headers that CloudEvents has no
/// attributes for: those whose name is not of lower-case ASCII letters and digits, whose value
/// has control characters, or whose name is this one or that of another part of an event.
pub const HEADERS: &str = "headers";

/// The JSON form of `event`, on one line.
///
/// Each header is an attribute, or stands in the attribute [`HEADERS`]. An event without data has
/// no `data`; its media type is left out where none was given. 64-bit numbers are strings. JSON data stands in `data` byte for byte as it was
/// appended; where that could not be read back byte for byte, or not by every parser, it
/// stands in `data_base64`. Tags are joined by commas; a comma or backslash in a tag has a
/// backslash before it.
pub fn to_cloud_event(event: &EventRef<'_>) -> Result<String, RecordError> {
    let mut out = Vec::with_capacity(event.data.len() + 384);
    write_cloud_event(event, &mut out)?;
    Ok(String::from_utf8(out).expect("JSON text is UTF-8"))
}

/// As [`to_cloud_event`], appended to `out`.
pub fn write_cloud_event(event: &EventRef<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let meta = if event.meta.is_empty() {
        Meta::default()
    } else {
        event.meta.decode()?
    };
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    attribute(out, "id", &event.id.to_string());
    attribute(out, "type", event.event_type);
    match &meta.source {
        Some(source) => attribute(out, "source", source),
        None => attribute(out, "source", &format!("/{}", uri_part(event.category()))),
    }
    attribute(out, "subject", event.stream);
    attribute(out, "time", &rfc3339(event.recorded_at));
    attribute(out, "sequence", &event.version.to_string());
    attribute(out, "position", &event.position.to_string());
    if event.schema_version != 1 {
        attribute(
            out,
            "dataschema",
            &format!(
                "urn:event:{}:{}",
                uri_part(event.event_type),
                event.schema_version
            ),
        );
    }
    for (name, value) in [
        ("causationid", &meta.causation_id),
        ("correlationid", &meta.correlation_id),
        ("traceparent", &meta.traceparent),
    ] {
        if let Some(value) = value {
            attribute(out, name, value);
        }
    }
    if meta.causes.iter().next().is_some() {
        attribute(out, "causes", &meta.causes.to_string());
    }
    if !meta.tags.is_empty() {
        let escape = |tag: &String| tag.replace('\\', "\\\\").replace(',', "\\,");
        let tags: Vec<String> = meta.tags.iter().map(escape).collect();
        attribute(out, "tags", &tags.join(","));
    }
    let (plain, others): (Vec<_>, Vec<_>) =
        (meta.headers.iter()).partition(|(name, value)| is_extension(name, value));
    for (name, value) in plain {
        attribute(out, name, value);
    }
    if !others.is_empty() {
        let mut object = Vec::new();
        for (name, value) in others {
            attribute(&mut object, name, value);
        }
        object[0] = b'{';
        object.push(b'}');
        attribute(out, HEADERS, &escaped(&String::from_utf8_lossy(&object)));
    }
    let has_data = !event.data.is_empty();
    let content_type = match meta.content_type.as_deref() {
        Some(content_type) => Some(content_type),
        None => has_data.then_some("application/json"),
    };
    if let Some(content_type) = content_type {
        attribute(out, "datacontenttype", content_type);
        if has_data || !is_json_media_type(content_type) {
            write_data(event.data, content_type, out);
        }
    }
    out.push(b'}');
    Ok(())
}

/// Whether a header can be an extension attribute. Source: CloudEvents 1.0.2, sections 3
/// ("Naming conventions") and 3.4 ("Type system": String).
fn is_extension(name: &str, value: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.bytes().all(is_name)
        && name != HEADERS
        && !ATTRIBUTES.contains(&name)
        && !value.chars().any(is_no_text)
}

/// Characters that texts of CloudEvents do not have: controls, and code points that are no
/// characters.
fn is_no_text(c: char) -> bool {
    c.is_control() || matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe
}

/// `json` without characters that texts of CloudEvents do not have: those that serde_json leaves
/// in texts, written as escapes.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_no_text(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` as a part of a URI: bytes that stand for nothing else there stay, others are escaped
/// with `%`.
pub fn uri_part(text: &str) -> Cow<'_, str> {
    let stays = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    if text.bytes().all(stays) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out.into()
}

fn write_data(data: &[u8], content_type: &str, out: &mut Vec<u8>) {
    let is_json = is_json_media_type(content_type);
    if is_json && stands_as_it_is(data) {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    } else if let (false, Ok(text)) = (is_json, std::str::from_utf8(data)) {
        attribute(out, "data", text);
    } else {
        out.extend_from_slice(b",\"data_base64\":\"");
        base64(data, out);
        out.push(b'"');
    }
}

/// Whether data of this media type stands in `data` as JSON, not as text.
pub fn is_json_media_type(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    // Media types are compared without regard to case.
    let essence = essence.to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Whether the nesting of well-formed JSON is deeper than [`JSON_DEPTH_MAX`].
pub fn is_json_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Whether a parser of the line would give back these very bytes: JSON on one line, without
/// white space around it.
fn stands_as_it_is(data: &[u8]) -> bool {
    let bare = |end: Option<&u8>| end.is_some_and(|b| !b.is_ascii_whitespace());
    bare(data.first())
        && bare(data.last())
        && !data.iter().any(|&b| b == b'\n' || b == b'\r')
        && check_json(data).is_ok()
}

fn attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    serde_json::to_writer(&mut *out, name).expect("writing to memory does not fail");
    out.push(b':');
    serde_json::to_writer(&mut *out, value).expect("writing to memory does not fail");
}

fn base64(data: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in data.chunks(3) {
        let b = [
            chunk[0],
            chunk.get(1).copied().unwrap_or(0),
            chunk.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from(b[0]) << 16 | u32::from(b[1]) << 8 | u32::from(b[2]);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]);
            } else {
                out.push(b'=');
            }
        }
    }
}

/// RFC 3339 text, UTC with microseconds, of a time in microseconds since 1970.
pub fn rfc3339(unix_micros: u64) -> String {
    let (seconds, micros) = (unix_micros / 1_000_000, unix_micros % 1_000_000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date in the proleptic Gregorian calendar, in eras of 400 years that
    // begin on 1 March (H. Hinnant, "chrono-compatible low-level date algorithms").
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = Vec::with_capacity(27);
    write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60
    )
    .expect("writing to memory does not fail");
    String::from_utf8(text).expect("digits are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventId, EventType, NewEvent, Position, StreamId};

    fn event(data: &'static [u8]) -> NewEvent {
        NewEvent::new(
            EventId::from_u128(1),
            StreamId::new("order/1").unwrap(),
            EventType::new("OrderPlaced").unwrap(),
            data,
        )
    }

    fn json(new: &NewEvent) -> String {
        let stored = Event::stored(new, Position::at(7), 3, 1_291_191_960_000_001);
        to_cloud_event(&stored.as_ref()).unwrap()
    }

    #[test]
    fn an_event_reads_as_a_cloud_event() {
        let new = event(br#"{"total": 1.50}"#)
            .with_tag("sku:1")
            .with_header("shop", "x");
        assert_eq!(
            json(&new),
            "{\"specversion\":\"1.0\",\"id\":\"00000000-0000-0000-0000-000000000001\",\
             \"type\":\"OrderPlaced\",\"source\":\"/order\",\"subject\":\"order/1\",\
             \"time\":\"2010-12-01T08:26:00.000001Z\",\"sequence\":\"3\",\"position\":\"0:7\",\
             \"tags\":\"sku:1\",\"shop\":\"x\",\"datacontenttype\":\"application/json\",\
             \"data\":{\"total\": 1.50}}"
        );
    }

    #[test]
    fn data_that_json_cannot_hold_byte_for_byte_is_base64() {
        assert!(json(&event(b"{\n}")).ends_with("\"data_base64\":\"ewp9\"}"));
        assert!(json(&event(b"\xff\xfe")).ends_with("\"data_base64\":\"//4=\"}"));
        assert!(json(&event(b" {}")).ends_with("\"data_base64\":\"IHt9\"}"));
        assert!(json(&event(b"{}\t")).ends_with("\"data_base64\":\"e30J\"}"));
    }

    #[test]
    fn an_event_without_data_has_no_data_in_json() {
        let mut new = event(b"");
        assert!(json(&new).ends_with("\"position\":\"0:7\"}"));
        new.meta_mut().content_type = Some("application/x+json".to_owned());
        assert!(json(&new).ends_with("\"datacontenttype\":\"application/x+json\"}"));
        new.meta_mut().content_type = Some("text/plain".to_owned());
        assert!(json(&new).ends_with("\"datacontenttype\":\"text/plain\",\"data\":\"\"}"));
    }

    #[test]
    fn headers_that_cloud_events_has_no_attributes_for_stand_in_one() {
        let new = event(b"{}")
            .with_header("shop", "x")
            .with_header("X-Request-Id", "1")
            .with_header("größe", "\"2\"")
            .with_header("lines", "a\nb")
            .with_header("headers", "3");
        assert!(json(&new).contains(
            ",\"shop\":\"x\",\"headers\":\"{\\\"X-Request-Id\\\":\\\"1\\\",\\\"größe\\\":\\\"\\\\\\\"2\\\\\\\"\\\",\
             \\\"headers\\\":\\\"3\\\",\\\"lines\\\":\\\"a\\\\nb\\\"}\","
        ), "{}", json(&new));
    }

    #[test]
    fn a_source_that_is_made_of_a_category_is_a_uri() {
        let mut new = event(b"{}");
        new.stream = StreamId::new("größe und mehr/1").unwrap();
        assert!(json(&new).contains("\"source\":\"/gr%C3%B6%C3%9Fe%20und%20mehr\""));
    }

    #[test]
    fn data_in_a_text_that_is_not_utf8_is_base64() {
        assert!(json(&event(b"\"\xff\"")).ends_with("\"data_base64\":\"Iv8i\"}"));
    }

    #[test]
    fn data_deeper_than_parsers_read_is_base64() {
        fn nested(depth: usize) -> &'static [u8] {
            [vec![b'['; depth], vec![b']'; depth]].concat().leak()
        }
        assert!(json(&event(nested(JSON_DEPTH_MAX))).contains("\"data\":[["));
        assert!(json(&event(nested(JSON_DEPTH_MAX + 1))).contains("\"data_base64\":"));
        assert!(!is_json_too_deep(
            format!("[\"\\\"{}\"]", "[".repeat(200)).as_bytes()
        ));
    }

    #[test]
    fn a_comma_in_a_tag_does_not_part_it() {
        let new = event(b"{}").with_tag("a,b").with_tag("c\\");
        assert!(json(&new).contains(r#""tags":"a\\,b,c\\\\""#));
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(
            rfc3339(4_107_542_399_999_999),
            "2100-02-28T23:59:59.999999Z"
        );
    }

    #[test]
    fn a_media_type_is_json_in_capitals_too() {
        for json in ["Application/JSON", "application/Vnd.X+Json; charset=UTF-8"] {
            assert!(is_json_media_type(json), "{json}");
        }
        assert!(!is_json_media_type("text/plain"));
    }
}
