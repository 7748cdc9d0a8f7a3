use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_access::{Doors, Exposed, Listening, Reach, Transport, may_listen};
use anabranch_log::{Log, ReadError};
use anabranch_model::TokenSeal;
use anabranch_runtime::{Fleet, Time};
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Html;
use axum::routing::get;
use futures_util::future::{Either, select};
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::answer::{Answer, reply};
use crate::files::{Files, LogFiles};
use crate::keys::Keys;
use crate::policy::{Needs, Routes, Rule};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::shared::{Inner, Lanes, READERS_MAX, Shared};
use crate::{
    asyncapi, command, events, gate, guard, health, health_rpc, operate, peer, registry_rpc, rpc,
    seal, view,
};

/// The most connections at a time. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 8192;

/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How often a connection of many requests is asked whether somebody is there, and how long that
/// may take.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_WITHIN: Duration = Duration::from_secs(20);

/// How much a client may send unasked: for one request, and over one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The most requests of one connection at a time: one for each of its readers.
const STREAMS_MAX: u32 = 4096;

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
            files: None,
            doors: Doors::default(),
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

    /// Whether a server with these doors may listen at an address, of which nothing is opened. An address
    /// that is not known is no reason to refuse: binding it tells.
    pub async fn may_listen(address: &str, doors: Doors) -> Result<Listening, ServeError> {
        let Ok(mut found) = tokio::net::lookup_host(address).await else {
            return Ok(Listening::Local);
        };
        let first = found.next();
        first.map_or(Ok(Listening::Local), |first| listening(first, doors))
    }

    /// Leaves out what services of other processes ask, because there are none: nobody can answer or
    /// command here as a service then.
    #[must_use]
    pub fn without_peers(mut self) -> Self {
        self.has_peers = false;
        self
    }

    /// Binds an address of this machine, for example `127.0.0.1:0`, for a server that lets everybody in.
    pub async fn bind(address: &str) -> Result<TcpListener, ServeError> {
        Self::bind_with(address, Doors::default()).await
    }

    /// Binds an address for a server with these doors, if it may listen there.
    pub async fn bind_with(address: &str, doors: Doors) -> Result<TcpListener, ServeError> {
        let failed = |source| ServeError::Io {
            address: address.to_owned(),
            source,
        };
        let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
        let first = found
            .next()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        listening(first, doors)?;
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
        let listening = listening(address, self.doors)?;
        let keys = match self.doors.auth {
            true => {
                let keys = Keys::load(self.log.clone(), self.time.clone()).await;
                Some(keys.map_err(ServeError::Keys)?)
            }
            false => None,
        };
        let (time, patience) = (self.time.clone(), self.patience);
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS_MAX);
        let http = Arc::new(http);
        let (stop, stopping) = watch::channel(false);
        if let Some(keys) = &keys {
            tokio::spawn(keys.clone().follow(stopping.clone()));
        }
        let place = Place {
            url: format!("http://{address}"),
            listening,
            keys,
        };
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
            let heard = Arc::new(AtomicBool::new(false));
            let (hears, routes) = (heard.clone(), TowerToHyperService::new(routes.clone()));
            let service = hyper::service::service_fn(move |request| {
                hears.store(true, Ordering::Relaxed);
                routes.call(request)
            });
            // A WebSocket goes on by itself; its readers are counted as the others are.
            let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let connection = graceful.watch(connection.into_owned());
            let first_within = time.sleep(patience);
            tokio::spawn(async move {
                // Who says nothing that is a request holds a place for others no longer.
                let silent = pin!(async {
                    first_within.await;
                    if heard.load(Ordering::Relaxed) {
                        pending::<()>().await;
                    }
                });
                // Its errors are the client's: it has gone, or it has sent no HTTP.
                drop(select(pin!(connection), silent).await);
                drop(room);
            });
        }
        drop(listener);
        stop.send_replace(true);
        // Who has not been answered within the bound sees the connection end.
        let drained = Box::pin(graceful.shutdown());
        select(drained, time.sleep(DRAIN)).await;
        Ok(())
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
            keys: Some(keys),
        };
        self.routes(place, stopping)
    }

    /// Everything that it answers, and what each of it needs.
    fn routes(self, place: Place, stopping: watch::Receiver<bool>) -> (Router, Vec<Rule>) {
        let (has_log, has_peers) = (self.has_log, self.has_peers);
        let shared = Shared(Arc::new(Inner {
            limits: self.log.capabilities().limits,
            registry: Arc::new(Registry::new(
                self.log.clone(),
                self.fleet.clone(),
                self.time.clone(),
            )),
            url: place.url,
            listening: place.listening,
            keys: place.keys,
            fleet: self.fleet,
            log: self.log,
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
        true => peer::routes(),
        false => Routes::default(),
    };
    Routes::default()
        .merge(command::routes())
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
    listening: Listening,
    keys: Option<Arc<Keys>>,
}

fn listening(address: SocketAddr, doors: Doors) -> Result<Listening, ServeError> {
    let reach = match address.ip().to_canonical().is_loopback() {
        true => Reach::Loopback,
        false => Reach::Network,
    };
    let said = may_listen(&address.to_string(), reach, Transport::Plain, doors)?;
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
