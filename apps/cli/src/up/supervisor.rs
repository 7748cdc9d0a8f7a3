//! Services that are kept running together.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::tls::Trust;
use anabranch_runtime::Time;
use futures_util::future::join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::asked::{Answer, Asked, Deploy, Standing};
use super::build::Build;
use super::child::Lines;
use super::keeper::{Keeper, State, Status, Wanted};
use super::plan::{Declared, Plan, Ready};

/// How long after its time a service that does not get ready is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// How long a new build runs before it has taken the place of the one before, if nothing else says that
/// it is ready.
const SOUND: Duration = Duration::from_secs(2);

/// Services that are supervised. Dropped, they are killed.
pub struct Supervisor {
    services: BTreeMap<String, Supervised>,
}

struct Supervised {
    declared: Declared,
    build: watch::Sender<Build>,
    status: watch::Receiver<Status>,
    wanted: watch::Sender<Wanted>,
    kill: mpsc::Sender<()>,
    /// Held by who changes what it does: one at a time.
    changing: tokio::sync::Mutex<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Begins to start what is declared. Who is asked whether it is ready is believed as is said here.
    pub fn start(plan: &Plan, time: &Time, lines: &Lines, trust: Option<Trust>) -> Self {
        let mut said = BTreeMap::new();
        let mut heard = BTreeMap::new();
        for name in plan.services.keys() {
            let (say, hear) = watch::channel(Status::default());
            said.insert(name.as_str(), say);
            heard.insert(name.as_str(), hear);
        }
        let mut services = BTreeMap::new();
        for (name, declared) in &plan.services {
            let Some(say) = said.remove(name.as_str()) else {
                continue;
            };
            let needs = declared.needs.iter().map(String::as_str);
            let all = plan.services.iter();
            let needed_by = all
                .filter(|(_, other)| other.needs.contains(name))
                .map(|(other, _)| other.as_str());
            let (kill, kills) = mpsc::channel(1);
            let (want, wanted) = watch::channel(Wanted::Run);
            let (build, built) = watch::channel(Build::declared(declared));
            let keeper = Keeper {
                name: name.clone(),
                declared: declared.clone(),
                build: built,
                stop_within: plan.stop_within,
                needs: status_of(&heard, needs),
                needed_by: status_of(&heard, needed_by),
                say,
                kills,
                was_struck: false,
                wanted,
                time: time.clone(),
                lines: lines.clone(),
                trust: trust.clone(),
            };
            let supervised = Supervised {
                declared: declared.clone(),
                build,
                wanted: want,
                status: heard[name.as_str()].clone(),
                kill,
                changing: tokio::sync::Mutex::default(),
                task: tokio::spawn(keeper.keep()),
            };
            services.insert(name.clone(), supervised);
        }
        Self { services }
    }

    /// How each of them stands.
    pub fn status(&self) -> impl Iterator<Item = (&str, Status)> {
        self.services
            .iter()
            .map(|(name, service)| (name.as_str(), service.status.borrow().clone()))
    }

    /// Waits until all of them are ready at a time.
    pub async fn ready(&self) {
        loop {
            for service in self.services.values() {
                // Whoever keeps it says nothing more only when everything is stopped.
                let mut status = service.status.clone();
                drop(status.wait_for(|status| status.state == State::Ready).await);
            }
            if self
                .status()
                .all(|(_, status)| status.state == State::Ready)
            {
                return;
            }
        }
    }

    /// Ends one of them as `kill -9` does, chosen by this number; it is started again. Gives its
    /// name; `None` if everything is being stopped.
    pub fn kill(&self, chosen: u128) -> Option<&str> {
        let count = self.services.len().max(1) as u128;
        let (name, service) = self.services.iter().nth((chosen % count) as usize)?;
        match service.kill.try_send(()) {
            // Who is being killed already is killed once.
            Ok(()) | Err(TrySendError::Full(())) => Some(name),
            // Everything is being stopped.
            Err(TrySendError::Closed(())) => None,
        }
    }

    /// Does what was asked from outside, and says how the services that it was about stand then.
    pub async fn asked(&self, asked: &Asked, time: &Time) -> Answer {
        let name = match asked {
            Asked::Stop(name) | Asked::Start(name) | Asked::Restart(name) => name,
            Asked::Deploy(deploy) => &deploy.service,
            Asked::Status => {
                let all = self.services.keys().map(|name| self.standing(name));
                return Answer::Stand(all.collect());
            }
        };
        let Some(service) = self.services.get(name) else {
            return Answer::Unknown(self.services.keys().cloned().collect());
        };
        // Who stops it while another build is tried stops the one that stays.
        let _one = service.changing.lock().await;
        let done = match asked {
            Asked::Stop(_) => service.rest().await,
            Asked::Restart(_) => service.rest().await && self.start_one(service, time).await,
            Asked::Deploy(deploy) => return self.deploy(deploy, service, time).await,
            _ => self.start_one(service, time).await,
        };
        if done {
            Answer::Stand(vec![self.standing(name)])
        } else {
            Answer::Ending
        }
    }

