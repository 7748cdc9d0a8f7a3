//! Gathers one story from a log: everything that followed from the events of one stream, in
//! whatever service, and why.
//!
//! One pass in the order of the log is enough, since a cause stands before what follows from it.
//! What belongs is found by the ids that the log holds: the command that recorded an event; what
//! a saga or a process had written down before it was sent; the event that a saga was started by.

use std::collections::BTreeMap;

use anabranch::domain::process::{Planned, ProcessEvent, Received};
use anabranch::domain::saga::{Dispatch, Phase, SagaEvent, SagaState, StepId, outputs, start_id};
use anabranch::domain::{CommandId, DecodeError, Event as _, Timestamp};
use anabranch::model::record::RecordError;
use anabranch::model::{EventId, EventRef, Meta, StreamId};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An event of a story.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Its place in the log.
    pub position: String,
    /// When the log recorded it, in microseconds since 1970.
    #[serde(skip)]
    pub at: u64,
    /// The same, for people.
    pub time: String,
    /// The service that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its stream.
    pub stream: String,
    /// Its place in the stream.
    pub version: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its id.
    pub id: String,
    /// The position of the event of this story that it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The step of the saga that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What it says, in words, if it is of a saga or a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Its data, if that is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// What became of a saga of a story.
#[derive(Debug, Serialize)]
pub struct Ended {
    /// The saga's stream.
    pub saga: String,
    /// `running`, `going back`, `completed` or `compensated`.
    pub phase: &'static str,
    /// The steps that failed, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    /// The steps that were undone, in the order in which they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<String>,
}

/// A step that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// Its name.
    pub step: String,
    /// Why, in the words of who said no.
    pub why: String,
}

struct Saga {
    state: SagaState,
    started: CommandId,
    asked: BTreeMap<(StepId, bool), CommandId>,
    failed: Vec<Failed>,
    undone: Vec<String>,
    /// What each step has last failed with.
    words: BTreeMap<StepId, String>,
    last: usize,
}

/// Gathers a story while the log goes by.
pub struct Gathering {
    root: StreamId,
    told: Vec<Told>,
    events: BTreeMap<EventId, usize>,
    /// Where each command, or call, was written down before it was sent.
    commands: BTreeMap<CommandId, usize>,
    /// The last event that each command has led to.
    answers: BTreeMap<CommandId, usize>,
    timers: BTreeMap<(String, String), usize>,
    sagas: BTreeMap<String, Saga>,
    order: Vec<String>,
    unreadable: usize,
}

impl Gathering {
    /// The story of what follows from the events of `root`.
    pub fn of(root: StreamId) -> Self {
        Self {
            root,
            told: Vec::new(),
            events: BTreeMap::new(),
            commands: BTreeMap::new(),
            answers: BTreeMap::new(),
            timers: BTreeMap::new(),
            sagas: BTreeMap::new(),
            order: Vec::new(),
            unreadable: 0,
        }
    }

    /// The story, and its sagas in the order in which they began.
    pub fn end(mut self) -> (Vec<Told>, Vec<Ended>) {
        let ended = self.order.iter().filter_map(|name| {
            let saga = self.sagas.remove(name)?;
            let phase = match saga.state.phase() {
                Phase::New | Phase::Running => "running",
                Phase::Aborting => "going back",
                Phase::Completed => "completed",
                Phase::Compensated => "compensated",
            };
            Some(Ended {
                saga: name.clone(),
                phase,
                failed: saga.failed,
                undone: saga.undone,
            })
        });
        let ended = ended.collect();
        (self.told, ended)
    }

    /// Takes the next event of the log; keeps it if it belongs. Fails when what the log keeps
    /// beside its data cannot be read: then nobody knows whether it does.
    pub fn take(&mut self, event: &EventRef<'_>) -> Result<(), RecordError> {
        let meta = event.meta.decode()?;
        if self.sagas.contains_key(event.stream) {
            self.go_on(event, meta.source);
            return Ok(());
        }
        let is_root = event.stream == self.root.as_str();
        let is_in_journal = match event.event_type {
            "SagaStarted" => self.begin(event, &meta, is_root),
            "Received" => self.receive(event, &meta, is_root),
            _ => Ok(false),
        };
        match is_in_journal {
            Ok(true) => {}
            Ok(false) => drop(self.follow(event, &meta, is_root)),
            // It is shown as it is, and what would have followed from it is missing.
            Err(why) => {
                if let Some(index) = self.follow(event, &meta, is_root) {
                    self.cannot_read(index, &why);
                }
            }
        }
        Ok(())
    }

