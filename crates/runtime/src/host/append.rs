//! What comes back from the log.

use anabranch_domain::{Retry, StreamId};
use anabranch_log::{AppendError, Appended, Placed};
use anabranch_model::{Cut, Position};

use super::item::Item;
use super::kind::{Drive, Standing};
use super::out::Out;
use super::outcome::{Said, Sent, Step, goes_on_contended, step, taken};
use super::shard::{Known, Shard};
use super::slot::{Batch, Decided, Durable, Flight, Slot, State};
use super::timers::Due;

use crate::send_error::SendError;

/// For so many turns machines do not share appends, after others have written to one of them.
const TURNS_APART: u32 = 16;

/// What becomes of an input whose decision does not hold.
enum Fate {
    /// It is decided again.
    Again,
    Tell(SendError),
    /// It was done before; its first event stands here.
    Recall(Position),
}

impl Shard {
    pub fn appended(&mut self, flight: Flight, result: Result<Appended, AppendError>) {
        let times_max = self.shared.options.unknown_attempts_max;
        let mut first = 0;
        for (index, stream) in flight.streams.iter().enumerate() {
            let Some((batch, next)) = self.in_flight(stream) else {
                self.shared
                    .broken_invariant(stream, "an append of its has come back");
                continue;
            };
            let next = (!batch.events.is_empty()).then_some(next);
            let said = Said::of(&result, first, next, |id| batch.has(id));
            let events = first..first + batch.len();
            first = events.end;
            let sent = Sent {
                times: flight.times,
                times_max,
                streams: flight.streams.len(),
                inputs: batch.decided.len(),
            };
            let step = step(said, sent);
            match step {
                // It is about the whole append, so it is the same for every stream of it.
                Step::SendAgain | Step::PartStreams => {
                    debug_assert_eq!(index, 0, "the streams of an append disagree");
                    return self.send_again(flight, step);
                }
                _ => {}
            }
            let places = result.as_ref().map_or(&[][..], |appended| &appended.places);
            let places = places.get(events).unwrap_or_default();
            self.come_back(stream, step, &result, places);
        }
    }

    /// What is in flight, and the version that its first event is to get.
    fn in_flight(&mut self, stream: &StreamId) -> Option<(&Batch, u64)> {
        let live = self.slots.get_mut(stream)?.live()?;
        let next = live.durable_count();
        Some((live.flight.as_deref()?, next))
    }

    fn send_again(&mut self, mut flight: Flight, step: Step) {
        if step == Step::PartStreams {
            self.apart = TURNS_APART;
            for stream in flight.streams {
                self.launch(Flight::of(stream), std::time::Duration::ZERO);
            }
            return;
        }
        let wait = Retry::DEFAULT.delay_after(flight.times, self.shared.time.random());
        flight.times += 1;
        self.launch(flight, wait);
    }

    /// Does for one machine what is to be done.
    fn come_back(
        &mut self,
        stream: &StreamId,
        step: Step,
        result: &Result<Appended, AppendError>,
        places: &[Placed],
    ) {
        let live = self.slots.get_mut(stream).and_then(Slot::live);
        let Some(batch) = live.and_then(|live| live.flight.take()) else {
            return self
                .shared
                .broken_invariant(stream, "nothing of it is in flight");
        };
        let reason = || match result {
            Ok(_) => String::new(),
            Err(AppendError::Unavailable { reason, .. } | AppendError::Unknown { reason }) => {
                reason.clone()
            }
            Err(AppendError::Rejected(why)) => why.to_string(),
            Err(error) => error.to_string(),
        };
        match step {
            Step::Confirm => self.confirm(stream, *batch, places),
            Step::Recall => self.recall(stream, *batch, result, places),
            Step::DecideAgain => self.lost_race(stream, *batch),
            Step::PartInputs => self.roll_back(stream, *batch, None, |_, item| {
                item.alone = true;
                Fate::Again
            }),
            Step::Refuse => self.refuse(stream, *batch, &reason()),
            Step::GiveUp { may_have_happened } => {
                let retry_after = match result {
                    Err(AppendError::Unavailable { retry_after, .. }) => *retry_after,
                    _ => None,
                };
                let unavailable = SendError::Unavailable {
                    reason: reason(),
                    retry_after,
                };
                let told = match may_have_happened {
                    true => SendError::Unknown { reason: reason() },
                    false => unavailable.clone(),
                };
                if may_have_happened && let Some(slot) = self.slots.get_mut(stream) {
                    // It may be written after all, and then nobody else sends what follows.
                    slot.resume = self.shared.kind.drive() != Drive::Asked;
                }
                self.roll_back(stream, *batch, Some(unavailable), |_, item| {
                    match item.is_told() {
                        true => Fate::Tell(told.clone()),
                        false => Fate::Again,
                    }
                });
            }
            Step::SendAgain | Step::PartStreams => {
                self.shared
                    .broken_invariant(stream, "the whole append is to be sent again");
            }
        }
    }

