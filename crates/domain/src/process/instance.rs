use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::record::RecordError;
use anabranch_model::{CommandId, Cut, EventRef, NameError, StreamId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::journal::{ConsumedEvent, Planned, ProcessEvent, Received};
use super::{Action, Correlate, Input, Process, Replies, Reply, SagaStart, Source, Timer};
use crate::command::{Command, CommandEnvelope, CommandError, Outcome, ReplyEnvelope, Role};
use crate::downcasts::{Lowered, Newer};
use crate::effect::CallEnvelope;
use crate::entity::Decide;
use crate::event::DecodeError;
use crate::json::Json;
use crate::origin::Origin;
use crate::saga::{Rule, Rules, SagaCommand};
use crate::schema::Reader;
use crate::time::Timestamp;
use crate::upcasts::SchemaError;

/// A registered process: its events and upcasts were checked.
pub struct ProcessType<P: Process> {
    reader: Reader<P::Event>,
}

/// An event that belongs to an instance of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed<E> {
    /// The instance's stream.
    pub instance: StreamId,
    /// Whether the event may begin the instance.
    pub starts: bool,
    /// The event.
    pub event: E,
    /// The event as the journal will hold it.
    pub record: ConsumedEvent,
}

/// What reaches an instance of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery<E> {
    /// An event, once or several times, in the order of its partition.
    Event(Consumed<E>),
    /// A timer is due.
    Timer(Timer),
    /// An answer to something that it has sent.
    Reply(ReplyEnvelope),
    /// Nothing has come for a while: what has been answered is written down.
    Quiet,
}

/// What is to be done about an input: the events to append, atomically and at
/// [`ProcessInstance::length`], and what to do once they are durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessDecision {
    /// The events to append. When there are none, nothing has changed.
    pub events: Vec<ProcessEvent>,
    /// What to do once they are durable.
    pub dispatch: Vec<Planned>,
    /// When to say that it is quiet ([`Delivery::Quiet`]): something has been answered that is
    /// not written down.
    pub quiet_at: Option<Timestamp>,
}