    /// How many entries of journals could not be read: what followed from them may be missing.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    fn cannot_read(&mut self, index: usize, why: &str) {
        self.unreadable += 1;
        let event_type = &self.told[index].event_type;
        self.told[index].says = Some(format!("{event_type} cannot be read here: {why}"));
    }

    fn tell(
        &mut self,
        event: &EventRef<'_>,
        service: Option<String>,
        cause: Option<usize>,
    ) -> usize {
        let index = self.told.len();
        self.events.insert(event.id, index);
        let data = std::str::from_utf8(event.data).ok();
        self.told.push(Told {
            position: event.position.to_string(),
            at: event.recorded_at,
            time: Timestamp::from_micros(event.recorded_at).to_string(),
            service,
            stream: event.stream.to_owned(),
            version: event.version,
            event_type: event.event_type.to_owned(),
            id: event.id.to_string(),
            cause: cause.map(|cause| self.told[cause].position.clone()),
            step: None,
            says: None,
            data: data.and_then(|text| serde_json::from_str(text).ok()),
        });
        index
    }

    /// An event of an entity, or one that was appended by hand: it belongs if its command does.
    fn follow(&mut self, event: &EventRef<'_>, meta: &Meta, is_root: bool) -> Option<usize> {
        let command = meta.causation_id.as_deref().and_then(|id| id.parse().ok());
        let by_command = command.and_then(|command| self.commands.get(&command).copied());
        let by_event = meta.causation_id.as_deref().and_then(|id| id.parse().ok());
        let by_event = by_event.and_then(|id: EventId| self.events.get(&id).copied());
        let cause = by_command.or(by_event);
        if cause.is_none() && !is_root {
            return None;
        }
        let index = match event.event_type {
            // Says to the platform alone that a command without events was done.
            "$Done" => cause?,
            _ => self.tell(event, meta.source.clone(), cause),
        };
        if let Some(command) = command {
            self.answers.insert(command, index);
        }
        Some(index)
    }

    /// Whether a saga of this story begins here, or why that cannot be read.
    fn begin(&mut self, event: &EventRef<'_>, meta: &Meta, is_root: bool) -> Result<bool, String> {
        let decoded = SagaEvent::decode(event.event_type, event.schema_version, event.data);
        let started = match decoded {
            Ok(started) => started,
            Err(error) => return not_ours(event, ["definition", "steps"], &error),
        };
        let stream = StreamId::system(event.stream).map_err(|error| error.to_string())?;
        let SagaEvent::SagaStarted { id, .. } = started else {
            return Ok(false);
        };
        let by_event = |known: &&EventId| start_id(**known, &stream) == id;
        let cause = self.commands.get(&id).copied().or_else(|| {
            let found = self.events.keys().find(by_event)?;
            self.events.get(found).copied()
        });
        if cause.is_none() && !is_root {
            return Ok(false);
        }
        let saga = Saga {
            state: SagaState::new(stream),
            started: id,
            asked: BTreeMap::new(),
            failed: Vec::new(),
            undone: Vec::new(),
            words: BTreeMap::new(),
            last: self.told.len(),
        };
        self.sagas.insert(event.stream.to_owned(), saga);
        self.order.push(event.stream.to_owned());
        let index = self.tell(event, meta.source.clone(), cause);
        self.enter(event.stream, &started, index);
        Ok(true)
    }

    /// The next event of a saga of this story.
    fn go_on(&mut self, event: &EventRef<'_>, service: Option<String>) {
        let decoded = SagaEvent::decode(event.event_type, event.schema_version, event.data);
        let Some(saga) = self.sagas.get(event.stream) else {
            return;
        };
        let mut cause = Some(saga.last);
        if let Ok(entry) = &decoded
            && let Some((step, undo)) = answered_step(entry)
            && let Some(command) = saga.asked.get(&(step.clone(), undo))
        {
            let sent = self.commands.get(command).copied();
            cause = self.answers.get(command).copied().or(sent).or(cause);
        }
        let index = self.tell(event, service, cause);
        match decoded {
            Ok(entry) => self.enter(event.stream, &entry, index),
            Err(error) => self.cannot_read(index, &error.to_string()),
        }
    }

    /// Takes an event of a saga's journal into account, and what is sent because of it.
    fn enter(&mut self, stream: &str, entry: &SagaEvent, index: usize) {
        let told = &mut self.told[index];
        told.step = step_of(entry).map(ToString::to_string);
        told.says = Some(words_of(entry));
        let Some(saga) = self.sagas.get_mut(stream) else {
            return;
        };
        saga.last = index;
        saga.state.evolve(entry);
        for sent in outputs(&saga.state, entry) {
            if let Dispatch::Request { id, .. } = sent
                && let Some(step) = step_of(entry)
            {
                let undo = matches!(
                    entry,
                    SagaEvent::CompStarted { .. } | SagaEvent::CompRetried { .. }
                );
                saga.asked.insert((step.clone(), undo), id);
                self.commands.entry(id).or_insert(index);
            }
        }
        match entry {
            SagaEvent::StepRefused { step, why, .. } => saga.failed.push(Failed {
                step: step.to_string(),
                why: format!("{} ({})", why.message, why.code),
            }),
            SagaEvent::AttemptFailed {
                step,
                undo: false,
                why,
            } => drop(saga.words.insert(step.clone(), why.clone())),
            SagaEvent::StepTimedOut { step } => saga.failed.push(Failed {
                step: step.to_string(),
                why: match saga.words.get(step) {
                    Some(words) => format!("its time was up: {words}"),
                    None => "its time was up".to_owned(),
                },
            }),
            SagaEvent::StepUnknown { step, why } => saga.failed.push(Failed {
                step: step.to_string(),
                why: why.clone(),
            }),
            SagaEvent::CompOk { step, .. } => saga.undone.push(step.to_string()),
            SagaEvent::SagaCompleted | SagaEvent::SagaCompensated => {
                self.answers.insert(saga.started, index);
            }
            _ => {}
        }
    }

    /// Whether what a process has received belongs to this story, or why that cannot be read.
    fn receive(
        &mut self,
        event: &EventRef<'_>,
        meta: &Meta,
        is_root: bool,
    ) -> Result<bool, String> {
        let decoded = ProcessEvent::decode(event.event_type, event.schema_version, event.data);
        let (input, actions) = match decoded {
            Ok(ProcessEvent::Received { input, actions, .. }) => (input, actions),
            Ok(_) => return Ok(false),
            Err(error) => return not_ours(event, ["input", "actions"], &error),
        };
        let (cause, says) = match &input {
            Received::Event(consumed) => (
                self.events.get(&consumed.source.id).copied(),
                format!("hears {} of {}", consumed.name, consumed.source.stream),
            ),
            Received::Timer(timer) => {
                let place = (event.stream.to_owned(), timer.name.clone());
                let set = self.timers.remove(&place);
                (set, format!("timer {} is due", timer.name))
            }
            Received::Reply(reply) => {
                let sent = self.commands.get(&reply.id).copied();
                let answer = self.answers.get(&reply.id).copied();
                let answer = answer.filter(|_| sent.is_some()).or(sent);
                (
                    answer,
                    format!(
                        "is answered: {}",
                        words_of_outcome(&reply.name, &reply.outcome)
                    ),
                )
            }
        };
        if cause.is_none() && !is_root {
            return Ok(false);
        }
        let index = self.tell(event, meta.source.clone(), cause);
        let mut does = Vec::new();
        for action in actions {
            match action {
                Planned::Command(command) => {
                    does.push(format!("{} to {}", command.name, command.to));
                    self.commands.insert(command.id, index);
                }
                Planned::Call(call) => {
                    does.push(format!("call {}", call.call.effect));
                    self.commands.insert(call.key, index);
                }
                Planned::Timer(timer) => {
                    does.push(format!("timer {}", timer.name));
                    let place = (event.stream.to_owned(), timer.name);
                    self.timers.insert(place, index);
                }
                Planned::Cancel { timer } => does.push(format!("no timer {timer}")),
                Planned::Complete => does.push("ends".to_owned()),
            }
        }
        self.told[index].says = Some(match &does[..] {
            [] => says,
            does => format!("{says} ─▶ {}", does.join(", ")),
        });
        Ok(true)
    }
}

