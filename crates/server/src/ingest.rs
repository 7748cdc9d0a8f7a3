//! `POST /events`: CloudEvents to append.
//! Source: CloudEvents 1.0.2, "HTTP Protocol Binding" 3, and "JSON event format" 4 for batches.

use std::collections::BTreeMap;

use anabranch_event_json::{LineError, cloud_event_of, parse_cloud_event};
use anabranch_log::{Append, AppendError, Appended, Placed, Rejection};
use anabranch_model::NewEvent;
use anabranch_wire::{AppendedEvent, CLOUD_EVENT, CLOUD_EVENT_BATCH, EventsAppended};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::value::RawValue;

use crate::allowed;
use crate::answer::{Answer, reply};
use crate::appender::Appender;
use crate::policy::By;
use crate::read::{AROUND_BYTES, Parameters, body, bytes, one};
use crate::reading::{LEASE, Unreadable};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::registry::Shown;
use crate::session::{header_of, session_of};
use crate::shared::Shared;

/// With what the headers begin that are attributes of a CloudEvent in binary mode.
const ATTRIBUTE: &str = "ce-";

/// How a CloudEvent comes.
enum Mode {
    /// Its attributes are headers, its data is the body.
    Binary,
    /// It is the body, as a JSON object.
    Structured,
    /// Several are the body, as an array.
    Batch,
}

/// Appends the events of a request, all of them or none.
pub async fn append(
    State(shared): State<Shared>,
    By(caller): By,
    parameters: Parameters,
    request: Request,
) -> Answer {
    parameters.finish()?;
    let headers = request.headers().clone();
    let mut session = session_of(&shared, &headers).await?;
    let limits = &shared.limits;
    let events = match mode(&headers)? {
        Mode::Binary => {
            let attributes = attributes(&headers)?;
            let data = bytes(request, &shared, limits.data_bytes_max).await?;
            let event = cloud_event_of(&attributes, data);
            vec![event.map_err(|error| Refusal::bad_request("bad-event", error.reason))?]
        }
        Mode::Structured => {
            // Data that is no JSON stands there in base64, and texts with escapes.
            let max = (limits.data_bytes_max + limits.headers_bytes_max) * 2 + AROUND_BYTES;
            let json = body(request, &shared, max).await?;
            if json.trim_ascii_start().starts_with(b"[") {
                let what = format!("the body is an array; send it as {CLOUD_EVENT_BATCH}");
                return Err(Refusal::bad_request("bad-event", what));
            }
            vec![parse_cloud_event(&json).map_err(|error| bad_event(&error))?]
        }
        Mode::Batch => {
            let max = limits.batch_bytes_max.saturating_mul(2) + AROUND_BYTES;
            batch(&body(request, &shared, max).await?)?
        }
    };
    allowed::append(&shared, &caller, &events)?;
    let registry = &shared.registry;
    let ready = registry.ready().await;
    ready.map_err(|denied| Refusal::unavailable(format!("{denied}; nothing was changed")))?;
    let lease = one(&headers, &LEASE)?.map(|lease| String::from_utf8_lossy(lease.as_bytes()));
    let shown = match lease {
        Some(lease) => registry.show(&[lease.into_owned()]),
        None => Shown::default(),
    };
    let appender = Appender::new(caller, shown);
    let appended = append_all(&shared, &appender, &events, &mut session).await?;
    let mut response = reply(&EventsAppended { events: appended })?;
    response
        .headers_mut()
        .insert(TOKEN_HEADER, header_of(&shared, &session)?);
    Ok(response)
}

/// How often others may write some of the events meanwhile.
const ATTEMPTS_MAX: u32 = 4;

