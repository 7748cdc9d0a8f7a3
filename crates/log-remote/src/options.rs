use std::time::Duration;

/// How a [`RemoteLog`](crate::RemoteLog) behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The log that is meant, by the name that its server gives it; `None`: whichever is there.
    pub log: Option<String>,
    /// How long a server may be away before what waits for it fails; thirty seconds if nothing
    /// is said.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: None,
            patience: Duration::from_secs(30),
        }
    }
}
