//! Views in SQLite: a file for each copy, with the rows and how far they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::{HandleError, Reader, View};
use anabranch_env::{Disk, OpenMode};
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, EventBatch};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row};

use super::copy::{Edit, Look, ViewCopy, ViewStore, take_back, take_in};
use super::{Copies, CopyId, PoisonEvent, Progress, StoreError};

pub use rusqlite;

/// What a view in SQLite writes to, and what its queries read from: `type Store = Sqlite`.
///
/// While events are taken in, everything written goes into the transaction that also moves the
/// view's position. Statements are prepared once.
pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Runs statements without parameters, for example `CREATE TABLE`.
    pub fn run(&self, sql: &str) -> Result<(), HandleError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    /// Runs one statement; returns how many rows it has changed.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, HandleError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The first row of a query, if there is one.
    pub fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, HandleError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row(params, read).optional()?)
    }

    /// Every row of a query.
    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, HandleError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Copies of a view, as files of one directory.
pub struct SqliteViewStore {
    /// The directory.
    pub dir: PathBuf,
    /// Where files are made and removed.
    pub disk: Arc<dyn Disk>,
}

impl SqliteViewStore {
    fn path<V: View>(&self, id: CopyId) -> PathBuf {
        let name = format!("{}.v{}.g{}.sqlite", V::NAME, id.version, id.generation);
        self.dir.join(name)
    }
}

/// The rows' writer, and how far they are for readers.
struct SqliteCopy<V: View> {
    id: CopyId,
    path: PathBuf,
    reader: Arc<Reader<V::Event>>,
    writer: Arc<Mutex<Writer>>,
    /// How far there is nothing for the view behind what the rows include.
    scanned: Arc<Mutex<Cut>>,
    /// Connections for queries that nobody uses now.
    idle: Arc<Mutex<Vec<Sqlite>>>,
}

struct Writer {
    store: Sqlite,
    progress: Progress,
    /// Changes when another connection has written.
    data_version: i64,
}

/// The most connections that wait for queries.
const IDLE_MAX: usize = 4;

