//! `/events`: the log's events for whoever speaks plain HTTP, as server-sent events or by WebSocket.

use anabranch_access::Verb;
use anabranch_log::ReadMode;
use anabranch_model::{Cut, EventType, Filter, StreamId};
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::IntoResponse as _;

use crate::answer::Answer;
use crate::event_source::EventSource;
use crate::ingest;
use crate::page;
use crate::policy::{By, Needs, Routes};
use crate::read::{Parameters, one};
use crate::reading::{Reader, Sight};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::session::{place_of, token_of};
use crate::shared::Shared;
use crate::{one_event, socket, sse};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static(anabranch_wire::LAST_EVENT_ID);

/// With appending, if the log is served here.
pub fn routes(has_log: bool) -> Routes {
    let routes = Routes::default()
        .get("/events", Needs::Each(Verb::Read), follow)
        .get("/events/{event}", Needs::Each(Verb::Read), one_event::show);
    match has_log {
        true => routes.post("/events", Needs::Each(Verb::Append), ingest::append),
        false => routes,
    }
}

/// Events from a place on, one after the other, until their reader goes away or, with
/// `until=head`, to where the log ends now. Whoever accepts a batch of CloudEvents gets one page of
/// what there is now; whoever asks for a WebSocket gets them there.
async fn follow(
    State(shared): State<Shared>,
    By(caller): By,
    mut parameters: Parameters,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    let filter = filter(&mut parameters)?;
    let reader = Reader::of(&shared, caller, &headers, &filter).await?;
    let story = parameters.take("correlation")?;
    let mode = mode(parameters.take("until")?)?;
    let asked = parameters.take("from")?;
    let count = if wants_batch(&headers) {
        Some(count(parameters.take_number("limit")?)?)
    } else {
        None
    };
    let socket = match headers.contains_key(header::UPGRADE) {
        true => Some(socket.map_err(|rejection| socket::refuse(&rejection.body_text()))?),
        false => None,
    };
    let credits = match socket {
        Some(_) => parameters.take_number("credits")?,
        None => None,
    };
    parameters.finish()?;
    let last = one(&headers, &LAST_EVENT_ID)?.map(|id| String::from_utf8_lossy(id.as_bytes()));
    let last = last.filter(|id| !id.is_empty());
    let head = shared.log.head().await?;
    // A reader that comes again asks as it did at first, and says beside it where it is by now.
    let from = match (&last, &asked) {
        (Some(id), _) => place_of(&shared, "Last-Event-ID", id, &head)?,
        (None, Some(text)) => place_of(&shared, "from", text, &head)?,
        (None, None) => Cut::start(),
    };
    if let (Some(count), None) = (count, &socket) {
        let events = shared.log.read(&from, filter, ReadMode::ToHead);
        let who = (&reader, &Sight::now(&shared));
        let page = page::read(events, who, (from, head), story.as_deref(), count).await?;
        let token = token_of(&shared.seal, &page.place);
        let headers = [
            (header::CONTENT_TYPE, anabranch_wire::CLOUD_EVENT_BATCH),
            (header::CACHE_CONTROL, "no-store"),
            (TOKEN_HEADER, &token),
        ];
        return Ok((headers, page.json).into_response());
    }
    let room = shared.lanes.readers.clone().try_acquire_owned();
    let room = room.map_err(|_| {
        let full = "as many readers follow the log by GET /events as this server has room for";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", full).again_in(AGAIN)
    })?;
    if let Some(upgrade) = socket {
        let events = shared.log.read(&from, filter, mode);
        let source = EventSource::new(&shared, reader, events, (from, head), story, room);
        let source = source.with_credits(credits);
        return Ok(socket::upgrade(upgrade, &shared, source));
    }
    if mode == ReadMode::ToHead && last.is_some() && from.covers(&head) {
        // A browser's reader comes again whenever it was given all, unless it is told not to.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = shared.log.read(&from, filter, mode);
    let source = EventSource::new(&shared, reader, events, (from, head), story, room);
    let headers = [
        (header::CONTENT_TYPE, anabranch_wire::EVENT_STREAM),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies are not to keep events back until they have many.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(sse::chunks(source))).into_response())
}

/// When a reader that found no room comes again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Which events are wanted, in the words of `anabranch read`.
fn filter(parameters: &mut Parameters) -> Result<Filter, Refusal> {
    let wrong =
        |name: &str, why: String| Refusal::bad_request("bad-parameters", format!("{name}: {why}"));
    let types = parameters
        .take_all("type")
        .into_iter()
        .map(|name| EventType::new(name).map_err(|error| wrong("type", error.to_string())));
    let types = types.collect::<Result<_, _>>()?;
    let streams = parameters
        .take_all("stream")
        .into_iter()
        .map(|name| StreamId::system(name).map_err(|error| wrong("stream", error.to_string())));
    let streams = streams.collect::<Result<_, _>>()?;
    let headers = parameters.take_all("header").into_iter().map(|header| {
        let pair = header.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| {
            wrong(
                "header",
                format!("{header:?} is not of the form name=value"),
            )
        })
    });
    let headers = headers.collect::<Result<_, _>>()?;
    Ok(Filter {
        categories: parameters.take_all("category"),
        types,
        streams,
        headers,
        tags: parameters.take_all("tag"),
    })
}

fn mode(until: Option<String>) -> Result<ReadMode, Refusal> {
    match until.as_deref() {
        None => Ok(ReadMode::Follow),
        Some("head") => Ok(ReadMode::ToHead),
        Some(other) => Err(Refusal::bad_request(
            "bad-parameters",
            format!("until: only head is known, not {other:?}; without it the events are followed"),
        )),
    }
}

/// Whether a batch of CloudEvents is what is accepted.
fn wants_batch(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    accepted.any(|kind| {
        let essence = kind.split(|&byte| byte == b';').next().unwrap_or_default();
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(anabranch_wire::CLOUD_EVENT_BATCH.as_bytes())
    })
}

/// How many events a page has at most.
fn count(limit: Option<u64>) -> Result<u64, Refusal> {
    match limit {
        None => Ok(page::EVENTS),
        Some(limit) if (1..=page::EVENTS_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(Refusal::bad_request(
            "bad-parameters",
            format!(
                "limit: a page has 1 to {} events, not {limit}",
                page::EVENTS_MAX
            ),
        )),
    }
}
