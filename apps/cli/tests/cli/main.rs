//! Runs the program itself, as its users do.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests make files for the program to read"
)]

mod append;
mod bench;
mod config;
mod follow;
mod help;
mod import;
mod import_bad;
mod kill;
mod log;
mod read;
mod support;
