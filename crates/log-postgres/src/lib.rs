//! A log whose events live in PostgreSQL 15 or later.
//!
//! [`PostgresLog`] is the same contract as any log. Any number of programs append to one database
//! at the same time, each directly.
//!
//! * **An append** is one statement. It locks the rows of its partitions, and looks at where they
//!   end only after that. So positions have no gap, and become visible in their order.
//! * **What waits together** becomes one transaction, in which each append is taken or refused
//!   alone.
//! * **A connection that breaks** before the answer leaves it open whether the append was made. It
//!   is made again with its ids: the lock waits for the end of the old transaction, and then the
//!   ids say what it did.
//! * **Poolers** that give a connection for one transaction work: nothing is prepared, and nothing
//!   is kept in a session.
//!
//! Its input and output have a thread of their own, so it works on any async runtime, or none.

mod address;
mod call;
mod fault;
mod heads;
mod holds;
mod open;
mod plain;
mod pool;
mod read;
mod rows;
mod several;
mod writer;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anabranch_log::copy::{Recorded, TimedLog};
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, OpenError,
    Order, Placed, ReadError, ReadMode, Rejection, Scope, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, Limits, StreamId};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{RwLock, oneshot};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::address::{Address, Durability};
use crate::call::parts_of;
use crate::fault::Fault;
use crate::heads::Heads;
#[doc(hidden)]
pub use crate::holds::Holds;
use crate::open::Described;
use crate::pool::Pool;
use crate::writer::{Writer, placed_of};

/// How to open a log in PostgreSQL.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a server that does not answer is asked, before an append or a read fails.
    pub patience: Duration,
    /// Whether a log is made where there is none.
    pub make: bool,
    /// How a log that is made is laid out; `None`: sixteen partitions besides that of system
    /// streams.
    pub layout: Option<Layout>,
    /// How large the parts of an append may be.
    pub limits: Limits,
    /// Whether appends are refused.
    pub read_only: bool,
    /// What holds back reads of partitions, in tests.
    #[doc(hidden)]
    pub holds: Option<Arc<dyn Holds>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            make: true,
            layout: None,
            limits: Limits::default(),
            read_only: false,
            holds: None,
        }
    }
}

/// A log in PostgreSQL. Dropping it closes it.
pub struct PostgresLog {
    pool: Arc<Pool>,
    heads: Arc<Heads>,
    writer: Writer,
    described: Described,
    address: Address,
    options: Options,
    handle: Handle,
    /// Reads hold it until they know where the log ends; appends that come later wait for them.
    beginning: Arc<RwLock<()>>,
    /// Dropped with the log, which ends the thread and all that runs on it.
    _stop: oneshot::Sender<()>,
}

/// How long the first answers may take, all of them.
const OPEN_MAX: Duration = Duration::from_secs(30);

impl PostgresLog {
    /// Opens the log at an address such as `postgres://user@host:5432/database?schema=anabranch`,
    /// and makes it if there is none, if the options say so. Waits for the server.
    ///
    /// # Errors
    ///
    /// The address cannot be used, nobody answers, the server is too old or does not keep what it
    /// acknowledges, or the log is of a later version.
    pub fn open(address: &str, options: Options) -> Result<Self, OpenError> {
        let address = Address::parse(address)?;
        let thread_failed = |source| OpenError::Io {
            what: "making a thread for the database".to_owned(),
            source,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(thread_failed)?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("anabranch-postgres".to_owned())
            .spawn(move || {
                // Ends when the log is dropped.
                runtime.block_on(async { drop(stopped.await) });
                // What is still under way ends here, and says so to whoever waits.
                runtime.shutdown_background();
            })
            .map_err(thread_failed)?;
        let pool = Pool::new(address.clone(), options.patience);
        let (say, heard) = std::sync::mpsc::channel();
        {
            let (pool, address, options) = (pool.clone(), address.clone(), options.clone());
            handle.spawn(async move {
                let make = options.make.then_some(options.layout.as_ref());
                // Whoever asked may have given up.
                drop(say.send(open::find(&pool, &address, make).await));
            });
        }
        let described = heard.recv_timeout(OPEN_MAX);
        let described = described.map_err(|_| OpenError::Unreachable {
            address: address.shown.clone(),
            reason: format!("no answer within {OPEN_MAX:?}"),
        })??;
        let heads = Heads::new(described.layout.partitions());
        handle.spawn(heads.clone().run(pool.clone()));
        Ok(Self {
            writer: Writer::start(&handle, pool.clone(), heads.clone(), &described.layout),
            pool,
            heads,
            described,
            address,
            options,
            handle,
            beginning: Arc::default(),
            _stop: stop,
        })
    }

    /// The id of the log, which it was given when it was made.
    pub fn id(&self) -> u128 {
        self.described.id.as_u128()
    }

    /// What tokens of the log are sealed with, the same for every program that opens it.
    pub fn token_key(&self) -> [u8; 32] {
        self.described.token_key
    }

    /// Whether it was made by this opening.
    pub fn is_new(&self) -> bool {
        self.described.is_new
    }

    /// The address without its password.
    pub fn shown(&self) -> &str {
        &self.address.shown
    }

    /// How what is acknowledged is kept, in a word: `sync`, or `unchecked`.
    pub fn durability(&self) -> &'static str {
        match self.address.durability {
            Durability::Sync => "sync",
            Durability::Unchecked => "unchecked",
        }
    }

