//! The services on a log: registering one, and finding others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anabranch_access::Act;
use anabranch_env::Env;
use anabranch_rpc::registry as r;
use anabranch_rpc::registry::__buffa::oneof::find_request::Subject;
use connectrpc::{ConnectError, ErrorCode};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::connection::{Again, Connection, Lost, RegistryClient};
use crate::leases::Leases;

/// The services that have registered on a log; [`RemoteLog::registry`](crate::RemoteLog::registry)
/// gives it. Cheap to clone. It ends with the log.
#[derive(Clone)]
pub struct Registry {
    connection: Connection,
    handle: Handle,
    leases: Leases,
}

/// What a service says of itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// Its name: one to 200 of the characters A-Z a-z 0-9 . _ : -
    pub name: String,
    /// Where it is asked, such as `http://127.0.0.1:4077`; empty: it is not to be asked.
    pub address: String,
    /// The program that runs it, for people.
    pub program: String,
    /// The version of that program, for people.
    pub version: String,
    /// The categories that it alone appends to: its entities, processes and sagas.
    pub owns: Vec<String>,
    /// The views that it answers.
    pub views: Vec<String>,
    /// The categories of other services that it follows.
    pub reads: Vec<String>,
    /// The categories of other services that it sends commands to.
    pub sends: Vec<String>,
    /// Of what it owns, what it keeps to itself: it reads that by its lease, operators do, and nobody else. With
    /// each category go the types of events in it that others may read all the same.
    pub private: BTreeMap<String, BTreeSet<String>>,
    /// The secret of the lease, of 32 to 128 of the characters A-Z a-z 0-9 . _ - ; `None`: one is
    /// made. With that of the lease before, the service takes over from itself at once, for
    /// example when its process was killed and started again.
    pub secret: Option<String>,
    /// How long the lease lasts when it is not renewed: half a second to five minutes; `None`: ten
    /// seconds.
    pub lease_time: Option<Duration>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything but the secret.
        f.debug_struct("Registration")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("owns", &self.owns)
            .field("views", &self.views)
            .finish_non_exhaustive()
    }
}

/// Why a service was not registered or found. Nothing was changed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another service, or another process of the same one, holds what was claimed; it says who,
    /// and for how long.
    Held(String),
    /// The server refuses, and would again.
    Refused(String),
    /// Nobody has answered for as long as the patience lasts.
    Unavailable(String),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Held(words) | Self::Refused(words) | Self::Unavailable(words)) = self;
        f.write_str(words)
    }
}

impl std::error::Error for RegistryError {}

anabranch_model::debug_is_words!(RegistryError);

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// The service that owns this category.
    Category(String),
    /// The service that answers this view.
    View(String),
    /// The service of this name.
    Service(String),
}

/// A service that has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it says of itself; never its secret.
    pub service: Registration,
    /// The id of the key by which it has registered; `None`: the server asks nobody for one.
    pub key: Option<String>,
    /// The number of its newest lease.
    pub lease: u64,
    /// Whether it is there.
    pub presence: Presence,
}

/// Whether a service is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is, and has promised to say so again within this time.
    Here(Duration),
    /// It has not said so in time. It may come back.
    Expired,
    /// It has ended in order.
    Released,
    /// This service has claimed what it owned.
    Taken(String),
}

/// How a lease is, as far as is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// It was renewed in time.
    Held,
    /// It could not be renewed the last time, and why. It is tried again.
    Unsure(String),
    /// It is lost for good, and why: what is appended by it is refused. Stop, or register again.
    Lost(String),
}

/// A lease that is held: it renews itself, and what the log's program appends carries it.
///
/// Dropped, it is released if the connection lasts long enough; [`Lease::release`] makes sure.
pub struct Lease {
    registry: Registry,
    /// By which number appends carry it.
    carried: u64,
    token: String,
    secret: String,
    token_key: String,
    number: u64,
    state: watch::Receiver<LeaseState>,
    /// Dropped, the renewing ends.
    _renewing: oneshot::Sender<()>,
    is_released: bool,
}

/// The most acts of a report.
const ACTS_MAX: usize = 256;

impl Registry {
    pub(crate) fn new(connection: Connection, handle: Handle, leases: Leases) -> Self {
        Self {
            connection,
            handle,
            leases,
        }
    }

