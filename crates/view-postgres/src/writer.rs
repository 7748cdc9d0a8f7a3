//! Transactions that move the rows of a copy and how far they are.

use std::sync::Arc;

use anabranch_domain::HandleError;
use anabranch_runtime::view::{CopyId, Progress, StoreError};

use crate::database::{Place, said};
use crate::line::Fault;
use crate::store::{Pace, Postgres};

/// The connection that writes to a copy.
pub struct Writer {
    place: Arc<Place>,
    /// Quoted.
    schema: String,
    /// Locks the fence and reads how far the rows are.
    select: String,
    /// Moves it.
    update: String,
    store: Option<Postgres>,
    progress: Progress,
    /// Whether an operator knows that the database does not answer.
    is_down: bool,
    /// The other runtime that an operator has been told of.
    other: Option<String>,
}

/// Why a transaction was rolled back although the database works.
pub enum Stop<E> {
    /// The code said so.
    Code(E),
    /// The database refuses a statement, and which event has sent it is not known.
    Refused(String),
}

/// How far the rows are, in JSON, and who wrote them.
type Fence = (String, String);

impl Writer {
    /// Opens a copy; makes an empty one if there is none.
    pub fn open(
        place: Arc<Place>,
        id: CopyId,
        set_up: impl FnOnce(&mut Postgres) -> Result<(), HandleError>,
    ) -> Result<Self, StoreError> {
        let schema = place.schema(id);
        let fence = format!("{schema}.anabranch_progress");
        let mut writer = Self {
            select: format!("SELECT progress, writer FROM {fence} FOR UPDATE"),
            update: format!("UPDATE {fence} SET progress = $1, writer = $2"),
            place,
            schema,
            store: None,
            progress: Progress::default(),
            is_down: false,
            other: None,
        };
        writer
            .made(&fence, set_up)
            .map_err(|fault| writer.place.refused(fault))?;
        writer.progress = writer.begin(Pace::StepByStep)?;
        writer.roll_back()?;
        Ok(writer)
    }

