use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::saga::{SagaCommand, SagaEvent, SagaState};
use anabranch_domain::testkit::START;
use anabranch_domain::{
    Command, CommandEnvelope, CommandId, Entity, EntityInstance, Event, Json, Query, Reader, Saga,
    StreamId, Timestamp, View,
};
use anabranch_env::sim::SimRng;
use anabranch_env::{Clock, Env};
use anabranch_log::{Log, MemoryLog, Order, ReadMode, VersionRange};
use anabranch_model::{Cut, Event as StoredEvent, Filter, Session};
use anabranch_runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch_runtime::view::{Answer as ViewAnswer, Consistency, Policy, QueryError};
use anabranch_runtime::{
    Accepted, Delivered, Fleet, ManualTime, SendError, Service as Running, Time,
};
use futures_util::future::{Either, select};
use tokio::runtime::Runtime;

use crate::faults::{CrashPlan, CrashPoint, DropPlan, Faults, Hold, HoldId};
use crate::idle::Idle;
use crate::life::{Life, LifeLog, LifePort, send};
use crate::message::Message;
use crate::service::Service;
use crate::sky::Sky;

/// What a command of the test was answered.
pub type Answer = Result<Delivered, SendError>;

/// After so many moments at which something was sent and nothing came of it, a run is given up.
const VAIN_SENDS_MAX: u32 = 2_000;
/// After so many moments a run is given up, whatever was written.
const WAKES_MAX: u32 = 200_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Several services in memory, on the runtime that ships. Single-threaded, and a function of
/// its seed: the same seed and the same calls give the same run. When a test fails, the seed
/// and the last steps are printed.
///
/// Time stands still unless the test lets it pass: [`World::run`] does what can be done now,
/// [`World::pass`] lets time go by, [`World::run_to_end`] lets it go by until nothing is left
/// to happen.
///
/// ```
/// # use anabranch_domain::{Correlate, Decide, Entity, Event, EventRef, Input, Process, Reaction};
/// # use anabranch_domain::Rejection;
/// # use serde::{Deserialize, Serialize};
/// use anabranch_testkit::{Service, World};
/// #
/// # #[derive(Serialize, Deserialize)]
/// # enum OrderCommand { Place }
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # enum OrderEvent { OrderPlaced }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Order;
/// # impl Entity for Order {
/// #     const CATEGORY: &'static str = "order";
/// #     type Command = OrderCommand;
/// #     type Event = OrderEvent;
/// #     type Rejection = Rejection;
/// #     fn decide(&self, _: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
/// #         Ok(vec![OrderEvent::OrderPlaced])
/// #     }
/// #     fn evolve(&mut self, _: &OrderEvent) {}
/// # }
/// # #[derive(Serialize, Deserialize)]
/// # enum ParcelCommand { Ship }
/// # #[derive(Serialize, Deserialize, Event)]
/// # enum ParcelEvent { ParcelShipped }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Parcel { shipped: u32 }
/// # impl Entity for Parcel {
/// #     const CATEGORY: &'static str = "parcel";
/// #     type Command = ParcelCommand;
/// #     type Event = ParcelEvent;
/// #     type Rejection = Rejection;
/// #     fn decide(&self, _: &ParcelCommand, _: &Decide) -> Result<Vec<ParcelEvent>, Rejection> {
/// #         Ok(vec![ParcelEvent::ParcelShipped])
/// #     }
/// #     fn evolve(&mut self, _: &ParcelEvent) { self.shipped += 1; }
/// # }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Shipping;
/// # impl Process for Shipping {
/// #     const NAME: &'static str = "shipping";
/// #     const CATEGORIES: &'static [&'static str] = &["order"];
/// #     type Event = OrderEvent;
/// #     fn correlate(_: &OrderEvent, about: &EventRef) -> Correlate {
/// #         Correlate::Start(about.key().to_owned())
/// #     }
/// #     fn decide(&self, _: &Input<OrderEvent>, cx: &Decide) -> Reaction {
/// #         Reaction::none().send::<Parcel>(cx.key(), &ParcelCommand::Ship)
/// #     }
/// #     fn evolve(&mut self, _: &Input<OrderEvent>) {}
/// # }
/// let mut world = World::new(42)
///     .with(Service::new("orders").entity::<Order>())
///     .with(Service::new("shipping").entity::<Parcel>().process::<Shipping>());
/// // The shipping service is down while an order is placed, and comes back.
/// world.crash("shipping");
/// world.ask::<Order>("7", &OrderCommand::Place).unwrap();
/// world.restart("shipping");
/// world.run_to_end();
/// assert_eq!(world.state::<Parcel>("7").shipped, 1);
/// ```
pub struct World {
    seed: u64,
    sky: Arc<Sky>,
    time: Time,
    log: Arc<dyn Log>,
    fleet: Arc<Fleet>,
    services: BTreeMap<String, Hosted>,
    answers: Arc<Mutex<BTreeMap<CommandId, Answer>>>,
    commands: u64,
    /// What the world itself does at a moment of the monotonic clock.
    agenda: BTreeMap<(Duration, u64), Act>,
    acts: u64,
    minutes_drawn: u64,
    starts: u64,
    idle: Arc<Idle>,
    // Behind the services, which end before their runtime does.
    runtime: Runtime,
}

