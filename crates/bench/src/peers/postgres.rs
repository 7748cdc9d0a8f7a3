//! PostgreSQL: one table, one `INSERT` per append, its rows as arrays if there are several.

#![expect(
    clippy::disallowed_methods,
    reason = "the server's account and the way to its directory are looked at"
)]

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anabranch_log_segment::Durability;
use anabranch_model::NewEvent;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls, Statement};
use uuid::Uuid;

use super::server::{Server, find, free_address, version};
use super::{Served, failed};
use crate::append::{Driven, ReadyPeer, sources};
use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

pub async fn start(dir: &Path, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let places = places();
    let found = |program| {
        find(program, &places).ok_or_else(|| {
            failed(
                "postgres",
                &format!(
                    "{program} was not found; install PostgreSQL \
                     (Debian: apt-get install postgresql)"
                ),
            )
        })
    };
    let (server, initdb, control) = (found("postgres")?, found("initdb")?, found("pg_ctl")?);
    let version = version(&server).map_err(BenchError::io("asking postgres its version"))?;
    let account = Account::for_server(dir)?;
    let data = dir.join("data");
    account.run(
        Command::new(initdb)
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                "bench",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .current_dir(dir),
        "initdb",
    )?;
    let address = free_address()
        .await
        .map_err(BenchError::io("looking for a free port"))?;
    let commit = match workload.durability {
        Durability::Sync => "on",
        Durability::Interval(_) => "off",
    };
    let mut command = Command::new(server);
    command
        .arg("-D")
        .arg(&data)
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", &format!("synchronous_commit={commit}")])
        .args(["-c", &format!("max_connections={}", workload.clients + 10)])
        // Room enough that no checkpoint falls into the measurement.
        .args(["-c", "shared_buffers=512MB", "-c", "max_wal_size=8GB"])
        .args(["-c", "checkpoint_timeout=1h"]);
    account.set(&mut command);
    let mut stop = Command::new(control);
    stop.arg("-D")
        .arg(&data)
        .args(["-m", "immediate", "-w", "stop"])
        .current_dir(dir);
    account.set(&mut stop);
    let mut server = Server::start("postgres", dir, command)?.stopped_by(stop);
    let mut config = Config::new();
    config
        .host(address.ip().to_string())
        .port(address.port())
        .user("bench")
        .dbname("postgres");
    let admin = server.ready(async || connect(&config).await).await?;
    let table = "CREATE TABLE events (
        position bigserial PRIMARY KEY, stream text NOT NULL, type text NOT NULL,
        id uuid NOT NULL, data bytea NOT NULL)";
    admin.batch_execute(table).await.map_err(refused)?;
    let mut clients = Vec::new();
    for source in sources(workload) {
        let connection = connect(&config).await.map_err(refused)?;
        clients.push(PostgresClient::new(connection, source, workload.batch).await?);
    }
    Ok(ReadyPeer {
        contender: Box::new(Served::new(Driven::new(workload, clients, None), server)),
        version,
        setup: format!("one table, prepared INSERT, synchronous_commit {commit}"),
    })
}

/// Where Debian keeps the programs, the newest version first.
fn places() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

fn refused(error: tokio_postgres::Error) -> BenchError {
    let reason = match error.as_db_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    failed("postgres", &reason)
}

async fn connect(config: &Config) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // When the connection fails the client's next request says so.
    tokio::spawn(connection);
    Ok(client)
}

/// Whom the server runs as: it refuses to be run by root.
struct Account {
    ids: Option<(u32, u32)>,
}

impl Account {
    /// The present user; if that is root, the user `postgres`, who then owns `dir`.
    fn for_server(dir: &Path) -> Result<Self, BenchError> {
        let me = std::fs::metadata("/proc/self").map_err(BenchError::io("asking who I am"))?;
        if me.uid() != 0 {
            return Ok(Self { ids: None });
        }
        let users = std::fs::read_to_string("/etc/passwd");
        let users = users.map_err(BenchError::io("reading /etc/passwd"))?;
        let (uid, gid) = ids_of("postgres", &users).ok_or_else(|| {
            failed(
                "postgres",
                "it refuses to be run by root, and there is no user postgres; \
                 run the measurement as another user",
            )
        })?;
        chown(dir, Some(uid), Some(gid))
            .map_err(BenchError::io("giving postgres its directory"))?;
        let_through(dir, uid).map_err(BenchError::io("letting postgres into its directory"))?;
        Ok(Self {
            ids: Some((uid, gid)),
        })
        .and_then(|account| match closed_directory(dir, uid) {
            None => Ok(account),
            Some(closed) => Err(failed(
                "postgres",
                &format!(
                    "it refuses to be run by root, and the user postgres cannot enter {}; \
                     choose a directory below one that all may enter, on the same disk, with --dir",
                    closed.display()
                ),
            )),
        })
    }

