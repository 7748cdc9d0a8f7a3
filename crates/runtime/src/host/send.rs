//! From inputs to appends: what waits is decided, and what was decided is sent to the log.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::StreamId;
use anabranch_log::{Append, Condition, Expect};
use anabranch_model::{Meta, NewEvent};
use tracing::Instrument as _;

use super::desk::{Desk, Made, Verdict, meta_of, size_of_event};
use super::item::{Item, Out};
use super::recall;
use super::shard::{Done, Shard};
use super::shared::Shared;
use super::slot::{Decided, Flight, HELD_MAX, Live, Slot, State};
use crate::panics::contain;
use crate::send_error::SendError;
use crate::telemetry;

/// The most bytes that batches of several machines share an append with: who reads one of their
/// streams reads the appends around its events.
const TOGETHER_BYTES_MAX: usize = 8 << 10;

impl Shard {
    /// Decides what waits at a machine, as far as that is possible now.
    pub fn decide_waiting(&mut self, stream: &StreamId) {
        let limits = self.shared.writer.limits;
        // Loading or resting, it decides when that has ended.
        let Some(Slot {
            state: State::Live(live),
            waiting,
            held_more,
            ..
        }) = self.slots.get_mut(stream)
        else {
            return;
        };
        let mut expired = Vec::new();
        while live.broken.is_none()
            // The other half is for what the last decision adds.
            && live.open.as_ref().is_none_or(|open| {
                open.len() <= limits.batch_events_max / 2
                    && open.bytes <= limits.batch_bytes_max / 2
            })
            && live.machine.held() < HELD_MAX + *held_more
            && waiting.front().is_some_and(|next| live.takes(next))
            && let Some(item) = waiting.pop_front()
        {
            let deadline = item.ask.as_ref().map(|ask| ask.deadline);
            if deadline.is_some_and(|deadline| self.shared.time.monotonic() >= deadline) {
                expired.push(item);
            } else if let Err(item) = decide(&self.shared, live, stream, item) {
                waiting.push_front(item);
                break;
            }
        }
        if live.flight.is_none() && (live.open.is_some() || live.broken.is_some()) {
            self.eager.push(stream.clone());
        }
        for item in expired {
            self.answer(*item, Err(SendError::Expired));
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
            let Some((adds, size, is_alone)) = self.close_batch(&stream) else {
                continue;
            };
            if !combines || is_alone {
                self.launch(Flight::of(stream), Duration::ZERO);
                continue;
            }
            let is_full = events + adds > limits.batch_events_max
                || bytes + size > limits.batch_bytes_max.min(TOGETHER_BYTES_MAX)
                || streams.len() == limits.conditions_max;
            if is_full && !streams.is_empty() {
                let streams = std::mem::take(&mut streams);
                self.launch(Flight { streams, times: 1 }, Duration::ZERO);
                (events, bytes) = (0, 0);
            }
            events += adds;
            bytes += size;
            streams.push(stream);
        }
        if !streams.is_empty() {
            self.launch(Flight { streams, times: 1 }, Duration::ZERO);
        }
    }

    /// Makes the open batch the one that is sent: how many events and bytes it adds to an append,
    /// and whether it shares none. `None` if there is nothing to send.
    fn close_batch(&mut self, stream: &StreamId) -> Option<(usize, usize, bool)> {
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
        let load = (batch.len(), batch.bytes, batch.is_alone());
        live.flight = Some(batch);
        Some(load)
    }

