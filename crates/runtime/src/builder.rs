//! How a service is declared and started.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch_domain::saga::{Called, RegisterError, SagaType};
use anabranch_domain::types::{CategoryTypes, EventTypes, PrivateRead, ReaderTypes, ServiceTypes};
use anabranch_domain::{
    CommandId, CommandReader, Cut, Effect, Entity, Event, Process, Publishes, Retry, Saga,
    SchemaError, View,
};
use anabranch_log::{BoxFuture, Layout, Log};
use anabranch_model::Position;

use crate::checkpoint::{Checkpoints, MemoryCheckpoints};
use crate::consumer::{ConsumerContext, ConsumerHost, ConsumerParts, ConsumerSpec, StoreError};
use crate::delivery::{CallContext, CallError, Dispatcher, EffectHost, Effects};
use crate::diagnostics::{Alert, AlertSink, Diagnostics, alerts_to_stderr};
use crate::entity::{EntityHost, EntityOptions, HostError};
use crate::entity_code::{EntityCode, Publish, published};
use crate::fleet::{Fleet, PrivateBeside};
use crate::head_watch::{HeadWatch, HeadWatches};
use crate::host::HostParts;
use crate::hosted::Hosted;
use crate::in_turn::InTurn;
use crate::kinds::{EntityKind, ProcessKind, SagaKind};
use crate::newer::NewerTypes;
use crate::panics::contain;
use crate::port::Port;
use crate::process::{ProcessHost, ProcessOptions, ProcessParts};
use crate::reads::Reads;
use crate::registry;
use crate::service::{Hosts, Service};
use crate::snapshot::{MemorySnapshots, SnapshotStore};
use crate::time::Time;
use crate::unwritten::{Owned, Unwritten};
use crate::view::{
    AnyView, InMemory, MemoryViews, ViewContext, ViewError, ViewHost, ViewParts, ViewSpec,
    ViewStoreFactory,
};

/// Declares what a service owns, then starts it.
pub struct ServiceBuilder {
    name: String,
    log: Arc<dyn Log>,
    time: Time,
    snapshots: Arc<dyn SnapshotStore>,
    checkpoints: Arc<dyn Checkpoints>,
    consumers: Vec<ConsumerSpec>,
    entities: Vec<StartEntity>,
    views: Vec<(&'static str, StartView)>,
    processes: Vec<Declared>,
    effects: Vec<EffectHost>,
    elsewhere: Option<Arc<dyn Port>>,
    head_watches: Option<Arc<HeadWatches>>,
    retry: Retry,
    types: ServiceTypes,
    /// Categories of entities, and what they publish in.
    published: Vec<[&'static str; 2]>,
    newer: NewerTypes,
    letters_max: usize,
    alerts: AlertSink,
    /// Whether a service beside it has this category.
    owned_beside: Option<Owned>,
    /// Whether what it reads is private to a service beside it, or the other way round.
    private_beside: Option<PrivateBeside>,
}

type Typed = (TypeId, Arc<dyn Any + Send + Sync>, Arc<EntityHost>);
type StartEntity = Box<dyn FnOnce(HostParts) -> Result<Typed, HostError> + Send>;

type TypedView = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn AnyView>);
type StartView =
    Box<dyn FnOnce(ViewParts) -> BoxFuture<'static, Result<TypedView, ViewError>> + Send>;

/// What it is, its type and how it is started.
type Declared = (&'static str, &'static str, StartProcess);
type StartProcess = Box<dyn FnOnce(ProcessParts) -> Result<Arc<ProcessHost>, StartError> + Send>;

/// Why a service does not start. Nothing was started.
#[derive(thiserror::Error)]
pub enum StartError {
    /// Something that it hosts does not fit together.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A view does not fit together, or its store cannot be opened.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A consumer's place cannot be found, or is of another log.
    #[error(transparent)]
    Consumer(StoreError),
    /// The events of a process do not fit together.
    #[error("process {process}: {source}")]
    Process {
        /// The process.
        process: &'static str,
        /// What does not fit.
        source: SchemaError,
    },
    /// A saga cannot be run.
    #[error(transparent)]
    Saga(#[from] RegisterError),
    /// A saga calls what is not registered.
    #[error(
        "saga {saga}, step {}: the effect {:?} is not registered; add .effect::<{}, _, _>(|effect, key| …) where the service is built",
        called.step, called.effect, short(called.type_name)
    )]
    NoEffect {
        /// The saga.
        saga: &'static str,
        /// The step, and what it calls.
        called: Box<Called>,
    },
    /// A process calls what is not registered.
    #[error(
        "process {process}: the effect {effect:?} is not registered; add .effect(|effect, key| …) where the service is built"
    )]
    NoEffectOfProcess {
        /// The process.
        process: &'static str,
        /// The effect's name.
        effect: &'static str,
    },
    /// A process or saga is new on a log that holds what it listens to, and does not say whether it
    /// hears that.
    #[error(
        "{what} {name} is new on this log, which holds what it listens to already, the first at \
         {first}; what it sends because of that cannot be taken back. Say where it begins: \
         .{what}_with::<{}>(ProcessOptions::default().from_now()), or .from_start() or .from(cut)",
        short(type_name)
    )]
    NoBeginning {
        /// Process or saga.
        what: &'static str,
        /// Its name.
        name: &'static str,
        /// Its type.
        type_name: &'static str,
        /// Where the first event stands that it would hear.
        first: Position,
    },
    /// A service reads what another keeps to itself.
    #[error("{0}")]
    Private(Box<PrivateRead>),
    /// What an entity publishes stands in another partition than the entity.
    #[error(
        "{category} publishes in {published}, and one append writes both; lay the log out so that the two are in one group: --group NAME={category},{published}:COUNT"
    )]
    Apart {
        /// The entities' category.
        category: &'static str,
        /// What they publish in.
        published: &'static str,
    },
    /// Two things have one name.
    #[error("{what} {name:?} is registered twice; each name means one thing")]
    Twice {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },
}

