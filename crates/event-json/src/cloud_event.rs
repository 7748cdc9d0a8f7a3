//! CloudEvents. Source: CloudEvents 1.0.2, "JSON event format" 3.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_log::Expect;
use anabranch_model::{
    ATTRIBUTES, Cut, EventId, EventType, HEADERS, Meta, NewEvent, Position, StreamId, check_json,
    is_json_media_type, uri_part,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::base64::base64_decode;
use crate::form::{Field, Form};
use crate::line::{EventLine, LineError};

impl<'a> Form<'a> {
    /// As a CloudEvent that says by itself which one it is.
    pub(crate) fn sent_cloud_event(&self) -> Result<NewEvent, LineError> {
        for name in ["specversion", "id", "source", "type"] {
            if self.optional_text(name)?.is_none() {
                let mut missing = self.missing(name);
                missing.reason += "; a CloudEvent has specversion, id, source and type";
                return Err(missing);
            }
        }
        if let Some(subject) = self.get("subject").filter(|_| self.is_of_platform()) {
            return Err(self.wrong(
                subject,
                "an event of the platform itself tells of the log that it was read from, and has no place in another",
            ));
        }
        let version = self
            .get("specversion")
            .ok_or_else(|| self.missing("specversion"))?;
        let line = self.cloud_event(version, EventId::from_u128(0))?;
        Ok(line.event)
    }

    /// Whether it was printed from a log (it has a position) and stood in a stream that no
    /// user can write.
    pub(crate) fn is_of_platform(&self) -> bool {
        let in_system_stream = |field: &Field<'a>| {
            self.text(field)
                .is_ok_and(|subject| subject.starts_with('$'))
        };
        self.get("position").is_some() && self.get("subject").is_some_and(in_system_stream)
    }

    pub(crate) fn cloud_event(
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
            && check_json(&data).is_err()
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
            // What a log writes for events that name no type, and no source. Of others the source
            // stays: with the id it tells one event from another.
            content_type: self
                .optional_text("datacontenttype")?
                .filter(|media_type| media_type != "application/json"),
            source: self.optional_text("source")?.filter(|source| {
                let is_made = source.strip_prefix('/') == Some(&uri_part(stream.category()));
                !(is_made && self.has_places())
            }),
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
        let source = self.optional_text("source")?.unwrap_or_default();
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
                    && let Err(error) = check_json(&data)
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

/// The cut whose text form this is, as [`Cut`] prints it: for each partition, how many of its first
/// events are included; `None` if it is none.
pub fn parse_cut(text: &str) -> Option<Cut> {
    text.parse().ok()
}
