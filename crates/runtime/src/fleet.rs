use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use anabranch_domain::{CommandEnvelope, ReplyEnvelope, StreamId};
use anabranch_log::BoxFuture;
use futures_util::future::join_all;

use crate::flow::{Delivered, Router};
use crate::head_watch::HeadWatches;
use crate::send_error::SendError;
use crate::service::Service;

/// Several services side by side in one process, each of which may go and come back.
///
/// Commands and answers find the service that owns the category. While that is away they are
/// [`SendError::Unavailable`], so that whoever sends tries again.
#[derive(Default)]
pub struct Fleet {
    inner: Arc<Inner>,
    head_watches: Arc<HeadWatches>,
}

#[derive(Default)]
struct Inner {
    services: RwLock<BTreeMap<String, Arc<Service>>>,
    homes: RwLock<Homes>,
}

/// Which service each thing belongs to, also while that is away.
#[derive(Default)]
struct Homes {
    categories: BTreeMap<String, String>,
    views: BTreeMap<String, String>,
}

/// When a service that is away is asked again.
const AWAY: Duration = Duration::from_millis(100);

impl Fleet {
    /// Without services yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn head_watches(&self) -> Arc<HeadWatches> {
        self.head_watches.clone()
    }

    /// Delivers between the services; [`ServiceBuilder::beside`](crate::ServiceBuilder::beside) is the usual way
    /// to it.
    pub fn router(&self) -> Arc<dyn Router> {
        Arc::new(Route(Arc::downgrade(&self.inner)))
    }

    /// Takes a service in, in place of one of the same name, which is ended as a crash would
    /// end it.
    pub fn join(&self, service: Service) -> Arc<Service> {
        let service = Arc::new(service);
        self.inner.remember(&service);
        let before = self
            .inner
            .write()
            .insert(service.name().to_owned(), service.clone());
        if let Some(before) = before {
            before.kill();
        }
        service
    }

    /// Ends the service of this name as a crash would; false if it is not here.
    pub fn kill(&self, name: &str) -> bool {
        let gone = self.inner.write().remove(name);
        match gone {
            Some(service) => {
                service.kill();
                true
            }
            None => false,
        }
    }

    /// The services that are here, by name.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.inner.read().values().cloned().collect()
    }

    /// The service of this name, if it is here.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.inner.read().get(name).cloned()
    }

    /// The service that owns the entities, the process or the saga of this category.
    pub fn owner(&self, category: &str) -> Result<Arc<Service>, SendError> {
        self.inner.owner(category)
    }

    /// The name of the service that owns this category, or did before it went away.
    pub fn home_of(&self, category: &str) -> Option<String> {
        self.inner.homes().categories.get(category).cloned()
    }

    /// The name of the service that has this view, or had it before it went away.
    pub fn home_of_view(&self, view: &str) -> Option<String> {
        self.inner.homes().views.get(view).cloned()
    }

    /// The service that has the view of this name, if it is here.
    pub fn owner_of_view(&self, view: &str) -> Option<Arc<Service>> {
        let services = self.inner.read();
        let owner = services
            .values()
            .find(|service| service.views().any(|(name, _)| name == view));
        owner.cloned()
    }

    /// Ends all services in order; see [`Service::shutdown`]. True if all of them ended within
    /// `bound`.
    pub async fn shutdown(&self, bound: Duration) -> bool {
        let services = self.services();
        let ended = join_all(services.iter().map(|service| service.shutdown(bound))).await;
        self.inner.write().clear();
        ended.into_iter().all(|in_order| in_order)
    }
}

impl Inner {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.services
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn homes(&self) -> std::sync::RwLockReadGuard<'_, Homes> {
        self.homes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, service: &Service) {
        let mut homes = self.homes.write().unwrap_or_else(PoisonError::into_inner);
        let home = || service.name().to_owned();
        let flows = service.flows().map(|(name, _)| name);
        for category in service.categories().chain(flows) {
            homes.categories.insert(category.to_owned(), home());
        }
        for (view, _) in service.views() {
            homes.views.insert(view.to_owned(), home());
        }
    }

    fn owner(&self, category: &str) -> Result<Arc<Service>, SendError> {
        let services = self.read();
        let owner = services.values().find(|service| service.owns(category));
        owner.cloned().ok_or_else(|| {
            let running: Vec<_> = services.keys().map(String::as_str).collect();
            SendError::Unavailable {
                reason: format!(
                    "no running service owns category {category:?}; running: {}",
                    running.join(", ")
                ),
                retry_after: Some(AWAY),
            }
        })
    }
}

/// The way from one service to the others. It does not keep them alive.
struct Route(Weak<Inner>);

impl Route {
    fn owner(&self, category: &str) -> Result<Arc<Service>, SendError> {
        let inner = self.0.upgrade().ok_or_else(SendError::stopping)?;
        inner.owner(category)
    }
}

impl Router for Route {
    fn dispatch(&self, command: CommandEnvelope) -> BoxFuture<'_, Result<Delivered, SendError>> {
        Box::pin(async move {
            let owner = self.owner(command.to.category())?;
            owner.deliver(command).await
        })
    }

    fn reply(&self, reply: ReplyEnvelope) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let owner = self.owner(reply.to.category())?;
            owner.reply(reply).await
        })
    }

    fn forget(&self, at: &StreamId, saga: &StreamId) {
        // Who is away has forgotten already.
        if let Ok(owner) = self.owner(at.category()) {
            owner.forget(at, saga);
        }
    }
}