/// An event with the name of one of a journal that is none: another service's, unless it has what
/// such an entry has.
fn not_ours(event: &EventRef<'_>, members: [&str; 2], error: &DecodeError) -> Result<bool, String> {
    let data = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(event.data);
    match data {
        Ok(data) if members.iter().all(|member| data.contains_key(*member)) => {
            Err(error.to_string())
        }
        _ => Ok(false),
    }
}

/// The step that an event answers, and whether it is about its compensation.
fn answered_step(entry: &SagaEvent) -> Option<(&StepId, bool)> {
    match entry {
        SagaEvent::StepOk { step, .. } | SagaEvent::StepRefused { step, .. } => Some((step, false)),
        SagaEvent::CompOk { step, .. } => Some((step, true)),
        SagaEvent::LateReply { step, undo, .. } => Some((step, *undo)),
        _ => None,
    }
}

fn step_of(entry: &SagaEvent) -> Option<&StepId> {
    match entry {
        SagaEvent::StepStarted { step, .. }
        | SagaEvent::StepRetried { step, .. }
        | SagaEvent::AttemptFailed { step, .. }
        | SagaEvent::StepOk { step, .. }
        | SagaEvent::StepRefused { step, .. }
        | SagaEvent::StepTimedOut { step }
        | SagaEvent::StepUnknown { step, .. }
        | SagaEvent::CompStarted { step, .. }
        | SagaEvent::CompRetried { step, .. }
        | SagaEvent::CompOk { step, .. }
        | SagaEvent::LateReply { step, .. }
        | SagaEvent::Parked { step, .. }
        | SagaEvent::Resumed { step, .. } => Some(step),
        _ => None,
    }
}

