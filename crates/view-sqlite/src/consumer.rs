//! Consumers that write to SQLite, with their place in the same transaction.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anabranch_domain::HandleError;
use anabranch_env::Disk;
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, EventBatch, EventRef};
use anabranch_runtime::consumer::{
    ConsumerContext, ConsumerFrom, ConsumerSpec, Intake, PoisonEvent, Progress, StoreError,
};
use anabranch_runtime::view::{Edit, ViewCode};

use crate::sqlite::{Fault, Sqlite, locked, open_private};

/// Consumers in SQLite, each event once.
pub trait ConsumeInSqlite {
    /// Runs `function` for each event, in order, in a transaction of the database at `path`
    /// that also moves the consumer's place: what it writes is kept with the place or not at
    /// all, so each event counts once, whatever crashes. The database may be one of your own
    /// and have several consumers; the places stand in its table `anabranch_consumers`.
    ///
    /// `schema` makes the tables: statements that are run once, before the first event.
    fn in_sqlite(
        self,
        disk: Arc<dyn Disk>,
        path: impl Into<PathBuf>,
        schema: impl Into<String>,
        function: impl Fn(&mut Sqlite, &EventRef<'_>) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> ConsumerSpec;
}

impl ConsumeInSqlite for ConsumerFrom {
    fn in_sqlite(
        self,
        disk: Arc<dyn Disk>,
        path: impl Into<PathBuf>,
        schema: impl Into<String>,
        function: impl Fn(&mut Sqlite, &EventRef<'_>) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> ConsumerSpec {
        let (path, schema) = (path.into(), schema.into());
        self.on(move |context| {
            let code = Arc::new(ViewCode::of_function(context.name, function));
            Box::pin(blocking(context.clone(), move || {
                let opened = Writer::open(&*disk, &path, &schema, &context);
                let writer = opened.map_err(|error| context.failed(error))?;
                Ok(Arc::new(SqliteConsumer {
                    progress: Arc::new(Mutex::new(writer.progress.clone())),
                    writer: Arc::new(Mutex::new(writer)),
                    scanned: Mutex::default(),
                    context,
                    code,
                }) as Arc<dyn Intake>)
            }))
        })
    }
}

/// Runs code that blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    context: ConsumerContext,
    code: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ran = tokio::task::spawn_blocking(code).await;
    ran.unwrap_or_else(|error| Err(context.failed(error)))
}

struct SqliteConsumer {
    context: ConsumerContext,
    code: Arc<ViewCode<Sqlite>>,
    writer: Arc<Mutex<Writer>>,
    /// What the writer's progress was when it was last free: for those who must not wait.
    progress: Arc<Mutex<Progress>>,
    /// How far there is nothing for it behind its place.
    scanned: Mutex<Cut>,
}

struct Writer {
    rows: Sqlite,
    name: &'static str,
    progress: Progress,
}

impl Writer {
    /// At the consumer's place, which is made with its tables if there is none.
    fn open(
        disk: &dyn Disk,
        path: &Path,
        schema: &str,
        context: &ConsumerContext,
    ) -> Result<Self, HandleError> {
        let mut rows = Sqlite {
            connection: open_private(disk, path)?,
        };
        rows.run(
            "PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS anabranch_consumers
                 (name TEXT PRIMARY KEY NOT NULL, progress TEXT NOT NULL)",
        )?;
        let name = context.name;
        let progress = rows.transact::<_, HandleError>(|rows| {
            if let Some(progress) = read(rows, name)? {
                return Ok(progress);
            }
            rows.run(schema)?;
            let progress = Progress {
                cut: context.begin.clone(),
                ..Progress::default()
            };
            write(rows, name, &progress)?;
            Ok(progress)
        })??;
        Ok(Self {
            rows,
            name,
            progress,
        })
    }

    /// Runs `code` in a transaction with a copy of the progress; both are kept if it succeeds.
    fn transact<E>(
        &mut self,
        code: impl FnOnce(&mut Sqlite, &mut Progress) -> Result<(), E>,
    ) -> Result<Result<(), E>, HandleError> {
        let name = self.name;
        let done = self.rows.transact::<_, Fault<E>>(|rows| {
            // Another program on this database counts no event twice: it goes on where this one is.
            let found = read(rows, name).map_err(Fault::Store)?;
            let mut progress = found.ok_or_else(|| {
                Fault::Store(
                    "its place is gone from anabranch_consumers: somebody has removed it; start \
                     it again to begin anew"
                        .into(),
                )
            })?;
            code(rows, &mut progress).map_err(Fault::Code)?;
            write(rows, name, &progress).map_err(Fault::Store)?;
            Ok(progress)
        })?;
        match done {
            Ok(progress) => {
                self.progress = progress;
                Ok(Ok(()))
            }
            Err(fault) => fault.told(),
        }
    }
}

fn read(rows: &Sqlite, name: &str) -> Result<Option<Progress>, HandleError> {
    let read = "SELECT progress FROM anabranch_consumers WHERE name = ?1";
    let json = rows.one(read, [name], |row| row.get::<_, String>(0))?;
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

fn write(rows: &Sqlite, name: &str, progress: &Progress) -> Result<(), HandleError> {
    let write = "INSERT INTO anabranch_consumers VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET progress = ?2";
    let json = serde_json::to_string(progress)?;
    rows.execute(write, [name, &json]).map(drop)
}

impl SqliteConsumer {
    /// Runs `code` on the writer, on a thread that may block.
    fn on_writer<T: Send + 'static>(
        &self,
        code: impl FnOnce(&mut Writer, &ViewCode<Sqlite>) -> Result<T, HandleError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (writer, of) = (self.writer.clone(), self.code.clone());
        let (progress, context) = (self.progress.clone(), self.context.clone());
        Box::pin(blocking(self.context.clone(), move || {
            let mut writer = locked(&writer);
            let done = code(&mut writer, &of);
            locked(&progress).clone_from(&writer.progress);
            done.map_err(|error| context.failed(error))
        }))
    }
}

impl Intake for SqliteConsumer {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let mut progress = locked(&self.progress).clone();
        progress.cut.join(&locked(&self.scanned));
        Box::pin(async { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, code| {
            let taken =
                writer.transact(|rows, progress| code.take_in(rows, progress, &batch, None))?;
            let Err(poison) = taken else {
                return Ok(None);
            };
            // Nothing of the batch was kept; the appends before the event's are taken in again.
            let end = batch.append_start(poison.position);
            let again = writer
                .transact(|rows, progress| code.take_in(rows, progress, &batch, Some(end)))?;
            match again {
                Ok(()) => Ok(Some(*poison)),
                Err(other) => {
                    Err(format!("an event that was taken in before is refused now: {other}").into())
                }
            }
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_writer(move |writer, _| {
            writer.transact::<HandleError>(|_, progress| {
                edit(progress);
                Ok(())
            })?
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        // A restart looks through what was passed over again.
        locked(&self.scanned).join(&cut);
        Box::pin(async { Ok(()) })
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