    /// Sends the batches that are in flight to the log, after a while.
    pub fn launch(&mut self, flight: Flight, wait: Duration) {
        let (mut conditions, mut events, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for stream in &flight.streams {
            let live = self.slots.get(stream).and_then(Slot::peek);
            let batch = live.and_then(|live| Some((live.flight.as_ref()?, live.durable)));
            let Some((batch, durable)) = batch else {
                self.shared
                    .broken_invariant(stream, "it has no batch to send");
                continue;
            };
            let expect = durable.map_or(Expect::Empty, |durable| Expect::At(durable.version));
            conditions.push(Condition::Stream(stream.clone(), expect));
            events.extend(batch.events.iter().chain(&batch.settled).cloned());
            if telemetry::is_on() {
                let asks = batch.decided.iter().filter_map(|one| one.item.ask.as_ref());
                spans.extend(asks.map(|ask| &ask.span));
            }
        }
        let span = telemetry::append(&spans, events.len());
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
}

/// Decides one input into the open batch; gives it back if that cannot be now.
pub fn decide(
    shared: &Shared,
    live: &mut Live,
    stream: &StreamId,
    item: Box<Item>,
) -> Result<(), Box<Item>> {
    if let Some(expect) = item.ask.as_ref().and_then(|ask| ask.options.expect) {
        let actual = live.machine.length().checked_sub(1);
        if !expect.holds(actual) {
            let error = SendError::VersionMismatch {
                stream: stream.clone(),
                expected: expect,
                actual,
            };
            join(shared, live, stream, item, Made::failed(error));
            return Ok(());
        }
    }
    if shared.writer.many_partitions && !live.causes.covers(&item.causes) {
        live.causes.join(&item.causes);
        live.meta = None;
    }
    if item.ask.is_none() && live.meta.is_none() {
        live.meta = Some(Arc::new(Meta {
            source: Some(shared.writer.source.clone()),
            correlation_id: Some(stream.to_string()),
            causes: live.causes.clone(),
            ..Meta::default()
        }));
    }
    let desk = Desk {
        stream,
        now: shared.time.now(),
        writer: &shared.writer,
        outbox: shared.outbox.as_deref(),
        meta: live.meta.as_ref(),
    };
    let machine = &mut live.machine;
    let span = telemetry::decide(item.ask.as_ref().map(|ask| &ask.span), stream);
    let is_told = item.is_told();
    let decided = contain(|| {
        let _inside = span.enter();
        let made = machine.decide(&item, &desk)?;
        let again = match item.resume {
            true => machine.outstanding()?,
            false => Vec::new(),
        };
        Ok::<_, String>((made, again))
    });
    let decided = decided.map_err(|panic| match is_told {
        true => panic,
        false => format!("its code panicked: {panic}"),
    });
    let made = match decided {
        Ok(Ok((mut made, again))) => {
            if item.resume {
                // What is sent again covers what the last decision sends.
                let again = again.into_iter().map(|out| (out, true));
                live.open.get_or_insert_default().outs.extend(again);
                let ends = |out: &Out| matches!(out, Out::Reply(_) | Out::Ended);
                made.outs.retain(ends);
            }
            made
        }
        Ok(Err(reason)) | Err(reason) => {
            live.broken = Some(reason.clone());
            if !is_told {
                return Err(item);
            }
            Made::failed(SendError::Panicked {
                stream: stream.clone(),
                reason,
            })
        }
    };
    join(shared, live, stream, item, made);
    Ok(())
}

fn join(shared: &Shared, live: &mut Live, stream: &StreamId, item: Box<Item>, mut made: Made) {
    let settled = match made.events.is_empty() {
        true => settle(shared, live, stream, &item, &mut made.verdict),
        false => None,
    };
    let open = live.open.get_or_insert_default();
    let added = made.events.iter().chain(&settled).chain(&made.beside);
    open.bytes += added.map(size_of_event).sum::<usize>();
    let first = open.events.len();
    open.events.extend(made.events);
    let index = open.settled.len();
    open.decided.push(Decided {
        item,
        events: first..open.events.len(),
        behind: index..index + usize::from(settled.is_some()) + made.beside.len(),
        verdict: made.verdict,
    });
    open.settled.extend(settled);
    open.settled.extend(made.beside);
    open.outs
        .extend(made.outs.into_iter().map(|out| (out, false)));
}

/// The event that settles a command that records nothing and may be sent again: whatever
/// happens meanwhile, it gets this outcome again.
fn settle(
    shared: &Shared,
    live: &Live,
    stream: &StreamId,
    item: &Item,
    verdict: &mut Verdict,
) -> Option<NewEvent> {
    let ask = item.ask.as_ref().filter(|ask| ask.is_settled())?;
    let (key, writer) = (ask.key(stream), &shared.writer);
    let settled = recall::settled(
        &key,
        writer,
        meta_of(writer, ask),
        live.machine.length().checked_sub(1),
        verdict,
    );
    let checked = settled.and_then(|settled| {
        let checked = settled.as_ref().map_or(Ok(()), |event| {
            shared.writer.limits.check(std::slice::from_ref(event))
        });
        checked.map_err(|error| SendError::Invalid(error.to_string()))?;
        Ok(settled)
    });
    checked.unwrap_or_else(|error| {
        *verdict = Verdict::Failed(error);
        None
    })
}
