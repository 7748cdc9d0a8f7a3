//! What was told of a log with several partitions, and whether it may look as it does.

use std::collections::BTreeMap;

use anabranch_log::{Append, AppendError, Appended, Layout, Rejection};
use anabranch_model::{Cut, Event, EventId, NewEvent, PartitionId, Position};

use crate::violation::{Violation, Wrong, brief};

/// How many events an append has at most, as a number of bits.
const INDEX_BITS: u32 = 4;

/// The id of an event of an append, from which both are found again.
pub(super) fn event_id(append: usize, index: usize) -> EventId {
    EventId::from_u128(((append + 1) << INDEX_BITS | index) as u128)
}

fn found(id: EventId) -> Option<(usize, usize)> {
    let number = usize::try_from(id.as_u128()).ok()?;
    let append = (number >> INDEX_BITS).checked_sub(1)?;
    Some((append, number & ((1 << INDEX_BITS) - 1)))
}

/// An append, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub append: Append,
    /// What the log has answered, whether or not that came to the client.
    pub written: Option<Appended>,
    /// The client has its answer.
    pub is_told: bool,
    /// The log was asked and has not said what came of it.
    pub is_open: bool,
    /// The log has refused it, and nobody asks it again.
    pub is_refused: bool,
    /// Messages with it that are on their way.
    pub on_the_way: u32,
}

/// What was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub sent: Vec<Sent>,
    /// What was read, in each partition.
    seen: BTreeMap<PartitionId, Vec<EventId>>,
}

/// How a partition looks at an event: what it and those before it depend on, and when it was recorded.
struct Known {
    causes: Cut,
    recorded_at: u64,
}

impl Told {
    /// A new append.
    pub fn send(&mut self, append: Append) -> usize {
        self.sent.push(Sent {
            append,
            written: None,
            is_told: false,
            is_open: false,
            is_refused: false,
            on_the_way: 0,
        });
        self.sent.len() - 1
    }

    /// Takes in what the log has answered. `in_trouble`: the disk has failed or was struck.
    pub fn answered(
        &mut self,
        number: usize,
        answer: &Result<Appended, AppendError>,
        in_trouble: bool,
    ) -> Result<(), Violation> {
        let sent = &mut self.sent[number];
        let wrong = |wrong, text: String| {
            Err(Violation::new(
                wrong,
                format!("append {number}: {text}: {answer:?}"),
            ))
        };
        match answer {
            Ok(appended) => match &sent.written {
                Some(first) if first.places != appended.places => {
                    wrong(Wrong::Answer, format!("it stood at {:?}", first.places))
                }
                Some(_) if !appended.repeated => wrong(
                    Wrong::Answer,
                    "it was there, and is answered as new".to_owned(),
                ),
                None if appended.repeated && !sent.is_open => wrong(
                    Wrong::Answer,
                    "it is new, and is answered as a repeat".to_owned(),
                ),
                Some(_) => Ok(()),
                None => {
                    sent.written = Some(appended.clone());
                    sent.is_refused = false;
                    Ok(())
                }
            },
            Err(AppendError::Conflict { .. }) => {
                if sent.written.is_some() {
                    return wrong(Wrong::Answer, "it is there".to_owned());
                }
                sent.is_open = false;
                sent.is_refused = sent.on_the_way == 0;
                Ok(())
            }
            Err(AppendError::Unknown { .. }) if in_trouble => {
                sent.is_open = true;
                Ok(())
            }
            Err(AppendError::Unavailable { .. } | AppendError::Rejected(Rejection::ReadOnly))
                if in_trouble =>
            {
                Ok(())
            }
            Err(_) => wrong(Wrong::Unavailable, "without cause".to_owned()),
        }
    }

    /// What did not come by a recovery does not come any more, but by being sent again.
    pub fn settled(&mut self, there: &[Event]) {
        let ids: std::collections::BTreeSet<EventId> = there.iter().map(|event| event.id).collect();
        for sent in &mut self.sent {
            let is_there = sent
                .append
                .events
                .iter()
                .any(|event| ids.contains(&event.id));
            sent.is_open &= is_there;
        }
    }

    /// Whether the log may give these events, in this order, and have this head.
    pub fn check(
        &mut self,
        layout: &Layout,
        events: &[Event],
        head: &Cut,
    ) -> Result<(), Violation> {
        let places = self.check_places(layout, events, head)?;
        self.check_appends(&places)?;
        let known = Self::check_order(events)?;
        self.check_causes(&places, &known, head)?;
        for event in events {
            let seen = self.seen.entry(event.position.partition).or_default();
            if seen.len() as u64 == event.position.offset {
                seen.push(event.id);
            }
        }
        Ok(())
    }

