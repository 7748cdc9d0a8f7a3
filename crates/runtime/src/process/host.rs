//! Hosts the instances of one process or saga.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_domain::{
    CommandEnvelope, CommandId, Cut, Json, Poison, ReplyEnvelope, Retry, StreamId,
};
use anabranch_log::BoxFuture;
use anabranch_model::Position;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::ProcessOptions;
use crate::delivery::{Dispatcher, ToDispatcher};
use crate::entity::HostError;
use crate::follow::{Follow, FollowParts, FollowState, Intake as _, PoisonEvent, Shown};
use crate::host::{
    Description, Host, HostParts, Input, InstanceStatus, Item, LoadError, Message, Shared,
    load_newest,
};
use crate::hosted::AnyProcess;
use crate::intake::{Ended, Places, ProcessIntake};
use crate::kinds::Listening;
use crate::panics::contain;
use crate::send_error::SendError;

/// What a host is made of.
pub struct ProcessParts {
    pub host: HostParts,
    pub head: watch::Receiver<Cut>,
    pub dispatcher: Arc<Dispatcher>,
}

/// The instances of one process or saga, hosted.
pub struct ProcessHost {
    intake: Arc<ProcessIntake>,
    parts: ProcessParts,
    shown: watch::Receiver<Shown>,
    nudge: Arc<Notify>,
    follow: Mutex<Option<Follow>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl ProcessHost {
    /// Starts the shards; [`ProcessHost::begin`] lets them consume.
    pub fn start(
        kind: Arc<dyn Listening>,
        parts: ProcessParts,
        options: ProcessOptions,
    ) -> Result<Arc<Self>, HostError> {
        let outbox = ToDispatcher::new(parts.dispatcher.clone(), kind.drive());
        let outbox = Some(Arc::new(outbox) as _);
        let host = parts.host.clone();
        let shared = Shared::new(kind.clone(), host, options.host(), outbox);
        let shared = shared.map_err(|source| HostError::Name {
            category: kind.name(),
            source,
        })?;
        let places = Places::new(kind, Host::start(shared), options.keep_every, options.begin);
        let intake = Arc::new(ProcessIntake::new(places, parts.dispatcher.clone()));
        let (tell, shown) = watch::channel(Shown::at(Cut::start()));
        let nudge = Arc::new(Notify::new());
        let follow = Follow::new(
            follow_parts(&intake, &parts),
            intake.clone(),
            tell,
            nudge.clone(),
            0,
        );
        Ok(Arc::new(Self {
            intake,
            parts,
            shown,
            nudge,
            follow: Mutex::new(Some(follow)),
            task: Mutex::default(),
        }))
    }

    /// Takes over what is open, and begins to consume. The task holds the host: it lives until it
    /// is closed or killed.
    pub fn begin(self: Arc<Self>) {
        let this = self.clone();
        let Some(follow) = locked(&self.follow).take() else {
            debug_assert!(false, "{} is begun a second time", self.kind().name());
            return;
        };
        let task = tokio::spawn(async move {
            this.intake.take_over().await;
            follow.run().await;
        });
        *locked(&self.task) = Some(task);
    }

    /// Whether it may begin: the first event of a history of which it does not say whether it is to
    /// be heard, if there is one.
    pub async fn unsaid(&self) -> Option<Position> {
        match self.intake.places.unsaid().await {
            Ok(first) => first,
            Err(reason) => {
                // What the log cannot tell now, taking over asks again.
                self.intake
                    .places
                    .note(format!("cannot look where it begins: {reason}"));
                None
            }
        }
    }

    fn kind(&self) -> &Arc<dyn Listening> {
        &self.intake.places.kind
    }

    fn host(&self) -> &Host {
        &self.intake.places.host
    }

    fn stopped_at(&self) -> Option<PoisonEvent> {
        match &self.shown.borrow().state {
            FollowState::Stopped { event } => Some(event.clone()),
            _ => None,
        }
    }

    fn end(&self) {
        if let Some(task) = locked(&self.task).take() {
            task.abort();
        }
    }

    async fn answered(
        &self,
        stream: StreamId,
        input: Input,
        causes: Cut,
        id: Option<CommandId>,
    ) -> Result<(), SendError> {
        let (reply, answer) = oneshot::channel();
        let mut item = Item::plain(input);
        item.reply = Some(reply);
        item.causes = causes;
        item.id = id;
        let message = Message::Input(stream.clone(), item);
        self.host().tell(&stream, message).await?;
        let outcome = answer.await.unwrap_or_else(|_| {
            Err(SendError::Unknown {
                reason: "the runtime ended before it answered".to_owned(),
            })
        });
        outcome.map(|_| ())
    }

    /// The instance, for an operator, as its journal has it.
    async fn read(&self, stream: StreamId) -> InstanceStatus {
        let (parked, description) = match load_newest(&self.host().shared, &stream).await {
            Ok(live) => match contain(|| live.machine.describe()) {
                Ok(Ok(description)) => (None, Some(description)),
                Ok(Err(reason)) => (Some(reason), None),
                Err(panic) => (Some(format!("its code panicked: {panic}")), None),
            },
            Err(LoadError::Unreadable(reason) | LoadError::Panicked(reason)) => {
                (Some(reason), None)
            }
            Err(LoadError::Read(error)) => (Some(error.to_string()), None),
        };
        InstanceStatus {
            stream,
            parked,
            description,
        }
    }
}

impl AnyProcess for ProcessHost {
    fn name(&self) -> &'static str {
        self.kind().name()
    }

