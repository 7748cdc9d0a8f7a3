//! Services of this machine that each have a directory of their own, in one that they share: there
//! each says where it is.

use std::path::PathBuf;
use std::time::Duration;

use anabranch::access::Key;
use anabranch::env::Env;
use anabranch::tls::Trust;
use anabranch_runtime::Time;
use anabranch_server::Present;
use anabranch_server::client::Client;
use serde::de::DeserializeOwned;

/// How long one of them may take to say something.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Asks each of them by its name.
pub struct Neighbours {
    dir: PathBuf,
    /// What they are shown.
    key: Option<Key>,
    /// Whose certificates are believed.
    trust: Option<Trust>,
    env: Env,
    time: Time,
}

impl Neighbours {
    /// Those that have a directory in `dir`.
    pub fn new(dir: PathBuf, (key, trust): (Option<Key>, Option<Trust>), env: Env) -> Self {
        Self {
            dir,
            key,
            trust,
            time: Time::of(&env),
            env,
        }
    }

    fn of(&self, name: &str) -> Option<Present> {
        let found = Present::find(&self.env, &self.dir.join(name));
        found.ok().flatten()
    }

    /// Where the service of this name says that it is. One that was killed may have left its word.
    pub fn address(&self, name: &str) -> Option<String> {
        Some(self.of(name)?.url)
    }

    /// What the service of this name answers at this path; `None` if it is not there.
    pub async fn ask<T: DeserializeOwned>(&self, name: &str, path: &str) -> Option<T> {
        let present = self.of(name)?;
        let client = Client::new(&present.url, self.time.clone()).ok()?;
        let client = client.of_log(present.log).with_key(self.key.clone());
        let client = client.with_trust(self.trust.clone());
        tokio::select! {
            answer = client.get(path) => {
                let answer = answer.ok().filter(|answer| answer.status.is_success())?;
                serde_json::from_slice(&answer.body).ok()
            }
            () = self.time.sleep(ANSWER_WITHIN) => None,
        }
    }
}