    /// Each event is what was sent, stands where its stream does, and what was read before is there.
    fn check_places(
        &self,
        layout: &Layout,
        events: &[Event],
        head: &Cut,
    ) -> Result<BTreeMap<EventId, Position>, Violation> {
        let mut places = BTreeMap::new();
        let mut ends: BTreeMap<PartitionId, u64> = BTreeMap::new();
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        for event in events {
            let wrong = |wrong| Err(Violation::new(wrong, brief(event)));
            let partition = event.position.partition;
            let end = ends.entry(partition).or_default();
            let version = versions.entry(event.stream()).or_default();
            if event.position.offset != *end || event.version != *version {
                return wrong(Wrong::Gap);
            }
            (*end, *version) = (*end + 1, *version + 1);
            if layout.partition_of(&event.stream_id()) != partition {
                return wrong(Wrong::Reordered);
            }
            let Some(new) = self.new_of(event.id) else {
                return wrong(Wrong::Phantom);
            };
            if new.stream.as_str() != event.stream() || new.data != event.data() {
                return wrong(Wrong::Changed);
            }
            if places.insert(event.id, event.position).is_some() {
                return wrong(Wrong::Duplicate);
            }
        }
        for (&partition, seen) in &self.seen {
            let lost = (0..)
                .zip(seen)
                .find(|&(offset, id)| places.get(id) != Some(&Position { partition, offset }));
            if let Some((offset, id)) = lost {
                let text = format!("event {id}, which was read at {}:{offset}", partition.0);
                return Err(Violation::new(Wrong::Lost, text));
            }
        }
        let is_head = ends
            .iter()
            .all(|(&partition, &end)| head.get(partition) == end);
        match is_head
            && head
                .iter()
                .all(|(partition, _)| ends.contains_key(&partition))
        {
            true => Ok(places),
            false => {
                let text = format!("the head is {head}, and the events go to {ends:?}");
                Err(Violation::new(Wrong::Read, text))
            }
        }
    }

    fn new_of(&self, id: EventId) -> Option<&NewEvent> {
        let (append, index) = found(id)?;
        let sent = self.sent.get(append)?;
        let may_be = !sent.is_refused && (sent.is_open || sent.written.is_some());
        sent.append.events.get(index).filter(|_| may_be)
    }

    /// Each append is there once and whole, or not at all; what was acknowledged at its place.
    fn check_appends(&self, places: &BTreeMap<EventId, Position>) -> Result<(), Violation> {
        for (number, sent) in self.sent.iter().enumerate() {
            let found: Vec<Position> = sent
                .append
                .events
                .iter()
                .filter_map(|event| places.get(&event.id).copied())
                .collect();
            let wrong = |wrong, what: &str| {
                let text = format!("append {number} {what}: {found:?}, {:?}", sent.written);
                Err(Violation::new(wrong, text))
            };
            if let Some(written) = &sent.written {
                let told = written.places.iter().map(|placed| placed.position);
                if found.is_empty() {
                    return wrong(Wrong::Lost, "was acknowledged and is gone");
                }
                if !told.eq(found.iter().copied()) {
                    return wrong(Wrong::Reordered, "stands elsewhere than was acknowledged");
                }
            }
            let is_run = found.windows(2).all(|pair| {
                pair[0].partition == pair[1].partition && pair[0].offset + 1 == pair[1].offset
            });
            if !found.is_empty() && (found.len() != sent.append.events.len() || !is_run) {
                return wrong(Wrong::Torn, "is there in part");
            }
        }
        Ok(())
    }

    /// Nothing is read before what it depends on, nor was it recorded before it.
    fn check_order(events: &[Event]) -> Result<BTreeMap<Position, Known>, Violation> {
        let mut given = Cut::start();
        let mut sums: BTreeMap<PartitionId, Cut> = BTreeMap::new();
        let mut known: BTreeMap<Position, Known> = BTreeMap::new();
        for event in events {
            let delta = event.as_ref().meta.causes().map_err(|error| {
                Violation::new(Wrong::Changed, format!("{}: {error}", brief(event)))
            })?;
            if !given.covers(&delta) {
                let text = format!("{} before its cause {delta}", brief(event));
                return Err(Violation::new(Wrong::Read, text));
            }
            for (partition, count) in delta.iter() {
                let offset = count - 1;
                let cause = known.get(&Position { partition, offset });
                if cause.is_none_or(|cause| cause.recorded_at >= event.recorded_at) {
                    let text = format!("{} was recorded before its cause {delta}", brief(event));
                    return Err(Violation::new(Wrong::Read, text));
                }
            }
            let position = event.position;
            let sum = sums.entry(position.partition).or_default();
            sum.join(&delta);
            let causes = sum.clone();
            given.set(position.partition, position.offset + 1);
            known.insert(
                position,
                Known {
                    causes,
                    recorded_at: event.recorded_at,
                },
            );
        }
        Ok(known)
    }

    /// What an append was said to depend on is known where it stands, with all that this depends on;
    /// the head and every closure hold the causes of what they hold.
    fn check_causes(
        &self,
        places: &BTreeMap<EventId, Position>,
        known: &BTreeMap<Position, Known>,
        head: &Cut,
    ) -> Result<(), Violation> {
        let is_closed = |cut: &Cut| {
            cut.iter().all(|(partition, count)| {
                let offset = count - 1;
                let last = known.get(&Position { partition, offset });
                last.is_some_and(|last| cut.covers(&last.causes))
            })
        };
        let wrong = |text: String| Err(Violation::new(Wrong::Read, text));
        if !is_closed(head) {
            return wrong(format!("the head {head} is not closed"));
        }
        for (number, sent) in self.sent.iter().enumerate() {
            let first = &sent.append.events[0];
            let Some(&position) = places.get(&first.id) else {
                continue;
            };
            let Some(stands) = known.get(&position) else {
                continue;
            };
            let mut has = stands.causes.clone();
            has.join(&Cut::including(position));
            let causes = first.meta.as_ref().map(|meta| &meta.causes);
            if causes.is_some_and(|causes| !has.covers(causes)) || !is_closed(&has) {
                return wrong(format!(
                    "append {number} at {position} depends on {causes:?}, and has {has}"
                ));
            }
            if let Some(written) = &sent.written {
                let closure = &written.closure;
                if !closure.covers(&has) || !is_closed(closure) || !head.covers(closure) {
                    return wrong(format!(
                        "the closure {closure} of append {number}, which has {has}"
                    ));
                }
            }
        }
        Ok(())
    }
}
