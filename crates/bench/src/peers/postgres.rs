//! PostgreSQL: one table, one `INSERT` per append, its rows as arrays if there are several.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anabranch_backends::{Account, PostgresPrograms};
use anabranch_log_segment::Durability;
use anabranch_model::NewEvent;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls, Statement};
use uuid::Uuid;

use super::served::{Served, failed};
use super::server::{Server, free_address, version};
use crate::append::{Driven, ReadyPeer, sources};
use crate::drive::Client;
use crate::error::BenchError;
use crate::workload::{EventSource, Workload};

pub async fn start(dir: &Path, workload: &Workload) -> Result<ReadyPeer, BenchError> {
    let started = Started::new(dir, workload.clients + 10, workload.durability).await?;
    started.make_table("events").await?;
    let clients = started.clients(workload, "events").await?;
    let commit = commit_of(workload.durability);
    Ok(ReadyPeer {
        version: started.version,
        setup: format!("one table, prepared INSERT, synchronous_commit {commit}"),
        contender: Box::new(Served::new(clients, started.server)),
    })
}

fn commit_of(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "on",
        Durability::Interval(_) => "off",
    }
}

/// A server that was started for a measurement.
pub struct Started {
    /// It ends with this value.
    pub server: Server,
    pub version: String,
    pub config: Config,
    address: SocketAddr,
}

impl Started {
    /// Starts one with its data in `dir` that so many may connect to.
    pub async fn new(
        dir: &Path,
        connections: usize,
        durability: Durability,
    ) -> Result<Self, BenchError> {
        let told = |reason: String| failed("postgres", &reason);
        let programs = PostgresPrograms::find().map_err(told)?;
        let server = &programs.postgres;
        let version = version(server).map_err(BenchError::io("asking postgres its version"))?;
        let account = Account::for_server().map_err(told)?;
        if let Some(own) = dir.parent() {
            account.let_through(own).map_err(told)?;
        }
        account.give(dir).map_err(|reason| {
            failed(
                "postgres",
                &format!("{reason} on the same disk, with --dir"),
            )
        })?;
        let data = dir.join("data");
        let made = account.run(
            Command::new(&programs.initdb)
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
        );
        made.map_err(told)?;
        let address = free_address()
            .await
            .map_err(BenchError::io("looking for a free port"))?;
        let commit = commit_of(durability);
        let mut command = Command::new(server);
        command
            .arg("-D")
            .arg(&data)
            .args(["-h", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", &format!("synchronous_commit={commit}")])
            .args(["-c", &format!("max_connections={connections}")])
            // Room enough that no checkpoint falls into the measurement.
            .args(["-c", "shared_buffers=512MB", "-c", "max_wal_size=8GB"])
            .args(["-c", "checkpoint_timeout=1h"]);
        account.set(&mut command);
        let mut stop = Command::new(&programs.pg_ctl);
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
        server.ready(async || connect(&config).await).await?;
        Ok(Self {
            server,
            version,
            config,
            address,
        })
    }

    /// The address of a log in this schema.
    pub fn log(&self, schema: &str) -> String {
        format!("postgres://bench@{}/postgres?schema={schema}", self.address)
    }

    /// Makes a table of events.
    pub async fn make_table(&self, name: &str) -> Result<(), BenchError> {
        let admin = connect(&self.config).await.map_err(refused)?;
        let table = format!(
            "CREATE TABLE {name} (
                position bigserial PRIMARY KEY, stream text NOT NULL, type text NOT NULL,
                id uuid NOT NULL, data bytea NOT NULL)"
        );
        admin.batch_execute(&table).await.map_err(refused)
    }

    /// Clients that insert into a table, each over a connection of its own.
    pub async fn clients(
        &self,
        workload: &Workload,
        table: &str,
    ) -> Result<Driven<PostgresClient>, BenchError> {
        let mut clients = Vec::new();
        for source in sources(workload) {
            let connection = connect(&self.config).await.map_err(refused)?;
            let client = PostgresClient::new(connection, table, source, workload.batch);
            clients.push(client.await?);
        }
        Ok(Driven::new(workload, clients, None))
    }
}

/// How many events a cursor over a table gives, and how many bytes of data.
pub async fn read_by_cursor(config: &Config, table: &str) -> Result<(u64, u64), BenchError> {
    const ROWS: usize = 5_000;
    let client = connect(config).await.map_err(refused)?;
    let declare = format!(
        "BEGIN; DECLARE all_of_it NO SCROLL CURSOR FOR
            SELECT position, stream, type, id, data FROM {table} ORDER BY position"
    );
    client.batch_execute(&declare).await.map_err(refused)?;
    let fetch = client
        .prepare(&format!("FETCH {ROWS} FROM all_of_it"))
        .await;
    let fetch = fetch.map_err(refused)?;
    let (mut events, mut bytes) = (0, 0);
    loop {
        let rows = client.query(&fetch, &[]).await.map_err(refused)?;
        for row in &rows {
            let (_, _, _): (i64, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let (_, data): (Uuid, &[u8]) = (row.get(3), row.get(4));
            bytes += data.len() as u64;
        }
        events += rows.len() as u64;
        if rows.len() < ROWS {
            return Ok((events, bytes));
        }
    }
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

/// Inserts what its source makes.
pub struct PostgresClient {
    client: tokio_postgres::Client,
    insert: Statement,
    source: EventSource,
    next: Vec<NewEvent>,
    batch: usize,
}

impl PostgresClient {
    async fn new(
        client: tokio_postgres::Client,
        table: &str,
        source: EventSource,
        batch: usize,
    ) -> Result<Self, BenchError> {
        let (rows, types) = match batch {
            1 => (
                "VALUES ($1, $2, $3, $4)",
                [Type::TEXT, Type::TEXT, Type::UUID, Type::BYTEA],
            ),
            _ => (
                "SELECT * FROM unnest($1, $2, $3, $4)",
                [
                    Type::TEXT_ARRAY,
                    Type::TEXT_ARRAY,
                    Type::UUID_ARRAY,
                    Type::BYTEA_ARRAY,
                ],
            ),
        };
        let insert = format!("INSERT INTO {table} (stream, type, id, data) {rows}");
        let insert = client.prepare_typed(&insert, &types).await;
        let insert = insert.map_err(refused)?;
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
