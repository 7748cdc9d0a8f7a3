//! The plain form of an event.

use std::collections::BTreeMap;

use std::borrow::Cow;

use anabranch_log::Expect;
use anabranch_model::{EventId, EventType, NewEvent, StreamId};

use crate::form::{Field, Fields, Form};
use crate::line::{EventLine, LineError, parse_expect};

impl<'a> Form<'a> {
    pub(crate) fn plain(&self, derived_id: EventId) -> Result<EventLine, LineError> {
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
}
