//! One line of JSON as an event to append.
//!
//! Two forms are taken. The plain form is
//! `{"stream","type","data","id"?,"headers"?,"tags"?,"expect"?}`. A line with `specversion`
//! is a CloudEvent in structured mode, which is also what `read --output jsonl` and
//! `log export` write. The data is kept byte for byte as it stands in the line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anabranch::log::Expect;
use anabranch::model::{
    self, ATTRIBUTES, Cut, EventId, EventType, HEADERS, JsonTextError, Meta, NewEvent, Position,
    StreamId, is_json_media_type, uri_part,
};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

/// An event read from a line, and what its stream must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// The event.
    pub event: NewEvent,
    /// The state that its stream must be in just before it.
    pub expect: Expect,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// An event to append.
    Event(EventLine),
    /// An event of the platform itself, from another log. It tells of that log, so it has no
    /// place in this one.
    OfPlatform,
}

/// Why a line is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

/// Reads one line, without its line break. An event that brings no id gets `derived_id`.
pub fn parse(line: &[u8], derived_id: EventId) -> Result<Parsed, LineError> {
    let line = std::str::from_utf8(line).map_err(|error| {
        let before = std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default();
        LineError {
            column: before.chars().count() + 1,
            reason: format!("byte {:#04x} is not UTF-8", line[error.valid_up_to()]),
        }
    })?;
    if line.trim_start().starts_with('[') {
        return Err(LineError {
            column: 1,
            reason:
                "an array; import reads one event from each line, as --output jsonl prints them"
                    .to_owned(),
        });
    }
    let fields: Fields<'_> = serde_json::from_str(line).map_err(|error| syntax(line, &error))?;
    let form = Form { line, fields };
    if let Some(repeated) = form.repeated_name() {
        return Err(form.wrong(
            repeated,
            format!("the name {:?} stands twice", repeated.name),
        ));
    }
    match form.get("specversion") {
        Some(_) if form.is_of_platform() => Ok(Parsed::OfPlatform),
        Some(version) => form.cloud_event(version, derived_id).map(Parsed::Event),
        None => form.plain(derived_id).map(Parsed::Event),
    }
}

/// Checks that `data` is JSON that can be stored as it is: one value that every reader can read.
/// Gives it without the white space around it.
pub fn check_json(data: &str) -> Result<&str, LineError> {
    model::check_json(data.as_bytes()).map_err(|error| LineError {
        column: column(data, error.at),
        reason: not_json(error),
    })?;
    Ok(data.trim_matches([' ', '\t', '\n', '\r']))
}

fn not_json(error: JsonTextError) -> String {
    format!(
        "the data is not JSON that every reader can read: {}",
        error.reason
    )
}

/// The column, in characters from 1, of the byte at `at`.
fn column(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let is_start_of_char = |byte: &&u8| (**byte & 0xc0) != 0x80;
    before.iter().filter(is_start_of_char).count() + 1
}

/// What serde_json says, with the place as a column of characters.
fn syntax(text: &str, error: &serde_json::Error) -> LineError {
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
struct Field<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
}

/// The members of a JSON object in their order.
struct Fields<'a>(Vec<Field<'a>>);

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
struct Form<'a> {
    line: &'a str,
    fields: Fields<'a>,
}

