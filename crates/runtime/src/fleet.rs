use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use anabranch_domain::types::{Privacy, PrivateRead, ServiceTypes};
use anabranch_log::{BoxFuture, Log};
use anabranch_model::Cut;
use futures_util::future::join_all;

use crate::head_watch::HeadWatches;
use crate::port::{Port, Problem, Reply, Request, Subject};
use crate::send_error::SendError;
use crate::service::Service;

/// Several services side by side in one process, each of which may go and come back.
///
/// Commands and answers find the service that owns the category. While that is away they are
/// [`SendError::Unavailable`], so that whoever sends tries again. What no service here has goes
/// [elsewhere](Fleet::and_elsewhere), if there is such a way.
#[derive(Default)]
pub struct Fleet {
    inner: Arc<Inner>,
    head_watches: Arc<HeadWatches>,
}

#[derive(Default)]
struct Inner {
    services: RwLock<BTreeMap<String, Arc<Service>>>,
    homes: RwLock<Homes>,
    /// To what no service here has or has had.
    elsewhere: Option<Arc<dyn Port>>,
}

/// Finds what is read and private.
pub(crate) type PrivateBeside = Box<dyn FnOnce(&ServiceTypes) -> Option<Box<PrivateRead>> + Send>;

/// Which service each thing belongs to, also while that is away.
#[derive(Default)]
struct Homes {
    categories: BTreeMap<String, String>,
    views: BTreeMap<String, String>,
    /// What each service writes and reads.
    types: BTreeMap<String, ServiceTypes>,
    /// What each keeps to itself.
    privacy: Arc<Privacy>,
}

impl Homes {
    fn home_of(&self, subject: Subject<'_>) -> Option<&String> {
        match subject {
            Subject::Category(name) | Subject::Process(name) => self.categories.get(name),
            Subject::View(name) => self.views.get(name),
        }
    }
}

/// When a service that is away is asked again.
const AWAY: Duration = Duration::from_millis(100);

impl Fleet {
    /// Without services yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without services yet. What none of them has is asked of `port`, which leads to other
    /// processes.
    pub fn and_elsewhere(port: Arc<dyn Port>) -> Self {
        let inner = Inner {
            elsewhere: Some(port),
            ..Inner::default()
        };
        Self {
            inner: Arc::new(inner),
            ..Self::default()
        }
    }

    /// The way to what no service here has, if there is one.
    pub fn elsewhere(&self) -> Option<&Arc<dyn Port>> {
        self.inner.elsewhere.as_ref()
    }

    /// Whether a service here has seen that this log goes as far as `cut`. Asks nobody: where it is false,
    /// the log may have come so far a moment ago.
    pub fn has_seen(&self, log: &Arc<dyn Log>, cut: &Cut) -> bool {
        let services = self.inner.read();
        let mut watches = services.values().map(|service| &service.head_watch);
        watches.any(|watch| watch.has_seen(log, cut))
    }

    pub(crate) fn head_watches(&self) -> Arc<HeadWatches> {
        self.head_watches.clone()
    }

    /// Whether a service has this category, or has had it. Where others are elsewhere, one of
    /// them may.
    pub(crate) fn owned(&self) -> Arc<dyn Fn(&str) -> bool + Send + Sync> {
        let inner = Arc::downgrade(&self.inner);
        Arc::new(move |category| {
            inner.upgrade().is_some_and(|inner| {
                if inner.elsewhere.is_some() {
                    return true;
                }
                inner.home_of(Subject::Category(category)).is_some()
            })
        })
    }

    /// Finds what a service that is to start reads of a service here that is private to that, or the
    /// other way round.
    pub(crate) fn private(&self) -> PrivateBeside {
        let inner = Arc::downgrade(&self.inner);
        Box::new(move |types| {
            let inner = inner.upgrade()?;
            let homes = inner.homes();
            let mut own = Privacy::default();
            own.keep_all(types);
            let found = homes.privacy.refuses(&types.service, types.reads());
            let found = found.or_else(|| {
                let mut others = homes.types.values();
                others.find_map(|other| own.refuses(&other.service, other.reads()))
            });
            found.map(Box::new)
        })
    }

    /// What the services here keep to themselves, and those that have been here.
    pub fn privacy(&self) -> Arc<Privacy> {
        self.inner.homes().privacy.clone()
    }

    /// Delivers between the services; [`ServiceBuilder::beside`](crate::ServiceBuilder::beside) is the usual way
    /// to it.
    pub fn port(&self) -> Arc<dyn Port> {
        Arc::new(Line(Arc::downgrade(&self.inner)))
    }

