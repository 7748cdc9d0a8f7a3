//! Waits for the end of a saga, by its journal: whichever process runs it, the log tells.

use std::time::Duration;

use anabranch_domain::saga::{Phase, SagaEvent, SagaState};
use anabranch_domain::{Event as _, StreamId};
use anabranch_log::{Order, ReadMode, VersionRange};
use anabranch_model::{Event, Filter};
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
    let mut state = SagaState::new(saga.clone());
    let mut journal = shared
        .log
        .read_stream(saga, VersionRange::ALL, Order::Forward);
    while let Some(event) = journal.next().await {
        take_in(&mut state, &event?)?;
    }
    // What was appended since then comes once more, or for the first time.
    let filter = Filter::stream(saga.clone());
    let mut news = shared.log.read(&head, filter, ReadMode::Follow);
    loop {
        if let Some(end) = end_of(&state) {
            return Ok(end);
        }
        match news.next().await {
            Some(event) => take_in(&mut state, &event?)?,
            None => return Err(Refusal::unavailable("the log has ended the read")),
        }
    }
}

fn take_in(state: &mut SagaState, event: &Event) -> Result<(), Refusal> {
    if event.version < state.length() {
        return Ok(());
    }
    let decoded = SagaEvent::decode(event.event_type(), event.schema_version, event.data());
    let decoded = decoded.map_err(|error| Refusal::internal(error.to_string()))?;
    state.evolve(&decoded);
    Ok(())
}

fn end_of(state: &SagaState) -> Option<SagaEnded> {
    match state.phase() {
        Phase::Completed => Some(SagaEnded {
            outcome: SagaOutcome::Completed,
            reason: None,
        }),
        Phase::Compensated => Some(SagaEnded {
            outcome: SagaOutcome::Compensated,
            reason: state.abort_reason().map(str::to_owned),
        }),
        Phase::New | Phase::Running | Phase::Aborting => None,
    }
}
