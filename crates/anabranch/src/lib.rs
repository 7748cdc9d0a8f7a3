//! Anabranch: event-driven microservices that keep their state as events.
//!
//! This crate is what users import. [`open`] gives the log behind an address; the
//! [`prelude`] has the names that most programs need.
//!
//! ```
//! use anabranch::prelude::*;
//! use anabranch::model::EventId;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let log = anabranch::open("memory:").await?;
//! let placed = NewEvent::new(
//!     EventId::from_u128(1),
//!     StreamId::new("order/536365")?,
//!     EventType::new("OrderPlaced")?,
//!     &br#"{"total":1550}"#[..],
//! );
//! let order = placed.stream.clone();
//! let done = log.append(Append::event(placed).expect(order, Expect::Empty)).await?;
//! assert_eq!(done.places[0].version, 0);
//!
//! let mut orders = log.read(&Cut::start(), Filter::category("order"), ReadMode::ToHead);
//! while let Some(event) = orders.next().await {
//!     println!("{}", event?.event_type());
//! }
//! # Ok(())
//! # }
//! # futures_util::FutureExt::now_or_never(example()).unwrap().unwrap();
//! ```

mod address;
#[cfg(feature = "remote")]
mod registered;

pub use address::{Address, AddressError, DatabaseAddress};
/// What a program shows to servers that ask who calls.
#[cfg(feature = "remote")]
pub use anabranch_access as access;
pub use anabranch_env as env;
pub use anabranch_log as log;
/// Logs in PostgreSQL.
#[cfg(feature = "log-postgres")]
pub use anabranch_log_postgres as log_postgres;
/// Logs that another process has.
#[cfg(feature = "remote")]
pub use anabranch_log_remote as remote;
pub use anabranch_log_segment as segment;
pub use anabranch_model as model;
/// Services that another process has.
#[cfg(feature = "remote")]
pub mod peer {
    pub use crate::registered::Registered;
    pub use anabranch_peer::*;
}
pub use anabranch_runtime as runtime;
#[cfg(feature = "server")]
pub use anabranch_server as server;
/// Whose certificates are believed, and what a server shows of itself.
#[cfg(feature = "remote")]
pub use anabranch_tls as tls;
/// Views in PostgreSQL.
#[cfg(feature = "postgres")]
pub use anabranch_view_postgres as postgres;
/// Views in SQLite.
#[cfg(feature = "sqlite")]
pub use anabranch_view_sqlite as sqlite;

use std::sync::Arc;
use std::thread;

use anabranch_env::Env;
use anabranch_log::{Log, MemoryLog, OpenError};
use anabranch_log_segment::{EmbeddedLog, Options};
use tokio::sync::oneshot;

/// What a service author implements.
pub mod domain {
    pub use anabranch_domain::*;
    // The derives that find their traits in this crate.
    pub use anabranch_domain_derive::{FacadeEvent as Event, FacadeRejection as Rejection};
}

/// Tests for services. Given, when, then for a single entity, view, process or saga; and a
/// [`World`](testkit::World) of several services on the runtime that ships.
#[cfg(feature = "testkit")]
pub mod testkit {
    pub use anabranch_domain::testkit::*;
    pub use anabranch_testkit::{
        Answer, CrashPoint, Faults, HoldId, Message, Provider, Service, World,
    };
}

/// The names that most programs need.
pub mod prelude {
    pub use crate::domain::{
        Decide, Effect, Entity, Event, EventRef, HandleError, Process, Query, Reaction, Rejection,
        Saga, View,
    };
    #[cfg(feature = "postgres")]
    pub use crate::postgres::InPostgres as _;
    pub use crate::runtime::view::{Consistency, ViewSpec};
    pub use crate::runtime::{SendError, Service, Time};
    #[cfg(feature = "sqlite")]
    pub use crate::sqlite::InSqlite as _;
    pub use anabranch_env::Env;
    pub use anabranch_log::{
        Append, AppendError, Appended, Condition, Expect, Log, OpenError, Order, ReadError,
        ReadMode, VersionRange,
    };
    pub use anabranch_model::{
        Cut, EventId, EventType, Filter, NewEvent, Position, StreamId, Version,
    };
}

/// Opens the log at `address` for appending and reading, with the default options.
///
/// `./dir` is a log in that directory, which is made if there is none; `memory:` is a new
/// log in memory, gone when it is dropped; `http://127.0.0.1:7400` is the log that a server there
/// has, such as `anabranch serve` (feature `remote`); `postgres://user@host:5432/database` is one in
/// PostgreSQL, which is made if there is none (feature `log-postgres`). Dropping the log closes it.
///
/// Reading a directory or waiting for a server happens on a thread of its own: the executor that
/// waits for this, whichever it is, goes on with other work.
///
/// For options, and for errors at closing, open a [`segment::EmbeddedLog`] itself.
pub async fn open(address: &str) -> Result<Arc<dyn Log>, OpenError> {
    match parse(address)? {
        Address::Memory => Ok(Arc::new(MemoryLog::new(Env::os()))),
        Address::Directory(dir) => {
            aside(|| EmbeddedLog::open(Env::os(), dir, Options::default())).await
        }
        Address::Server(url) => behind(url).await,
        Address::Database(database) => in_database(database, false).await,
    }
}

