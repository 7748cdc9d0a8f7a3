//! Services of this machine that each have a directory of their own, in one that they share: there
//! each says where it is.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about directories that the user names"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anabranch::env::Env;
use anabranch::log::BoxFuture;
use anabranch_peer::Directory;
use anabranch_runtime::Time;
use anabranch_runtime::port::Subject;
use anabranch_server::Present;
use anabranch_server::client::Client;
use anabranch_wire::Service;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;

/// How long one of them may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Finds who has something by asking each once what it has.
pub struct Neighbours {
    dir: PathBuf,
    env: Env,
    time: Time,
    /// What each process has said, by its address and number.
    told: Mutex<BTreeMap<(String, u32), Vec<Service>>>,
}

impl Neighbours {
    /// Those that have a directory in `dir`.
    pub fn new(dir: PathBuf, env: Env) -> Self {
        Self {
            dir,
            time: Time::of(&env),
            env,
            told: Mutex::default(),
        }
    }

    /// Who says that it is there. One that was killed may have left its word.
    fn all(&self) -> Result<Vec<Present>, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.dir.display());
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // What is no service has no such file.
            if let Ok(Some(present)) = Present::find(&self.env, &path) {
                all.push(present);
            }
        }
        Ok(all)
    }

    /// What the service of this name answers at this path; `None` if it is not there.
    pub async fn ask<T: DeserializeOwned>(&self, name: &str, path: &str) -> Option<T> {
        let present = self.of(&self.dir.join(name))?;
        self.ask_at(&present, path).await
    }

    fn of(&self, dir: &Path) -> Option<Present> {
        Present::find(&self.env, dir).ok().flatten()
    }

    /// Where the service of this name says that it is.
    pub fn address(&self, name: &str) -> Option<String> {
        Some(self.of(&self.dir.join(name))?.url)
    }

    async fn ask_at<T: DeserializeOwned>(&self, present: &Present, path: &str) -> Option<T> {
        let client = Client::new(&present.url, self.time.clone()).ok()?;
        let client = client.of_log(present.log.clone());
        tokio::select! {
            answer = client.get(path) => {
                let answer = answer.ok().filter(|answer| answer.status.is_success())?;
                serde_json::from_slice(&answer.body).ok()
            }
            () = self.time.sleep(ANSWER_WITHIN) => None,
        }
    }

    /// What a process has; it does not change while that lives.
    async fn has(&self, present: &Present) -> Vec<Service> {
        let key = (present.url.clone(), present.pid);
        let kept = self.told().get(&key).cloned();
        if let Some(services) = kept {
            return services;
        }
        let services: Option<Vec<Service>> = self.ask_at(present, "/operate/services").await;
        match services {
            // Before its service has started it has nothing.
            Some(services) if !services.is_empty() => {
                self.told().insert(key, services.clone());
                services
            }
            _ => Vec::new(),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, u32), Vec<Service>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has(service: &Service, subject: Subject<'_>) -> bool {
    match subject {
        Subject::Category(name) => {
            let entities = service.entities.iter();
            let mut categories = entities.map(|entity| entity.category.as_str());
            categories.any(|category| category == name)
                || service.processes.iter().any(|process| process == name)
        }
        Subject::Process(name) => service.processes.iter().any(|process| process == name),
        Subject::View(name) => service.views.iter().any(|view| view == name),
    }
}

impl Directory for Neighbours {
    fn find<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            let all = self.all()?;
            let is_there = |url: &str, pid| {
                let mut all = all.iter();
                all.any(|present| present.url == url && present.pid == pid)
            };
            self.told().retain(|(url, pid), _| is_there(url, *pid));
            let asked = all.into_iter().map(|present| async move {
                let services = self.has(&present).await;
                let found = services.iter().any(|service| has(service, subject));
                found.then_some(present.url)
            });
            Ok(join_all(asked).await.into_iter().flatten().next())
        })
    }
}
