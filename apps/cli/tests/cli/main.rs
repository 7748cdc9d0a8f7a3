//! Runs the program itself, as its users do.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests make files for the program to read"
)]

mod access;
mod append;
/// The service that the server's own tests have.
#[path = "../../../../crates/server/tests/http/bank.rs"]
mod bank;
#[cfg(feature = "bench")]
mod bench;
mod config;
mod contexts;
mod copy;
mod database;
mod demo;
mod deploy;
mod doctor;
mod doors;
mod follow;
mod help;
mod import;
mod import_bad;
mod kill;
mod log;
mod log_lines;
mod operate;
mod otlp;
mod packaging;
mod partitions;
mod read;
mod schema;
mod serve;
mod split;
mod support;
mod tls;