/// Opens the log at `address` for reading, also while another process writes to it.
pub async fn open_read_only(address: &str) -> Result<Arc<dyn Log>, OpenError> {
    match parse(address)? {
        Address::Memory => Ok(Arc::new(MemoryLog::new(Env::os()))),
        Address::Directory(dir) => {
            aside(|| EmbeddedLog::open_read_only(Env::os(), dir, Options::default())).await
        }
        Address::Server(url) => behind(url).await,
        Address::Database(database) => in_database(database, true).await,
    }
}

#[cfg(feature = "log-postgres")]
async fn in_database(
    database: DatabaseAddress,
    read_only: bool,
) -> Result<Arc<dyn Log>, OpenError> {
    aside(move || {
        let mut options = log_postgres::Options::default();
        options.read_only = read_only;
        options.make = !read_only;
        log_postgres::PostgresLog::open(database.reveal(), options)
    })
    .await
}

#[cfg(not(feature = "log-postgres"))]
async fn in_database(database: DatabaseAddress, _: bool) -> Result<Arc<dyn Log>, OpenError> {
    Err(OpenError::Invalid(format!(
        "{database} is in a database, and this program was built without the feature `log-postgres`"
    )))
}

#[cfg(feature = "remote")]
async fn behind(url: String) -> Result<Arc<dyn Log>, OpenError> {
    aside(move || {
        let mut options = remote::Options::default();
        let key = access::Key::from_env(&Env::os());
        options.key = key.map_err(|error| OpenError::Invalid(error.to_string()))?;
        remote::RemoteLog::open(&url, options)
    })
    .await
}

#[cfg(not(feature = "remote"))]
async fn behind(url: String) -> Result<Arc<dyn Log>, OpenError> {
    Err(OpenError::Invalid(format!(
        "{url} is the log of a server, and this program was built without the feature `remote`"
    )))
}

/// Runs what blocks on a thread of its own. If nobody waits any more, the log is closed again.
async fn aside<L: Log + 'static>(
    open: impl FnOnce() -> Result<L, OpenError> + Send + 'static,
) -> Result<Arc<dyn Log>, OpenError> {
    let (say, told) = oneshot::channel();
    let failed = |source| OpenError::Io {
        what: "the thread that opens the log".to_owned(),
        source,
    };
    thread::Builder::new()
        .name("anabranch-open".to_owned())
        .spawn(move || drop(say.send(open())))
        .map_err(failed)?;
    match told.await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(_) => Err(failed(std::io::Error::other("it ended by a panic"))),
    }
}

/// The examples of the project's front page, run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct FrontPage;

/// The examples of the guide, run as they stand there.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/first-service.md")]
    pub struct FirstService;

    #[cfg(feature = "server")]
    #[doc = include_str!("../../../docs/guide/serving.md")]
    pub struct Serving;

    #[cfg(all(feature = "remote", feature = "server"))]
    #[doc = include_str!("../../../docs/guide/owning.md")]
    pub struct Owning;

    #[cfg(all(feature = "server", feature = "remote"))]
    #[doc = include_str!("../../../docs/guide/services-as-processes.md")]
    pub struct ServicesAsProcesses;

    #[doc = include_str!("../../../docs/guide/deploying.md")]
    pub struct Deploying;

    #[doc = include_str!("../../../docs/guide/testing.md")]
    pub struct Testing;

    #[doc = include_str!("../../../docs/guide/views-and-tokens.md")]
    pub struct ViewsAndTokens;

    #[cfg(feature = "sqlite")]
    #[doc = include_str!("../../../docs/guide/consumers.md")]
    pub struct Consumers;

    #[doc = include_str!("../../../docs/guide/partitions.md")]
    pub struct Partitions;

    #[doc = include_str!("../../../docs/guide/your-own-engine.md")]
    pub struct YourOwnEngine;

    #[doc = include_str!("../../../docs/guide/sagas.md")]
    pub struct Sagas;

    #[doc = include_str!("../../../docs/guide/schemas.md")]
    pub struct Schemas;

    #[doc = include_str!("../../../docs/guide/when-things-fail.md")]
    pub struct WhenThingsFail;
}

fn parse(address: &str) -> Result<Address, OpenError> {
    address
        .parse()
        .map_err(|error: AddressError| OpenError::Invalid(error.to_string()))
}
