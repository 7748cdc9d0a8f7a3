//! Faults on demand.

use std::time::Duration;

use anabranch_model::Cut;

use super::message::Message;
use super::plans::{CrashPlan, CrashPoint, DropPlan, Hold, HoldId};
use super::service::{Place, Service, ServiceState};
use super::state::{Task, World};

/// How long a message takes when nothing is wrong.
const LATENCY: Duration = Duration::from_millis(1);

impl World {
    /// The next so many messages that match are lost.
    pub fn drop_next(&mut self, count: u32, matches: impl Fn(&Message) -> bool + 'static) {
        self.drops.push(DropPlan {
            matches: Box::new(matches),
            left: count,
        });
    }

    /// Messages that match are kept back until they are released.
    pub fn hold(&mut self, matches: impl Fn(&Message) -> bool + 'static) -> HoldId {
        self.holds.push(Hold {
            matches: Box::new(matches),
            kept: Vec::new(),
            open: true,
        });
        HoldId(self.holds.len() - 1)
    }

    /// Messages that were kept back go on their way, and no more are kept. Says how many.
    pub fn release(&mut self, hold: HoldId) -> usize {
        let hold = &mut self.holds[hold.0];
        hold.open = false;
        let kept = std::mem::take(&mut hold.kept);
        let count = kept.len();
        for message in kept {
            self.put(LATENCY, Task::Deliver(message));
        }
        count
    }

    /// Puts a message on its way.
    pub(super) fn post(&mut self, message: Message) {
        if let Some(plan) = self
            .drops
            .iter_mut()
            .find(|plan| plan.left > 0 && (plan.matches)(&message))
        {
            plan.left -= 1;
            self.note(format!("lost: {message}"));
            return;
        }
        let hold = self
            .holds
            .iter_mut()
            .find(|h| h.open && (h.matches)(&message));
        if let Some(hold) = hold {
            hold.kept.push(message.clone());
            self.note(format!("kept back: {message}"));
            return;
        }
        if self.rng.percent(self.faults.drop_percent) {
            self.note(format!("lost: {message}"));
            return;
        }
        if self.rng.percent(self.faults.duplicate_percent) {
            let after = self.latency();
            self.put(after, Task::Deliver(message.clone()));
        }
        let after = self.latency();
        self.put(after, Task::Deliver(message));
    }

    fn latency(&mut self) -> Duration {
        let micros = u64::try_from(self.faults.delay_max.as_micros()).unwrap_or(u64::MAX);
        LATENCY + Duration::from_micros(self.rng.below(micros))
    }

    /// The next time that `service` writes an event of type `event`, it crashes there, and
    /// stays down until [`World::restart`].
    pub fn crash_at(&mut self, service: &str, point: CrashPoint, event: &str) {
        self.crashes.push(CrashPlan {
            service: service.to_owned(),
            point,
            event: event.to_owned(),
        });
    }

    /// A service stops at once and loses what it holds in memory.
    #[track_caller]
    pub fn crash(&mut self, service: &str) {
        let index = self.service_index(service);
        for replica in 0..self.services[index].replicas.len() {
            self.crash_replica(index, replica);
        }
    }

    /// One replica of a service stops; see [`World::add_replica`].
    #[track_caller]
    pub fn crash_only(&mut self, service: &str, replica: usize) {
        let index = self.service_index(service);
        self.crash_replica(index, replica);
    }

    /// A service starts again, with what is in the log.
    #[track_caller]
    pub fn restart(&mut self, service: &str) {
        let index = self.service_index(service);
        for replica in 0..self.services[index].replicas.len() {
            if self.services[index].replicas[replica].is_down() {
                self.start_replica(index, replica);
            }
        }
    }

    /// Another version of a service takes the place of the one with the same name.
    #[track_caller]
    pub fn deploy(&mut self, service: Service) {
        let name = ServiceState::name_of(&service).to_owned();
        self.crash(&name);
        let index = self.service_index(&name);
        self.services[index].replace(service);
        self.restart(&name);
    }

    /// From now on the log has so many new partitions in place of those it had: streams go on in
    /// them, and what they hold depends on all that was written before.
    pub fn reshard(&mut self, partitions: u32) {
        self.log.reshard(partitions);
        self.note(format!("the log has {partitions} new partitions"));
    }

    /// A second copy of a service takes up its work, and does not know of the first: a network
    /// that is cut in two, or a node that came back. Messages reach one of the copies, at
    /// random. Gives the number of the copy.
    #[track_caller]
    pub fn add_replica(&mut self, service: &str) -> usize {
        let index = self.service_index(service);
        let replica = self.services[index].add_replica();
        self.start_replica(index, replica);
        replica
    }

    /// A view does not get the events of this partition until [`World::resume_view`].
    pub fn slow_view(&mut self, view: &str, partition: u32) {
        self.slow.insert((format!("view {view}"), partition));
    }

    /// A view gets the events of all partitions again.
    pub fn resume_view(&mut self, view: &str) {
        let name = format!("view {view}");
        self.slow.retain(|(slow, _)| *slow != name);
        for place in self.listeners() {
            self.consume_later(place);
        }
    }

    /// Whether a crash strikes here; if so, it has.
    pub(super) fn crashes_at(
        &mut self,
        place: Place,
        point: CrashPoint,
        events: &[String],
    ) -> bool {
        let service = &self.services[place.service].name;
        let planned = self.crashes.iter().position(|plan| {
            plan.service == *service && plan.point == point && events.contains(&plan.event)
        });
        if let Some(planned) = planned {
            self.crashes.remove(planned);
            self.crash_replica(place.service, place.replica);
            return true;
        }
        if self.rng.percent(self.faults.crash_percent) {
            self.crash_replica(place.service, place.replica);
            let micros = u64::try_from(self.faults.down_max.as_micros()).unwrap_or(u64::MAX);
            let down = Duration::from_micros(self.rng.below(micros));
            self.put(down, Task::Restart(place.service, place.replica));
            return true;
        }
        false
    }

    fn crash_replica(&mut self, service: usize, replica: usize) {
        let name = self.services[service].name.clone();
        if self.services[service].replicas[replica].stop() {
            self.note(format!("{name} {replica} crashes"));
            // Another copy takes over what was under way.
            if let Some(other) = self.services[service].first_up() {
                self.recover_replica(service, other);
            }
        }
    }

    pub(super) fn start_replica(&mut self, service: usize, replica: usize) {
        let name = self.services[service].name.clone();
        self.note(format!("{name} {replica} starts"));
        self.services[service].start(replica);
        self.recover_replica(service, replica);
        for place in self.listeners() {
            self.consume_later(place);
        }
    }

    fn recover_replica(&mut self, service: usize, replica: usize) {
        for host in 0..self.services[service].host_count() {
            let place = self.place(service, replica, host);
            let works = self.recover_host(place);
            for work in works {
                self.perform(place, work);
                if !self.is_current(place) {
                    return;
                }
            }
        }
    }

    /// Every event that there is.
    pub fn head(&self) -> Cut {
        self.log.head()
    }
}
