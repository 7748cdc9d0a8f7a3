use std::time::Duration;

use anabranch_access::Key;
use anabranch_tls::Trust;

/// How a [`RemoteLog`](crate::RemoteLog) behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The log that is meant, by the name that its server gives it; `None`: whichever is there.
    pub log: Option<String>,
    /// What is shown to a server that asks who calls; [`Key::from_env`] finds it. `None`: nothing.
    pub key: Option<Key>,
    /// Whose certificates are believed, at an address with `https://`; `None`: as
    /// [`Trust::from_env`] says.
    pub trust: Option<Trust>,
    /// How long a server may be away before what waits for it fails; thirty seconds if nothing
    /// is said.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: None,
            key: None,
            trust: None,
            patience: Duration::from_secs(30),
        }
    }
}
