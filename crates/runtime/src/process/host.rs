//! Hosts the instances of one process or saga.

use std::sync::Arc;

use anabranch_domain::{CommandEnvelope, Cut, Poison, ReplyEnvelope, Retry, StreamId};
use anabranch_model::Position;
use tokio::sync::{Notify, oneshot, watch};

use super::ProcessOptions;
use crate::delivery::{Dispatcher, ToDispatcher};
use crate::entity::HostError;
use crate::follow::{FollowParts, Following, Intake as _, Progress, StoreError};
use crate::host::{About, Host, HostParts, InstanceStatus, Item, Shard, Shared, load_newest};
use crate::intake::{Places, ProcessIntake};
use crate::kinds::Listening;
use crate::newer::NewerTypes;
use crate::send_error::SendError;

/// What a host is made of.
pub struct ProcessParts {
    pub host: HostParts,
    pub head: watch::Receiver<Cut>,
    pub dispatcher: Arc<Dispatcher>,
    pub newer: NewerTypes,
}

/// The instances of one process or saga, whatever its type, hosted: what dispatchers and operators
/// use.
pub struct ProcessHost {
    intake: Arc<ProcessIntake>,
    parts: ProcessParts,
    following: Following,
    /// Lets it begin.
    begin: Arc<Notify>,
}

impl ProcessHost {
    /// Starts the shards; [`ProcessHost::begin`] lets them consume.
    pub(crate) fn start(
        kind: Arc<dyn Listening>,
        parts: ProcessParts,
        options: ProcessOptions,
    ) -> Result<Arc<Self>, HostError> {
        let About { name, drive, .. } = kind.about();
        let outbox = ToDispatcher::new(parts.dispatcher.clone(), drive);
        let outbox = Some(Arc::new(outbox) as _);
        let shared = Shared::new(kind.clone(), parts.host.clone(), options.host(), outbox);
        let shared = shared.map_err(|source| HostError::Name {
            category: name,
            source,
        })?;
        let places = Places::new(kind, Host::start(shared), options.keep_every, options.begin);
        let intake = Arc::new(ProcessIntake::new(places, parts.dispatcher.clone()));
        let begin = Arc::new(Notify::new());
        let (begun, takes_over) = (begin.clone(), intake.clone());
        let ready = async move {
            begun.notified().await;
            takes_over.take_over().await;
        };
        // An event that cannot be consumed is tried once, and nothing is passed over. The intake
        // itself keeps the place.
        let follow = FollowParts {
            of: format!("process {name}"),
            log: parts.host.log.clone(),
            time: parts.host.time.clone(),
            diagnostics: parts.host.diagnostics.clone(),
            head: parts.head.clone(),
            newer: Some(parts.newer.clone()),
            filter: intake.places.kind.listens_to(),
            poison: Poison::Stop,
            retry: Retry {
                attempts_max: Some(1),
                ..Retry::DEFAULT
            },
            parked_max: 0,
            keep_every: 0,
            caught_up: None,
        };
        Ok(Arc::new(Self {
            following: Following::start(follow, intake.clone(), Progress::default(), ready),
            intake,
            parts,
            begin,
        }))
    }

    /// Takes over what is open, and begins to consume.
    pub(crate) fn begin(&self) {
        self.begin.notify_one();
    }

    /// Whether it may begin: the first event of a history of which it does not say whether it is to
    /// be heard, if there is one.
    pub(crate) async fn unsaid(&self) -> Option<Position> {
        let places = &self.intake.places;
        // What the log cannot tell now, taking over asks again.
        places.unsaid().await.unwrap_or_else(|reason| {
            places.note(format!("cannot look where it begins: {reason}"));
            None
        })
    }

    fn kind(&self) -> &Arc<dyn Listening> {
        &self.intake.places.kind
    }

    fn host(&self) -> &Host {
        &self.intake.places.host
    }

