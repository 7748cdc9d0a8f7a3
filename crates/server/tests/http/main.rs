//! The server as its clients see it: through HTTP, on a port of its own.

mod bank;
mod commands;
mod described;
mod health;
mod operating;
mod registry;
mod serving;
mod strangers;
mod support;
mod views;
