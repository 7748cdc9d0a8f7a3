//! The form of what programs say beside their data, on the standard error: text for people, or one JSON
//! object on each line, with the time, the service, how grave it is and the message.

use std::sync::{Arc, OnceLock};

use anabranch::env::Clock;
use anabranch::model::rfc3339;
use serde_json::{Value, json};

/// The form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl LogForm {
    /// The form of this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{name:?} is not text or json")),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Who speaks, and what the time is.
struct Speaker {
    clock: Arc<dyn Clock>,
    service: String,
}

/// Set once, before anything is said; unset it is text.
static SPEAKER: OnceLock<Speaker> = OnceLock::new();

/// From now on this process speaks JSON, as this service.
pub fn speak_json(service: &str, clock: Arc<dyn Clock>) {
    let service = service.to_owned();
    // Who has said so before goes on.
    drop(SPEAKER.set(Speaker { clock, service }));
}

/// What this process says, as a line.
pub fn line(text: &str) -> String {
    match SPEAKER.get() {
        None => text.to_owned(),
        Some(speaker) => entry(speaker.clock.wall_micros(), &speaker.service, text),
    }
}

/// What another one says, or a part of this one, as a line; text is formed by `plain`.
pub fn line_of(service: &str, text: &str, plain: impl FnOnce() -> String) -> String {
    match SPEAKER.get() {
        None => plain(),
        // Who speaks JSON already is passed on.
        Some(_) if is_entry(text) => text.to_owned(),
        Some(speaker) => entry(speaker.clock.wall_micros(), service, text),
    }
}

fn is_entry(text: &str) -> bool {
    text.starts_with('{')
        && serde_json::from_str::<Value>(text).is_ok_and(|line| line["message"].is_string())
}

fn entry(at: u64, service: &str, text: &str) -> String {
    let (level, message) = match text.split_once(": ") {
        Some(("WARNING", rest)) => ("warning", rest),
        Some(("note", rest)) => ("info", rest),
        _ => ("info", text),
    };
    json!({
        "time": rfc3339(at),
        "level": level,
        "service": service,
        "message": message,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_time_the_service_and_how_grave_it_is() {
        let line = |text| -> Value { serde_json::from_str(&entry(0, "orders", text)).unwrap() };
        let warning = line("WARNING: it can be reached\n\"twice\"");
        assert_eq!(
            warning,
            json!({
                "time": "1970-01-01T00:00:00.000000Z",
                "level": "warning",
                "service": "orders",
                "message": "it can be reached\n\"twice\"",
            })
        );
        assert_eq!(line("note: x")["message"], "x");
        assert_eq!(line("service a: b")["message"], "service a: b");
        assert!(is_entry(&entry(0, "a", "b")));
        assert!(!is_entry("{") && !is_entry("{}") && !is_entry("a"));
    }
}
