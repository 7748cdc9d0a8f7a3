//! `GET /events/{event}`: one event, by its id or its position.
//! Source: CloudEvents 1.0.2, "HTTP Protocol Binding" 3.1 (binary) and 3.2 (structured).

use anabranch_model::{Event, EventId, Filter, Position, to_cloud_event};
use anabranch_wire::CLOUD_EVENT;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::policy::By;
use crate::read::Parameters;
use crate::reading::{self, Reader, Sight};
use crate::refusal::Refusal;
use crate::session::no_partition;
use crate::shared::Shared;

/// With what the headers begin that are attributes.
const ATTRIBUTE: &str = "ce-";

/// The event that has this id or position.
pub async fn show(
    State(shared): State<Shared>,
    By(caller): By,
    Path(name): Path<String>,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Answer {
    let mode = parameters.take("mode")?;
    parameters.finish()?;
    let reader = Reader::of(&shared, caller, &headers, &Filter::all()).await?;
    let event = find(&shared, &reader, &name).await?;
    let structured = to_cloud_event(&event.as_ref());
    let structured = structured.map_err(|error| Refusal::internal(error.to_string()))?;
    match mode.as_deref() {
        None | Some("structured") => {
            let headers = [
                (header::CONTENT_TYPE, CLOUD_EVENT),
                (header::CACHE_CONTROL, "no-store"),
            ];
            Ok((headers, structured).into_response())
        }
        Some("binary") => binary(&structured, &event),
        Some(other) => Err(Refusal::bad_request(
            "bad-parameters",
            format!("mode: an event comes structured or binary, not {other:?}"),
        )),
    }
}

async fn find(shared: &Shared, reader: &Reader, name: &str) -> Result<Event, Refusal> {
    // Whether there is an event that the caller may not read is not told either.
    let none = || {
        let what = format!("there is no event {name} that may be read by who asks");
        Refusal::not_found("not-found", what)
    };
    let position = name.contains(':').then(|| name.parse::<Position>());
    let position = match (position, name.parse::<EventId>()) {
        (Some(Ok(position)), _) => position,
        (_, Ok(id)) => match shared.log.find(id).await? {
            Some(placed) => placed.position,
            None => return Err(none()),
        },
        (_, Err(_)) => {
            let what =
                format!("{name:?} is neither the id of an event nor a position such as 0:42");
            return Err(Refusal::bad_request("bad-parameters", what));
        }
    };
    let partitions = shared.log.capabilities().partitions;
    if position.partition.0 >= partitions {
        let what = no_partition(position.partition.0, partitions);
        return Err(Refusal::bad_request("bad-place", what));
    }
    let event = reading::at(shared, position).await?.ok_or_else(none)?;
    let is_seen = reader.sees(&Sight::now(shared), &event.as_ref())?;
    is_seen.then_some(event).ok_or_else(none)
}

/// Its attributes as headers, its data as the body, byte for byte.
fn binary(structured: &str, event: &Event) -> Answer {
    let attributes: Map<String, Value> =
        serde_json::from_str(structured).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &attributes {
        match (name.as_str(), value) {
            ("data" | "data_base64", _) => {}
            ("datacontenttype", Value::String(kind)) => {
                put(&mut headers, header::CONTENT_TYPE.as_str(), kind)?;
            }
            (name, Value::String(value)) => {
                put(&mut headers, &format!("{ATTRIBUTE}{name}"), &escaped(value))?;
            }
            _ => return Err(Refusal::internal("an attribute is no text")),
        }
    }
    // Whatever somebody has appended, no browser runs it as a page of this server.
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'",
        ),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut response = Response::new(axum::body::Body::from(event.data().to_vec()));
    *response.headers_mut() = headers;
    Ok(response)
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Refusal> {
    let pair = HeaderName::try_from(name).ok().zip(value.parse().ok());
    let put = pair.and_then(|(name, value)| headers.try_insert(name, value).ok());
    put.map(drop).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            format!("the event's attributes do not fit into headers, such as {name}; ask without mode=binary"),
        )
    })
}

/// A text as headers have it. Source: CloudEvents 1.0.2, "HTTP Protocol Binding" 3.1.3.2.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => out.push_str(&format!("%{byte:02X}")),
            0x21..=0x7e => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_cannot_have_is_escaped() {
        assert_eq!(escaped("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(escaped("\"50%\"\r\n"), "%2250%25%22%0D%0A");
    }
}
