//! From decisions to appends: what waits is decided, and what was decided is sent to the log.

use std::time::Duration;

use anabranch_domain::StreamId;
use anabranch_log::{Append, Condition, Expect};
use tracing::{Instrument as _, Span};

use super::decide::decide;
use super::shard::{Done, Shard};
use super::slot::{Flight, Slot, State};
use crate::send_error::SendError;
use crate::telemetry;

/// What a batch adds to an append.
struct Load {
    events: usize,
    bytes: usize,
    is_alone: bool,
}

impl Shard {
    /// Decides what waits at a machine, as far as that is possible now.
    pub fn decide_waiting(&mut self, stream: &StreamId) {
        let options = &self.shared.options;
        let Some(slot) = self.slots.get_mut(stream) else {
            return self.shared.broken_invariant(stream, "it has no slot");
        };
        // Loading or resting, it decides when that has ended.
        let State::Live(live) = &mut slot.state else {
            return;
        };
        let mut expired = Vec::new();
        while live.broken.is_none()
            && let (events, bytes) = live.decided()
            && events < options.batch_events_max
            && bytes < options.batch_bytes_max
            && live.machine.held() < slot.held_max
            && slot.waiting.front().is_some_and(|next| live.takes(next))
            && let Some(item) = slot.waiting.pop_front()
        {
            let deadline = item.ask.as_ref().map(|ask| ask.deadline);
            if deadline.is_some_and(|deadline| self.shared.time.monotonic() >= deadline) {
                expired.push(item);
            } else if let Err(item) = decide(&self.shared, live, stream, item) {
                slot.waiting.push_front(item);
                break;
            }
        }
        if live.flight.is_none() && (live.open.is_some() || live.broken.is_some()) {
            self.eager.push(stream.clone());
        }
        for item in expired {
            self.answer(*item, stream, Err(SendError::Expired));
        }
    }

    /// Sends what was decided, of each machine that has nothing in flight; that of several in
    /// one append, because the log takes one large append faster than many small ones.
    pub fn send_decided(&mut self) {
        let limits = self.shared.writer.limits;
        let combines = self.shared.combines && self.apart == 0;
        if !self.eager.is_empty() {
            self.apart = self.apart.saturating_sub(1);
        }
        let (mut streams, mut events, mut bytes) = (Vec::new(), 0, 0);
        while let Some(stream) = self.eager.pop() {
            let Some(load) = self.close_batch(&stream) else {
                continue;
            };
            if !combines || load.is_alone {
                self.launch(Flight::of(stream), Duration::ZERO);
                continue;
            }
            let is_full = events + load.events > limits.batch_events_max
                || bytes + load.bytes > limits.batch_bytes_max
                || streams.len() == limits.conditions_max;
            if is_full && !streams.is_empty() {
                let streams = std::mem::take(&mut streams);
                self.launch(Flight { streams, times: 1 }, Duration::ZERO);
                (events, bytes) = (0, 0);
            }
            events += load.events;
            bytes += load.bytes;
            streams.push(stream);
        }
        if !streams.is_empty() {
            self.launch(Flight { streams, times: 1 }, Duration::ZERO);
        }
    }

    /// Makes the open batch the one that is sent. `None` if there is nothing to send.
    fn close_batch(&mut self, stream: &StreamId) -> Option<Load> {
        let every = self.shared.options.snapshot_every;
        // Between the decision and now it may have been read again.
        let live = self.slots.get_mut(stream).and_then(Slot::live)?;
        if live.flight.is_some() {
            return None;
        }
        let mut batch = live.open.take().unwrap_or_default();
        if batch.appends_nothing() {
            self.confirm(stream, *batch, &[]);
            return None;
        }
        let length = live.durable_count() + batch.events.len() as u64;
        if live.broken.is_none() && every > 0 && length - live.snapshot_at >= every {
            batch.snapshot = live.frozen();
        }
        let load = Load {
            events: batch.len(),
            bytes: batch.bytes,
            is_alone: batch.is_alone(),
        };
        live.flight = Some(batch);
        Some(load)
    }

    /// Sends the batches that are in flight to the log, after a while.
    pub fn launch(&mut self, flight: Flight, wait: Duration) {
        let (mut conditions, mut events) = (Vec::new(), Vec::new());
        for stream in &flight.streams {
            let live = self.slots.get_mut(stream).and_then(Slot::live);
            let Some((batch, durable)) =
                live.and_then(|live| Some((live.flight.as_ref()?, live.durable)))
            else {
                self.shared
                    .broken_invariant(stream, "it has no batch to send");
                continue;
            };
            let expect = durable.map_or(Expect::Empty, |durable| Expect::At(durable.version));
            conditions.push(Condition::Stream(stream.clone(), expect));
            events.extend(batch.events.iter().chain(&batch.settled).cloned());
        }
        let span = self.span_of(&flight, events.len());
        let append = Append { conditions, events };
        let log = self.shared.log.clone();
        let rest = (!wait.is_zero()).then(|| self.shared.time.sleep(wait));
        self.duties += 1;
        self.jobs.push(Box::pin(async move {
            if let Some(rest) = rest {
                rest.await;
            }
            let result = log.append(append).instrument(span.clone()).await;
            telemetry::appended(&span, &result);
            Done::Appended(flight, result)
        }));
    }

    /// The span of an append, below the commands that it is about.
    fn span_of(&self, flight: &Flight, events: usize) -> Span {
        if !telemetry::is_on() {
            return Span::none();
        }
        let live = |stream| match &self.slots.get(stream)?.state {
            State::Live(live) => live.flight.as_ref(),
            _ => None,
        };
        let batches = flight.streams.iter().filter_map(live);
        let asks =
            batches.flat_map(|batch| batch.decided.iter().filter_map(|d| d.item.ask.as_ref()));
        let spans: Vec<&Span> = asks.map(|ask| &ask.span).collect();
        telemetry::append(&spans, events)
    }
}
