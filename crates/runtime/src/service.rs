//! A service that runs.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::saga::SagaCommand;
use anabranch_domain::types::ServiceTypes;
use anabranch_domain::{
    CommandEnvelope, CommandId, Cut, Entity, Json, Query, Saga, StreamId, View,
};
use anabranch_log::BoxFuture;
use futures_util::future::{Either, join_all, select};

use crate::consumer::ConsumerHost;
use crate::delivery::{Circuit, DeadLetter, Delivery, Dispatcher, Here as _};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::entity::EntityHost;
use crate::entity_handle::EntityHandle;
use crate::head_watch::HeadWatch;
use crate::hosted::Hosted;
use crate::in_turn::InTurn;
use crate::port::{Ask, Delivered, Dispatch, Port, Problem, Reply, Request, Subject};
use crate::process::ProcessHost;
use crate::reads::Reads;
use crate::send_error::SendError;
use crate::time::Time;
use crate::view::{
    Answer, AnyView, Consistency, JsonAnswer, OperateError, QueryError, Question, ViewHost,
};

/// What is hosted, by the type of it.
pub type Hosts = BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// A running service: hosts entities, views, processes and sagas on one log.
///
/// Dropping it ends everything at once, as a crash would; [`Service::shutdown`] ends it in
/// order.
pub struct Service {
    pub(crate) name: String,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) hosts: Hosts,
    pub(crate) reads: Arc<Reads>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) head_watch: Arc<HeadWatch>,
    pub(crate) time: Time,
    pub(crate) diagnostics: Arc<Diagnostics>,
    pub(crate) types: ServiceTypes,
    pub(crate) in_turn: InTurn,
}

impl Service {
    /// The types of events that it writes and reads.
    pub fn types(&self) -> &ServiceTypes {
        &self.types
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entity of this type and key: here, or at whichever service the port leads to.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> EntityHandle<E> {
        let host = self.hosts.get(&TypeId::of::<E>()).cloned();
        let host = host.and_then(|host| host.downcast::<EntityHost>().ok());
        let handle = match (host, &self.dispatcher.elsewhere) {
            (None, Some(port)) => EntityHandle::through(port.clone(), self.time.clone(), key),
            (host, _) => EntityHandle::new(
                host.ok_or_else(|| self.hosted.not_hosted(E::CATEGORY)),
                key.as_ref(),
            ),
        };
        handle.read_by(self.reads.clone())
    }

    /// What this service has read: what its views show, and what its consumers were given. A command
    /// whose sender says nothing of causes depends on it.
    pub fn seen(&self) -> Cut {
        self.reads.seen()
    }

    /// The entities of this category, whatever their type.
    pub fn any_entity(&self, category: &str) -> Result<&Arc<EntityHost>, SendError> {
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
            Subject::Process(name) => self.hosted.processes.contains_key(name),
            Subject::View(name) => self.reads.views.contains_key(name),
        }
    }

    /// What there is here of the subject's kind.
    pub fn names_like(&self, subject: Subject<'_>) -> Vec<&'static str> {
        let processes = self.hosted.processes.keys().copied();
        match subject {
            Subject::Category(_) => self.categories().chain(processes).collect(),
            Subject::Process(_) => processes.collect(),
            Subject::View(_) => self.reads.views.keys().copied().collect(),
        }
    }

    /// Sends a command in wire form, to an entity or to a saga.
    pub async fn deliver(&self, dispatch: impl Into<Dispatch>) -> Result<Delivered, SendError> {
        match self.hosted.call(Request::command(dispatch)).await {
            Ok(Reply::Delivered(delivered)) => Ok(delivered),
            Ok(_) => Err(Problem::Strange.of_send()),
            Err(problem) => Err(problem.of_send()),
        }
    }

    /// Starts, aborts, resumes or settles an instance of a saga. The same `id` does it once.
    pub async fn command_saga(
        &self,
        saga: StreamId,
        command: &SagaCommand,
        id: Option<CommandId>,
    ) -> Result<(), SendError> {
        let now = self.time.now().micros() / 1000;
        let id = id.unwrap_or_else(|| CommandId::v7(now, self.time.random()));
        let mut envelope = CommandEnvelope::plain(id, saga, command, self.seen())?;
        envelope.correlation_id = Some(id.to_string());
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
    pub fn processes(&self) -> impl Iterator<Item = (&'static str, &Arc<ProcessHost>)> {
        self.hosted
            .processes
            .iter()
            .map(|(&name, process)| (name, process))
    }

    /// The process or saga of this name, to operate it.
    pub fn process(&self, name: &str) -> Result<&Arc<ProcessHost>, OperateError> {
        self.hosted.processes.get(name).ok_or_else(|| {
            let known: Vec<_> = self.hosted.processes.keys().copied().collect();
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

    /// What an instance of a process or saga has sent that is on its way: how often that has
    /// failed, why, and when it is tried next.
    pub fn sent_by(&self, instance: &StreamId) -> Vec<Delivery> {
        self.dispatcher.of(instance)
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
        match self.reads.views.get(view) {
            Some(host) => host.ask_json(query, question.into(), consistency).await,
            None => Err(QueryError::Unknown(self.no_view(view))),
        }
    }

    /// The view of this name, to operate it.
    pub fn view(&self, name: &str) -> Result<&Arc<dyn AnyView>, OperateError> {
        let view = self.reads.views.get(name);
        view.ok_or_else(|| OperateError::Unknown(self.no_view(name)))
    }

    /// Every view, by name.
    pub fn views(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn AnyView>)> {
        self.reads.views.iter().map(|(&name, view)| (name, view))
    }

    /// Every consumer, by name.
    pub fn consumers(&self) -> impl Iterator<Item = (&'static str, &Arc<ConsumerHost>)> {
        self.reads
            .consumers
            .iter()
            .map(|(&name, consumer)| (name, consumer))
    }

    /// The consumer of this name, to operate it.
    pub fn consumer(&self, name: &str) -> Result<&Arc<ConsumerHost>, OperateError> {
        self.reads.consumers.get(name).ok_or_else(|| {
            let known: Vec<_> = self.reads.consumers.keys().copied().collect();
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
        let known: Vec<_> = self.reads.views.keys().copied().collect();
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
            join_all(
                self.hosted
                    .processes
                    .values()
                    .map(|process| process.close()),
            )
            .await;
            self.dispatcher.close();
            join_all(self.hosted.entities.values().map(|entity| entity.close())).await;
            join_all(self.reads.views.values().map(|view| view.close())).await;
            join_all(
                self.reads
                    .consumers
                    .values()
                    .map(|consumer| consumer.close()),
            )
            .await;
        });
        matches!(select(closing, deadline).await, Either::Left(_))
    }

    /// Ends everything at once, as a crash would: what is durable stays.
    pub fn kill(&self) {
        for process in self.hosted.processes.values() {
            process.kill();
        }
        for entity in self.hosted.entities.values() {
            entity.kill();
        }
        for view in self.reads.views.values() {
            view.kill();
        }
        for consumer in self.reads.consumers.values() {
            consumer.kill();
        }
        self.dispatcher.close();
    }
}

impl Port for Service {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        let Request::Query(ask) = request else {
            return self.hosted.call(request);
        };
        Box::pin(async move {
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
