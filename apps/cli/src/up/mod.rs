//! Supervises a small declared set of services: starts each when what it needs is ready, starts it
//! again when it ends, and ends all of them in order.

pub mod asked;
pub mod below;
pub mod build;
mod child;
pub mod control;
mod keeper;
mod listener;
pub mod plan;
pub mod printed;
mod supervisor;
pub mod systemd;

use std::sync::Arc;

pub use child::Lines;
pub use keeper::State;
pub use supervisor::Supervisor;

use crate::output::note_of;
use plan::Plan;

/// Writes each line on the standard error, with the service's name before it.
pub fn on_stderr(plan: &Plan) -> Lines {
    let width = plan.services.keys().map(String::len).max().unwrap_or(0);
    Arc::new(move |name: &str, line: &str| {
        note_of(name, line, || format!("{name:width$} | {line}"));
    })
}