impl Service {
    /// Begins to declare the service of this name on this log.
    pub fn builder(name: impl Into<String>, log: Arc<dyn Log>, time: Time) -> ServiceBuilder {
        let name = name.into();
        ServiceBuilder {
            published: Vec::new(),
            types: ServiceTypes {
                service: name.clone(),
                ..ServiceTypes::default()
            },
            name,
            newer: NewerTypes::new(log.clone()),
            log,
            time,
            snapshots: Arc::new(MemorySnapshots::new()),
            checkpoints: Arc::new(MemoryCheckpoints::new()),
            consumers: Vec::new(),
            entities: Vec::new(),
            views: Vec::new(),
            processes: Vec::new(),
            effects: Vec::new(),
            elsewhere: None,
            head_watches: None,
            retry: DELIVERY,
            letters_max: LETTERS_MAX,
            alerts: alerts_to_stderr(),
            owned_beside: None,
            private_beside: None,
        }
    }
}

impl ServiceBuilder {
    /// The types of events that it writes and reads, as far as it is declared; see
    /// [`registry::check`](crate::registry::check).
    pub fn types(&self) -> &ServiceTypes {
        &self.types
    }

    fn reads<E: Event>(&mut self, what: &str, name: &str, categories: &[&str]) {
        self.types.readers.push(ReaderTypes {
            what: what.to_owned(),
            name: name.to_owned(),
            categories: categories.iter().map(|&c| c.to_owned()).collect(),
            events: EventTypes::of::<E>(),
        });
    }

    /// Hosts the entities of this type.
    #[must_use]
    pub fn entity<E: Entity>(self) -> Self {
        self.entity_with::<E>(EntityOptions::default())
    }

    /// Hosts the entities of this type, in this way.
    #[must_use]
    pub fn entity_with<E: Entity>(self, options: EntityOptions) -> Self {
        self.host_entity::<E>(options, None)
    }

    /// Hosts the entities of this type, and tells other services what they [publish](Publishes).
    /// Their own events are private then: a service that reads them does not start beside this one.
    #[must_use]
    pub fn publishing_entity<E: Publishes>(self) -> Self {
        self.publishing_entity_with::<E>(EntityOptions::default())
    }

    /// The same, hosted in this way.
    #[must_use]
    pub fn publishing_entity_with<E: Publishes>(mut self, options: EntityOptions) -> Self {
        self.published.push([E::CATEGORY, E::PUBLISHED]);
        self.types.private.insert(E::CATEGORY.to_owned());
        self.types.entities.push(CategoryTypes {
            category: E::PUBLISHED.to_owned(),
            events: EventTypes::of::<E::Published>(),
        });
        self.host_entity::<E>(options, Some(published::<E>))
    }

