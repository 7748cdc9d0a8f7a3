use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Doors, Exposed, Listening, Reach, Transport, may_listen};
use anabranch_jwt::Issuer;
use anabranch_log::{Log, ReadError};
use anabranch_model::TokenSeal;
use anabranch_runtime::{Fleet, Time};
use anabranch_tls::Certificate;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Html;
use axum::routing::get;
use futures_util::future::{Either, select};
use hyper_util::server::graceful::GracefulShutdown;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::answer::{Answer, reply};
use crate::askers::{Askers, Registrations};
use crate::audit::{Audit, Reports};
use crate::entrance::{Entrance, Says, look_after};
use crate::files::{Files, LogFiles};
use crate::keys::{Keys, follow_issuer};
use crate::policy::{Needs, Routes, Rule};
use crate::rate::{REQUESTS_A_SECOND, Rates};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::shared::{Inner, Lanes, READERS_MAX, Shared};
use crate::{
    asyncapi, command, events, gate, guard, health, health_rpc, operate, peer, peer_line,
    registry_rpc, rpc, seal, together, view,
};

/// The most connections at a time. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 8192;

/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the head of a request, and then its body, may take to come, if nothing is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// When accepting is tried again that failed, for example because too many files are open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// HTTP for a fleet of services; see the crate's page for what it answers.
pub struct Server {
    fleet: Arc<Fleet>,
    log: Arc<dyn Log>,
    time: Time,
    seal: TokenSeal,
    pages: Vec<(String, String)>,
    patience: Duration,
    readers_max: usize,
    has_log: bool,
    files: Option<Arc<Files>>,
    doors: Doors,
    has_peers: bool,
    registrations: Option<Arc<dyn Registrations>>,
    reports: Option<Arc<dyn Reports>>,
    certificate: Option<Arc<Certificate>>,
    issuer: Option<Arc<Issuer>>,
    says: Says,
    requests_a_second: u32,
}

