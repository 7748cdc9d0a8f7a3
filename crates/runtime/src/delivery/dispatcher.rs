//! Delivers what processes and sagas send, and brings the answers back.

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_domain::{
    CallEnvelope, CommandEnvelope, CommandId, Cut, Json, Outcome, Rejection, ReplyEnvelope, Retry,
    Role, StreamId,
};
use anabranch_log::BoxFuture;
use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::Style;
use super::effects::Asking;
use super::effects::Effects;
use super::letters::{Dead, DeadLetter, Letter};
use super::under_way::{
    Delivery, Sending, Tracked, Trouble, UnderWay, What, is_given_up, unless_given_up,
};
use crate::diagnostics::Diagnostics;
use crate::hash::HashMap;
use crate::panics;
use crate::port::{Delivered, Port, Problem, Reply, Request, Subject};
use crate::send_error::SendError;
use crate::telemetry;
use crate::time::Time;

/// The most things that are being delivered at once.
const AT_ONCE_MAX: usize = 1024;

/// The most that is under way before events are no longer consumed.
const UNDER_WAY_MAX: usize = 10_000;

/// How often a receiver that is too busy is asked again before the sender is told.
const BUSY: Retry = Retry {
    first: Duration::from_millis(10),
    max: Duration::from_secs(1),
    attempts_max: Some(6),
    jitter_percent: 50,
};

/// When a saga that has taken a command is asked for its end.
const TAKEN: Retry = Retry {
    first: Duration::from_secs(30),
    max: Duration::from_secs(900),
    attempts_max: None,
    jitter_percent: 20,
};

/// What a service hosts, as what is sent finds it.
pub trait Here: Send + Sync {
    /// Whether what stands behind this category is hosted here.
    fn owns(&self, category: &str) -> bool;

    /// Carries out whatever is no query.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>>;
}

