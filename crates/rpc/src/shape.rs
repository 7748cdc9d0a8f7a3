//! Whether the JSON of a message has the shape that its `.proto` says, before it is taken for one.
//!
//! What reads messages from JSON passes over fields that it does not know: a misspelt condition would
//! be an append without it. And it builds all of a message before it looks how large that has become.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::malformed::Malformed;

struct Message {
    name: &'static str,
    fields: &'static [Field],
}

struct Field {
    /// As the `.proto` has it.
    name: &'static str,
    /// As JSON has it; both are taken.
    json: &'static str,
    holds: Holds,
}

#[derive(Clone, Copy)]
enum Holds {
    Value,
    Values,
    Map,
    Message(usize),
    Messages(usize),
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// Refuses the JSON of what the call at `path` takes if it is no object, has a field that the message
/// does not have, or consists of more than `parts_max` messages and values of lists.
pub fn check_json(path: &str, json: &[u8], parts_max: usize) -> Result<(), Malformed> {
    let Some(&(_, takes)) = CALLS.iter().find(|(call, _)| *call == path) else {
        return Ok(());
    };
    let parts = Cell::new(parts_max);
    let seed = Part {
        holds: Holds::Message(takes),
        parts: &parts,
    };
    let mut json = serde_json::Deserializer::from_slice(json);
    let checked = seed.deserialize(&mut json).and_then(|()| json.end());
    checked.map_err(|error| Malformed(format!("the message is not taken: {error}")))
}

/// A part of a message, and how many more there may be.
#[derive(Clone, Copy)]
struct Part<'a> {
    holds: Holds,
    parts: &'a Cell<usize>,
}

impl Part<'_> {
    fn count<E: Error>(&self) -> Result<(), E> {
        let left = self.parts.get().checked_sub(1);
        let left = left.ok_or_else(|| E::custom("it has too many parts; send fewer at a time"))?;
        self.parts.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.holds {
            // Whether it is of the right kind, what reads it says.
            Holds::Value => json.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holds {
            Holds::Message(message) => write!(f, "an object, {}", MESSAGES[message].name),
            Holds::Map => f.write_str("an object"),
            _ => f.write_str("an array"),
        }
    }

    /// `null` stands for what is left out.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let holds = match self.holds {
            Holds::Values => Holds::Value,
            Holds::Messages(message) => Holds::Message(message),
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        };
        let part = Part { holds, ..self };
        while seq.next_element_seed(part)?.is_some() {
            self.count()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let message = match self.holds {
            Holds::Message(message) => &MESSAGES[message],
            Holds::Map => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    self.count()?;
                }
                return Ok(());
            }
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        };
        self.count()?;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let known = |field: &&Field| field.name == name || field.json == name;
            let Some(field) = message.fields.iter().find(known) else {
                let name: String = name.chars().take(100).collect();
                let fields: Vec<_> = message.fields.iter().map(|field| field.json).collect();
                return Err(A::Error::custom(format!(
                    "{} has no field {name:?}; it has: {}",
                    message.name,
                    fields.join(", ")
                )));
            };
            map.next_value_seed(Part {
                holds: field.holds,
                ..self
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPEND: &str = "/anabranch.log.v1.LogService/Append";

    fn refused(json: &str, parts_max: usize) -> String {
        let checked = check_json(APPEND, json.as_bytes(), parts_max);
        checked.expect_err("it is refused").to_string()
    }

    #[test]
    fn a_misspelt_field_is_refused_wherever_it_stands() {
        let said = refused(r#"{"events":[],"condition":[]}"#, 10);
        assert!(
            said.contains(r#"AppendRequest has no field "condition"; it has: events, conditions"#)
        );
        let said = refused(r#"{"events":[{"meta":{"tag":["a"]}}]}"#, 10);
        assert!(said.contains(r#"Meta has no field "tag""#), "{said}");
    }

    #[test]
    fn what_the_protocol_describes_is_taken_by_either_name() {
        let json = r#"{"events":[{"id":"x","schemaVersion":1,"meta":{"content_type":null,
            "headers":{"a":"b"},"causes":{"counts":{"0":"1"}}}}],
            "conditions":[{"stream":{"stream":"a/b","expect":{"empty":true}}}],"lease":"t"}"#;
        assert_eq!(check_json(APPEND, json.as_bytes(), 20), Ok(()));
    }

    #[test]
    fn a_list_in_place_of_a_message_is_refused() {
        assert!(refused("[]", 10).contains("an object, anabranch.log.v1.AppendRequest"));
        assert!(refused(r#"{"events":{}}"#, 10).contains("an array"));
    }

    #[test]
    fn more_parts_than_there_may_be_are_refused() {
        let json = r#"{"events":[{},{},{}]}"#;
        assert!(refused(json, 5).contains("too many parts"));
        assert_eq!(check_json(APPEND, json.as_bytes(), 7), Ok(()));
    }
}
