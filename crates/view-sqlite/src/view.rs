//! Views in SQLite: a file for each copy, with the rows and how far they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anabranch_domain::{HandleError, View};
use anabranch_env::Disk;
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, EventBatch};
use anabranch_runtime::ServiceBuilder;
use anabranch_runtime::view::{
    Copies, CopyId, Edit, Intake, Look, PoisonEvent, Progress, StoreError, ViewCode, ViewContext,
    ViewCopy, ViewSpec, ViewStore, ViewStoreFactory,
};
use rusqlite::OptionalExtension as _;

use crate::sqlite::{Fault, Sqlite, connect, locked, open_private};

/// Keeps views in SQLite, in files of one directory: for
/// [`ServiceBuilder::view_on`].
#[derive(Clone)]
pub struct SqliteViews {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SqliteViews {
    /// In files of `dir`, which is made if need be. `disk` makes and removes them.
    pub fn in_dir(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { dir, disk }
    }
}

impl ViewStoreFactory<Sqlite> for SqliteViews {
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Sqlite>> {
        Arc::new(SqliteViewStore {
            view: context.view,
            dir: self.dir.clone(),
            disk: self.disk.clone(),
        })
    }
}

/// Views in SQLite, for a service.
pub trait InSqlite {
    /// Hosts this view in SQLite, in files of this directory.
    #[must_use]
    fn view_in_sqlite<V: View<Store = Sqlite>>(
        self,
        spec: ViewSpec<V>,
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
    ) -> Self;
}

impl InSqlite for ServiceBuilder {
    fn view_in_sqlite<V: View<Store = Sqlite>>(
        self,
        spec: ViewSpec<V>,
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
    ) -> Self {
        self.view_on(spec, SqliteViews::in_dir(disk, dir))
    }
}

/// Copies of a view, as files of one directory.
struct SqliteViewStore {
    view: &'static str,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SqliteViewStore {
    fn path(&self, id: CopyId) -> PathBuf {
        let Self { view, dir, .. } = self;
        dir.join(format!("{view}.v{}.g{}.sqlite", id.version, id.generation))
    }
}

/// The rows' writer, and how far they are for readers.
struct SqliteCopy {
    id: CopyId,
    path: PathBuf,
    code: Arc<ViewCode<Sqlite>>,
    writer: Arc<Mutex<Writer>>,
    /// What the writer's progress was when it was last free: for those who must not wait.
    progress: Arc<Mutex<Progress>>,
    /// How far there is nothing for the view behind what the rows include.
    scanned: Arc<Mutex<Cut>>,
    /// Connections for queries that nobody uses now.
    idle: Arc<Mutex<Vec<Sqlite>>>,
}

struct Writer {
    view: &'static str,
    store: Sqlite,
    progress: Progress,
    /// Changes when another connection has written.
    data_version: i64,
}

/// The most connections that wait for queries.
const IDLE_MAX: usize = 4;

/// Makes an error of the view's store.
fn failed<E: ToString>(view: &'static str) -> impl Fn(E) -> StoreError {
    move |reason| StoreError::new(view, reason)
}

/// Runs code that blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    view: &'static str,
    code: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ran = tokio::task::spawn_blocking(code).await;
    ran.unwrap_or_else(|error| Err(failed(view)(error)))
}

