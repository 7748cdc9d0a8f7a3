use std::fmt::Debug;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};

use crate::value::{attribute, number, text};

/// The most fields of a span that are kept.
const FIELDS_MAX: usize = 64;

/// A trace and a span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub trace: u128,
    pub span: u64,
}

/// A span, open or ended.
#[derive(Debug, Clone)]
pub struct Span {
    pub place: Place,
    /// Zero: it has none.
    pub parent: u64,
    pub name: String,
    pub kind: u8,
    pub began: u64,
    pub fields: Vec<(&'static str, Value)>,
    pub links: Vec<Place>,
    /// The trace that somebody outside has begun.
    pub outside: Option<Place>,
    has_failed: bool,
    /// By how many it is held.
    pub holders: u32,
}

impl Span {
    pub fn new(name: &str, began: u64) -> Self {
        Self {
            place: Place { trace: 0, span: 0 },
            parent: 0,
            name: name.to_owned(),
            kind: 1,
            began,
            fields: Vec::new(),
            links: Vec::new(),
            outside: None,
            has_failed: false,
            holders: 1,
        }
    }

    /// What a collector takes; it has ended at this time, in microseconds since 1970.
    pub fn json(&self, ended: u64) -> Value {
        let Place { trace, span } = self.place;
        let fields = self.fields.iter();
        let fields: Vec<_> = fields.map(|(name, value)| attribute(name, value)).collect();
        let link = |place: &Place| json!({"traceId": hex(place.trace, 32), "spanId": hex(place.span.into(), 16)});
        let links: Vec<_> = self.links.iter().map(link).collect();
        let parent = match self.parent {
            0 => String::new(),
            parent => hex(parent.into(), 16),
        };
        // An error is said by its code, in error.type.
        let status = if self.has_failed {
            json!({"code": 2})
        } else {
            json!({})
        };
        json!({
            "traceId": hex(trace, 32),
            "spanId": hex(span.into(), 16),
            "parentSpanId": parent,
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": nanos(self.began),
            "endTimeUnixNano": nanos(ended.max(self.began)),
            "attributes": fields,
            "links": links,
            "status": status,
        })
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let said = || value["stringValue"].as_str().unwrap_or_default();
        match name {
            "otel.name" => self.name = said().to_owned(),
            "otel.kind" => self.kind = kind(said()),
            _ => {
                if name == "anabranch.traceparent" {
                    self.outside = traceparent(said());
                }
                self.has_failed |= name == "error.type";
                let known = self.fields.iter().position(|(known, _)| *known == name);
                match known {
                    Some(at) => self.fields[at].1 = value,
                    None if self.fields.len() < FIELDS_MAX => self.fields.push((name, value)),
                    None => {}
                }
            }
        }
    }
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, text(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, number(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, number(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!({"boolValue": value}));
    }
}

fn kind(name: &str) -> u8 {
    match name {
        "server" => 2,
        "client" => 3,
        "producer" => 4,
        "consumer" => 5,
        _ => 1,
    }
}

/// Source: W3C Trace Context, 3.2.
fn traceparent(text: &str) -> Option<Place> {
    let mut parts = text.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = version.len() == 2 && trace.len() == 32 && span.len() == 16;
    let trace = u128::from_str_radix(trace, 16).ok()?;
    let span = u64::from_str_radix(span, 16).ok()?;
    (is_whole && trace != 0 && span != 0).then_some(Place { trace, span })
}

fn hex(number: u128, digits: usize) -> String {
    format!("{number:0digits$x}")
}

pub fn nanos(micros: u64) -> String {
    (u128::from(micros) * 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_of_somebody_outside_is_read() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let place = Place {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span: 0xb7ad_6b71_6920_3331,
        };
        assert_eq!(traceparent(text), Some(place));
        for wrong in [
            "",
            "00-1-2-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(traceparent(wrong), None, "{wrong}");
        }
    }
}