    fn command(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let input = self.kind().command(&command)?;
            // Sagas and processes give ids that nobody else can give.
            let id = command.reply_to.is_none().then_some(command.id);
            self.answered(command.to, input, command.causes, id).await
        })
    }

    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let (stream, id, causes) = (reply.to.clone(), reply.id, reply.causes.clone());
            if let Some(input) = self.kind().reply(reply) {
                self.answered(stream, input, causes, None).await?;
            }
            self.parts.dispatcher.heard(id);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<InstanceStatus>> {
        Box::pin(async move {
            let all = self.host().ask_all(Message::List).await;
            let mut all = all.unwrap_or_default();
            all.sort_by(|a, b| a.stream.cmp(&b.stream));
            all
        })
    }

    fn ended(&self, max: usize) -> BoxFuture<'_, Result<Vec<InstanceStatus>, String>> {
        Box::pin(async move {
            let ended = self.intake.places.ended(max).await?;
            let status = |one: Ended| InstanceStatus {
                stream: one.stream,
                parked: None,
                description: Some(Description {
                    phase: one.how.to_owned(),
                    ended: true,
                    needs_person: false,
                    retrying: false,
                    length: one.length,
                    state: Json::null(),
                    held: Vec::new(),
                }),
            };
            Ok(ended.into_iter().map(status).collect())
        })
    }

    fn show(&self, stream: StreamId) -> BoxFuture<'_, InstanceStatus> {
        Box::pin(async move {
            let mut status = self.read(stream).await;
            let mut here = self.list().await.into_iter();
            let here = here.find(|here| here.stream == status.stream);
            if let Some(parked) = here.and_then(|here| here.parked) {
                status.parked = Some(parked);
            }
            status
        })
    }

    fn retry(&self, stream: StreamId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let unparked = self.host().ask(&stream, Message::Unpark).await;
            let unparked = unparked.unwrap_or(false);
            if unparked {
                self.host().shared.feed.rewind();
            }
            unparked
        })
    }

    fn stopped(&self) -> Option<String> {
        self.stopped_at().map(|event| event.to_string())
    }

    fn consumed(&self) -> Cut {
        let (categories, _) = self.kind().listens_to();
        if categories.is_empty() {
            // There is nothing to consume.
            return self.parts.head.borrow().clone();
        }
        self.host().shared.feed.done()
    }

    fn skip(&self) -> bool {
        let Some(event) = self.stopped_at() else {
            return false;
        };
        self.intake.skip(event.position);
        self.nudge.notify_one();
        true
    }

    fn consume_again(&self) -> bool {
        let is_stopped = self.stopped_at().is_some();
        if is_stopped {
            self.nudge.notify_one();
        }
        is_stopped
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.end();
            // It notes itself when the place cannot be kept.
            drop(self.intake.keep().await);
            self.host().close().await;
        })
    }

    fn kill(&self) {
        self.end();
        self.host().kill();
    }
}

/// How the log is followed: an event that cannot be consumed is tried once, and nothing is
/// passed over. The place is kept when the intake says so.
fn follow_parts(intake: &Arc<ProcessIntake>, parts: &ProcessParts) -> FollowParts {
    let HostParts {
        log,
        time,
        diagnostics,
        ..
    } = parts.host.clone();
    let keeps = intake.clone();
    FollowParts {
        of: format!("process {}", intake.places.kind.name()),
        log,
        time,
        diagnostics,
        head: parts.head.clone(),
        filter: intake.filter(),
        poison: Poison::Stop,
        retry: Retry {
            attempts_max: Some(1),
            ..Retry::DEFAULT
        },
        parked_max: 0,
        keep_every: 0,
        caught_up: Box::new(move || {
            let intake = keeps.clone();
            Box::pin(async move {
                intake.keep_sometimes().await;
                Ok(())
            })
        }),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
