use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anabranch_log::Log;
use anabranch_model::{Limits, TokenSeal};
use anabranch_runtime::{Fleet, Time};
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use futures_util::future::{Either, FutureExt as _, select};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::problem::Problem;
use crate::{command, guard, operate, token, view};

/// The most requests that are answered at a time.
const REQUESTS_MAX: usize = 512;

/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// HTTP for a fleet of services; see the crate's page for what it answers.
pub struct Server {
    fleet: Arc<Fleet>,
    log: Arc<dyn Log>,
    time: Time,
    seal: TokenSeal,
    others: Router,
}

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address that others than this machine can reach.
    #[error(
        "{0} can be reached from other machines, and this server neither encrypts nor asks who somebody is; bind a loopback address such as 127.0.0.1, and put a proxy that does both before it"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had, or accepting failed.
    #[error("cannot serve on {address}: {source}")]
    Io {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Server {
    /// A server for these services, whose events are in this log.
    pub fn new(fleet: Arc<Fleet>, log: Arc<dyn Log>, time: Time) -> Self {
        Self {
            seal: token::passing_seal(&time),
            fleet,
            log,
            time,
            others: Router::new(),
        }
    }

    /// What tokens are sealed with. If nothing is said, a secret that ends with the process;
    /// [`token_key`](crate::token_key) keeps one.
    #[must_use]
    pub fn seal(mut self, seal: TokenSeal) -> Self {
        self.seal = seal;
        self
    }

    /// Answers these paths too, for example `/`. They stand behind the same guard: pages of
    /// other origins may not use them.
    #[must_use]
    pub fn merge(mut self, others: Router) -> Self {
        self.others = self.others.merge(others);
        self
    }

    /// Binds an address of this machine, for example `127.0.0.1:0`.
    pub async fn bind(address: &str) -> Result<TcpListener, ServeError> {
        let failed = |source| ServeError::Io {
            address: address.to_owned(),
            source,
        };
        let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
        let first = found
            .next()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        if !first.ip().is_loopback() {
            return Err(ServeError::NotLoopback(first));
        }
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
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let time = self.time.clone();
        let (stop, mut stopping) = watch::channel(false);
        let stopped = until.map(move |()| {
            stop.send_replace(true);
        });
        let serving = axum::serve(listener, self.router()).with_graceful_shutdown(stopped);
        let drained = async move {
            // Fails when the server has ended, and then nobody waits for this.
            if stopping.wait_for(|&stop| stop).await.is_ok() {
                time.sleep(DRAIN).await;
            } else {
                std::future::pending().await
            }
        };
        match select(Box::pin(serving.into_future()), Box::pin(drained)).await {
            Either::Left((served, _)) => served.map_err(|source| ServeError::Io {
                address: address.to_string(),
                source,
            }),
            // Who has not been answered within the bound sees the connection end.
            Either::Right(((), _)) => Ok(()),
        }
    }

    /// Everything that it answers, to be served by other means.
    pub fn router(self) -> Router {
        let shared = Shared(Arc::new(Inner {
            limits: self.log.capabilities().limits,
            fleet: self.fleet,
            log: self.log,
            time: self.time,
            seal: self.seal,
            admission: Semaphore::new(REQUESTS_MAX),
        }));
        let own = Router::new()
            .merge(command::routes())
            .merge(view::routes())
            .nest("/operate", operate::routes())
            .layer(axum::middleware::from_fn_with_state(
                shared.clone(),
                guard::admit,
            ))
            .with_state(shared);
        own.merge(self.others)
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method)
            .layer(axum::middleware::from_fn(guard::same_origin))
    }
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::not_found(
        "no-such-path",
        format!("there is nothing at {}", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        format!("{} does not take {method}", uri.path()),
    )
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

pub(crate) struct Inner {
    pub fleet: Arc<Fleet>,
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub seal: TokenSeal,
    pub limits: Limits,
    pub admission: Semaphore,
}

impl Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
