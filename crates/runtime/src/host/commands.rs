//! Commands: each is answered once, and one that comes again gets its first outcome.

use std::sync::atomic::Ordering;

use anabranch_domain::{Event, Note, Remembered, StreamId};
use anabranch_log::{BoxFuture, Placed};
use anabranch_model::{Cut, NewEvent, Position};

use super::desk::Verdict;
use super::item::{Item, Outcome};
use super::recall;
use super::shard::{Done, Shard};
use super::slot::{Batch, Decided, Durable};
use super::status::{Accepted, Recorded};
use crate::send_error::SendError;

impl Shard {
    /// Gives an input back that has not come before; answers a command that has.
    pub fn admit(&mut self, stream: &StreamId, item: Box<Item>) -> Option<Box<Item>> {
        let Some(key) = item.ask.as_ref().map(|ask| ask.key(stream)) else {
            return Some(item);
        };
        let id = key.id;
        let id_taken = |stream: &StreamId| {
            let stream = stream.to_string();
            Err(SendError::IdTaken { id, stream })
        };
        if let Some((known, rejection)) = self.rejections.get(id) {
            let outcome = match known.is_same(&key) {
                true => Err(rejection.clone()),
                false => id_taken(&known.stream),
            };
            item.end(outcome);
            return None;
        }
        if let Some((known, also)) = self.unanswered.get_mut(&id) {
            match known.is_same(&key) {
                true => also.extend(item.reply),
                false => item.end(id_taken(&known.stream)),
            }
            return None;
        }
        self.unanswered.insert(id, (key, Vec::new()));
        Some(item)
    }

    pub fn answer(&mut self, item: Item, stream: &StreamId, outcome: Outcome) {
        if let Some(ask) = &item.ask {
            let now = self.shared.time.monotonic();
            let took = now.saturating_sub(ask.arrived).as_micros() as u64;
            let latency = &self.gauge.latency_micros;
            let before = latency.load(Ordering::Relaxed);
            latency.store(before - before / 8 + took / 8, Ordering::Relaxed);
            self.rejections
                .remember(ask.key(stream), &ask.role, &outcome);
            if let Some((_, also)) = self.unanswered.remove(&ask.id) {
                for reply in also {
                    // Who no longer listens does not want the answer.
                    drop(reply.send(repeated(outcome.clone())));
                }
            }
        }
        item.end(outcome);
    }

    /// Answers when the future has found out what.
    fn answer_later(
        &mut self,
        item: Box<Item>,
        stream: &StreamId,
        outcome: BoxFuture<'static, Outcome>,
    ) {
        self.duties += 1;
        let stream = stream.clone();
        self.jobs.push(Box::pin(async move {
            let outcome = outcome.await;
            Done::Answer(item, stream, outcome)
        }));
    }

    /// Answers a command that was done before: its first event stands at `position`.
    pub fn answer_recalled(&mut self, item: Box<Item>, stream: &StreamId, position: Position) {
        let Some(key) = item.ask.as_ref().map(|ask| ask.key(stream)) else {
            return self
                .shared
                .broken_invariant(stream, "only a command is recalled");
        };
        let log = self.shared.log.clone();
        let recalled = async move { recall::recall(&log, &key, position).await };
        self.answer_later(item, stream, Box::pin(recalled));
    }

    /// Answers a command that records nothing now, unless it was done before.
    fn answer_unless_done_before(&mut self, item: Box<Item>, stream: &StreamId, outcome: Outcome) {
        let Some(ask) = &item.ask else {
            return self.answer(*item, stream, outcome);
        };
        let (log, key) = (self.shared.log.clone(), ask.key(stream));
        let found = async move {
            match recall::find(&log, key.id).await? {
                None => outcome,
                Some(position) => recall::recall(&log, &key, position).await,
            }
        };
        self.answer_later(item, stream, Box::pin(found));
    }

    /// Answers a batch whose events, if any, are durable and stand at these places.
    pub fn answer_batch(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        durable: Option<Durable>,
        places: &[Placed],
    ) {
        let Batch {
            events, decided, ..
        } = batch;
        for Decided {
            item,
            events: range,
            settled,
            verdict,
        } in decided
        {
            let places = places.get(range.clone()).unwrap_or_default();
            let last = places.last().map(|p| (p.version, p.position));
            let last = last.or(durable.map(|durable| (durable.version, durable.position)));
            let mut token = match &item.ask {
                Some(ask) => ask.causes.clone(),
                None => Cut::start(),
            };
            if let Some((_, position)) = last {
                let seen = token.get(position.partition);
                token.set(position.partition, seen.max(position.offset + 1));
            }
            let outcome = match verdict {
                Verdict::Done => Ok(Accepted {
                    events: match item.ask {
                        Some(_) => recorded(&events[range.clone()], places),
                        None => Vec::new(),
                    },
                    version: last.map(|(version, _)| version),
                    token,
                    repeated: false,
                }),
                Verdict::Rejected(rejection) | Verdict::Repeat(Remembered::Refused(rejection)) => {
                    Err(SendError::Rejected(rejection))
                }
                Verdict::Repeat(Remembered::Recorded(versions)) => {
                    let Some(ask) = &item.ask else {
                        let what = "what is no command was found to be a repeated one";
                        self.shared.broken_invariant(stream, what);
                        continue;
                    };
                    let (log, key) = (self.shared.log.clone(), ask.key(stream));
                    let recalled =
                        async move { recall::recall_versions(&log, &key, versions).await };
                    self.answer_later(item, stream, Box::pin(recalled));
                    continue;
                }
                Verdict::Failed(error) => Err(error),
            };
            match &item.ask {
                Some(_) if settled.is_some() => self.answer(*item, stream, outcome),
                // An empty stream has recorded no command.
                Some(ask) if range.is_empty() && (durable.is_some() || ask.is_settled()) => {
                    self.answer_unless_done_before(item, stream, outcome);
                }
                _ => self.answer(*item, stream, outcome),
            }
        }
    }
}

/// What the sender of a command sees of the events that it has recorded.
fn recorded(events: &[NewEvent], places: &[Placed]) -> Vec<Recorded> {
    let recorded = events.iter().zip(places);
    let own = recorded.filter(|(e, _)| Note::version_of(e.event_type.as_str()).is_none());
    own.map(|(event, place)| Recorded {
        event_type: event.event_type.clone(),
        schema_version: event.schema_version,
        data: event.data.clone(),
        place: *place,
    })
    .collect()
}

fn repeated(outcome: Outcome) -> Outcome {
    outcome.map(|accepted| Accepted {
        repeated: true,
        ..accepted
    })
}
