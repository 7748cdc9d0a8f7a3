use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{CommandEnvelope, Entity};
use anabranch_log::Log;
use futures_util::future::{Either, join_all, select};

use crate::entity::{
    Accepted, Door, EntityHandle, EntityHost, EntityOptions, HostError, HostParts,
};
use crate::notes::{Note, Notes};
use crate::send_error::SendError;
use crate::snapshot::{MemorySnapshots, SnapshotStore};
use crate::time::Time;

/// Declares what a service owns, then starts it.
pub struct ServiceBuilder {
    name: String,
    log: Arc<dyn Log>,
    time: Time,
    snapshots: Arc<dyn SnapshotStore>,
    entities: Vec<StartEntity>,
}

type Typed = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn Door>);
type StartEntity = Box<dyn FnOnce(HostParts) -> Result<Typed, HostError> + Send>;

/// Why a service does not start. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that it hosts does not fit together.
    #[error(transparent)]
    Host(#[from] HostError),
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

    /// Where snapshots of entities are kept; in memory, if nothing is said.
    #[must_use]
    pub fn snapshots(mut self, store: Arc<dyn SnapshotStore>) -> Self {
        self.snapshots = store;
        self
    }

    /// Starts everything on the present async runtime.
    pub fn start(self) -> Result<Service, StartError> {
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
        Ok(Service {
            name: self.name,
            doors,
            hosts,
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

    /// What went wrong and was mended or worked around, newest last.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.all()
    }

    /// Ends in order: takes nothing new, answers what was taken, and stops. What has not ended
    /// after `bound` is ended as a crash would end it; true if everything ended in order.
    pub async fn shutdown(self, bound: Duration) -> bool {
        let deadline = self.time.sleep(bound);
        let closing = join_all(self.doors.values().map(|door| door.close()));
        matches!(select(closing, deadline).await, Either::Left(_))
    }

    fn not_hosted(&self, category: &str) -> SendError {
        SendError::NotHosted {
            category: category.to_owned(),
            known: self.doors.keys().copied().collect::<Vec<_>>().join(", "),
        }
    }
}