    /// Registers a service: from then on it alone appends to what it owns, by this log, for as long
    /// as the lease is kept.
    pub async fn register(&self, registration: Registration) -> Result<Lease, RegistryError> {
        // One of our own: so a registration whose answer was lost is repeated as the same.
        let secret = registration.secret.clone().unwrap_or_else(|| {
            let rng = Env::os().rng;
            format!("{:032x}{:032x}", rng.next_u128(), rng.next_u128())
        });
        let request = r::RegisterRequest {
            lease_ms: registration
                .lease_time
                .map_or(0, |time| time.as_millis() as u64),
            secret: secret.clone(),
            service: buffa::MessageField::some(service_to(registration)),
            ..Default::default()
        };
        let answer = self.ask(move |client| {
            let request = request.clone();
            async move { Ok(client.register_service(request).await?.into_owned()) }
        });
        let lease = answer.await?.lease.into_option().unwrap_or_default();
        let (state, watched) = watch::channel(LeaseState::Held);
        let (renewing, stopped) = oneshot::channel();
        let renewer = Renewer {
            connection: self.connection.clone(),
            token: lease.token.clone(),
            state,
        };
        let lasts = Duration::from_millis(lease.expires_in_ms);
        self.handle.spawn(async move {
            tokio::select! {
                () = renewer.run(lasts) => {}
                // Nothing is ever sent: that it is dropped is the end.
                _ = stopped => {}
            }
        });
        Ok(Lease {
            carried: self.leases.add(lease.token.clone()),
            registry: self.clone(),
            token: lease.token,
            secret,
            token_key: lease.token_key,
            number: lease.id,
            state: watched,
            _renewing: renewing,
            is_released: false,
        })
    }

    /// The service that has something; `None` if none has registered it.
    pub async fn find(&self, sought: Sought) -> Result<Option<Found>, RegistryError> {
        let subject = match sought {
            Sought::Category(category) => Subject::Category(category),
            Sought::View(view) => Subject::View(view),
            Sought::Service(service) => Subject::Service(service),
        };
        let request = r::FindRequest {
            subject: Some(subject),
            ..Default::default()
        };
        let answer = self.ask(move |client| {
            let request = request.clone();
            async move { Ok(client.find(request).await?.into_owned()) }
        });
        Ok(answer.await?.registered.into_option().map(found_of))
    }

    /// All services that have registered, by name.
    pub async fn list(&self) -> Result<Vec<Found>, RegistryError> {
        let answer = self.ask(|client| async move {
            let answer = client.list(r::ListRequest::default()).await?;
            Ok(answer.into_owned())
        });
        Ok(answer.await?.services.into_iter().map(found_of).collect())
    }

    /// Has the server write down who did what at the services that have registered by this log, each so many times:
    /// in the audit, if it has one. Told again, acts stand there twice.
    pub async fn report(&self, acts: Vec<(Act, u64)>) -> Result<(), RegistryError> {
        let acts = acts.into_iter().map(|(act, times)| r::Act {
            who: act.who,
            did: act.did,
            about: act.about,
            result: act.result,
            times,
            ..Default::default()
        });
        let acts: Vec<_> = acts.collect();
        for part in acts.chunks(ACTS_MAX) {
            let request = r::ReportRequest {
                acts: part.to_vec(),
                ..Default::default()
            };
            let leases = self.leases.clone();
            let told = self.ask(move |client| {
                let (request, shown) = (request.clone(), leases.options());
                async move { client.report_with_options(request, shown).await.map(drop) }
            });
            told.await?;
        }
        Ok(())
    }

    /// Asks on the thread of the network, again while nobody answers.
    async fn ask<T, F>(
        &self,
        call: impl Fn(RegistryClient) -> F + Send + 'static,
    ) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConnectError>> + Send + 'static,
    {
        let connection = self.connection.clone();
        let asked = self.handle.spawn(async move {
            let mut again = Again::new(connection.patience());
            loop {
                let error = match call(connection.registry().clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match Lost::of(&error) {
                    Lost::Connection(_) if again.wait().await => {}
                    Lost::Connection(reason) => {
                        return Err(RegistryError::Unavailable(connection.gone(&reason)));
                    }
                    _ if error.code == ErrorCode::AlreadyExists => {
                        return Err(RegistryError::Held(words(&error)));
                    }
                    _ => return Err(RegistryError::Refused(words(&error))),
                }
            }
        });
        // The thread ends with the log.
        let closed = |_| RegistryError::Unavailable("the log was closed".to_owned());
        asked.await.map_err(closed)?
    }
}

/// What the server says, without its code.
fn words(error: &ConnectError) -> String {
    error.message.clone().unwrap_or_else(|| error.to_string())
}

impl Lease {
    /// Its number: larger with each lease of the service.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its secret, for the next time that the service registers. Keep it to yourself.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What tokens of this log are sealed with, for `anabranch_server::shared_seal`; empty if the
    /// server shares nothing. Keep it to yourself.
    pub fn token_key(&self) -> &str {
        &self.token_key
    }