/// Delivers for all processes and sagas of a service.
pub struct Dispatcher {
    pub time: Time,
    pub diagnostics: Arc<Diagnostics>,
    pub effects: Effects,
    pub elsewhere: Option<Arc<dyn Port>>,
    /// When a command of a process is tried again.
    pub retry: Retry,
    /// The most dead letters that are kept.
    pub letters_max: usize,
    routes: Mutex<Routes>,
    /// What is being delivered: sent again meanwhile, it is not delivered twice.
    under_way: Mutex<UnderWay>,
    /// Rung when there is less of it.
    less: Notify,
    /// What waits until the same sender's earlier command to the same receiver is delivered.
    lanes: Mutex<HashMap<Lane, VecDeque<Box<CommandEnvelope>>>>,
    dead: Mutex<Dead>,
    /// Commands that sagas have taken and whose answers are still to come: how often they were
    /// sent, and whether that is waited for now.
    taken: Mutex<HashMap<CommandId, (u32, bool)>>,
    /// What a person was told once.
    told: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

/// From a process to a receiver: commands arrive in the order in which they were sent.
type Lane = (StreamId, StreamId);

#[derive(Default)]
struct Routes {
    here: Option<Arc<dyn Here>>,
    closed: bool,
}

/// What one attempt has come to.
enum Attempt {
    /// There is an answer.
    Answer(Outcome, Cut),
    /// It was taken; the answer comes by itself.
    Taken,
    /// It makes sense to try again.
    Passing(String, Option<Duration>),
    /// Nobody can do this.
    Hopeless(String),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a call, for who has asked for it.
fn answer_to(call: &CallEnvelope, role: &Role, outcome: Outcome) -> ReplyEnvelope {
    ReplyEnvelope {
        to: call.reply_to.clone(),
        from: call.reply_to.clone(),
        id: call.key,
        name: call.call.effect.clone(),
        role: role.clone(),
        outcome,
        causes: Cut::start(),
    }
}

fn asked_by(command: &CommandEnvelope) -> What {
    What::Command {
        name: command.name.clone(),
        to: command.to.clone(),
    }
}

impl Dispatcher {
    pub fn new(
        time: Time,
        diagnostics: Arc<Diagnostics>,
        effects: Effects,
        elsewhere: Option<Arc<dyn Port>>,
        retry: Retry,
        letters_max: usize,
    ) -> Self {
        Self {
            time,
            diagnostics,
            effects,
            elsewhere,
            retry,
            letters_max,
            routes: Mutex::default(),
            under_way: Mutex::default(),
            less: Notify::new(),
            lanes: Mutex::default(),
            dead: Mutex::default(),
            taken: Mutex::default(),
            told: Mutex::default(),
            permits: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// Says who is here.
    pub fn connect(&self, here: Arc<dyn Here>) {
        locked(&self.routes).here = Some(here);
    }

    /// Ends everything at once, as a crash would; what was sent and not answered is sent again
    /// after a restart.
    pub fn close(&self) {
        let here = {
            let mut routes = locked(&self.routes);
            routes.closed = true;
            routes.here.take()
        };
        // Hosts may end with it, and they hold this.
        drop(here);
        locked(&self.tasks).abort_all();
    }

    /// How many deliveries are under way.
    pub fn under_way(&self) -> usize {
        locked(&self.under_way).len()
    }

    /// Whether the command or call of this id is being delivered.
    pub fn is_under_way(&self, id: CommandId) -> bool {
        locked(&self.under_way).has(id)
    }

    /// Whether the command of this id is being delivered. A call that takes long is not meant: each
    /// attempt at it tells the saga how it goes.
    pub fn is_sending(&self, id: CommandId) -> bool {
        locked(&self.under_way).has_command(id)
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if locked(&self.routes).closed {
            return;
        }
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        // What the scheduler keeps of a task it moves three times; in a box it is two words.
        let task: BoxFuture<'static, ()> = Box::pin(task);
        tasks.spawn(task);
    }

    /// Waits until less than the most is under way, so that who consumes events does not send
    /// faster than others take.
    pub async fn room(&self) {
        loop {
            let less = self.less.notified();
            if self.under_way() < UNDER_WAY_MAX {
                return;
            }
            less.await;
        }
    }

    /// What an instance has sent that is on its way.
    pub fn of(&self, from: &StreamId) -> Vec<Delivery> {
        locked(&self.under_way).of(from)
    }

    /// Something leaves; `None` if it is under way already.
    fn begin(&self, id: CommandId, from: &StreamId, style: Style, what: What) -> Option<Tracked> {
        let is_saga = style == Style::Report;
        locked(&self.under_way).begin(id, from, is_saga, what)
    }

    /// An attempt has failed; the next one is made at `until` on the monotonic clock. True if
    /// that is said in other words than before.
    fn fails(&self, id: CommandId, attempts: u32, reason: String, until: Duration) -> bool {
        let wait = until.saturating_sub(self.time.monotonic());
        let trouble = Trouble {
            attempts,
            reason,
            again_at: Some(self.time.now() + wait),
        };
        locked(&self.under_way).fails(id, trouble)
    }

    /// Says once for each step of a saga, or for each process, that what it calls is not here.
    fn alert_not_registered(&self, call: &CallEnvelope, role: &Role) {
        let of = call.reply_to.category();
        let who = match role {
            Role::Plain => format!("process {of}"),
            Role::Step(step) | Role::Forward(step) => format!("saga {of}, step {}", step.name),
            Role::Undo { step, .. } => format!("saga {of}, compensation of step {}", step.name),
        };
        let text = format!("{who}: {}", self.effects.not_registered(&call.call.effect));
        if locked(&self.told).insert(text.clone()) {
            self.diagnostics.alert(self.time.now(), text);
        }
    }

    /// Tells a saga what its call has come to so far, so that whoever looks at the saga knows.
    fn report(self: &Arc<Self>, call: &CallEnvelope, role: &Role) {
        let reason = {
            let under_way = locked(&self.under_way);
            let trouble = under_way.trouble(call.key);
            trouble.map(|trouble| trouble.reason.clone())
        };
        if let Some(reason) = reason {
            self.bring(answer_to(call, role, Outcome::Unavailable(reason)));
        }
    }

    fn arrived(self: &Arc<Self>, id: CommandId) {
        let ended = locked(&self.under_way).arrived(id);
        self.less.notify_one();
        if let Some((saga, receivers)) = ended {
            for receiver in receivers {
                self.forget_now(&receiver, &saga);
            }
        }
    }

    /// A compensation leaves only when nothing can come of its request any more: who receives
    /// it could take it for done and then do the request, and a third party keeps no memory of
    /// what was undone.
    async fn before(&self, role: &Role) {
        if let Role::Undo { of, .. } = role {
            let request = locked(&self.under_way).give_up(*of);
            if let Some(request) = request {
                request.over().await;
            }
        }
    }

    /// Delivers a command, and its answer to `from`. Commands of a process to one receiver are
    /// delivered one after the other; those of a saga are ordered by its steps.
    pub fn command(self: &Arc<Self>, from: StreamId, command: CommandEnvelope, style: Style) {
        // What waits for an operator is not sent again by itself.
        if locked(&self.dead).has(command.id) {
            return;
        }
        let Some(sending) = self.begin(command.id, &from, style, asked_by(&command)) else {
            return;
        };
        // What many futures hold and move is a pointer.
        let command = Box::new(command);
        let this = self.clone();
        if style == Style::Report {
            return self.spawn(async move {
                this.before(&command.role).await;
                let id = command.id;
                this.deliver(from, command, id, style, sending.as_deref())
                    .await;
            });
        }
        let lane = (from, command.to.clone());
        {
            let mut lanes = locked(&self.lanes);
            if let Some(waiting) = lanes.get_mut(&lane) {
                return waiting.push_back(command);
            }
            lanes.insert(lane.clone(), VecDeque::from([command]));
        }
        self.spawn(async move {
            loop {
                let next = {
                    let mut lanes = locked(&this.lanes);
                    let next = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
                    if next.is_none() {
                        lanes.remove(&lane);
                    }
                    next
                };
                let Some(command) = next else { return };
                let (from, id) = (lane.0.clone(), command.id);
                this.deliver(from, command, id, style, None).await;
            }
        });
    }

    /// Makes a call, and brings its outcome to who waits. `again` says that an earlier runtime
    /// may have made it.
    pub fn call(self: &Arc<Self>, call: CallEnvelope, role: Role, style: Style, again: bool) {
        let effect = call.call.effect.clone();
        if !self.effects.0.contains_key(effect.as_str()) {
            self.alert_not_registered(&call, &role);
        }
        let what = What::Call { effect };
        let Some(sending) = self.begin(call.key, &call.reply_to, style, what) else {
            if style == Style::Report {
                self.report(&call, &role);
            }
            return;
        };
        let this = self.clone();
        self.spawn(async move {
            let key = call.key;
            this.before(&role).await;
            let fails = |attempts, reason, until| {
                if this.fails(key, attempts, reason, until) && style == Style::Report {
                    this.report(&call, &role);
                }
            };
            let asking = Asking {
                time: &this.time,
                diagnostics: &this.diagnostics,
                envelope: &call,
                role: &role,
                style,
                again,
                sending: sending.as_deref(),
                fails: &fails,
            };
            let effect = call.call.effect.as_str();
            let span = telemetry::sent(&call.reply_to, &role, key, effect);
            let called = this.effects.call(&asking).instrument(span).await;
            let Some(outcome) = called else {
                return this.arrived(key);
            };
            if let (Outcome::Unavailable(reason), Style::Insist) = (&outcome, style) {
                let reason = reason.clone();
                let from = call.reply_to.clone();
                this.bury(key, from, Letter::Call(Box::new(call), role), reason, 1);
                this.arrived(key);
                return;
            }
            drop(locked(&this.dead).remove(key));
            this.reply(Box::new(answer_to(&call, &role, outcome))).await;
            this.arrived(key);
        });
    }

    /// Delivers `command`, and answers `from` under the id `asked`; then it is no longer under way.
    async fn deliver(
        self: &Arc<Self>,
        from: StreamId,
        command: Box<CommandEnvelope>,
        asked: CommandId,
        style: Style,
        sending: Option<&Sending>,
    ) {
        let span = telemetry::sent(&from, &command.role, asked, command.to.category());
        let delivered = self.try_to_deliver(from, command, asked, style, sending);
        delivered.instrument(span).await;
        self.arrived(asked);
    }

    async fn try_to_deliver(
        self: &Arc<Self>,
        from: StreamId,
        command: Box<CommandEnvelope>,
        asked: CommandId,
        style: Style,
        sending: Option<&Sending>,
    ) {
        let mut attempt = 1;
        let (outcome, causes) = loop {
            let tried = {
                let permit = self.permits.clone().acquire_owned().await;
                if is_given_up(sending) {
                    return;
                }
                let tried = AssertUnwindSafe(self.attempt(&command)).catch_unwind();
                let tried = tried.await.unwrap_or_else(|panic| {
                    let said = panics::message(&*panic);
                    Attempt::Hopeless(format!("the code of {} panicked: {said}", command.to))
                });
                drop(permit);
                tried
            };
            match (tried, style) {
                (Attempt::Taken, Style::Insist) => return self.ask_again(from, *command),
                (Attempt::Taken, Style::Report) => return,
                (Attempt::Answer(outcome, causes), _) => break (outcome, causes),
                (Attempt::Hopeless(reason), Style::Report) => {
                    let no = Rejection::new("undeliverable", reason);
                    break (Outcome::Refused(no), Cut::start());
                }
                (Attempt::Hopeless(reason), Style::Insist) => {
                    let letter = Letter::Command(command);
                    return self.bury(asked, from, letter, reason, attempt);
                }
                (Attempt::Passing(reason, hint), _) => {
                    let retry = match style {
                        Style::Insist => self.retry,
                        // Only that the receiver is busy is none of the instance's concern.
                        Style::Report if hint.is_some() => BUSY,
                        Style::Report => Retry::NEVER,
                    };
                    if !retry.goes_on_after(attempt) {
                        if style == Style::Report {
                            break (Outcome::Unavailable(reason), Cut::start());
                        }
                        let letter = Letter::Command(command);
                        return self.bury(asked, from, letter, reason, attempt);
                    }
                    let wait = retry.delay_after(attempt, command.id.as_u128());
                    let until = self.time.monotonic() + wait.max(hint.unwrap_or_default());
                    self.fails(asked, attempt, reason, until);
                    let rest = self.time.sleep_until(until);
                    if unless_given_up(sending, rest).await.is_none() {
                        return;
                    }
                    attempt += 1;
                }
            }
        };
        drop(locked(&self.dead).remove(asked));
        let CommandEnvelope { to, name, role, .. } = *command;
        let reply = Box::new(ReplyEnvelope {
            to: from,
            from: to,
            id: asked,
            name,
            role,
            outcome,
            causes,
        });
        self.reply(reply).await;
    }

    /// Carries a request out: here, if it is for what is hosted here, else through the port.
    async fn carry(&self, request: Request) -> Result<Reply, SendError> {
        let here = locked(&self.routes).here.clone();
        let here = here.ok_or_else(SendError::stopping)?;
        let carried = match (&self.elsewhere, request.subject()) {
            (Some(port), Subject::Category(category)) if !here.owns(category) => port.call(request),
            _ => here.call(request),
        };
        carried.await.map_err(Problem::of_send)
    }

    /// A saga has taken the command of a process, which waits for the saga's end. Should the
    /// end not be heard of, because the saga's service stopped just then, it is asked for.
    fn ask_again(self: &Arc<Self>, from: StreamId, command: CommandEnvelope) {
        let id = command.id;
        let attempt = {
            let mut taken = locked(&self.taken);
            let (attempt, is_waiting) = taken.entry(id).or_default();
            if std::mem::replace(is_waiting, true) {
                return;
            }
            *attempt += 1;
            *attempt
        };
        let this = self.clone();
        self.spawn(async move {
            this.time
                .sleep(TAKEN.delay_after(attempt, id.as_u128()))
                .await;
            let is_wanted = match locked(&this.taken).get_mut(&id) {
                Some((_, is_waiting)) => {
                    *is_waiting = false;
                    true
                }
                None => false,
            };
            if is_wanted {
                this.command(from, command, Style::Insist);
            }
        });
    }

    /// The answer to a command was taken by who waits for it.
    pub fn heard(&self, id: CommandId) {
        locked(&self.taken).remove(&id);
    }

    async fn attempt(&self, command: &CommandEnvelope) -> Attempt {
        let sent = match self.carry(Request::command(command.clone())).await {
            Ok(Reply::Delivered(delivered)) => Ok(delivered),
            Ok(_) => Err(Problem::Strange.of_send()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(Delivered::Taken) => Attempt::Taken,
            Ok(Delivered::Done(accepted)) => match accepted.recorded_events() {
                Ok(events) => Attempt::Answer(Outcome::recorded(&events), accepted.token),
                Err(error) => Attempt::Hopeless(format!("its events are no JSON: {error}")),
            },
            Err(SendError::Rejected(rejection)) if rejection.try_again => {
                Attempt::Passing(rejection.to_string(), None)
            }
            Err(SendError::Rejected(rejection)) => {
                Attempt::Answer(Outcome::Refused(rejection), Cut::start())
            }
            Err(SendError::Overloaded { retry_after, .. }) => {
                Attempt::Passing(format!("{} is too busy", command.to), Some(retry_after))
            }
            Err(error @ (SendError::Parked { .. } | SendError::Panicked { .. })) => {
                Attempt::Passing(error.to_string(), None)
            }
            Err(error) if error.is_passing() => Attempt::Passing(error.to_string(), None),
            Err(error) => Attempt::Hopeless(error.to_string()),
        }
    }

    /// As [`Dispatcher::reply`], without waiting for it to be taken.
    pub fn bring(self: &Arc<Self>, reply: ReplyEnvelope) {
        let (this, reply) = (self.clone(), Box::new(reply));
        self.spawn(async move { this.reply(reply).await });
    }

    /// Brings an answer to the process or saga that waits for it, and tries again while that
    /// is away.
    pub async fn reply(&self, reply: Box<ReplyEnvelope>) {
        let mut attempt = 1;
        loop {
            let Err(error) = self.try_reply(reply.clone()).await else {
                return;
            };
            if !(error.is_passing() && self.retry.goes_on_after(attempt)) {
                // Not brought, it comes again: who waits sends again what is not answered.
                let text = format!("an answer did not reach {}: {error}", reply.to);
                return self.diagnostics.add(self.time.now(), text);
            }
            let wait = self.retry.delay_after(attempt, reply.id.as_u128());
            self.time.sleep(wait).await;
            attempt += 1;
        }
    }

    async fn try_reply(&self, reply: Box<ReplyEnvelope>) -> Result<(), SendError> {
        self.carry(Request::Answer(reply)).await.map(drop)
    }

    /// Tells an entity that it may forget what it remembers for a saga that has ended, once
    /// nothing of that saga is under way any more: what came late would be done.
    pub fn forget(self: &Arc<Self>, at: &StreamId, saga: &StreamId) {
        if locked(&self.under_way).end(saga, at) {
            self.forget_now(at, saga);
        }
    }

    fn forget_now(self: &Arc<Self>, at: &StreamId, saga: &StreamId) {
        let (at, saga) = (at.clone(), saga.clone());
        let this = self.clone();
        // Not told, it remembers for longer.
        self.spawn(async move { drop(this.carry(Request::Forget { at, saga }).await) });
    }

    fn bury(&self, id: CommandId, from: StreamId, what: Letter, reason: String, attempts: u32) {
        let text = format!("what {from} sent cannot be delivered: {reason}");
        self.diagnostics.add(self.time.now(), text);
        let letter = DeadLetter {
            id,
            from,
            what,
            reason,
            attempts,
        };
        let gone = locked(&self.dead).keep(letter, self.letters_max);
        if let Some(gone) = gone {
            let text = format!(
                "more than {} dead letters: the oldest, of {}, is no longer listed; it is sent \
                 again when its sender is taken over, at a restart",
                self.letters_max, gone.from
            );
            self.diagnostics.add(self.time.now(), text);
        }
    }

    /// What could not be delivered, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        locked(&self.dead).all().cloned().collect()
    }

    /// How many dead letters were kept and are not listed any more, because there were more
    /// than are kept.
    pub fn letters_let_go(&self) -> u64 {
        locked(&self.dead).let_go
    }

    /// Tries a dead letter again, with other data if some is given; false if there is none of
    /// this id.
    pub fn retry_letter(self: &Arc<Self>, id: CommandId, data: Option<Json>) -> bool {
        let Some(letter) = locked(&self.dead).remove(id) else {
            return false;
        };
        match letter.what {
            Letter::Command(mut command) => {
                if let Some(data) = data {
                    // Another command, so another id: an id names one command for ever.
                    let parts = [&b"edited"[..], data.as_str().as_bytes()];
                    command.id = CommandId::derived(command.id.as_u128(), &parts);
                    command.data = data;
                }
                let what = asked_by(&command);
                if self.begin(id, &letter.from, Style::Insist, what).is_none() {
                    return true;
                }
                let this = self.clone();
                self.spawn(async move {
                    let (from, style) = (letter.from, Style::Insist);
                    this.deliver(from, command, id, style, None).await;
                });
            }
            Letter::Call(mut call, role) => {
                if let Some(data) = data {
                    call.call.request = data;
                }
                self.call(*call, role, Style::Insist, false);
            }
        }
        true
    }

    /// Gives a dead letter up: who sent it is told that it was refused. False if there is none
    /// of this id.
    pub async fn discard_letter(self: &Arc<Self>, id: CommandId, why: &str) -> bool {
        let Some(letter) = locked(&self.dead).remove(id) else {
            return false;
        };
        let (from, name, role) = match letter.what {
            Letter::Command(command) => (command.to, command.name, command.role),
            Letter::Call(call, role) => (letter.from.clone(), call.call.effect, role),
        };
        let refused = Box::new(ReplyEnvelope {
            to: letter.from,
            from,
            id,
            name,
            role,
            outcome: Outcome::Refused(Rejection::new(
                "given-up",
                format!("an operator has given it up: {why}"),
            )),
            causes: Cut::start(),
        });
        // Who sent it may be away for the moment.
        if self.try_reply(refused.clone()).await.is_err() {
            self.bring(*refused);
        }
        true
    }
}
