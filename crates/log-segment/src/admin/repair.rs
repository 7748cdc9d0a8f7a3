//! Mending a log: what can be made again is, and what is lost is said to be lost.
//!
//! A plan is made by reading only. It names every loss before anything is changed.

mod apply;
mod loss;
mod lost;
mod names;
mod plan;
mod survivors;

use std::path::Path;

use anabranch_env::Env;
use anabranch_log::OpenError;

use super::layout::Layout;

pub use loss::{Loss, LostEvent};
pub use plan::{Action, RepairPlan};

impl RepairPlan {
    /// Does it: takes the log for itself, and keeps every damaged file under another name.
    ///
    /// Needs memory for one segment. An interrupted repair leaves nothing worse than it was: make a new plan.
    ///
    /// # Errors
    ///
    /// The log is open elsewhere, has changed since the plan was made, or the disk refuses.
    pub fn apply(&self, env: Env) -> Result<(), OpenError> {
        apply::apply(self, env)
    }
}

/// Finds out what is damaged in the log in `dir`, what of it is lost, and what mends the
/// rest. Changes nothing.
///
/// # Errors
///
/// There is no log, a writer has it, its files are of a newer format, or the disk refuses.
pub fn plan_repair(env: Env, dir: impl AsRef<Path>) -> Result<RepairPlan, OpenError> {
    let dir = dir.as_ref();
    let layout = Layout::take(&env, dir)?;
    if layout.written {
        return Err(OpenError::Locked {
            path: dir.display().to_string(),
            holder: "a writer".to_owned(),
        });
    }
    plan::plan(&env, dir)
}