    /// The batch is durable, where memory has it: now who asked is told, and what follows is
    /// sent.
    pub fn confirm(&mut self, stream: &StreamId, mut batch: Batch, places: &[Placed]) {
        let Some(slot) = self.slots.get_mut(stream) else {
            return self.shared.broken_invariant(stream, "it has no slot");
        };
        let State::Live(live) = &mut slot.state else {
            return self.shared.broken_invariant(stream, "it is not in memory");
        };
        let places = places.get(..batch.events.len()).unwrap_or_default();
        let mut durable = live.durable;
        if let (Some(place), Some(event)) = (places.last(), batch.events.last()) {
            slot.strikes = 0;
            let newest = Durable {
                version: place.version,
                position: place.position,
                id: event.id,
            };
            durable = Some(newest);
            live.durable = durable;
            let snapshot = batch.snapshot.take();
            if snapshot.is_some() {
                live.snapshot_at = newest.version + 1;
            }
            if live.broken.is_none() && live.machine.length() >= live.measure_at {
                let before = live.bytes;
                self.shared.measure(live, stream);
                self.bytes = self.bytes + live.bytes - before;
            }
            if let Some(state) = snapshot {
                self.save_snapshot(stream, newest, state);
            }
        }
        let outs = std::mem::take(&mut batch.outs);
        self.answer_batch(stream, batch, durable, places);
        for (out, again) in outs {
            self.send(stream, out, again);
        }
        self.settle(stream);
    }

    /// After a batch: decides what waits. Without anything to decide, the machine rests if its
    /// code has failed, and leaves if it has ended.
    fn settle(&mut self, stream: &StreamId) {
        self.decide_waiting(stream);
        let Some(slot) = self.slots.get_mut(stream) else {
            return self.shared.broken_invariant(stream, "it has no slot");
        };
        let State::Live(live) = &mut slot.state else {
            return self.shared.broken_invariant(stream, "it is not in memory");
        };
        if live.flight.is_some() || live.open.is_some() {
            return;
        }
        if let Some(reason) = live.broken.take() {
            return self.strike(stream, reason);
        }
        let (resumes, waits) = (slot.resume, !slot.waiting.is_empty());
        match live.machine.standing() {
            // Idle, it keeps no room for what may come.
            Standing::Resident => slot.waiting.shrink_to_fit(),
            Standing::Open { waiting } => {
                let held = live.machine.held();
                let known = Known {
                    length: live.durable_count(),
                    waiting,
                };
                self.open.insert(stream.clone(), known);
                if held >= slot.held_max && waits {
                    let reason = format!(
                        "it holds {held} events for later, because none of them has started it; \
                         see which events start it. Un-parked, it takes more"
                    );
                    return self.park(stream, reason);
                }
                if resumes {
                    // Somebody wants everything that is not answered to be sent again.
                    self.start_loading(stream);
                }
            }
            Standing::Ended => {
                self.open.remove(stream);
                if !waits {
                    self.leave(stream);
                    self.timers.drop_all(stream);
                }
            }
        }
    }

    pub fn send(&mut self, stream: &StreamId, mut out: Out, again: bool) {
        self.add_causes(stream, &mut out);
        let Some(outbox) = self.shared.outbox.clone() else {
            return self
                .shared
                .broken_invariant(stream, "its kind sends nothing");
        };
        match out {
            Out::Timer(at, input) => self.timers.set(stream, at, Due::Input(input)),
            Out::Ended => {
                let receivers = std::mem::take(&mut self.slot(stream).receivers);
                for receiver in receivers {
                    outbox.forget(&receiver, stream);
                }
            }
            Out::Command(command) => {
                self.slot(stream).receivers.insert(command.to.clone());
                outbox.send(stream, Out::Command(command), again);
            }
            out @ (Out::Call(..) | Out::Reply(_)) => outbox.send(stream, out, again),
        }
    }

    /// What is sent depends on everything that its machine has heard, and on its journal.
    fn add_causes(&mut self, stream: &StreamId, out: &mut Out) {
        if !self.shared.writer.many_partitions {
            return;
        }
        let Some(live) = self.slots.get_mut(stream).and_then(Slot::live) else {
            // Sent all the same: what it depends on may be read late, and nobody waits for ever.
            return self
                .shared
                .broken_invariant(stream, "it sends, and is not in memory");
        };
        let causes = match out {
            Out::Command(command) => &mut command.causes,
            Out::Reply(reply) => &mut reply.causes,
            Out::Call(..) | Out::Timer(..) | Out::Ended => return,
        };
        causes.join(&live.causes);
        if let Some(durable) = live.durable {
            causes.join(&Cut::including(durable.position));
        }
    }

