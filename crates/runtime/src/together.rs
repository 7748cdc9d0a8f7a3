//! Commands to several entities of a service that are decided together: all of them take effect, or
//! none does, and nobody sees one without the others.
//!
//! Their entities are set aside: what is sent to them meanwhile waits. Each is read from the log
//! and decides; what all of them record is one append, on the condition that none has changed.
//! Then each goes on from there. An entity that is too busy to be set aside is not waited for: if
//! it has changed, all is decided again.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Command as _, CommandId, Entity, Json, Remembered, Retry, StreamId};
use anabranch_log::{Append, AppendError, Appended, Condition, Expect, Rejection};
use anabranch_model::Cut;
use futures_util::future::{Either, select};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::entity::EntityHost;
use crate::host::{
    Accepted, Ask, Done, Host, Item, Key, Live, LoadError, SendOptions, Shard, Shared, State,
    Verdict, decide, first_outcome, load_newest, nothing_new, recorded,
};
use crate::send_error::SendError;
use crate::service::Service;
use crate::telemetry;

/// The most commands of one list.
pub const TOGETHER_MAX: usize = 64;

/// How often it is tried to set an entity aside that is busy.
const ASIDE_ATTEMPTS: u32 = 256;

/// One of several commands that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityCommand {
    /// The entity.
    pub to: StreamId,
    /// The command's name, such as `Withdraw`.
    pub name: String,
    /// What it holds.
    pub data: Json,
    /// The state that the entity is expected to be in; `None`: any.
    pub expect: Option<Expect>,
}

impl EntityCommand {
    /// A command to the entity of this type and key.
    ///
    /// # Errors
    ///
    /// The key is none, or the command cannot be written as JSON.
    pub fn new<E: Entity>(key: impl AsRef<str>, command: &E::Command) -> Result<Self, SendError> {
        let to = StreamId::of(E::CATEGORY, key.as_ref());
        let to = to.map_err(|error| SendError::Invalid(error.to_string()))?;
        let (name, data) = command.to_wire()?;
        Ok(Self {
            to,
            name: name.to_owned(),
            data,
            expect: None,
        })
    }

    /// The id of one of the commands of a list, by its number from 0. The events that it records have
    /// it as what caused them.
    pub fn id_in(list: CommandId, number: usize) -> CommandId {
        let number = (number as u64).to_be_bytes();
        CommandId::derived(list.as_u128(), &[b"together", &number])
    }

    /// The same, if the entity is in this state.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = Some(expect);
        self
    }
}

/// None of several commands took effect, or it is not known whether they did.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{}{error}", self.which())]
pub struct TogetherError {
    /// The one that it is about, from 0; `None`: it is about all of them.
    pub command: Option<usize>,
    /// Why.
    pub error: SendError,
}

anabranch_model::debug_is_words!(TogetherError);

impl TogetherError {
    fn which(&self) -> String {
        let which = |command| format!("command {}: ", command + 1);
        self.command.map(which).unwrap_or_default()
    }

    fn of(command: usize, error: SendError) -> Self {
        Self {
            command: Some(command),
            error,
        }
    }
}

impl From<SendError> for TogetherError {
    fn from(error: SendError) -> Self {
        Self {
            command: None,
            error,
        }
    }
}

/// What became of the attempt to set an entity aside.
enum Aside {
    /// It is, until this is dropped.
    Set(oneshot::Sender<()>),
    Busy,
    Parked(String),
}

/// What is sent to an entity waits from now on, if nothing is on its way there.
fn set_aside(shard: &mut Shard, stream: &StreamId) -> Aside {
    let slot = shard.slot(stream);
    if let State::Parked(reason) = &slot.state {
        return Aside::Parked(reason.to_string());
    }
    if !slot.is_idle() || !slot.waiting.is_empty() {
        return Aside::Busy;
    }
    // Afterwards it is read again.
    drop(shard.leave(stream));
    shard.slot(stream).state = State::Resting("it decides with others".into());
    let (release, released) = oneshot::channel();
    let stream = stream.clone();
    shard.jobs.push(Box::pin(async move {
        // Whoever has set it aside says so, or is gone.
        drop(released.await);
        Done::Rested(stream)
    }));
    Aside::Set(release)
}

/// Takes an idle entity out of memory, which does not know what others have written; whether it
/// can be said that it knows.
fn forget_idle(shard: &mut Shard, stream: &StreamId) -> bool {
    let slot = shard.slot(stream);
    match &slot.state {
        State::Live(live) if live.is_idle() => drop(shard.leave(stream)),
        State::Loading => return false,
        // What it is about to write finds out. Else it is read first.
        State::Live(_) | State::Idle | State::Resting(_) | State::Parked(_) => {}
    }
    true
}

