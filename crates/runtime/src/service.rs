use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::saga::{RegisterError, SagaCommand, SagaType};
use anabranch_domain::types::{CategoryTypes, EventTypes, ReaderTypes, ServiceTypes};
use anabranch_domain::{
    Command, CommandEnvelope, CommandId, Cut, Effect, Entity, Event, Json, Process, Query, Retry,
    Role, Saga, SchemaError, StreamId, View,
};
use anabranch_log::{BoxFuture, Log};
use futures_util::future::{Either, join_all, select};

use crate::checkpoint::{Checkpoints, MemoryCheckpoints};
use crate::consumer::{ConsumerContext, ConsumerHost, ConsumerParts, ConsumerSpec, StoreError};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::entity::{AnyEntity, EntityHandle, EntityHost, EntityOptions, HostError};
use crate::fleet::Fleet;
use crate::flow::{
    AnyFlow, CallError, Circuit, DeadLetter, Dispatcher, EffectHost, Effects, FlowHost,
    FlowOptions, FlowParts, Hosted,
};
use crate::head_watch::{HeadWatch, HeadWatches};
use crate::host::HostParts;
use crate::kinds::{ProcessKind, SagaKind};
use crate::port::{Ask, Delivered, Dispatch, Port, Problem, Reply, Request, Subject};
use crate::registry;
use crate::send_error::SendError;
use crate::snapshot::{MemorySnapshots, SnapshotStore};
use crate::time::Time;
use crate::view::{
    Answer, AnyView, Consistency, JsonAnswer, MemoryViews, OperateError, QueryError, Question,
    ViewContext, ViewError, ViewHost, ViewParts, ViewSpec, ViewStoreFactory,
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
    flows: Vec<StartFlow>,
    effects: Vec<EffectHost>,
    elsewhere: Option<Arc<dyn Port>>,
    head_watches: Option<Arc<HeadWatches>>,
    retry: Retry,
    types: ServiceTypes,
    letters_max: usize,
}

type Typed = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn AnyEntity>);
type StartEntity = Box<dyn FnOnce(HostParts) -> Result<Typed, HostError> + Send>;

type TypedView = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn AnyView>);
type StartView =
    Box<dyn FnOnce(ViewParts) -> BoxFuture<'static, Result<TypedView, ViewError>> + Send>;

type StartFlow = Box<dyn FnOnce(FlowParts) -> Result<(Arc<dyn AnyFlow>, Begin), StartError> + Send>;
type Begin = Box<dyn FnOnce() + Send>;

/// Why a service does not start. Nothing was started.
#[derive(Debug, thiserror::Error)]
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
    /// Two things have one name.
    #[error("{what} {name:?} is registered twice; each name means one thing")]
    Twice {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },
}

/// A running service: hosts entities, views, processes and sagas on one log.
///
/// Dropping it ends everything at once, as a crash would; [`Service::shutdown`] ends it in
/// order.
pub struct Service {
    name: String,
    hosted: Arc<Hosted>,
    hosts: Hosts,
    views: BTreeMap<&'static str, Arc<dyn AnyView>>,
    consumers: BTreeMap<&'static str, Arc<ConsumerHost>>,
    dispatcher: Arc<Dispatcher>,
    head_watch: Arc<HeadWatch>,
    time: Time,
    diagnostics: Arc<Diagnostics>,
    types: ServiceTypes,
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
    pub fn entity_with<E: Entity>(mut self, options: EntityOptions) -> Self {
        self.types.entities.push(CategoryTypes {
            category: E::CATEGORY.to_owned(),
            events: EventTypes::of::<E::Event>(),
        });
        self.entities.push(Box::new(move |parts| {
            let host = EntityHost::start::<E>(parts, options)?;
            Ok((TypeId::of::<E>(), host.clone() as _, host as _))
        }));
        self
    }