struct Hosted {
    declared: Service,
    snapshots: Arc<dyn SnapshotStore>,
    /// While it is up.
    life: Option<Arc<Life>>,
}

#[derive(Debug)]
enum Act {
    Crash(String),
    Restart(String),
}

impl World {
    /// A world without services.
    pub fn new(seed: u64) -> Self {
        let clock = ManualTime::new();
        clock.set_wall(START);
        let rng = Arc::new(SimRng::new(seed));
        let env = Env {
            clock: Arc::new(clock.clone()),
            rng: rng.clone(),
            ..Env::os()
        };
        let (runtime, idle) =
            Idle::runtime().unwrap_or_else(|error| panic!("no async runtime: {error}"));
        Self {
            seed,
            sky: Sky::new(seed, clock.clone()),
            time: Time::manual(&clock, rng),
            log: Arc::new(MemoryLog::new(env)),
            fleet: Arc::new(Fleet::new()),
            services: BTreeMap::new(),
            answers: Arc::default(),
            commands: 0,
            agenda: BTreeMap::new(),
            acts: 0,
            minutes_drawn: 0,
            starts: 0,
            idle,
            runtime,
        }
    }

    /// The same world, with this service running.
    #[must_use]
    #[track_caller]
    pub fn with(mut self, service: Service) -> Self {
        let name = service.name.clone();
        let hosted = Hosted {
            declared: service,
            snapshots: Arc::new(MemorySnapshots::new()),
            life: None,
        };
        let before = self.services.insert(name.clone(), hosted);
        assert!(before.is_none(), "there are two services named {name}");
        self.restart(&name);
        self
    }