    /// Connects, and makes the copy if there is none.
    fn made(
        &mut self,
        fence: &str,
        set_up: impl FnOnce(&mut Postgres) -> Result<(), HandleError>,
    ) -> Result<(), Fault> {
        let mut store = self.place.connect(&self.schema)?;
        // Within the transaction: two runtimes may begin with one copy.
        self.place.begin_set_up(&store)?;
        let exists = "SELECT to_regclass($1) IS NOT NULL";
        let exists = store.one(exists, &[&fence], |row| row.try_get(0));
        let exists: Option<bool> = exists.map_err(said)?;
        if exists != Some(true) {
            let progress = serde_json::to_string(&Progress::default());
            let progress = progress.map_err(|error| Fault::Server(error.to_string()))?;
            let (schema, writer) = (&self.schema, &self.place.writer);
            let make = format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE TABLE {fence} (progress text NOT NULL, writer text NOT NULL)"
            );
            store.run(&make).map_err(said)?;
            set_up(&mut store).map_err(said)?;
            let insert = format!("INSERT INTO {fence} VALUES ($1, $2)");
            store.execute(&insert, &[&progress, writer]).map_err(said)?;
        }
        store.commit()?;
        self.store = Some(store);
        Ok(())
    }

    /// How far the rows were when this runtime last wrote or looked.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Runs `code` in a transaction with a copy of the progress; both are kept if it succeeds.
    /// On an error nothing is kept, but for one that says so.
    pub fn transact<E>(
        &mut self,
        pace: Pace,
        code: impl FnOnce(&mut Postgres, &mut Progress) -> Result<(), E>,
    ) -> Result<Result<(), Stop<E>>, StoreError> {
        let mut progress = self.begin(pace)?;
        if !progress.cut.covers(&self.progress.cut) {
            // What the log holds in between would be passed over: it has to be read again.
            let (had, has) = (self.progress.cut.clone(), progress.cut.clone());
            self.progress = progress;
            self.roll_back()?;
            let text = format!(
                "the rows in {} stand at {has} and stood at {had}: the database was put back; \
                 what is missing is read again from the log",
                self.place.shown()
            );
            self.place.note(text.clone());
            return Err(self.place.failed(text));
        }
        let Some(store) = &mut self.store else {
            return Err(self.place.failed("the connection is closed"));
        };
        let done = code(store, &mut progress);
        let settled = store.settled();
        match (done, settled) {
            // Step by step, the code has heard of it where it arose.
            (Err(error), Err(Fault::Statement { .. })) if pace == Pace::StepByStep => {
                self.roll_back()?;
                Ok(Err(Stop::Code(error)))
            }
            (_, Err(fault)) => self.refuse(fault).map(Err),
            (Err(error), Ok(())) => {
                self.roll_back()?;
                Ok(Err(Stop::Code(error)))
            }
            (Ok(()), Ok(())) => match self.finish(&progress) {
                Ok(()) => {
                    self.progress = progress;
                    Ok(Ok(()))
                }
                Err(fault) => self.refuse(fault).map(Err),
            },
        }
    }

    /// Begins a transaction: how far the rows are.
    fn begin(&mut self, pace: Pace) -> Result<Progress, StoreError> {
        let begun = self.begun(pace);
        let (json, writer) = match begun {
            Ok(fence) => fence,
            Err(fault) => {
                self.store = None;
                return Err(self.down(&fault));
            }
        };
        if self.is_down {
            self.is_down = false;
            let text = format!("{} answers again; the view goes on", self.place.shown());
            self.place.note(text);
        }
        let progress: Progress =
            serde_json::from_str(&json).map_err(|error| self.place.failed(error))?;
        let is_other = writer != self.place.writer && progress.cut != self.progress.cut;
        // At its opening it finds the work of the runtime before.
        let is_first = self.progress == Progress::default();
        if is_other && !is_first && self.other.as_ref() != Some(&writer) {
            let text = format!(
                "{writer} writes the same rows ({} in {}); each event counts once all the same, \
                 but the work is done twice: let one runtime host this view",
                self.schema,
                self.place.shown()
            );
            self.place.note(text);
            self.other = Some(writer);
        }
        Ok(progress)
    }

    fn begun(&mut self, pace: Pace) -> Result<Fence, Fault> {
        if let Some(store) = &self.store {
            match self.read_fence(store, pace) {
                // It may have ended while nobody used it: nothing was begun on it yet.
                Err(Fault::Lost(_)) => self.store = None,
                other => return other,
            }
        }
        let store = self.place.connect(&self.schema)?;
        let fence = self.read_fence(&store, pace)?;
        self.store = Some(store);
        Ok(fence)
    }

    fn read_fence(&self, store: &Postgres, pace: Pace) -> Result<Fence, Fault> {
        let read = store.begin("BEGIN", &self.select, pace, |row| {
            Ok((row.try_get(0)?, row.try_get(1)?))
        });
        let gone = || {
            Fault::Server(format!(
                "the rows of this copy ({}) are gone: another runtime or an operator has removed \
                 them; restart this one, or rebuild the view",
                self.schema
            ))
        };
        match read {
            Ok(fence) => fence.ok_or_else(gone),
            // No such table; no such schema.
            Err(Fault::Statement { code, .. }) if code == "42P01" || code == "3F000" => Err(gone()),
            Err(fault) => Err(fault),
        }
    }

    fn finish(&self, progress: &Progress) -> Result<(), Fault> {
        let json = serde_json::to_string(progress);
        let json = json.map_err(|error| Fault::Server(error.to_string()))?;
        let Some(store) = &self.store else {
            return Err(Fault::Lost("the connection is closed".to_owned()));
        };
        let update = store.execute(&self.update, &[&json, &self.place.writer]);
        update.map_err(said)?;
        store.commit()
    }

    /// What a fault means: the statement's is told apart from the server's.
    fn refuse<E>(&mut self, fault: Fault) -> Result<Stop<E>, StoreError> {
        match fault {
            Fault::Statement { text, .. } => {
                self.roll_back()?;
                Ok(Stop::Refused(text))
            }
            Fault::Lost(_) | Fault::Server(_) => {
                self.store = None;
                Err(self.down(&fault))
            }
        }
    }

    fn roll_back(&mut self) -> Result<(), StoreError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        store.roll_back().map_err(|fault| {
            self.store = None;
            self.down(&fault)
        })
    }

    /// Tells an operator once that the database does not answer.
    fn down(&mut self, fault: &Fault) -> StoreError {
        let error = self.place.fault(fault);
        if !self.is_down {
            self.is_down = true;
            let reason = &error.reason;
            self.place
                .note(format!("{reason}. It is tried again by itself"));
        }
        error
    }
}
