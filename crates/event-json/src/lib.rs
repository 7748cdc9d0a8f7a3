//! Events as JSON, from elsewhere, to append to a log.
//!
//! Two forms are taken. The plain form is
//! `{"stream","type","data","id"?,"headers"?,"tags"?,"expect"?}`. An object with `specversion`
//! is a CloudEvent in structured mode, which is also what `read --output jsonl` and
//! `log export` write. The data is kept byte for byte as it stands there.

mod base64;
mod cloud_event;
mod form;
mod line;
mod plain;

use std::collections::BTreeMap;

use anabranch_model::{EventId, NewEvent, check_json as check_json_bytes, is_json_media_type};
use bytes::Bytes;

pub use cloud_event::parse_cut;
use form::{Form, column, not_json};
pub use line::{EventLine, LineError, Parsed, parse_expect};

/// Reads one line, without its line break. An event that brings no id gets `derived_id`.
pub fn parse(line: &[u8], derived_id: EventId) -> Result<Parsed, LineError> {
    if line.trim_ascii_start().starts_with(b"[") {
        return Err(LineError {
            column: 1,
            reason:
                "an array; import reads one event from each line, as --output jsonl prints them"
                    .to_owned(),
        });
    }
    let form = Form::read(line)?;
    match form.get("specversion") {
        Some(_) if form.is_of_platform() => Ok(Parsed::OfPlatform),
        Some(version) => form.cloud_event(version, derived_id).map(Parsed::Event),
        None => form.plain(derived_id).map(Parsed::Event),
    }
}

/// Reads a CloudEvent in structured mode that somebody sends: it has its own id and source, which
/// tell it from all others.
pub fn parse_cloud_event(json: &[u8]) -> Result<NewEvent, LineError> {
    Form::read(json)?.sent_cloud_event()
}

/// Makes an event of a CloudEvent in binary mode: of its attributes, each with its text, among them
/// `datacontenttype` if it has one, and of its data, which stays as it is.
pub fn cloud_event_of(
    attributes: &BTreeMap<String, String>,
    data: Bytes,
) -> Result<NewEvent, LineError> {
    // Texts always have a JSON form.
    let json = serde_json::to_vec(attributes).unwrap_or_default();
    let mut event = Form::read(&json)?.sent_cloud_event()?;
    if data.is_empty() {
        return Ok(event);
    }
    let media_type = attributes.get("datacontenttype");
    let is_json = media_type.is_none_or(|media_type| is_json_media_type(media_type));
    match (check_json_bytes(&data), media_type) {
        (Err(error), Some(_)) if is_json => {
            let named = "`datacontenttype` names the media type of what is no JSON";
            return Err(LineError {
                column: error.at + 1,
                reason: format!("the body is no JSON: {error}; {named}"),
            });
        }
        // Bytes need no media type; those that are no JSON get that of bytes.
        (Err(_), None) => {
            event.meta_mut().content_type = Some("application/octet-stream".to_owned());
        }
        _ => {}
    }
    event.data = data;
    Ok(event)
}

/// Checks that `data` is JSON that can be stored as it is: one value that every reader can read.
/// Gives it without the white space around it.
pub fn check_json(data: &str) -> Result<&str, LineError> {
    check_json_bytes(data.as_bytes()).map_err(|error| LineError {
        column: column(data, error.at),
        reason: not_json(error),
    })?;
    Ok(data.trim_matches([' ', '\t', '\n', '\r']))
}

#[cfg(test)]
mod tests;