fn words_of_outcome(name: &str, outcome: &anabranch::domain::Outcome) -> String {
    use anabranch::domain::Outcome;
    match outcome {
        Outcome::Done(_) => format!("{name} is done"),
        Outcome::Refused(why) => format!("{name} is refused: {} ({})", why.message, why.code),
        Outcome::Unknown(why) | Outcome::Unavailable(why) => {
            format!("nobody knows about {name}: {why}")
        }
    }
}

fn words_of(entry: &SagaEvent) -> String {
    let by = |by: &Option<anabranch::domain::saga::Operator>| match by {
        Some(by) => format!(", says {}: {}", by.who, by.why),
        None => String::new(),
    };
    match entry {
        SagaEvent::SagaStarted { steps, .. } => {
            let names = steps.iter().map(|step| match step.branches {
                1 => step.name.clone(),
                many => format!("{} × {many}", step.name),
            });
            format!("begins: {}", names.collect::<Vec<_>>().join(", "))
        }
        SagaEvent::StepStarted {
            step,
            request,
            fallback: Some(_),
            ..
        } => format!("{step}, its fallback ─▶ {}", request.describe()),
        SagaEvent::StepStarted { step, request, .. } => format!("{step} ─▶ {}", request.describe()),
        SagaEvent::StepRetried { step, attempt, .. } => format!("{step}, attempt {attempt}"),
        SagaEvent::AttemptFailed {
            step,
            undo: false,
            why,
        } => format!("{step} fails: {why}"),
        SagaEvent::AttemptFailed { step, why, .. } => format!("undo {step} fails: {why}"),
        SagaEvent::StepOk { step, by: who, .. } => format!("{step} is done{}", by(who)),
        SagaEvent::StepRefused { step, why, by: who } => {
            format!(
                "{step} is refused: {} ({}){}",
                why.message,
                why.code,
                by(who)
            )
        }
        SagaEvent::StepTimedOut { step } => format!("the time of {step} is up"),
        SagaEvent::StepUnknown { step, why } => format!("nobody knows about {step}: {why}"),
        SagaEvent::OperatorAsked { refused, .. } => match refused {
            Some(why) => {
                format!(
                    "a person asked, and was refused: {} ({})",
                    why.message, why.code
                )
            }
            None => "a person asked".to_owned(),
        },
        SagaEvent::AbortRequested { why, .. } => format!("goes back: {why}"),
        SagaEvent::CompStarted { step, request, .. } => {
            format!("undo {step} ─▶ {}", request.describe())
        }
        SagaEvent::CompRetried { step, attempt, .. } => format!("undo {step}, attempt {attempt}"),
        SagaEvent::CompOk { step, by: who } => format!("{step} is undone{}", by(who)),
        SagaEvent::LateReply { step, .. } => format!("an answer about {step} came late"),
        SagaEvent::Parked { step, why, .. } => format!("{step} waits for a person: {why}"),
        SagaEvent::Resumed { step, by } => format!("{step} goes on, says {}: {}", by.who, by.why),
        SagaEvent::SagaCompleted => "completed".to_owned(),
        SagaEvent::SagaCompensated => "compensated: nothing of it is left".to_owned(),
    }
}
