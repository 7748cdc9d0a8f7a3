//! The server as its clients see it: through HTTP, on a port of its own.

mod bank;
mod commands;
mod described;
mod events;
mod failing;
mod health;
mod ingest;
mod live;
mod operating;
mod reader;
mod registry;
mod serving;
mod strangers;
mod support;
mod together;
mod views;
