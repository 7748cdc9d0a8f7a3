//! The world itself: what is due, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anabranch_model::{CommandId, Cut, Event as StoredEvent, Session, StreamId};

use crate::command::{Command, CommandEnvelope, Outcome};
use crate::entity::Entity;
use crate::event::Event;
use crate::instance::EntityInstance;
use crate::process::SagaStart;
use crate::saga::{Request, Rules, SagaCommand, SagaEvent, SagaState};
use crate::schema::Reader;
use crate::time::Timestamp;
use crate::view::{Query, View};

use super::host::{HostTimer, Scene, Send, ViewHost, Work};
use super::log::{self, WorldLog};
use super::message::Message;
use super::plans::{CrashPlan, CrashPoint, DropPlan, Faults, Hold};
use super::rng::Rng;
use super::service::{Place, Service, ServiceState};

/// Several services in memory. Single-threaded, and a function of its seed: the same seed and
/// the same calls give the same run. When a test fails, the seed and the last steps are printed.
///
/// Nothing happens by itself: [`World::run`] delivers what is on its way, [`World::pass`] lets
/// time go by, and timers fire then.
///
/// ```
/// # use anabranch_domain::{Correlate, Decide, Entity, Event, EventRef, Input, Process, Reaction};
/// # use anabranch_domain::Rejection;
/// # use serde::{Deserialize, Serialize};
/// use anabranch_domain::testkit::{Service, World};
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
/// world.ask::<Order>("7", &OrderCommand::Place);
/// world.restart("shipping");
/// world.run();
/// assert_eq!(world.state::<Parcel>("7").shipped, 1);
/// ```
pub struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    pub(super) log: WorldLog,
    pub(super) services: Vec<ServiceState>,
    pub(super) queue: BTreeMap<(Timestamp, u64), Task>,
    pub(super) order: u64,
    pub(super) faults: Faults,
    pub(super) drops: Vec<DropPlan>,
    pub(super) holds: Vec<Hold>,
    pub(super) crashes: Vec<CrashPlan>,
    pub(super) slow: BTreeSet<(String, u32)>,
    pub(super) ended: Vec<StreamId>,
    pub(super) answers: BTreeMap<CommandId, (Outcome, Cut)>,
    pub(super) commands: u64,
    pub(super) rules: Rules,
    pub(super) trace: VecDeque<String>,
}

/// Something that is due at a time.
#[derive(Debug, Clone)]
pub enum Task {
    Deliver(Message),
    /// The host looks for its next event.
    Consume(Place),
    Fire(Place, StreamId, HostTimer),
    /// The replica starts again.
    Restart(usize, usize),
}

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Performed {
    Done,
    /// The log has moved on; the instance was thrown away.
    Conflict,
    /// The replica crashed.
    Crashed,
}

/// The answer to a query whose token has seen more than the view shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutNotReached {
    /// What the view shows.
    pub have: Cut,
    /// What the client has seen.
    pub need: Cut,
}

/// After so many steps without coming to rest, a run is given up.
const STEPS_MAX: usize = 200_000;
/// How many of the last steps are printed when a test fails.
const TRACE_MAX: usize = 60;

impl World {
    /// A world without services, on a log with one partition.
    pub fn new(seed: u64) -> Self {
        Self::with_partitions(seed, 1)
    }

