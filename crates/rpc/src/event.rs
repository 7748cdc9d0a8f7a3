//! Events, to append and stored.

use std::sync::Arc;

use anabranch_model::record::RecordError;
use anabranch_model::{
    Event, EventId, EventRef, EventType, Meta, NewEvent, StreamId, is_json_media_type,
};
use buffa::MessageField;
use bytes::Bytes;

use crate::made::protocol as p;
use crate::made::protocol::__buffa::oneof;
use crate::malformed::Malformed;
use crate::places::{Set, cut_to, position_to, some_cut, some_position};

pub(crate) fn new_event_to(event: &NewEvent) -> p::NewEvent {
    let meta = event.meta.as_deref();
    let content_type = meta.and_then(|meta| meta.content_type.as_deref());
    p::NewEvent {
        id: event.id.to_string(),
        stream: event.stream.as_str().to_owned(),
        r#type: event.event_type.as_str().to_owned(),
        schema_version: event.schema_version,
        meta: meta
            .map(meta_to)
            .map_or(MessageField::none(), MessageField::some),
        content: match text(&event.data, content_type) {
            Some(text) => Some(oneof::new_event::Content::Text(text)),
            None if event.data.is_empty() => None,
            None => Some(oneof::new_event::Content::Data(event.data.to_vec())),
        },
        ..Default::default()
    }
}

pub(crate) fn new_event_of(message: p::NewEvent) -> Result<NewEvent, Malformed> {
    Ok(NewEvent {
        id: id_of(&message.id)?,
        stream: stream_of(&message.stream)?,
        event_type: type_of(&message.r#type)?,
        schema_version: message.schema_version.max(1),
        data: match message.content {
            Some(oneof::new_event::Content::Data(data)) => data.into(),
            Some(oneof::new_event::Content::Text(text)) => text.into(),
            None => Bytes::new(),
        },
        meta: some_meta(message.meta),
    })
}

pub(crate) fn event_to(event: &EventRef<'_>) -> Result<p::Event, RecordError> {
    let meta = if event.meta.is_empty() {
        MessageField::none()
    } else {
        MessageField::some(meta_to(&event.meta.decode()?))
    };
    Ok(p::Event {
        position: MessageField::some(position_to(event.position)),
        version: event.version,
        recorded_at_us: event.recorded_at,
        id: event.id.to_string(),
        stream: event.stream.to_owned(),
        r#type: event.event_type.to_owned(),
        schema_version: event.schema_version,
        meta,
        content: match text(event.data, event.meta.content_type()) {
            Some(text) => Some(oneof::event::Content::Text(text)),
            None if event.data.is_empty() => None,
            None => Some(oneof::event::Content::Data(event.data.to_vec())),
        },
        ..Default::default()
    })
}

pub(crate) fn event_of(message: p::Event) -> Result<Event, Malformed> {
    let position = some_position(&message.position)?;
    let new = NewEvent {
        id: id_of(&message.id)?,
        stream: stream_of(&message.stream)?,
        event_type: type_of(&message.r#type)?,
        schema_version: message.schema_version,
        data: match message.content {
            Some(oneof::event::Content::Data(data)) => data.into(),
            Some(oneof::event::Content::Text(text)) => text.into(),
            None => Bytes::new(),
        },
        meta: some_meta(message.meta),
    };
    Ok(Event::stored(
        &new,
        position,
        message.version,
        message.recorded_at_us,
    ))
}

/// What goes as text: data that is called JSON, so that people can read it on the way.
fn text(data: &[u8], content_type: Option<&str>) -> Option<String> {
    if data.is_empty() || !content_type.is_none_or(is_json_media_type) {
        return None;
    }
    std::str::from_utf8(data).ok().map(str::to_owned)
}

fn meta_to(meta: &Meta) -> p::Meta {
    p::Meta {
        content_type: meta.content_type.clone(),
        source: meta.source.clone(),
        causation_id: meta.causation_id.clone(),
        correlation_id: meta.correlation_id.clone(),
        traceparent: meta.traceparent.clone(),
        tags: meta.tags.clone(),
        headers: meta.headers.clone().into_iter().collect(),
        causes: if meta.causes.iter().next().is_none() {
            MessageField::none()
        } else {
            MessageField::some(cut_to(&meta.causes))
        },
        ..Default::default()
    }
}

fn some_meta(message: Set<p::Meta>) -> Option<Arc<Meta>> {
    let message = message.into_option()?;
    let meta = Meta {
        content_type: message.content_type,
        source: message.source,
        causation_id: message.causation_id,
        correlation_id: message.correlation_id,
        traceparent: message.traceparent,
        tags: message.tags,
        headers: message.headers.into_iter().collect(),
        causes: some_cut(&message.causes),
    };
    Some(Arc::new(meta))
}

/// The event id that a text means.
pub fn id_of(text: &str) -> Result<EventId, Malformed> {
    let id = text.parse();
    id.map_err(|_| Malformed(format!("{text:?} is no UUID, and an event's id is one")))
}

/// The stream that a text means.
pub fn stream_of(text: &str) -> Result<StreamId, Malformed> {
    // Services write streams of the platform, such as `$checkpoint/…`, by the same way.
    StreamId::system(text).map_err(Malformed::new)
}

pub(crate) fn type_of(text: &str) -> Result<EventType, Malformed> {
    EventType::new(text).map_err(Malformed::new)
}