/// Appends the events in one batch. Those that were written before are told as they stand, and the
/// others are one batch.
async fn append_all(
    shared: &Shared,
    appender: &Appender,
    events: &[NewEvent],
    session: &mut anabranch_model::Session,
) -> Result<Vec<AppendedEvent>, Refusal> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let append = async |append: Append| -> Result<Appended, AppendError> {
        let refused = |why: Unreadable| Rejection::Other(why.to_string());
        let checked = appender.check(shared, append).map_err(refused)?;
        appender.append(shared, checked).await
    };
    match append(Append::events(events)).await {
        Ok(done) => {
            session.wrote(&done.cut());
            let placed = events.iter().zip(&done.places);
            return Ok(placed
                .map(|(event, place)| told(event, *place, done.repeated))
                .collect());
        }
        Err(AppendError::Rejected(Rejection::PartlyWritten { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    for _ in 0..ATTEMPTS_MAX {
        let (mut places, mut fresh) = (Vec::new(), Vec::new());
        for event in events {
            let mut place = None;
            if shared.log.find(event.id).await?.is_some() {
                // The same event once more, which writes nothing, or another one of its id.
                let done = append(Append::event(event.clone())).await?;
                session.wrote(&done.cut());
                place = done.places.first().map(|place| (*place, true));
            }
            if place.is_none() {
                fresh.push(event.clone());
            }
            places.push(place);
        }
        let mut written = Vec::new();
        if !fresh.is_empty() {
            match append(Append::events(fresh)).await {
                Ok(done) => {
                    session.wrote(&done.cut());
                    written = done.places;
                }
                Err(AppendError::Rejected(Rejection::PartlyWritten { .. })) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let mut written = written.into_iter().map(|place| (place, false));
        let placed = events.iter().zip(places);
        let told = placed.filter_map(|(event, place)| {
            let (place, repeated) = place.or_else(|| written.next())?;
            Some(told(event, place, repeated))
        });
        return Ok(told.collect());
    }
    Err(Refusal::unavailable(
        "others write the same events at the same time; nothing new was written, try again",
    ))
}

fn told(event: &NewEvent, place: Placed, repeated: bool) -> AppendedEvent {
    AppendedEvent {
        id: event.id.to_string(),
        stream: event.stream.to_string(),
        version: place.version,
        position: place.position.to_string(),
        repeated,
    }
}

fn mode(headers: &HeaderMap) -> Result<Mode, Refusal> {
    let kind = one(headers, &header::CONTENT_TYPE)?;
    let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()));
    let essence = kind.as_deref().unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let unsupported = |what: String| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(Refusal::new(status, "not-a-cloud-event", what))
    };
    match essence.as_str() {
        CLOUD_EVENT => Ok(Mode::Structured),
        CLOUD_EVENT_BATCH => Ok(Mode::Batch),
        other if other.starts_with("application/cloudevents") => unsupported(format!(
            "CloudEvents are taken as {CLOUD_EVENT} and {CLOUD_EVENT_BATCH}, not as {other}"
        )),
        _ if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        _ => unsupported(format!(
            "this is no CloudEvent: send it as {CLOUD_EVENT}, several as {CLOUD_EVENT_BATCH}, or one with its attributes as headers, ce-specversion: 1.0 and so on"
        )),
    }
}

fn bad_event(LineError { column, reason }: &LineError) -> Refusal {
    Refusal::bad_request("bad-event", format!("column {column}: {reason}"))
}

fn batch(json: &[u8]) -> Result<Vec<NewEvent>, Refusal> {
    let all: Vec<&RawValue> = serde_json::from_slice(json).map_err(|error| {
        Refusal::bad_request(
            "bad-event",
            format!("the body is no array of CloudEvents: {error}"),
        )
    })?;
    let events = all.iter().enumerate().map(|(index, one)| {
        parse_cloud_event(one.get().as_bytes()).map_err(|error| {
            let what = format!("event {index}, column {}: {}", error.column, error.reason);
            Refusal::bad_request("bad-event", what)
        })
    });
    events.collect()
}

/// The attributes that stand in the headers, by their names.
fn attributes(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Refusal> {
    let mut attributes = BTreeMap::new();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(ATTRIBUTE) else {
            continue;
        };
        if ["data", "data_base64", "datacontenttype"].contains(&attribute) {
            let what = format!(
                "{name}: of a CloudEvent in binary mode the data is the body, and Content-Type its media type"
            );
            return Err(Refusal::bad_request("bad-event", what));
        }
        if let Some(value) = one(headers, name)? {
            attributes.insert(attribute.to_owned(), text(name, value)?);
        }
    }
    if let Some(kind) = one(headers, &header::CONTENT_TYPE)? {
        attributes.insert(
            "datacontenttype".to_owned(),
            text(&header::CONTENT_TYPE, kind)?,
        );
    }
    Ok(attributes)
}

/// The text of a header, which may have quotes around it and characters written as `%XX`.
fn text(name: &HeaderName, value: &HeaderValue) -> Result<String, Refusal> {
    let wrong = |what: &str| Refusal::bad_request("bad-event", format!("{name}: {what}"));
    if *name == header::CONTENT_TYPE {
        let text = value.to_str().map_err(|_| wrong("this is no media type"))?;
        return Ok(text.to_owned());
    }
    let quoted = value.as_bytes().strip_prefix(b"\"");
    let bytes = match quoted.and_then(|rest| rest.strip_suffix(b"\"")) {
        Some(inner) => unescaped(inner),
        None => value.as_bytes().to_vec(),
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(wrong("after a % stand two hexadecimal digits")),
        }
    }
    String::from_utf8(out).map_err(|_| wrong("this is not UTF-8"))
}

/// What stands between quotes, without the backslashes that escape a quote or a backslash there.
fn unescaped(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => out.extend(rest.next()),
            other => out.push(other),
        }
    }
    out
}