impl<'a> Form<'a> {
    fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.0.iter().find(|field| field.name == name)
    }

    fn repeated_name(&self) -> Option<&Field<'a>> {
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
    fn wrong(&self, field: &Field<'_>, reason: impl Into<String>) -> LineError {
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

    fn missing(&self, name: &str) -> LineError {
        LineError {
            column: 1,
            reason: format!("`{name}` is missing"),
        }
    }

    fn decode<T: Deserialize<'a>>(&self, field: &Field<'a>, what: &str) -> Result<T, LineError> {
        serde_json::from_str(field.value.get())
            .map_err(|_| self.wrong(field, format!("`{}` is not {what}", field.name)))
    }

    fn text(&self, field: &Field<'a>) -> Result<String, LineError> {
        self.decode(field, "a text")
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, LineError> {
        self.get(name)
            .filter(|field| field.value.get() != "null")
            .map(|field| self.text(field))
            .transpose()
    }

    fn required<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, LineError> {
        let field = self.get(name).ok_or_else(|| self.missing(name))?;
        self.text(field)?
            .parse()
            .map_err(|error| self.wrong(field, format!("`{name}`: {error}")))
    }

    fn json_data(&self, field: &Field<'a>) -> Result<&'a [u8], LineError> {
        let data = field.value.get();
        model::check_json(data.as_bytes()).map_err(|error| {
            let mut wrong = self.wrong(field, not_json(error));
            wrong.column += column(data, error.at) - 1;
            wrong
        })?;
        Ok(data.as_bytes())
    }

    fn plain(&self, derived_id: EventId) -> Result<EventLine, LineError> {
        const NAMES: [&str; 7] = ["stream", "type", "data", "id", "headers", "tags", "expect"];
        if let Some(unknown) = self.fields.0.iter().find(|f| !NAMES.contains(&&*f.name)) {
            let name = &unknown.name;
            return Err(self.wrong(
                unknown,
                format!("no part of an event is called {name:?}; a CloudEvent has \"specversion\""),
            ));
        }
        let stream = self.required::<StreamId>("stream")?;
        let event_type = self.required::<EventType>("type")?;
        let data = self.get("data").ok_or_else(|| self.missing("data"))?;
        let data = self.json_data(data)?.to_vec();
        let id = match self.get("id") {
            Some(field) => self
                .text(field)?
                .parse()
                .map_err(|_| self.wrong(field, "`id` is not a UUID"))?,
            None => derived_id,
        };
        let mut event = NewEvent::new(id, stream, event_type, data);
        if let Some(field) = self.get("headers") {
            let headers = self.headers(field)?;
            if !headers.is_empty() {
                event.meta_mut().headers = headers;
            }
        }
        if let Some(field) = self.get("tags") {
            let tags: Vec<String> = self.decode(field, "a list of texts")?;
            if !tags.is_empty() {
                event.meta_mut().tags = tags;
            }
        }
        let expect = match self.get("expect") {
            Some(field) => self.expect(field)?,
            None => Expect::Any,
        };
        Ok(EventLine { event, expect })
    }

    fn headers(&self, field: &Field<'a>) -> Result<BTreeMap<String, String>, LineError> {
        let members: Fields<'a> = self.decode(field, "an object of texts")?;
        let mut headers = BTreeMap::new();
        for member in members.0 {
            let value: String = self.decode(&member, "a text, as headers are")?;
            let name = member.name.clone().into_owned();
            if headers.insert(name, value).is_some() {
                return Err(self.wrong(
                    &member,
                    format!("the header {:?} stands twice", member.name),
                ));
            }
        }
        Ok(headers)
    }

    fn expect(&self, field: &Field<'a>) -> Result<Expect, LineError> {
        let text = match serde_json::from_str::<Cow<'_, str>>(field.value.get()) {
            Ok(text) => text,
            Err(_) => field.value.get().into(),
        };
        parse_expect(&text).map_err(|reason| self.wrong(field, format!("`expect`: {reason}")))
    }

    /// Whether it was printed from a log (it has a position) and stood in a stream that no
    /// user can write.
    fn is_of_platform(&self) -> bool {
        let in_system_stream = |field: &Field<'a>| {
            self.text(field)
                .is_ok_and(|subject| subject.starts_with('$'))
        };
        self.get("position").is_some() && self.get("subject").is_some_and(in_system_stream)
    }

    fn cloud_event(
        &self,
        version: &Field<'a>,
        derived_id: EventId,
    ) -> Result<EventLine, LineError> {
        if version.value.get() != "\"1.0\"" {
            return Err(self.wrong(
                version,
                "only CloudEvents with specversion \"1.0\" are known",
            ));
        }
        let mut stream = self.required::<StreamId>("subject");
        if let Err(error) = &mut stream {
            error.reason += "; the subject of a CloudEvent names the stream";
        }
        let stream = stream?;
        let event_type = self.required::<EventType>("type")?;
        let mut meta = self.attributes(&stream)?;
        let id = self.cloud_event_id(&mut meta, derived_id)?;
        let data = self.cloud_event_data(meta.content_type.as_deref())?;
        // Bytes in base64 need no media type; those that are no JSON get that of bytes.
        if self.get("datacontenttype").is_none()
            && !data.is_empty()
            && self.get("data_base64").is_some()
            && model::check_json(&data).is_err()
        {
            meta.content_type = Some("application/octet-stream".to_owned());
        }
        let mut event = NewEvent::new(id, stream, event_type, data);
        event.schema_version = self.schema_version(event.event_type.as_str(), &mut meta)?;
        if !meta.is_empty() {
            event.meta = Some(Arc::new(meta));
        }
        Ok(EventLine {
            event,
            expect: Expect::Any,
        })
    }

    /// Everything that is neither name nor data of the event.
    fn attributes(&self, stream: &StreamId) -> Result<Meta, LineError> {
        let mut meta = Meta {
            // What is written for events that name no type, and no source.
            content_type: self
                .optional_text("datacontenttype")?
                .filter(|media_type| media_type != "application/json"),
            source: self
                .optional_text("source")?
                .filter(|source| source.strip_prefix('/') != Some(&uri_part(stream.category()))),
            causation_id: self.extension_of("causationid")?,
            correlation_id: self.extension_of("correlationid")?,
            traceparent: self.extension_of("traceparent")?,
            ..Meta::default()
        };
        for field in &self.fields.0 {
            if ATTRIBUTES.contains(&&*field.name) {
                continue;
            }
            if field.name == HEADERS && self.has_places() {
                self.unpack_headers(field, &mut meta)?;
            } else if let Some(value) = self.extension(field)? {
                meta.headers.insert(field.name.clone().into_owned(), value);
            }
        }
        self.tags_and_causes(&mut meta)?;
        // The log gives its own places. Former ones of a log of ours are gone; what another
        // producer calls so stays with the event as a header.
        if !self.has_places() {
            for name in ["sequence", "position"] {
                if let Some(field) = self.get(name)
                    && let Some(value) = self.extension(field)?
                {
                    let kept = format!("original{name}");
                    meta.headers.entry(kept).or_insert(value);
                }
            }
        }
        // The log records its own time, too.
        if let Some(time) = self.optional_text("time")? {
            meta.headers
                .entry("originaltime".to_owned())
                .or_insert(time);
        }
        Ok(meta)
    }

    /// Headers that CloudEvents has no attributes for, as a log of ours prints them.
    fn unpack_headers(&self, field: &Field<'a>, meta: &mut Meta) -> Result<(), LineError> {
        let text = self.text(field)?;
        let headers: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|_| {
            self.wrong(
                field,
                format!("`{HEADERS}` is not the text of a JSON object of texts"),
            )
        })?;
        meta.headers.extend(headers);
        Ok(())
    }

    /// Ours, where they can be; what another producer calls so stays with the event as a header.
    fn tags_and_causes(&self, meta: &mut Meta) -> Result<(), LineError> {
        if let Some(text) = self.extension_of("tags")? {
            let tags = split_tags(&text);
            if self.has_places() || join_tags(&tags) == text {
                meta.tags = tags;
            } else {
                meta.headers
                    .entry("originaltags".to_owned())
                    .or_insert(text);
            }
        }
        if let Some(text) = self.extension_of("causes")? {
            match parse_cut(&text).filter(|_| self.has_places()) {
                Some(causes) => meta.causes = causes,
                None => {
                    meta.headers
                        .entry("originalcauses".to_owned())
                        .or_insert(text);
                }
            }
        }
        Ok(())
    }

    /// Whether it says where it stood in a log of ours, in the way in which that prints it.
    fn has_places(&self) -> bool {
        let text = |name| self.get(name).and_then(|field| self.text(field).ok());
        let position = text("position").is_some_and(|p| p.parse::<Position>().is_ok());
        position && text("sequence").is_some_and(|s| s.parse::<u64>().is_ok())
    }

    fn extension_of(&self, name: &str) -> Result<Option<String>, LineError> {
        self.get(name)
            .map_or(Ok(None), |field| self.extension(field))
    }

    /// The value of an extension attribute as text; `None` for null, which means absent. Numbers
    /// and truth values become the texts that CloudEvents has for them.
    fn extension(&self, field: &Field<'a>) -> Result<Option<String>, LineError> {
        let raw = field.value.get();
        match raw.as_bytes().first() {
            Some(b'"') => self.text(field).map(Some),
            Some(b'n') => Ok(None),
            Some(b'{' | b'[') => Err(self.wrong(
                field,
                format!(
                    "the attribute `{}` is not a text, a number, true or false",
                    field.name
                ),
            )),
            _ => Ok(Some(raw.to_owned())),
        }
    }

    /// The event's id. That of another producer stays with the event as a header, and the UUID is
    /// derived from it and the source, which together are unique by the specification.
    fn cloud_event_id(&self, meta: &mut Meta, derived_id: EventId) -> Result<EventId, LineError> {
        let Some(id) = self.optional_text("id")? else {
            return Ok(derived_id);
        };
        if id.is_empty() {
            return Err(LineError {
                column: 1,
                reason: "`id` is empty; source and id tell one event from another".to_owned(),
            });
        }
        // Two producers may give the same UUID; one of a log of ours is one event's alone.
        if let Ok(id) = id.parse()
            && (self.has_places() || meta.source.is_none())
        {
            return Ok(id);
        }
        let source = meta.source.as_deref().unwrap_or_default();
        let derived = EventId::from_hash(xxh3_128(format!("{source}\0{id}").as_bytes()));
        meta.headers.entry("originalid".to_owned()).or_insert(id);
        Ok(derived)
    }

    fn cloud_event_data(&self, media_type: Option<&str>) -> Result<Vec<u8>, LineError> {
        let is_json = media_type.is_none_or(is_json_media_type);
        match (self.get("data"), self.get("data_base64")) {
            (Some(_), Some(both)) => {
                Err(self.wrong(both, "`data` and `data_base64` exclude each other"))
            }
            (None, Some(field)) => {
                let text: Cow<'_, str> = self.decode(field, "a text")?;
                let data = base64_decode(&text)
                    .ok_or_else(|| self.wrong(field, "`data_base64` is not base64"))?;
                if !data.is_empty()
                    && is_json
                    && self.get("datacontenttype").is_some()
                    && let Err(error) = model::check_json(&data)
                {
                    return Err(self.wrong(
                        field,
                        format!(
                            "`data_base64` holds no JSON: {error}; `datacontenttype` names the media type of what is no JSON"
                        ),
                    ));
                }
                Ok(data)
            }
            (Some(field), None) => {
                if !is_json && field.value.get().starts_with('"') {
                    return Ok(self.text(field)?.into_bytes());
                }
                self.json_data(field).map(<[u8]>::to_vec)
            }
            // An event without data: legal in CloudEvents, and kept as one.
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The version that our own `dataschema` names. Another one stays as a header.
    fn schema_version(&self, event_type: &str, meta: &mut Meta) -> Result<u32, LineError> {
        let Some(schema) = self.optional_text("dataschema")? else {
            return Ok(1);
        };
        let ours = schema
            .strip_prefix("urn:event:")
            .and_then(|rest| rest.strip_prefix(&*uri_part(event_type)))
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|version| version.parse().ok());
        Ok(ours.unwrap_or_else(|| {
            meta.headers
                .entry("originaldataschema".to_owned())
                .or_insert(schema);
            1
        }))
    }
}