fn failed<V: View>(reason: impl ToString) -> StoreError {
    StoreError {
        view: V::NAME.to_owned(),
        reason: reason.to_string(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A transaction that a panic has left open is rolled back before the next one begins.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs code that blocks on a thread that may.
async fn blocking<V: View, T: Send + 'static>(
    code: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ran = tokio::task::spawn_blocking(code).await;
    ran.unwrap_or_else(|error| Err(failed::<V>(error)))
}

/// Makes the file, if it is not there, for its owner alone: rows tell as much as the log does.
/// SQLite gives the files that it puts beside it the same rights.
fn make_private<V: View>(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    if disk.exists(path).map_err(failed::<V>)? {
        return Ok(());
    }
    match disk.open(path, OpenMode::Create) {
        Ok(_) => Ok(()),
        // Another runtime was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed::<V>(error)),
    }
}

fn connect<V: View>(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed::<V>)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A power cut may take the newest transactions, but each as a whole, with its position:
    // the events are read again then.
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
               PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;";
    connection.execute_batch(set).map_err(failed::<V>)?;
    Ok(connection)
}

impl<V: View<Store = Sqlite>> ViewStore<V> for SqliteViewStore {
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        let path = self.dir.join(format!("{}.copies.sqlite", V::NAME));
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        Box::pin(blocking::<V, _>(move || {
            disk.create_dir(&dir).map_err(failed::<V>)?;
            make_private::<V>(&*disk, &path)?;
            let connection = connect::<V>(&path)?;
            let kept: Option<String> = connection
                .execute_batch("CREATE TABLE IF NOT EXISTS copies (json TEXT NOT NULL)")
                .and_then(|()| {
                    connection
                        .query_row("SELECT json FROM copies", [], |row| row.get(0))
                        .optional()
                })
                .map_err(failed::<V>)?;
            match kept {
                Some(json) => serde_json::from_str(&json).map_err(failed::<V>),
                None => Ok(Copies::default()),
            }
        }))
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.dir.join(format!("{}.copies.sqlite", V::NAME));
        Box::pin(blocking::<V, _>(move || {
            let json = serde_json::to_string(&copies).map_err(failed::<V>)?;
            let mut connection = connect::<V>(&path)?;
            let transaction = connection.transaction().map_err(failed::<V>)?;
            transaction
                .execute("DELETE FROM copies", [])
                .and_then(|_| transaction.execute("INSERT INTO copies VALUES (?1)", [json]))
                .map_err(failed::<V>)?;
            transaction.commit().map_err(failed::<V>)
        }))
    }

    fn open(
        &self,
        id: CopyId,
        reader: Arc<Reader<V::Event>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<V>>, StoreError>> {
        let path = self.path::<V>(id);
        let disk = self.disk.clone();
        Box::pin(blocking::<V, _>(move || {
            make_private::<V>(&*disk, &path)?;
            let writer = Writer::open::<V>(&path)?;
            let scanned = Arc::new(Mutex::new(writer.progress.cut.clone()));
            Ok(Arc::new(SqliteCopy::<V> {
                id,
                path,
                reader,
                writer: Arc::new(Mutex::new(writer)),
                scanned,
                idle: Arc::default(),
            }) as _)
        }))
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.path::<V>(id);
        let disk = self.disk.clone();
        Box::pin(blocking::<V, _>(move || {
            for suffix in ["", "-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(suffix);
                let file = PathBuf::from(file);
                if disk.exists(&file).map_err(failed::<V>)? {
                    disk.remove(&file).map_err(failed::<V>)?;
                }
            }
            Ok(())
        }))
    }
}

impl Writer {
    fn open<V: View<Store = Sqlite>>(path: &Path) -> Result<Self, StoreError> {
        let mut store = Sqlite {
            connection: connect::<V>(path)?,
        };
        let table = "CREATE TABLE IF NOT EXISTS anabranch_progress (json TEXT NOT NULL)";
        store.connection.execute_batch(table).map_err(failed::<V>)?;
        begin::<V>(&store)?;
        // Within the transaction: two runtimes may begin with one file.
        if let Some(progress) = read_progress::<V>(&store)? {
            end::<V, _>(&store, Ok(()))?;
            return Self {
                store,
                progress,
                data_version: 0,
            }
            .up_to_date::<V>();
        }
        let made = V::set_up(&mut store).map_err(failed::<V>).and_then(|()| {
            let json = serde_json::to_string(&Progress::default()).map_err(failed::<V>)?;
            let inserted = store.execute("INSERT INTO anabranch_progress VALUES (?1)", [json]);
            inserted.map_err(failed::<V>)
        });
        end::<V, _>(&store, made)?;
        Self {
            store,
            progress: Progress::default(),
            data_version: 0,
        }
        .up_to_date::<V>()
    }

    /// With what another runtime may have written to the same file.
    fn up_to_date<V: View>(mut self) -> Result<Self, StoreError> {
        self.refresh::<V>()?;
        Ok(self)
    }

    fn refresh<V: View>(&mut self) -> Result<(), StoreError> {
        let version = self
            .store
            .one("PRAGMA data_version", [], |row| row.get(0))
            .map_err(failed::<V>)?
            .unwrap_or_default();
        if version != self.data_version {
            self.data_version = version;
            self.progress = read_progress::<V>(&self.store)?.unwrap_or_default();
        }
        Ok(())
    }

    /// Runs `code` in a transaction with a copy of the progress; both are kept if it succeeds.
    fn transact<V: View, E>(
        &mut self,
        code: impl FnOnce(&mut Sqlite, &mut Progress) -> Result<(), E>,
    ) -> Result<Result<(), E>, StoreError> {
        begin::<V>(&self.store)?;
        // A second runtime on this file counts no event twice: it goes on where the first is.
        if let Err(error) = self.refresh::<V>() {
            return end::<V, _>(&self.store, Err(error));
        }
        let mut progress = self.progress.clone();
        match code(&mut self.store, &mut progress) {
            Ok(()) => {
                let written = write_progress::<V>(&self.store, &progress);
                end::<V, _>(&self.store, written)?;
                self.progress = progress;
                Ok(Ok(()))
            }
            Err(error) => {
                self.store
                    .connection
                    .execute_batch("ROLLBACK")
                    .map_err(failed::<V>)?;
                Ok(Err(error))
            }
        }
    }
}

fn begin<V: View>(store: &Sqlite) -> Result<(), StoreError> {
    let connection = &store.connection;
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(failed::<V>)?;
    }
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed::<V>)
}

fn end<V: View, T>(store: &Sqlite, done: Result<T, StoreError>) -> Result<T, StoreError> {
    let connection = &store.connection;
    match done {
        Ok(value) => {
            connection.execute_batch("COMMIT").map_err(failed::<V>)?;
            Ok(value)
        }
        Err(error) => {
            connection.execute_batch("ROLLBACK").map_err(failed::<V>)?;
            Err(error)
        }
    }
}

