use std::time::Duration;

use anabranch_model::{Cut, Event as StoredEvent};

use super::host::{
    EffectHost, EntityHost, Host, ProcessHost, Provider, SagaHost, Scene, ViewHost, Work,
};
use super::message::Message;
use super::rng::Rng;
use super::{Task, World};
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
    life: u64,
}

pub(super) struct ServiceState {
    pub name: String,
    make: Vec<MakeHost>,
    pub replicas: Vec<Replica>,
}

/// One copy of a service. Its hosts are gone while it is down.
#[derive(Default)]
pub(super) struct Replica {
    hosts: Vec<Hosted>,
    up: bool,
    /// Counts starts, so that timers of an earlier life are told apart.
    life: u64,
}

struct Hosted {
    host: Box<dyn Host>,
    /// The events it has consumed.
    cursor: Cut,
    /// Whether it is about to look for its next event.
    consuming: bool,
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

impl World {
    #[track_caller]
    pub(super) fn service_index(&self, name: &str) -> usize {
        let index = self
            .services
            .iter()
            .position(|service| service.name == name);
        index.unwrap_or_else(|| panic!("there is no service {name}"))
    }

    pub(super) fn place(&self, service: usize, replica: usize, host: usize) -> Place {
        Place {
            service,
            replica,
            host,
            life: self.services[service].replicas[replica].life,
        }
    }

    pub(super) fn is_current(&self, place: Place) -> bool {
        let replica = &self.services[place.service].replicas[place.replica];
        replica.up && replica.life == place.life
    }

    /// The service and the host for a message; hosts of a service are made in the same order in
    /// each replica, so a fresh one tells.
    pub(super) fn receiver(&self, message: &Message) -> Option<(usize, usize)> {
        self.services.iter().enumerate().find_map(|(s, service)| {
            let host = service.make.iter().position(|make| make().takes(message));
            host.map(|host| (s, host))
        })
    }

    pub(super) fn host_name(&self, place: Place) -> String {
        let hosts = &self.services[place.service].replicas[place.replica].hosts;
        hosts[place.host].host.name()
    }

    pub(super) fn describe(&self, place: Place) -> String {
        match place.replica {
            0 => self.host_name(place),
            replica => format!("{} (copy {replica})", self.host_name(place)),
        }
    }

    /// Every host that listens to events.
    pub(super) fn listeners(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (s, service) in self.services.iter().enumerate() {
            for (r, replica) in service.replicas.iter().enumerate() {
                for (h, hosted) in replica.hosts.iter().enumerate() {
                    if hosted.host.listens() {
                        places.push(self.place(s, r, h));
                    }
                }
            }
        }
        places
    }

    /// The host looks for its next event, soon.
    pub(super) fn consume_later(&mut self, place: Place) {
        if !self.services[place.service].consuming(place, true) {
            let micros = u64::try_from(self.faults.delay_max.as_micros()).unwrap_or(u64::MAX);
            let after = Duration::from_micros(self.rng.below(micros));
            self.put(after, Task::Consume(place));
        }
    }

    pub(super) fn recover_host(&mut self, place: Place) -> Vec<Work> {
        let scene = Scene {
            log: &self.log,
            now: self.now,
            rules: self.rules,
        };
        match self.services[place.service].host(place) {
            None => Vec::new(),
            Some(host) => match host.recover(&scene) {
                Ok(works) => works,
                Err(error) => panic!("{}: {error}", host.name()),
            },
        }
    }
}