    async fn answered(&self, stream: StreamId, mut item: Box<Item>) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        item.reply = Some(reply);
        self.host().bring(stream, item).await?;
        let outcome = answer.await.map_err(|_| SendError::unanswered())?;
        outcome.map(drop)
    }

    /// The process's or the saga's name.
    pub fn name(&self) -> &'static str {
        self.host().shared.about.name
    }

    /// Takes a command to an instance: starts, aborts, resumes or settles a saga. Answers when
    /// what follows from it is durable.
    pub async fn command(&self, command: CommandEnvelope) -> Result<(), SendError> {
        let mut item = Item::plain(self.kind().command(&command)?);
        item.causes = command.causes;
        // Sagas and processes give ids that nobody else can give.
        item.id = command.reply_to.is_none().then_some(command.id);
        self.answered(command.to, item).await
    }

    fn heard(&self, reply: ReplyEnvelope) -> Option<Box<Item>> {
        let causes = reply.causes.clone();
        let mut item = Item::plain(self.kind().reply(reply)?);
        item.causes = causes;
        Some(item)
    }

    /// Takes an answer to something that an instance has sent.
    pub async fn reply(&self, reply: Box<ReplyEnvelope>) -> Result<(), SendError> {
        let (stream, id) = (reply.to.clone(), reply.id);
        if let Some(item) = self.heard(*reply) {
            self.answered(stream, item).await?;
        }
        self.parts.dispatcher.heard(id);
        Ok(())
    }

    /// The instances that have not ended, and those that are parked.
    pub async fn list(&self) -> Vec<InstanceStatus> {
        let all = self.host().ask_all(Shard::list).await;
        let mut all = all.unwrap_or_default();
        all.sort_by(|a, b| a.stream.cmp(&b.stream));
        all
    }

    /// The instances that have ended, newest first and at most `max`, without their states.
    /// Reads the ends of all journals.
    pub async fn ended(&self, max: usize) -> Result<Vec<InstanceStatus>, String> {
        self.intake.places.ended(max).await
    }

    /// One instance, from its journal, and whether it is parked here.
    pub async fn show(&self, stream: StreamId) -> InstanceStatus {
        let described = match load_newest(&self.host().shared, &stream).await {
            Ok(live) => live.described(),
            Err(error) => Err(error.to_string()),
        };
        let mut here = self.list().await.into_iter();
        let here = here.find(|here| here.stream == stream);
        InstanceStatus {
            stream,
            parked: here
                .and_then(|here| here.parked)
                .or_else(|| described.as_ref().err().cloned()),
            description: described.ok(),
        }
    }

    /// Tries a parked instance again; false if it was not parked. What it has missed is
    /// consumed again.
    pub async fn retry(&self, stream: StreamId) -> bool {
        let unparked = self.host().ask(&stream, Shard::unpark).await;
        let unparked = unparked.unwrap_or(false);
        if unparked {
            self.host().shared.feed.rewind();
        }
        unparked
    }

    /// Why no more events are consumed, if that is so.
    pub fn stopped(&self) -> Option<String> {
        self.following.stopped_at().map(|event| event.to_string())
    }

    /// How far everything that it listens to was consumed, and what followed is durable.
    pub fn consumed(&self) -> Cut {
        if self.kind().listens_to().is_none() {
            // There is nothing to consume.
            return self.parts.head.borrow().clone();
        }
        self.host().shared.feed.done()
    }

    /// Passes over the event that cannot be consumed; false if there is none.
    pub async fn skip(&self) -> Result<bool, StoreError> {
        self.following.skip().await
    }

    /// Tries again to consume the event that cannot be consumed; false if there is none.
    pub fn consume_again(&self) -> bool {
        self.following.retry()
    }

    /// Stops, and keeps the place to begin at.
    pub async fn close(&self) {
        self.following.end();
        // It notes itself when the place cannot be kept.
        drop(self.intake.keep().await);
        self.host().close().await;
    }

    /// Stops at once, as a crash would.
    pub fn kill(&self) {
        self.following.end();
        self.host().kill();
    }
}
