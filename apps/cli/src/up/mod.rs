//! Supervises a small declared set of services: starts each when what it needs is ready, starts it
//! again when it ends, and ends all of them in order.

mod child;
mod keeper;
pub mod plan;
pub mod systemd;

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_runtime::Time;
use futures_util::future::join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use child::Lines;
use keeper::Keeper;
pub use keeper::{State, Status};
use plan::Plan;

/// Services that are supervised. Dropped, they are killed.
pub struct Supervisor {
    services: BTreeMap<String, Supervised>,
    stop: watch::Sender<bool>,
}

struct Supervised {
    status: watch::Receiver<Status>,
    kill: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Begins to start what is declared.
    pub fn start(plan: &Plan, time: &Time, lines: &Lines) -> Self {
        let (stop, stopping) = watch::channel(false);
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
            let keeper = Keeper {
                name: name.clone(),
                declared: declared.clone(),
                stop_within: plan.stop_within,
                needs: status_of(&heard, needs),
                needed_by: status_of(&heard, needed_by),
                say,
                kills,
                stopping: stopping.clone(),
                time: time.clone(),
                lines: lines.clone(),
            };
            let supervised = Supervised {
                status: heard[name.as_str()].clone(),
                kill,
                task: tokio::spawn(keeper.keep()),
            };
            services.insert(name.clone(), supervised);
        }
        Self { services, stop }
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

    /// Ends all of them in order: each when nobody who needs it is left.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
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

/// Writes each line on the standard error, with the service's name before it.
pub fn on_stderr(plan: &Plan) -> Lines {
    let width = plan.services.keys().map(String::len).max().unwrap_or(0);
    Arc::new(move |name: &str, line: &str| {
        crate::output::note(&format!("{name:width$} | {line}"));
    })
}