    /// Carries a request out by a service that is here, and asks nobody elsewhere.
    pub async fn call_here(&self, request: Request) -> Result<Reply, Problem> {
        self.inner.call_here(request).await
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

    /// The name of the service that has this, be it here or away for now. Whoever publishes in a category
    /// has that too, though nobody there can be asked for anything.
    pub fn home_of(&self, subject: Subject<'_>) -> Option<String> {
        self.inner.home_of(subject)
    }

    /// Who owns this.
    pub fn find(&self, subject: Subject<'_>) -> Whereabouts {
        self.inner.find(subject)
    }

    /// The service that owns the entities, the process or the saga of this category.
    pub fn owner(&self, category: &str) -> Result<Arc<Service>, SendError> {
        let subject = Subject::Category(category);
        self.find(subject).here(subject).map_err(Problem::of_send)
    }

    /// The service that has the view of this name, if it is here.
    pub fn owner_of_view(&self, view: &str) -> Option<Arc<Service>> {
        match self.find(Subject::View(view)) {
            Whereabouts::Here(service) => Some(service),
            _ => None,
        }
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
        let processes = service.processes().map(|(name, _)| name);
        for category in service.categories().chain(processes) {
            homes.categories.insert(category.to_owned(), home());
        }
        homes.types.insert(home(), service.types().clone());
        Arc::make_mut(&mut homes.privacy).keep_all(service.types());
        for (view, _) in service.views() {
            homes.views.insert(view.to_owned(), home());
        }
    }

    fn here(&self, subject: Subject<'_>) -> Option<Arc<Service>> {
        let services = self.read();
        services.values().find(|one| one.has(subject)).cloned()
    }

    fn home_of(&self, subject: Subject<'_>) -> Option<String> {
        if let Some(service) = self.here(subject) {
            return Some(service.name().to_owned());
        }
        let homes = self.homes();
        if let Some(home) = homes.home_of(subject) {
            return Some(home.clone());
        }
        let Subject::Category(category) = subject else {
            return None;
        };
        let publishes = |types: &&ServiceTypes| types.writes(category);
        let publisher = homes.types.values().find(publishes)?;
        Some(publisher.service.clone())
    }

    fn find(&self, subject: Subject<'_>) -> Whereabouts {
        if let Some(service) = self.here(subject) {
            return Whereabouts::Here(service);
        }
        let services = self.read();
        let homes = self.homes();
        if let Some(service) = homes
            .home_of(subject)
            .filter(|home| !services.contains_key(*home))
        {
            return Whereabouts::Away(service.clone());
        }
        let mut known: Vec<_> = services
            .values()
            .flat_map(|service| service.names_like(subject))
            .map(str::to_owned)
            .collect();
        known.sort_unstable();
        Whereabouts::Nowhere { known }
    }

    /// Who carries a request out.
    fn owner(&self, request: &Request) -> Result<Arc<dyn Port>, Problem> {
        let found = self.find(request.subject());
        match (&self.elsewhere, &found) {
            (Some(elsewhere), Whereabouts::Nowhere { .. }) => Ok(elsewhere.clone()),
            _ => Ok(found.here(request.subject())?),
        }
    }

    async fn call_here(&self, request: Request) -> Result<Reply, Problem> {
        let subject = request.subject();
        let owner = self.find(subject).here(subject)?;
        owner.call(request).await
    }
}

/// Has a request carried out by its owner.
fn call<'a>(
    owner: Result<Arc<dyn Port>, Problem>,
    request: Request,
) -> BoxFuture<'a, Result<Reply, Problem>> {
    match owner {
        Ok(owner) => Box::pin(async move { owner.call(request).await }),
        Err(problem) => Box::pin(ready(Err(problem))),
    }
}

impl Port for Fleet {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        call(self.inner.owner(&request), request)
    }
}

/// The way from one service to the others. It does not keep them alive.
struct Line(Weak<Inner>);

impl Port for Line {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        let inner = self.0.upgrade();
        let owner = inner.map_or_else(
            || Err(SendError::stopping().into()),
            |inner| inner.owner(&request),
        );
        call(owner, request)
    }
}

/// Where something is that one service owns.
pub enum Whereabouts {
    /// At this service, which is here.
    Here(Arc<Service>),
    /// At the service of this name, which is away; it may come back.
    Away(String),
    /// No service has had it since the fleet was made. One may still come.
    Nowhere {
        /// What of this kind there is.
        known: Vec<String>,
    },
}

impl Whereabouts {
    /// The service, or why it cannot be asked. Whoever sends may try again: it may come.
    fn here(self, subject: Subject<'_>) -> Result<Arc<Service>, Problem> {
        let (Subject::Category(name) | Subject::Process(name) | Subject::View(name)) = subject;
        let reason = match self {
            Self::Here(service) => return Ok(service),
            Self::Away(service) => {
                format!("service {service}, which has {name:?}, is away; try again")
            }
            Self::Nowhere { known } => format!(
                "no running service owns category {name:?}; there are: {}",
                known.join(", ")
            ),
        };
        Err(SendError::Unavailable {
            reason,
            retry_after: Some(AWAY),
        }
        .into())
    }
}