    /// A world without services, on a log with so many partitions.
    pub fn with_partitions(seed: u64, partitions: u32) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            now: super::super::START,
            log: WorldLog::new(partitions),
            services: Vec::new(),
            queue: BTreeMap::new(),
            order: 0,
            faults: Faults::NONE,
            drops: Vec::new(),
            holds: Vec::new(),
            crashes: Vec::new(),
            slow: BTreeSet::new(),
            ended: Vec::new(),
            answers: BTreeMap::new(),
            commands: 0,
            rules: Rules::ALL,
            trace: VecDeque::new(),
        }
    }

    /// The same world, under these rules: all of them, outside of tests.
    #[must_use]
    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The same world, with this service running.
    #[must_use]
    pub fn with(mut self, service: Service) -> Self {
        self.services.push(ServiceState::new(service));
        let index = self.services.len() - 1;
        self.start_replica(index, 0);
        self
    }

    /// From now on these faults happen at random.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    // Asking.

    /// Sends a command. Its outcome is there after a [`World::run`]; see [`World::outcome`].
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
    pub fn ask<E: Entity>(&mut self, key: &str, command: &E::Command) -> Outcome {
        let id = self.send::<E>(key, command);
        self.run();
        self.outcome(id)
            .unwrap_or_else(|| panic!("nobody has answered {id}"))
    }

    /// Starts a saga by name.
    #[track_caller]
    pub fn start_saga<S: crate::Saga>(&mut self, key: &str, input: &S::Input) -> StreamId {
        let SagaStart { saga, input } =
            SagaStart::new::<S>(key, input).unwrap_or_else(|error| panic!("{error}"));
        self.tell_saga(&saga, &SagaCommand::StartSaga { input });
        saga
    }

    /// Asks a saga for something: to abort, to go on. Its outcome is there after a run.
    #[track_caller]
    pub fn tell_saga(&mut self, saga: &StreamId, command: &SagaCommand) -> CommandId {
        self.send_wire(saga.clone(), command, Cut::start())
    }

    #[track_caller]
    pub(super) fn send_wire(
        &mut self,
        to: StreamId,
        command: &impl Command,
        causes: Cut,
    ) -> CommandId {
        self.commands += 1;
        let id = CommandId::v7(self.now.micros() / 1000, u128::from(self.commands));
        let envelope = CommandEnvelope::plain(id, to, command, causes);
        let envelope = envelope.unwrap_or_else(|error| panic!("{error}"));
        self.put(Duration::ZERO, Task::Deliver(Message::Command(envelope)));
        id
    }

    /// The outcome of a command, if it has been answered.
    pub fn outcome(&self, id: CommandId) -> Option<Outcome> {
        self.answers.get(&id).map(|(outcome, _)| outcome.clone())
    }

    /// Takes the answer of a command into a client's session, as a token would.
    pub fn observe(&self, id: CommandId, session: &mut Session) {
        if let Some((_, closure)) = self.answers.get(&id) {
            session.wrote(closure);
        }
    }

    // Running.

    /// Delivers what is on its way, until nothing is. Timers fire when their time comes along
    /// the way, but time is not moved for them.
    #[track_caller]
    pub fn run(&mut self) {
        self.run_while(|world| {
            let moving = |task: &Task| !matches!(task, Task::Fire(..));
            world.queue.values().any(moving)
        });
    }

    /// Lets so much time go by: everything that is due happens, timers too.
    #[track_caller]
    pub fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.run_while(|world| {
            let first = world.queue.first_key_value();
            first.is_some_and(|((due, _), _)| *due <= until)
        });
        self.now = until;
    }

    /// Lets time go by until nothing is left to happen.
    #[track_caller]
    pub fn run_to_end(&mut self) {
        self.run_while(|world| !world.queue.is_empty());
    }

    #[track_caller]
    fn run_while(&mut self, go_on: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            self.forget_ended();
            if !go_on(self) {
                return;
            }
            let Some(((due, _), task)) = self.queue.pop_first() else {
                return;
            };
            self.now = self.now.max(due);
            self.step(task);
        }
        panic!("the world does not come to rest");
    }

    pub(super) fn step(&mut self, task: Task) {
        match task {
            Task::Deliver(message) => self.deliver(message),
            Task::Consume(place) => self.consume(place),
            Task::Fire(place, stream, timer) => self.fire(place, stream, timer),
            Task::Restart(service, replica) => {
                if self.services[service].replicas[replica].is_down() {
                    self.start_replica(service, replica);
                }
            }
        }
    }

    pub(super) fn put(&mut self, after: Duration, task: Task) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), task);
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let Some((service, host)) = self.receiver(&message) else {
            panic!("no service takes {message}");
        };
        let Some(replica) = self.services[service].choose(&mut self.rng) else {
            self.note(format!(
                "lost, {} is down: {message}",
                self.services[service].name
            ));
            return;
        };
        let place = self.place(service, replica, host);
        self.note(format!("{} takes {message}", self.describe(place)));
        let work = self.at(place, |host, scene| host.take(&message, scene));
        if let Some(work) = work {
            let again = Task::Deliver(message);
            if self.perform(place, work) == Performed::Conflict {
                self.put(Duration::ZERO, again);
            }
        }
    }

    pub(super) fn consume(&mut self, place: Place) {
        if !self.is_current(place) {
            return;
        }
        self.services[place.service].consuming(place, false);
        let cursor = self.services[place.service].cursor(place).clone();
        let Some(event) = self.next_event(place, &cursor) else {
            return;
        };
        let work = self.at(place, |host, scene| host.consume(&event, scene));
        if let Some(work) = work {
            match self.perform(place, work) {
                Performed::Done => {
                    let seen = Cut::including(event.position);
                    self.services[place.service].advance(place, &seen);
                    self.consume_later(place);
                }
                Performed::Conflict => self.consume_later(place),
                Performed::Crashed => {}
            }
        }
    }

    /// The next event that the host may take in, from any partition that is not slow.
    fn next_event(&mut self, place: Place, cursor: &Cut) -> Option<StoredEvent> {
        let partitions = self.log.partitions();
        let first = self.rng.below(u64::from(partitions)) as u32;
        let name = self.host_name(place);
        (0..partitions)
            .map(|i| (first + i) % partitions)
            .filter(|&p| !self.slow.contains(&(name.clone(), p)))
            .filter_map(|p| self.log.next(p, cursor))
            .find(|event| self.services[place.service].is_ready(place, event, cursor, self.rules))
            .cloned()
    }

    pub(super) fn fire(&mut self, place: Place, stream: StreamId, timer: HostTimer) {
        if !self.is_current(place) {
            return;
        }
        self.note(format!("{} {stream}: {timer:?}", self.describe(place)));
        let again = Task::Fire(place, stream.clone(), timer.clone());
        let work = self.at(place, |host, scene| host.fire(&stream, timer, scene));
        if let Some(work) = work
            && self.perform(place, work) == Performed::Conflict
        {
            self.put(Duration::ZERO, again);
        }
    }

    /// Lets a host work. A fault of the code under test ends the run.
    fn at(
        &mut self,
        place: Place,
        work: impl FnOnce(&mut dyn super::host::Host, &Scene<'_>) -> Result<Work, String>,
    ) -> Option<Work> {
        let scene = Scene {
            log: &self.log,
            now: self.now,
            rules: self.rules,
        };
        let host = self.services[place.service].host(place)?;
        match work(host, &scene) {
            Ok(work) => Some(work),
            Err(error) => panic!("{}: {error}", host.name()),
        }
    }

    /// Appends, then sends. A crash can come before, between and after.
    pub(super) fn perform(&mut self, place: Place, work: Work) -> Performed {
        let names: Vec<String> = match &work.write {
            Some(write) => write.events.iter().map(|e| e.event.name.clone()).collect(),
            None => Vec::new(),
        };
        if self.crashes_at(place, CrashPoint::BeforeAppend, &names) {
            return Performed::Crashed;
        }
        let Work { write, then } = work;
        let Some(write) = write else {
            self.send_all(place, then(&Cut::start()));
            return Performed::Done;
        };
        if !self.rules.keep(crate::saga::Rule::IntentFirst) {
            let closure = self.log.closure_of(&write.stream);
            self.send_all(place, then(&closure));
            if self.crashes_at(place, CrashPoint::AfterSend, &names) {
                return Performed::Crashed;
            }
            return self
                .append(place, &write)
                .map_or(Performed::Conflict, |_| Performed::Done);
        }
        let Some(closure) = self.append(place, &write) else {
            return Performed::Conflict;
        };
        if self.crashes_at(place, CrashPoint::AfterAppend, &names) {
            return Performed::Crashed;
        }
        self.send_all(place, then(&closure));
        if self.crashes_at(place, CrashPoint::AfterSend, &names) {
            return Performed::Crashed;
        }
        Performed::Done
    }

    pub(super) fn append(&mut self, place: Place, write: &log::Write) -> Option<Cut> {
        let fenced = self.rules.keep(crate::saga::Rule::Fencing);
        let names: Vec<&str> = write.events.iter().map(|e| e.event.name.as_str()).collect();
        let names = names.join(", ");
        let closure = self.log.append(write, fenced, self.now);
        match &closure {
            Some(_) => self.note(format!("{}: {names}", write.stream)),
            None => {
                self.note(format!(
                    "{}: conflict at {}: {names}",
                    write.stream, write.expect
                ));
                if let Some(host) = self.services[place.service].host(place) {
                    host.evict(&write.stream);
                }
            }
        }
        for place in self.listeners() {
            self.consume_later(place);
        }
        closure
    }

    pub(super) fn send_all(&mut self, place: Place, sends: Vec<Send>) {
        for send in sends {
            match send {
                Send::Message(message) => self.post(message),
                Send::Timer(stream, timer, at) => {
                    let after = at.since(self.now);
                    self.put(after, Task::Fire(place, stream, timer));
                }
                Send::Answer(id, outcome, closure) => {
                    self.answers.insert(id, (outcome, closure));
                }
                Send::Ended(saga) => self.ended.push(saga),
            }
        }
    }

    /// When nothing about a saga that has ended is on its way any more, its receivers forget it.
    fn forget_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let on_the_way: BTreeSet<&StreamId> = self
            .queue
            .values()
            .filter_map(|task| match task {
                Task::Deliver(message) => message.about(),
                _ => None,
            })
            .chain(self.holds.iter().flat_map(Hold::about))
            .collect();
        let (wait, ended): (Vec<_>, Vec<_>) = self
            .ended
            .iter()
            .cloned()
            .partition(|saga| on_the_way.contains(saga));
        self.ended = wait;
        for saga in ended {
            let mut receivers: BTreeSet<StreamId> = BTreeSet::new();
            for event in self.journal(&saga) {
                if let SagaEvent::StepStarted {
                    request: Request::Command(command),
                    ..
                } = event
                {
                    receivers.insert(command.to);
                }
            }
            for entity in receivers {
                let message = Message::Forget {
                    entity,
                    saga: saga.clone(),
                };
                self.put(Duration::ZERO, Task::Deliver(message));
            }
        }
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{} {line}", self.now));
    }

    // Looking.

    /// The state of an entity, from its stream.
    #[track_caller]
    pub fn state<E: Entity>(&self, key: &str) -> E {
        let stream = StreamId::of(E::CATEGORY, key).unwrap_or_else(|error| panic!("{error}"));
        let reader = Reader::new().unwrap_or_else(|error| panic!("{error}"));
        let mut instance = EntityInstance::<E>::new();
        for event in self.log.stream(&stream) {
            if let Err(error) = instance.replay(&reader, &event.as_ref()) {
                panic!("{stream}: {error}");
            }
        }
        let state = serde_json::to_value(instance.state()).and_then(serde_json::from_value);
        state.unwrap_or_else(|error| panic!("{stream}: {error}"))
    }

    /// The events of a stream that `Ev` knows.
    #[track_caller]
    pub fn events<Ev: Event>(&self, stream: &str) -> Vec<Ev> {
        let stream = StreamId::system(stream).unwrap_or_else(|error| panic!("{error}"));
        let reader = Reader::<Ev>::new().unwrap_or_else(|error| panic!("{error}"));
        let known = self
            .log
            .stream(&stream)
            .filter(|e| reader.knows(e.event_type()));
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
        let events = self.log.stream(&stream);
        events.map(|event| event.event_type().to_owned()).collect()
    }

    /// The stored events of a stream.
    pub fn stored(&self, stream: &StreamId) -> Vec<StoredEvent> {
        self.log.stream(stream).cloned().collect()
    }

    /// The streams of a category, ascending.
    pub fn streams(&self, category: &str) -> Vec<StreamId> {
        self.log.category(category)
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

    /// Looks at what a view shows now.
    #[track_caller]
    pub fn view<V: View<Store: Default + 'static>, T>(
        &self,
        look: impl FnOnce(&V::Store) -> T,
    ) -> T {
        look(&self.view_host::<V>().store)
    }

    /// Asks a view, as a client who has seen what its session says; the answer counts as seen.
    #[track_caller]
    pub fn query<Q>(&self, query: &Q, session: &mut Session) -> Result<Q::Answer, CutNotReached>
    where
        Q: Query<View: View<Store: Default + 'static>>,
    {
        let host = self.view_host::<Q::View>();
        if !host.cut.covers(session.seen()) {
            return Err(CutNotReached {
                have: host.cut.clone(),
                need: session.seen().clone(),
            });
        }
        let answer = query.answer(&host.store);
        let answer = answer.unwrap_or_else(|error| panic!("query {}: {error}", Q::NAME));
        session.read(&host.cut, &host.cut);
        Ok(answer)
    }

    #[track_caller]
    fn view_host<V: View<Store: Default + 'static>>(&self) -> &ViewHost<V> {
        let mut hosts = self.services.iter().flat_map(ServiceState::hosts);
        let view = hosts.find_map(|host| host.as_any().downcast_ref());
        view.unwrap_or_else(|| panic!("no service that is up has the view {}", V::NAME))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("world with seed {}; its last steps:", self.seed);
            for line in &self.trace {
                eprintln!("  {line}");
            }
        }
    }
}