fn read_progress<V: View>(store: &Sqlite) -> Result<Option<Progress>, StoreError> {
    let json: Option<String> = store
        .one("SELECT json FROM anabranch_progress", [], |row| row.get(0))
        .map_err(failed::<V>)?;
    json.map(|json| serde_json::from_str(&json).map_err(failed::<V>))
        .transpose()
}

fn write_progress<V: View>(store: &Sqlite, progress: &Progress) -> Result<(), StoreError> {
    let json = serde_json::to_string(progress).map_err(failed::<V>)?;
    let written = store.execute("UPDATE anabranch_progress SET json = ?1", [json]);
    written.map(|_| ()).map_err(failed::<V>)
}

impl<V: View<Store = Sqlite>> SqliteCopy<V> {
    /// Runs `code` on the writer, on a thread that may block.
    fn on_writer<T: Send + 'static>(
        &self,
        code: impl FnOnce(&mut Writer, &Reader<V::Event>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (writer, reader) = (self.writer.clone(), self.reader.clone());
        let scanned = self.scanned.clone();
        Box::pin(blocking::<V, _>(move || {
            let mut writer = locked(&writer);
            let done = code(&mut writer, &reader)?;
            locked(&scanned).join(&writer.progress.cut);
            Ok(done)
        }))
    }
}

impl<V: View<Store = Sqlite>> ViewCopy<V> for SqliteCopy<V> {
    fn id(&self) -> CopyId {
        self.id
    }

    fn progress(&self) -> BoxFuture<'_, Progress> {
        let writer = self.writer.clone();
        Box::pin(async move { locked(&writer).progress.clone() })
    }

    fn apply(&self, batch: EventBatch) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, reader| {
            let taken = writer.transact::<V, _>(|store, progress| {
                take_in::<V>(store, progress, reader, &batch, None)
            })?;
            let Err(poison) = taken else {
                return Ok(None);
            };
            // Nothing of the batch was kept; the appends before the event's are taken in again.
            let end = batch.append_start(poison.position);
            let again = writer.transact::<V, _>(|store, progress| {
                take_in::<V>(store, progress, reader, &batch, Some(end))
            })?;
            again.map_err(|other| {
                failed::<V>(format!(
                    "an event that was taken in before is refused now: {other}"
                ))
            })?;
            Ok(Some(*poison))
        })
    }

    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>> {
        self.on_writer(move |writer, reader| {
            let taken = writer.transact::<V, _>(|store, progress| {
                take_back::<V>(store, progress, reader, &stream, &events).map(|_| ())
            })?;
            Ok(taken.err().map(|poison| *poison))
        })
    }

    fn edit(&self, edit: Edit) -> BoxFuture<'_, Result<(), StoreError>> {
        self.on_writer(move |writer, _| {
            writer.transact::<V, StoreError>(|_, progress| {
                edit(progress);
                Ok(())
            })?
        })
    }

    fn advance(&self, cut: Cut) -> BoxFuture<'_, Result<(), StoreError>> {
        locked(&self.scanned).join(&cut);
        Box::pin(async { Ok(()) })
    }

    fn look(&self, look: Look<Sqlite>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (idle, path) = (self.idle.clone(), self.path.clone());
        // What was scanned before the rows are looked at: the rows can only be further.
        let scanned = locked(&self.scanned).clone();
        Box::pin(blocking::<V, _>(move || {
            let waiting = locked(&idle).pop();
            let store = match waiting {
                Some(store) => store,
                None => {
                    let connection = connect::<V>(&path)?;
                    let set = "PRAGMA query_only = ON";
                    connection.execute_batch(set).map_err(failed::<V>)?;
                    Sqlite { connection }
                }
            };
            // Rows and position are read from one state of the file.
            let begun = store.connection.execute_batch("BEGIN DEFERRED");
            begun.map_err(failed::<V>)?;
            let looked = read_progress::<V>(&store).map(|progress| {
                let mut progress = progress.unwrap_or_default();
                progress.cut.join(&scanned);
                look(&store, &progress);
            });
            end::<V, _>(&store, looked)?;
            let mut idle = locked(&idle);
            if idle.len() < IDLE_MAX {
                idle.push(store);
            }
            Ok(())
        }))
    }

    fn keep(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
