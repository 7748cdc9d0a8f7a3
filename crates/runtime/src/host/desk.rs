//! Where a machine decides: from what it has made to events as they are stored.

use std::sync::Arc;

use anabranch_domain::{
    Event, EventKind, Origin, Rejection, Remembered, SAGA_HEADER, StreamId, Timestamp,
};
use anabranch_model::{EventId, EventType, Limits, Meta, NewEvent};

use super::item::{Ask, Item, Out, Outbox};
use crate::send_error::SendError;
use crate::time::Time;

/// What writes the events of one kind.
pub struct Writer {
    /// The service.
    pub source: String,
    /// The types of events, ready to be stored.
    pub types: Vec<EventType>,
    pub limits: Limits,
    /// Whether events say what they depend on beyond their partition.
    pub many_partitions: bool,
    pub time: Time,
}

/// What became of an input, once its events are durable.
#[derive(Default)]
pub enum Verdict {
    #[default]
    Done,
    /// What was answered before.
    Repeat(Remembered),
    Failed(SendError),
}

/// What a machine has made of an input.
#[derive(Default)]
pub struct Made {
    /// The events to append.
    pub events: Vec<NewEvent>,
    /// What others are told in the same append, in streams of its own.
    pub beside: Vec<NewEvent>,
    /// What to send once they are durable.
    pub outs: Vec<Out>,
    /// The answer to who asked.
    pub verdict: Verdict,
}

impl Made {
    /// Nothing to append, and who asked is told this error.
    pub fn failed(error: SendError) -> Self {
        Self {
            verdict: Verdict::Failed(error),
            ..Self::default()
        }
    }

    /// These events and what to send; then who asked is told this.
    pub fn of(events: Vec<NewEvent>, outs: Vec<Out>, answer: Result<(), Rejection>) -> Self {
        let verdict = match answer {
            Ok(()) => Verdict::Done,
            Err(rejection) => Verdict::Failed(SendError::Rejected(rejection)),
        };
        Self {
            events,
            outs,
            verdict,
            ..Self::default()
        }
    }
}

/// Most events fit: their data is written without growing.
const DATA_BYTES: usize = 512;

/// An event, ready but for its id and what it says beside its data.
pub type Draft = (EventKind, Vec<u8>);

/// Encodes events, in order.
pub fn drafts<V: Event>(events: &[V]) -> Result<Vec<Draft>, SendError> {
    let draft = |event: &V| {
        let mut data = Vec::with_capacity(DATA_BYTES);
        let encoded = event.encode(&mut data);
        encoded.map_err(|error| SendError::Invalid(error.to_string()))?;
        Ok((event.kind(), data))
    };
    events.iter().map(draft).collect()
}

/// The header that holds the hash of the command that has recorded an event, if the command's
/// id was given by who sent it.
pub const CONTENT_HEADER: &str = "anabranch-content";

/// A hash of a command, as that header holds it.
pub fn content_text(content: u64) -> String {
    format!("{content:016x}")
}

/// What the events that a command records say beside their data.
pub fn meta_of(writer: &Writer, ask: &Ask) -> Meta {
    let options = &ask.options;
    let mut meta = Meta {
        source: Some(writer.source.clone()),
        causation_id: Some(ask.id.to_string()),
        correlation_id: options.correlation_id.clone(),
        traceparent: options.traceparent.clone(),
        ..Meta::default()
    };
    if writer.many_partitions {
        meta.causes = options.causes.clone();
    }
    if let (false, Some(saga)) = (options.role.is_plain(), &options.reply_to) {
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
    pub writer: &'a Writer,
    pub outbox: Option<&'a dyn Outbox>,
    /// What all events of a journal say beside their data.
    pub meta: Option<&'a Arc<Meta>>,
}

impl Desk<'_> {
    /// The events as they are stored, their ids and their cause following from the command.
    pub fn of_command(&self, item: &Item, drafts: Vec<Draft>) -> Result<Vec<NewEvent>, SendError> {
        let (Some(ask), false) = (&item.ask, drafts.is_empty()) else {
            return Ok(Vec::new());
        };
        let meta = meta_of(self.writer, ask);
        let events = self.events(drafts, Arc::new(meta), |index| ask.id.event_id(index))?;
        // Its code has written the data as JSON; the log makes sure.
        let checked = self.writer.limits.check_shape(&events);
        checked.map_err(|error| SendError::Invalid(error.to_string()))?;
        Ok(events)
    }

    /// The events of a journal as they are stored. They follow from the event or command `cause`,
    /// and belong to the story of `origin`.
    pub fn of_journal<V: Event>(
        &self,
        events: &[V],
        cause: Option<String>,
        origin: Option<&Origin>,
    ) -> Result<Vec<NewEvent>, String> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let drafts = drafts(events).map_err(|error| error.to_string())?;
        let millis = self.writer.time.now().micros() / 1000;
        let id = |_| EventId::v7(millis, self.writer.time.random());
        let mut meta = self
            .meta
            .map_or_else(Meta::default, |meta| (**meta).clone());
        meta.causation_id = cause;
        if let Some(origin) = origin {
            meta.traceparent.clone_from(&origin.traceparent);
            if origin.correlation_id.is_some() {
                meta.correlation_id.clone_from(&origin.correlation_id);
            }
        }
        let stored = self.events(drafts, Arc::new(meta), id);
        stored.map_err(|error| error.to_string())
    }

    fn events(
        &self,
        drafts: Vec<Draft>,
        meta: Arc<Meta>,
        id: impl Fn(u32) -> EventId,
    ) -> Result<Vec<NewEvent>, SendError> {
        let event = |(index, (kind, data)): (usize, Draft)| {
            let mut types = self.writer.types.iter();
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

/// At least what the log's limits count.
pub fn size_of_event(event: &NewEvent) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let meta = event.meta.as_deref().map_or(0, |meta| {
        text(&meta.source)
            + text(&meta.causation_id)
            + text(&meta.correlation_id)
            + text(&meta.traceparent)
    });
    event.data.len() + meta + event.stream.as_str().len() + 64
}
