//! Commands: each is answered once, and one that comes again gets its first outcome.

use std::sync::atomic::Ordering;

use anabranch_domain::{Event, Note, Remembered, StreamId};
use anabranch_log::Placed;
use anabranch_model::{Cut, NewEvent};

use super::desk::Verdict;
use super::item::{Ask, Item, Outcome};
use super::recall;
use super::shard::{Done, Shard};
use super::slot::{Batch, Durable};
use super::status::{Accepted, Recorded};
use crate::send_error::SendError;

impl Shard {
    /// Gives an input back that has not come before; answers a command that has.
    pub fn admit(&mut self, stream: &StreamId, item: Box<Item>) -> Option<Box<Item>> {
        let Some(key) = item.ask.as_ref().map(|ask| ask.key(stream)) else {
            return Some(item);
        };
        let id = key.id;
        let Some((known, also)) = self.unanswered.get_mut(&id) else {
            self.unanswered.insert(id, (key, Vec::new()));
            return Some(item);
        };
        match known.is_same(&key) {
            true => also.extend(item.reply),
            false => {
                let stream = known.stream.to_string();
                item.end(Err(SendError::IdTaken { id, stream }));
            }
        }
        None
    }

    pub fn answer(&mut self, item: Item, outcome: Outcome) {
        if let Some(ask) = &item.ask {
            let now = self.shared.time.monotonic();
            let took = now.saturating_sub(ask.arrived).as_micros() as u64;
            let latency = &self.gauge.latency_micros;
            let before = latency.load(Ordering::Relaxed);
            latency.store(before - before / 8 + took / 8, Ordering::Relaxed);
            if let Some((_, also)) = self.unanswered.remove(&ask.id) {
                for reply in also {
                    let outcome = outcome.clone().map(|first| Accepted {
                        repeated: true,
                        ..first
                    });
                    // Who no longer listens does not want the answer.
                    drop(reply.send(outcome));
                }
            }
        }
        item.end(outcome);
    }

    /// Answers with the first outcome of the command, if the log has it; else with `outcome`.
    pub fn answer_from_log(&mut self, item: Box<Item>, stream: &StreamId, outcome: Outcome) {
        let Some(key) = item.ask.as_ref().map(|ask| ask.key(stream)) else {
            return self.answer(*item, outcome);
        };
        let log = self.shared.log.clone();
        self.duties += 1;
        self.jobs.push(Box::pin(async move {
            let first = recall::first_outcome(&log, &key).await;
            Done::Answer(item, first.transpose().unwrap_or(outcome))
        }));
    }

    /// Answers a batch whose events, if any, are durable, stand at these places and depend on that.
    pub fn answer_batch(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        durable: Option<Durable>,
        places: &[Placed],
        closure: &Cut,
    ) {
        for one in batch.decided {
            let (item, range) = (one.item, one.events);
            let places = places.get(range.clone()).unwrap_or_default();
            let last = places.last().map(|p| (p.version, p.position));
            let last = last.or(durable.map(|durable| (durable.version, durable.position)));
            let seen = item.ask.as_ref().map(|ask| ask.options.causes.clone());
            let mut token = last.map_or(Cut::start(), |(_, position)| Cut::including(position));
            token.join(&seen.unwrap_or_default());
            token.join(closure);
            let outcome = match one.verdict {
                Verdict::Done => Ok(Accepted {
                    events: match item.ask {
                        Some(_) => recorded(&batch.events[range.clone()], places),
                        None => Vec::new(),
                    },
                    version: last.map(|(version, _)| version),
                    token,
                    repeated: false,
                }),
                Verdict::Repeat(Remembered::Recorded(versions)) => {
                    Ok(recall::nothing_new(versions.end.checked_sub(1)))
                }
                Verdict::Repeat(Remembered::Refused(rejection)) => {
                    Err(SendError::Rejected(rejection))
                }
                Verdict::Failed(error) => Err(error),
            };
            // An empty stream has recorded no command.
            let may_be_known = durable.is_some() || item.ask.as_ref().is_some_and(Ask::is_settled);
            match range.is_empty() && one.behind.is_empty() && may_be_known {
                true => self.answer_from_log(item, stream, outcome),
                false => self.answer(*item, outcome),
            }
        }
    }
}

/// What the sender of a command sees of the events that it has recorded.
pub fn recorded(events: &[NewEvent], places: &[Placed]) -> Vec<Recorded> {
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
