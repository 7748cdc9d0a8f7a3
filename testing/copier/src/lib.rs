//! Copies numbered events through entity, process and view while everything is killed, and
//! counts what arrives.
//!
//! Source entities record numbers, several in one batch; a process sends each number on to a
//! target entity; views in memory, in SQLite and, given one, in a PostgreSQL database take in what
//! both record. Meanwhile
//! services are killed, the power is cut, appends fail or lose their answers, and at times two
//! runtimes run the same service on one log. In the end each number stands just once and in
//! order in the targets and in the views, and no view ever showed a part of a batch.
//!
//! One seed decides everything but the moments at which SQLite and PostgreSQL answer.

mod flaky;
mod machine;
mod model;
mod run;
mod temp_dir;

pub use machine::Engine;
pub use run::{Report, Settings, run};
pub use temp_dir::TempDir;
