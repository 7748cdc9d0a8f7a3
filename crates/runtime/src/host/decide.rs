//! From an input to the events that a batch will hold.

use std::sync::Arc;

use anabranch_domain::{Event, EventKind, Rejection, SAGA_HEADER, StreamId, Timestamp};
use anabranch_model::{EventId, Meta, NewEvent};

use super::item::{Ask, Item};
use super::recall::{self, CONTENT_HEADER, content_text};
use super::slot::{Decided, Live, Verdict};
use super::{Out, Shared};
use crate::panics::contain;
use crate::send_error::SendError;

/// What a machine has made of an input.
pub struct Made {
    /// The events to append.
    pub events: Vec<NewEvent>,
    /// What to send once they are durable.
    pub outs: Vec<Out>,
    /// The answer to who asked.
    pub verdict: Verdict,
}

impl Made {
    /// Nothing to append, and this answer.
    pub const fn nothing(verdict: Verdict) -> Self {
        Self {
            events: Vec::new(),
            outs: Vec::new(),
            verdict,
        }
    }

    /// These events and what to send; then who asked is told this.
    pub fn of(events: Vec<NewEvent>, outs: Vec<Out>, answer: Result<(), Rejection>) -> Self {
        let verdict = match answer {
            Ok(()) => Verdict::Done,
            Err(rejection) => Verdict::Rejected(rejection),
        };
        Self {
            events,
            outs,
            verdict,
        }
    }
}

/// Why a machine has made nothing of an input.
pub enum Undecided {
    /// The open batch has no room. The machine is as it was.
    NoRoom,
    /// It cannot be done, and who asked is told why. The machine is as it was.
    Told(SendError),
    /// The machine may be half way: its memory is dropped.
    Broken(String),
}

/// An event, ready but for its id and what it says beside its data.
pub struct Draft {
    kind: EventKind,
    data: Vec<u8>,
}

impl Draft {
    /// Encodes an event.
    pub fn of<V: Event>(event: &V) -> Result<Self, SendError> {
        let mut data = Vec::new();
        let encoded = event.encode(&mut data);
        encoded.map_err(|error| SendError::Invalid(error.to_string()))?;
        Ok(Self {
            kind: event.kind(),
            data,
        })
    }

    /// Encodes events, in order.
    pub fn all<V: Event>(events: &[V]) -> Result<Vec<Self>, SendError> {
        events.iter().map(Self::of).collect()
    }
}

/// What the events that a command records say beside their data.
pub fn meta_of(shared: &Shared, ask: &Ask) -> Meta {
    let mut meta = Meta {
        source: Some(shared.source.clone()),
        causation_id: Some(ask.id.to_string()),
        correlation_id: ask.correlation_id.clone(),
        ..Meta::default()
    };
    if shared.many_partitions {
        meta.causes = ask.causes.clone();
    }
    if let (false, Some(saga)) = (ask.role.is_plain(), &ask.reply_to) {
        let saga = saga.to_string();
        meta.headers.insert(SAGA_HEADER.to_owned(), saga);
    }
    if let Some(content) = ask.content {
        let text = content_text(content);
        meta.headers.insert(CONTENT_HEADER.to_owned(), text);
    }
    meta
}

/// Where a machine decides: it makes events of drafts.
pub struct Desk<'a> {
    pub stream: &'a StreamId,
    pub now: Timestamp,
    shared: &'a Shared,
    /// What all events of a journal say beside their data.
    meta: Option<&'a Arc<Meta>>,
    /// What the open batch holds already.
    events: usize,
    bytes: usize,
}

impl Desk<'_> {
    /// The events as they are stored, their ids and their cause following from the command.
    pub fn of_command(&self, item: &Item, drafts: Vec<Draft>) -> Result<Vec<NewEvent>, Undecided> {
        let (Some(ask), false) = (&item.ask, drafts.is_empty()) else {
            return Ok(Vec::new());
        };
        let meta = meta_of(self.shared, ask);
        let events = self
            .events(drafts, Arc::new(meta), |index| ask.id.event_id(index))
            .map_err(Undecided::Told)?;
        let checked = self.shared.limits.check(&events);
        checked.map_err(|error| Undecided::Told(SendError::Invalid(error.to_string())))?;
        let limits = &self.shared.limits;
        let bytes = self.bytes + events.iter().map(size_of_event).sum::<usize>();
        let count = self.events + events.len();
        if self.events > 0 && (count > limits.batch_events_max || bytes > limits.batch_bytes_max) {
            return Err(Undecided::NoRoom);
        }
        Ok(events)
    }

    /// The events of a journal as they are stored.
    pub fn of_journal(&self, drafts: Vec<Draft>) -> Result<Vec<NewEvent>, SendError> {
        let millis = self.shared.time.now().micros() / 1000;
        let id = |_| EventId::v7(millis, self.shared.time.random());
        self.events(drafts, self.meta.cloned().unwrap_or_default(), id)
    }

    fn events(
        &self,
        drafts: Vec<Draft>,
        meta: Arc<Meta>,
        id: impl Fn(u32) -> EventId,
    ) -> Result<Vec<NewEvent>, SendError> {
        let event = |(index, draft): (usize, Draft)| {
            let Draft { kind, data } = draft;
            let mut types = self.shared.types.iter();
            let known = types.find(|t| t.as_str() == kind.name);
            let event_type = known.cloned().ok_or_else(|| {
                SendError::Invalid(format!(
                    "{kind} is not among the kinds that its event type declares"
                ))
            })?;
            let mut new = NewEvent::new(id(index as u32), self.stream.clone(), event_type, data);
            new.schema_version = kind.version;
            new.meta = Some(meta.clone());
            Ok(new)
        };
        drafts.into_iter().enumerate().map(event).collect()
    }
}