/// One entity of a list.
struct Party<'a> {
    host: &'a Arc<EntityHost>,
    stream: StreamId,
    /// Which of the commands are sent to it.
    commands: Vec<usize>,
    /// Dropped, it goes on.
    aside: Option<oneshot::Sender<()>>,
}

impl Party<'_> {
    fn shared(&self) -> &Arc<Shared> {
        &self.host.host.shared
    }

    fn host(&self) -> &Host {
        &self.host.host
    }

    async fn set_aside(&mut self) -> Result<(), SendError> {
        for _ in 0..ASIDE_ATTEMPTS {
            match self.host().ask(&self.stream, set_aside).await {
                None => return Err(SendError::stopping()),
                Some(Aside::Set(release)) => {
                    self.aside = Some(release);
                    return Ok(());
                }
                Some(Aside::Parked(reason)) => {
                    return Err(SendError::Parked {
                        stream: self.stream.clone(),
                        reason,
                    });
                }
                Some(Aside::Busy) => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }

    async fn load(&self) -> Result<Live, SendError> {
        let loaded = load_newest(self.shared(), &self.stream).await;
        loaded.map_err(|error| match error {
            LoadError::Read(error) => SendError::Unavailable {
                reason: format!("the events of {} cannot be read: {error}", self.stream),
                retry_after: None,
            },
            LoadError::Unreadable(reason) | LoadError::Panicked(reason) => SendError::Parked {
                stream: self.stream.clone(),
                reason,
            },
        })
    }

    /// It goes on, and knows what was written.
    async fn go_on(&mut self) {
        if self.aside.take().is_some() {
            return;
        }
        while self.host().ask(&self.stream, forget_idle).await == Some(false) {
            tokio::task::yield_now().await;
        }
    }
}

/// A list on its way.
struct List<'a> {
    commands: &'a [EntityCommand],
    id: CommandId,
    options: SendOptions,
    arrived: Duration,
    deadline: Duration,
}