    fn host_entity<E: Entity>(
        mut self,
        options: EntityOptions,
        publish: Option<Publish<E>>,
    ) -> Self {
        self.types.entities.push(CategoryTypes {
            category: E::CATEGORY.to_owned(),
            events: EventTypes::of::<E::Event>(),
        });
        let commands = contain(|| CommandReader::<E::Command>::new(E::command_upcasts()));
        if let Ok(Ok(commands)) = commands {
            let category = E::CATEGORY.to_owned();
            self.types.commands.insert(category, commands.names());
        }
        let newer = self.newer.known.clone();
        self.entities.push(Box::new(move |parts| {
            let code =
                EntityCode::<E>::new(newer, publish).map_err(|source| HostError::Schema {
                    category: E::CATEGORY,
                    source,
                })?;
            let host = EntityHost::start(Arc::new(EntityKind(code)), parts, options)?;
            Ok((TypeId::of::<E>(), host.clone() as _, host))
        }));
        self
    }

    /// Hosts this view in memory. A snapshot of it is kept now and then.
    #[must_use]
    pub fn view<V: View>(self, spec: ViewSpec<V>) -> Self
    where
        V::Store: InMemory,
    {
        self.view_on(spec, MemoryViews)
    }

    /// Hosts this view in `stores`. The crates of stores bring a function for theirs: for
    /// example `view_in_sqlite` of `anabranch-view-sqlite`.
    #[must_use]
    pub fn view_on<V: View>(
        mut self,
        spec: ViewSpec<V>,
        stores: impl ViewStoreFactory<V::Store>,
    ) -> Self {
        self.reads::<V::Event>("view", V::NAME, V::CATEGORIES);
        self.views.push((
            V::NAME,
            Box::new(move |parts| {
                Box::pin(async move {
                    let host = ViewHost::start(parts, spec, Box::new(stores)).await?;
                    Ok((TypeId::of::<V>(), host.clone() as _, host as _))
                })
            }),
        ));
        self
    }

    /// Hosts the instances of this process.
    #[must_use]
    pub fn process<P: Process>(self) -> Self {
        self.process_with::<P>(ProcessOptions::default())
    }

    /// Hosts the instances of this process, in this way.
    #[must_use]
    pub fn process_with<P: Process>(mut self, options: ProcessOptions) -> Self {
        self.reads::<P::Event>("process", P::NAME, P::CATEGORIES);
        self.types.journals.push(P::NAME.to_owned());
        let start: StartProcess = Box::new(move |parts| {
            let newer = parts.newer.known.clone();
            let kind = ProcessKind::<P>::new(newer).map_err(|source| StartError::Process {
                process: P::NAME,
                source,
            })?;
            let registered = &parts.dispatcher.effects;
            if let Some(effect) = P::CALLS
                .iter()
                .find(|name| !registered.0.contains_key(*name))
            {
                return Err(StartError::NoEffectOfProcess {
                    process: P::NAME,
                    effect,
                });
            }
            Ok(ProcessHost::start(Arc::new(kind), parts, options)?)
        });
        let type_name = std::any::type_name::<P>();
        self.processes.push(("process", type_name, start));
        self
    }