    /// Hosts this view in memory. A snapshot of it is kept now and then.
    #[must_use]
    pub fn view<V: View>(self, spec: ViewSpec<V>) -> Self
    where
        V::Store: Default + serde::Serialize + serde::de::DeserializeOwned + Send + Sync,
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
    pub fn process<P: Process>(self) -> Self
    where
        P::Event: Clone,
    {
        self.process_with::<P>(FlowOptions::default())
    }

    /// Hosts the instances of this process, in this way.
    #[must_use]
    pub fn process_with<P: Process>(mut self, options: FlowOptions) -> Self
    where
        P::Event: Clone,
    {
        self.reads::<P::Event>("process", P::NAME, P::CATEGORIES);
        self.types.journals.push(P::NAME.to_owned());
        self.flows.push(Box::new(move |parts| {
            let kind = ProcessKind::<P>::new().map_err(|source| StartError::Process {
                process: P::NAME,
                source,
            })?;
            let host = FlowHost::start(Arc::new(kind), parts, options)?;
            Ok((host.clone() as _, Box::new(move || host.begin())))
        }));
        self
    }

    /// Hosts the instances of this saga.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self.saga_with::<S>(FlowOptions::default())
    }

    /// Hosts the instances of this saga, in this way.
    #[must_use]
    pub fn saga_with<S: Saga>(mut self, options: FlowOptions) -> Self {
        self.reads::<S::Event>("saga", S::NAME, S::CATEGORIES);
        self.types.journals.push(S::NAME.to_owned());
        self.flows.push(Box::new(move |parts| {
            let kind = SagaKind::new(SagaType::of::<S>()?);
            let host = FlowHost::start(Arc::new(kind), parts, options)?;
            Ok((host.clone() as _, Box::new(move || host.begin())))
        }));
        self
    }

    /// How the effect `F` is called: with what it holds and the key that is the same for every
    /// attempt.
    #[must_use]
    pub fn effect<F, C, R>(mut self, call: C) -> Self
    where
        F: Effect,
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
    {
        self.effects.push(EffectHost::new::<F, C, R>(call));
        self
    }

    /// As [`ServiceBuilder::effect`], and how to ask what became of a call: `None` says that
    /// it was never carried out.
    #[must_use]
    pub fn effect_asked<F, C, R, A, S>(mut self, call: C, ask: A) -> Self
    where
        F: Effect,
        C: Fn(F, CommandId) -> R + Send + Sync + 'static,
        R: Future<Output = Result<F::Outcome, CallError>> + Send + 'static,
        A: Fn(F, CommandId) -> S + Send + Sync + 'static,
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
        self.port(fleet.port())
    }

    /// Who delivers to entities, processes and sagas that are hosted elsewhere.
    #[must_use]
    pub fn port(mut self, elsewhere: Arc<dyn Port>) -> Self {
        self.elsewhere = Some(elsewhere);
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
        let diagnostics = Arc::new(Diagnostics::default());
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
                return Err(StartError::Twice {
                    what: "category",
                    name: category.to_owned(),
                });
            }
            hosts.insert(id, host);
        }
        // A log that ends with its program has no later reader to tell.
        if self.log.capabilities().survives_restart {
            for types in &self.types.entities {
                if let Err(why) = registry::record(&*self.log, &self.name, types).await {
                    let category = &types.category;
                    let text = format!("the types of {category} were not registered: {why}");
                    diagnostics.add(self.time.now(), text);
                }
            }
        }
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
        let views = start_views(self.views, &context, &head_watch, &mut hosts).await?;
        let consumers =
            start_consumers(self.consumers, &context, self.checkpoints, &head_watch).await?;
        let mut effects = BTreeMap::new();
        for effect in self.effects {
            let name = effect.name();
            if effects.insert(name, effect).is_some() {
                return Err(StartError::Twice {
                    what: "effect",
                    name: name.to_owned(),
                });
            }
        }
        let dispatcher = Arc::new(Dispatcher::new(
            self.time.clone(),
            diagnostics.clone(),
            Effects(effects),
            self.elsewhere,
            self.retry,
            self.letters_max,
        ));
        let mut flows: BTreeMap<&'static str, Arc<dyn AnyFlow>> = BTreeMap::new();
        let mut begin = Vec::new();
        for start in self.flows {
            let parts = FlowParts {
                host: parts.clone(),
                head: head_watch.head(),
                dispatcher: dispatcher.clone(),
            };
            let (flow, begins) = start(parts)?;
            let name = flow.name();
            if entities.contains_key(name) || flows.insert(name, flow).is_some() {
                return Err(StartError::Twice {
                    what: "category",
                    name: name.to_owned(),
                });
            }
            begin.push(begins);
        }
        let hosted = Arc::new(Hosted { entities, flows });
        dispatcher.connect(hosted.clone());
        begin.into_iter().for_each(|begin| begin());
        Ok(Service {
            name: self.name,
            hosted,
            dispatcher,
            hosts,
            views,
            consumers,
            head_watch,
            time: self.time,
            diagnostics,
            types: self.types,
        })
    }
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