/// Why nothing is served.
#[derive(Error)]
pub enum ServeError {
    /// An address that others than this machine can reach, without what that needs.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The log does not say which keys there are.
    #[error("nobody can be let in: {0}")]
    Keys(ReadError),
    /// The address cannot be had, or accepting failed.
    #[error("cannot serve on {address}: {source}")]
    Io {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

anabranch_model::debug_is_words!(ServeError);

impl Server {
    /// A server for these services, whose events are in this log.
    pub fn new(fleet: Arc<Fleet>, log: Arc<dyn Log>, time: Time) -> Self {
        Self {
            seal: seal::passing_seal(&time),
            fleet,
            log,
            time,
            pages: Vec::new(),
            patience: PATIENCE,
            readers_max: READERS_MAX,
            has_log: true,
            has_peers: true,
            registrations: None,
            reports: None,
            files: None,
            doors: Doors::default(),
            certificate: None,
            issuer: None,
            says: Arc::new(|_| {}),
            requests_a_second: REQUESTS_A_SECOND,
        }
    }

    /// What tokens are sealed with. If nothing is said, a secret that ends with the process;
    /// [`token_key`](crate::token_key) keeps one.
    #[must_use]
    pub fn seal(mut self, seal: TokenSeal) -> Self {
        self.seal = seal;
        self
    }

    /// Shows this page of HTML at a path too, for example `/`. It stands behind the same guard:
    /// pages of other origins may not use it.
    #[must_use]
    pub fn page(mut self, path: impl Into<String>, html: impl Into<String>) -> Self {
        self.pages.push((path.into(), html.into()));
        self
    }

    /// How long the head of a request may take to come, and then its body; ten seconds if
    /// nothing is said. Who takes longer is given up, so that others are served.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many readers may follow the log by `GET /events` at a time; 2048 if nothing is said.
    /// Further ones are told to come again.
    #[must_use]
    pub fn readers_max(mut self, max: usize) -> Self {
        self.readers_max = max;
        self
    }

    /// Lets operators read the files of the log, so that it is checked and copied from elsewhere.
    #[must_use]
    pub fn files(mut self, files: LogFiles) -> Self {
        self.files = Some(Arc::new(Files::new(files)));
        self
    }

    /// Leaves out the log itself and who is registered at it, because another program serves them.
    /// A service that has registered there has to: what came in here would be appended by its
    /// lease, whoever sent it.
    #[must_use]
    pub fn without_log(mut self) -> Self {
        self.has_log = false;
        self
    }

    /// Who is let in: if nothing is said, whoever reaches a loopback address.
    #[must_use]
    pub fn doors(mut self, doors: Doors) -> Self {
        self.doors = doors;
        self
    }

    /// Lets in, beside the keys of the log, who shows a token that this issuer has signed. Of use only
    /// with [`Doors`] that ask who calls.
    #[must_use]
    pub fn issuer(mut self, issuer: Arc<Issuer>) -> Self {
        self.issuer = Some(issuer);
        self
    }

    /// How many requests of one caller are answered in a second, where callers are asked who they are;
    /// 20,000 if nothing is said, and as many of one address that show nothing that is good. Who asks for more
    /// is told when to come again. A call that goes on, such as one of many appends, is one request.
    #[must_use]
    pub fn requests_a_second(mut self, max: u32) -> Self {
        self.requests_a_second = max;
        self
    }

    /// Encrypts what is said, as the server that this certificate is for. Its files are looked at again
    /// every ten seconds, so that it can be renewed while the server runs.
    #[must_use]
    pub fn certificate(mut self, certificate: Arc<Certificate>) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Tells people what they should know while the server runs, for example that its certificate ends
    /// soon. If nothing is said, nobody is told.
    #[must_use]
    pub fn says(mut self, says: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.says = Arc::new(says);
        self
    }

    /// Whether a server with these doors may listen at an address, of which nothing is opened. An address
    /// that is not known is no reason to refuse: binding it tells.
    pub async fn may_listen(
        address: &str,
        transport: Transport,
        doors: Doors,
    ) -> Result<Listening, ServeError> {
        let Ok(mut found) = tokio::net::lookup_host(address).await else {
            return Ok(Listening::Local);
        };
        let first = found.next();
        first.map_or(Ok(Listening::Local), |first| {
            listening(first, transport, doors)
        })
    }

    /// Leaves out what services of other processes ask, because there are none: nobody can answer or
    /// command here as a service then.
    #[must_use]
    pub fn without_peers(mut self) -> Self {
        self.has_peers = false;
        self
    }

    /// Where other services register that ask those here. With [`Doors`] that ask who calls, a service is believed to be
    /// the one that it says it is if it has registered by the key that it shows.
    #[must_use]
    pub fn registrations(mut self, registrations: Arc<dyn Registrations>) -> Self {
        self.registrations = Some(registrations);
        self
    }

    /// Has what matters to security written down there, if another program serves the log. Of use only with
    /// [`Doors`] that ask who calls. What cannot be told for long is counted; nothing waits for it.
    #[must_use]
    pub fn reports(mut self, reports: Arc<dyn Reports>) -> Self {
        self.reports = Some(reports);
        self
    }

    /// Binds an address of this machine, for example `127.0.0.1:0`, for a server that lets everybody in.
    pub async fn bind(address: &str) -> Result<TcpListener, ServeError> {
        Self::bind_with(address, Transport::Plain, Doors::default()).await
    }

    /// Binds an address for a server with these doors, if it may listen there.
    pub async fn bind_with(
        address: &str,
        transport: Transport,
        doors: Doors,
    ) -> Result<TcpListener, ServeError> {
        let failed = |source| ServeError::Io {
            address: address.to_owned(),
            source,
        };
        let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
        let first = found
            .next()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        listening(first, transport, doors)?;
        TcpListener::bind(first).await.map_err(failed)
    }

    /// Answers until `until` does. Requests that are under way then have five seconds.
    pub async fn serve(
        self,
        listener: TcpListener,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let failed = |source| ServeError::Io {
            address: "the listener's address".to_owned(),
            source,
        };
        let address = listener.local_addr().map_err(failed)?;
        let transport = match self.certificate {
            Some(_) => Transport::Tls,
            None => Transport::Plain,
        };
        let listening = listening(address, transport, self.doors)?;
        let keys = match self.doors.auth {
            true => {
                let issuer = self.issuer.clone();
                let keys = Keys::load(self.log.clone(), issuer, self.time.clone()).await;
                Some(keys.map_err(ServeError::Keys)?)
            }
            false => None,
        };
        let (time, patience) = (self.time.clone(), self.patience);
        let (stop, stopping) = watch::channel(false);
        // What is done while the server stops is written down too.
        let (drain, drained) = watch::channel(false);
        if let Some(keys) = &keys {
            tokio::spawn(keys.clone().follow(stopping.clone()));
        }
        self.look_after_files(&stopping);
        let writes = self.has_log || self.reports.is_some();
        let (audit, writing) = match &keys {
            Some(_) if writes => Some(self.audit(drained)),
            _ => None,
        }
        .unzip();
        let place = Place {
            audit,
            url: match transport {
                Transport::Tls => format!("https://{address}"),
                Transport::Plain => format!("http://{address}"),
            },
            listening,
            keys,
        };
        let entrance = Arc::new(Entrance::new(patience, self.certificate.clone()));
        let (routes, _) = self.routes(place, stopping);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let mut until = Box::pin(until);
        loop {
            let next = Box::pin(async {
                let room = connections.clone().acquire_owned().await;
                (listener.accept().await, room)
            });
            let (accepted, room) = match select(next, until).await {
                Either::Left((next, still)) => {
                    until = still;
                    next
                }
                Either::Right(_) => break,
            };
            let Ok((stream, _)) = accepted else {
                // A connection that was given up again, or too many files are open for now.
                time.sleep(ACCEPT_AGAIN).await;
                continue;
            };
            // Answers do not wait for one another. Where this fails the client has gone.
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let (entrance, watcher) = (entrance.clone(), graceful.watcher());
            let (routes, time) = (routes.clone(), time.clone());
            tokio::spawn(async move {
                entrance.answer(stream, routes, watcher, time).await;
                drop(room);
            });
        }
        drop(listener);
        stop.send_replace(true);
        // Who has not been answered within the bound sees the connection end.
        let answered = Box::pin(graceful.shutdown());
        select(answered, time.sleep(DRAIN)).await;
        drain.send_replace(true);
        if let Some(writing) = writing {
            select(writing, time.sleep(DRAIN)).await;
        }
        Ok(())
    }

    /// Looks again and again at the files that may change while it runs.
    fn look_after_files(&self, stopping: &watch::Receiver<bool>) {
        let (time, says) = (&self.time, &self.says);
        if let Some(issuer) = &self.issuer {
            let (time, says) = (time.clone(), says.clone());
            tokio::spawn(follow_issuer(issuer.clone(), time, says, stopping.clone()));
        }
        if let Some(certificate) = &self.certificate {
            let (time, says) = (time.clone(), says.clone());
            tokio::spawn(look_after(
                certificate.clone(),
                time,
                says,
                stopping.clone(),
            ));
        }
    }

    /// Begins to write down who does what.
    fn audit(&self, stopping: watch::Receiver<bool>) -> (Audit, JoinHandle<()>) {
        let reports = self.reports.clone().filter(|_| !self.has_log);
        let (log, time) = (self.log.clone(), self.time.clone());
        let (audit, writing) = Audit::start(log, reports, time, stopping);
        let about = match self.certificate {
            Some(_) => "a server that encrypts",
            None => "a server that does not encrypt",
        };
        audit.tell("the server".to_owned(), "start", about, "allowed");
        (audit, writing)
    }

    /// What it answers, and what each of it needs, without a listener.
    #[cfg(test)]
    pub(crate) fn for_tests(
        self,
        keys: Arc<Keys>,
        stopping: watch::Receiver<bool>,
    ) -> (Router, Vec<Rule>) {
        let place = Place {
            url: "http://127.0.0.1:1".to_owned(),
            listening: Listening::Local,
            audit: None,
            keys: Some(keys),
        };
        self.routes(place, stopping)
    }

    /// Everything that it answers, and what each of it needs.
    fn routes(self, place: Place, stopping: watch::Receiver<bool>) -> (Router, Vec<Rule>) {
        let (has_log, has_peers) = (self.has_log, self.has_peers);
        let registry = Arc::new(Registry::new(
            self.log.clone(),
            self.fleet.clone(),
            self.time.clone(),
        ));
        let registrations = match has_log {
            true => Some(registry.clone() as _),
            false => self.registrations,
        };
        let shared = Shared(Arc::new(Inner {
            limits: self.log.capabilities().limits,
            registry,
            url: place.url,
            listening: place.listening,
            certificate: self.certificate,
            audit: place.audit,
            rates: Rates::new(self.requests_a_second),
            origins: Rates::new(self.requests_a_second),
            keys: place.keys,
            fleet: self.fleet,
            log: self.log,
            has_log,
            askers: Askers::of(registrations, self.time.clone()),
            time: self.time,
            seal: self.seal,
            files: self.files,
            body_time: self.patience,
            lanes: Lanes::with_readers(self.readers_max),
            stopping,
        }));
        if has_log {
            // From now on the leases run of which the log says that they were held. Where that
            // cannot be read yet, the first request tries again, and tells.
            let registry = shared.registry.clone();
            tokio::spawn(async move { drop(registry.ready().await) });
        }
        let (own, rules) = own(&shared, has_log, has_peers).finish();
        let mut public: Vec<_> = rules
            .iter()
            .filter(|rule| rule.needs == Needs::Public)
            .map(|rule| rule.path.clone())
            .collect();
        public.extend(self.pages.iter().map(|(path, _)| path.clone()));
        let own = own
            .layer(axum::middleware::from_fn_with_state(
                shared.clone(),
                guard::admit,
            ))
            .layer(axum::middleware::from_fn_with_state(
                shared.clone(),
                guard::same_log,
            ))
            .with_state(shared.clone());
        let pages = self.pages.into_iter();
        let pages = pages.fold(Router::new(), |pages, (path, html)| {
            pages.route(&path, get(async move || Html(html.clone())))
        });
        let all = own
            .merge(pages)
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method);
        let at_the_gate = (shared.clone(), Arc::from(public));
        let gate = axum::middleware::from_fn_with_state(at_the_gate, gate::let_in);
        let all = all.layer(gate);
        let all = all.layer(axum::middleware::from_fn_with_state(
            shared,
            guard::same_origin,
        ));
        let all = all.layer(axum::middleware::from_fn(guard::say_close));
        (all, rules)
    }
}

/// All that a server answers but its pages, and what each needs.
fn own(shared: &Shared, has_log: bool, has_peers: bool) -> Routes {
    let of_log = match has_log {
        true => rpc::routes(shared).merge(registry_rpc::routes(shared)),
        false => Routes::default(),
    };
    let of_peers = match has_peers {
        true => peer::routes().merge(peer_line::routes()),
        false => Routes::default(),
    };
    Routes::default()
        .merge(command::routes())
        .merge(together::routes())
        .merge(view::routes())
        .merge(of_peers)
        .merge(events::routes(has_log))
        .nest("/operate", operate::routes(has_log))
        .get("/openapi.json", Needs::Known, describe)
        .merge(asyncapi::routes())
        .merge(health::routes())
        .merge(health_rpc::routes(shared, has_log))
        .merge(of_log)
}

/// Where and how it serves.
struct Place {
    url: String,
    audit: Option<Audit>,
    listening: Listening,
    keys: Option<Arc<Keys>>,
}

fn listening(
    address: SocketAddr,
    transport: Transport,
    doors: Doors,
) -> Result<Listening, ServeError> {
    let reach = match address.ip().to_canonical().is_loopback() {
        true => Reach::Loopback,
        false => Reach::Network,
    };
    let said = may_listen(&address.to_string(), reach, transport, doors)?;
    Ok(said)
}

async fn describe() -> Answer {
    reply(&anabranch_wire::openapi::document())
}

async fn nothing_here(uri: Uri) -> Refusal {
    Refusal::not_found(
        "no-such-path",
        format!("there is nothing at {}", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        format!("{} does not take {method}", uri.path()),
    )
}
