//! A server for tests, and logs in it.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_backends::{Keeps, Postgres, PostgresPrograms};

/// A server that ends with this value; `None` where there is no PostgreSQL, which is said.
pub struct Server {
    pub server: Postgres,
    pub address: String,
}

impl Server {
    pub fn start(what: &str) -> Option<Self> {
        Self::start_that_keeps(what, Keeps::Nothing)
    }

    pub fn start_that_keeps(what: &str, keeps: Keeps) -> Option<Self> {
        if let Err(why) = PostgresPrograms::find() {
            let text = format!("skipped: {what}: {why}\n");
            // Not by a macro, whose output a passing test keeps to itself.
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let server = Postgres::start_that_keeps(&fresh_dir(), keeps).unwrap();
        let address = server.address().unwrap();
        Some(Self { server, address })
    }

    /// The address of a log that nobody else has.
    pub fn log(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{}?schema=log_{next}&durability=unchecked", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(why) = self.server.stop() {
            eprintln!("PostgreSQL was not stopped: {why}");
        }
    }
}

/// A connection of somebody else, and what it runs on.
pub struct Stranger {
    pub runtime: tokio::runtime::Runtime,
    pub client: tokio_postgres::Client,
}

impl Stranger {
    pub fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(address, tokio_postgres::NoTls))
            .unwrap();
        runtime.spawn(async move { drop(connection.await) });
        Self { runtime, client }
    }

    pub fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap();
    }
}

fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("anabranch-log-postgres-{}-{next}", std::process::id());
    std::env::temp_dir().join(name)
}
