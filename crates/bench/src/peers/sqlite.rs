//! SQLite in this process: write-ahead log, `synchronous=FULL`. A thread groups what the
//! clients bring into transactions, as a log engine does; one client alone commits its own.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anabranch_log_segment::Durability;
use anabranch_model::NewEvent;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::served::failed;
use crate::append::{Contender, Driven, ReadyPeer, sources};
use crate::drive::{Client, Length};
use crate::error::BenchError;
use crate::figures::Slice;
use crate::workload::{EventSource, Workload};

pub fn start(dir: &Path, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let connection = open(dir, workload.durability).map_err(refused)?;
    let store = Arc::new(Store {
        connection: Mutex::new(connection),
        waiting: Mutex::new(Waiting {
            appends: Vec::new(),
            over: false,
        }),
        arrived: Condvar::new(),
    });
    let alone = workload.clients == 1;
    let clients = sources(workload)
        .map(|source| SqliteClient {
            store: Arc::clone(&store),
            source,
            batch: workload.batch,
            alone,
            next: Vec::new(),
        })
        .collect();
    let committer = {
        let store = Arc::clone(&store);
        std::thread::Builder::new()
            .name("sqlite-commit".to_owned())
            .spawn(move || store.commit_all())
            .map_err(BenchError::io("starting the thread that commits to SQLite"))?
    };
    Ok(ReadyPeer {
        contender: Box::new(Sqlite {
            driven: Driven::new(workload, clients, None),
            store,
            committer: Some(committer),
        }),
        version: rusqlite::version().to_owned(),
        setup: format!(
            "in process, WAL, synchronous={}, one transaction per group of clients",
            synchronous(workload.durability)
        ),
    })
}

fn synchronous(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "FULL",
        Durability::Interval(_) => "NORMAL",
    }
}

fn open(dir: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let connection = Connection::open(dir.join("events.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous(durability))?;
    connection.execute_batch(
        "CREATE TABLE events (
             position INTEGER PRIMARY KEY, stream TEXT NOT NULL, type TEXT NOT NULL,
             id BLOB NOT NULL, data BLOB NOT NULL)",
    )?;
    Ok(connection)
}

fn refused(error: rusqlite::Error) -> BenchError {
    failed("sqlite", &error.to_string())
}

struct Store {
    connection: Mutex<Connection>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

/// Tells a client what became of its append.
type Done = oneshot::Sender<Result<(), String>>;

struct Waiting {
    appends: Vec<(Vec<NewEvent>, Done)>,
    over: bool,
}

impl Store {
    fn commit<'a>(&self, events: impl Iterator<Item = &'a NewEvent>) -> rusqlite::Result<()> {
        let mut connection = lock(&self.connection);
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (stream, type, id, data) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for event in events {
                insert.execute((
                    event.stream.as_str(),
                    event.event_type.as_str(),
                    event.id.as_u128().to_be_bytes().as_slice(),
                    &event.data[..],
                ))?;
            }
        }
        transaction.commit()
    }

    fn commit_all(&self) {
        loop {
            let mut waiting = lock(&self.waiting);
            while waiting.appends.is_empty() {
                if waiting.over {
                    return;
                }
                waiting = self
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let group = std::mem::take(&mut waiting.appends);
            drop(waiting);
            let events = group.iter().flat_map(|(events, _)| events);
            let outcome = self.commit(events).map_err(|e| e.to_string());
            for (_, done) in group {
                // A client that has gone away needs no answer.
                let _ = done.send(outcome.clone());
            }
        }
    }
}

struct SqliteClient {
    store: Arc<Store>,
    source: EventSource,
    batch: usize,
    alone: bool,
    next: Vec<NewEvent>,
}

impl Client for SqliteClient {
    fn prepare(&mut self) {
        self.next = self.source.batch(self.batch);
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        if self.alone {
            return self.store.commit(self.next.iter()).map_err(refused);
        }
        let (done, outcome) = oneshot::channel();
        let events = std::mem::take(&mut self.next);
        lock(&self.store.waiting).appends.push((events, done));
        self.store.arrived.notify_one();
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(failed("sqlite", &reason)),
            Err(_) => Err(failed("sqlite", "the thread that commits has ended")),
        }
    }
}

/// The clients and the thread that commits what they bring.
struct Sqlite {
    driven: Driven<SqliteClient>,
    store: Arc<Store>,
    committer: Option<std::thread::JoinHandle<()>>,
}

impl Contender for Sqlite {
    fn slice(&mut self, length: Length) -> anabranch_log::BoxFuture<'_, Result<Slice, BenchError>> {
        self.driven.slice(length)
    }

    fn settle(&mut self) -> anabranch_log::BoxFuture<'_, ()> {
        self.driven.settle()
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        lock(&self.store.waiting).over = true;
        self.store.arrived.notify_all();
        if let Some(committer) = self.committer.take()
            && let Err(panic) = committer.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::BenchDir;

    async fn rows_after(clients: usize) -> (u64, i64) {
        let dir = BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let data = dir.sub("sqlite").unwrap();
        let workload = Workload {
            clients,
            batch: 3,
            ..Workload::default()
        };
        let mut peer = start(&data, &workload).unwrap();
        let slice = peer.contender.slice(Length::AppendsEach(5)).await.unwrap();
        drop(peer);
        let rows = Connection::open(data.join("events.sqlite"))
            .unwrap()
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .unwrap();
        (slice.events, rows)
    }

    #[tokio::test]
    async fn every_acknowledged_event_is_a_row() {
        assert_eq!(rows_after(4).await, (60, 60));
    }

    #[tokio::test]
    async fn one_client_alone_commits_for_itself() {
        assert_eq!(rows_after(1).await, (15, 15));
    }
}