    fn set(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
    }

    fn run(&self, command: &mut Command, what: &str) -> Result<(), BenchError> {
        self.set(command);
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(BenchError::io(format!("running {what}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(failed("postgres", &format!("{what} failed: {said}")))
    }
}

/// The ids of a user and of his group in the text of a passwd file.
fn ids_of(user: &str, passwd: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Opens the measurement's own directory above `dir` for passing through.
fn let_through(dir: &Path, uid: u32) -> io::Result<()> {
    let Some(own) = dir.parent() else {
        return Ok(());
    };
    if may_enter(own, uid)? {
        return Ok(());
    }
    let mode = std::fs::metadata(own)?.permissions().mode();
    std::fs::set_permissions(own, std::fs::Permissions::from_mode(mode | 0o011))
}

fn may_enter(dir: &Path, uid: u32) -> io::Result<bool> {
    let about = std::fs::metadata(dir)?;
    let needed = if about.uid() == uid { 0o100 } else { 0o001 };
    Ok(about.permissions().mode() & needed != 0)
}

/// The first directory on the way to `dir` that this user cannot enter.
fn closed_directory(dir: &Path, uid: u32) -> Option<PathBuf> {
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    let closed = way
        .into_iter()
        .find(|dir| !may_enter(dir, uid).unwrap_or(false));
    closed.map(Path::to_owned)
}

struct PostgresClient {
    client: tokio_postgres::Client,
    insert: Statement,
    source: EventSource,
    next: Vec<NewEvent>,
    batch: usize,
}

impl PostgresClient {
    async fn new(
        client: tokio_postgres::Client,
        source: EventSource,
        batch: usize,
    ) -> Result<Self, BenchError> {
        let insert = match batch {
            1 => client.prepare_typed(
                "INSERT INTO events (stream, type, id, data) VALUES ($1, $2, $3, $4)",
                &[Type::TEXT, Type::TEXT, Type::UUID, Type::BYTEA],
            ),
            _ => client.prepare_typed(
                "INSERT INTO events (stream, type, id, data) SELECT * FROM unnest($1, $2, $3, $4)",
                &[
                    Type::TEXT_ARRAY,
                    Type::TEXT_ARRAY,
                    Type::UUID_ARRAY,
                    Type::BYTEA_ARRAY,
                ],
            ),
        };
        let insert = insert.await.map_err(refused)?;
        Ok(Self {
            client,
            insert,
            source,
            next: Vec::new(),
            batch,
        })
    }
}

impl Client for PostgresClient {
    fn prepare(&mut self) {
        self.next = self.source.batch(self.batch);
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let id = |event: &NewEvent| Uuid::from_u128(event.id.as_u128());
        let rows = match &self.next[..] {
            [event] => {
                let (stream, event_type) = (event.stream.as_str(), event.event_type.as_str());
                let insert = &self.insert;
                self.client
                    .execute(
                        insert,
                        &[&stream, &event_type, &id(event), &&event.data[..]],
                    )
                    .await
            }
            events => {
                let streams: Vec<&str> = events.iter().map(|e| e.stream.as_str()).collect();
                let types: Vec<&str> = events.iter().map(|e| e.event_type.as_str()).collect();
                let ids: Vec<Uuid> = events.iter().map(id).collect();
                let data: Vec<&[u8]> = events.iter().map(|e| &e.data[..]).collect();
                let insert = &self.insert;
                self.client
                    .execute(insert, &[&streams, &types, &ids, &data])
                    .await
            }
        };
        match rows.map_err(refused)? {
            rows if rows == self.next.len() as u64 => Ok(()),
            rows => Err(failed("postgres", &format!("it wrote {rows} rows"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_user_are_found() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres:x:105:113:,,,:/var/lib:/bin/sh\n";
        assert_eq!(ids_of("postgres", passwd), Some((105, 113)));
        assert_eq!(ids_of("post", passwd), None);
    }

    #[test]
    fn a_directory_that_others_cannot_enter_is_named() {
        let dir = crate::dir::BenchDir::below(&std::env::temp_dir(), false).unwrap();
        let inner = dir.sub("a/b").unwrap();
        let stranger = u32::MAX - 7;
        let closed = closed_directory(&inner, stranger).unwrap();
        assert!(inner.starts_with(&closed) && closed != Path::new("/"));
        let owner = std::fs::metadata(&inner).unwrap().uid();
        assert_eq!(closed_directory(&inner, owner), None);
    }
}