    /// Carries out on the thread of the database what is asked of it.
    async fn ask<T, F>(&self, work: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        // The thread ends with the log.
        self.handle
            .spawn(work)
            .await
            .unwrap_or(Err(ReadError::Closed))
    }
}

/// What a log in PostgreSQL with this layout can do, with the usual limits, on a server that says that
/// it keeps what it acknowledges.
pub fn capabilities_of(layout: &Layout) -> Capabilities {
    let is_one = layout.is_one();
    Capabilities {
        engine: "postgres",
        partitions: layout.partitions(),
        batches: Scope::Log,
        conditions: Scope::Log,
        no_match: Some(Scope::Log),
        total_order: is_one,
        backward_reads: true,
        survives_restart: true,
        survives_power_cut: true,
        limits: Limits::default(),
    }
}

impl Log for PostgresLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            survives_power_cut: self.address.durability == Durability::Sync,
            limits: self.options.limits,
            ..capabilities_of(&self.described.layout)
        }
    }

    fn layout(&self) -> Layout {
        self.described.layout.clone()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            if self.options.read_only {
                return Err(Rejection::ReadOnly.into());
            }
            let limits = &self.options.limits;
            append.check(limits).map_err(Rejection::from)?;
            check_ids_differ(&append)?;
            // A read that was asked for before ends before this.
            drop(self.beginning.write().await);
            let parts = parts_of(&append, &self.described.layout);
            self.writer.append(append, parts).await
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        let (pool, stream) = (self.pool.clone(), stream.clone());
        read::stream(&self.handle, |to| {
            read::of_stream(pool, stream, range, order, to)
        })
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let (pool, heads, from) = (self.pool.clone(), self.heads.clone(), from.clone());
        // An append that is about to be written is not later than this.
        let begins = self.beginning.clone().try_read_owned().ok();
        if !self.described.layout.is_one() {
            let holds = self.options.holds.clone();
            return several::all(
                &self.handle,
                (pool, heads),
                from,
                filter,
                mode,
                begins,
                holds,
            );
        }
        read::stream(&self.handle, |to| {
            read::all((pool, heads), from, filter, mode, begins, to)
        })
    }

    fn is_far(&self) -> bool {
        true
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        Box::pin(async move {
            let pool = self.pool.clone();
            let found = self.ask(async move {
                let schema = pool.schema();
                let sql = format!(
                    r#"SELECT partition, "offset", version FROM {schema}.events
                    WHERE id = $1 ORDER BY partition LIMIT 1"#
                );
                let id = Uuid::from_u128(id.as_u128());
                let rows = pool.query(&sql, &[(&id, Type::UUID)]).await;
                let rows = rows.map_err(Fault::of_read)?;
                rows.first().map(placed_of).transpose()
            });
            match found.await? {
                Some(placed) => Ok(Some(placed)),
                // Who only reads may not wait for those who append.
                None if self.options.read_only => Ok(None),
                None => self.writer.find(id).await,
            }
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        Box::pin(async move {
            let (pool, heads) = (self.pool.clone(), self.heads.clone());
            self.ask(async move { heads.ask(&pool).await.map_err(Fault::of_read) })
                .await
        })
    }
}

impl TimedLog for PostgresLog {
    fn append_recorded(
        &self,
        appends: Vec<Recorded>,
    ) -> BoxFuture<'_, Vec<Result<Appended, AppendError>>> {
        Box::pin(async move {
            for recorded in &appends {
                let append = &recorded.append;
                let checked = append
                    .check(&self.options.limits)
                    .map_err(Rejection::from)
                    .and_then(|()| check_ids_differ(append));
                if let Err(rejection) = checked {
                    return vec![Err(rejection.into())];
                }
            }
            if self.options.read_only {
                return vec![Err(Rejection::ReadOnly.into())];
            }
            drop(self.beginning.write().await);
            self.writer.append_recorded(appends).await
        })
    }
}

fn check_ids_differ(append: &Append) -> Result<(), Rejection> {
    let mut seen = std::collections::BTreeMap::new();
    for (second, event) in append.events.iter().enumerate() {
        if let Some(first) = seen.insert(event.id, second) {
            return Err(anabranch_model::LimitError::RepeatedId { first, second }.into());
        }
    }
    Ok(())
}