impl ViewStore<Sqlite> for SqliteViewStore {
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        let path = self.dir.join(format!("{}.copies.sqlite", self.view));
        let disk = self.disk.clone();
        let view = self.view;
        Box::pin(blocking(view, move || {
            let connection = open_private(&*disk, &path).map_err(failed(view))?;
            let kept: Option<String> = connection
                .execute_batch("CREATE TABLE IF NOT EXISTS copies (json TEXT NOT NULL)")
                .and_then(|()| {
                    connection
                        .query_row("SELECT json FROM copies", [], |row| row.get(0))
                        .optional()
                })
                .map_err(failed(view))?;
            match kept {
                Some(json) => serde_json::from_str(&json).map_err(failed(view)),
                None => Ok(Copies::default()),
            }
        }))
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.dir.join(format!("{}.copies.sqlite", self.view));
        let view = self.view;
        Box::pin(blocking(view, move || {
            let json = serde_json::to_string(&copies).map_err(failed(view))?;
            let mut connection = connect(&path).map_err(failed(view))?;
            let transaction = connection.transaction().map_err(failed(view))?;
            transaction
                .execute("DELETE FROM copies", [])
                .and_then(|_| transaction.execute("INSERT INTO copies VALUES (?1)", [json]))
                .map_err(failed(view))?;
            transaction.commit().map_err(failed(view))
        }))
    }

    fn open(
        &self,
        id: CopyId,
        code: Arc<ViewCode<Sqlite>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<Sqlite>>, StoreError>> {
        let path = self.path(id);
        let disk = self.disk.clone();
        let view = self.view;
        Box::pin(blocking(view, move || {
            let writer = Writer::open(&*disk, &code, &path)?;
            Ok(Arc::new(SqliteCopy {
                id,
                path,
                code,
                progress: Arc::new(Mutex::new(writer.progress.clone())),
                scanned: Arc::new(Mutex::new(writer.progress.cut.clone())),
                writer: Arc::new(Mutex::new(writer)),
                idle: Arc::default(),
            }) as _)
        }))
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.path(id);
        let disk = self.disk.clone();
        let view = self.view;
        Box::pin(blocking(view, move || {
            for suffix in ["", "-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(suffix);
                let file = PathBuf::from(file);
                if disk.exists(&file).map_err(failed(view))? {
                    disk.remove(&file).map_err(failed(view))?;
                }
            }
            Ok(())
        }))
    }
}

impl Writer {
    fn open(disk: &dyn Disk, code: &ViewCode<Sqlite>, path: &Path) -> Result<Self, StoreError> {
        let view = code.name();
        let mut store = Sqlite {
            connection: open_private(disk, path).map_err(failed(view))?,
        };
        let table = "CREATE TABLE IF NOT EXISTS anabranch_progress (json TEXT NOT NULL)";
        store
            .connection
            .execute_batch(table)
            .map_err(failed(view))?;
        let made = store.transact::<_, HandleError>(|store| {
            // Within the transaction: two runtimes may begin with one file.
            if let Some(progress) = read_progress(store)? {
                return Ok(progress);
            }
            code.set_up(store)?;
            let progress = Progress::default();
            let json = serde_json::to_string(&progress)?;
            store.execute("INSERT INTO anabranch_progress VALUES (?1)", [json])?;
            Ok(progress)
        });
        let mut writer = Self {
            view,
            progress: made.and_then(|made| made).map_err(failed(view))?,
            store,
            data_version: 0,
        };
        // With what another runtime may have written to the same file.
        let refreshed = refresh(
            &writer.store,
            &mut writer.data_version,
            &mut writer.progress,
        );
        refreshed.map_err(failed(view))?;
        Ok(writer)
    }

    /// Runs `code` in a transaction with a copy of the progress; both are kept if it succeeds.
    fn transact<E>(
        &mut self,
        code: impl FnOnce(&mut Sqlite, &mut Progress) -> Result<(), E>,
    ) -> Result<Result<(), E>, StoreError> {
        let view = self.view;
        let (known, version) = (&mut self.progress, &mut self.data_version);
        let done = self.store.transact::<_, Fault<E>>(|store| {
            // A second runtime on this file counts no event twice: it goes on where the first is.
            refresh(store, version, known).map_err(Fault::Store)?;
            let mut progress = known.clone();
            code(store, &mut progress).map_err(Fault::Code)?;
            write_progress(store, &progress).map_err(Fault::Store)?;
            Ok(progress)
        });
        match done.map_err(failed(view))? {
            Ok(progress) => {
                self.progress = progress;
                Ok(Ok(()))
            }
            Err(fault) => fault.told().map_err(failed(view)),
        }
    }
}

/// What another connection may have written: how far the rows are.
fn refresh(
    store: &Sqlite,
    data_version: &mut i64,
    progress: &mut Progress,
) -> Result<(), HandleError> {
    let found = store.one("PRAGMA data_version", [], |row| row.get(0))?;
    let found = found.unwrap_or_default();
    if found != *data_version {
        *progress = there(read_progress(store)?)?;
        *data_version = found;
    }
    Ok(())
}