    /// Lets another build take the place of the one that runs, when that has ended in order. What is
    /// sent to the service meanwhile waits for it.
    async fn deploy(&self, deploy: &Deploy, service: &Supervised, time: &Time) -> Answer {
        let name = &deploy.service;
        let stopped: Vec<_> = self.stopped_of(&service.declared.needs).cloned().collect();
        if !stopped.is_empty() {
            return Answer::Needs(stopped);
        }
        let before = service.build.borrow().clone();
        let was_stopped = *service.wanted.borrow() == Wanted::Rest;
        let build = Build::other(&service.declared, deploy);
        if !service.rest().await {
            return Answer::Ending;
        }
        let restarts = service.status.borrow().restarts;
        service.build.send_replace(build);
        if !self.start_one(service, time).await {
            return Answer::Ending;
        }
        let is_sound = service.is_sound(restarts, time).await;
        let standing = self.standing(name);
        if is_sound {
            return Answer::Stand(vec![standing]);
        }
        let why = match standing.last_end {
            Some(end) if standing.restarts > restarts => end,
            _ if !standing.waits_for.is_empty() => {
                format!("it waits for {}", standing.waits_for.join(", "))
            }
            _ => format!("was not ready within {:?}", service.declared.ready_within),
        };
        if !service.rest().await {
            return Answer::Ending;
        }
        service.build.send_replace(before);
        match was_stopped || self.start_one(service, time).await {
            true => Answer::WentBack(why, self.standing(name)),
            false => Answer::Ending,
        }
    }

    /// Lets it run, and waits until it is ready, has failed, or waits for what is stopped. Whether that
    /// may be: not if all are being stopped.
    async fn start_one(&self, service: &Supervised, time: &Time) -> bool {
        let mut status = service.status.clone();
        let before = status.borrow().restarts;
        if !service.want(Wanted::Run) {
            return false;
        }
        let come = async {
            // One whose keeper is gone has ended, here and below.
            drop(status.wait_for(|now| now.state != State::Stopped).await);
            if self.stopped_of(&service.declared.needs).next().is_none() {
                let has_come = |now: &Status| now.state == State::Ready || now.restarts > before;
                drop(status.wait_for(has_come).await);
            }
        };
        tokio::select! {
            () = come => {}
            () = time.sleep(service.declared.ready_within + GRACE) => {}
        }
        true
    }

    /// Those of these that are stopped.
    fn stopped_of<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a String> {
        let is_stopped = |name: &&String| {
            let service = self.services.get(*name);
            service.is_some_and(|service| service.status.borrow().state == State::Stopped)
        };
        names.iter().filter(is_stopped)
    }

    fn standing(&self, name: &str) -> Standing {
        let service = self.services.get(name);
        let status = service.map(|service| service.status.borrow().clone());
        let status = status.unwrap_or_default();
        let needs = service.map_or(&[][..], |service| &service.declared.needs);
        Standing {
            service: name.to_owned(),
            state: status.state.name().to_owned(),
            process: status.pid,
            restarts: status.restarts,
            last_end: status.last_end,
            waits_for: match status.state {
                State::Waiting => self.stopped_of(needs).cloned().collect(),
                _ => Vec::new(),
            },
        }
    }

    /// Ends all of them in order: each when nobody who needs it is left.
    pub async fn stop(&self) {
        for service in self.services.values() {
            service.wanted.send_replace(Wanted::End);
        }
        let ended = self.services.values().map(|service| async {
            let mut status = service.status.clone();
            // One whose keeper is gone has ended.
            drop(
                status
                    .wait_for(|status| status.state == State::Stopped)
                    .await,
            );
        });
        join_all(ended).await;
    }
}

impl Supervised {
    /// Says what is wanted, unless all are being stopped.
    fn want(&self, wanted: Wanted) -> bool {
        let mut may_be = true;
        self.wanted.send_if_modified(|now| {
            may_be = *now != Wanted::End;
            let is_other = may_be && *now != wanted;
            if is_other {
                *now = wanted;
            }
            is_other
        });
        may_be
    }

    /// Whether it is ready and has not been started again since it was so often. What says nothing of
    /// being ready has to run for a moment.
    async fn is_sound(&self, restarts: u64, time: &Time) -> bool {
        let mut status = self.status.clone();
        let has_ended = |now: &Status| now.state != State::Ready || now.restarts > restarts;
        if self.declared.ready == Ready::AtOnce {
            tokio::select! {
                now = status.wait_for(has_ended) => drop(now),
                () = time.sleep(SOUND) => {}
            }
        }
        !has_ended(&status.borrow())
    }

    /// Ends it in order. Whether that may be: not if all are being stopped.
    async fn rest(&self) -> bool {
        let may_be = self.want(Wanted::Rest);
        if may_be {
            let mut status = self.status.clone();
            // One whose keeper is gone has ended.
            drop(status.wait_for(|now| now.state == State::Stopped).await);
        }
        may_be
    }
}

type Heard<'a> = BTreeMap<&'a str, watch::Receiver<Status>>;

fn status_of<'a>(
    heard: &Heard<'_>,
    names: impl Iterator<Item = &'a str>,
) -> Vec<watch::Receiver<Status>> {
    names.filter_map(|name| heard.get(name).cloned()).collect()
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for service in self.services.values() {
            service.task.abort();
        }
    }
}
