//! Which copies of a view there are in a database.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_runtime::view::{Copies, CopyId, StoreError, ViewContext};
use anabranch_runtime::{Diagnostics, Time};

use crate::address::{Address, schema};
use crate::line::Fault;
use crate::store::{Pace, Postgres};

/// Where the copies of a view are, and who writes there.
pub struct Place {
    address: Result<Address, String>,
    service: String,
    pub view: &'static str,
    /// Who this runtime is, for the others.
    pub writer: String,
    /// What may stand there of which copies there are, as far as this runtime knows: anything
    /// else is another runtime's work.
    known: Mutex<Vec<Option<String>>>,
    diagnostics: Arc<Diagnostics>,
    time: Time,
}

/// The key of the lock under which tables are made, of the database: "anabranc" in ASCII.
const SET_UP_LOCK: i64 = 0x616e_6162_7261_6e63;

/// How long a copy's removal waits for queries that still read it.
const REMOVE_WAIT: &str = "SET lock_timeout = '10s'";

/// Runs code that blocks on a thread that may.
pub async fn blocking<T: Send + 'static>(
    view: &'static str,
    code: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ran = tokio::task::spawn_blocking(code).await;
    ran.unwrap_or_else(|error| Err(StoreError::new(view, error)))
}

pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// The view's copies at `address`.
    pub fn new(address: &str, context: &ViewContext) -> Self {
        let ViewContext { service, view, .. } = context;
        let name = context.time.random() as u32;
        let process = std::process::id();
        Self {
            address: Address::parse(address, service),
            service: service.clone(),
            view,
            writer: format!("process {process} of service {service} ({name:08x})"),
            known: Mutex::default(),
            diagnostics: context.diagnostics.clone(),
            time: context.time.clone(),
        }
    }

    /// An error of this view's store.
    pub fn failed(&self, reason: impl ToString) -> StoreError {
        StoreError::new(self.view, reason)
    }

    /// The same, of what the database said, with what to do about it.
    pub fn fault(&self, fault: &Fault) -> StoreError {
        let shown = self.shown();
        self.failed(match fault {
            Fault::Lost(why) => format!(
                "no connection to {shown}: {why}; start the server or correct the address. \
                 What was committed is kept, the rest is in the log"
            ),
            Fault::Server(why) => format!("{shown} cannot do it now: {why}"),
            Fault::Statement { text, .. } => format!("{shown} refuses: {text}"),
        })
    }

    /// The address without its password.
    pub fn shown(&self) -> &str {
        self.address
            .as_ref()
            .map_or("the database", |address| &address.shown)
    }

    /// The schema of a copy, for use in a statement.
    pub fn schema(&self, id: CopyId) -> String {
        // There are no quotes in it.
        format!("\"{}\"", schema(&self.service, self.view, id))
    }

    /// A new connection; without a schema in front, names mean the tables of `schema`.
    pub fn connect(&self, schema: &str) -> Result<Postgres, Fault> {
        let address = self.address.as_ref();
        let address = address.map_err(|reason| Fault::Server(reason.clone()))?;
        // Who forgets a transaction that he has begun must not hold up the others for ever.
        // Rows must not depend on a setting of the server.
        let set_up = format!(
            "SET search_path TO {schema}, public; SET client_min_messages = warning;
             SET TimeZone = 'UTC'; SET lock_timeout = '30s';
             SET idle_in_transaction_session_timeout = '60s'"
        );
        Postgres::open(&address.config, &set_up)
    }

    /// A connection for what concerns no copy.
    fn connect_plain(&self) -> Result<Postgres, StoreError> {
        match &self.address {
            Ok(_) => self.connect("pg_catalog").map_err(|f| self.fault(&f)),
            Err(reason) => Err(self.failed(reason)),
        }
    }

    /// Tells an operator.
    pub fn note(&self, text: String) {
        let view = self.view;
        self.diagnostics
            .add(self.time.now(), format!("view {view}: {text}"));
    }

    /// Begins a transaction that waits for others that make or change tables.
    pub fn begin_set_up(&self, store: &Postgres) -> Result<(), Fault> {
        let lock = format!("SELECT pg_advisory_xact_lock({SET_UP_LOCK})");
        store
            .begin("BEGIN", &lock, Pace::StepByStep, |_| Ok(()))
            .map(drop)
    }

    pub fn copies(&self) -> Result<Copies, StoreError> {
        let store = self.connect_plain()?;
        let kept = self.kept(&store).map_err(|error| self.refused(error))?;
        let copies = match &kept {
            Some(json) => serde_json::from_str(json).map_err(|error| self.failed(error))?,
            None => Copies::default(),
        };
        *locked(&self.known) = vec![kept];
        Ok(copies)
    }

    /// What stands there of which copies there are. Makes the table where there is none.
    fn kept(&self, store: &Postgres) -> Result<Option<String>, Fault> {
        self.begin_set_up(store)?;
        let exists = "SELECT to_regclass('anabranch.views') IS NOT NULL";
        let exists = store.one(exists, &[], |row| row.try_get(0));
        let exists: Option<bool> = exists.map_err(said)?;
        if exists != Some(true) {
            let make = "CREATE SCHEMA IF NOT EXISTS anabranch;
                CREATE TABLE anabranch.views (service text NOT NULL, view text NOT NULL,
                    copies text NOT NULL, PRIMARY KEY (service, view))";
            store.run(make).map_err(said)?;
        }
        let kept = self.read_kept(store).map_err(said)?;
        store.commit()?;
        Ok(kept)
    }

    fn read_kept(&self, store: &Postgres) -> Result<Option<String>, anabranch_domain::HandleError> {
        let select = "SELECT copies FROM anabranch.views WHERE service = $1 AND view = $2";
        store.one(select, &[&self.service, &self.view], |row| row.try_get(0))
    }

    pub fn set_copies(&self, copies: Copies) -> Result<(), StoreError> {
        let json = serde_json::to_string(&copies).map_err(|error| self.failed(error))?;
        let store = self.connect_plain()?;
        let set = || -> Result<bool, Fault> {
            self.begin_set_up(&store)?;
            let there = self.read_kept(&store).map_err(said)?;
            let known = locked(&self.known).clone();
            if !known.contains(&there) {
                let is_known = known == [Some(json.clone())];
                let is_done = there
                    .as_deref()
                    .is_some_and(|there| is_done(&copies, there));
                if is_done {
                    *locked(&self.known) = vec![there];
                }
                return Ok(is_known || is_done);
            }
            let insert = "INSERT INTO anabranch.views VALUES ($1, $2, $3)
                ON CONFLICT (service, view) DO UPDATE SET copies = $3";
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&self.service, &self.view, &json];
            store.execute(insert, &params).map_err(said)?;
            // If the answer is lost, either may stand there.
            *locked(&self.known) = vec![there, Some(json.clone())];
            store.commit()?;
            *locked(&self.known) = vec![Some(json.clone())];
            Ok(true)
        };
        match set() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failed(format!(
                "another runtime has changed which copies there are in {} since this one \
                 started; nothing was changed here: restart this one, and operate the view \
                 from one runtime only",
                self.shown()
            ))),
            Err(fault) => Err(self.refused(fault)),
        }
    }

    pub fn remove(&self, id: CopyId) -> Result<(), StoreError> {
        let store = self.connect_plain()?;
        let schema = self.schema(id);
        let dropped = store
            .run(REMOVE_WAIT)
            .and_then(|()| store.run(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")));
        dropped.map_err(|error| self.refused(said(error)))
    }

    /// An error at work on tables, with what an operator may have to grant.
    pub fn refused(&self, fault: Fault) -> StoreError {
        let mut error = self.fault(&fault);
        if error.reason.contains("permission denied") {
            error.reason.push_str(
                "; a view makes schemas of its own: GRANT CREATE ON DATABASE … TO the user",
            );
        }
        error
    }
}

/// Whether another runtime has said the same as `copies`, or has gone on from there already:
/// programs that begin at the same time build the same copies and swap to them. A rebuild is
/// an operator's, who does it at one of them.
fn is_done(copies: &Copies, there: &str) -> bool {
    let Ok(there) = serde_json::from_str::<Copies>(there) else {
        return false;
    };
    let swapped = Copies {
        serving: copies.building,
        previous: copies.serving,
        building: None,
    };
    match copies.building {
        Some(building) if building.generation > 1 => false,
        Some(_) => there == *copies || there == swapped,
        None => there == *copies,
    }
}

/// The fault in an error that this module's own statements gave.
pub fn said(error: anabranch_domain::HandleError) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(other) => Fault::Server(other.to_string()),
    }
}
