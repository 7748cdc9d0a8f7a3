//! What a request says that it depends on: the header `Anabranch-Causes`.

use anabranch_model::{Cut, Position};
use anabranch_runtime::{Cause, Causes};
use axum::http::{HeaderMap, HeaderName};

use crate::read::one;
use crate::refusal::Refusal;
use crate::session::no_partition;
use crate::shared::Shared;

const CAUSES: HeaderName = HeaderName::from_static(anabranch_wire::CAUSES_HEADER);

/// So many causes are named at the most.
const CAUSES_MAX: usize = 64;

/// What the request says; `None`: nothing.
pub async fn named(shared: &Shared, headers: &HeaderMap) -> Result<Option<Causes>, Refusal> {
    let Some(value) = one(headers, &CAUSES)? else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "root" {
        return Ok(Some(Causes::Root));
    }
    if text.split(',').count() > CAUSES_MAX {
        return Err(wrong(&format!("{CAUSES_MAX} causes are the most")));
    }
    let causes = text.split(',').map(|part| cause(shared, part.trim()));
    let causes = Causes::Explicit(causes.collect::<Result<_, _>>()?);
    let all = causes.cut(Cut::start);
    if !shared.fleet.has_seen(&shared.log, &all) {
        let head = shared.log.head().await?;
        if !head.covers(&all) {
            return Err(Refusal::bad_request(
                "causes-beyond-head",
                format!(
                    "Anabranch-Causes: {all} lies beyond the log's head {head}: it was read from another log, or events were lost; nothing was done"
                ),
            ));
        }
    }
    Ok(Some(causes))
}

fn cause(shared: &Shared, text: &str) -> Result<Cause, Refusal> {
    if text.contains(':') {
        let position: Position = text
            .parse()
            .map_err(|_| wrong(&format!("{text:?} is no position")))?;
        let partitions = shared.log.capabilities().partitions;
        return match position.partition.0 < partitions {
            true => Ok(Cause::Event(position)),
            false => Err(wrong(&no_partition(position.partition.0, partitions))),
        };
    }
    let session = shared.seal.open(text);
    let session = session.map_err(|error| wrong(&error.to_string()))?;
    Ok(Cause::Token(session.deps().clone()))
}

fn wrong(what: &str) -> Refusal {
    Refusal::bad_request(
        "bad-causes",
        format!(
            "Anabranch-Causes: {what}; name events by their positions and what was seen by tokens, as 3:17, TOKEN, or root for none"
        ),
    )
}