    /// How it is.
    pub fn state(&self) -> LeaseState {
        self.state.borrow().clone()
    }

    /// Waits until it is lost, and says why. A service that goes on then is refused everything.
    pub async fn lost(&self) -> String {
        let mut state = self.state.clone();
        let is_lost = |state: &LeaseState| matches!(state, LeaseState::Lost(_));
        match state.wait_for(is_lost).await {
            Ok(state) => match &*state {
                LeaseState::Lost(why) => why.clone(),
                LeaseState::Held | LeaseState::Unsure(_) => String::new(),
            },
            // The thread ends with the log.
            Err(_) => "the log was closed".to_owned(),
        }
    }

    /// Ends it: whoever follows need not wait. What it owned stays the service's.
    pub async fn release(self) -> Result<(), RegistryError> {
        self.end(false).await
    }

    /// Ends it, and what it owned has no owner any more.
    pub async fn give_up(self) -> Result<(), RegistryError> {
        self.end(true).await
    }

    async fn end(mut self, give_up: bool) -> Result<(), RegistryError> {
        self.is_released = true;
        // What is read on by other leases does not show one that has ended.
        self.registry.leases.remove(self.carried);
        let request = self.request(give_up);
        let ended = self.registry.ask(move |client| {
            let request = request.clone();
            async move { client.release(request).await.map(|_| ()) }
        });
        ended.await
    }

    fn request(&self, give_up: bool) -> r::ReleaseRequest {
        r::ReleaseRequest {
            lease: self.token.clone(),
            give_up,
            ..Default::default()
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.registry.leases.remove(self.carried);
        if !self.is_released {
            let request = self.request(false);
            let client = self.registry.connection.registry().clone();
            self.registry.handle.spawn(async move {
                // Whoever drops it does not hear that it failed; then it ends by itself.
                drop(client.release(request).await);
            });
        }
    }
}

/// Renews a lease until it is lost.
struct Renewer {
    connection: Connection,
    token: String,
    state: watch::Sender<LeaseState>,
}

impl Renewer {
    #[expect(
        clippy::disallowed_methods,
        reason = "the server counts the time of a lease in real time"
    )]
    async fn run(self, mut lasts: Duration) {
        let mut wait = lasts / 3;
        loop {
            tokio::time::sleep(wait).await;
            let request = r::RenewRequest {
                lease: self.token.clone(),
                ..Default::default()
            };
            match self.connection.registry().renew(request).await {
                Ok(renewed) => {
                    lasts = Duration::from_millis(renewed.into_owned().expires_in_ms);
                    wait = lasts / 3;
                    self.state.send_replace(LeaseState::Held);
                }
                Err(error) => match Lost::of(&error) {
                    Lost::Connection(reason) => {
                        wait = lasts / 10;
                        self.state.send_replace(LeaseState::Unsure(reason));
                    }
                    Lost::Refused(_) | Lost::Unsupported(_) => {
                        self.state.send_replace(LeaseState::Lost(words(&error)));
                        return;
                    }
                },
            }
        }
    }
}

fn service_to(of: Registration) -> r::Service {
    r::Service {
        name: of.name,
        address: of.address,
        program: of.program,
        version: of.version,
        owns: of.owns,
        views: of.views,
        reads: of.reads,
        sends: of.sends,
        private: of.private.into_iter().map(private_to).collect(),
        ..Default::default()
    }
}

fn private_to((category, open): (String, BTreeSet<String>)) -> r::Private {
    r::Private {
        category,
        open_types: open.into_iter().collect(),
        ..Default::default()
    }
}

fn found_of(message: r::Registered) -> Found {
    let service = message.service.into_option().unwrap_or_default();
    Found {
        service: Registration {
            name: service.name,
            address: service.address,
            program: service.program,
            version: service.version,
            owns: service.owns,
            views: service.views,
            reads: service.reads,
            sends: service.sends,
            private: service
                .private
                .into_iter()
                .map(|one| (one.category, one.open_types.into_iter().collect()))
                .collect(),
            secret: None,
            lease_time: None,
        },
        key: Some(message.key).filter(|key| !key.is_empty()),
        lease: message.lease,
        presence: match message.state.as_known() {
            Some(r::LeaseState::LEASE_STATE_HELD) => {
                Presence::Here(Duration::from_millis(message.expires_in_ms))
            }
            Some(r::LeaseState::LEASE_STATE_RELEASED) => Presence::Released,
            Some(r::LeaseState::LEASE_STATE_TAKEN) => Presence::Taken(message.taken_by),
            _ => Presence::Expired,
        },
    }
}