/// `any`, `empty`, `exists`, or the version that the last event has.
pub fn parse_expect(text: &str) -> Result<Expect, String> {
    match text {
        "any" => Ok(Expect::Any),
        "empty" => Ok(Expect::Empty),
        "exists" => Ok(Expect::Exists),
        _ => text.parse().map(Expect::At).map_err(|_| {
            let first = match text.starts_with('-') {
                true => "; a stream without events is empty, and the first event has version 0",
                false => "",
            };
            format!("{text:?} is not any, empty, exists or the version of the last event{first}")
        }),
    }
}

/// Parts tags at the commas that have no backslash before them.
fn split_tags(text: &str) -> Vec<String> {
    let mut tags = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ',' => {
                tags.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(tag) = tags.last_mut() {
            tag.push(c);
        }
    }
    tags.retain(|tag| !tag.is_empty());
    tags
}

/// As they are printed.
fn join_tags(tags: &[String]) -> String {
    let escape = |tag: &String| tag.replace('\\', "\\\\").replace(',', "\\,");
    tags.iter().map(escape).collect::<Vec<_>>().join(",")
}

fn parse_cut(text: &str) -> Option<Cut> {
    let mut cut = Cut::start();
    for part in text.split(',') {
        let count: Position = part.parse().ok()?;
        cut.set(count.partition, count.offset);
    }
    Some(cut)
}

/// The bytes of standard base64 (RFC 4648, section 4), padded; `None` if it is none.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
    let digits = text.get(..text.len() - padding)?;
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            bits = bits << 6 | base64_digit(digit)?;
        }
        bits <<= 6 * (4 - group.len());
        let kept = group.len() - 1;
        let all = bits.to_be_bytes();
        // Bits beyond the last byte would make two texts of the same bytes.
        if group.len() < 4 && all[1 + kept..].iter().any(|&b| b != 0) {
            return None;
        }
        bytes.extend_from_slice(&all[1..=kept]);
    }
    Some(bytes)
}

fn base64_digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// One acknowledged event, as `append` and `import --acks` print it.
#[derive(Debug, Serialize)]
pub struct Ack<'a> {
    /// In the log.
    pub position: Position,
    /// The stream.
    pub stream: &'a str,
    /// In the stream.
    pub version: u64,
    /// The event's id.
    pub id: EventId,
}

impl Ack<'_> {
    /// Appends the acknowledgement as a line of JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Texts and numbers always have a JSON form, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }
}

// The fuzz targets include this file from elsewhere.
#[cfg(test)]
#[path = "event_line/tests.rs"]
mod tests;
