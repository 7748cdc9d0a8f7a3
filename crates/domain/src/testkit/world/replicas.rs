//! Which replicas there are, and where a message goes.

use std::time::Duration;

use super::host::{Scene, Work};
use super::message::Message;
use super::service::Place;
use super::state::{Task, World};

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
