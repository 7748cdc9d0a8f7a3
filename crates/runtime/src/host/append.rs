//! What comes back from the log.

use anabranch_domain::{Retry, StreamId};
use anabranch_log::{AppendError, Appended, Placed};
use anabranch_model::Cut;

use super::item::Item;
use super::item::Out;
use super::kind::{Drive, Standing};
use super::outcome::{Part, Step, step, taken};
use super::shard::{Shard, learn_open};
use super::slot::{Batch, Decided, Durable, Flight, HELD_MAX, Live, Slot, State};
use crate::send_error::SendError;

/// For so many turns machines do not share appends, after others have written to one of them.
const TURNS_APART: u32 = 16;

/// What becomes of an input whose decision does not hold.
enum Fate {
    /// It is decided again.
    Again,
    Tell(SendError),
    /// It was done before, or is told this.
    Recall(SendError),
}

impl Shard {
    pub fn appended(&mut self, flight: Flight, result: Result<Appended, AppendError>) {
        let mut first = 0;
        for stream in &flight.streams {
            let live = self.slots.get_mut(stream).and_then(Slot::live);
            let Some((live, batch)) = live.and_then(Live::landed) else {
                self.shared
                    .broken_invariant(stream, "nothing of it is in flight");
                continue;
            };
            let part = Part {
                first,
                next: (!batch.events.is_empty()).then(|| live.durable_count()),
                inputs: batch.decided.len(),
                streams: flight.streams.len(),
                times: flight.times,
                times_max: self.shared.options.unknown_attempts_max,
            };
            let places = result.as_ref().map_or(&[][..], |appended| &appended.places);
            let places = places.get(first..first + batch.len()).unwrap_or_default();
            first += batch.len();
            if let (true, Ok(appended)) = (self.shared.writer.many_partitions, &result) {
                live.causes.join(&appended.closure);
            }
            match step(&result, part, |id| batch.has(id)) {
                // It is about the whole append, so it is the same for every stream of it.
                step @ (Step::SendAgain | Step::PartStreams) => {
                    debug_assert_eq!(part.first, 0, "the streams of an append disagree");
                    live.flight = Some(batch);
                    return self.send_again(flight, step);
                }
                Step::Confirm => self.confirm(stream, *batch, places),
                Step::Recall => self.recall(stream, *batch, &result),
                Step::DecideAgain => self.lost_race(stream, *batch),
                Step::PartInputs => self.roll_back(stream, *batch, None, |_, item| {
                    item.alone = true;
                    Fate::Again
                }),
                Step::Refuse => self.refuse(stream, *batch, &reason_of(&result)),
                Step::GiveUp { may_have_happened } => {
                    self.give_up(stream, *batch, &result, may_have_happened);
                }
            }
        }
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

    fn give_up(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        result: &Result<Appended, AppendError>,
        may_have_happened: bool,
    ) {
        let reason = reason_of(result);
        let retry_after = match result {
            Err(AppendError::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        };
        let unavailable = SendError::Unavailable {
            reason: reason.clone(),
            retry_after,
        };
        let told = match may_have_happened {
            true => SendError::Unknown { reason },
            false => unavailable.clone(),
        };
        if may_have_happened {
            // It may be written after all, and then nobody else sends what follows.
            self.slot(stream).resume = self.shared.about.drive != Drive::Asked;
        }
        self.roll_back(stream, batch, Some(unavailable), |_, item| {
            match item.is_told() {
                true => Fate::Tell(told.clone()),
                false => Fate::Again,
            }
        });
    }

    /// The batch is durable, where memory has it: now who asked is told, and what follows is
    /// sent.
    pub fn confirm(&mut self, stream: &StreamId, mut batch: Batch, places: &[Placed]) {
        let Some(Slot {
            state: State::Live(live),
            strikes,
            ..
        }) = self.slots.get_mut(stream)
        else {
            return self.shared.broken_invariant(stream, "it is not in memory");
        };
        let places = places.get(..batch.events.len()).unwrap_or_default();
        if let (Some(place), Some(event)) = (places.last(), batch.events.last()) {
            *strikes = 0;
            live.durable = Some(Durable {
                version: place.version,
                position: place.position,
                id: event.id,
            });
            if live.broken.is_none() && live.machine.length() >= live.measure_at {
                let before = live.bytes;
                self.shared.measure(live, stream);
                self.bytes = self.bytes + live.bytes - before;
            }
        }
        let (durable, closure) = (live.durable, live.causes.clone());
        if let (Some(durable), Some(state)) = (durable, batch.snapshot.take()) {
            live.snapshot_at = durable.version + 1;
            self.save_snapshot(stream, durable, state);
        }
        let outs = std::mem::take(&mut batch.outs);
        self.answer_batch(stream, batch, durable, places, &closure);
        for (out, again) in outs {
            self.send(stream, out, again);
        }
        self.settle(stream);
    }

    /// After a batch, or once it is in memory: decides what waits. Without anything to decide, the
    /// machine rests if its code has failed, and leaves if it has ended.
    pub fn settle(&mut self, stream: &StreamId) {
        self.decide_waiting(stream);
        let Some(Slot {
            state: State::Live(live),
            waiting,
            resume,
            held_more,
            ..
        }) = self.slots.get_mut(stream)
        else {
            return self.shared.broken_invariant(stream, "it is not in memory");
        };
        if live.flight.is_some() || live.open.is_some() {
            return;
        }
        if let Some(reason) = live.broken.take() {
            return self.strike(stream, reason);
        }
        let waits = !waiting.is_empty();
        match live.machine.standing() {
            // Idle, it keeps no room for what may come.
            Standing::Resident => waiting.shrink_to_fit(),
            Standing::Open { waiting } => {
                let held = live.machine.held();
                let known = live.known(waiting);
                learn_open(&mut self.open, stream, known);
                if held >= HELD_MAX + *held_more && waits {
                    let reason = format!(
                        "it holds {held} events for later, because none of them has started it; \
                         see which events start it. Un-parked, it takes more"
                    );
                    return self.park(stream, reason);
                }
                if *resume {
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
            Out::Timer(at, input) => self.timers.set(stream, at, Some(input)),
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
    fn recall(&mut self, stream: &StreamId, batch: Batch, result: &Result<Appended, AppendError>) {
        let taken = match result {
            Err(AppendError::Rejected(why)) => taken(why),
            _ => None,
        };
        let was_written = |decided: &Decided| {
            let behind = decided.behind.clone().map(|i| batch.events.len() + i);
            let mut own = decided.events.clone().chain(behind);
            match taken {
                Some((id, _)) => own.any(|index| batch.event(index).is_some_and(|e| e.id == id)),
                None => own.next().is_some(),
            }
        };
        let written: Vec<_> = batch.decided.iter().map(was_written).collect();
        self.roll_back(stream, batch, None, |index, item| {
            item.attempts += 1;
            match (written[index], item.id, taken) {
                (true, ..) if item.is_told() => Fate::Recall(SendError::Invalid(reason_of(result))),
                // What it has recorded itself is known when it is decided again.
                (true, Some(id), Some((_, position))) if item.attempts > 1 => {
                    let stream = format!("the event at {position}");
                    Fate::Tell(SendError::IdTaken { id, stream })
                }
                _ => Fate::Again,
            }
        });
    }

    /// Somebody else has written to the stream.
    fn lost_race(&mut self, stream: &StreamId, batch: Batch) {
        let attempts_max = self.shared.options.contended_attempts_max;
        self.roll_back(stream, batch, None, |_, item| {
            item.attempts += 1;
            // One that nobody is told about is never dropped.
            if !item.is_told() || item.attempts < attempts_max {
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
                Fate::Recall(error) => self.answer_from_log(decided.item, stream, Err(error)),
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
            self.answer(*item, Err(error));
        }
        let goes_on = self.shared.about.drive != Drive::Asked;
        match (broken, unavailable) {
            (Some(reason), _) => self.strike(stream, reason),
            (None, Some(error)) if goes_on => self.rest(stream, error.to_string(), 3),
            _ if waits || goes_on => self.start_loading(stream),
            _ => {}
        }
    }
}

fn reason_of(result: &Result<Appended, AppendError>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(AppendError::Unavailable { reason, .. } | AppendError::Unknown { reason }) => {
            reason.clone()
        }
        Err(AppendError::Rejected(why)) => why.to_string(),
        Err(error) => error.to_string(),
    }
}
