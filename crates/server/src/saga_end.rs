//! Waits for the end of a saga, by its journal: whichever process runs it, the log tells.

use std::time::Duration;

use anabranch_domain::saga::{SAGA_ENDS, SagaEvent};
use anabranch_domain::{Event as _, StreamId};
use anabranch_log::{Order, ReadMode, VersionRange};
use anabranch_model::{Event, EventType, Filter};
use anabranch_wire::{SagaEnded, SagaOutcome};
use futures_util::future::{Either, select};

use crate::refusal::Refusal;
use crate::shared::Shared;

/// How the saga has ended; `None` if it has not when this time is over, or when the server is about
/// to stop.
pub async fn within(
    shared: &Shared,
    saga: &StreamId,
    wait: Duration,
) -> Result<Option<SagaEnded>, Refusal> {
    let mut stopping = shared.stopping.clone();
    let stopped = Box::pin(stopping.wait_for(|is_stopping| *is_stopping));
    let late = shared.time.sleep(wait);
    match select(Box::pin(end(shared, saga)), select(stopped, late)).await {
        Either::Left((end, _)) => end.map(Some),
        Either::Right(_) => Ok(None),
    }
}

async fn end(shared: &Shared, saga: &StreamId) -> Result<SagaEnded, Refusal> {
    let head = shared.log.head().await?;
    let mut reason = None;
    let mut journal = shared
        .log
        .read_stream(saga, VersionRange::ALL, Order::Forward);
    while let Some(event) = journal.next().await {
        if let Some(end) = said_by(&event?, &mut reason)? {
            return Ok(end);
        }
    }
    // What was appended since then comes once more, or for the first time.
    let types = SAGA_ENDS.map(EventType::new).into_iter();
    let filter = Filter {
        types: types
            .collect::<Result<_, _>>()
            .map_err(|error| Refusal::internal(error.to_string()))?,
        ..Filter::stream(saga.clone())
    };
    let mut news = shared.log.read(&head, filter, ReadMode::Follow);
    while let Some(event) = news.next().await {
        if let Some(end) = said_by(&event?, &mut reason)? {
            return Ok(end);
        }
    }
    Err(Refusal::unavailable("the log has ended the read"))
}

/// How the saga has ended, if this event says so. Another service reads nothing else of the journal.
fn said_by(event: &Event, reason: &mut Option<String>) -> Result<Option<SagaEnded>, Refusal> {
    if !SAGA_ENDS.contains(&event.event_type()) {
        return Ok(None);
    }
    let decoded = SagaEvent::decode(event.event_type(), event.schema_version, event.data());
    let outcome = match decoded.map_err(|error| Refusal::internal(error.to_string()))? {
        SagaEvent::AbortRequested { why, .. } => {
            *reason = Some(why);
            return Ok(None);
        }
        SagaEvent::SagaCompleted => SagaOutcome::Completed,
        SagaEvent::SagaCompensated => SagaOutcome::Compensated,
        _ => return Ok(None),
    };
    let reason = match outcome {
        SagaOutcome::Completed => None,
        SagaOutcome::Compensated => reason.take(),
    };
    Ok(Some(SagaEnded { outcome, reason }))
}