    /// Some of the events had been written before, so memory now has them twice.
    fn recall(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        result: &Result<Appended, AppendError>,
        places: &[Placed],
    ) {
        let taken = match result {
            Err(AppendError::Rejected(why)) => taken(why),
            _ => None,
        };
        let position = |decided: &Decided| {
            let behind = decided.settled.map(|index| batch.events.len() + index);
            let mut own = decided.events.clone().chain(behind);
            match taken {
                Some((id, position)) => {
                    let mut ids = own.map(|index| batch.event(index).map(|event| event.id));
                    ids.any(|known| known == Some(id)).then_some(position)
                }
                None => places.get(own.next()?).map(|place| place.position),
            }
        };
        let positions: Vec<_> = batch.decided.iter().map(position).collect();
        self.roll_back(stream, batch, None, |index, item| match positions[index] {
            Some(position) if item.is_told() => Fate::Recall(position),
            // What it has recorded itself is known when it is decided again.
            Some(position) if taken.is_some() && item.attempts > 0 => match item.id {
                Some(id) => Fate::Tell(SendError::IdTaken {
                    id,
                    stream: format!("the event at {position}"),
                }),
                None => Fate::Again,
            },
            _ => {
                item.attempts += 1;
                Fate::Again
            }
        });
    }

    /// Somebody else has written to the stream.
    fn lost_race(&mut self, stream: &StreamId, batch: Batch) {
        let attempts_max = self.shared.options.contended_attempts_max;
        self.roll_back(stream, batch, None, |_, item| {
            item.attempts += 1;
            if goes_on_contended(item.is_told(), item.attempts, attempts_max) {
                return Fate::Again;
            }
            Fate::Tell(SendError::Contended {
                stream: stream.clone(),
                attempts: item.attempts,
            })
        });
    }

    /// The log can never take what one input has led to.
    fn refuse(&mut self, stream: &StreamId, batch: Batch, why: &str) {
        let item = batch.decided.first().map(|decided| &decided.item);
        let told = match item {
            Some(item) if item.is_told() => why.to_owned(),
            _ => format!("its journal refuses what it has decided: {why}"),
        };
        let waits = item.is_some_and(|item| item.reply.is_some());
        self.roll_back(stream, batch, None, |_, _| match waits {
            true => Fate::Tell(SendError::Invalid(told.clone())),
            false => Fate::Again,
        });
        if !waits {
            // Nobody can be told, and what it has consumed must not be passed over.
            self.park(stream, told);
        }
    }

    /// Drops a machine's memory, because what `batch` decided does not hold. `fate` says what
    /// becomes of each of its inputs; what was decided behind it is decided again, or, when
    /// the log takes nothing for now, told so.
    fn roll_back(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        unavailable: Option<SendError>,
        mut fate: impl FnMut(usize, &mut Item) -> Fate,
    ) {
        let (mut behind, mut broken) = (None, None);
        match self.leave(stream) {
            State::Live(live) => (behind, broken) = (live.open, live.broken),
            _ => self.shared.broken_invariant(stream, "it is not in memory"),
        }
        let mut again = Vec::new();
        let mut told = Vec::new();
        for (index, mut decided) in batch.decided.into_iter().enumerate() {
            match fate(index, &mut decided.item) {
                Fate::Again => again.push(decided.item),
                Fate::Tell(error) => told.push((decided.item, error)),
                Fate::Recall(position) => self.answer_recalled(decided.item, stream, position),
            }
        }
        for decided in behind.into_iter().flat_map(|behind| behind.decided) {
            match &unavailable {
                Some(error) if decided.item.is_told() => told.push((decided.item, error.clone())),
                _ => again.push(decided.item),
            }
        }
        let slot = self.slot(stream);
        for item in again.into_iter().rev() {
            slot.resume |= item.resume;
            if !item.resume {
                slot.waiting.push_front(item);
            }
        }
        let waits = !slot.waiting.is_empty();
        for (item, error) in told {
            self.answer(*item, stream, Err(error));
        }
        let goes_on = self.shared.kind.drive() != Drive::Asked;
        match (broken, unavailable) {
            (Some(reason), _) => self.strike(stream, reason),
            (None, Some(error)) if goes_on => self.rest(stream, error.to_string(), 3),
            _ if waits || goes_on => self.start_loading(stream),
            _ => {}
        }
    }
}
