//! An event as one line for people.

use std::io::Write as _;

use anabranch::model::EventRef;

/// Appends `position`, `stream`, `version`, `type` and `data`, parted by tabs, and a line
/// break. Characters that would steer a terminal are escaped.
pub fn write_event(event: &EventRef<'_>, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{}\t", event.position);
    escape(event.stream, out);
    let _ = write!(out, "\t{}\t", event.version);
    escape(event.event_type, out);
    out.push(b'\t');
    match std::str::from_utf8(event.data) {
        Ok(text) => escape(text, out),
        Err(_) => {
            let media_type = event
                .meta
                .content_type()
                .unwrap_or("data that is not UTF-8");
            let _ = write!(out, "<{} bytes of ", event.data.len());
            escape(media_type, out);
            out.push(b'>');
        }
    }
    out.push(b'\n');
}

/// The text without characters that would steer a terminal.
pub fn clean(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(text, &mut out);
    // Whole characters went in, and their escapes.
    String::from_utf8_lossy(&out).into_owned()
}

fn escape(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        if c.is_control() || turns_direction(c) {
            // Writing to memory does not fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Characters that make a terminal show the text around them in another order.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch::model::{Event, EventId, EventType, NewEvent, Position, StreamId};

    fn line(data: &'static [u8]) -> String {
        let new = NewEvent::new(
            EventId::from_u128(1),
            StreamId::new("order/é").unwrap(),
            EventType::new("Placed").unwrap(),
            data,
        );
        let stored = Event::stored(&new, Position::at(7), 3, 0);
        let mut out = Vec::new();
        write_event(&stored.as_ref(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(
            line(b"{\"a\":\n1}"),
            "0:7\torder/é\t3\tPlaced\t{\"a\":\\n1}\n"
        );
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        let shown = line("\"\u{1b}[2J\u{202e}\"".as_bytes());
        assert!(shown.ends_with("\"\\u{1b}[2J\\u{202e}\"\n"), "{shown}");
        assert!(line(b"\xff\x1b").ends_with("<2 bytes of data that is not UTF-8>\n"));
    }
}
