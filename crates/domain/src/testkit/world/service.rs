use anabranch_model::{Cut, Event as StoredEvent};

use super::host::{EffectHost, EntityHost, Host, ProcessHost, Provider, SagaHost, ViewHost};
use super::rng::Rng;
use crate::effect::Effect;
use crate::entity::Entity;
use crate::process::Process;
use crate::saga::{Rules, Saga};
use crate::view::View;

type MakeHost = Box<dyn Fn() -> Box<dyn Host>>;

/// A service: the entities, views, processes, sagas and effects that it owns. It crashes and
/// starts again as a whole.
pub struct Service {
    name: String,
    hosts: Vec<MakeHost>,
}

impl Service {
    /// A service that owns nothing.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hosts: Vec::new(),
        }
    }

    /// It owns these entities.
    #[must_use]
    pub fn entity<E: Entity>(self) -> Self {
        self.host(|| Box::new(EntityHost::<E>::new()))
    }

    /// It owns this view, whose store is a value in memory.
    #[must_use]
    pub fn view<V: View<Store: Default + 'static>>(self) -> Self {
        self.host(|| Box::new(ViewHost::<V>::new()))
    }

    /// It owns this process.
    #[must_use]
    pub fn process<P: Process>(self) -> Self {
        self.host(|| Box::new(ProcessHost::<P>::new()))
    }

    /// It owns this saga.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self.host(|| Box::new(SagaHost::new::<S>()))
    }

    /// It calls this third party.
    #[must_use]
    pub fn effect<F: Effect>(self, provider: &Provider<F>) -> Self {
        let provider = provider.clone();
        self.host(move || {
            Box::new(EffectHost {
                provider: provider.clone(),
            })
        })
    }

    fn host(mut self, make: impl Fn() -> Box<dyn Host> + 'static) -> Self {
        self.hosts.push(Box::new(make));
        self
    }
}

/// A host in one life of a replica of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub service: usize,
    pub replica: usize,
    pub host: usize,
    pub life: u64,
}

pub(super) struct ServiceState {
    pub name: String,
    pub make: Vec<MakeHost>,
    pub replicas: Vec<Replica>,
}

/// One copy of a service. Its hosts are gone while it is down.
#[derive(Default)]
pub(super) struct Replica {
    pub hosts: Vec<Hosted>,
    pub up: bool,
    /// Counts starts, so that timers of an earlier life are told apart.
    pub life: u64,
}

pub(super) struct Hosted {
    pub host: Box<dyn Host>,
    /// The events it has consumed.
    pub cursor: Cut,
    /// Whether it is about to look for its next event.
    pub consuming: bool,
}

impl Replica {
    pub(super) fn is_down(&self) -> bool {
        !self.up
    }

    /// Whether it was up.
    pub(super) fn stop(&mut self) -> bool {
        self.hosts.clear();
        self.life += 1;
        std::mem::take(&mut self.up)
    }
}

impl ServiceState {
    pub(super) fn new(service: Service) -> Self {
        Self {
            name: service.name,
            make: service.hosts,
            replicas: vec![Replica::default()],
        }
    }

    /// Takes another version of the service in its place; nothing runs until it is started.
    pub(super) fn replace(&mut self, service: Service) {
        self.make = service.hosts;
    }

    pub(super) fn name_of(service: &Service) -> &str {
        &service.name
    }

    pub(super) fn add_replica(&mut self) -> usize {
        self.replicas.push(Replica::default());
        self.replicas.len() - 1
    }

    pub(super) fn start(&mut self, replica: usize) {
        let hosts = self.make.iter().map(|make| Hosted {
            host: make(),
            cursor: Cut::start(),
            consuming: false,
        });
        let replica = &mut self.replicas[replica];
        replica.hosts = hosts.collect();
        replica.up = true;
        replica.life += 1;
    }

    pub(super) fn host_count(&self) -> usize {
        self.make.len()
    }

    /// A replica that is up; any of them, if there are several.
    pub(super) fn choose(&self, rng: &mut Rng) -> Option<usize> {
        let up: Vec<usize> = (0..self.replicas.len())
            .filter(|&i| self.replicas[i].up)
            .collect();
        match up.len() {
            0 => None,
            1 => Some(up[0]),
            n => Some(up[rng.below(n as u64) as usize]),
        }
    }

    pub(super) fn first_up(&self) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.up)
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &dyn Host> {
        let replicas = self.replicas.iter();
        replicas.flat_map(|replica| replica.hosts.iter().map(|hosted| &*hosted.host))
    }

    fn hosted(&mut self, place: Place) -> Option<&mut Hosted> {
        let replica = &mut self.replicas[place.replica];
        let current = replica.up && replica.life == place.life;
        replica.hosts.get_mut(place.host).filter(|_| current)
    }

    pub(super) fn host(&mut self, place: Place) -> Option<&mut dyn Host> {
        match self.hosted(place) {
            Some(hosted) => Some(&mut *hosted.host),
            None => None,
        }
    }

    pub(super) fn cursor(&self, place: Place) -> &Cut {
        &self.replicas[place.replica].hosts[place.host].cursor
    }

    pub(super) fn advance(&mut self, place: Place, seen: &Cut) {
        if let Some(hosted) = self.hosted(place) {
            hosted.cursor.join(seen);
        }
    }

    pub(super) fn is_ready(
        &self,
        place: Place,
        event: &StoredEvent,
        cursor: &Cut,
        rules: Rules,
    ) -> bool {
        let hosts = &self.replicas[place.replica].hosts;
        hosts[place.host].host.ready(event, cursor, rules)
    }

    /// Marks whether a host is about to look for its next event; gives what was marked.
    pub(super) fn consuming(&mut self, place: Place, consuming: bool) -> bool {
        match self.hosted(place) {
            Some(hosted) => std::mem::replace(&mut hosted.consuming, consuming),
            None => true,
        }
    }
}
