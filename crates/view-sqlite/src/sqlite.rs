//! What views and consumers write to, and how a database is opened.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anabranch_domain::HandleError;
use anabranch_env::{Disk, OpenMode};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row};

/// What a view in SQLite writes to, and what its queries read from: `type Store = Sqlite`. A
/// consumer writes to it too.
///
/// While events are taken in, everything written goes into the transaction that also moves the
/// view's position. Statements are prepared once.
pub struct Sqlite {
    pub(crate) connection: Connection,
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

    /// Runs `code` in a transaction, which is kept if it succeeds.
    pub(crate) fn transact<T, E>(
        &mut self,
        code: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Result<T, E>, HandleError> {
        // One that a panic has left open.
        if !self.connection.is_autocommit() {
            self.run("ROLLBACK")?;
        }
        self.run("BEGIN IMMEDIATE")?;
        let done = code(self);
        self.run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        Ok(done)
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

/// Why a transaction came to nothing: the database's fault, or that of who wrote to it.
pub(crate) enum Fault<E> {
    Store(HandleError),
    Code(E),
}

impl<E> Fault<E> {
    /// As who has begun the transaction is told.
    pub(crate) fn told<T>(self) -> Result<Result<T, E>, HandleError> {
        match self {
            Self::Store(error) => Err(error),
            Self::Code(error) => Ok(Err(error)),
        }
    }
}

pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A transaction that a panic has left open is rolled back before the next one begins.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the file, if it is not there, for its owner alone: rows tell as much as the log does.
/// SQLite gives the files that it puts beside it the same rights.
fn make_private(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.exists(path)? {
        return Ok(());
    }
    match disk.open(path, OpenMode::Create) {
        Ok(_) => Ok(()),
        // Another runtime was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A connection to a file that belongs to its owner alone; the file is made with its directory if
/// there is none.
pub fn open_private(disk: &dyn Disk, path: &Path) -> Result<Connection, HandleError> {
    let named = |path: &Path, error: &dyn std::error::Error| format!("{}: {error}", path.display());
    if let Some(dir) = path.parent() {
        disk.create_dir(dir).map_err(|error| named(dir, &error))?;
    }
    make_private(disk, path).map_err(|error| named(path, &error))?;
    Ok(connect(path).map_err(|error| named(path, &error))?)
}

/// A new connection to the file at `path`.
pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A power cut may take the newest transactions, but each as a whole, with its position:
    // the events are read again then.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}