/// Decides one input into the open batch; gives it back if that cannot be now.
pub fn decide(
    shared: &Shared,
    live: &mut Live,
    stream: &StreamId,
    item: Box<Item>,
) -> Result<(), Box<Item>> {
    if let Some(expect) = item.ask.as_ref().and_then(|ask| ask.expect) {
        let actual = live.machine.length().checked_sub(1);
        if !expect.holds(actual) {
            let error = SendError::VersionMismatch {
                stream: stream.clone(),
                expected: expect,
                actual,
            };
            join(
                shared,
                live,
                stream,
                item,
                Made::nothing(Verdict::Failed(error)),
            );
            return Ok(());
        }
    }
    if item.ask.is_none() && live.meta.is_none() {
        live.meta = Some(Arc::new(Meta {
            source: Some(shared.source.clone()),
            correlation_id: Some(stream.to_string()),
            ..Meta::default()
        }));
    }
    let desk = Desk {
        stream,
        now: shared.time.now(),
        shared,
        meta: live.meta.as_ref(),
        events: live.open.len(),
        bytes: live.open.bytes,
    };
    let machine = &mut live.machine;
    let decided = contain(|| {
        let made = machine.decide(&item, &desk)?;
        let again = match item.resume {
            true => machine.outstanding().map_err(Undecided::Broken)?,
            false => Vec::new(),
        };
        Ok((made, again))
    });
    let reason = match decided {
        Ok(Ok((mut made, again))) => {
            if item.resume {
                // What is sent again covers what the last decision sends.
                live.open
                    .outs
                    .extend(again.into_iter().map(|out| (out, true)));
                let ends = |out: &Out| matches!(out, Out::Reply(_) | Out::Ended);
                made.outs.retain(ends);
            }
            join(shared, live, stream, item, made);
            return Ok(());
        }
        Ok(Err(Undecided::NoRoom)) => return Err(item),
        Ok(Err(Undecided::Told(error))) => {
            join(
                shared,
                live,
                stream,
                item,
                Made::nothing(Verdict::Failed(error)),
            );
            return Ok(());
        }
        Ok(Err(Undecided::Broken(reason))) => reason,
        Err(panic) if item.is_told() => panic,
        Err(panic) => format!("its code panicked: {panic}"),
    };
    live.broken = Some(reason.clone());
    if !item.is_told() {
        return Err(item);
    }
    let error = SendError::Panicked {
        stream: stream.clone(),
        reason,
    };
    join(
        shared,
        live,
        stream,
        item,
        Made::nothing(Verdict::Failed(error)),
    );
    Ok(())
}

fn join(shared: &Shared, live: &mut Live, stream: &StreamId, item: Box<Item>, mut made: Made) {
    let settled = match made.events.is_empty() {
        true => settle(shared, live, stream, &item, &mut made.verdict),
        false => None,
    };
    let open = &mut live.open;
    let added = made.events.iter().chain(&settled);
    open.bytes += added.map(size_of_event).sum::<usize>();
    let first = open.events.len();
    open.events.extend(made.events);
    let index = open.settled.len();
    open.decided.push(Decided {
        item,
        events: first..open.events.len(),
        settled: settled.is_some().then_some(index),
        verdict: made.verdict,
    });
    open.settled.extend(settled);
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
    let outcome = match verdict {
        Verdict::Done => Ok(recall::nothing_new(live.machine.length().checked_sub(1))),
        Verdict::Rejected(why) => Err(SendError::Rejected(why.clone())),
        Verdict::Failed(error) => Err(error.clone()),
        Verdict::Repeat(_) => return None,
    };
    let event = match recall::settled(&ask.key(stream), meta_of(shared, ask), &outcome) {
        Ok(event) => event?,
        Err(error) => {
            *verdict = Verdict::Failed(error);
            return None;
        }
    };
    match shared.limits.check(std::slice::from_ref(&event)) {
        Ok(()) => Some(event),
        Err(error) => {
            *verdict = Verdict::Failed(SendError::Invalid(error.to_string()));
            None
        }
    }
}

/// At least what the log's limits count.
fn size_of_event(event: &NewEvent) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let meta = event.meta.as_deref().map_or(0, |meta| {
        text(&meta.source) + text(&meta.causation_id) + text(&meta.correlation_id)
    });
    event.data.len() + meta + event.stream.as_str().len() + 64
}
