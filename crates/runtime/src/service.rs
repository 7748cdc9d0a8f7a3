use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{CommandEnvelope, Entity, Json, Query, View};
use anabranch_log::{BoxFuture, Log};
use futures_util::future::{Either, join_all, select};

use crate::entity::{
    Accepted, Door, EntityHandle, EntityHost, EntityOptions, HostError, HostParts,
};
use crate::notes::{Note, Notes};
use crate::pulse::Pulse;
use crate::send_error::SendError;
use crate::snapshot::{MemorySnapshots, SnapshotStore};
use crate::time::Time;
use crate::view::{
    Answer, AnyView, Consistency, JsonAnswer, MemoryShelf, OperateError, QueryError, Shelf,
    ViewError, ViewHost, ViewParts, ViewSpec,
};

/// Declares what a service owns, then starts it.
pub struct ServiceBuilder {
    name: String,
    log: Arc<dyn Log>,
    time: Time,
    snapshots: Arc<dyn SnapshotStore>,
    entities: Vec<StartEntity>,
    views: Vec<StartView>,
}

type Typed = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn Door>);
type StartEntity = Box<dyn FnOnce(HostParts) -> Result<Typed, HostError> + Send>;

type TypedView = (
    &'static str,
    TypeId,
    Arc<dyn Any + Send + Sync>,
    Arc<dyn AnyView>,
);
type StartView = Box<
    dyn FnOnce(
            ViewParts,
            Arc<dyn SnapshotStore>,
        ) -> BoxFuture<'static, Result<TypedView, ViewError>>
        + Send,
>;

/// Why a service does not start. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that it hosts does not fit together.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A view does not fit together, or its store cannot be opened.
    #[error(transparent)]
    View(#[from] ViewError),
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
    doors: BTreeMap<&'static str, Arc<dyn Door>>,
    hosts: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    views: BTreeMap<&'static str, Arc<dyn AnyView>>,
    pulse: Pulse,
    time: Time,
    notes: Arc<Notes>,
}

impl ServiceBuilder {
    /// Hosts the entities of this type.
    #[must_use]
    pub fn entity<E: Entity>(self) -> Self {
        self.entity_with::<E>(EntityOptions::default())
    }

