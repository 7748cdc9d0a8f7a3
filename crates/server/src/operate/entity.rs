use anabranch_access::Verb;
use anabranch_domain::StreamId;
use anabranch_log::{Order, VersionRange};
use anabranch_model::to_cloud_event;
use anabranch_runtime::port::Subject;
use anabranch_wire as wire;
use axum::extract::State;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::owner::owner;
use crate::policy::{ALL, By, Needs, Routes};
use crate::read::{Names, Parameters, Stream};
use crate::refusal::Refusal;
use crate::shared::Shared;

/// How many events are given at a time if nothing is said, and the most.
const EVENTS: u64 = 1000;
const EVENTS_MAX: u64 = 10_000;

/// After so many bytes no further event is added.
const BYTES_MAX: usize = 16 << 20;

pub fn routes() -> Routes {
    Routes::default()
        .get(
            "/entity/{category}/{*key}",
            Needs::Path(Verb::Operate, "category"),
            inspect,
        )
        .get(
            "/history/{category}/{*key}",
            Needs::Path(Verb::Operate, "category"),
            history,
        )
        .get("/parked", Needs::Of(Verb::Operate, ALL), parked)
        .post(
            "/unpark/{category}/{*key}",
            Needs::Path(Verb::Operate, "category"),
            unpark,
        )
}

async fn inspect(
    State(shared): State<Shared>,
    Stream(stream): Stream,
    mut parameters: Parameters,
) -> Answer {
    let at = parameters.take_number("at")?;
    parameters.finish()?;
    let owner = owner(&shared, Subject::Category(stream.category()))?;
    let entity = owner.any_entity(stream.category())?;
    let inspection = entity.inspect(stream.clone(), at).await?;
    match (inspection.version, at) {
        (None, _) => Err(Refusal::not_found(
            "not-found",
            format!("{stream} has no events"),
        )),
        (Some(version), Some(at)) if version != at => Err(Refusal::not_found(
            "not-found",
            format!("{stream} has no event {at}; its last event has version {version}"),
        )),
        (Some(version), _) => reply(&convert::entity(&inspection, version)),
    }
}

/// Any stream may be read, whoever owns it, by an operator of its category who may read that.
async fn history(
    State(shared): State<Shared>,
    By(caller): By,
    Names((category, key)): Names<(String, String)>,
    mut parameters: Parameters,
) -> Answer {
    let from = parameters.take_number("from")?.unwrap_or(0);
    let limit = parameters.take_number("limit")?.unwrap_or(EVENTS);
    parameters.finish()?;
    caller.check(Verb::Read, &category)?;
    let limit = limit.min(EVENTS_MAX);
    let stream = StreamId::system(format!("{category}/{key}"))
        .map_err(|error| Refusal::bad_request("bad-name", error.to_string()))?;
    let mut read = shared
        .log
        .read_stream(&stream, VersionRange::from(from), Order::Forward);
    let (mut events, mut bytes, mut next) = (Vec::new(), 0, None);
    'reading: while let Some(batch) = read.next_batch().await {
        for event in &batch? {
            let event = event.map_err(damaged)?;
            if events.len() as u64 == limit || bytes > BYTES_MAX {
                next = Some(event.version);
                break 'reading;
            }
            let text = to_cloud_event(&event).map_err(damaged)?;
            bytes += text.len();
            events
                .push(wire::Raw::new(text).map_err(|error| Refusal::internal(error.to_string()))?);
        }
    }
    reply(&wire::History {
        stream: stream.to_string(),
        events,
        next,
    })
}

fn damaged(error: anabranch_model::record::RecordError) -> Refusal {
    Refusal::internal(format!("{error}; run `anabranch log verify`"))
}

async fn parked(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for category in service.categories() {
            for (stream, reason) in service.any_entity(category)?.parked().await {
                all.push(wire::Parked {
                    service: service.name().to_owned(),
                    stream: stream.to_string(),
                    reason,
                });
            }
        }
    }
    reply(&all)
}

async fn unpark(State(shared): State<Shared>, Stream(stream): Stream) -> Answer {
    let owner = owner(&shared, Subject::Category(stream.category()))?;
    if owner
        .any_entity(stream.category())?
        .unpark(stream.clone())
        .await
    {
        return reply(&wire::Unparked {
            stream: stream.to_string(),
            unparked: true,
        });
    }
    Err(Refusal::not_now(format!("{stream} is not parked")))
}