/// Rows whose place somebody has removed would be counted a second time.
fn there(progress: Option<Progress>) -> Result<Progress, HandleError> {
    progress.ok_or_else(|| {
        "how far its rows are is gone from anabranch_progress: somebody has removed it; `anabranch \
         view rebuild` makes the rows anew"
            .into()
    })
}

fn read_progress(store: &Sqlite) -> Result<Option<Progress>, HandleError> {
    let json: Option<String> =
        store.one("SELECT json FROM anabranch_progress", [], |row| row.get(0))?;
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

fn write_progress(store: &Sqlite, progress: &Progress) -> Result<(), HandleError> {
    let json = serde_json::to_string(progress)?;
    let written = store.execute("UPDATE anabranch_progress SET json = ?1", [json]);
    written.map(drop)
}

impl SqliteCopy {
    /// Runs `code` on the writer, on a thread that may block.
    fn on_writer<T: Send + 'static>(
        &self,
        code: impl FnOnce(&mut Writer, &ViewCode<Sqlite>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (writer, of) = (self.writer.clone(), self.code.clone());
        let (progress, scanned) = (self.progress.clone(), self.scanned.clone());
        Box::pin(blocking(of.name(), move || {
            let mut writer = locked(&writer);
            let done = code(&mut writer, &of);
            // Also after an error: another runtime may have written.
            locked(&progress).clone_from(&writer.progress);
            locked(&scanned).join(&writer.progress.cut);
            done
        }))
    }
}

impl Intake for SqliteCopy {
    fn progress(&self) -> BoxFuture<'_, Progress> {
        let progress = locked(&self.progress).clone();
        Box::pin(async { progress })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, code| {
            let taken =
                writer.transact(|store, progress| code.take_in(store, progress, &batch, None))?;
            let Err(poison) = taken else {
                return Ok(None);
            };
            // Nothing of the batch was kept; the appends before the event's are taken in again.
            let end = batch.append_start(poison.position);
            let again = writer
                .transact(|store, progress| code.take_in(store, progress, &batch, Some(end)))?;
            again.map_err(|other| {
                code.failed(format!(
                    "an event that was taken in before is refused now: {other}"
                ))
            })?;
            Ok(Some(*poison))
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_writer(move |writer, _| {
            writer.transact::<StoreError>(|_, progress| {
                edit(progress);
                Ok(())
            })?
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        locked(&self.scanned).join(&cut);
        Box::pin(async { Ok(()) })
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl ViewCopy<Sqlite> for SqliteCopy {
    fn id(&self) -> CopyId {
        self.id
    }

    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, code| {
            let taken = writer.transact(|store, progress| {
                code.take_back(store, progress, &stream, &events)
                    .map(|_| ())
            })?;
            Ok(taken.err().map(|poison| *poison))
        })
    }

    fn look(&self, look: Look<Sqlite>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (idle, path) = (self.idle.clone(), self.path.clone());
        // What was scanned before the rows are looked at: the rows can only be further.
        let scanned = locked(&self.scanned).clone();
        let view = self.code.name();
        Box::pin(blocking(view, move || {
            let waiting = locked(&idle).pop();
            let store = match waiting {
                Some(store) => store,
                None => {
                    let connection = connect(&path).map_err(failed(view))?;
                    let set = "PRAGMA query_only = ON";
                    connection.execute_batch(set).map_err(failed(view))?;
                    Sqlite { connection }
                }
            };
            // Rows and position are read from one state of the file.
            store.run("BEGIN DEFERRED").map_err(failed(view))?;
            let looked = read_progress(&store).and_then(there).map(|mut progress| {
                progress.cut.join(&scanned);
                look(&store, &progress);
            });
            store.run("COMMIT").map_err(failed(view))?;
            looked.map_err(failed(view))?;
            let mut idle = locked(&idle);
            if idle.len() < IDLE_MAX {
                idle.push(store);
            }
            Ok(())
        }))
    }
}