    /// Hosts the entities of this type, in this way.
    #[must_use]
    pub fn entity_with<E: Entity>(mut self, options: EntityOptions) -> Self {
        self.entities.push(Box::new(move |parts| {
            let host = EntityHost::<E>::start(parts, options)?;
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
        self.view_on(spec, |parts, snapshots| {
            Arc::new(MemoryShelf {
                log: parts.log.clone(),
                snapshots,
            })
        })
    }

    /// Hosts this view in SQLite, in files of this directory.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn view_in_sqlite<V: View<Store = crate::view::sqlite::Sqlite>>(
        self,
        spec: ViewSpec<V>,
        disk: Arc<dyn anabranch_env::Disk>,
        dir: impl Into<std::path::PathBuf>,
    ) -> Self {
        let dir = dir.into();
        self.view_on(spec, move |_, _| {
            Arc::new(crate::view::sqlite::SqliteShelf { dir, disk })
        })
    }

    fn view_on<V: View>(
        mut self,
        spec: ViewSpec<V>,
        shelf: impl FnOnce(&ViewParts, Arc<dyn SnapshotStore>) -> Arc<dyn Shelf<V>> + Send + 'static,
    ) -> Self {
        self.views.push(Box::new(move |parts, snapshots| {
            Box::pin(async move {
                let shelf = shelf(&parts, snapshots);
                let host = ViewHost::start(parts, spec, shelf).await?;
                Ok((V::NAME, TypeId::of::<V>(), host.clone() as _, host as _))
            })
        }));
        self
    }

    /// Where snapshots of entities and of views in memory are kept; in memory, if nothing is said.
    #[must_use]
    pub fn snapshots(mut self, store: Arc<dyn SnapshotStore>) -> Self {
        self.snapshots = store;
        self
    }

    /// Starts everything on the present async runtime.
    pub async fn start(self) -> Result<Service, StartError> {
        let notes = Arc::new(Notes::default());
        let mut doors = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        for start in self.entities {
            let parts = HostParts {
                log: self.log.clone(),
                time: self.time.clone(),
                snapshots: self.snapshots.clone(),
                source: self.name.clone(),
                notes: notes.clone(),
            };
            let (id, host, door) = start(parts)?;
            let category = door.category();
            if doors.insert(category, door).is_some() {
                return Err(StartError::Twice {
                    what: "category",
                    name: category.to_owned(),
                });
            }
            hosts.insert(id, host);
        }
        let pulse = Pulse::start(self.log.clone(), self.time.clone(), notes.clone());
        let mut views = BTreeMap::new();
        for start in self.views {
            let parts = ViewParts {
                log: self.log.clone(),
                time: self.time.clone(),
                notes: notes.clone(),
                head: pulse.head(),
            };
            let (name, id, host, view) = start(parts, self.snapshots.clone()).await?;
            if views.insert(name, view).is_some() {
                return Err(StartError::Twice {
                    what: "view",
                    name: name.to_owned(),
                });
            }
            hosts.insert(id, host);
        }
        Ok(Service {
            name: self.name,
            doors,
            hosts,
            views,
            pulse,
            time: self.time,
            notes,
        })
    }
}

impl Service {
    /// Begins to declare the service of this name on this log.
    pub fn builder(name: impl Into<String>, log: Arc<dyn Log>, time: Time) -> ServiceBuilder {
        ServiceBuilder {
            name: name.into(),
            log,
            time,
            snapshots: Arc::new(MemorySnapshots::new()),
            entities: Vec::new(),
            views: Vec::new(),
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entity of this type and key.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> EntityHandle<E> {
        let host = self.hosts.get(&TypeId::of::<E>()).cloned();
        let host = host.and_then(|host| host.downcast::<EntityHost<E>>().ok());
        EntityHandle::new(
            host.ok_or_else(|| self.not_hosted(E::CATEGORY)),
            key.as_ref(),
        )
    }

    /// The entities of this category, whatever their type.
    pub fn door(&self, category: &str) -> Result<&Arc<dyn Door>, SendError> {
        let door = self.doors.get(category);
        door.ok_or_else(|| self.not_hosted(category))
    }

    /// Sends a command in wire form.
    pub async fn dispatch(&self, command: CommandEnvelope) -> Result<Accepted, SendError> {
        self.door(command.to.category())?
            .dispatch(command, None)
            .await
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
        question: Json,
        consistency: Consistency,
    ) -> Result<JsonAnswer, QueryError> {
        match self.views.get(view) {
            Some(host) => host.ask_json(query, question, consistency).await,
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

    /// How far the log goes, as this service sees it.
    pub fn head(&self) -> anabranch_model::Cut {
        self.pulse.head().borrow().clone()
    }

    fn no_view(&self, name: &str) -> String {
        let known: Vec<_> = self.views.keys().copied().collect();
        format!(
            "no view {name:?} is hosted here; known: {}",
            known.join(", ")
        )
    }

    /// What went wrong and was mended or worked around, newest last.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.all()
    }

    /// Ends in order: takes nothing new, answers what was taken, and stops. What has not ended
    /// after `bound` is ended as a crash would end it; true if everything ended in order.
    pub async fn shutdown(self, bound: Duration) -> bool {
        let deadline = self.time.sleep(bound);
        let closing = Box::pin(async {
            join_all(self.doors.values().map(|door| door.close())).await;
            join_all(self.views.values().map(|view| view.close())).await;
        });
        matches!(select(closing, deadline).await, Either::Left(_))
    }

    fn not_hosted(&self, category: &str) -> SendError {
        SendError::NotHosted {
            category: category.to_owned(),
            known: self.doors.keys().copied().collect::<Vec<_>>().join(", "),
        }
    }
}