    /// Hosts the instances of this saga.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self.saga_with::<S>(ProcessOptions::default())
    }

    /// Hosts the instances of this saga, in this way.
    #[must_use]
    pub fn saga_with<S: Saga>(mut self, options: ProcessOptions) -> Self {
        self.reads::<S::Event>("saga", S::NAME, S::CATEGORIES);
        self.types.journals.push(S::NAME.to_owned());
        // One that does not fit together is refused when it is started.
        if let Ok(saga) = SagaType::of::<S>() {
            let name = S::NAME.to_owned();
            self.types.sagas.insert(name, saga.definitions());
        }
        let start: StartProcess = Box::new(move |parts| {
            let saga = SagaType::taught::<S>(parts.newer.known.clone())?;
            let registered = &parts.dispatcher.effects;
            let missing = |called: &Called| !registered.0.contains_key(called.effect);
            if let Some(called) = saga.calls().into_iter().find(missing) {
                return Err(StartError::NoEffect {
                    saga: S::NAME,
                    called: Box::new(called),
                });
            }
            let kind = SagaKind::new(saga);
            Ok(ProcessHost::start(Arc::new(kind), parts, options)?)
        });
        let type_name = std::any::type_name::<S>();
        self.processes.push(("saga", type_name, start));
        self
    }

    /// How the effect `F` is called: with what it holds and the key that is the same for every
    /// attempt.
    #[must_use]
    pub fn effect<F, C, R>(self, call: C) -> Self
    where
        F: Effect,
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
    {
        self.effect_in(move |effect, context: CallContext| call(effect, context.key))
    }

    /// As [`ServiceBuilder::effect`], for a call that passes on what it belongs to: the trace, or
    /// the story's id.
    #[must_use]
    pub fn effect_in<F, C, R>(mut self, call: C) -> Self
    where
        F: Effect,
        C: Fn(F, CallContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
    {
        self.effects.push(EffectHost::new::<F, C, R>(call));
        self
    }

    /// As [`ServiceBuilder::effect`], and how to ask what became of a call: `None` says that
    /// it was never carried out.
    #[must_use]
    pub fn effect_asked<F, C, R, A, S>(self, call: C, ask: A) -> Self
    where
        F: Effect,
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
        A: Fn(F, CommandId) -> S + Send + Sync + 'static,
        S: Future<Output = Result<Option<F::Outcome>, CallError>> + Send + 'static,
    {
        self.effect_asked_in(
            move |effect, context: CallContext| call(effect, context.key),
            move |effect, context: CallContext| ask(effect, context.key),
        )
    }

    /// As [`ServiceBuilder::effect_asked`], for calls that pass on what they belong to.
    #[must_use]
    pub fn effect_asked_in<F, C, R, A, S>(mut self, call: C, ask: A) -> Self
    where
        F: Effect,
        C: Fn(F, CallContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
        A: Fn(F, CallContext) -> S + Send + Sync + 'static,
        S: Future<Output = Result<Option<F::Outcome>, CallError>> + Send + 'static,
    {
        let host = EffectHost::new::<F, C, R>(call).asked_by::<F, A, S>(ask);
        self.effects.push(host);
        self
    }

    /// It will stand beside the services of this fleet: what it sends finds them, and one look
    /// at the log tells all of them what is new.
    #[must_use]
    pub fn beside(mut self, fleet: &Fleet) -> Self {
        self.head_watches = Some(fleet.head_watches());
        self.owned_beside = Some(fleet.owned());
        self.private_beside = Some(fleet.private());
        self.port(fleet.port())
    }

    /// Who delivers to entities, processes and sagas that are hosted elsewhere.
    #[must_use]
    pub fn port(mut self, elsewhere: Arc<dyn Port>) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// Who is told at once of what a person should know: something is parked or has stopped, a
    /// circuit is open. If nothing is said, it is a line on the standard error; `|_| {}` silences
    /// it. The diagnostics have it in any case.
    #[must_use]
    pub fn alerts(mut self, sink: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
        self.alerts = Arc::new(sink);
        self
    }

    /// When a process's command is tried again; after the greatest number of attempts it is a
    /// dead letter.
    #[must_use]
    pub fn delivery(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The most dead letters that are kept. Beyond it the oldest is no longer listed and cannot
    /// be edited; nothing is lost, because what is not answered stands in its sender's journal
    /// and is sent again after a restart.
    #[must_use]
    pub fn dead_letters_max(mut self, letters_max: usize) -> Self {
        self.letters_max = letters_max;
        self
    }

    /// Where snapshots of entities and of views in memory are kept; in memory, if nothing is said.
    #[must_use]
    pub fn snapshots(mut self, store: Arc<dyn SnapshotStore>) -> Self {
        self.snapshots = store;
        self
    }

    /// Where consumers keep their places, if they have no store of their own; in memory, if
    /// nothing is said.
    #[must_use]
    pub fn checkpoints(mut self, store: Arc<dyn Checkpoints>) -> Self {
        self.checkpoints = store;
        self
    }

    /// Hosts this consumer.
    #[must_use]
    pub fn consumer(mut self, consumer: ConsumerSpec) -> Self {
        self.consumers.push(consumer);
        self
    }

    /// Starts everything on the present async runtime.
    pub async fn start(self) -> Result<Service, StartError> {
        self.boxed_start().await
    }

    /// In a box, it is compiled here, and not again in each crate that starts a service.
    fn boxed_start(self) -> BoxFuture<'static, Result<Service, StartError>> {
        Box::pin(self.start_all())
    }

    async fn start_all(self) -> Result<Service, StartError> {
        if let Some(found) = self.private_beside.and_then(|look| look(&self.types)) {
            return Err(StartError::Private(found));
        }
        each_category_once(&self.types)?;
        stand_together(&self.log.layout(), &self.published)?;
        let diagnostics = Arc::new(Diagnostics::new(self.name.clone(), self.alerts));
        learn(&self.newer, &diagnostics, &self.time).await;
        let mut entities = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        let parts = HostParts {
            log: self.log.clone(),
            time: self.time.clone(),
            snapshots: self.snapshots.clone(),
            source: self.name.clone(),
            diagnostics: diagnostics.clone(),
        };
        for start in self.entities {
            let (id, host, entity) = start(parts.clone())?;
            let category = entity.category();
            if entities.insert(category, entity).is_some() {
                return Err(StartError::category_twice(category));
            }
            hosts.insert(id, host);
        }
        registry::record_all(&*self.log, &self.types, &|text| {
            diagnostics.add(self.time.now(), text);
        })
        .await;
        let (time, told) = (self.time.clone(), diagnostics.clone());
        let head_watch = match &self.head_watches {
            Some(head_watches) => head_watches.of(&self.log, time, told),
            None => Arc::new(HeadWatch::start(self.log.clone(), time, told)),
        };
        let context = ViewContext {
            service: self.name.clone(),
            view: "",
            log: self.log.clone(),
            time: self.time.clone(),
            diagnostics: diagnostics.clone(),
            snapshots: self.snapshots.clone(),
        };
        let views = start_views(self.views, &context, &head_watch, &self.newer, &mut hosts).await?;
        let consumers =
            start_consumers(self.consumers, &context, self.checkpoints, &head_watch).await?;
        let dispatcher = Arc::new(Dispatcher::new(
            self.time.clone(),
            diagnostics.clone(),
            effects_by_name(self.effects)?,
            self.elsewhere,
            self.retry,
            self.letters_max,
        ));
        let mut processes: BTreeMap<_, Arc<ProcessHost>> = BTreeMap::new();
        for (what, type_name, start) in self.processes {
            let parts = ProcessParts {
                host: parts.clone(),
                head: head_watch.head(),
                dispatcher: dispatcher.clone(),
                newer: self.newer.clone(),
            };
            let process = start(parts)?;
            let name = process.name();
            says_where_it_begins(&process, what, type_name).await?;
            if entities.contains_key(name) || processes.insert(name, process).is_some() {
                return Err(StartError::category_twice(name));
            }
        }
        let hosted = Arc::new(Hosted {
            entities,
            processes,
        });
        dispatcher.connect(hosted.clone());
        for process in hosted.processes.values() {
            process.begin();
        }
        let unwritten = Unwritten {
            log: self.log,
            time: self.time.clone(),
            diagnostics: diagnostics.clone(),
            readers: self.types.readers.clone(),
            written: categories_of(&self.types),
            owned_beside: self.owned_beside,
        };
        unwritten.tell(&dispatcher, hosted.clone());
        Ok(Service {
            name: self.name,
            hosted,
            dispatcher,
            hosts,
            reads: Arc::new(Reads { views, consumers }),
            head_watch,
            time: self.time,
            diagnostics,
            types: self.types,
            in_turn: InTurn::default(),
        })
    }
}

impl StartError {
    fn category_twice(name: &str) -> Self {
        Self::Twice {
            what: "category",
            name: name.to_owned(),
        }
    }
}

anabranch_model::debug_is_words!(StartError);

/// The name of a type without the modules that it is in.
fn short(type_name: &str) -> &str {
    let plain = type_name.split('<').next().unwrap_or(type_name);
    match plain.rfind("::") {
        Some(at) => &type_name[at + 2..],
        None => type_name,
    }
}

/// Where its entities write and publish.
fn categories_of(types: &ServiceTypes) -> BTreeSet<String> {
    let entities = types.entities.iter();
    entities.map(|of| of.category.clone()).collect()
}

/// Looks how newer events are read. What the log cannot tell now is looked up when one cannot be read.
async fn learn(newer: &NewerTypes, diagnostics: &Diagnostics, time: &Time) {
    let wrong = match newer.look().await {
        Ok(news) => news.unreadable.iter().map(ToString::to_string).collect(),
        Err(why) => vec![why.to_string()],
    };
    for why in wrong {
        diagnostics.add(time.now(), why);
    }
}

/// Refuses entities that are apart from what they publish.
fn stand_together(layout: &Layout, published: &[[&'static str; 2]]) -> Result<(), StartError> {
    let apart = |[one, other]: &&[&str; 2]| !layout.is_together(one, other);
    match published.iter().find(apart) {
        None => Ok(()),
        Some(&[category, published]) => Err(StartError::Apart {
            category,
            published,
        }),
    }
}

/// Refuses two writers of one category. What is published has one of its own.
fn each_category_once(types: &ServiceTypes) -> Result<(), StartError> {
    let entities = types.entities.iter().map(|of| &of.category);
    let mut known = BTreeSet::new();
    match entities
        .chain(&types.journals)
        .find(|name| !known.insert(*name))
    {
        Some(name) => Err(StartError::category_twice(name)),
        None => Ok(()),
    }
}

/// Refuses a process or saga that is new on a log with a history, and does not say whether it is to
/// hear that.
async fn says_where_it_begins(
    process: &ProcessHost,
    what: &'static str,
    type_name: &'static str,
) -> Result<(), StartError> {
    match process.unsaid().await {
        None => Ok(()),
        Some(first) => Err(StartError::NoBeginning {
            what,
            name: process.name(),
            type_name,
            first,
        }),
    }
}

fn effects_by_name(all: Vec<EffectHost>) -> Result<Effects, StartError> {
    let mut effects = BTreeMap::new();
    for effect in all {
        let name = effect.name();
        if effects.insert(name, effect).is_some() {
            return Err(StartError::Twice {
                what: "effect",
                name: name.to_owned(),
            });
        }
    }
    Ok(Effects(effects))
}

/// Starts the consumers, on what `context` says of the service.
async fn start_consumers(
    specs: Vec<ConsumerSpec>,
    context: &ViewContext,
    checkpoints: Arc<dyn Checkpoints>,
    head_watch: &HeadWatch,
) -> Result<BTreeMap<&'static str, Arc<ConsumerHost>>, StartError> {
    let mut consumers = BTreeMap::new();
    for spec in specs {
        let name = spec.name();
        if consumers.contains_key(name) {
            return Err(StartError::Twice {
                what: "consumer",
                name: name.to_owned(),
            });
        }
        let parts = ConsumerParts {
            context: ConsumerContext {
                service: context.service.clone(),
                name,
                begin: Cut::start(),
                log: context.log.clone(),
                time: context.time.clone(),
                checkpoints: checkpoints.clone(),
            },
            diagnostics: context.diagnostics.clone(),
            head: head_watch.head(),
        };
        let host = ConsumerHost::start(parts, spec).await;
        consumers.insert(name, host.map_err(StartError::Consumer)?);
    }
    Ok(consumers)
}

/// Starts the views, each with its own name in `context`, and puts their hosts among `hosts`.
async fn start_views(
    starts: Vec<(&'static str, StartView)>,
    context: &ViewContext,
    head_watch: &HeadWatch,
    newer: &NewerTypes,
    hosts: &mut Hosts,
) -> Result<BTreeMap<&'static str, Arc<dyn AnyView>>, StartError> {
    let mut views = BTreeMap::new();
    for (view, start) in starts {
        let context = context.clone();
        let parts = ViewParts {
            context: ViewContext { view, ..context },
            head: head_watch.head(),
            newer: newer.clone(),
        };
        let (id, host, any) = start(parts).await?;
        if views.insert(view, any).is_some() {
            return Err(StartError::Twice {
                what: "view",
                name: view.to_owned(),
            });
        }
        hosts.insert(id, host);
    }
    Ok(views)
}

/// How many dead letters are kept, if nothing is said.
const LETTERS_MAX: usize = 10_000;

/// When a process's command is tried again, if nothing is said: for about a quarter of an hour.
const DELIVERY: Retry = Retry {
    attempts_max: Some(40),
    ..Retry::DEFAULT
};