type Hosts = BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// Starts the views, each with its own name in `context`, and puts their hosts among `hosts`.
async fn start_views(
    starts: Vec<(&'static str, StartView)>,
    context: &ViewContext,
    head_watch: &HeadWatch,
    hosts: &mut Hosts,
) -> Result<BTreeMap<&'static str, Arc<dyn AnyView>>, StartError> {
    let mut views = BTreeMap::new();
    for (view, start) in starts {
        let context = context.clone();
        let parts = ViewParts {
            context: ViewContext { view, ..context },
            head: head_watch.head(),
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

impl Service {
    /// The types of events that it writes and reads.
    pub fn types(&self) -> &ServiceTypes {
        &self.types
    }

    /// Begins to declare the service of this name on this log.
    pub fn builder(name: impl Into<String>, log: Arc<dyn Log>, time: Time) -> ServiceBuilder {
        let name = name.into();
        ServiceBuilder {
            types: ServiceTypes {
                service: name.clone(),
                ..ServiceTypes::default()
            },
            name,
            log,
            time,
            snapshots: Arc::new(MemorySnapshots::new()),
            checkpoints: Arc::new(MemoryCheckpoints::new()),
            consumers: Vec::new(),
            entities: Vec::new(),
            views: Vec::new(),
            flows: Vec::new(),
            effects: Vec::new(),
            elsewhere: None,
            head_watches: None,
            retry: DELIVERY,
            letters_max: LETTERS_MAX,
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entity of this type and key.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> EntityHandle<E> {
        let host = self.hosts.get(&TypeId::of::<E>()).cloned();
        let host = host.and_then(|host| host.downcast::<EntityHost>().ok());
        EntityHandle::new(
            host.ok_or_else(|| self.hosted.not_hosted(E::CATEGORY)),
            key.as_ref(),
        )
    }

    /// The entities of this category, whatever their type.
    pub fn any_entity(&self, category: &str) -> Result<&Arc<dyn AnyEntity>, SendError> {
        let entity = self.hosted.entities.get(category);
        entity.ok_or_else(|| self.hosted.not_hosted(category))
    }

    /// The categories of the entities that are hosted here.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        self.hosted.entities.keys().copied()
    }

    /// Whether this is hosted here.
    pub fn has(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Category(category) => self.hosted.owns(category),
            Subject::Process(name) => self.hosted.flows.contains_key(name),
            Subject::View(name) => self.views.contains_key(name),
        }
    }

    /// What there is here of the subject's kind.
    pub fn names_like(&self, subject: Subject<'_>) -> Vec<&'static str> {
        let flows = self.hosted.flows.keys().copied();
        match subject {
            Subject::Category(_) => self.categories().chain(flows).collect(),
            Subject::Process(_) => flows.collect(),
            Subject::View(_) => self.views.keys().copied().collect(),
        }
    }

    /// Sends a command in wire form, to an entity or to a saga.
    pub async fn deliver(&self, dispatch: impl Into<Dispatch>) -> Result<Delivered, SendError> {
        match self.hosted.call(Request::command(dispatch)).await? {
            Reply::Delivered(delivered) => Ok(delivered),
            _ => Err(Problem::Strange.of_send()),
        }
    }

    /// Starts, aborts, resumes or settles an instance of a saga. The same `id` does it once.
    pub async fn command_saga(
        &self,
        saga: StreamId,
        command: &SagaCommand,
        id: Option<CommandId>,
    ) -> Result<(), SendError> {
        let (name, data) = command.to_wire()?;
        let now = self.time.now().micros() / 1000;
        let envelope = CommandEnvelope {
            id: id.unwrap_or_else(|| CommandId::v7(now, self.time.random())),
            to: saga,
            name: name.to_owned(),
            data,
            role: Role::Plain,
            reply_to: None,
            correlation_id: None,
            causes: Cut::start(),
        };
        self.deliver(envelope).await.map(|_| ())
    }

    /// Starts the instance of this key. Starting it again changes nothing.
    pub async fn start_saga<S: Saga>(&self, key: &str, input: &S::Input) -> Result<(), SendError> {
        let invalid = |error: String| SendError::Invalid(error);
        let saga = StreamId::of(S::NAME, key).map_err(|error| invalid(error.to_string()))?;
        let input = Json::of(input).map_err(|error| invalid(error.to_string()))?;
        let start = SagaCommand::StartSaga { input };
        self.command_saga(saga, &start, None).await
    }

    /// The processes and sagas, by name.
    pub fn flows(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn AnyFlow>)> {
        self.hosted.flows.iter().map(|(&name, flow)| (name, flow))
    }

    /// The process or saga of this name, to operate it.
    pub fn flow(&self, name: &str) -> Result<&Arc<dyn AnyFlow>, OperateError> {
        self.hosted.flows.get(name).ok_or_else(|| {
            let known: Vec<_> = self.hosted.flows.keys().copied().collect();
            let known = known.join(", ");
            OperateError::Unknown(format!(
                "no process or saga {name:?} is hosted here; known: {known}"
            ))
        })
    }

    /// How many dead letters are no longer listed because there were more than are kept, since
    /// the service was started.
    pub fn dead_letters_let_go(&self) -> u64 {
        self.dispatcher.letters_let_go()
    }

    /// What could not be delivered, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dispatcher.dead_letters()
    }

    /// Tries a dead letter again, with other data if some is given; false if there is none of
    /// this id.
    pub fn retry_letter(&self, id: CommandId, data: Option<Json>) -> bool {
        self.dispatcher.retry_letter(id, data)
    }

    /// Gives a dead letter up: who sent it is told that it was refused. False if there is none
    /// of this id.
    pub async fn discard_letter(&self, id: CommandId, why: &str) -> bool {
        self.dispatcher.discard_letter(id, why).await
    }

    /// How the third parties of the effects are doing.
    pub fn circuits(&self) -> Vec<Circuit> {
        self.dispatcher.effects.circuits(&self.time)
    }

    /// How many commands and calls are being delivered.
    pub fn under_way(&self) -> usize {
        self.dispatcher.under_way()
    }

    /// Whether the command or call of this id is being delivered.
    pub fn is_under_way(&self, id: CommandId) -> bool {
        self.dispatcher.is_under_way(id)
    }

    /// Asks a view.
    pub async fn query<Q: Query>(
        &self,
        query: Q,
        consistency: Consistency,
    ) -> Result<Answer<Q::Answer>, QueryError> {
        let host = self.hosts.get(&TypeId::of::<Q::View>()).cloned();
        match host.and_then(|host| host.downcast::<ViewHost<Q::View>>().ok()) {
            Some(host) => host.ask(query, consistency).await,
            None => Err(QueryError::Unknown(self.no_view(Q::View::NAME))),
        }
    }

    /// Asks a view by the names of the view and of the query.
    pub async fn query_json(
        &self,
        view: &str,
        query: &str,
        question: impl Into<Question>,
        consistency: Consistency,
    ) -> Result<JsonAnswer, QueryError> {
        match self.views.get(view) {
            Some(host) => host.ask_json(query, question.into(), consistency).await,
            None => Err(QueryError::Unknown(self.no_view(view))),
        }
    }

    /// The view of this name, to operate it.
    pub fn view(&self, name: &str) -> Result<&Arc<dyn AnyView>, OperateError> {
        let view = self.views.get(name);
        view.ok_or_else(|| OperateError::Unknown(self.no_view(name)))
    }

    /// Every view, by name.
    pub fn views(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn AnyView>)> {
        self.views.iter().map(|(&name, view)| (name, view))
    }

    /// Every consumer, by name.
    pub fn consumers(&self) -> impl Iterator<Item = (&'static str, &Arc<ConsumerHost>)> {
        self.consumers
            .iter()
            .map(|(&name, consumer)| (name, consumer))
    }

    /// The consumer of this name, to operate it.
    pub fn consumer(&self, name: &str) -> Result<&Arc<ConsumerHost>, OperateError> {
        self.consumers.get(name).ok_or_else(|| {
            let known: Vec<_> = self.consumers.keys().copied().collect();
            let known = known.join(", ");
            OperateError::Unknown(format!(
                "no consumer {name:?} is hosted here; known: {known}"
            ))
        })
    }

    /// How far the log goes, as this service sees it.
    pub fn head(&self) -> anabranch_model::Cut {
        self.head_watch.head().borrow().clone()
    }

    fn no_view(&self, name: &str) -> String {
        let known: Vec<_> = self.views.keys().copied().collect();
        format!(
            "no view {name:?} is hosted here; known: {}",
            known.join(", ")
        )
    }

    /// What went wrong and was mended or worked around, newest last.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.diagnostics.all()
    }

    /// Ends in order: takes nothing new, answers what was taken, and stops. What has not ended
    /// after `bound` is ended as a crash would end it; true if everything ended in order.
    pub async fn shutdown(&self, bound: Duration) -> bool {
        let deadline = self.time.sleep(bound);
        let closing = Box::pin(async {
            join_all(self.hosted.flows.values().map(|flow| flow.close())).await;
            self.dispatcher.close();
            join_all(self.hosted.entities.values().map(|entity| entity.close())).await;
            join_all(self.views.values().map(|view| view.close())).await;
            join_all(self.consumers.values().map(|consumer| consumer.close())).await;
        });
        matches!(select(closing, deadline).await, Either::Left(_))
    }

    /// Ends everything at once, as a crash would: what is durable stays.
    pub fn kill(&self) {
        for flow in self.hosted.flows.values() {
            flow.kill();
        }
        for entity in self.hosted.entities.values() {
            entity.kill();
        }
        for view in self.views.values() {
            view.kill();
        }
        for consumer in self.consumers.values() {
            consumer.kill();
        }
        self.dispatcher.close();
    }
}

impl Port for Service {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        Box::pin(async move {
            let Request::Query(ask) = request else {
                return Ok(self.hosted.call(request).await?);
            };
            let Ask {
                view,
                query,
                question,
                consistency,
            } = *ask;
            let answer = self
                .query_json(&view, &query, question, consistency)
                .await?;
            Ok(Reply::Shown(answer))
        })
    }
}

impl Drop for Service {
    /// Ends everything at once, as a crash would: what is durable stays.
    fn drop(&mut self) {
        self.kill();
    }
}

/// How many dead letters are kept, if nothing is said.
const LETTERS_MAX: usize = 10_000;

/// When a process's command is tried again, if nothing is said: for about a quarter of an hour.
const DELIVERY: Retry = Retry {
    attempts_max: Some(40),
    ..Retry::DEFAULT
};
