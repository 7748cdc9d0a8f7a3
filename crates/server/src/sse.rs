//! Events of a read as the bytes of server-sent events.
//! Source: WHATWG HTML, "Server-sent events", section 9.2.
//!
//! Each event is a CloudEvent on one `data:` line, and its `id:` the token of the place behind it.

use std::convert::Infallible;

use anabranch_model::record::RecordError;
use anabranch_model::{Cut, EventRef, write_cloud_event};
use bytes::Bytes;
use futures_util::stream::Stream;

use crate::event_source::{EventSource, Heard, Words};
use crate::refusal::Refusal;

/// When a reader whose connection has ended comes again, in milliseconds.
const RETRY: &str = "retry: 1000\n";

/// Server-sent events.
pub struct Sse;

/// The bytes of a read, as far as somebody takes them.
pub fn chunks(
    source: EventSource<Sse>,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    futures_util::stream::unfold(source, |mut source| async move {
        let (Heard::Said(said) | Heard::Beat(said) | Heard::Last(said, _)) = source.next().await?;
        Some((Ok(said.into()), source))
    })
}

impl Words for Sse {
    fn begins(token: &str) -> Vec<u8> {
        format!("{RETRY}id: {token}\n\n").into()
    }

    fn event(token: &str, event: &EventRef<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(token.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        write_cloud_event(event, out)?;
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    fn beat(token: Option<&str>) -> Vec<u8> {
        match token {
            None => b": nothing new\n\n".to_vec(),
            Some(token) => format!(": nothing new\nid: {token}\n\n").into(),
        }
    }

    fn head(token: &str, place: &Cut) -> Vec<u8> {
        format!("event: head\nid: {token}\ndata: {place}\n\n").into()
    }

    fn problem(refusal: &Refusal) -> Vec<u8> {
        // A problem has a JSON form, on one line; a test of the wire types says so.
        let problem = serde_json::to_string(&refusal.problem).unwrap_or_default();
        format!("event: problem\ndata: {problem}\n\n").into()
    }

    fn stops() -> Vec<u8> {
        format!(": the server stops\n{RETRY}\n").into()
    }
}
