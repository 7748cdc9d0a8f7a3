//! The server as its clients see it: through HTTP, on a port of its own.

mod bank;
mod commands;
mod operating;
mod serving;
mod support;
mod views;
