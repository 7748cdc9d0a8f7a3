//! A JSON object whose parts are known with their places.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use anabranch_model::{JsonTextError, check_json};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::line::LineError;

pub(crate) fn not_json(error: JsonTextError) -> String {
    format!(
        "the data is not JSON that every reader can read: {}",
        error.reason
    )
}

/// The column, in characters from 1, of the byte at `at`.
pub(crate) fn column(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let is_start_of_char = |byte: &&u8| (**byte & 0xc0) != 0x80;
    before.iter().filter(is_start_of_char).count() + 1
}

/// What serde_json says, with the place as a column of characters.
pub(crate) fn syntax(text: &str, error: &serde_json::Error) -> LineError {
    let mut reason = error.to_string();
    if let Some(end) = reason.rfind(" at line ") {
        reason.truncate(end);
    }
    let line_start = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let end = (line_start + error.column()).min(text.len());
    let before = text.as_bytes().get(line_start..end).unwrap_or_default();
    let is_start_of_char = |byte: &&u8| (**byte & 0xc0) != 0x80;
    LineError {
        column: before.iter().filter(is_start_of_char).count().max(1),
        reason: format!("not JSON as it should be: {reason}"),
    }
}

/// No event has more names, and no more than so many are held in memory.
const NAMES_MAX: usize = 1_000;

/// One name and its value, as they stand in the line.
pub(crate) struct Field<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: &'a RawValue,
}

/// The members of a JSON object in their order.
pub(crate) struct Fields<'a>(pub(crate) Vec<Field<'a>>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object {\"stream\":…,\"type\":…,\"data\":…}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry()? {
                    if fields.len() == NAMES_MAX {
                        return Err(A::Error::custom(format!("more than {NAMES_MAX} names")));
                    }
                    fields.push(Field { name, value });
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A line whose JSON was understood.
pub(crate) struct Form<'a> {
    pub(crate) line: &'a str,
    pub(crate) fields: Fields<'a>,
}

impl<'a> Form<'a> {
    /// Reads a JSON object in which no name stands twice.
    pub(crate) fn read(json: &'a [u8]) -> Result<Self, LineError> {
        let line = std::str::from_utf8(json).map_err(|error| {
            let before = std::str::from_utf8(&json[..error.valid_up_to()]).unwrap_or_default();
            LineError {
                column: before.chars().count() + 1,
                reason: format!("byte {:#04x} is not UTF-8", json[error.valid_up_to()]),
            }
        })?;
        let fields: Fields<'_> =
            serde_json::from_str(line).map_err(|error| syntax(line, &error))?;
        let form = Form { line, fields };
        match form.repeated_name() {
            Some(repeated) => Err(form.wrong(
                repeated,
                format!("the name {:?} stands twice", repeated.name),
            )),
            None => Ok(form),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.0.iter().find(|field| field.name == name)
    }

    pub(crate) fn repeated_name(&self) -> Option<&Field<'a>> {
        let fields = &self.fields.0;
        let mut names: Vec<(&str, usize)> = fields
            .iter()
            .enumerate()
            .map(|(i, field)| (&*field.name, i))
            .collect();
        names.sort_unstable();
        let repeated = names.windows(2).find(|pair| pair[0].0 == pair[1].0)?;
        Some(&fields[repeated[1].1])
    }

    /// An error at the value of `field`.
    pub(crate) fn wrong(&self, field: &Field<'_>, reason: impl Into<String>) -> LineError {
        let at = field.value.get().as_ptr() as usize - self.line.as_ptr() as usize;
        LineError {
            column: self
                .line
                .get(..at)
                .map_or(0, |before| before.chars().count())
                + 1,
            reason: reason.into(),
        }
    }

    pub(crate) fn missing(&self, name: &str) -> LineError {
        LineError {
            column: 1,
            reason: format!("`{name}` is missing"),
        }
    }

    pub(crate) fn decode<T: Deserialize<'a>>(
        &self,
        field: &Field<'a>,
        what: &str,
    ) -> Result<T, LineError> {
        serde_json::from_str(field.value.get())
            .map_err(|_| self.wrong(field, format!("`{}` is not {what}", field.name)))
    }

    pub(crate) fn text(&self, field: &Field<'a>) -> Result<String, LineError> {
        self.decode(field, "a text")
    }

    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<String>, LineError> {
        self.get(name)
            .filter(|field| field.value.get() != "null")
            .map(|field| self.text(field))
            .transpose()
    }

    pub(crate) fn required<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<T, LineError> {
        let field = self.get(name).ok_or_else(|| self.missing(name))?;
        self.text(field)?
            .parse()
            .map_err(|error| self.wrong(field, format!("`{name}`: {error}")))
    }

    pub(crate) fn json_data(&self, field: &Field<'a>) -> Result<&'a [u8], LineError> {
        let data = field.value.get();
        check_json(data.as_bytes()).map_err(|error| {
            let mut wrong = self.wrong(field, not_json(error));
            wrong.column += column(data, error.at) - 1;
            wrong
        })?;
        Ok(data.as_bytes())
    }
}