impl List<'_> {
    fn item(&self, party: &Party<'_>, command: usize) -> Result<Box<Item>, SendError> {
        let EntityCommand {
            name, data, expect, ..
        } = &self.commands[command];
        let kind = &party.host.kind;
        let input = kind.command(name, data.as_str().as_bytes())?;
        let id = EntityCommand::id_in(self.id, command);
        let has_id = self.options.id.is_some();
        let content = has_id.then(|| kind.content(&input)).flatten();
        let options = SendOptions {
            id: has_id.then_some(id),
            expect: *expect,
            ..self.options.clone()
        };
        let correlation_id = options.correlation_id.as_deref().unwrap_or_default();
        let traceparent = options.traceparent.as_deref();
        let span = telemetry::command(&party.stream, id, correlation_id, traceparent);
        let mut item = Item::plain(input);
        item.ask = Some(Ask {
            id,
            options,
            content,
            arrived: self.arrived,
            deadline: self.deadline,
            span,
        });
        Ok(item)
    }

    /// What became of it when it was sent before; `None`: it was not.
    async fn first_outcomes(
        &self,
        parties: &[Party<'_>],
    ) -> Result<Option<Vec<Accepted>>, TogetherError> {
        let mut outcomes: Vec<Option<Accepted>> = vec![None; self.commands.len()];
        let mut missing = None;
        for party in parties {
            for &command in &party.commands {
                let at = |error| TogetherError::of(command, error);
                let item = self.item(party, command).map_err(at)?;
                let Some(ask) = &item.ask else { continue };
                let key: Key = ask.key(&party.stream);
                match first_outcome(&party.shared().log, &key).await.map_err(at)? {
                    Some(first) => outcomes[command] = Some(first),
                    None => missing = Some(command),
                }
            }
        }
        match missing {
            None => Ok(Some(outcomes.into_iter().flatten().collect())),
            // All of a list is written, or nothing: this is another one.
            Some(command) if outcomes.iter().any(Option::is_some) => {
                let stream = self.commands[command].to.to_string();
                let id = self.id;
                Err(TogetherError::of(
                    command,
                    SendError::IdTaken { id, stream },
                ))
            }
            Some(_) => Ok(None),
        }
    }

    /// Decides all commands over what the entities are now.
    async fn decided(&self, parties: &[Party<'_>]) -> Result<Vec<Live>, TogetherError> {
        let mut lives = Vec::new();
        for party in parties {
            let at = |error| TogetherError::of(party.commands[0], error);
            lives.push(party.load().await.map_err(at)?);
        }
        for command in 0..self.commands.len() {
            let has = |(party, _): &(&Party<'_>, &mut Live)| party.commands.contains(&command);
            let Some((party, live)) = parties.iter().zip(&mut lives).find(has) else {
                continue;
            };
            let at = |error| TogetherError::of(command, error);
            let item = self.item(party, command).map_err(at)?;
            let given_back = decide(party.shared(), live, &party.stream, item).is_err();
            let last = live.open.as_ref().and_then(|open| open.decided.last());
            match last.map(|decided| &decided.verdict) {
                Some(Verdict::Done | Verdict::Repeat(Remembered::Recorded(_))) if !given_back => {}
                Some(Verdict::Failed(error)) => return Err(at(error.clone())),
                Some(Verdict::Repeat(Remembered::Refused(why))) => {
                    return Err(at(SendError::Rejected(why.clone())));
                }
                Some(_) | None => {
                    let reason = live.broken.clone().unwrap_or_default();
                    let stream = party.stream.clone();
                    return Err(at(SendError::Panicked { stream, reason }));
                }
            }
        }
        Ok(lives)
    }

    fn append(&self, parties: &[Party<'_>], lives: &[Live]) -> Append {
        let mut append = Append::default();
        for (party, live) in parties.iter().zip(lives) {
            let expect = live
                .durable
                .map_or(Expect::Empty, |last| Expect::At(last.version));
            let condition = Condition::Stream(party.stream.clone(), expect);
            append.conditions.push(condition);
            if let Some(open) = &live.open {
                append
                    .events
                    .extend(open.events.iter().chain(&open.settled).cloned());
            }
        }
        append
    }

    /// What each command is answered, now that all is durable.
    fn outcomes(
        &self,
        parties: &[Party<'_>],
        lives: &[Live],
        appended: Option<&Appended>,
    ) -> Vec<Accepted> {
        let mut outcomes: Vec<Option<Accepted>> = vec![None; self.commands.len()];
        let mut places = appended.map_or(&[][..], |appended| &appended.places);
        let mut token = self.options.causes.clone();
        for live in lives {
            token.join(
                &live
                    .durable
                    .map_or(Cut::start(), |last| Cut::including(last.position)),
            );
        }
        token.join(&appended.map_or(Cut::start(), |appended| appended.closure.clone()));
        for (party, live) in parties.iter().zip(lives) {
            let Some(open) = &live.open else { continue };
            let (own, rest) = places.split_at(open.len().min(places.len()));
            places = rest;
            let mut version = live.durable.map(|durable| durable.version);
            for (&command, decided) in party.commands.iter().zip(&open.decided) {
                let range = decided.events.clone();
                let places = own.get(range.clone()).unwrap_or_default();
                version = places.last().map(|place| place.version).or(version);
                outcomes[command] = Some(Accepted {
                    events: recorded(&open.events[range], places),
                    version,
                    token: token.clone(),
                    repeated: false,
                });
            }
        }
        let nothing = |outcome: Option<Accepted>| outcome.unwrap_or_else(|| nothing_new(None));
        outcomes.into_iter().map(nothing).collect()
    }
}

/// What is to be done about an append that was not made.
enum Next {
    /// Decide again: something has changed.
    Again,
    /// Send it again after a while.
    Resend,
    /// It was written before.
    Recall,
    Tell(SendError),
}

fn next(error: AppendError, times: u32, times_max: u32) -> Next {
    let reason = error.to_string();
    match error {
        AppendError::Conflict { .. } | AppendError::Untold { .. } | AppendError::Matched { .. } => {
            Next::Again
        }
        AppendError::Rejected(Rejection::IdTaken { .. } | Rejection::PartlyWritten { .. }) => {
            Next::Recall
        }
        AppendError::Rejected(Rejection::NotOwner { .. }) => Next::Tell(SendError::Unavailable {
            reason,
            retry_after: None,
        }),
        AppendError::Rejected(_) => Next::Tell(SendError::Invalid(reason)),
        AppendError::Unknown { .. } if times < times_max => Next::Resend,
        AppendError::Unavailable { .. } if (2..times_max).contains(&times) => Next::Resend,
        // After an attempt of unknown outcome, that the next one did nothing says nothing.
        AppendError::Unknown { .. } => Next::Tell(SendError::Unknown { reason }),
        AppendError::Unavailable { .. } if times > 1 => Next::Tell(SendError::Unknown { reason }),
        AppendError::Unavailable { retry_after, .. } => Next::Tell(SendError::Unavailable {
            reason,
            retry_after,
        }),
    }
}

impl Service {
    /// Sends commands to several entities of this service: all of them take effect, or none does, and
    /// nobody sees one without the others. The outcomes stand in the order of the commands. Of
    /// several to one entity each sees what those before it have done. 64 at the most.
    ///
    /// # Errors
    ///
    /// An entity says no, and which; or what [`EntityHandle::send`](crate::EntityHandle::send) says.
    pub async fn together(
        &self,
        commands: impl IntoIterator<Item = EntityCommand>,
    ) -> Result<Vec<Accepted>, TogetherError> {
        let commands: Vec<_> = commands.into_iter().collect();
        self.together_with(&commands, SendOptions::default()).await
    }

    /// As [`Service::together`], with an id of the whole list, a time limit, or what it depends on. Sent
    /// again with the same id, a list that was done gets the first outcomes; one that was refused is
    /// decided again. What is expected of an entity stands with its command.
    ///
    /// # Errors
    ///
    /// Those of [`Service::together`].
    pub async fn together_with(
        &self,
        commands: &[EntityCommand],
        mut options: SendOptions,
    ) -> Result<Vec<Accepted>, TogetherError> {
        if commands.is_empty() || commands.len() > TOGETHER_MAX {
            let count = commands.len();
            let text = format!("{count} commands: 1 to {TOGETHER_MAX} are sent together");
            return Err(SendError::Invalid(text).into());
        }
        let mut parties: Vec<Party<'_>> = Vec::new();
        for (number, command) in commands.iter().enumerate() {
            if let Some(party) = parties.iter_mut().find(|party| party.stream == command.to) {
                party.commands.push(number);
                continue;
            }
            let host = self.any_entity(command.to.category());
            parties.push(Party {
                host: host.map_err(|error| TogetherError::of(number, error))?,
                stream: command.to.clone(),
                commands: vec![number],
                aside: None,
            });
        }
        let Shared {
            time,
            options: of_all,
            ..
        } = &**parties[0].shared();
        let arrived = time.monotonic();
        let timeout = options.timeout.unwrap_or(of_all.timeout);
        let deadline = arrived.saturating_add(timeout);
        let new_id = || CommandId::v7(time.now().micros() / 1000, time.random());
        let id = options.id.unwrap_or_else(new_id);
        options.correlation_id.get_or_insert_with(|| id.to_string());
        if options.causes == Cut::start() {
            options.causes = of_all.causes.cut(|| self.seen());
        }
        let list = List {
            commands,
            id,
            options,
            arrived,
            deadline,
        };
        let late = time.sleep_until(deadline);
        let done = Box::pin(self.decide_together(&list, parties));
        match select(done, late).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(SendError::Unknown {
                reason: format!("no answer within {timeout:?}"),
            }
            .into()),
        }
    }

    async fn decide_together(
        &self,
        list: &List<'_>,
        mut parties: Vec<Party<'_>>,
    ) -> Result<Vec<Accepted>, TogetherError> {
        let streams = parties.iter().map(|party| party.stream.clone()).collect();
        let _in_turn = self.in_turn.all(streams).await;
        if list.options.id.is_some()
            && let Some(first) = list.first_outcomes(&parties).await?
        {
            return Ok(first);
        }
        for party in &mut parties {
            let aside = party.set_aside().await;
            aside.map_err(|error| TogetherError::of(party.commands[0], error))?;
        }
        let shared = parties[0].shared().clone();
        let (mut attempts, attempts_max) = (0, shared.options.contended_attempts_max);
        loop {
            let lives = list.decided(&parties).await?;
            let append = list.append(&parties, &lives);
            if append.events.is_empty() {
                return Ok(list.outcomes(&parties, &lives, None));
            }
            let mut times = 1;
            let next = loop {
                let error = match shared.log.append(append.clone()).await {
                    Ok(appended) => {
                        for party in &mut parties {
                            party.go_on().await;
                        }
                        return Ok(list.outcomes(&parties, &lives, Some(&appended)));
                    }
                    Err(error) => error,
                };
                match next(error, times, shared.options.unknown_attempts_max) {
                    Next::Resend => {
                        let wait = Retry::DEFAULT.delay_after(times, shared.time.random());
                        shared.time.sleep(wait).await;
                        times += 1;
                    }
                    next => break next,
                }
            };
            match next {
                Next::Again | Next::Resend => {}
                Next::Recall => {
                    if let Some(first) = list.first_outcomes(&parties).await? {
                        return Ok(first);
                    }
                }
                Next::Tell(error) => return Err(error.into()),
            }
            attempts += 1;
            if attempts >= attempts_max {
                let stream = parties[0].stream.clone();
                return Err(SendError::Contended { stream, attempts }.into());
            }
        }
    }
}