    /// From now on these faults happen at random.
    pub fn set_faults(&mut self, faults: Faults) {
        self.sky.lock().faults = faults;
        self.minutes_drawn = self.sky.time.monotonic().as_secs() / MINUTE.as_secs();
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// The running service of this name, with all that it offers; `None` while it is down.
    pub fn service(&self, name: &str) -> Option<Arc<Running>> {
        self.fleet.service(name)
    }

    // Asking.

    /// Sends a command, as a client in another process would. What became of it is there after
    /// a [`World::run`]; see [`World::outcome`].
    #[track_caller]
    pub fn send<E: Entity>(&mut self, key: &str, command: &E::Command) -> CommandId {
        self.send_in::<E>(key, command, &Session::new())
    }

    /// As [`World::send`], by a client who has seen what its session says.
    #[track_caller]
    pub fn send_in<E: Entity>(
        &mut self,
        key: &str,
        command: &E::Command,
        session: &Session,
    ) -> CommandId {
        let to = StreamId::of(E::CATEGORY, key).unwrap_or_else(|error| panic!("{error}"));
        self.send_wire(to, command, session.deps().clone())
    }

    /// Sends a command and runs; gives its outcome.
    #[track_caller]
    pub fn ask<E: Entity>(
        &mut self,
        key: &str,
        command: &E::Command,
    ) -> Result<Accepted, SendError> {
        let id = self.send::<E>(key, command);
        self.run();
        match self.outcome(id) {
            Some(Ok(Delivered::Done(accepted))) => Ok(accepted),
            Some(Ok(Delivered::Taken)) => panic!("a saga has taken {id}"),
            Some(Err(error)) => Err(error),
            None => panic!(
                "nobody has answered {id} yet; let time pass, or use `send` where nobody may"
            ),
        }
    }

    /// Starts a saga by its key. What became of the request is there after a run.
    #[track_caller]
    pub fn start_saga<S: Saga>(&mut self, key: &str, input: &S::Input) -> StreamId {
        let saga = StreamId::of(S::NAME, key).unwrap_or_else(|error| panic!("{error}"));
        let input = Json::of(input).unwrap_or_else(|error| panic!("{error}"));
        self.tell_saga(&saga, &SagaCommand::StartSaga { input });
        saga
    }

    /// Asks a saga for something: to abort, to go on. Its outcome is there after a run.
    #[track_caller]
    pub fn tell_saga(&mut self, saga: &StreamId, command: &SagaCommand) -> CommandId {
        self.send_wire(saga.clone(), command, Cut::start())
    }

    #[track_caller]
    fn send_wire(&mut self, to: StreamId, command: &impl Command, causes: Cut) -> CommandId {
        self.commands += 1;
        let id = CommandId::v7(self.now().micros() / 1000, u128::from(self.commands));
        let command = CommandEnvelope::plain(id, to, command, causes);
        let command = command.unwrap_or_else(|error| panic!("{error}"));
        let (port, sky) = (self.fleet.port(), self.sky.clone());
        let answers = self.answers.clone();
        self.runtime.spawn(async move {
            let answer = send(&port, &sky, command).await;
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.insert(id, answer);
        });
        id
    }

    /// What became of a command, if that is known by now.
    pub fn outcome(&self, id: CommandId) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&id).cloned()
    }

    /// Takes the answer of a command into a client's session, as a token would.
    pub fn observe(&self, id: CommandId, session: &mut Session) {
        if let Some(Ok(Delivered::Done(accepted))) = self.outcome(id) {
            session.wrote(&accepted.token);
        }
    }

    // Running.

    /// Does everything that can be done now. Time passes only for messages that are on their
    /// way; whoever waits for a moment goes on waiting.
    #[track_caller]
    pub fn run(&mut self) {
        for _ in 0..WAKES_MAX {
            self.settle();
            if self.sky.lock().travelling == 0 || !self.advance(None) {
                return;
            }
        }
        self.give_up("messages are on their way for ever");
    }

    /// Lets so much time go by: everything that is due happens.
    #[track_caller]
    pub fn pass(&mut self, duration: Duration) {
        let until = self.sky.time.monotonic() + duration;
        for _ in 0..WAKES_MAX {
            self.settle();
            if !self.advance(Some(until)) {
                return;
            }
        }
        self.give_up("there is no end to what happens in this time");
    }

    /// Lets time go by until nothing is left to happen. Panics if there is no end to it, and
    /// says who is still waiting for what.
    #[track_caller]
    pub fn run_to_end(&mut self) {
        let (mut written, mut sent, mut vain) = (self.progress(), self.sent(), 0);
        for _ in 0..WAKES_MAX {
            self.settle();
            if !self.advance(None) {
                return;
            }
            // Who only waits for a moment sends nothing.
            let (now_written, now_sent) = (self.progress(), self.sent());
            if now_written != written {
                vain = 0;
            } else if now_sent != sent {
                vain += 1;
            }
            (written, sent) = (now_written, now_sent);
            if vain >= VAIN_SENDS_MAX {
                self.give_up("somebody tries again and again, and nothing is written any more");
            }
        }
        self.give_up("there is no end to what happens");
    }

    /// Runs every task until all wait, and takes out of the way who has crashed meanwhile.
    fn settle(&mut self) {
        loop {
            let idle = self.idle.clone();
            self.runtime.block_on(async move { idle.wait().await });
            let crashed = std::mem::take(&mut self.sky.lock().crashed);
            if crashed.is_empty() {
                return;
            }
            for name in crashed {
                self.take_away(&name);
            }
        }
    }

    /// Moves the clock to the next moment at which something is due, but not beyond `until`;
    /// without anything due, to `until`. False if that is all.
    fn advance(&mut self, until: Option<Duration>) -> bool {
        let clock = self.sky.time.clone();
        let now = clock.monotonic();
        let mut next = clock.next_wake();
        if let Some(at) = next.into_iter().chain(until).min() {
            self.draw_crashes(at);
        }
        let act = self.agenda.keys().next().map(|(at, _)| *at);
        next = next.into_iter().chain(act).min();
        let next = next.filter(|next| until.is_none_or(|until| *next <= until));
        let Some(next) = next else {
            if let Some(until) = until {
                clock.advance(until.saturating_sub(now));
            }
            return false;
        };
        clock.advance(next.saturating_sub(now));
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= next
        {
            match entry.remove() {
                Act::Crash(name) => self.crash_at_random(&name),
                Act::Restart(name) => {
                    if self.hosted(&name).life.is_none() {
                        self.restart(&name);
                    }
                }
            }
        }
        true
    }

    /// Decides who crashes in each minute that begins before `until`.
    fn draw_crashes(&mut self, until: Duration) {
        let percent = self.sky.lock().faults.crash_percent_per_minute;
        if percent == 0 {
            return;
        }
        while MINUTE.saturating_mul(u32::try_from(self.minutes_drawn).unwrap_or(u32::MAX)) <= until
        {
            let minute = MINUTE * u32::try_from(self.minutes_drawn).unwrap_or(u32::MAX);
            self.minutes_drawn += 1;
            let names: Vec<String> = self.services.keys().cloned().collect();
            for name in names {
                let at = {
                    let mut sky = self.sky.lock();
                    let strikes = sky.percent(percent);
                    strikes.then(|| minute + sky.up_to(MINUTE))
                };
                if let Some(at) = at {
                    self.plan(at, Act::Crash(name));
                }
            }
        }
    }

    fn plan(&mut self, at: Duration, act: Act) {
        self.acts += 1;
        self.agenda.insert((at, self.acts), act);
    }

    fn crash_at_random(&mut self, name: &str) {
        if self.hosted(name).life.is_none() {
            return;
        }
        let point = {
            let mut sky = self.sky.lock();
            match sky.rng.below(3) {
                0 => None,
                1 => Some(CrashPoint::BeforeAppend),
                _ => Some(CrashPoint::AfterAppend),
            }
        };
        match point {
            // While it rests.
            None => {
                self.crash(name);
                self.restart_later(name);
            }
            Some(point) => self.sky.lock().crashes.push(CrashPlan {
                service: name.to_owned(),
                point,
                event: None,
            }),
        }
    }

    fn restart_later(&mut self, name: &str) {
        let down = {
            let mut sky = self.sky.lock();
            let max = sky.faults.down_max;
            sky.up_to(max)
        };
        let at = self.sky.time.monotonic() + down;
        self.plan(at, Act::Restart(name.to_owned()));
    }

    /// Runs `future` to its end, letting time pass where it waits for that.
    fn finish<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let (idle, clock) = (self.idle.clone(), self.sky.time.clone());
        let finished = self.runtime.block_on(async move {
            let mut future = pin!(future);
            for _ in 0..WAKES_MAX {
                match select(future, pin!(idle.wait())).await {
                    Either::Left((done, _)) => return Some(done),
                    Either::Right(((), unfinished)) => future = unfinished,
                }
                let next = clock.next_wake()?;
                clock.advance(next.saturating_sub(clock.monotonic()));
            }
            None
        });
        finished.unwrap_or_else(|| panic!("{what} has no end"))
    }

    fn sent(&self) -> u64 {
        self.sky.lock().sent
    }

    /// Grows with what is written; and with every start of a service, which has a reason to
    /// send again.
    fn progress(&self) -> u64 {
        let head = self.head();
        self.starts + head.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Every event that there is.
    pub fn head(&self) -> Cut {
        let head = self.finish("the look at the log's head", self.log.head());
        head.unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn give_up(&self, why: &str) -> ! {
        let mut text = format!("the world does not come to rest: {why}.");
        for (name, hosted) in &self.services {
            if hosted.life.is_none() {
                text += &format!("\n  service {name} is down; `restart` brings it back");
            }
        }
        for service in self.fleet.services() {
            let name = service.name();
            if service.under_way() > 0 {
                text += &format!(
                    "\n  service {name} tries to deliver {} commands or calls",
                    service.under_way()
                );
            }
            for (_, instances) in service.processes() {
                for status in self.finish("a list", instances.list()) {
                    let described = status.description.map(|d| (d.phase, d.state));
                    let parked = status.parked.map(|why| format!(", parked: {why}"));
                    if let Some((phase, state)) = described {
                        let parked = parked.unwrap_or_default();
                        text += &format!("\n  {} {phase}{parked} {state}", status.stream);
                    }
                }
            }
            if let Some(last) = service.diagnostics().last() {
                text += &format!("\n  service {name} says last: {}", last.text);
            }
        }
        panic!("{text}");
    }

    // Faults.

    /// The next so many messages that match are lost.
    pub fn drop_next(&mut self, count: u32, matches: impl Fn(&Message) -> bool + Send + 'static) {
        self.sky.lock().drops.push(DropPlan {
            matches: Box::new(matches),
            left: count,
        });
    }

    /// Messages that match are kept back until they are released.
    pub fn hold(&mut self, matches: impl Fn(&Message) -> bool + Send + 'static) -> HoldId {
        let mut sky = self.sky.lock();
        sky.holds.push(Hold {
            matches: Box::new(matches),
            kept: Vec::new(),
            is_open: true,
        });
        HoldId(sky.holds.len() - 1)
    }

    /// Messages that were kept back go on their way, and no more are kept. Says how many.
    pub fn release(&mut self, hold: HoldId) -> usize {
        let kept = {
            let mut sky = self.sky.lock();
            let hold = &mut sky.holds[hold.0];
            hold.is_open = false;
            std::mem::take(&mut hold.kept)
        };
        // Whose sender has crashed is not waited for any more.
        kept.into_iter()
            .filter_map(|kept| kept.send(()).ok())
            .count()
    }

    /// The next time that `service` writes an event of type `event`, it crashes there, and
    /// stays down until [`World::restart`].
    pub fn crash_at(&mut self, service: &str, point: CrashPoint, event: &str) {
        self.sky.lock().crashes.push(CrashPlan {
            service: service.to_owned(),
            point,
            event: Some(event.to_owned()),
        });
    }

    /// A service stops at once and loses what it holds in memory.
    #[track_caller]
    pub fn crash(&mut self, service: &str) {
        if let Some(life) = self.hosted(service).life.take() {
            life.end();
            self.sky.note(format!("{service} crashes"));
        }
        self.fleet.kill(service);
    }

    /// Takes away a service that has crashed in the middle of an append.
    fn take_away(&mut self, name: &str) {
        let random = self.sky.lock().faults.crash_percent_per_minute > 0;
        let was_up = self.hosted(name).life.take().is_some();
        self.fleet.kill(name);
        if was_up && random {
            self.restart_later(name);
        }
    }

    /// A service starts again, with what is in the log and its snapshots.
    #[track_caller]
    pub fn restart(&mut self, service: &str) {
        self.crash(service);
        self.sky.note(format!("{service} starts"));
        self.starts += 1;
        let life = Life::new(service, self.sky.clone());
        let log = Arc::new(LifeLog {
            inner: self.log.clone(),
            life: life.clone(),
        });
        let port = Arc::new(LifePort {
            inner: self.fleet.port(),
            life: life.clone(),
        });
        let hosted = self.hosted(service);
        hosted.life = Some(life);
        let snapshots = hosted.snapshots.clone();
        let builder = Running::builder(service, log, self.time.clone())
            .beside(&self.fleet)
            .port(port)
            .snapshots(snapshots);
        let builder = self.services[service].declared.declare(builder, &self.sky);
        let started = self.finish("the start of a service", builder.start());
        let started = started.unwrap_or_else(|error| panic!("{service} does not start: {error}"));
        self.fleet.join(started);
    }

    /// Another version of a service takes the place of the one with the same name.
    #[track_caller]
    pub fn deploy(&mut self, service: Service) {
        let name = service.name.clone();
        self.crash(&name);
        self.hosted(&name).declared = service;
        self.restart(&name);
    }

    #[track_caller]
    fn hosted(&mut self, name: &str) -> &mut Hosted {
        match self.services.get_mut(name) {
            Some(hosted) => hosted,
            None => panic!("there is no service {name}"),
        }
    }

    // Looking.

    /// The state of an entity, from its stream.
    #[track_caller]
    pub fn state<E: Entity>(&self, key: &str) -> E {
        let stream = StreamId::of(E::CATEGORY, key).unwrap_or_else(|error| panic!("{error}"));
        let reader = Reader::new().unwrap_or_else(|error| panic!("{error}"));
        let mut instance = EntityInstance::<E>::new();
        for event in self.stored(&stream) {
            if let Err(error) = instance.replay(&reader, &event.as_ref()) {
                panic!("{stream}: {error}");
            }
        }
        let json = Json::of(instance.state()).unwrap_or_else(|error| panic!("{stream}: {error}"));
        json.parse()
            .unwrap_or_else(|error| panic!("{stream}: {error}"))
    }

    /// The events of a stream that `Ev` knows.
    #[track_caller]
    pub fn events<Ev: Event>(&self, stream: &str) -> Vec<Ev> {
        let stream = StreamId::system(stream).unwrap_or_else(|error| panic!("{error}"));
        let reader = Reader::<Ev>::new().unwrap_or_else(|error| panic!("{error}"));
        let stored = self.stored(&stream);
        let known = stored.iter().filter(|e| reader.knows(e.event_type()));
        known
            .filter_map(|event| {
                let read = reader.read(event.event_type(), event.schema_version, event.data());
                read.unwrap_or_else(|error| panic!("{stream}: {error}"))
            })
            .collect()
    }

    /// The type names of the events of a stream.
    #[track_caller]
    pub fn event_names(&self, stream: &str) -> Vec<String> {
        let stream = StreamId::system(stream).unwrap_or_else(|error| panic!("{error}"));
        let stored = self.stored(&stream);
        stored.iter().map(|e| e.event_type().to_owned()).collect()
    }

    /// The stored events of a stream.
    #[track_caller]
    pub fn stored(&self, stream: &StreamId) -> Vec<StoredEvent> {
        let read = async {
            let mut events = Vec::new();
            let mut read = self
                .log
                .read_stream(stream, VersionRange::ALL, Order::Forward);
            while let Some(event) = read.next().await {
                events.push(event.unwrap_or_else(|error| panic!("{stream}: {error}")));
            }
            events
        };
        self.finish("the reading of a stream", read)
    }

    /// All events of a category, in the order of the log.
    #[track_caller]
    pub fn category(&self, category: &str) -> Vec<StoredEvent> {
        let filter = Filter::category(category);
        let read = async {
            let mut events = Vec::new();
            let mut read = self.log.read(&Cut::start(), filter, ReadMode::ToHead);
            while let Some(event) = read.next().await {
                events.push(event.unwrap_or_else(|error| panic!("{category}: {error}")));
            }
            events
        };
        self.finish("the reading of a category", read)
    }

    /// The journal of a saga.
    #[track_caller]
    pub fn journal(&self, saga: &StreamId) -> Vec<SagaEvent> {
        self.events(saga.as_str())
    }

    /// The state of a saga, from its journal.
    #[track_caller]
    pub fn saga(&self, saga: &StreamId) -> SagaState {
        SagaState::of_journal(saga.clone(), &self.journal(saga))
    }

    /// Asks a view, as a client who has seen what its session says; the answer counts as seen.
    /// A view that is behind fails the query: [`World::run`] lets it catch up.
    #[track_caller]
    pub fn query<Q: Query>(
        &self,
        query: Q,
        session: &mut Session,
    ) -> Result<ViewAnswer<Q::Answer>, QueryError> {
        let name = Q::View::NAME;
        let Some(owner) = self.fleet.owner_of_view(name) else {
            panic!("no service that is up has the view {name}");
        };
        let consistency = Consistency {
            seen: session.seen().clone(),
            policy: Policy::Fail,
        };
        let answer = self.finish("a query", owner.query(query, consistency))?;
        session.read(&answer.cut, &answer.cut);
        Ok(answer)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("world with seed {}; its last steps:", self.seed);
            for line in &self.sky.lock().trace {
                eprintln!("{line}");
            }
        }
        for hosted in self.services.values_mut() {
            if let Some(life) = hosted.life.take() {
                life.end();
            }
        }
        // Tasks of the services are ended on their runtime.
        let _inside = self.runtime.enter();
        for service in self.fleet.services() {
            service.kill();
        }
    }
}