/// Why a process cannot take in an input. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum ProcessError {
    /// The event cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// Its data is no JSON, and a journal holds JSON.
    #[error("{name}: its data is no JSON: {reason}")]
    NoJson {
        /// The type name.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// What the log keeps beside its data cannot be read.
    #[error(transparent)]
    Meta(#[from] RecordError),
    /// The instance's key, or a stream's name, cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What the process wants to send cannot be sent.
    #[error(transparent)]
    Command(#[from] CommandError),
}

anabranch_model::debug_is_words!(ProcessError);

impl<P: Process> ProcessType<P> {
    /// Registers `P`.
    pub fn new() -> Result<Self, SchemaError> {
        Self::taught(Arc::default())
    }

    /// The same, which also reads newer events as far as `newer` says how.
    pub fn taught(newer: Arc<Newer>) -> Result<Self, SchemaError> {
        let reader = Reader::taught(newer)?;
        Ok(Self { reader })
    }

    /// The type names of the events that it wants.
    pub fn event_names(&self) -> Vec<String> {
        self.reader.names()
    }

    /// The instance that an event belongs to; `None` when it is of no interest. `closure` is
    /// the event and everything it depends on.
    pub fn consume(
        &self,
        about: &EventRef<'_>,
        closure: Cut,
    ) -> Result<Option<Consumed<P::Event>>, ProcessError> {
        if !P::CATEGORIES.contains(&about.category()) || !self.reader.knows(about.event_type) {
            return Ok(None);
        }
        let mut room = Lowered::default();
        // The journal holds it as it was read, so it is read like that for ever.
        let Some(about) = &self.reader.known(about, &mut room) else {
            return Ok(None);
        };
        let event = self
            .reader
            .read(about.event_type, about.schema_version, about.data)?;
        let Some(event) = event else {
            return Ok(None);
        };
        let (key, starts) = match P::correlate(&event, about) {
            Correlate::Ignore => return Ok(None),
            Correlate::Start(key) => (key, true),
            Correlate::Continue(key) => (key, false),
        };
        let data = Json::from_slice(about.data).map_err(|error| ProcessError::NoJson {
            name: about.event_type.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(Consumed {
            instance: StreamId::of(P::NAME, &key)?,
            starts,
            event,
            record: ConsumedEvent {
                source: Source::of(about)?,
                name: about.event_type.to_owned(),
                schema_version: about.schema_version,
                data,
                closure,
                origin: Origin {
                    // The source names it.
                    event: None,
                    ..Origin::of(about)?
                },
            },
        }))
    }

    fn read(&self, consumed: &ConsumedEvent) -> Result<Option<Input<P::Event>>, DecodeError> {
        let data = consumed.data.as_str().as_bytes();
        let event = self
            .reader
            .read(&consumed.name, consumed.schema_version, data)?;
        Ok(event.map(|event| Input::Event(event, consumed.source.clone())))
    }
}

/// One instance of a process: its state, what it has seen, and what it waits for. Serde, for
/// snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ProcessInstance<P: Process> {
    stream: StreamId,
    state: P,
    phase: Phase,
    /// Events that it has taken in or holds.
    seen: Cut,
    /// What its decisions depend on.
    causes: Cut,
    /// The story of the input that was taken in last.
    #[serde(default)]
    story: Origin,
    /// What was sent and is not answered, and as which in the order of sending.
    outbox: BTreeMap<CommandId, (u64, Planned)>,
    /// How much was sent.
    sent: u64,
    timers: BTreeMap<String, Timer>,
    held: Vec<ConsumedEvent>,
    length: u64,
    /// The last id from which others were derived.
    last_id: u128,
    /// Answered, but not yet written down.
    #[serde(skip)]
    settled: Vec<CommandId>,
    #[serde(skip)]
    rules: Rules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    New,
    Running,
    /// Takes in nothing more, but waits for answers.
    Completed,
    /// Waits for nothing more.
    Ended,
}

impl<P: Process> ProcessInstance<P> {
    /// The instance with an empty journal.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            state: P::default(),
            phase: Phase::New,
            seen: Cut::start(),
            causes: Cut::start(),
            story: Origin::default(),
            outbox: BTreeMap::new(),
            sent: 0,
            timers: BTreeMap::new(),
            held: Vec::new(),
            length: 0,
            last_id: 0,
            settled: Vec::new(),
            rules: Rules::ALL,
        }
    }

    /// The same instance, under these rules: all of them, outside of tests.
    #[must_use]
    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The journal's stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The state.
    pub fn state(&self) -> &P {
        &self.state
    }

    /// How many events the journal has: the version that the next append has to expect.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it has ended.
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Ended)
    }

    /// Whether it waits for an answer or a timer: whoever takes it over has something to do.
    pub fn is_waiting(&self) -> bool {
        !self.outbox.is_empty() || !self.timers.is_empty()
    }

    /// The story of the input that was taken in last.
    pub fn story(&self) -> &Origin {
        &self.story
    }

    /// Events that wait for the one that starts the instance.
    pub fn held(&self) -> &[ConsumedEvent] {
        &self.held
    }

    /// What a node that takes the instance over does again: everything that was sent and is not
    /// answered, in the order in which it was sent, and every timer. Receivers know what they
    /// have seen before by its id.
    pub fn outstanding(&self) -> Vec<Planned> {
        let mut sent: Vec<_> = self.outbox.values().collect();
        sent.sort_unstable_by_key(|(order, _)| *order);
        let sent = sent.into_iter().map(|(_, planned)| planned.clone());
        let timers = self.timers.values().cloned().map(Planned::Timer);
        sent.chain(timers).collect()
    }

    /// What is to be done about an input. The state moves along with the events returned.
    pub fn decide(
        &mut self,
        process: &ProcessType<P>,
        delivery: Delivery<P::Event>,
        now: Timestamp,
    ) -> Result<ProcessDecision, ProcessError> {
        let mut decision = ProcessDecision::default();
        let was_written = self.settled.is_empty();
        let is_quiet = matches!(delivery, Delivery::Quiet);
        match delivery {
            Delivery::Quiet => {}
            Delivery::Event(consumed) => self.consume(process, consumed, now, &mut decision)?,
            Delivery::Timer(timer) => {
                // Moved or taken back in the meantime: the journal is right, not the clock.
                let current = self.timers.get(&timer.name) == Some(&timer);
                if current && self.phase == Phase::Running {
                    let input = Input::Timer(timer.clone());
                    self.receive(Received::Timer(timer), &input, now, &mut decision)?;
                }
            }
            Delivery::Reply(reply) => self.reply(reply, now, &mut decision)?,
        }
        if self.settled.len() >= SETTLED_MAX || is_quiet && !self.settled.is_empty() {
            let settled = ProcessEvent::Settled {
                settled: std::mem::take(&mut self.settled),
            };
            self.note(&settled);
            decision.events.push(settled);
        }
        if self.phase == Phase::Completed && self.outbox.is_empty() {
            let ended = ProcessEvent::Ended {
                settled: std::mem::take(&mut self.settled),
            };
            self.note(&ended);
            decision.events.push(ended);
        }
        if was_written && !self.settled.is_empty() {
            decision.quiet_at = Some(now + QUIET);
        }
        Ok(decision)
    }

    fn consume(
        &mut self,
        process: &ProcessType<P>,
        consumed: Consumed<P::Event>,
        now: Timestamp,
        decision: &mut ProcessDecision,
    ) -> Result<(), ProcessError> {
        let repeated = self.seen.includes(consumed.record.source.position);
        if self.is_complete() || repeated && self.rules.keep(Rule::ProcessDedup) {
            return Ok(());
        }
        if self.phase == Phase::New && !consumed.starts {
            let event = ProcessEvent::Held {
                event: consumed.record,
            };
            self.note(&event);
            decision.events.push(event);
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let input = Input::Event(consumed.event, consumed.record.source.clone());
        self.receive(Received::Event(consumed.record), &input, now, decision)?;
        for waiting in held {
            if self.phase == Phase::Running
                && let Some(input) = process.read(&waiting)?
            {
                self.receive(Received::Event(waiting), &input, now, decision)?;
            }
        }
        Ok(())
    }

    fn reply(
        &mut self,
        envelope: ReplyEnvelope,
        now: Timestamp,
        decision: &mut ProcessDecision,
    ) -> Result<(), ProcessError> {
        let passing = match &envelope.outcome {
            Outcome::Unavailable(_) => true,
            Outcome::Refused(why) => why.try_again,
            Outcome::Done(_) | Outcome::Unknown(_) => false,
        };
        // Not answered for good, or answered before.
        let Some((_, asked)) = self.outbox.get(&envelope.id).filter(|_| !passing) else {
            return Ok(());
        };
        let to_entity = match asked {
            Planned::Command(command) => command.name != START,
            _ => false,
        };
        let refused = matches!(envelope.outcome, Outcome::Refused(_));
        let wanted = P::REPLIES == Replies::All || refused || !to_entity;
        if wanted && self.phase == Phase::Running {
            let input = Input::Reply(Reply {
                from: envelope.from.clone(),
                name: envelope.name.clone(),
                outcome: envelope.outcome.clone(),
            });
            self.receive(Received::Reply(envelope), &input, now, decision)
        } else {
            // Written down with the next input; forgotten in a crash, it is only sent again.
            self.outbox.remove(&envelope.id);
            self.settled.push(envelope.id);
            Ok(())
        }
    }

    /// Decides, writes down the input with what follows from it, and moves on.
    fn receive(
        &mut self,
        received: Received,
        input: &Input<P::Event>,
        now: Timestamp,
        decision: &mut ProcessDecision,
    ) -> Result<(), ProcessError> {
        let mut causes = self.causes.clone();
        if let Received::Event(consumed) = &received {
            self.last_id = consumed.source.id.as_u128();
            causes.join(&consumed.closure);
        }
        self.story = self.story_of(&received);
        let version = self.length.checked_sub(1);
        let cx = Decide::new(self.stream.clone(), version, self.id(u32::MAX), now);
        let actions = self.state.decide(input, &cx).into_actions()?;
        let actions = actions
            .into_iter()
            .enumerate()
            .map(|(index, action)| self.plan(index as u32, action, &causes))
            .collect::<Result<Vec<_>, _>>()?;
        let event = ProcessEvent::Received {
            input: received,
            actions: actions.clone(),
            settled: std::mem::take(&mut self.settled),
            at: now,
        };
        self.state.evolve(input);
        self.note(&event);
        decision.events.push(event);
        decision.dispatch.extend(actions);
        Ok(())
    }

    /// The story of an input: that of the event, or of what is answered; a timer goes on with the
    /// last one.
    fn story_of(&self, input: &Received) -> Origin {
        match input {
            Received::Event(consumed) => consumed.origin.clone(),
            Received::Reply(reply) => match self.outbox.get(&reply.id) {
                Some((_, Planned::Command(asked))) => Origin {
                    event: None,
                    correlation_id: asked.correlation_id.clone(),
                    traceparent: asked.traceparent.clone(),
                },
                _ => self.story.clone(),
            },
            Received::Timer(_) => self.story.clone(),
        }
    }

    /// The id of what input number [`ProcessInstance::length`] makes be sent as number `index`:
    /// a function of the journal alone.
    fn id(&self, index: u32) -> CommandId {
        CommandId::derived(
            self.last_id,
            &[
                self.stream.as_str().as_bytes(),
                &self.length.to_be_bytes(),
                &index.to_be_bytes(),
            ],
        )
    }

    fn plan(&self, index: u32, action: Action, causes: &Cut) -> Result<Planned, CommandError> {
        let story = match &self.story.correlation_id {
            Some(story) => story.clone(),
            None => self.stream.to_string(),
        };
        let command = |to, name: &str, data| {
            Planned::Command(CommandEnvelope {
                id: self.id(index),
                to,
                name: name.to_owned(),
                data,
                role: Role::Plain,
                reply_to: Some(self.stream.clone()),
                correlation_id: Some(story.clone()),
                traceparent: self.story.traceparent.clone(),
                causes: causes.clone(),
            })
        };
        Ok(match action {
            Action::Send(outgoing) => command(outgoing.to, &outgoing.name, outgoing.data),
            Action::StartSaga(SagaStart { saga, input }) => {
                let (name, data) = SagaCommand::StartSaga { input }.to_wire()?;
                command(saga, name, data)
            }
            Action::Call(call) => Planned::Call(CallEnvelope {
                key: self.id(index),
                call,
                reply_to: self.stream.clone(),
                correlation_id: Some(story.clone()),
                traceparent: self.story.traceparent.clone(),
            }),
            Action::Schedule(timer) => Planned::Timer(timer),
            Action::Cancel { timer } => Planned::Cancel { timer },
            Action::Complete => Planned::Complete,
        })
    }

    /// Takes in an event of the journal, on replay.
    pub fn evolve(
        &mut self,
        process: &ProcessType<P>,
        event: &ProcessEvent,
    ) -> Result<(), DecodeError> {
        let input = match event {
            ProcessEvent::Held { .. }
            | ProcessEvent::Settled { .. }
            | ProcessEvent::Ended { .. } => None,
            ProcessEvent::Received { input, .. } => match input {
                Received::Event(consumed) => process.read(consumed)?,
                Received::Timer(timer) => Some(Input::Timer(timer.clone())),
                Received::Reply(reply) => Some(Input::Reply(Reply {
                    from: reply.from.clone(),
                    name: reply.name.clone(),
                    outcome: reply.outcome.clone(),
                })),
            },
        };
        if let Some(input) = input {
            self.state.evolve(&input);
        }
        self.note(event);
        Ok(())
    }

    /// Everything that follows from an event but the user's own state.
    fn note(&mut self, event: &ProcessEvent) {
        self.length += 1;
        match event {
            ProcessEvent::Held { event } => {
                self.see(event);
                self.held.push(event.clone());
            }
            ProcessEvent::Settled { settled } => {
                for id in settled {
                    self.outbox.remove(id);
                }
            }
            ProcessEvent::Ended { settled } => {
                for id in settled {
                    self.outbox.remove(id);
                }
                self.phase = Phase::Ended;
            }
            ProcessEvent::Received {
                input,
                actions,
                settled,
                at: _,
            } => {
                if self.phase == Phase::New {
                    self.phase = Phase::Running;
                }
                self.story = self.story_of(input);
                match input {
                    Received::Event(consumed) => {
                        self.see(consumed);
                        self.causes.join(&consumed.closure);
                        self.last_id = consumed.source.id.as_u128();
                        self.held
                            .retain(|held| held.source.position != consumed.source.position);
                    }
                    Received::Timer(timer) => {
                        self.timers.remove(&timer.name);
                    }
                    Received::Reply(reply) => {
                        self.outbox.remove(&reply.id);
                    }
                }
                for id in settled {
                    self.outbox.remove(id);
                }
                for action in actions {
                    self.act(action);
                }
            }
        }
    }

    fn see(&mut self, consumed: &ConsumedEvent) {
        self.seen.join(&Cut::including(consumed.source.position));
    }

    fn act(&mut self, action: &Planned) {
        match action {
            Planned::Command(_) | Planned::Call(_) => {
                if let Some(id) = action.id() {
                    self.sent += 1;
                    self.outbox.insert(id, (self.sent, action.clone()));
                }
            }
            Planned::Timer(timer) => {
                self.timers.insert(timer.name.clone(), timer.clone());
            }
            Planned::Cancel { timer } => {
                self.timers.remove(timer);
            }
            Planned::Complete => {
                self.phase = Phase::Completed;
                self.timers.clear();
                self.held.clear();
            }
        }
    }
}

/// When answers are written down though no input came with which that could have been done.
const QUIET: std::time::Duration = std::time::Duration::from_secs(2);

/// How many answers are written down at once at the latest. What was answered and is not written
/// down is sent again after a restart; a receiver remembers more of its last commands than these
/// ([`PLAIN_COMMANDS_MAX`](crate::PLAIN_COMMANDS_MAX)), so it answers from memory.
const SETTLED_MAX: usize = 12;
const _: () = assert!(SETTLED_MAX < crate::memory::PLAIN_COMMANDS_MAX);

/// The name of the command that starts a saga.
const START: &str = "StartSaga";
